"""Reads the ML program inside a package straight from its protobuf.

A weight is identified by its use, (function, position of the operator, parameter, index),
and not by its name: tools rename values, but keep the operators and their order. Constants
and constexpr operators do not count for the position.
"""

from collections import namedtuple
from pathlib import Path

import support  # noqa: F401  before coremltools, which it quiets
import numpy as np
from coremltools.libmilstoragepython import _BlobStorageReader
from coremltools.proto import MIL_pb2, Model_pb2

Use = namedtuple("Use", "function position operator parameter index")
Node = namedtuple("Node", "depth operation uses")

FLOATS = {MIL_pb2.FLOAT16: np.float16, MIL_pb2.FLOAT32: np.float32}


def load_spec(package):
    spec = Model_pb2.Model()
    spec.ParseFromString(model_file(package).read_bytes())
    return spec


def model_file(package):
    return next(Path(package).glob("Data/*/*.mlmodel"))


def is_compressed(operation):
    return operation.type.startswith("constexpr_")


def shape_of(value_type):
    return tuple(d.constant.size for d in value_type.tensorType.dimensions)


class Program:
    """The operators of every function of a package, with the values they consume."""

    def __init__(self, package):
        self.package = Path(package)
        self.spec = load_spec(package)
        self._blobs = {}
        self.nodes = {}  # function name -> [Node], constants left out
        self.producers = {}  # Use -> the const or constexpr operation that feeds it
        self.makers = {}  # (function name, value name) -> the operation that has it as output
        for name, function in self.spec.mlProgram.functions.items():
            self._read_function(name, function.block_specializations[function.opset])

    def _read_function(self, name, block):
        flat = list(_walk(block))
        makers = {output.name: op for _, op in flat for output in op.outputs}
        self.makers.update({(name, output): op for output, op in makers.items()})
        uses_of = {id(op): [] for _, op in flat}
        position = 0
        for _, op in flat:
            if op.type == "const" or is_compressed(op):
                continue
            for parameter, argument in sorted(op.inputs.items()):
                for index, binding in enumerate(argument.arguments):
                    maker = makers.get(binding.name)
                    if maker is not None and (maker.type == "const" or is_compressed(maker)):
                        use = Use(name, position, op.type, parameter, index)
                        self.producers[use] = maker
                        uses_of[id(maker)].append(use)
            position += 1
        for _, op in reversed(flat):  # what serves only another constexpr serves its uses
            for argument in op.inputs.values() if is_compressed(op) else ():
                for binding in argument.arguments:
                    if binding.name in makers:
                        uses_of[id(makers[binding.name])] += uses_of[id(op)]
        self.nodes[name] = [
            Node(depth, op, uses_of[id(op)]) for depth, op in flat if op.type != "const"
        ]

    @property
    def compressed_uses(self):
        return {use for use, op in self.producers.items() if is_compressed(op)}

    def operations(self, prefix=""):
        return [
            node.operation for nodes in self.nodes.values() for node in nodes
            if node.operation.type.startswith(prefix)
        ]

    def tables(self, use):
        """The shape of the look-up tables that a palettized weight is stored with."""
        op = self.producers[use]
        if "lut" in op.attributes:  # before iOS18: one table
            return (1, *shape_of(op.attributes["lut"].type), 1)
        while True:
            parameter = next(p for p in ("nonzero_data", "lut", "data") if p in op.inputs)
            binding = op.inputs[parameter].arguments[0]
            if not binding.name:
                return shape_of(binding.value.type)
            op = self.makers[use.function, binding.name]

    def names(self):
        """The name of the value that feeds each use."""
        return {use: op.outputs[0].name for use, op in self.producers.items()}

    def weights(self, minimum=0):
        """Every floating-point constant of more than `minimum` values, by use."""
        found = {}
        for use, op in self.producers.items():
            if is_compressed(op):
                raise ValueError(f"{self.package}: {op.outputs[0].name} is not decompressed")
            value = op.attributes["val"]
            if value.type.tensorType.dataType in FLOATS:
                if np.prod(shape_of(value.type)) > minimum:
                    found[use] = self.array(value)
        return found

    def array(self, value):
        """A floating-point value of the protobuf as an array."""
        dtype = FLOATS[value.type.tensorType.dataType]
        if value.WhichOneof("value") == "blobFileValue":
            blob = self._blob(value.blobFileValue.fileName)
            read = blob.read_fp16_data if dtype is np.float16 else blob.read_float_data
            flat = np.asarray(read(value.blobFileValue.offset)).view(dtype)
        elif dtype is np.float16:
            flat = np.frombuffer(value.immediateValue.tensor.bytes.values, dtype=dtype)
        else:
            flat = np.array(value.immediateValue.tensor.floats.values, dtype=dtype)
        return flat.reshape(shape_of(value.type))

    def _blob(self, file_name):
        if file_name not in self._blobs:
            path = model_file(self.package).parent / file_name.replace("@model_path/", "")
            self._blobs[file_name] = _BlobStorageReader(str(path))
        return self._blobs[file_name]

    def signature(self, without=frozenset()):
        """What two tools must agree on: each operator, its parameters, its output types.

        `without` holds uses; a constexpr operator that serves only those is left out.
        """
        return {
            name: [
                _describe(node) for node in nodes
                if not (is_compressed(node.operation) and set(node.uses) <= without)
            ]
            for name, nodes in self.nodes.items()
        }


def _walk(block, depth=0):
    for op in block.operations:
        yield depth, op
        for inner in op.blocks:
            yield from _walk(inner, depth + 1)


def _describe(node):
    op = node.operation
    described = {
        "depth": node.depth,
        "type": op.type,
        "inputs": {name: len(argument.arguments) for name, argument in op.inputs.items()},
        "attributes": sorted(op.attributes),
        "outputs": [_describe_type(output.type) for output in op.outputs],
    }
    if is_compressed(op):  # how the palette is stored is part of the format
        described["inputs"] = {
            name: [_describe_type(binding.value.type) for binding in argument.arguments]
            for name, argument in op.inputs.items()
        }
        described["attributes"] = {
            name: _describe_type(value.type) for name, value in op.attributes.items()
        }
    return described


def _describe_type(value_type):
    return " ".join(str(value_type).split())
