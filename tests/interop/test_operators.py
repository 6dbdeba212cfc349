"""Every kind of place a weight can stand in: operators, blocks, functions, the protobuf itself."""

import unittest

import support  # noqa: F401  before coremltools, which it quiets
import coremltools as ct
import numpy as np

import networks
from comparison import ComparisonTest
from networks import SINGLE, lattice, normal
from program import Program, shape_of
from reference import Settings
from support import files_of

PER_TENSOR = Settings(4)
GROUPED = Settings.grouped(4)


class OperatorTest(ComparisonTest):
    def compare_all(self, package, *choices):
        for settings in choices or (PER_TENSOR, GROUPED):
            with self.subTest(settings=str(settings)):
                self.compare(package, settings)

    def tables_shape(self, output):
        """The shape of the only palette's look-up tables."""
        (operation,) = Program(output).operations("constexpr_lut_to_dense")
        return shape_of(operation.inputs["lut"].arguments[0].value.type)

    def test_linear(self):
        self.compare_all(networks.linear(self.new_path(), normal(64, 48)))

    def test_conv(self):
        self.compare_all(networks.conv(self.new_path(), normal(32, 16, 3, 3)))

    def test_conv_transpose_groups_axis_1(self):
        package = networks.conv_transpose(self.new_path(), normal(24, 32, 3, 3))
        self.compare_all(package)
        output, _ = self.compress(package, *GROUPED.arguments())
        self.assertEqual(self.tables_shape(output), (1, 2, 1, 1, 16, 1))

    def test_matmul_right_operand(self):
        for transpose, shape, tables in (
            (False, (80, 48), (1, 3, 16, 1)), (True, (48, 80), (3, 1, 16, 1)),
        ):
            with self.subTest(transpose_y=transpose):
                package = networks.matmul(self.new_path(), normal(*shape), transpose)
                self.compare_all(package)
                output, _ = self.compress(package, *GROUPED.arguments())
                self.assertEqual(self.tables_shape(output), tables)

    def test_matmul_left_operand(self):
        for transpose, shape in ((False, (48, 80)), (True, (80, 48))):
            with self.subTest(transpose_x=transpose):
                self.compare_all(networks.matmul_left(self.new_path(), normal(*shape), transpose))

    def test_batched_matmul_weight(self):
        package = networks.build(
            self.new_path(), (3, 5, 32),
            lambda x: networks.mb.matmul(x=x, y=normal(3, 32, 48)),
        )
        self.compare_all(package)

    def test_embedding(self):
        self.compare_all(networks.embedding(self.new_path(), normal(96, 40)))

    def test_elementwise_constant(self):
        self.compare_all(networks.elementwise(self.new_path(), normal(16, 8, 32)))

    def test_rank_1_is_skipped(self):
        package = networks.elementwise(self.new_path(), normal(5000))
        _, report = self.compare(package, PER_TENSOR)
        self.assertIn("addend", self.status_of(report, "skipped"))

    def test_float32_weights(self):
        package = networks.linear(self.new_path(), normal(64, 64, dtype=SINGLE))
        self.compare_all(package)

    def test_iOS16_and_iOS17(self):
        for target in (ct.target.iOS16, ct.target.iOS17):
            for dtype in (np.float16, np.float32):
                with self.subTest(target=target, dtype=dtype.__name__):
                    package = networks.linear(
                        self.new_path(), normal(64, 64, dtype=dtype), target=target)
                    self.compare_all(package, Settings(1), PER_TENSOR, Settings(6))

    def test_index_count_that_fills_no_whole_byte(self):
        for target, nbits in ((ct.target.iOS16, 6), (ct.target.iOS18, 3), (ct.target.iOS18, 1)):
            with self.subTest(target=target, nbits=nbits):
                package = networks.linear(self.new_path(), normal(47, 53), target=target)
                self.compare(package, Settings(nbits))

    def test_one_weight_used_twice(self):
        self.compare_all(networks.shared_by_two(self.new_path(), normal(64, 64)))

    def test_nested_blocks(self):
        package = networks.branches(self.new_path(), normal(64, 64), normal(64, 64, seed=1))
        self.compare_all(package)
        self.compare_all(networks.loop(self.new_path(), normal(64, 64)))

    def test_weight_inside_the_protobuf(self):
        for dtype in (np.float16, np.float32):
            with self.subTest(dtype=dtype.__name__):
                package = networks.linear(self.new_path(), normal(64, 64, dtype=dtype))
                networks.make_immediate(package, "fc_weight")
                self.compare_all(package)

    def test_two_constants_on_the_same_bytes(self):
        package = networks.two_linears(self.new_path(), normal(64, 64), normal(64, 64, seed=1))
        networks.share_blob(package, kept="first_weight", dropped="second_weight")
        output, _ = self.compare(package, PER_TENSOR, rewrites=True)  # coremltools merges them
        once, _ = self.compress(
            networks.linear(self.new_path(), normal(64, 64)), *PER_TENSOR.arguments())
        weights, weights_once = (
            files_of(path)["Data/com.apple.CoreML/weights/weight.bin"] for path in (output, once))
        self.assertLess(len(weights), 1.5 * len(weights_once), "the palette is stored twice")

    def test_two_constants_with_equal_values(self):
        package = networks.equal_twins(self.new_path(), normal(64, 64))
        self.compare(package, PER_TENSOR, rewrites=True)

    def test_integers_are_left_alone(self):
        table = np.arange(4096, dtype=np.int32).reshape(64, 64)
        package = networks.build(
            self.new_path(), (64, 64),
            lambda x: networks.mb.add(x=networks.mb.cast(x=x, dtype="int32"), y=table),
        )
        output, report = self.compress(package, *PER_TENSOR.arguments())
        self.assertEqual(self.status_of(report, "compressed"), {})
        self.assertEqual(Program(output).compressed_uses, set())


