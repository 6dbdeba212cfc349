"""Sensitive k-means: sensitivities against NumPy's per-sample gradients, palettes against a dynamic
program, and everything that can go wrong with data."""

import json
import signal
import subprocess
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

import support
from onnx_networks import NETWORKS
from running import by_onnxruntime
from support import InteropTest
from test_safetensors import read

SAMPLES, INPUTS, HIDDEN, CLASSES = 12, 40, 60, 7
EXAMPLE_DATA = support.EXAMPLE.parent / "data"
FASHION = ("--split", "train", "--mean", "0.286", "--std", "0.353")


def write_model(path, nodes, weights, inputs, outputs, kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


class Perceptron:
    """x -> relu(x A) -> B -> logits, and what NumPy says of it."""

    def __init__(self, seed=0, inputs=INPUTS, hidden=HIDDEN):
        random = np.random.default_rng(seed)
        self.a = (random.normal(size=(inputs, hidden)) / inputs ** 0.5).astype(np.float32)
        self.b = (random.normal(size=(hidden, CLASSES)) * 2.3 / hidden ** 0.5).astype(np.float32)
        self.x = random.normal(size=(SAMPLES, inputs)).astype(np.float32)
        self.labels = random.integers(0, CLASSES, SAMPLES)

    def write(self, path, tail=()):
        nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]),
                 helper.make_node("Relu", ["h"], ["r"]),
                 helper.make_node("MatMul", ["r", "b"], ["logits"]), *tail]
        kind = helper.np_dtype_to_tensor_dtype(self.a.dtype)
        write_model(path, nodes, {"a": self.a, "b": self.b}, [("x", kind, ["n", len(self.a)])],
                    [(nodes[-1].output[0], ["n", CLASSES])], kind)
        return path

    def gradients(self, x, seed):
        """Of one sample, for the gradient of its loss by the logits."""
        a, b = self.a.astype(np.float64), self.b.astype(np.float64)
        h = x @ a
        r = np.maximum(h, 0)
        return {"a": np.outer(x, (b @ seed) * (h > 0)), "b": np.outer(r, seed)}

    def logits(self, x):
        return np.maximum(x @ self.a.astype(np.float64), 0) @ self.b.astype(np.float64)

    def sensitivity(self, labels):
        sums = {"a": 0, "b": 0}
        for x, label in zip(self.x.astype(np.float64), labels):
            scores = self.logits(x)
            seed = np.exp(scores - scores.max())
            seed /= seed.sum()
            seed[label] -= 1
            for name, gradient in self.gradients(x, seed).items():
                sums[name] = sums[name] + gradient ** 2 / len(labels)
        return sums


class SensitiveTest(InteropTest):
    def data(self, **arrays):
        path = self.new_path(".npz")
        np.savez(path, **arrays)
        return path

    def measure(self, model, data, *options):
        """What `compress` measures for weights of any size."""
        saved = self.new_path(".safetensors")
        self.succeed("compress", model, "-o", self.new_path(model.suffix), "--nbits", 2, "--method",
                     "sensitive", "--data", data, "--save-sensitivity", saved, "--sweeps", 0,
                     "--weight-threshold", 0, "--threads", 1, "--quiet", *options)
        return load_file(saved)

    def assert_near(self, measured, expected):
        self.assertEqual(measured.keys(), expected.keys())
        for name in measured:
            np.testing.assert_allclose(measured[name], expected[name], rtol=1e-4,
                                       atol=1e-6 * expected[name].max())


