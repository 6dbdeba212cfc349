"""The options beyond nbits and groups, each against what coremltools makes of the same setting."""

import json
import unittest
from pathlib import Path

import support  # noqa: F401  before coremltools, which it quiets
import coremltools as ct
import numpy as np
from coremltools.optimize import coreml as cto

import networks
import reference
from comparison import ComparisonTest, squared_error
from networks import HALF, SINGLE, lattice, mb, normal
from program import Program, shape_of
from reference import Settings

NEW, NEWEST = ct.target.iOS18, ct.target.iOS26
PACKAGES = Path(__file__).parent / "packages"
GROUPED = ["--granularity", "per_grouped_channel", "--group-size", "8"]


def conv_and_linear(path, **options):
    """A convolution and a linear operator, both with weights that are compressed."""
    dtype = options.get("dtype", HALF)

    def body(x):
        maps = mb.conv(x=x, weight=mb.const(val=normal(32, 16, 3, 3, dtype=dtype), name="maps_w"))
        means = mb.reduce_mean(x=mb.relu(x=maps), axes=[2, 3], keep_dims=False)
        return mb.linear(
            x=means, weight=mb.const(val=normal(96, 32, seed=3, dtype=dtype), name="means_w"))

    return networks.build(path, (1, 16, 8, 8), body, **options)


class OptionsTest(ComparisonTest):
    def networks(self):
        for target in (NEW, NEWEST):
            for dtype in (HALF, SINGLE) if support.FULL else (HALF if target == NEW else SINGLE,):
                yield target, conv_and_linear(self.new_path(), target=target, dtype=dtype)

    def assert_refused_by_version(self, *options):
        package = conv_and_linear(self.new_path(), target=ct.target.iOS16)
        output = self.new_path()
        self.assert_refused(["compress", package, "-o", output, *options], output,
                            "needs opset iOS18", options[-2].lstrip("-").replace("-", "_"))


class ChannelScaleTest(OptionsTest):
    """enable_per_channel_scale"""

    def test_widths(self):
        for target, package in self.networks():
            for nbits in (1, 3, 4, 8) if support.FULL else (2, 8):
                with self.subTest(target=target, nbits=nbits):
                    self.compare(package, Settings(nbits, enable_per_channel_scale=True))

    def test_groups(self):
        for target, package in self.networks():
            for axis in (None, 1):
                with self.subTest(target=target, channel_axis=axis):
                    self.compare(package, Settings.grouped(
                        4, 8, channel_axis=axis, enable_per_channel_scale=True))

    def test_operators(self):
        settings = Settings(4, enable_per_channel_scale=True)
        self.compare(networks.conv_transpose(self.new_path(), normal(24, 32, 3, 3)), settings)
        for transpose in (False, True):
            self.compare(networks.matmul(self.new_path(), normal(64, 64), transpose), settings)
        self.compare(networks.embedding(self.new_path(), normal(96, 40)), settings)

    def test_modes(self):
        package = conv_and_linear(self.new_path())
        self.compare(package, Settings(4, mode="uniform", enable_per_channel_scale=True))
        # A few values times a scale for each input: the distinct values are the divided ones.
        weight = lattice(5, 96, 64) * (2.0 ** np.arange(64) % 31).astype(HALF)
        package = networks.linear(self.new_path(), weight)
        output, report = self.compress(
            package, "--mode", "unique", "--enable-per-channel-scale", "true")
        (entry,) = self.status_of(report, "compressed").values()
        self.assertLessEqual(entry["nbits"], 8)
        self.assert_decompress_agrees(output)

    def test_channels_of_zeros(self):
        weight = normal(96, 32)
        weight[:, 5] = 0
        weight[:, 6] *= HALF(1e-4)
        output, report = self.compare(
            networks.linear(self.new_path(), weight), Settings(4, enable_per_channel_scale=True))
        restored = self.assert_decompress_agrees(output)
        (values,) = [value for value in restored.values() if value.shape == weight.shape]
        self.assertLess(np.abs(values[:, 5]).max(), 1e-4)

    def test_what_is_skipped_is_unchanged(self):
        """coremltools has divided such a weight by its scales already when it gives up on it."""
        package = networks.linear(self.new_path(), normal(64, 64))  # of float16: 4096 values
        _, report = self.compare(
            networks.two_linears(self.new_path(), normal(64, 64), normal(30, 64)),
            Settings(4, enable_per_channel_scale=True))
        self.assertIn("second_weight", self.status_of(report, "skipped"))
        output, report = self.compress(
            package, "--mode", "unique", "--enable-per-channel-scale", "true")
        self.assertEqual(self.status_of(report, "compressed"), {})
        self.assert_bitwise_equal(Program(output).weights(), Program(package).weights())

    def test_vectors(self):
        """Before iOS26 coremltools cannot write them, but reads ours."""
        for target in (NEW, NEWEST):
            package = conv_and_linear(self.new_path(), target=target)
            settings = Settings(4, cluster_dim=2, enable_per_channel_scale=True)
            if target == NEWEST:
                self.compare(package, settings)
            else:
                output, _ = self.compress(package, *settings.arguments())
                self.assert_decompress_agrees(output)

    def test_version(self):
        self.assert_refused_by_version("--nbits", "4", "--enable-per-channel-scale", "true")


