"""Running models: our engine beside onnxruntime, and batches beside runs of single samples."""

import json
import unittest

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import support
from onnx_networks import LENGTH, NETWORKS
from runner import Failed, Runner
from running import (HALF, SINGLE, assert_near, by_onnxruntime, cifar, image_input, pictures,
                     with_half_weights)
from support import InteropTest

ONNX_MODELS = ("mobilenetv2", "mobilenetv3small", "mobilenetv3small-cifar",
               "mobilenetv3small-cifar-bn", "resnet20", "resnet20-bn", "fashion-mnist",
               "fashion-mnist-bn")
PACKAGES = {"mobilenetv2-iOS16": "mobilenetv2", "mobilenetv3small-iOS16": "mobilenetv3small",
            "mobilenetv3small-cifar-iOS18": "mobilenetv3small-cifar", "resnet20-iOS16": "resnet20",
            "resnet20-iOS18": "resnet20", "resnet20-bn-iOS18": "resnet20-bn",
            "fashion-mnist": "fashion-mnist"}
# One of them has a Loop, whose number of turns depends on the input.
RUNNING = sorted(set(NETWORKS) - {"branches"})
OPSETS = (11, 13, 17, 21) if support.FULL else (11, 17)


class RunTest(InteropTest):
    @classmethod
    def setUpClass(cls):
        cls.runner = Runner()
        cls.addClassCleanup(cls.runner.close)

    def save(self, model):
        path = self.new_path(".onnx")
        onnx.save(model, path)
        return path

    def assert_in_batches(self, model, feed, count):
        """A batch of `count` takes one run, not one for each sample."""
        data = self.new_path(".npz")
        np.savez(data, **feed)
        score = json.loads(self.succeed("eval", model, "--data", data, "--reference", model,
                                        "--batch", count, "--json", "-").stdout)
        self.assertIs(score["one_by_one"], False)

    def run_singly(self, model, feed):
        """Each sample in a run of its own, outputs put together."""
        count = len(next(iter(feed.values())))
        runs = [self.runner.run(model, {name: array[i:i + 1] for name, array in feed.items()})
                for i in range(count)]
        return [np.concatenate(parts) for parts in zip(*runs)]


def batch_of(inputs, count):
    """The inputs with as many samples, made of those there are."""
    return {name: np.concatenate([np.roll(array, i, axis=-1) for i in range(count)])[:count]
            if array.ndim > 1 else np.resize(array, count) for name, array in inputs.items()}


def fixed(model, count, folder):
    """The model as an exporter writes it that knows no free dimensions: shapes are constants. Made
    by onnxruntime, which folds what follows from the shapes of the inputs."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for value in (*model.graph.input, *model.graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param:
                size.dim_value = LENGTH if axis else count
    path = folder / "fixed.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options,
                                 providers=["CPUExecutionProvider"])
    return path


class ModelTest(RunTest):
    """Networks that were trained."""

    def test_onnx(self):
        for name in ONNX_MODELS:
            with self.subTest(name):
                model = support.onnx_model(name)
                given, shape = image_input(model)
                for count in (1, 5):
                    images = pictures(count, shape, seed=count)
                    assert_near(self.runner.run(model, [images]),
                                by_onnxruntime(model, {given: images}), SINGLE)

    def test_packages(self):
        """They hold the ONNX model's weights as float16, and a batch of 1."""
        for name, twin in PACKAGES.items():
            with self.subTest(name):
                package, twin = support.model(name), support.onnx_model(twin)
                given, shape = image_input(twin)
                feed = {given: pictures(4, shape)}
                batch = self.runner.run(package, feed)
                assert_near(batch, by_onnxruntime(with_half_weights(twin), feed), SINGLE)
                assert_near(batch, self.run_singly(package, feed), 1e-6)
                self.assert_in_batches(package, {"image": feed[given]}, 4)

    def test_packages_beside_unrounded_weights(self):
        for name, twin in PACKAGES.items():
            with self.subTest(name):
                package, twin = support.model(name), support.onnx_model(twin)
                given, shape = image_input(twin)
                images = cifar(20)[0] if shape == [3, 32, 32] else pictures(4, shape)
                assert_near(self.runner.run(package, [images]),
                            by_onnxruntime(twin, {given: images}), HALF)

    def test_batch_fixed_by_an_exporter(self):
        for name in ("resnet20-bn", "mobilenetv3small-cifar"):
            with self.subTest(name):
                original = support.onnx_model(name)
                given, shape = image_input(original)
                path = fixed(onnx.load(original), 2, self.folder)
                feed = {given: pictures(6, shape)}
                assert_near(self.runner.run(path, feed), by_onnxruntime(original, feed), SINGLE)

    def test_compressed(self):
        """The engine computes with what the look-up tables say."""
        model = support.onnx_model("fashion-mnist")
        given, shape = image_input(model)
        feed = {given: pictures(3, shape)}
        for options in (("--nbits", "2"), ("--nbits", "4", "--granularity", "per_grouped_channel",
                                           "--group-size", "8"), ("--nbits", "8")):
            with self.subTest(options=options):
                small = self.new_path(".onnx")
                self.succeed("compress", model, "-o", small, *options, "--quiet")
                assert_near(self.runner.run(small, feed), by_onnxruntime(small, feed), SINGLE)
        package = support.model("fashion-mnist")
        for options in (("--nbits", "2"), ("--nbits", "3", "--granularity", "per_grouped_channel",
                                           "--group-size", "8"),
                        ("--nbits", "4", "--cluster-dim", "2")):
            with self.subTest(options=options):
                small, _ = self.compress(package, *options)
                ours, plain = (self.runner.run(path, feed) for path in
                               (small, self.decompress(small)))
                for pair in zip(ours, plain):
                    np.testing.assert_array_equal(*pair)