class MeasuringTest(SensitiveTest):
    def test_cross_entropy(self):
        net = Perceptron()
        model = net.write(self.new_path(".onnx"))
        data = self.data(x=net.x, labels=net.labels)
        for batch in (1, 5, 32):
            self.assert_near(self.measure(model, data, "--batch", batch),
                             net.sensitivity(net.labels))

    def test_outputs_after_softmax(self):
        for op in ("Softmax", "LogSoftmax"):
            net = Perceptron(1)
            tail = [helper.make_node(op, ["logits"], ["scores"], axis=1)]
            model = net.write(self.new_path(".onnx"), tail)
            self.assert_near(self.measure(model, self.data(x=net.x, labels=net.labels)),
                             net.sensitivity(net.labels))

    def test_drawn_labels(self):
        """Without labels, some label's; over many seeds as often as the model says."""
        net = Perceptron(2)
        model = net.write(self.new_path(".onnx"))
        net.x = net.x[:1]
        data = self.data(x=net.x)
        possible = [net.sensitivity([label])["b"] for label in range(CLASSES)]
        drawn = np.zeros(CLASSES)
        for seed in range(40):
            found = self.measure(model, data, "--seed", seed)["b"]
            near = [np.allclose(found, p, rtol=1e-3, atol=1e-7) for p in possible]
            self.assertEqual(sum(near), 1)
            drawn += near
        scores = net.logits(net.x[0].astype(np.float64))
        expected = 40 * np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        self.assertLess(((drawn - expected) ** 2 / np.maximum(expected, 0.5)).sum(), 25)

    def test_a_number(self):
        random = np.random.default_rng(3)
        w, x = (random.normal(size=s).astype(np.float32) for s in ((INPUTS, 1), (SAMPLES, INPUTS)))
        model = self.new_path(".onnx")
        write_model(model, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w},
                    [("x", TensorProto.FLOAT, ["n", INPUTS])], [("y", ["n", 1])])
        self.assert_near(self.measure(model, self.data(x=x)),
                         {"w": (x.astype(np.float64) ** 2).mean(0)[:, None]})

    def test_next_tokens(self):
        random = np.random.default_rng(4)
        words, length, width = 11, 6, 8
        table, head = (random.normal(size=s).astype(np.float32)
                       for s in ((words, width), (width, words)))
        tokens = random.integers(0, words, (5, length))
        model = self.new_path(".onnx")
        write_model(model, [helper.make_node("Gather", ["table", "tokens"], ["e"]),
                            helper.make_node("MatMul", ["e", "head"], ["logits"])],
                    {"table": table, "head": head},
                    [("tokens", TensorProto.INT64, ["n", length])],
                    [("logits", ["n", length, words])])
        expected = 0
        for sample in tokens:
            states = table[sample].astype(np.float64)
            scores = states @ head.astype(np.float64)
            seeds = np.exp(scores - scores.max(1, keepdims=True))
            seeds /= seeds.sum(1, keepdims=True)
            seeds[np.arange(length - 1), sample[1:]] -= 1
            expected = expected + (states[:-1].T @ seeds[:-1]) ** 2 / len(tokens)
        measured = self.measure(model, self.data(tokens=tokens))
        np.testing.assert_allclose(measured["head"], expected, rtol=1e-4,
                                   atol=1e-6 * expected.max())

    def test_batches_do_not_matter(self):
        """Where samples of a batch cannot be told apart they run one by one."""
        random = np.random.default_rng(5)
        normal = lambda *shape: (0.3 * random.normal(size=shape)).astype(np.float32)
        node = helper.make_node
        head = normal(16, CLASSES)
        rows = [node("MatMul", ["r", "head"], ["y"])]
        pool = [node("GlobalAveragePool", ["c"], ["p"]), node("Flatten", ["p"], ["r"]), *rows]
        models = {
            # A filter that is computed of the weight.
            "filter": ([node("Transpose", ["w"], ["t"], perm=[3, 2, 0, 1]),
                        node("Conv", ["x", "t"], ["c"]), *pool], normal(3, 3, 5, 16), (5, 7, 7)),
            # Time before the batch.
            "time": ([node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
                      node("MatMul", ["t", "w"], ["m"]), node("Relu", ["m"], ["a"]),
                      node("ReduceMean", ["a"], ["r"], axes=[0], keepdims=0), *rows],
                     normal(5, 16), (8, 5)),
            # As many rows of a constant as there are samples in a batch.
            "table": ([node("Cast", ["table"], ["t"], to=TensorProto.FLOAT),
                       node("MatMul", ["t", "w"], ["m"]), node("ReduceMean", ["m"], ["a"], axes=[0]),
                       node("Mul", ["x", "a"], ["r"]), *rows], normal(6, 16), (16,)),
            # A convolution of a constant.
            "image": ([node("Cast", ["image"], ["i"], to=TensorProto.FLOAT),
                       node("Conv", ["i", "w"], ["c"]), node("GlobalAveragePool", ["c"], ["p"]),
                       node("Flatten", ["p"], ["a"]), node("Mul", ["x", "a"], ["r"]), *rows],
                      normal(16, 4, 3, 3), (16,)),
        }
        for name, (nodes, weight, shape) in models.items():
            with self.subTest(name):
                model = self.new_path(".onnx")
                used = {i for n in nodes for i in n.input}
                constants = {"table": random.integers(-3, 4, (4, 6)),
                             "image": random.integers(-3, 4, (1, 4, 8, 8))}
                write_model(model, nodes, {"w": weight, "head": head, **{
                    key: value for key, value in constants.items() if key in used}},
                            [("x", TensorProto.FLOAT, ["n", *shape])], [("y", ["n", CLASSES])])
                data = self.data(x=random.normal(size=(SAMPLES, *shape)).astype(np.float32),
                                 labels=random.integers(0, CLASSES, SAMPLES))
                expected = self.measure(model, data, "--batch", 1)
                self.assertGreater(expected["w"].max(), 0)
                for batch in (4, 8):
                    self.assert_near(self.measure(model, data, "--batch", batch), expected)

    def test_the_seed_chooses_samples(self):
        net = Perceptron()
        model = net.write(self.new_path(".onnx"))
        data = self.data(x=net.x, labels=net.labels)
        some = [self.measure(model, data, "--samples", 3, "--seed", seed)["b"] for seed in (1, 2)]
        self.assertFalse(np.allclose(*some))
        self.assert_near(self.measure(model, data, "--samples", 0), net.sensitivity(net.labels))


