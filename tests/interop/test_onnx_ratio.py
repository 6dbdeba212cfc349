"""An ONNX file shrinks as much as the Core ML package with the same weights.

The ratio is that of whole files: bytes before / bytes after. Both sides have the same weights in
the same type, float16: ONNX models that come in float32 are converted first, because palettes of
float32 weights would seem to save twice as much. The rest of the file counts too, as it does for
whoever downloads it, and differs between the formats. Settings that make the package larger than
it was (a look-up table of 256 entries for each channel of a small layer) are not compared.

Pairs are the same trained network in both formats. Twins are chains of matrices with the sizes of
transformer layers and of small layers, where names and operators weigh most.
"""

import json
import unittest

import networks
import numpy as np
import onnx
from coremltools.converters.mil import Builder as mb
from onnx import TensorProto, helper, numpy_helper

import support
from onnx_case import GROUPED, WIDTHS, OnnxTest, network
from onnx_networks import graphs_of
from support import size_of

LEAST = 0.97  # of Core ML's ratio
GRANULARITIES = ((), (*GROUPED, 16), (*GROUPED, 4), (*GROUPED, 1))
PAIRS = {
    "fashion-mnist": "fashion-mnist",
    "resnet20": "resnet20-iOS18",
    "resnet20-bn": "resnet20-bn-iOS18",
    "mobilenetv3small-cifar": "mobilenetv3small-cifar-iOS18",
    "mobilenetv3small": "mobilenetv3small-iOS16",
    "mobilenetv2": "mobilenetv2-iOS16",
}
TWINS = {  # sizes along the chain
    "smallest": [48] * 13,
    "small": [64] * 13,
    "transformer": [256, 256, 256, 768, 256, 256, 768, 256],
    "wide": [512, 512, 1376, 512],
}


def in_half(model):
    """The model with float16 in the place of float32, throughout."""
    for graph in graphs_of(model.graph):
        tensors = [attribute.t for node in graph.node for attribute in node.attribute
                   if attribute.HasField("t")]
        for tensor in [*graph.initializer, *tensors]:
            if tensor.data_type == TensorProto.FLOAT:
                half = numpy_helper.to_array(tensor).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
    return model


def chain(sizes):
    """The same matrices one after the other: an ONNX model, and a body for networks.build()."""
    matrices = [networks.normal(rows, columns, seed=i)
                for i, (rows, columns) in enumerate(zip(sizes, sizes[1:]))]
    names = [f"layers.{i}.weight" for i in range(len(matrices))]
    nodes, at = [], "x"
    for i, name in enumerate(names):
        nodes += [helper.make_node("MatMul", [at, name], [f"/layers.{i}/MatMul_output_0"],
                                   f"/layers.{i}/MatMul"),
                  helper.make_node("Relu", [f"/layers.{i}/MatMul_output_0"],
                                   [f"/layers.{i}/Relu_output_0"], f"/layers.{i}/Relu")]
        at = nodes[-1].output[0]
    nodes[-1].output[0] = "y"
    half = TensorProto.FLOAT16
    model = network(nodes, [numpy_helper.from_array(matrix, name)
                            for matrix, name in zip(matrices, names)],
                    [("x", half, ["N", sizes[0]])], [("y", half, ["N", sizes[-1]])])

    def body(x):
        for matrix, name in zip(matrices, names):
            x = mb.relu(x=mb.matmul(x=x, y=mb.const(val=matrix, name=name.replace(".", "_"))))
        return x

    return model, body


class RatioTest(OnnxTest):
    def ratio(self, path, options, new_path):
        """Of the whole file or package, and the sizes of the weights that were compressed."""
        output, report = new_path(), self.new_path(".json")
        self.succeed("compress", path, "-o", output, *options, "--json", report, "--quiet")
        compressed = self.status_of(json.loads(report.read_text()), "compressed").values()
        measure = size_of if path.is_dir() else lambda file: file.stat().st_size
        sizes = sorted(int(np.prod(entry["shape"])) for entry in compressed)
        return measure(path) / measure(output), sizes

    def compare(self, model, package, is_ios18=True):
        half = self.save(model)
        self.check_file(half)
        for nbits in WIDTHS if support.FULL else (1, 3, 8):
            if nbits == 3 and not is_ios18:
                continue
            for granularity in GRANULARITIES if is_ios18 else [()]:
                options = ("--nbits", nbits, *granularity)
                with self.subTest(options=options):
                    theirs, their_sizes = self.ratio(package, options, self.new_package)
                    mine, sizes = self.ratio(half, options, self.new_path)
                    self.assertEqual(sizes, their_sizes)
                    if theirs > 1:
                        self.assertGreaterEqual(mine, LEAST * theirs)

    def new_package(self):
        return self.new_path(".mlpackage")


def _add_pair(name, package_name):
    def method(self):
        package = support.model(package_name)
        self.compare(in_half(onnx.load(str(support.onnx_model(name)))), package,
                     "iOS16" not in package_name)

    setattr(RatioTest, f"test_pair_{name.replace('-', '_')}", method)


def _add_twin(name, sizes):
    def method(self):
        model, body = chain(sizes)
        package = networks.build(self.new_package(), (1, sizes[0]), body)
        self.compare(model, package)

    setattr(RatioTest, f"test_twin_{name}", method)


for _name, _package in PAIRS.items():
    if support.FULL or _name in ("fashion-mnist", "resnet20"):
        _add_pair(_name, _package)
for _name, _sizes in TWINS.items():
    if support.FULL or _name in ("smallest", "transformer"):
        _add_twin(_name, _sizes)


if __name__ == "__main__":
    unittest.main()