class NetworkTest(RunTest):
    """Networks as exporters write them."""

    def test_single_precision(self):
        for name in RUNNING:
            for opset in OPSETS:
                model, inputs = NETWORKS[name](dtype=np.float32, opset=opset)
                path = self.save(model)
                for count in (1, 2, 5):
                    with self.subTest(name, opset=opset, count=count):
                        feed = batch_of(inputs, count)
                        assert_near(self.runner.run(path, feed), by_onnxruntime(path, feed),
                                    SINGLE)

    def test_half_precision(self):
        """onnxruntime rounds every result to float16, the engine computes in float32."""
        for name in RUNNING:
            model, inputs = NETWORKS[name](dtype=np.float16, opset=OPSETS[-1])
            path = self.save(model)
            with self.subTest(name):
                assert_near(self.runner.run(path, inputs), by_onnxruntime(path, inputs), HALF)

    def test_batch_fixed_by_an_exporter(self):
        for name in RUNNING:
            model, inputs = NETWORKS[name](dtype=np.float32, opset=17)
            path = fixed(model, 1, self.folder)
            with self.subTest(name):
                operators = {node.op_type for node in onnx.load(path).graph.node}
                self.assertNotIn("Shape", operators)
                feed = batch_of(inputs, 4)
                assert_near(self.runner.run(path, feed), by_onnxruntime(self.save(model), feed),
                            SINGLE)
                self.assert_in_batches(path, feed, 4)

    def test_loops_are_refused_by_name(self):
        model, inputs = NETWORKS["branches"]()
        with self.assertRaisesRegex(Failed, "Loop '/Loop'"):
            self.runner.run(self.save(model), inputs)


