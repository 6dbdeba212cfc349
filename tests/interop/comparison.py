"""The comparison of one compressed package with the reference's, in every respect."""

import support  # noqa: F401  before coremltools, which it quiets
import numpy as np
from coremltools.proto import Model_pb2

import reference
from program import Program, shape_of
from support import InteropTest, size_of

TOLERANCE = 1e-6  # relative, on squared errors


def squared_error(original, restored):
    difference = original.astype(np.float64) - restored.astype(np.float64)
    return float(np.sum(difference * difference))


def bytes_lost(before, after):
    """The size of what coremltools leaves out when it writes a program again: build notes."""
    kept = Model_pb2.Model()
    kept.CopyFrom(after)
    for name, value in before.mlProgram.attributes.items():
        kept.mlProgram.attributes[name].CopyFrom(value)
    return kept.ByteSize() - after.ByteSize()


class ComparisonTest(InteropTest):
    def compare(self, package, settings, rewrites=False):
        """Compresses `package` and holds the result against the reference's.

        rewrites: coremltools changes this network's operators beside compressing it; compare
        with what it makes when it only compresses.
        """
        output, report = self.compress(package, *settings.arguments())
        theirs_path = reference.palettized(package, settings, rewrite=not rewrites)
        original, ours, theirs = Program(package), Program(output), Program(theirs_path)

        self.assert_same_graph(ours, theirs)
        if original.compressed_uses:  # pruned
            weights = Program(reference.decompress(package, self.new_path())).weights()
        else:
            weights = original.weights()
        restored = self.assert_decompress_agrees(output, rewrites)
        self.assert_same_weights_but_values(weights, restored)
        self.assert_report_is_true(report, original, weights, ours, restored, output)
        their_restored = reference.decompress(theirs_path, self.new_path(), not rewrites)
        self.assert_not_worse(
            weights, restored, Program(their_restored).weights(), theirs.compressed_uses)
        self.assertLessEqual(
            size_of(output), size_of(theirs_path) + bytes_lost(original.spec, theirs.spec),
            "the reference's package is smaller",
        )
        return output, report

    def assert_same_graph(self, ours, theirs):
        """The same operators, palettes included, except for weights the reference skips."""
        missed = theirs.compressed_uses - ours.compressed_uses
        self.assertFalse(missed, "the reference compresses these, we do not")
        extra = ours.compressed_uses - theirs.compressed_uses
        ours_signature, theirs_signature = ours.signature(without=extra), theirs.signature()
        self.assertEqual(list(ours_signature), list(theirs_signature), "functions")
        for function, expected in theirs_signature.items():
            actual = ours_signature[function]
            self.assertEqual([op["type"] for op in actual], [op["type"] for op in expected])
            for position, (mine, other) in enumerate(zip(actual, expected)):
                self.assertEqual(mine, other, f"{function}, operator {position}")
        self.assertEqual(ours.spec.specificationVersion, theirs.spec.specificationVersion)

    def assert_decompress_agrees(self, output, rewrites=False):
        """Our decompress and coremltools' agree bit for bit; returns the weights."""
        mine = Program(self.decompress(output)).weights()
        judged = Program(reference.decompress(output, self.new_path(), not rewrites)).weights()
        self.assert_bitwise_equal(mine, judged)
        return mine

    def assert_bitwise_equal(self, actual, expected):
        self.assertEqual(set(actual), set(expected))
        for use, values in expected.items():
            self.assertEqual(actual[use].dtype, values.dtype, use)
            self.assertEqual(actual[use].shape, values.shape, use)
            self.assertEqual(actual[use].tobytes(), values.tobytes(), f"{use}: values differ")

    def assert_same_weights_but_values(self, weights, restored):
        self.assertEqual(set(weights), set(restored))
        for use, values in weights.items():
            self.assertEqual(restored[use].shape, values.shape, use)
            self.assertEqual(restored[use].dtype, values.dtype, use)

    def assert_not_worse(self, weights, restored, theirs, compressed):
        self.assertEqual(set(weights), set(theirs), "the reference changed the graph")
        for use in compressed:
            our_error = squared_error(weights[use], restored[use])
            their_error = squared_error(weights[use], theirs[use])
            self.assertLessEqual(our_error, their_error * (1 + TOLERANCE), f"{use}: error")

    def assert_report_is_true(self, report, original, weights, ours, restored, output):
        package = original.package
        self.assertEqual(report["bytes_before"], size_of(package))
        self.assertEqual(report["bytes_after"], size_of(output))
        self.assertAlmostEqual(report["ratio"], size_of(package) / size_of(output), delta=5e-3)
        self.assertGreaterEqual(report["seconds"], 0)
        self.assert_skips_are_explained(report)
        compressed = self.status_of(report, "compressed")
        names = original.names()
        self.assertEqual(set(compressed), {names[use] for use in ours.compressed_uses})
        for use in weights:
            entry = compressed.get(names[use])
            if entry is None:
                self.assertEqual(
                    weights[use].tobytes(), restored[use].tobytes(), f"{use} is not untouched")
                continue
            self.assertEqual(tuple(entry["shape"]), weights[use].shape)
            error = squared_error(weights[use], restored[use]) / weights[use].size
            self.assertAlmostEqual(entry["mse"], error, delta=1e-5 * error + 1e-30, msg=use)
            tables = int(np.prod(ours.tables(use)[:-2]))
            self.assertEqual(entry["num_luts"], tables, use)