class OptionTest(ComparisonTest):
    def test_modes(self):
        package = networks.two_linears(self.new_path(), normal(64, 64), lattice(5, 48, 64))
        for settings in (
            Settings(4, mode="uniform"), Settings.grouped(3, mode="uniform"),
            Settings(mode="unique"), Settings.grouped(None, mode="unique"),
        ):
            with self.subTest(settings=str(settings)):
                _, report = self.compare(package, settings)
                if settings.mode == "unique":
                    self.assertEqual(set(self.status_of(report, "skipped")) & {"first_weight"},
                                     {"first_weight"}, "more than 256 values")
                    self.assertEqual(report_of(report, "second_weight")["mse"], 0)

    def test_uniform_is_the_grid_from_minimum_to_maximum(self):
        for dtype in (np.float16, np.float32):
            for nbits in (1, 3, 8):
                with self.subTest(dtype=dtype.__name__, nbits=nbits):
                    weight = normal(64, 64, dtype=dtype)
                    package = networks.linear(self.new_path(), weight)
                    _, report = self.compress(package, "--mode", "uniform", "--nbits", nbits)
                    wide = weight.astype(np.float64)
                    steps = np.arange(2**nbits)
                    exact = np.linspace(wide.min(), wide.max(), 2**nbits).astype(dtype)
                    rounded = (steps * ((weight.max() - weight.min()) / dtype(steps[-1]))
                               + wide.min()).astype(dtype)
                    errors = [np.mean(np.abs(wide[..., None] - grid).min(axis=-1) ** 2)
                              for grid in (exact, np.minimum(rounded, weight.max()))]
                    self.assertAlmostEqual(
                        report_of(report, "fc_weight")["mse"] / min(errors), 1, places=4)

    def test_unique_takes_the_smallest_width_the_opset_has(self):
        for target, count, nbits in (
            (ct.target.iOS16, 2, 1), (ct.target.iOS16, 5, 4), (ct.target.iOS16, 40, 6),
            (ct.target.iOS18, 5, 3), (ct.target.iOS18, 256, 8),
        ):
            with self.subTest(target=target, count=count):
                package = networks.linear(self.new_path(), lattice(count, 64, 64), target=target)
                _, report = self.compress(package, "--mode", "unique")
                self.assertEqual(report_of(report, "fc_weight")["nbits"], nbits)
                self.assertEqual(report_of(report, "fc_weight")["mse"], 0)

    def test_channel_axis(self):
        package = networks.conv(self.new_path(), normal(32, 48, 3, 3))
        for axis in (0, 1):
            self.compare(package, Settings.grouped(4, channel_axis=axis))

    def test_weight_threshold_is_exclusive(self):
        package = networks.two_linears(self.new_path(), normal(64, 64), normal(32, 64))
        for threshold, compressed in ((2047, 2), (2048, 1), (4095, 1), (4096, 0), (0, 2)):
            with self.subTest(threshold=threshold):
                _, report = self.compare(package, Settings(4, weight_threshold=threshold))
                self.assertEqual(len(self.status_of(report, "compressed")), compressed)

    def test_channels_that_are_no_multiple_of_the_group(self):
        for channels, group, tables in ((100, 16, 10), (72, 16, 6), (37, 16, 37), (10, 32, 1)):
            with self.subTest(channels=channels, group=group):
                package = networks.linear(self.new_path(), normal(channels, 250))
                _, report = self.compare(package, Settings.grouped(2, group))
                self.assertEqual(report_of(report, "fc_weight")["num_luts"], tables)

    def test_axes_that_disagree(self):
        """A weight whose two users have different output channels: any choice but a crash."""
        def body(x):
            both = networks.mb.const(val=normal(64, 64), name="both")
            return networks.mb.linear(x=networks.mb.matmul(x=x, y=both), weight=both)

        package = networks.build(self.new_path(), (1, 64), body)
        for settings in (PER_TENSOR, GROUPED):
            with self.subTest(settings=str(settings)):
                output, report = self.compress(package, *settings.arguments())
                self.assert_decompress_agrees(output)
                self.assert_skips_are_explained(report)


