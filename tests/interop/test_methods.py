"""Methods that look at data, on networks made for what they have to get right: what is written is
what was measured, which samples are taken, and what the report says."""

import json
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

import support
from running import by_onnxruntime
from support import InteropTest

WIDTH, SAMPLES = 64, 300


def input_samples(seed=1, samples=SAMPLES):
    """Correlated ones, as layers see them."""
    random = np.random.default_rng(seed)
    plain = random.normal(size=(samples, 6)) @ random.normal(size=(6, WIDTH)) / 2
    return (plain + random.normal(size=(samples, WIDTH)) * .1).astype(np.float32)


def weight(seed, *shape):
    shape = shape or (WIDTH, WIDTH)
    return (np.random.default_rng(seed).normal(size=shape) / 8).astype(np.float32)


def write_network(path, nodes, weights, output):
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, output)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
              path)
    return path


class MethodsTest(InteropTest):
    def data(self, **arrays):
        path = self.new_path(".npz")
        np.savez(path, **arrays)
        return path

    def config(self, text):
        path = self.new_path(".yaml")
        path.write_text(text)
        return path

    def compress(self, model, *options):
        """Compresses; the output's path, and the report."""
        output, report = self.new_path(model.suffix), self.new_path(".json")
        self.succeed("compress", model, "-o", output, "--threads", 1, *options, "--json", report,
                     "--quiet")
        return output, json.loads(report.read_text())

    def reasons(self, report):
        return {entry["name"]: entry["reason"] for entry in report["weights"]}

    def note(self, report, start):
        found = [note for note in report["notes"] if note.startswith(start)]
        self.assertEqual(len(found), 1, report["notes"])
        return found[0]


class WrittenTest(MethodsTest):
    """What was trained or reconstructed is what the file computes."""

    def test_constants_that_training_takes_for_fixed(self):
        """A palettized factor of a product has its palette in training, too."""
        p, v = weight(0) * 8, weight(1)
        nodes = [helper.make_node("Unsqueeze", ["x", "one"], ["u"]),
                 helper.make_node("Mul", ["u", "p"], ["m"]),
                 helper.make_node("ReduceSum", ["m", "two"], ["s"], keepdims=0),
                 helper.make_node("MatMul", ["s", "v"], ["y"])]
        model = write_network(self.new_path(".onnx"), nodes,
                              {"p": p, "v": v, "one": np.array([1]), "two": np.array([2])},
                              ["n", WIDTH])
        x = input_samples()
        labels = by_onnxruntime(model, {"x": x})[0].argmax(1)
        log = self.new_path(".jsonl")
        config = self.config("op_name_configs:\n  p: {nbits: 1}\n  v: {nbits: 8}\n")
        _, report = self.compress(
            model, "--config", config, "--method", "dkm", "--start", "kmeans", "--data",
            self.data(x=x, labels=labels), "--epochs", 1, "--lr", 1e-9, "--validation", 0.5,
            "--log", log)
        scores = [json.loads(line)["validation_top1"] for line in log.read_text().splitlines()]
        self.assertAlmostEqual(scores[-1], report["held_back"]["top1"], places=3)
        self.assertLess(scores[-1], 90)
        # Without labels the divergence tells whether training is needed, and it is.
        _, report = self.compress(model, "--config", config, "--method", "dkm", "--start", "kmeans",
                                  "--data", self.data(x=x), "--epochs", 1, "--validation", 0.5)
        self.assertNotIn("would begin with", " ".join(report["notes"]))

    def test_a_constant_with_the_palette_of_a_trained_weight(self):
        """It follows the weight, since the file has one palette for both."""
        a = weight(0)
        nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]),
                 helper.make_node("Unsqueeze", ["h", "one"], ["u"]),
                 helper.make_node("Mul", ["u", "b"], ["m"]),
                 helper.make_node("ReduceSum", ["m", "two"], ["y"], keepdims=0)]
        model = write_network(self.new_path(".onnx"), nodes,
                              {"a": a, "b": a, "one": np.array([1]), "two": np.array([2])},
                              ["n", WIDTH])
        self.at_one_place(model, a)
        x = input_samples()
        labels = by_onnxruntime(model, {"x": x})[0].argmax(1)
        log = self.new_path(".jsonl")
        _, report = self.compress(model, "--nbits", 2, "--method", "dkm", "--start", "kmeans",
                                  "--data", self.data(x=x, labels=labels), "--epochs", 4, "--batch",
                                  16, "--lr", 0.05, "--validation", 0.5, "--enough", 0, "--log",
                                  log)
        step = int(self.note(report, "the best on").split("after step ")[1].split()[0])
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        written = [line["validation_top1"] for line in lines if line["step"] == step]
        self.assertAlmostEqual(written[0], report["held_back"]["top1"], places=3)

    def at_one_place(self, path, values):
        """Two initializers at the same place of a file beside the model."""
        model = onnx.load(path)
        place = path.with_suffix(".bin")
        place.write_bytes(values.tobytes())
        for tensor in model.graph.initializer:
            if tensor.name not in "ab":
                continue
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", place.name), ("offset", "0"),
                               ("length", str(values.nbytes))):
                tensor.external_data.add(key=key, value=value)
        onnx.save(model, path)

    def test_two_weights_at_one_place_of_the_file(self):
        """One palette for both: neither layer may have it to itself."""
        a = weight(0)
        nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]),
                 helper.make_node("Relu", ["h"], ["r"]),
                 helper.make_node("MatMul", ["r", "b"], ["y"])]
        model = write_network(self.new_path(".onnx"), nodes, {"a": a, "b": a}, ["n", WIDTH])
        self.at_one_place(model, a)
        x = input_samples()
        for correct in ("off", "scale"):
            output, report = self.compress(model, "--nbits", 2, "--method", "layerwise",
                                           "--correct", correct, "--samples", 0, "--enough", 0,
                                           "--data", self.data(x=x))
            told = float(self.note(report, "output error").split()[-1])
            was, now = (by_onnxruntime(path, {"x": x})[0] for path in (model, output))
            self.assertAlmostEqual(np.sqrt(((was - now) ** 2).sum() / (was ** 2).sum()), told,
                                   places=3)
            self.assertEqual(set(self.reasons(report).values()), {"K-Means: used more than once"})


