"""Real ONNX networks: sound, equal in what they compute, folded once, and small."""

import unittest

import onnx

import support
from onnx_case import GROUPED, WIDTHS, OnnxTest, session

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


def find(name):
    folder = support.EXAMPLE.parent if name.startswith("fashion") else support.SHARED / "models"
    path = folder / f"{name}.onnx"
    if not path.is_file():
        raise unittest.SkipTest(f"no {path}: set PALETTIZE_SHARED")
    return path


class ModelTest(OnnxTest):
    def check(self, name, options):
        path = find(name)
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
        operators = [sorted(node.op_type for node in onnx.load(str(file)).graph.node)
                     for file in (folded, expected)]
        self.assertEqual(*operators)

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