# ------------------------------------------------------------------ palettes


def least_error(values, weights, k):
    """The least sum of weights * (values - centroid)^2 for k clusters, by dynamic programming."""
    order = np.argsort(values)
    v, w = values[order].astype(np.float64), weights[order].astype(np.float64)
    sums = [np.concatenate([[0], np.cumsum(t)]) for t in (w, w * v, w * v * v)]
    n = len(v)
    best = np.full(n + 1, np.inf)
    best[0] = 0
    for _ in range(k):
        after = np.full(n + 1, np.inf)
        for j in range(1, n + 1):
            mass, first, second = (t[j] - t[:j] for t in sums)
            cost = second - first * first / np.maximum(mass, 1e-300)
            after[j] = (best[:j] + np.maximum(cost, 0)).min()
        best = np.minimum(after, best)
    return best[n]


class CheckpointTest(SensitiveTest):
    """A checkpoint with sensitivities from elsewhere."""

    def setUp(self):
        super().setUp()
        random = np.random.default_rng(5)
        self.weight = random.normal(size=(32, 48)).astype(np.float32)
        self.importance = random.gamma(0.3, size=self.weight.shape).astype(np.float32)
        self.importance[3] = 0
        self.model, self.loaded = self.new_path(".safetensors"), self.new_path(".safetensors")
        save_file({"net.weight": self.weight}, self.model)
        save_file({"net.weight": self.importance}, self.loaded)

    def palettized(self, *options, method="sensitive"):
        output, dense = self.new_path(".safetensors"), self.new_path(".safetensors")
        more = ("--load-sensitivity", self.loaded) if method == "sensitive" else ()
        self.succeed("compress", self.model, "-o", output, "--method", method, *more,
                     "--weight-threshold", 0, "--quiet", *options)
        self.succeed("decompress", output, "-o", dense, "--quiet")
        return load_file(dense)["net.weight"]

    def error(self, dense, importance=None):
        importance = self.importance if importance is None else importance
        difference = dense.astype(np.float64) - self.weight
        return float((importance * difference ** 2).sum())

    def assert_least(self, error, least):
        self.assertLessEqual(abs(error - least), 1e-5 * least)


