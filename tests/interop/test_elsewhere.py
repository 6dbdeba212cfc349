"""Packages that coremltools palettized in forms that palettize does not write: decompressed here to
the values that coremltools finds in them."""

import pathlib
import unittest

import support  # before coremltools, which it quiets
import coremltools.optimize.coreml as cto
import numpy as np

import networks
import reference
from comparison import ComparisonTest
from networks import normal

PACKAGES = pathlib.Path(__file__).parent / "packages"


def weights(mlmodel):
    found = cto.get_weights_metadata(mlmodel, weight_threshold=0)
    return [weight.val for weight in found.values() if weight.val.ndim > 1]


class ElsewhereTest(ComparisonTest):
    def assert_decompressed_alike(self, package):
        theirs = weights(cto.decompress_weights(reference.open_model(package)))
        restored = self.decompress(package)
        ours = weights(reference.open_model(restored))
        self.assertEqual(len(ours), len(theirs))
        self.assertGreater(len(ours), 0)
        for a, b in zip(ours, theirs):
            np.testing.assert_array_equal(a, b)
        text = (restored / "Data/com.apple.CoreML/model.mlmodel").read_bytes()
        self.assertNotIn(b"constexpr_", text)  # nothing is left of it

    def test_made_through_pytorch(self):
        for name in ("lut_int8", "lut_uint8_grouped", "channel_scale"):
            with self.subTest(name=name):
                self.assert_decompressed_alike(PACKAGES / f"{name}.mlpackage")

    def test_made_by_palettize_weights(self):
        package = networks.linear(self.new_path(), normal(64, 64))
        for options in (
            {"enable_per_channel_scale": True},
            {"cluster_dim": 2},
            {"cluster_dim": 4, "granularity": "per_grouped_channel", "group_size": 16},
        ):
            with self.subTest(**options):
                config = cto.OptimizationConfig(
                    global_config=cto.OpPalettizerConfig(nbits=4, **options))
                palettized = cto.palettize_weights(reference.open_model(package), config)
                self.assert_decompressed_alike(reference.save(palettized, self.new_path()))


if __name__ == "__main__":
    unittest.main()