class SamplesTest(MethodsTest):
    def setUp(self):
        super().setUp()
        self.model = write_network(
            self.new_path(".onnx"),
            [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
             helper.make_node("MatMul", ["r", "b"], ["y"])],
            {"a": weight(0), "b": weight(1)}, ["n", WIDTH])

    def layerwise(self, *options, **arrays):
        return self.compress(self.model, "--method", "layerwise", "--data",
                             self.data(x=input_samples(), **arrays), *options)[1]

    def test_a_limit_leaves_held_back_as_it_is(self):
        report = self.layerwise("--nbits", 2, "--limit", 250, "--samples", 64, "--held-back", 20)
        self.assertIn("on 20 samples held back", self.note(report, "output error"))

    def test_samples_of_sorted_data_are_drawn(self):
        first = {self.note(self.layerwise("--nbits", 2, "--limit", 250, "--samples", 64, "--seed",
                                          seed), "calibrated with 64 samples").split()[-1]
                 for seed in (1, 2, 1)}
        self.assertEqual(len(first), 2)  # the number of a sample
        self.assertNotIn("0", first)

    def test_few_are_held_back(self):
        report = self.layerwise("--nbits", 2, "--samples", 40, "--held-back", 5)
        self.assertIn("on 5 samples held back", self.note(report, "output error"))

    def test_enough_without_statistics(self):
        report = self.layerwise("--nbits", 8, "--correct", "off", "--enough", 10)
        self.note(report, "K-Means is as good as the float network here")
        self.assertNotIn("reconstruction", self.note(report, "output error"))


class ScoresTest(MethodsTest):
    def test_classes_before_other_dimensions_of_one(self):
        """[n, classes, 1, 1] has the scores of [n, classes], and as near is near enough."""
        x = input_samples()
        data = self.data(x=x, labels=(x @ weight(0)).argmax(1))
        tails = {"flat": ([], ["n", WIDTH]),
                 "deep": ([helper.make_node("Unsqueeze", ["y", "axes"], ["z"])],
                          ["n", WIDTH, 1, 1])}
        told = {}
        for name, (tail, shape) in tails.items():
            model = write_network(
                self.new_path(".onnx"), [helper.make_node("MatMul", ["x", "a"], ["y"]), *tail],
                {"a": weight(0), "axes": np.array([2, 3])}, shape)
            # The divergence is far below that: the relative error is not.
            _, report = self.compress(
                model, "--nbits", 6, "--method", "layerwise", "--enough", 0.002, "--data", data)
            told[name] = report["notes"]
            self.note(report, "top-1 on")
        self.assertEqual(told["flat"], told["deep"])
        self.assertIn("K-Means is as good as the float network", " ".join(told["deep"]))