class IntegerTableTest(OptionsTest):
    """lut_dtype"""

    def test_against_quantized_tables(self):
        """coremltools palettizes and then quantizes the tables; those of 2 bit it leaves alone."""
        for dtype in (HALF, SINGLE):
            package = conv_and_linear(self.new_path(), dtype=dtype)
            for lut_dtype in ("int8", "uint8"):
                for nbits in (4, 6, 8) if support.FULL else (4, 8):
                    with self.subTest(dtype=dtype.__name__, lut_dtype=lut_dtype, nbits=nbits):
                        self.compare(package, Settings(nbits, lut_dtype=lut_dtype))

    def test_form_of_packages_made_through_pytorch(self):
        """The same operators, types and shapes, tables of every group scaled on their own."""
        for name, options in (
            ("lut_int8", ["--nbits", "4", "--lut-dtype", "int8"]),
            ("lut_uint8_grouped", ["--nbits", "2", "--lut-dtype", "uint8", *GROUPED]),
        ):
            with self.subTest(name=name):
                theirs = PACKAGES / f"{name}.mlpackage"
                dense = reference.decompress(theirs, self.new_path())
                output, _ = self.compress(dense, *options)
                self.assertEqual(Program(output).signature(), Program(theirs).signature())
                restored = self.assert_decompress_agrees(output)
                weights = Program(dense).weights()
                for use, values in weights.items():
                    self.assertLess(squared_error(values, restored[use]),
                                    1e-3 * np.sum(values.astype(np.float64) ** 2))

    def test_form_from_iOS26_on(self):
        """Looked up as integers, and then scaled, as coremltools converts from PyTorch."""
        package = conv_and_linear(self.new_path(), target=NEWEST)
        output, _ = self.compress(package, "--nbits", "4", "--lut-dtype", "uint8", *GROUPED)
        look_up, scale = Program(output).operations("constexpr_")[:2]
        self.assertEqual(look_up.type, "constexpr_lut_to_dense")
        self.assertEqual(scale.type, "constexpr_blockwise_shift_scale")
        self.assertEqual(shape_of(look_up.inputs["lut"].arguments[0].value.type),
                         (4, 1, 1, 1, 16, 1))
        for parameter in ("scale", "offset"):
            self.assertEqual(
                shape_of(scale.inputs[parameter].arguments[0].value.type), (4, 1, 1, 1))
        self.assertEqual(scale.inputs["data"].arguments[0].name, look_up.outputs[0].name)

    def test_everywhere(self):
        """Our decompress, coremltools' and the report agree for every form."""
        for target, package in self.networks():
            for options in (
                ["--nbits", "1"], ["--nbits", "3", *GROUPED], ["--nbits", "8", *GROUPED],
                ["--nbits", "4", "--mode", "uniform"], ["--nbits", "4", "--cluster-dim", "2"],
                ["--mode", "custom", "--lut", "[-1.3, -0.4, 0.4, 1.3]"],
            ):
                for lut_dtype in ("int8", "uint8"):
                    with self.subTest(target=target, options=options, lut_dtype=lut_dtype):
                        output, report = self.compress(
                            package, *options, "--lut-dtype", lut_dtype)
                        restored = self.assert_decompress_agrees(output)
                        original, ours = Program(package), Program(output)
                        self.assert_report_is_true(
                            report, original, original.weights(), ours, restored, output)

    def test_costs_little(self):
        package = conv_and_linear(self.new_path())
        for options in (["--nbits", "4"], ["--nbits", "4", *GROUPED],
                        ["--nbits", "3", "--cluster-dim", "2"]):
            _, exact = self.compress(package, *options)
            for lut_dtype in ("int8", "uint8"):
                _, rounded = self.compress(package, *options, "--lut-dtype", lut_dtype)
                before, after = (self.status_of(r, "compressed") for r in (exact, rounded))
                self.assertEqual(set(before), {"maps_w", "means_w"})
                for name, entry in before.items():
                    self.assertLessEqual(
                        after[name]["mse"], 1.01 * entry["mse"], (options, lut_dtype))

    def test_extreme_values(self):
        for dtype, value in ((HALF, 65504), (HALF, 6e-8), (SINGLE, 3e38), (SINGLE, 1e-40)):
            weight = normal(64, 64, dtype=dtype)
            weight = (weight / np.abs(weight).max() * dtype(value)).astype(dtype)
            package = networks.linear(self.new_path(), weight)
            for lut_dtype in ("int8", "uint8"):
                with self.subTest(value=value, lut_dtype=lut_dtype):
                    output, _ = self.compress(package, "--nbits", 4, "--lut-dtype", lut_dtype)
                    restored = self.assert_decompress_agrees(output)
                    for values in restored.values():
                        self.assertTrue(np.isfinite(values).all())

    def test_refused(self):
        self.assert_refused_by_version("--nbits", "4", "--lut-dtype", "int8")
        package, output = conv_and_linear(self.new_path()), self.new_path()
        self.assert_refused(
            ["compress", package, "-o", output, "--nbits", "4", "--lut-dtype", "int8",
             "--enable-per-channel-scale", "true"], output, "exclude each other")


