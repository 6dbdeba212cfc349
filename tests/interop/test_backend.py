"""ONNX's own tests of single operators (onnx.backend.test, which come with the onnx package), for
every operator that the engine computes."""

import re
import tempfile
import unittest

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests

from runner import Failed, Runner

# What is known and left out, with the reason. Patterns match whole names of tests.
LEFT_OUT = {
    "types that hold no numbers, or that the engine does not compute with": [
        r".*_(string|strings)(_.*)?", r"test_(string|regex|tfidfvectorizer|label_encoder).*",
        r".*(float8|FLOAT8|e4m3fn|e5m2|float4|FLOAT4|e2m1|FLOAT4E2M1|E8M0|e8m0|uint2|UINT2|int2|INT2).*",
        r".*(sequence|optional).*", r"test_equal_string.*",
    ],
    "shapes that depend on data": [
        r"test_(compress|unique|nonzero|nonmaxsuppression|loop\d*|scan).*",
        r"test_.*_(loop).*",
    ],
    "training": [r".*training.*", r"test_(adam|adagrad|momentum|nesterov).*", r"test_.*_grad.*",
                 r"test_batchnorm_.*_training_mode", r"test_dropout_(?!default).*",
                 r"test_training_dropout.*"],
    "random numbers": [r"test_(bernoulli|random|multinomial).*"],
    "parameters that must be constant and are inputs in the test": [],
}


def left_out(name):
    return next((why for why, patterns in LEFT_OUT.items()
                 if any(re.fullmatch(pattern, name) for pattern in patterns)), None)


def to_array(value):
    """Tests come with arrays, or with tensors of types that NumPy has not."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def constants(model, inputs):
    """The model with those inputs as initializers that its operators read as parameters: where the
    shape of a result hangs on them, an engine of static shapes needs them so, and models have them
    so."""
    parameters = {("Reshape", 1), ("Expand", 1), ("Tile", 1), ("ConstantOfShape", 0), ("Slice", 1),
                  ("Slice", 2), ("Slice", 3), ("Slice", 4), ("Pad", 1), ("Pad", 3), ("TopK", 1),
                  ("Range", 0), ("Range", 1), ("Range", 2), ("Resize", 1), ("Resize", 2),
                  ("Resize", 3), ("Upsample", 1), ("OneHot", 1), ("CumSum", 1), ("Split", 1),
                  ("Squeeze", 1), ("Unsqueeze", 1), ("If", 0), ("CenterCropPad", 1)}
    named = set()
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if (node.op_type, i) in parameters or (node.op_type.startswith("Reduce") and i == 1):
                named.add(name)
    kept, arrays = [], []
    for info, array in zip(list(model.graph.input), inputs):
        if info.name in named:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
            model.graph.input.remove(info)
        else:
            kept.append(info)
            arrays.append(array)
    return arrays


class BackendTest(unittest.TestCase):
    """Every node test of the onnx package that is not left out by name, or whose operators the
    engine does not claim."""

    @classmethod
    def setUpClass(cls):
        cls.runner = Runner()

    @classmethod
    def tearDownClass(cls):
        cls.runner.close()

    def test_all(self):
        passed, unclaimed, excluded = 0, {}, {}
        for case in sorted(load_model_tests(kind="node"), key=lambda case: case.name):
            why = left_out(case.name)
            if why:
                excluded[why] = excluded.get(why, 0) + 1
                continue
            with self.subTest(case.name):
                operators = self.check(case)
                if operators:
                    unclaimed[operators] = unclaimed.get(operators, 0) + 1
                else:
                    passed += 1
        print(f"\nONNX backend node tests: {passed} pass; {sum(excluded.values())} left out "
              f"({excluded}); {sum(unclaimed.values())} of operators that are not computed: "
              f"{', '.join(sorted(unclaimed))}")
        self.assertGreater(passed, 900)

    def check(self, case):
        """The operators that are not claimed, if there are any."""
        for given, expected in case.data_sets:
            inputs = [to_array(value) for value in given]
            expected = [to_array(value) for value in expected]
            with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
                copy = onnx.ModelProto()
                copy.CopyFrom(case.model)
                arrays = constants(copy, inputs)
                onnx.save(copy, file.name)
                try:
                    results = self.runner.run(file.name, arrays)
                except Failed as failure:
                    text = str(failure)
                    if "operators that cannot be computed" in text:
                        return re.sub(r" '[^']*'", "", text.split("computed: ")[1])
                    raise AssertionError(text) from None
            self.assertEqual(len(results), len(expected))
            for result, wanted in zip(results, expected):
                self.assertEqual(result.shape, wanted.shape)
                np.testing.assert_allclose(
                    result.astype(np.float64), wanted.astype(np.float64),
                    rtol=max(case.rtol, 1e-3), atol=max(case.atol, 1e-6), equal_nan=True)
        return None


if __name__ == "__main__":
    unittest.main()