def operator_model(operator, constants, feed, opset, inputs=None, **attributes):
    """One operator of an opset. Its inputs: those that are fed, then the constants, unless named."""
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    given = [helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
             for name, array in feed.items()]
    node = helper.make_node(operator, inputs or [*feed, *constants], ["y"], "node", **attributes)
    graph = helper.make_graph([node], "operator", given, [helper.make_empty_tensor_value_info("y")],
                              tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


class OperatorTest(RunTest):
    """Where ONNX's own tests of an operator (test_backend.py) have no case."""

    def check(self, model, feed):
        assert_near(self.runner.run(self.save(model), feed), by_onnxruntime(model, feed), SINGLE)

    def test_scales_below_their_decimals(self):
        """20 * 0.7 is 14 in float32 and less in float64."""
        for extent, scale in ((20, 0.7), (10, 0.7), (5, 1.4), (10, 1.4), (10, 2.3)):
            feed = {"x": pictures(1, (2, extent, 4))}
            scales = np.array([1, 1, scale, 1], np.float32)
            with self.subTest(extent=extent, scale=scale):
                self.check(operator_model("Resize", {"s": scales}, feed, 13, ["x", "", "s"],
                                          mode="linear"), feed)
                if scale > 1:
                    self.check(operator_model("Upsample", {"s": scales}, feed, 9), feed)

    def test_old_ways_to_round(self):
        feed = {"x": pictures(1, (2, 4, 6))}
        for scales in ((0.6, 0.6), (0.7, 0.34), (1.7, 0.6), (2, 3)):
            scales = np.array([1, 1, *scales], np.float32)
            with self.subTest(scales=scales):
                self.check(operator_model("Resize", {"s": scales}, feed, 10), feed)
                self.check(operator_model(
                    "Resize", {"r": np.zeros(0, np.float32), "s": scales}, feed, 11,
                    coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor"),
                    feed)

    def test_slices_from_before_the_beginning(self):
        feed = {"x": pictures(1, (2, 4, 5))}
        for start, end, step in ((-100, -200, -1), (-6, -2**63, -1), (-7, -100, -2), (-5, -6, -1),
                                 (-100, -200, 1), (-100, 100, 2), (100, -100, -3)):
            constants = {name: np.array([number]) for name, number in
                         (("s", start), ("e", end), ("a", -1), ("t", step))}
            with self.subTest(start=start, end=end, step=step):
                self.check(operator_model("Slice", constants, feed, 13), feed)

    def test_integers_wrap(self):
        random = np.random.default_rng(0)
        for dtype in (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32):
            whole = np.iinfo(dtype)
            feed = {name: random.integers(whole.min, whole.max, 50, dtype, endpoint=True)
                    for name in ("x", "z")}
            feed["x"][0], feed["z"][0] = whole.min, whole.max
            for operator in ("Add", "Sub", "Mul"):
                with self.subTest(operator, dtype=dtype.__name__):
                    self.check(operator_model(operator, {}, feed, 14), feed)
            if whole.min < 0:
                only = {"x": feed["x"]}
                for operator in ("Neg", "Abs"):
                    with self.subTest(operator, dtype=dtype.__name__):
                        expected = getattr(np, {"Neg": "negative", "Abs": "abs"}[operator])(
                            feed["x"])
                        path = self.save(operator_model(operator, {}, only, 13))
                        assert_near(self.runner.run(path, only), [expected], 0)
        feed = {"x": np.array([2**31 - 1, 5, 2**30, 2**30], np.int32)}
        for operator in ("ReduceSum", "ReduceProd", "CumSum"):
            constants = {"axis": np.array(0)} if operator == "CumSum" else {}
            with self.subTest(operator):
                expected = {"ReduceSum": np.sum(feed["x"], keepdims=True, dtype=np.int32),
                            "ReduceProd": np.prod(feed["x"], keepdims=True, dtype=np.int32),
                            "CumSum": np.cumsum(feed["x"], dtype=np.int32)}[operator]
                path = self.save(operator_model(operator, constants, feed, 13))
                assert_near(self.runner.run(path, feed), [expected], 0)

    def test_extents_of_narrow_integers_do_not_wrap(self):
        """Shape, Size, ArgMax and TopK give int64 whatever they look at; so does what follows."""
        feed = {"x": np.arange(3 * 300, dtype=np.uint8).reshape(3, 300)}
        nodes = [helper.make_node("Shape", ["x"], ["shape"]),
                 helper.make_node("Mul", ["shape", "shape"], ["squares"]),
                 helper.make_node("Size", ["x"], ["size"]),
                 helper.make_node("Add", ["size", "one"], ["more"]),
                 helper.make_node("ArgMax", ["x"], ["largest"], axis=1),
                 helper.make_node("Add", ["largest", "one"], ["after"]),
                 helper.make_node("TopK", ["x", "two"], ["best", "places"]),
                 helper.make_node("Add", ["places", "one"], ["next"]),
                 helper.make_node("Add", ["best", "best"], ["twice"])]
        given = [helper.make_tensor_value_info("x", TensorProto.UINT8, [3, 300])]
        outputs = [helper.make_empty_tensor_value_info(name)
                   for name in ("squares", "more", "after", "next", "twice")]
        constants = [numpy_helper.from_array(np.array(number), name)
                     for name, number in (("one", 1), ("two", [2]))]
        graph = helper.make_graph(nodes, "extents", given, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        x = feed["x"]
        places = np.argsort(-x.astype(int), axis=1, kind="stable")[:, :2]
        best = np.take_along_axis(x, places, 1)
        expected = [np.array([9, 90000]), np.array(901), places[:, :1] + 1, places + 1, best + best]
        for got, wanted in zip(self.runner.run(self.save(model), feed), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)

    def test_overloaded_functions(self):
        """Functions of one name are told apart by their overload."""
        functions = [helper.make_function(
            "own", "F", ["x"], ["y"], [helper.make_node(operator, ["x"], ["y"])],
            [helper.make_opsetid("", 13)], **({"overload": overload} if overload else {}))
            for operator, overload in (("Neg", ""), ("Abs", "b"), ("Floor", "c"))]
        nodes = [helper.make_node("F", ["x"], ["p"], domain="own"),
                 helper.make_node("F", ["x"], ["q"], domain="own", overload="b"),
                 helper.make_node("F", ["x"], ["r"], domain="own", overload="c"),
                 helper.make_node("Concat", ["p", "q", "r"], ["y"], axis=0)]
        feed = {"x": np.array([-1.5, 2.25, -3], np.float32)}
        for order in (functions, functions[::-1]):
            graph = helper.make_graph(
                nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, [9])])
            model = helper.make_model(
                graph, functions=order, ir_version=10,
                opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("own", 1)])
            self.check(model, feed)
        graph.node[0].overload = "d"
        model = helper.make_model(graph, functions=functions, ir_version=10,
                                  opset_imports=model.opset_import)
        with self.assertRaisesRegex(Failed, "cannot be computed: own.F"):
            self.runner.run(self.save(model), feed)