class PrunedTest(OptionsTest):
    """Weights of which zeros are left out: coremltools' joint compression."""

    def pruned(self, package, sparsity=0.5):
        choice = cto.OpMagnitudePrunerConfig(target_sparsity=sparsity)
        config = cto.OptimizationConfig(global_config=choice)
        return reference.save(
            cto.prune_weights(reference.open_model(package), config), self.new_path())

    def assert_zeros_stay(self, package, output):
        before = Program(reference.decompress(package, self.new_path())).weights()
        after = Program(self.decompress(output)).weights()
        for use, values in before.items():
            np.testing.assert_array_equal(after[use][values == 0], 0)

    def test_widths_and_groups(self):
        for target, package in self.networks():
            pruned = self.pruned(package)
            for settings in (
                Settings(4, joint=True), Settings(2, joint=True), Settings(8, joint=True),
                Settings.grouped(3, 8, joint=True),
                Settings.grouped(1, 8, channel_axis=1, joint=True),
                Settings(4, mode="uniform", joint=True),
            )[:6 if support.FULL or target == NEW else 2]:
                with self.subTest(target=target, settings=str(settings)):
                    output, report = self.compare(pruned, settings)
                    self.assert_zeros_stay(pruned, output)
                    shown = json.loads(self.succeed("inspect", output, "--json").stdout)
                    shown = {entry["name"]: entry for entry in shown["weights"]}
                    for name, entry in self.status_of(report, "compressed").items():
                        self.assertEqual(entry["storage"], "sparse, palettized")
                        for key in ("storage", "nbits", "num_luts", "bytes"):
                            self.assertEqual(shown[name][key], entry[key], key)

    def test_unique(self):
        weight = lattice(12, 64, 64)
        pruned = self.pruned(networks.linear(self.new_path(), weight))
        _, report = self.compare(pruned, Settings(mode="unique", joint=True))
        (entry,) = self.status_of(report, "compressed").values()
        self.assertEqual(entry["mse"], 0)

    def test_groups_without_values(self):
        weight = normal(64, 64)
        weight[8:24] = 0
        pruned = self.pruned(networks.linear(self.new_path(), weight), 0.3)
        for options in (GROUPED, [*GROUPED, "--lut-dtype", "uint8"],
                        [*GROUPED, "--channel-axis", "1"]):
            output, _ = self.compress(pruned, "--nbits", "4", *options)
            self.assert_decompress_agrees(output)
            self.assert_zeros_stay(pruned, output)

    def test_integer_tables(self):
        for _, package in self.networks():
            pruned = self.pruned(package)
            output, _ = self.compress(pruned, "--nbits", "4", "--lut-dtype", "int8", *GROUPED)
            self.assert_decompress_agrees(output)
            self.assert_zeros_stay(pruned, output)

    def test_decompressing_coremltools(self):
        pruned = self.pruned(conv_and_linear(self.new_path()))
        for settings in (Settings(4, joint=True), Settings.grouped(2, 8, joint=True),
                         Settings(4, lut_dtype="int8", joint=True)):
            theirs = reference.palettized(pruned, settings)
            mine = Program(self.decompress(theirs))
            self.assertEqual(mine.operations("constexpr_"), [])
            judged = Program(reference.decompress(theirs, self.new_path())).weights()
            self.assert_bitwise_equal(mine.weights(), judged)

    def test_what_cannot_be(self):
        pruned = self.pruned(conv_and_linear(self.new_path()))
        for option, word in ((["--cluster-dim", "2"], "vectors"),
                             (["--enable-per-channel-scale", "true"], "scales")):
            _, report = self.compress(pruned, "--nbits", "4", *option)
            self.assertEqual(self.status_of(report, "compressed"), {})
            skipped = self.status_of(report, "skipped")["maps_w_sparsified"]
            self.assertRegex(skipped["reason"], f"pruned.*{word}")