class PalettesTest(CheckpointTest):
    def test_one_table(self):
        for nbits in (1, 2, 3):
            dense = self.palettized("--nbits", nbits, "--shrinkage", 0)
            self.assert_least(self.error(dense), least_error(
                self.weight.ravel(), self.importance.ravel(), 2 ** nbits))

    def test_shrinkage(self):
        for given, shrinkage in ((0.25, 0.25), (1, 1), (None, 0.7)):
            options = () if given is None else ("--shrinkage", given)
            shrunk = (1 - shrinkage) * self.importance / self.importance.mean() + shrinkage
            dense = self.palettized("--nbits", 2, *options)
            self.assert_least(self.error(dense, shrunk),
                              least_error(self.weight.ravel(), shrunk.ravel(), 4))
        np.testing.assert_array_equal(self.palettized("--nbits", 2, "--shrinkage", 1),
                                      self.palettized("--nbits", 2, method="kmeans"))

    def test_groups(self):
        dense = self.palettized("--nbits", 2, "--granularity", "per_grouped_channel",
                                "--group-size", 8, "--shrinkage", 0)
        least = sum(least_error(self.weight[g:g + 8].ravel(), self.importance[g:g + 8].ravel(), 4)
                    for g in range(0, 32, 8))
        self.assert_least(self.error(dense), least)

    def test_scales(self):
        """Quotients are clustered; an error counts by the square of its scale."""
        dense = self.palettized("--nbits", 2, "--enable-per-channel-scale", "true",
                                "--shrinkage", 0)
        scale = np.abs(self.weight).max(axis=0, keepdims=True)
        least = least_error((self.weight / scale).ravel(),
                            (self.importance * scale ** 2).ravel(), 4)
        # An index is the nearest entry; the weights' own rounding is all that differs.
        self.assertLessEqual(abs(self.error(dense) - least), 1e-3 * least)

    def test_vectors(self):
        """A vector counts what its elements count together."""
        options = ("--nbits", 4, "--cluster-dim", 2)
        together = np.repeat(self.importance.reshape(16, 2, 48).sum(axis=1), 2, axis=0)
        sensitive = self.error(self.palettized(*options, "--shrinkage", 0), together)
        plain = self.error(self.palettized(*options, method="kmeans"), together)
        self.assertLess(sensitive, 0.9 * plain)

    def test_groups_without_importance(self):
        """They are clustered as if all of their elements counted the same."""
        rows = slice(8, 16)
        self.importance[rows] = 0
        save_file({"net.weight": self.importance}, self.loaded)
        for more in ((), ("--cluster-dim", 2), ("--cluster-dim", 2, "--lut-dtype", "int8")):
            options = ("--nbits", 3, "--granularity", "per_grouped_channel", "--group-size", 8,
                       *more)
            np.testing.assert_array_equal(self.palettized(*options, "--shrinkage", 0)[rows],
                                          self.palettized(*options, method="kmeans")[rows], more)

    def test_few_important_of_many(self):
        """More values than double precision has room for beside those few that count."""
        random = np.random.default_rng(6)
        self.weight = random.normal(size=(128, 160)).astype(np.float32)
        self.importance = np.zeros_like(self.weight)
        self.importance[5, :5] = 1
        save_file({"net.weight": self.weight}, self.model)
        save_file({"net.weight": self.importance}, self.loaded)
        dense = self.palettized("--nbits", 4, "--shrinkage", 0)
        self.assertLess(self.error(dense), 1e-12)
        equal = self.palettized("--nbits", 4, method="kmeans")
        self.assertLess(self.error(dense, 1), 1.25 * self.error(equal, 1))

    def test_reported_error(self):
        """That of the values, whatever they count."""
        for more in ((), ("--cluster-dim", 2), ("--cluster-dim", 2, "--lut-dtype", "int8"),
                     ("--cluster-dim", 2, "--enable-per-channel-scale", "true")):
            report = self.new_path(".json")
            dense = self.palettized("--nbits", 3, "--shrinkage", 0, "--json", report, *more)
            entry, = json.loads(report.read_text())["weights"]
            error = self.error(dense, 1) / dense.size
            self.assertAlmostEqual(entry["mse"] / error, 1, 5, more)
            peak = float(np.abs(self.weight).max())
            self.assertAlmostEqual(entry["psnr"], 10 * np.log10(peak ** 2 / error), 3, more)

    def test_integer_tables(self):
        least = least_error(self.weight.ravel(), self.importance.ravel(), 8)
        for dtype in ("int8", "uint8"):
            dense = self.palettized("--nbits", 3, "--lut-dtype", dtype, "--shrinkage", 0)
            self.assertLess(self.error(dense), 1.05 * least)

    def test_configuration(self):
        config = self.new_path(".yaml")
        config.write_text("global_config:\n  nbits: 2\n  weight_threshold: 0\n"
                          "op_name_configs:\n  net.weight:\n    nbits: 3\n    weight_threshold: 0\n")
        dense = self.palettized("--config", config, "--shrinkage", 0)
        self.assertEqual(len(np.unique(dense)), 8)
        self.assert_least(self.error(dense), least_error(
            self.weight.ravel(), self.importance.ravel(), 8))

    def test_files_that_do_not_fit(self):
        output, bad = self.new_path(".safetensors"), self.new_path(".safetensors")
        command = ("compress", self.model, "-o", output, "--nbits", 2, "--method", "sensitive",
                   "--weight-threshold", 0, "--load-sensitivity", bad)
        for tensors, pattern in (
                ({"net.weight": self.importance.T.copy()}, "another shape"),
                ({"other": self.importance}, "none of its tensors"),
                ({"net.weight": -self.importance - 1}, "element 0 is negative"),
                ({"net.weight": self.importance * np.nan}, "element 0 is NaN")):
            save_file(tensors, bad)
            self.assert_refused(command, output, pattern)
        self.assert_refused((*command[:-1], self.new_path(".safetensors")), output, "No such file")


