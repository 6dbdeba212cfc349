"""Every operator of ML Programs, run by the engine and compared with what it should compute."""

import shutil
import unittest

import support
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


if __name__ == "__main__":
    unittest.main()
