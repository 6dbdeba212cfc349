"""Answers of networks as they are compared: outputs that are not one row of numbers for each sample,
that are probabilities already, or no numbers."""

import json
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import support
from support import InteropTest

SAMPLES, WIDTH, CLASSES = 8, 4, 3


class ScoresTest(InteropTest):
    def save(self, nodes, columns, seed):
        """x [N, WIDTH] @ W [WIDTH, columns], and the nodes from "scores" on to "y"."""
        weights = np.random.default_rng(seed).normal(size=(WIDTH, columns)).astype(np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "W"], ["scores"]), *nodes], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(weights, "W"),
             numpy_helper.from_array(np.array([-1, CLASSES]), "rows")])
        path = self.new_path(".onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
        return path

    def data(self, labelled=False):
        path = self.new_path(".npz")
        arrays = {"x": np.random.default_rng(5).normal(size=(SAMPLES, WIDTH)).astype(np.float32)}
        if labelled:
            arrays["labels"] = np.arange(SAMPLES) % CLASSES
        np.savez(path, **arrays)
        return path

    def score(self, *arguments):
        return json.loads(self.succeed("eval", *arguments, "--json", "-").stdout)

    def test_several_rows_for_a_sample(self):
        """Labels cannot be counted; all rows are compared with a reference's, however they run."""
        rows = [helper.make_node("Reshape", ["scores", "rows"], ["y"])]
        model, reference = (self.save(rows, 2 * CLASSES, seed) for seed in (1, 2))
        self.assert_refused(["eval", model, "--data", self.data(labelled=True)],
                            self.new_path(".json"), "no place for each sample")
        data = self.data()
        x, weights = np.load(data)["x"], [
            numpy_helper.to_array(onnx.load(path).graph.initializer[0])
            for path in (model, reference)]
        ours, theirs = ((x @ one).reshape(-1, CLASSES) for one in weights)
        expected = 100 * np.mean(ours.argmax(1) == theirs.argmax(1))
        for batch in (1, 3, SAMPLES):
            score = self.score(model, "--reference", reference, "--data", data, "--batch", batch)
            self.assertAlmostEqual(score["agreement"], expected)

    def test_nan(self):
        """Is equal to nothing, has no class, and is told."""
        roots = [helper.make_node("Sqrt", ["scores"], ["y"])]
        model, data = self.save(roots, 2, 1), self.data()
        weights = numpy_helper.to_array(onnx.load(model).graph.initializer[0])
        broken = (np.load(data)["x"] @ weights < 0).any(1)
        self.assertTrue(0 < broken.sum() < SAMPLES)
        score = self.score(model, "--reference", model, "--data", data)
        self.assertEqual(score["nan_samples"], broken.sum())
        self.assertAlmostEqual(score["agreement"], 100 * np.mean(~broken))
        self.assertIsNone(score["psnr"])
        self.assertIsNone(score["kl_divergence"])
        told = self.succeed("eval", model, "--reference", model, "--data", data).stdout
        self.assertIn(f"NaN in the output of {broken.sum()} samples", told)
        self.assertNotIn("equal", told)

    def test_infinity_is_equal_to_itself(self):
        logarithms = [helper.make_node("Relu", ["scores"], ["positive"]),
                      helper.make_node("Log", ["positive"], ["y"])]
        model = self.save(logarithms, CLASSES, 1)
        told = self.succeed("eval", model, "--reference", model, "--data", self.data()).stdout
        self.assertRegex(told, r"psnr +equal")
        self.assertNotIn("NaN", told)

    def test_softmax_at_the_end(self):
        """Layer-wise reconstruction goes by the divergence of the classes, wherever softmax is."""
        example = support.ROOT / "examples" / "fashion-mnist"
        model = onnx.load(example / "fashion-mnist.onnx")
        last = model.graph.output[0].name
        model.graph.node.append(helper.make_node("Softmax", [last], ["softmax"], axis=-1))
        model.graph.node.append(helper.make_node("Flatten", ["softmax"], ["probabilities"]))
        model.graph.output[0].name = "probabilities"
        made = []
        for path in (example / "fashion-mnist.onnx", self.new_path(".onnx")):
            if not path.exists():
                onnx.save(model, path)
            output = self.new_path(".onnx")
            told = self.succeed("compress", path, "-o", output, "--nbits", 4, "--method",
                                "layerwise", "--data", example / "data", "--split", "train",
                                "--mean", 0.2860, "--std", 0.3530).stdout
            self.assertRegex(told, r"[1-9]\d* layers reconstructed")
            made.append({tensor.name: numpy_helper.to_array(tensor)
                         for tensor in onnx.load(output).graph.initializer})
        self.assertEqual(set(made[0]), set(made[1]))
        for name, values in made[0].items():
            np.testing.assert_array_equal(values, made[1][name], name)

    def test_no_inputs(self):
        value = numpy_helper.from_array(np.ones((2, 3), np.float32))
        graph = helper.make_graph(
            [helper.make_node("Constant", [], ["y"], value=value)], "g", [],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])])
        path = self.new_path(".onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
        self.assert_refused(["eval", path, "--data", self.data()], self.new_path(".json"),
                            "no inputs")

    def test_peak_is_of_the_command(self):
        """Not of the program that starts it."""
        model = self.save([helper.make_node("Relu", ["scores"], ["y"])], CLASSES, 1)
        data = self.data()
        starter = ("import json, subprocess, sys; held = b'x' * (300 << 20); "
                   "print(subprocess.run(sys.argv[1:], capture_output=True, check=True, "
                   "text=True).stdout)")
        done = subprocess.run([sys.executable, "-c", starter, support.COMMAND, "eval", model,
                               "--data", data, "--json", "-"], capture_output=True, text=True,
                              check=True)
        self.assertLess(json.loads(done.stdout)["peak_bytes"], 200 << 20)