class OutliersTest(CheckpointTest):
    """Values that are kept exactly."""

    def kept(self, *options):
        """The palettized file, and what it stands for."""
        output, dense = self.new_path(".safetensors"), self.new_path(".safetensors")
        self.succeed("compress", self.model, "-o", output, "--method", "sensitive", "--nbits", 2,
                     "--load-sensitivity", self.loaded, "--weight-threshold", 0, "--shrinkage", 0,
                     "--quiet", *options)
        self.succeed("decompress", output, "-o", dense, "--quiet")
        return output, load_file(dense)["net.weight"]

    def test_in_a_checkpoint(self):
        count = int(0.02 * self.weight.size)
        plain = self.kept()[1]
        for options in ((), ("--granularity", "per_grouped_channel", "--group-size", 8),
                        ("--lut-dtype", "int8"), ("--cluster-dim", 2),
                        ("--enable-per-channel-scale", "true")):
            output, dense = self.kept("--outliers", 0.02, *options)
            stored = load_file(output)
            np.testing.assert_array_equal(read(output)["net.weight"], dense)
            places = stored["net.weight.palette_outlier_indices"]
            self.assertEqual(len(places), count)
            self.assertTrue((np.diff(places.astype(np.int64)) > 0).all())
            np.testing.assert_array_equal(dense.ravel()[places], self.weight.ravel()[places])
            np.testing.assert_array_equal(stored["net.weight.palette_outlier_values"],
                                          self.weight.ravel()[places])
            again = self.new_path(".safetensors")  # what is read is written again
            self.succeed("compress", output, "-o", again, "--nbits", 4, "--quiet")
            self.assertEqual(output.read_bytes(), again.read_bytes())
        # The values whose errors cost most, and the best tables for the others.
        output, dense = self.kept("--outliers", 0.02)
        places = load_file(output)["net.weight.palette_outlier_indices"]
        cost = (self.importance * (plain - self.weight).astype(np.float64) ** 2).ravel()
        self.assertGreaterEqual(cost[places].min(), np.sort(cost)[-count] * (1 - 1e-6))
        rest = np.delete(np.arange(self.weight.size), places)
        self.assert_least(self.error(dense), least_error(
            self.weight.ravel()[rest], self.importance.ravel()[rest], 4))

    def test_damaged(self):
        output = self.kept("--outliers", 0.01)[0]
        content, tensors = output.read_bytes(), load_file(output)
        places = tensors["net.weight.palette_outlier_indices"]
        at = content.index(places.tobytes())
        for wrong in (np.flip(places), places + np.uint32(self.weight.size)):
            output.write_bytes(content[:at] + wrong.tobytes() + content[at + places.nbytes:])
            dense = self.new_path(".safetensors")
            self.assert_refused(("decompress", output, "-o", dense), dense,
                                "net.weight: the indices of its outliers do not ascend within it")

    def test_in_onnx(self):
        for dtype, options in ((np.float32, ()), (np.float16, ("--lut-dtype", "int8")),
                               (np.float32, ("--granularity", "per_grouped_channel",
                                             "--group-size", 10)),
                               (np.float32, ("--enable-per-channel-scale", "true"))):
            net = Perceptron()
            net.a, net.b = net.a.astype(dtype), net.b.astype(dtype)
            model = net.write(self.new_path(".onnx"))
            data = self.data(x=net.x.astype(dtype))
            output, again, dense = (self.new_path(".onnx") for _ in range(3))
            self.succeed("compress", model, "-o", output, "--nbits", 3, "--method", "sensitive",
                         "--data", data, "--outliers", 0.05, "--weight-threshold", 500, "--threads",
                         1, "--quiet", *options)
            self.succeed("decompress", output, "-o", dense, "--quiet")
            weights = {t.name: numpy_helper.to_array(t)
                       for t in onnx.load(dense).graph.initializer}
            self.assertGreaterEqual((weights["a"] == net.a).sum(), int(0.05 * net.a.size))
            self.assertFalse((weights["a"] == net.a).all())
            feed = {"x": net.x.astype(dtype)}
            for got, expected in zip(by_onnxruntime(output, feed), by_onnxruntime(dense, feed)):
                np.testing.assert_array_equal(got, expected)
            self.succeed("compress", output, "-o", again, "--nbits", 4, "--weight-threshold", 500,
                         "--quiet")
            self.assertEqual(output.read_bytes(), again.read_bytes())

    def test_not_in_a_package(self):
        output = self.new_path()
        self.assert_refused(("compress", support.EXAMPLE, "-o", output, "--nbits", 2, "--method",
                             "sensitive", "--samples", 2, "--outliers", 0.01, "--data",
                             EXAMPLE_DATA, *FASHION), output, "outliers cannot be expressed")


