"""What compression must not touch, and that it always writes the same bytes."""

import unittest

import support  # before coremltools, which it quiets
import coremltools as ct

import networks
import reference
from comparison import ComparisonTest
from networks import lattice, normal, pair
from program import Program, load_spec
from reference import Settings


class PreservationTest(ComparisonTest):
    def described(self):
        mlmodel = reference.open_model(pair(self.new_path()))
        mlmodel.short_description = "Two layers"
        mlmodel.author, mlmodel.license, mlmodel.version = "Nobody", "Apache-2.0", "1.2 \u03b2"
        mlmodel.user_defined_metadata["labels"] = "cat,dog"
        mlmodel.user_defined_metadata["empty"] = ""
        mlmodel.input_description["x"] = "what goes in"
        for name in list(mlmodel.output_description):
            mlmodel.output_description[name] = "what comes out"
        return reference.save(mlmodel, self.new_path())

    def assert_round_trip(self, package, *options):
        """Compressed and decompressed, only values and their places in the file differ."""
        compressed, _ = self.compress(package, *options)
        self.assertEqual(load_spec(compressed).description, load_spec(package).description)
        restored = self.decompress(compressed)
        self.assertEqual(without_places(restored), without_places(package))
        self.assertEqual(Program(restored).names(), Program(package).names())

    def test_descriptions_and_metadata(self):
        self.assert_round_trip(self.described(), "--nbits", 4)

    def test_round_trip_of_networks(self):
        for name in ("resnet20-iOS16", "mobilenetv3small-cifar-iOS18"):
            with self.subTest(name=name):
                self.assert_round_trip(support.model(name), "--nbits", 2)

    def test_round_trip_of_nested_blocks(self):
        package = networks.branches(self.new_path(), normal(64, 64), normal(64, 64, seed=1))
        self.assert_round_trip(package, "--nbits", 4)

    def test_files_beside_the_model(self):
        package = pair(self.new_path())
        output, _ = self.compress(package, "--nbits", 4)
        self.assertEqual(set(support.files_of(output)), set(support.files_of(package)))
        self.assertEqual(
            support.files_of(output)["Manifest.json"], support.files_of(package)["Manifest.json"])

    def test_lossless_palette(self):
        package = networks.linear(self.new_path(), lattice(16, 64, 64))
        restored = self.decompress(self.compress(package, "--nbits", 4)[0])
        self.assert_bitwise_equal(Program(restored).weights(), Program(package).weights())

    def pipeline(self):
        """Two models in a row, each with a weight of 16 distinct values."""
        models = []
        for seed, (source, target) in enumerate((("x", "y"), ("y", "z"))):
            mlmodel = reference.open_model(
                networks.linear(self.new_path(), lattice(16, 64, 64, seed=seed), name=target))
            spec = mlmodel.get_spec()
            for feature, name in ((spec.description.input[0], source),
                                  (spec.description.output[0], target)):
                if feature.name != name:
                    ct.utils.rename_feature(spec, feature.name, name)
            models.append(ct.models.MLModel(
                spec, weights_dir=mlmodel.weights_dir, skip_model_load=True))
        return reference.save(ct.utils.make_pipeline(*models), self.new_path())

    def test_pipeline(self):
        package = self.pipeline()
        compressed, report = self.compress(package, "--nbits", 4)
        self.assertEqual([w["status"] for w in report["weights"]].count("compressed"), 2)
        for part in load_spec(compressed).pipeline.models:
            block, = part.mlProgram.functions["main"].block_specializations.values()
            self.assertEqual(block.operations[0].type, "constexpr_lut_to_dense")
        reference.open_model(compressed)
        before, after = (support.files_of(p) for p in (package, self.decompress(compressed)))
        self.assertEqual(set(before), set(after))
        for name in before:
            if name.endswith(".bin"):
                self.assertEqual(before[name], after[name], name)

    def test_multifunction(self):
        package = networks.multifunction(
            self.new_path(), self.folder, normal(64, 64),
            {"encode": normal(48, 64, seed=1), "decode": normal(80, 64, seed=2)})
        self.assert_round_trip(package, "--nbits", 4)
        output, report = self.compress(package, "--nbits", 4)
        original, mine = Program(package), Program(output)
        self.assertEqual(set(mine.nodes), {"encode", "decode"})
        self.assertEqual(len(mine.compressed_uses), 4)
        self.assertEqual(original.spec.mlProgram.functions.keys(),
                         mine.spec.mlProgram.functions.keys())
        # The layer both functions share is still stored once: 3 layers of 4 bits.
        values = (64 + 48 + 80) * 64
        self.assertLess(support.size_of(package) - support.size_of(output), values * 2)
        self.assertGreater(support.size_of(package) - support.size_of(output), values * 1.4)
        self.assertEqual(reference.open_model(output)._is_multifunction(), True)
        self.assert_materializes(output, self.decompress(output))

    def assert_materializes(self, compressed, restored):
        """coremltools reads the same values from both (decompress_weights takes no functions)."""
        theirs = materialized(compressed)
        self.assertEqual(len(theirs), 4)
        mine = Program(restored)
        for use, values in mine.weights(minimum=2048).items():
            name = mine.names()[use]
            self.assertEqual(theirs[use.function, name].tobytes(), values.tobytes(), use)


class DeterminismTest(ComparisonTest):
    def assert_same_bytes(self, package, *options):
        first = support.files_of(self.compress(package, *options, "--threads", 1)[0])
        for threads in (1, 2):
            again = support.files_of(self.compress(package, *options, "--threads", threads)[0])
            self.assertEqual(list(again), list(first))
            for name, content in first.items():
                self.assertTrue(again[name] == content, f"{name} differs, {threads} threads")

    def test_synthetic(self):
        package = pair(self.new_path())
        self.assert_same_bytes(package, "--nbits", 3)
        self.assert_same_bytes(package, *Settings.grouped(4).arguments())

    def test_networks(self):
        self.assert_same_bytes(support.model("mobilenetv3small-cifar-iOS18"), "--nbits", 4)
        self.assert_same_bytes(support.model("resnet20-iOS16"), "--nbits", 6)


def without_places(package):
    """The package's protobuf less the offsets into the weight file."""
    spec = load_spec(package)
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            _forget_offsets(block)
    return spec


def _forget_offsets(block):
    for op in block.operations:
        for value in op.attributes.values():
            if value.WhichOneof("value") == "blobFileValue":
                value.blobFileValue.offset = 0
        for inner in op.blocks:
            _forget_offsets(inner)


def materialized(package):
    """The dense value of each palette, as coremltools computes it: (function, name) -> array."""
    mlmodel = reference.open_model(package)
    program = ct.models.utils._convert_model_spec_to_pymil_prog(
        mlmodel, mlmodel.get_spec().specificationVersion,
        ct.converters.mil.frontend.milproto.load.load)
    return {
        (function, op.outputs[0].name): op.materialized_val_inference()
        for function, body in program.functions.items() for op in body.operations
        if op.op_type.startswith("constexpr_")
    }


if __name__ == "__main__":
    unittest.main()