class CustomTest(OptionsTest):
    """mode custom: coremltools takes a function, ours the table that it would return."""

    TABLE = [0.0, 2.0, -0.5, 0.5, -1.0, 1.0, -2.0, 0.1]

    def theirs(self, package, table, **options):
        def nearest(weight):
            entries = np.array(table, weight.dtype)
            distance = np.abs(weight.reshape(-1, 1).astype(np.float64) - entries)
            return entries, distance.argmin(axis=1).astype(np.uint8)

        choice = cto.OpPalettizerConfig(mode="custom", lut_function=nearest, **options)
        config = cto.OptimizationConfig(global_config=choice)
        return reference.save(
            cto.palettize_weights(reference.open_model(package), config), self.new_path())

    def assert_alike(self, package, theirs, *options):
        output, _ = self.compress(package, "--mode", "custom", *options)
        self.assert_same_graph(Program(output), Program(theirs))
        restored = self.assert_decompress_agrees(output)
        judged = Program(reference.decompress(theirs, self.new_path())).weights()
        weights = Program(package).weights()
        self.assert_not_worse(weights, restored, judged, Program(theirs).compressed_uses)

    def test_against_coremltools(self):
        array = self.folder / "table.npy"
        np.save(array, np.array(self.TABLE))
        for _, package in self.networks():
            theirs = self.theirs(package, self.TABLE)
            self.assert_alike(package, theirs, "--lut", array)
            self.assert_alike(package, theirs, "--lut", str(self.TABLE))
            grouped = dict(granularity="per_grouped_channel", group_size=8)
            self.assert_alike(
                package, self.theirs(package, self.TABLE, **grouped), "--lut", array, *GROUPED)

    def test_the_table_is_kept(self):
        package = networks.linear(self.new_path(), normal(64, 64, dtype=SINGLE))
        output, _ = self.compress(package, "--mode", "custom", "--lut", str(self.TABLE))
        (operation,) = Program(output).operations("constexpr_lut_to_dense")
        value = operation.inputs["lut"].arguments[0].value
        np.testing.assert_array_equal(
            Program(output).array(value).ravel(), np.array(self.TABLE, np.float32))

    def test_vectors(self):
        pairs = np.random.default_rng(5).standard_normal((16, 2)).astype(np.float32)
        array = self.folder / "pairs.npy"
        np.save(array, pairs)
        weight = normal(64, 48, dtype=SINGLE)
        package = networks.linear(self.new_path(), weight)
        output, report = self.compress(
            package, "--mode", "custom", "--lut", array, "--cluster-dim", "2")
        restored = self.assert_decompress_agrees(output)
        (values,) = [value for value in restored.values() if value.shape == weight.shape]
        vectors = weight.reshape(32, 2, 48).transpose(0, 2, 1).reshape(-1, 1, 2)
        distance = ((vectors - pairs) ** 2).sum(axis=-1)
        expected = pairs[distance.argmin(axis=1)].reshape(32, 48, 2).transpose(0, 2, 1)
        np.testing.assert_array_equal(values, expected.reshape(64, 48))

    def test_in_a_configuration(self):
        config = self.folder / "config.yaml"
        config.write_text(f"global_config: {{mode: custom, lut: {self.TABLE}}}\n")
        package = conv_and_linear(self.new_path())
        outputs = [
            self.compress(package, "--config", config)[0],
            self.compress(package, "--mode", "custom", "--lut", str(self.TABLE))[0]]
        weights = [Program(self.decompress(output)).weights() for output in outputs]
        self.assert_bitwise_equal(*weights)

    def test_too_large_for_the_type(self):
        package = networks.linear(self.new_path(), normal(64, 64))
        _, report = self.compress(package, "--mode", "custom", "--lut", "[-1, 70000]")
        self.assertIn("70000", self.status_of(report, "skipped")["fc_weight"]["reason"])