def small_model(nodes, inputs, outputs, initializers=()):
    def info(values):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in values.items()]
    graph = helper.make_graph(
        nodes, "small", info(inputs), info(outputs),
        [numpy_helper.from_array(array, name) for name, array in initializers])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class RefusedTest(RunTest):
    """A model that makes no sense gets an error that names the file and the node."""

    def refused(self, words, nodes, initializers=(), shape=(2, 3)):
        path = self.save(small_model(nodes, {"x": shape}, {"y": ()}, initializers))
        with self.assertRaises(Failed) as caught:
            self.runner.run(path, {"x": np.ones(shape, np.float32)})
        for word in (str(path), *words):
            self.assertIn(word, str(caught.exception))

    def test_cycle(self):
        nodes = [helper.make_node("Add", ["x", "b"], ["a"], "first"),
                 helper.make_node("Relu", ["a"], ["b"], "second"),
                 helper.make_node("Relu", ["b"], ["y"], "third")]
        self.refused(["'first'", "'b'", "cycle"], nodes)

    def test_missing_weight(self):
        nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"], "product")]
        self.refused(["'product'", "'weight'"], nodes)

    def test_missing_output(self):
        nodes = [helper.make_node("Relu", ["x"], ["z"], "only")]
        self.refused(["'y'"], nodes)

    def test_shapes_that_contradict_each_other(self):
        weight = [("weight", np.ones((4, 5), np.float32))]
        kernel = [("weight", np.ones((4, 2, 3, 3), np.float32))]
        shape = [("weight", np.array([7, -1], np.int64))]
        axes = [("weight", np.array([5], np.int64))]
        for operator, constants, given in (("MatMul", weight, (2, 3)), ("Add", weight, (2, 3)),
                                           ("Gemm", weight, (2, 3)), ("Conv", kernel, (1, 3, 8, 8)),
                                           ("Conv", kernel, (1, 2, 2, 2)),
                                           ("Reshape", shape, (2, 3)),
                                           ("Unsqueeze", axes, (2, 3))):
            with self.subTest(operator, given=given):
                node = helper.make_node(operator, ["x", "weight"], ["y"], "wrong")
                self.refused(["'wrong'", operator], [node], constants, given)

    def test_attributes_for_other_dimensions(self):
        kernel = [("weight", np.ones((4, 2, 3, 3), np.float32))]
        for attributes in ({"pads": [1, 1]}, {"strides": [2]}, {"pads": [1, 1, 1]},
                           {"strides": [2, 2], "pads": [1, 1]}, {"strides": [1, 1, 1]}):
            with self.subTest(**attributes):
                conv = helper.make_node("Conv", ["x", "weight"], ["y"], "wrong", **attributes)
                pool = helper.make_node("MaxPool", ["x"], ["y"], "wrong", kernel_shape=[3, 3],
                                        **attributes)
                self.refused(["'wrong' (Conv)", "dimensions"], [conv], kernel, (1, 2, 8, 8))
                self.refused(["'wrong' (MaxPool)", "dimensions"], [pool], (), (1, 2, 8, 8))

    def test_negative_orders(self):
        nodes = [helper.make_node("Transpose", ["x"], ["a"], "wrong", perm=[0, -1, 1]),
                 helper.make_node("Transpose", ["a"], ["y"], perm=[2, 0, 1])]
        self.refused(["'wrong'", "axis -1"], nodes, (), (2, 3, 4))

    def test_results_that_nothing_justifies(self):
        shape = [("weight", np.array([1 << 36, 2, 3], np.int64))]
        node = helper.make_node("Expand", ["x", "weight"], ["y"], "huge")
        self.refused(["'huge'", "elements"], [node], shape)

    def test_no_output(self):
        model = small_model([helper.make_node("Relu", ["x"], ["y"])], {"x": (2, 3)}, {"y": ()})
        del model.graph.output[:]
        with self.assertRaisesRegex(Failed, "no output"):
            self.runner.run(self.save(model), {"x": np.ones((2, 3), np.float32)})