class FilesTest(SensitiveTest):
    def test_saved_and_loaded_is_measured(self):
        for model in (support.EXAMPLE, support.EXAMPLE.parent / "fashion-mnist.onnx"):
            saved, data = self.new_path(".safetensors"), ("--data", EXAMPLE_DATA, *FASHION)
            measured, loaded, chosen = (self.new_path(model.suffix) for _ in range(3))
            command = ("compress", model, "--nbits", 2, "--method", "sensitive", "--samples", 16,
                       "--threads", 1, "--quiet")
            self.succeed(*command, "-o", measured, *data, "--save-sensitivity", saved)
            self.succeed(*command, "-o", loaded, *data, "--load-sensitivity", saved)
            self.assertEqual(support.files_of(measured) if measured.is_dir()
                             else measured.read_bytes(),
                             support.files_of(loaded) if loaded.is_dir() else loaded.read_bytes())
            self.succeed("compress", model, "-o", chosen, "--nbits", 2, "--method", "sensitive",
                         "--load-sensitivity", saved, "--quiet")

    def test_the_same_bytes(self):
        """At any number of threads, again, and after a run that was killed."""
        model = support.EXAMPLE.parent / "fashion-mnist-bn.onnx"
        output = self.new_path(".onnx")
        command = ("compress", model, "-o", output, "--nbits", 2, "--method", "sensitive",
                   "--samples", 8, "--seed", 5, "--data", EXAMPLE_DATA, *FASHION, "--quiet")
        found = set()
        for threads in (1, 2, 3):
            self.succeed(*command, "--threads", threads, "--sweeps", 1)
            found.add(output.read_bytes())
            output.unlink()
        for delay in (0.05, 0.3):
            process = subprocess.Popen([str(support.COMMAND), *map(str, command), "--sweeps", "1",
                                        "--threads", "1"])
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                if output.exists():  # killed after all was done
                    found.add(output.read_bytes())
            self.succeed(*command, "--threads", 1, "--sweeps", 1)
            found.add(output.read_bytes())
            output.unlink()
        self.assertEqual(len(found), 1)


    def test_the_same_sensitivities(self):
        """At any number of threads, for long sums over few results too."""
        wide = Perceptron(inputs=1500, hidden=1100)
        model = wide.write(self.new_path(".onnx"))
        cases = {"wide": (model, {"x": wide.x, "labels": wide.labels})}
        for name in ("bert", "llama"):
            network, feed = NETWORKS[name](dtype=np.float32, opset=17)
            model = self.new_path(".onnx")
            onnx.save(network, model)
            cases[name] = model, feed
        for name, (model, feed) in cases.items():
            with self.subTest(name):
                data = self.data(**feed)
                found = set()
                for threads in (1, 3, 8):
                    saved = self.new_path(".safetensors")
                    self.succeed("compress", model, "-o", self.new_path(".onnx"), "--nbits", 4,
                                 "--method", "sensitive", "--data", data, "--save-sensitivity",
                                 saved, "--sweeps", 0, "--threads", threads, "--quiet")
                    found.add(saved.read_bytes())
                self.assertEqual(len(found), 1)


