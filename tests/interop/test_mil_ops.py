"""Every operator of ML Programs, run by the engine and compared with what it should compute."""

import shutil
import unittest

import support
import coremltools as ct
import numpy as np

import mil_ops
from runner import Runner

# Float32 against double, or against float32 in another order.
RELATIVE, ABSOLUTE = 2e-5, 2e-5


class MilOperatorTest(unittest.TestCase):
    def setUp(self):
        self.runner = Runner()
        self.addCleanup(self.runner.close)

    def run_case(self, case):
        package = support.scratch() / "mil.mlpackage"
        shutil.rmtree(package, ignore_errors=True)
        mil_ops.save(case, package)
        # A model's inputs are no booleans: the program makes them of numbers.
        inputs = {name: x.astype(np.float32) if x.dtype == bool else x
                  for name, x in zip(mil_ops.input_names(case), case.inputs)}
        return self.runner.run(package, inputs)

    def test_all(self):
        for case in mil_ops.CASES:
            with self.subTest(case.name):
                expected = mil_ops.expected_of(case)
                found = self.run_case(case)
                self.assertEqual(len(found), len(expected))
                for got, want in zip(found, expected):
                    self.assertEqual(got.shape, want.shape)
                    np.testing.assert_allclose(got, want.astype(got.dtype), RELATIVE, ABSOLUTE)

    def test_extents_in_double_precision(self):
        """With NumPy 1 coremltools takes the product of 5 and 1.4 as a float for 6: the extent that
        a file declares is the one that its other operators count on."""
        for name in ("upsample_nearest_neighbor", "upsample_bilinear"):
            with self.subTest(name):
                (case,) = (case for case in mil_ops.CASES if case.name == f"{name} to whole extents")
                package = support.scratch() / "declared.mlpackage"
                shutil.rmtree(package, ignore_errors=True)
                mil_ops.save(case, package)
                (path,) = package.rglob("model.mlmodel")
                spec = ct.proto.Model_pb2.Model.FromString(path.read_bytes())
                (function,) = spec.mlProgram.functions.values()
                (block,) = function.block_specializations.values()
                (upsample,) = (op for op in block.operations if op.type == name)
                height, width = upsample.outputs[0].type.tensorType.dimensions[2:]
                self.assertEqual((height.constant.size, width.constant.size), (7, 23))
                height.constant.size, width.constant.size = 6, 22
                path.write_bytes(spec.SerializeToString())
                self.assertEqual(self.runner.run(package, list(case.inputs))[0].shape,
                                 (1, 2, 6, 22))


if __name__ == "__main__":
    unittest.main()