class EnlargedBatchTest(RunTest):
    """Batches beyond the one that the file fixes are single runs, whatever the operators do."""

    def check(self, model, feed):
        path = self.save(model)
        assert_near(self.runner.run(path, feed), self.run_singly(path, feed), 1e-6)

    def test_samples_that_the_operators_would_mix(self):
        x = np.random.default_rng(0).standard_normal((4, 3, 8)).astype(np.float32)
        cases = {
            "mean": [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]),
                     helper.make_node("Add", ["x", "m"], ["y"])],
            "cumulated": [helper.make_node("CumSum", ["x", "zero"], ["y"])],
            "first": [helper.make_node("Slice", ["x", "zeros", "ones", "zeros"], ["f"]),
                      helper.make_node("Add", ["x", "f"], ["y"])],
            "chosen": [helper.make_node("Gather", ["x", "zeros"], ["f"], axis=0),
                       helper.make_node("Add", ["x", "f"], ["y"])],
            "softmax": [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
            "norm": [helper.make_node("LpNormalization", ["x"], ["y"], axis=0, p=2)],
            "reshaped": [helper.make_node("Reshape", ["x", "rows"], ["r"]),
                         helper.make_node("Softmax", ["r"], ["s"], axis=0),
                         helper.make_node("Reshape", ["s", "back"], ["y"])],
        }
        constants = {"zero": np.array(0), "zeros": np.array([0]), "ones": np.array([1]),
                     "rows": np.array([3, 8]), "back": np.array([1, 3, 8])}
        for name, nodes in cases.items():
            with self.subTest(name):
                used = [(key, value) for key, value in constants.items()
                        if any(key in node.input for node in nodes)]
                self.check(small_model(nodes, {"x": [1, 3, 8]}, {"y": [1, 3, 8]}, used), {"x": x})

    def test_batches_in_the_middle(self):
        """Windows, heads and halves beside the batch, as attention writes them."""
        random = np.random.default_rng(0)
        nodes = [helper.make_node("Reshape", ["x", "split"], ["a"]),
                 helper.make_node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2, 4]),
                 helper.make_node("Reshape", ["b", "merged"], ["c"]),  # [windows, rows, width]
                 helper.make_node("MatMul", ["c", "w"], ["d"]),
                 helper.make_node("Add", ["d", "bias"], ["e"]),
                 helper.make_node("Reshape", ["e", "apart"], ["f"]),
                 helper.make_node("Transpose", ["f"], ["g"], perm=[0, 2, 3, 1, 4]),
                 helper.make_node("Concat", ["token", "flat"], ["y"], axis=1)]
        nodes.insert(7, helper.make_node("Reshape", ["g", "rows"], ["flat"]))
        constants = {"split": np.array([1, 4, 4, 2, 8]), "merged": np.array([2, 16, 8]),
                     "apart": np.array([1, 2, 4, 4, 8]), "rows": np.array([1, -1, 8]),
                     "w": random.standard_normal((8, 8)).astype(np.float32),
                     "bias": random.standard_normal((1, 16, 8)).astype(np.float32),
                     "token": random.standard_normal((1, 1, 8)).astype(np.float32)}
        model = small_model(nodes, {"x": [1, 4, 4, 16]}, {"y": [1, 33, 8]}, constants.items())
        self.check(model, {"x": random.standard_normal((6, 4, 4, 16)).astype(np.float32)})

    def test_wrong_shapes_are_refused(self):
        model = small_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2, 3]}, {"y": [2, 3]})
        path = self.save(model)
        for shape, given in (((3, 3), "3x3"), ((2, 6), "2x6"), ((0, 3), "0x3")):
            with self.subTest(shape=shape):
                with self.assertRaisesRegex(Failed, f"input 'x' is 2x3 in the model, not {given}"):
                    self.runner.run(path, [np.zeros(shape, np.float32)])
        with self.assertRaisesRegex(Failed, "2 dimensions in the model, not 3"):
            self.runner.run(path, [np.zeros((2, 3, 1), np.float32)])


if __name__ == "__main__":
    unittest.main()