class QualityTest(SensitiveTest):
    def test_no_worse_than_kmeans(self):
        """Of answers that the model did not see, too."""
        model = support.EXAMPLE.parent / "fashion-mnist.onnx"
        data = ("--data", EXAMPLE_DATA, "--mean", "0.286", "--std", "0.353")
        for nbits in (2, 3):
            scores = {}
            for method in ("kmeans", "sensitive"):
                output = self.new_path(".onnx")
                more = (*data, "--split", "train") if method == "sensitive" else ()
                self.succeed("compress", model, "-o", output, "--nbits", nbits, "--method", method,
                             *more, "--threads", 1, "--quiet")
                scores[method] = json.loads(self.succeed(
                    "eval", output, *data, "--split", "test", "--reference", model, "--threads", 1,
                    "--json", "-").stdout)
            self.assertLessEqual(scores["sensitive"]["kl_divergence"],
                                 scores["kmeans"]["kl_divergence"] + 1e-4)
            self.assertGreaterEqual(scores["sensitive"]["top1"], scores["kmeans"]["top1"] - 0.2)


class BadDataTest(SensitiveTest):
    def refuse(self, model, data, *patterns, options=(), status=1):
        output = self.new_path(model.suffix)
        more = () if data is None else ("--data", data)
        self.assert_refused(("compress", model, "-o", output, "--nbits", 2, "--method", "sensitive",
                             "--weight-threshold", 0, *more, *options), output, *patterns,
                            status=status)

    def test_errors(self):
        net = Perceptron()
        model = net.write(self.new_path(".onnx"))
        self.refuse(model, None, "needs data or load_sensitivity", status=2)
        self.refuse(model, self.data(x=net.x, labels=net.labels + CLASSES),
                    rf"label {CLASSES}|label \d+, but the output has {CLASSES} classes")
        self.refuse(model, self.data(x=net.x[:, 1:]), r"samples of x have shape \(39\), the model takes",
                    status=2)
        self.refuse(model, self.data(y=net.x), "no array for input x", status=2)
        self.refuse(model, self.data(x=net.x * np.float32(np.nan)), "NaN")
        empty = self.folder / "empty"
        empty.mkdir()
        self.refuse(model, empty, "empty")
        self.refuse(model, self.folder / "nothing", "nothing.*No such file")
        self.refuse(model, self.data(x=net.x), "no output 'scores'",
                    options=("--loss-output", "scores"), status=2)
        self.refuse(model, self.data(x=net.x), "shrinkage.*from 0 to 1",
                    options=("--shrinkage", "2"), status=2)

    def test_a_loss_that_is_not_finite(self):
        net = Perceptron()
        tail = [helper.make_node("Log", ["logits"], ["scores"])]
        model = net.write(self.new_path(".onnx"), tail)
        self.refuse(model, self.data(x=net.x, labels=net.labels), "the loss is not finite",
                    r"\.npz")

    def test_gradients_that_are_not_finite(self):
        """The root's slope is infinite at 0."""
        net = Perceptron()
        net.a[:, 3] = 0
        model = self.new_path(".onnx")
        write_model(model, [helper.make_node("MatMul", ["x", "a"], ["h"]),
                            helper.make_node("Abs", ["h"], ["m"]),
                            helper.make_node("Sqrt", ["m"], ["s"]),
                            helper.make_node("MatMul", ["s", "b"], ["logits"])],
                    {"a": net.a, "b": net.b}, [("x", TensorProto.FLOAT, ["n", INPUTS])],
                    [("logits", ["n", CLASSES])])
        self.refuse(model, self.data(x=net.x, labels=net.labels),
                    "weight 'a' has gradients that are not finite", r"\.onnx")


if __name__ == "__main__":
    unittest.main()