class ValueTest(ComparisonTest):
    """Weights whose values are out of the ordinary."""

    def test_constant_weight(self):
        package = networks.linear(self.new_path(), np.full((64, 64), 0.3, np.float16))
        for settings in (PER_TENSOR, GROUPED, Settings(mode="unique")):
            _, report = self.compare(package, settings)
            self.assertEqual(report_of(report, "fc_weight")["mse"], 0)
        _, report = self.compress(package, "--nbits", 4, "--mode", "uniform")
        self.assertEqual(report_of(report, "fc_weight")["mse"], 0)

    def test_fewer_values_than_clusters(self):
        for dtype in (np.float16, np.float32):
            with self.subTest(dtype=dtype.__name__):
                weight = lattice(11, 128, 96, dtype=dtype)
                _, report = self.compare(networks.linear(self.new_path(), weight), PER_TENSOR)
                self.assertEqual(report_of(report, "fc_weight")["mse"], 0)

    def test_extreme_values(self):
        weight = normal(64, 64)
        weight[0, :8] = (65504, -65504, 6e-8, -6e-8, 0.0, -0.0, 6.1e-5, 1.0)
        package = networks.linear(self.new_path(), weight)
        for nbits in (1, 4, 8):
            self.compare(package, Settings(nbits))

    def test_uniform_over_the_whole_range(self):
        weight = normal(64, 64)
        weight[0, :2] = (65504, -65504)  # their difference overflows float16
        package = networks.linear(self.new_path(), weight)
        output, report = self.compress(package, "--nbits", 4, "--mode", "uniform")
        self.assert_decompress_agrees(output)
        self.assertLess(report_of(report, "fc_weight")["mse"], 65504.0**2)

    def test_not_finite_is_left_alone(self):
        for value, named in ((np.nan, "NaN"), (np.inf, "infini"), (-np.inf, "infini")):
            for dtype in (np.float16, np.float32):
                with self.subTest(value=value, dtype=dtype.__name__):
                    weight = normal(64, 64, dtype=dtype)
                    weight[3, 4] = value
                    package = networks.two_linears(
                        self.new_path(), weight, normal(48, 64, dtype=dtype), dtype=dtype)
                    for settings in (PER_TENSOR, GROUPED, Settings(4, mode="uniform")):
                        output, report = self.compress(package, *settings.arguments())
                        skipped = self.status_of(report, "skipped")["first_weight"]
                        self.assertRegex(skipped["reason"], named)
                        self.assertIn("second_weight", self.status_of(report, "compressed"))
                        restored = self.assert_decompress_agrees(output)
                        self.assertTrue(any(
                            values.tobytes() == weight.tobytes() for values in restored.values()))


def report_of(report, name):
    (entry,) = [entry for entry in report["weights"] if entry["name"] == name]
    return entry


if __name__ == "__main__":
    unittest.main()
