"""Real ONNX networks: sound, equal in what they compute, folded once, and small."""

import json
import unittest
from collections import Counter

import numpy as np
import onnx
import onnxruntime

import onnx_networks
import support
from onnx_case import GROUPED, WIDTHS, OnnxTest, operators_of, session

SHARED = ("resnet20", "resnet20-bn", "mobilenetv3small-cifar", "mobilenetv3small-cifar-bn",
          "mobilenetv3small", "mobilenetv2")


def full_matrix():
    for name in ("fashion-mnist", "fashion-mnist-bn", *SHARED):
        for nbits in WIDTHS:
            yield name, ("--nbits", nbits)
            yield name, ("--nbits", nbits, *GROUPED, 16)


def sample():
    for nbits in WIDTHS:
        yield "fashion-mnist", ("--nbits", nbits)
        yield "fashion-mnist-bn", ("--nbits", nbits, *GROUPED, 16)
    for name, nbits in zip(SHARED, (3, 2, 1, 6, 4, 8), strict=True):
        yield name, ("--nbits", nbits)
    yield "resnet20", ("--nbits", 4, *GROUPED, 8)


class ModelTest(OnnxTest):
    def check(self, name, options):
        path = support.onnx_model(name)
        output, report = self.compress(path, *options)
        plain = self.decompress(output)
        self.check_file(output)
        self.assert_same_outputs(output, plain)
        self.assert_skips_are_explained(report)
        self.assertEqual(report["bytes_before"], path.stat().st_size)
        self.assertEqual(report["bytes_after"], output.stat().st_size)
        self.assert_small(path, output, report)
        self.assert_folded(output, plain)
        self.assert_decompressed(path, plain, report)

    def assert_small(self, path, output, report):
        """What is not the palettes themselves costs little: some names and operators."""
        saved = sum(entry["bytes_before"] - entry["bytes"] for entry in report["weights"])
        weights = len(self.status_of(report, "compressed"))
        overhead = output.stat().st_size - (path.stat().st_size - saved)
        self.assertLess(overhead, 900 + 420 * weights)

    def assert_folded(self, output, plain):
        """The runtime unpacks when it loads: what is left to run is the dense model."""
        folded, expected = self.new_path(), self.new_path()
        session(output, folded)
        session(plain, expected)
        self.assertEqual(operators_of(folded), operators_of(expected))

    def assert_decompressed(self, path, plain, report):
        """The original but for the values of the weights that were compressed."""
        original, restored = onnx.load(str(path)), onnx.load(str(plain))
        compressed = self.status_of(report, "compressed")
        self.assertTrue(compressed)
        for before, after in zip(
                original.graph.initializer, restored.graph.initializer, strict=True):
            if before.name in compressed:
                self.assertEqual(len(after.raw_data), len(before.raw_data))
                after.raw_data = before.raw_data
        self.assertEqual(restored, original)


class FoldingTest(OnnxTest):
    """The session unpacks when it is made, and never again."""

    RUNS = 3

    def operators_run(self, path, inputs, level):
        """How often operators ran, of each type, in all runs together."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = level
        options.enable_profiling = True
        options.profile_file_prefix = str(self.folder / "profile")
        running = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(self.RUNS):
            running.run(None, inputs)
        with open(running.end_profiling(), encoding="utf-8") as file:
            events = json.load(file)
        return Counter(event["args"]["op_name"] for event in events
                       if event["cat"] == "Node" and event["name"].endswith("_kernel_time"))

    def test_operators_run(self):
        levels = onnxruntime.GraphOptimizationLevel
        for name, dtype, options in (
                ("bert", np.float32, ("--nbits", 4)), ("llama", np.float16, ("--nbits", 3)),
                ("detector", np.float32, ("--nbits", 6, *GROUPED, 1)),
                ("branches", np.float16, ("--nbits", 2, "--cluster-dim", 2, *GROUPED, 8))):
            model, inputs = onnx_networks.NETWORKS[name](dtype=dtype)
            output, _ = self.compress(self.save(model), *options)
            plain = self.decompress(output)
            with self.subTest(network=name, options=options):
                for level in (levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_ALL):
                    self.assertEqual(self.operators_run(output, inputs, level),
                                     self.operators_run(plain, inputs, level))
                # Without optimizations they do run, each time.
                more = self.operators_run(output, inputs, levels.ORT_DISABLE_ALL)
                more -= self.operators_run(plain, inputs, levels.ORT_DISABLE_ALL)
                self.assertGreaterEqual(more["Gather"], self.RUNS)
                self.assertGreaterEqual(more["Cast"], self.RUNS)


def _add(name, options):
    words = "_".join(str(word).strip("-") for word in (name, *options)).replace("-", "_")

    def method(self):
        self.check(name, options)

    method.__doc__ = f"{name} {' '.join(map(str, options))}"
    setattr(ModelTest, f"test_{words}", method)


for _name, _options in full_matrix() if support.FULL else sample():
    _add(_name, _options)


if __name__ == "__main__":
    unittest.main()