class GroupedModesTest(OptionsTest):
    """unique and uniform with groups, unique with vectors."""

    def test_uniform(self):
        for _, package in self.networks():
            for nbits in (1, 4, 8):
                self.compare(package, Settings.grouped(nbits, 8, mode="uniform"))

    def test_unique(self):
        for counts in ((3, 3), (20, 200)):  # distinct values of each half of the channels
            weight = np.concatenate([lattice(count, 32, 64, seed=count) for count in counts])
            package = networks.linear(self.new_path(), weight)
            _, report = self.compare(package, Settings(
                mode="unique", granularity="per_grouped_channel", group_size=32))
            (entry,) = self.status_of(report, "compressed").values()
            self.assertEqual(entry["mse"], 0)

    def test_unique_vectors(self):
        rng = np.random.default_rng(2)
        for count in (2, 7, 200, 300):
            vectors = rng.standard_normal((count, 4)).astype(HALF)
            rows = vectors[rng.integers(0, count, 16 * 64)].reshape(16, 64, 4)
            weight = rows.transpose(0, 2, 1).reshape(64, 64)
            package = networks.linear(self.new_path(), weight)
            for granularity in ("per_tensor", "per_grouped_channel"):
                with self.subTest(count=count, granularity=granularity):
                    _, report = self.compare(package, Settings(
                        mode="unique", cluster_dim=4, granularity=granularity, group_size=16))
                    if count == 300 and granularity == "per_tensor":
                        skipped = self.status_of(report, "skipped")["fc_weight"]
                        self.assertIn("distinct vectors", skipped["reason"])

    def test_vectors(self):
        package = conv_and_linear(self.new_path())
        for settings in (Settings(4, cluster_dim=2), Settings.grouped(2, 8, cluster_dim=4)):
            self.compare(package, settings)


