"""What the ONNX tests share: a test case that runs models, and small networks to run."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from onnx_networks import graphs_of
from support import InteropTest

WIDTHS = (1, 2, 3, 4, 6, 8)
GROUPED = ("--granularity", "per_grouped_channel", "--group-size")
TOLERANCE = 1e-5  # relative to the largest value

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16,
               "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
HELPERS = ("Gather", "Cast", "Div", "Mod", "Reshape", "Slice", "Transpose", "Mul",
           "Add", "Sub", "Range")


def session(path, optimized=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs_for(running, batch=2):
    random = np.random.default_rng(7)
    feeds = {}
    for value in running.get_inputs():
        shape = [size if isinstance(size, int) else batch for size in value.shape]
        dtype = NUMPY_TYPES[value.type]
        if dtype is np.int64:
            feeds[value.name] = random.integers(0, 8, shape)
        elif dtype is np.bool_:
            feeds[value.name] = np.ones(shape, dtype)
        else:
            feeds[value.name] = random.normal(size=shape).astype(dtype)
    return feeds


def relative_difference(mine, expected):
    """The largest difference, relative to the largest value."""
    mine, expected = mine.astype(np.float64), expected.astype(np.float64)
    return float(np.abs(mine - expected).max() / (np.abs(expected).max() or 1.0))


def operators_of(path):
    """How many of each type a model has, in all its graphs."""
    model = onnx.load(str(path), load_external_data=False)
    return Counter(node.op_type for graph in graphs_of(model.graph) for node in graph.node)


def weights_of(path):
    """Every initializer and Constant of a model, by name: type, shape and bytes."""
    model = onnx.load(str(path))
    values = {}
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            values[tensor.name] = tensor
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                values[node.output[0]] = node.attribute[0].t
    return {name: (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
            for name, tensor in values.items()}


class OnnxTest(InteropTest):
    def new_path(self, suffix=".onnx"):
        return super().new_path(suffix)

    def save(self, model, **options):
        path = self.new_path()
        onnx.save_model(model, str(path), **options)
        return path

    def check_file(self, path, full=True):
        onnx.checker.check_model(str(path), full_check=full)

    def run_model(self, path, optimized=None):
        running = session(path, optimized)
        return running.run(None, inputs_for(running))

    def assert_same_outputs(self, path, other):
        for mine, expected in zip(self.run_model(path), self.run_model(other), strict=True):
            self.assertLessEqual(relative_difference(mine, expected), TOLERANCE)

    def round_trip(self, path, *options, full_check=True, compressed=1):
        """Compresses; the result must be sound, compute what its decompressed form computes, keep
        every other weight, and be compressed to the same bytes again. Returns the compressed file
        and the report."""
        output, report = self.compress(path, *options)
        names = set(self.status_of(report, "compressed"))
        self.assertEqual(len(names), compressed, names)
        self.assert_skips_are_explained(report)
        self.check_file(output, full_check)
        plain = self.decompress(output)
        self.check_file(plain, full_check)
        self.assert_same_outputs(output, plain)
        before, after = weights_of(path), weights_of(plain)
        self.assertEqual(set(before), set(after))
        for name, (dtype, shape, data) in before.items():
            self.assertEqual(after[name][:2], (dtype, shape), name)
            if name not in names:
                self.assertEqual(after[name][2], data, f"{name} is not untouched")
        again, _ = self.compress(plain, "--mode", "unique", *options[2:])
        self.assertEqual(weights_of(self.decompress(again)), after, "lossless, but not the same")
        return output, report


def initializer(name, *shape, dtype=np.float32, seed=1):
    values = np.random.default_rng([seed, len(name), *shape]).normal(size=shape) / 8
    return numpy_helper.from_array(values.astype(dtype), name)


def bfloat16(name, *shape):
    values = numpy_helper.to_array(initializer(name, *shape))
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    return helper.make_tensor(name, TensorProto.BFLOAT16, shape, bits.tobytes(), raw=True)


def network(nodes, initializers, inputs, outputs, opset=17, ir_version=8, **more):
    """A model; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs], initializers, **more)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def matmul(opset=17, dtype=np.float32, rows=64, columns=48, **more):
    """x times one matrix, "weight"."""
    type_number = TensorProto.FLOAT16 if dtype == np.float16 else TensorProto.FLOAT
    return network(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        [initializer("weight", rows, columns, dtype=dtype)],
        [("x", type_number, ["N", rows])], [("y", type_number, ["N", columns])], opset, **more)
