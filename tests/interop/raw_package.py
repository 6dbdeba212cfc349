"""Core ML packages written by hand: large ones, quickly, and such as coremltools does not write."""

import json
import struct

import coremltools.proto.MIL_pb2 as MIL
import coremltools.proto.Model_pb2 as Model

FLOAT32, UINT8 = MIL.FLOAT32, MIL.UINT8
BLOB_TYPES = {FLOAT32: 2, UINT8: 3}
WEIGHTS = "@model_path/weights/weight.bin"


class RawPackage:
    """Operations of one function, which palettize does not run, and a weight file."""

    def __init__(self, opset="CoreML8", version=9):
        self.model = Model.Model(specificationVersion=version)
        function = self.model.mlProgram.functions["main"]
        function.opset = opset
        self.block = function.block_specializations[opset]
        self.weights = bytearray(struct.pack("<II56x", 0, 2))
        self.blobs = 0

    def blob(self, dtype, data):
        """Adds a blob and returns its offset."""
        self.weights += b"\0" * (-len(self.weights) % 64)
        offset = len(self.weights)
        self.weights += struct.pack("<IIQQQ32x", 0xDEADBEEF, BLOB_TYPES[dtype], len(data),
                                    offset + 64, 0)
        self.weights += data
        self.blobs += 1
        return offset

    @staticmethod
    def set_type(value_type, dtype, shape):
        value_type.tensorType.dataType = dtype
        value_type.tensorType.rank = len(shape)
        for size in shape:
            value_type.tensorType.dimensions.add().constant.size = size

    def set_value(self, value, dtype, shape, offset):
        self.set_type(value.type, dtype, shape)
        value.blobFileValue.fileName = WEIGHTS
        value.blobFileValue.offset = offset

    def operation(self, kind, name, shape, **inputs):
        """Inputs are names, or (dtype, shape, offset of a blob)."""
        operation = self.block.operations.add(type=kind)
        output = operation.outputs.add(name=name)
        self.set_type(output.type, FLOAT32, shape)
        for key, given in inputs.items():
            argument = operation.inputs[key].arguments.add()
            if isinstance(given, str):
                argument.name = given
            else:
                self.set_value(argument.value, *given)
        return operation

    def constant(self, name, shape, offset):
        """A weight, and an operator that uses it."""
        operation = self.operation("const", name, shape)
        self.set_value(operation.attributes["val"], FLOAT32, shape, offset)
        self.operation("relu", f"{name}_used", shape, x=name)

    def palettized(self, name, shape, table, indices):
        """The same of 8 bits, with the offsets of its table and its indices."""
        self.operation("constexpr_lut_to_dense", name, shape,
                       indices=(UINT8, shape, indices),
                       lut=(FLOAT32, (*[1] * len(shape), 256, 1), table))
        self.operation("relu", f"{name}_used", shape, x=name)

    def save(self, path):
        self.weights[:4] = struct.pack("<I", self.blobs)
        folder = path / "Data" / "com.apple.CoreML"
        (folder / "weights").mkdir(parents=True)
        (folder / "weights" / "weight.bin").write_bytes(self.weights)
        (folder / "model.mlmodel").write_bytes(self.model.SerializeToString())
        (path / "Manifest.json").write_text(json.dumps({
            "fileFormatVersion": "1.0.0", "rootModelIdentifier": "model",
            "itemInfoEntries": {"model": {"path": "com.apple.CoreML/model.mlmodel"}}}))
        return path