class OperatorConfigTest(OptionsTest):
    """A weight that several operators use."""

    def package(self):
        def body(x):
            both = mb.const(val=normal(64, 64), name="both")
            hidden = mb.relu(x=mb.linear(x=x, weight=both, name="first"))
            return mb.matmul(x=hidden, y=both, transpose_y=True, name="second")

        return networks.build(self.new_path(), (1, 64), body)

    def theirs(self, package, **configs):
        config = cto.OptimizationConfig(**configs)
        return cto.palettize_weights(reference.open_model(package), config)

    def compress_with(self, package, text):
        config = self.folder / "config.yaml"
        config.write_text(text)
        output, report = self.compress(package, "--config", config)
        (entry,) = [entry for entry in report["weights"] if entry["name"] == "both"]
        return entry

    def test_conflict(self):
        package = self.package()
        four, two = cto.OpPalettizerConfig(nbits=4), cto.OpPalettizerConfig(nbits=2)
        with self.assertRaisesRegex(ValueError, "conflict"):
            self.theirs(package, global_config=four, op_type_configs={"matmul": two})
        entry = self.compress_with(
            package, "global_config: {nbits: 4}\nop_type_configs: {matmul: {nbits: 2}}\n")
        self.assertEqual(entry["status"], "skipped")
        self.assertRegex(entry["reason"], "linear and matmul have different options")

    def test_agreement(self):
        package = self.package()
        entry = self.compress_with(
            package,
            "global_config: {nbits: 8}\nop_type_configs: {matmul: {nbits: 2}, linear: {nbits: 2}}\n")
        self.assertEqual(entry["nbits"], 2)

    def test_by_the_operators_names(self):
        package = self.package()
        two = cto.OpPalettizerConfig(nbits=2)
        theirs = reference.save(
            self.theirs(package, op_name_configs={"first": two, "second": two}), self.new_path())
        self.assertEqual(len(Program(theirs).operations("constexpr_")), 1)
        entry = self.compress_with(
            package, "op_name_configs: {first: {nbits: 2}, second: {nbits: 2}}\n")
        self.assertEqual(entry["nbits"], 2)

    def test_the_weights_name_decides(self):
        entry = self.compress_with(
            self.package(),
            "op_type_configs: {matmul: {nbits: 2}}\nop_name_configs: {both: {nbits: 1}}\n")
        self.assertEqual(entry["nbits"], 1)


class ConfigurationFileTest(OptionsTest):
    """One YAML file, read by coremltools and by our command."""

    FILES = (
        """
config_type: OpPalettizerConfig
global_config:
  mode: kmeans
  nbits: 6
""", """
config_type: OpPalettizerConfig
global_config: {nbits: 8}
op_type_configs:
  conv:
    mode: uniform
    nbits: 2
    granularity: per_grouped_channel
    group_size: 8
  linear: {nbits: 4, num_kmeans_workers: 1}
""", """
config_type: OpPalettizerConfig
global_config: {nbits: 4, weight_threshold: 4000}
op_type_configs:
  linear: {nbits: 3, weight_threshold: 1000}
op_name_configs:
  maps_w: null
""", """
config_type: OpPalettizerConfig
op_name_configs:
  means_w: {nbits: 2, cluster_dim: 2, granularity: per_grouped_channel, group_size: 16}
""")

    def test_the_same_file(self):
        package = conv_and_linear(self.new_path())
        weights = Program(package).weights()
        for text in self.FILES:
            with self.subTest(file=text):
                config = self.folder / "config.yaml"
                config.write_text(text)
                theirs = reference.save(cto.palettize_weights(
                    reference.open_model(package),
                    cto.OptimizationConfig.from_yaml(str(config))), self.new_path())
                output, _ = self.compress(package, "--config", config)
                self.assert_same_graph(Program(output), Program(theirs))
                self.assertEqual(Program(output).compressed_uses, Program(theirs).compressed_uses)
                restored = self.assert_decompress_agrees(output)
                judged = Program(reference.decompress(theirs, self.new_path())).weights()
                self.assert_not_worse(
                    weights, restored, judged, Program(theirs).compressed_uses)
                self.assert_printed_is_the_same(package, config, restored)

    def assert_printed_is_the_same(self, package, config, restored):
        printed = self.folder / "printed.yaml"
        printed.write_text(self.succeed(
            "compress", package, "-o", self.new_path(), "--config", config,
            "--print-config").stdout)
        output, _ = self.compress(package, "--config", printed)
        self.assert_bitwise_equal(Program(self.decompress(output)).weights(), restored)


if __name__ == "__main__":
    unittest.main()
