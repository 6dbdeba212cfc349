"""Packages that are compressed already: decompressing them, and compressing them again."""

import unittest

import support  # before coremltools, which it quiets
import coremltools as ct
from coremltools.optimize import coreml as cto

import networks
import reference
from comparison import ComparisonTest
from networks import lattice, normal, pair
from program import Program
from reference import Settings


class DecompressTest(ComparisonTest):
    """Our decompress on the packages that coremltools wrote."""

    def assert_decompressed(self, package):
        mine = Program(self.decompress(package))
        self.assertEqual(mine.operations("constexpr_"), [])
        judged = Program(reference.decompress(package, self.new_path())).weights()
        self.assert_bitwise_equal(mine.weights(), judged)

    def test_palettized_by_coremltools(self):
        new, old = pair(self.new_path()), pair(self.new_path(), target=ct.target.iOS16)
        single = pair(self.new_path(), dtype=networks.SINGLE)
        for package, settings in (
            (old, Settings(1)), (old, Settings(4)), (old, Settings(6)),
            (new, Settings(2)), (new, Settings(3)), (new, Settings(8)),
            (new, Settings.grouped(1)), (new, Settings.grouped(3)),
            (new, Settings.grouped(6)), (new, Settings.grouped(4, channel_axis=1)),
            (single, Settings(4)), (single, Settings.grouped(3)),
        ):
            with self.subTest(package=package.name, settings=str(settings)):
                self.assert_decompressed(reference.palettized(package, settings))

    def test_networks_palettized_by_coremltools(self):
        for name, settings in (
            ("resnet20-iOS16", Settings(4)), ("resnet20-iOS18", Settings(3)),
            ("resnet20-iOS18", Settings.grouped(8)),
        ):
            with self.subTest(name=name, settings=str(settings)):
                self.assert_decompressed(reference.palettized(support.model(name), settings))

    def test_palettes_of_vectors(self):
        choice = cto.OpPalettizerConfig(
            nbits=4, cluster_dim=2, granularity="per_grouped_channel", group_size=16)
        self.assert_decompressed(apply(
            cto.palettize_weights, choice, pair(self.new_path()), self.new_path()))

    def test_palettes_with_a_scale_for_each_channel(self):
        choice = cto.OpPalettizerConfig(nbits=4, enable_per_channel_scale=True)
        self.assert_decompressed(apply(
            cto.palettize_weights, choice, pair(self.new_path()), self.new_path()))

    def test_quantized_weights_are_left_alone(self):
        package = apply(
            cto.linear_quantize_weights, cto.OpLinearQuantizerConfig(), pair(self.new_path()),
            self.new_path())
        output = self.decompress(package)
        self.assertEqual(Program(output).signature(), Program(package).signature())
        self.assert_bitwise_equal(dense(output, self.new_path()), dense(package, self.new_path()))

    def test_nothing_to_do(self):
        package = pair(self.new_path())
        mine = Program(self.decompress(package))
        self.assert_bitwise_equal(mine.weights(), Program(package).weights())


class AlreadyCompressedTest(ComparisonTest):
    """Weights that are compressed stay as they are, whoever compressed them and how."""

    def assert_left_alone(self, package, settings=Settings(4)):
        before = Program(package)
        output, report = self.compress(package, *settings.arguments())
        after = Program(output)
        self.assertEqual(self.status_of(report, "compressed"), {})
        self.assert_skips_are_explained(report)
        listed = set(self.status_of(report, "skipped"))
        self.assertLessEqual({before.names()[use] for use in before.compressed_uses}, listed)
        self.assertEqual(after.signature(), before.signature())
        self.assertEqual(after.names(), before.names())
        self.assert_bitwise_equal(dense(output, self.new_path()), dense(package, self.new_path()))

    def assert_all_left_alone(self, make):
        """make(package, target) yields compressed versions of a package."""
        for target in (ct.target.iOS16, ct.target.iOS18):
            for number, compressed in enumerate(make(pair(self.new_path(), target=target), target)):
                with self.subTest(target=target, number=number):
                    self.assert_left_alone(compressed)

    def test_palettized_by_us(self):
        self.assert_all_left_alone(
            lambda package, target: [self.compress(package, "--nbits", 4)[0]])

    def test_palettized_by_coremltools(self):
        def make(package, target):
            yield reference.palettized(package, Settings(4))
            if target == ct.target.iOS18:
                yield reference.palettized(package, Settings.grouped(3))

        self.assert_all_left_alone(make)

    def test_quantized_by_coremltools(self):
        def make(package, target):
            choices = [cto.OpLinearQuantizerConfig(mode="linear_symmetric")]
            if target == ct.target.iOS18:
                choices.append(cto.OpLinearQuantizerConfig(
                    dtype="int4", granularity="per_block", block_size=32))
            for choice in choices:
                yield apply(cto.linear_quantize_weights, choice, package, self.new_path())

        self.assert_all_left_alone(make)

    def test_pruned_for_iOS16_by_coremltools(self):
        """From iOS18 on such weights are palettized: test_options.py."""
        choice = cto.OpMagnitudePrunerConfig(target_sparsity=0.5)
        for target in (ct.target.iOS16, ct.target.iOS17):
            pruned = apply(cto.prune_weights, choice, pair(self.new_path(), target=target),
                           self.new_path())
            self.assert_left_alone(pruned)
            _, report = self.compress(pruned, "--nbits", 4)
            for entry in self.status_of(report, "skipped").values():
                if "sparsified" in entry["name"]:
                    self.assertIn("needs iOS18", entry["reason"])

    def test_the_rest_is_compressed(self):
        package = networks.two_linears(self.new_path(), normal(64, 64), lattice(9, 48, 64))
        first, report = self.compress(package, "--mode", "unique")
        self.assertEqual(set(self.status_of(report, "compressed")), {"second_weight"})
        second, report = self.compress(first, "--nbits", 8)
        self.assertEqual(set(self.status_of(report, "compressed")), {"first_weight"})
        self.assertIn("second_weight", self.status_of(report, "skipped"))
        restored = self.assert_decompress_agrees(second)
        exact = {use: values for use, values in Program(package).weights().items()
                 if use.position == 2}
        self.assert_bitwise_equal({use: restored[use] for use in exact}, exact)


def apply(compress, choice, package, output):
    """One of coremltools' own compressions, with the given configuration of operators."""
    config = cto.OptimizationConfig(global_config=choice)
    return reference.save(compress(reference.open_model(package), config), output)


def dense(package, scratch):
    return Program(reference.decompress(package, scratch)).weights()


if __name__ == "__main__":
    unittest.main()