class RemarksTest(MethodsTest):
    def test_why_layers_are_not_reconstructed(self):
        nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]),
                 helper.make_node("Relu", ["h"], ["r"]),
                 helper.make_node("MatMul", ["r", "a"], ["b"]),
                 helper.make_node("Einsum", ["b", "v"], ["e"], equation="ij,jk->ik"),
                 helper.make_node("MatMul", ["e", "c"], ["y"])]
        model = write_network(self.new_path(".onnx"), nodes,
                              {"a": weight(0), "v": weight(1), "c": weight(2)}, ["n", WIDTH])
        _, report = self.compress(model, "--nbits", 2, "--method", "layerwise", "--enough", 0,
                                  "--data", self.data(x=input_samples()))
        reasons = self.reasons(report)
        self.assertIn("1 layers reconstructed", report["notes"])
        self.assertEqual(reasons["a"], "K-Means: used more than once")
        self.assertIn("no weight of a convolution or matrix product", reasons["v"])
        self.assertEqual(reasons["c"], "")

    def test_group_sizes_with_every_method(self):
        model = write_network(self.new_path(".onnx"),
                              [helper.make_node("MatMul", ["x", "a"], ["y"])], {"a": weight(0)},
                              ["n", WIDTH])
        data = self.data(x=input_samples())
        told = "groups of 16: 64 channels are not a multiple of 24"
        grouped = ("--nbits", 2, "--granularity", "per_grouped_channel", "--group-size", 24)
        for method in (("layerwise",), ("sensitive",), ("dkm", "--epochs", 1)):
            _, report = self.compress(model, *grouped, "--method", *method, "--data", data)
            self.assertIn(told, self.reasons(report)["a"])

    def test_unknown_sensitivities(self):
        model = write_network(
            self.new_path(".onnx"),
            [helper.make_node("MatMul", ["x", "a"], ["h"]),
             helper.make_node("MatMul", ["h", "b"], ["y"])],
            {"a": weight(0), "b": weight(1)}, ["n", WIDTH])
        known = self.new_path(".safetensors")
        save_file({"a": np.ones((WIDTH, WIDTH), np.float32)}, known)
        # The sensitivities are all the same, so that the first candidate is as good as any.
        _, report = self.compress(model, "--nbits", 4, "--method", "sensitive",
                                  "--load-sensitivity", known, "--correct", "off", "--enough", 1000,
                                  "--data", self.data(x=input_samples()))
        self.assertIn("no sensitivity is known", self.reasons(report)["b"])

    def test_outliers_of_other_modes(self):
        model = write_network(self.new_path(".onnx"),
                              [helper.make_node("MatMul", ["x", "a"], ["y"])], {"a": weight(0)},
                              ["n", WIDTH])
        _, report = self.compress(model, "--nbits", 4, "--mode", "uniform", "--method", "sensitive",
                                  "--outliers", 0.01, "--data", self.data(x=input_samples()))
        self.assertIn("outliers are for mode kmeans", self.reasons(report)["a"])

    def test_keys_that_cover_nothing(self):
        node = helper.make_node("MatMul", ["x", "proj.weight"], ["y"], name="proj")
        model = write_network(self.new_path(".onnx"), [node], {"proj.weight": weight(0)},
                              ["n", WIDTH])
        config = self.config("""
global_config: {nbits: 4, group_size: 16}
op_type_configs:
  matmul: {nbits: 2}
  MatMul: {nbits: 6}
  Conv: {nbits: 6}
op_name_configs:
  proj.wieght: {nbits: 2}
  proj: {nbits: 6}
  "pro.*t": null
""")
        _, report = self.compress(model, "--config", config)
        self.assertEqual(report["notes"], [
            "group_size is for granularity per_grouped_channel: there are no groups",
            "op_type_configs: matmul covers no weight of the model; there is MatMul",
            "op_type_configs: Conv covers no weight of the model",
            "op_name_configs: proj.wieght covers no weight of the model; there is proj.weight"])
        used = self.config("global_config: {nbits: 4}\nop_type_configs: {MatMul: {nbits: 2}}\n")
        self.assertEqual(self.compress(model, "--config", used)[1]["notes"], [])


class RefusedTest(MethodsTest):
    def test_scales_that_a_package_cannot_hold(self):
        package = support.model("resnet20-iOS16")
        data = support.SHARED / "data" / "cifar10.tar"
        output = self.new_path()
        for method in ("kmeans", "layerwise", "sensitive"):
            self.assert_refused(("compress", package, "-o", output, "--nbits", 2, "--method",
                                 method, "--correct", "scale", "--samples", 16, "--data", data,
                                 "--split", "test"),
                                output, "correct scale", "needs opset iOS18")


if __name__ == "__main__":
    unittest.main()
