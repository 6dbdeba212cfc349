"""ONNX's own tests of operators and small models (onnx.backend.test, which come with the onnx
package), for every operator that the engine computes.

A case whose model has an operator that is not computed must be refused with a message that names
it; every other case must come out as expected, but for those that LEFT_OUT names with the reason.
"""

import collections
import re
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests

from runner import Failed, Runner, operators
from support import JOBS, in_parallel

KINDS = ["node", "simple", "pytorch-converted", "pytorch-operator"]

# Patterns match whole names of tests.
LEFT_OUT = {
    "types that hold no numbers, or that the engine does not compute with": [
        r".*_(string|strings)(_.*)?", r"test_(string|strnorm|regex|tfidfvectorizer|label_encoder).*",
        r".*(float8|FLOAT8|e4m3fn|e5m2|float4|FLOAT4|e2m1|FLOAT4E2M1|E8M0|e8m0).*",
        r".*(uint2|UINT2|int2|INT2)(_.*)?", r".*(sequence|optional).*", r"test_identity_opt",
    ],
    "operators of traditional machine learning (ai.onnx.ml)": [r"test_ai_onnx_ml_.*"],
    "shapes that depend on data": [
        r"test_(compress|unique|nonzero|nonmaxsuppression|loop\d*|scan).*",
        r"test_.*_(loop).*",
    ],
    "training": [r".*training.*", r"test_(adam|adagrad|momentum|nesterov).*", r"test_.*_grad.*",
                 r"test_batchnorm_.*_training_mode", r"test_dropout_(?!default).*",
                 r"test_training_dropout.*"],
    "random numbers": [r"test_(bernoulli|random|multinomial).*"],
    "doubles of memory that was never set, beyond the range of a float": [
        r"test_operator_add(constant|(_size1(_right|_singleton)?)?_broadcast)"],
}

# Where the shape of a result hangs on an input, an engine of static shapes needs it to be constant,
# and models have it so. (Operator, input): such inputs become initializers of the model, and so do
# those that they are computed from.
PARAMETERS = {
    ("AffineGrid", 1), ("BlackmanWindow", 0), ("CenterCropPad", 1), ("Col2Im", 1), ("Col2Im", 2),
    ("ConstantOfShape", 0), ("CumProd", 1), ("CumSum", 1), ("Expand", 1), ("HammingWindow", 0),
    ("HannWindow", 0), ("If", 0), ("MaxUnpool", 2), ("OneHot", 1), ("Pad", 1), ("Pad", 3),
    ("Range", 0), ("Range", 1), ("Range", 2), ("Reshape", 1), ("Resize", 1), ("Resize", 2),
    ("Resize", 3), ("Slice", 1), ("Slice", 2), ("Slice", 3), ("Slice", 4), ("Split", 1),
    ("Squeeze", 1), ("Tile", 1), ("TopK", 1), ("Unsqueeze", 1), ("Upsample", 1),
}


def left_out(name):
    return next((why for why, patterns in LEFT_OUT.items()
                 if any(re.fullmatch(pattern, name) for pattern in patterns)), None)


def to_array(value):
    """Tests come with arrays, or with tensors of types that NumPy has not."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def read_tensor(path):
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def contents(case):
    """The model of a case, and pairs of inputs and outputs."""
    if case.model is not None:
        return case.model, [([to_array(value) for value in given],
                             [to_array(value) for value in wanted])
                            for given, wanted in case.data_sets]
    folder = Path(case.model_dir)
    return onnx.load(folder / "model.onnx"), [
        tuple([read_tensor(data / f"{what}_{i}.pb")
               for i in range(len(list(data.glob(f"{what}_*.pb"))))] for what in ("input", "output"))
        for data in sorted(folder.glob("test_data_set_*"))]


def unknown_operators(model, known):
    """The operators of a model, in all its graphs and functions, that are neither in `known` nor
    functions of the model."""
    own = {(function.domain, function.name) for function in model.functions}
    found = set()

    def look(nodes):
        for node in nodes:
            domain = "" if node.domain == "ai.onnx" else node.domain
            name = f"{domain}.{node.op_type}" if domain else node.op_type
            if name not in known and (node.domain, node.op_type) not in own:
                found.add(name)
            for attribute in node.attribute:
                look(attribute.g.node)

    look(model.graph.node)
    for function in model.functions:
        look(function.node)
    return found


def constants(model, inputs):
    """Makes inputs that are parameters (PARAMETERS) initializers; the arrays of those that stay."""
    givers = {name: node for node in model.graph.node for name in node.output}
    named, asked = set(), [
        name for node in model.graph.node for i, name in enumerate(node.input)
        if (node.op_type, i) in PARAMETERS or (node.op_type.startswith("Reduce") and i == 1)]
    while asked:
        name = asked.pop()
        named.add(name)
        giver = givers.get(name)
        if giver is None or giver.op_type in ("Shape", "Size"):
            continue
        sources = list(giver.input[:1] if giver.op_type == "CastLike" else giver.input)
        for attribute in giver.attribute:
            sources += [source for node in attribute.g.node for source in node.input]
        asked += [source for source in sources if source not in named]
    kept = []
    for info, array in zip(list(model.graph.input), inputs):
        if info.name in named:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
            model.graph.input.remove(info)
        else:
            kept.append(array)
    return kept


def tolerances(case, model):
    """What a case asks for, or more: the engine computes in float32 whatever the model's types are,
    while expected values were rounded to the model's type, some of them at every step. bfloat16
    keeps 8 bits and float16 11 of them; two units of the last place are allowed."""
    types = {info.type.tensor_type.elem_type
             for info in [*model.graph.input, *model.graph.output, *model.graph.value_info]}
    types |= {attribute.i for node in model.graph.node for attribute in node.attribute
              if attribute.name in ("to", "softmax_precision")}
    unit = (2**-8 if onnx.TensorProto.BFLOAT16 in types else
            2**-11 if onnx.TensorProto.FLOAT16 in types else 0)
    return max(case.rtol, 1e-3, 2 * unit), max(case.atol, 1e-6, unit)


def check(runner, case, model, data_sets):
    rtol, atol = tolerances(case, model)
    for given, expected in data_sets:
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            arrays = constants(copy, given)
            onnx.save(copy, file.name)
            results = runner.run(file.name, arrays)
        if len(results) != len(expected):
            raise AssertionError(f"{len(results)} outputs instead of {len(expected)}")
        for result, wanted in zip(results, expected):
            if result.shape != wanted.shape:
                raise AssertionError(f"shape {result.shape} instead of {wanted.shape}")
            np.testing.assert_allclose(result.astype(np.float64), wanted.astype(np.float64),
                                       rtol=rtol, atol=atol, equal_nan=True)


def outcome(runner, case, known):
    """(what, detail): "pass"; "left out", the reason; "not computed", the operators; "fail", why."""
    why = left_out(case.name)
    if why:
        return "left out", why
    model, data_sets = contents(case)
    unknown = unknown_operators(model, known)
    try:
        check(runner, case, model, data_sets)
    except Failed as failure:
        text = str(failure)
        if not unknown:
            return "fail", text
        unnamed = [name for name in unknown if name not in text]
        if "operators that cannot be computed" not in text or unnamed:
            return "fail", f"{unnamed} cannot be computed, but the message is: {text}"
        return "not computed", ", ".join(sorted(unknown))
    except AssertionError as failure:
        return "fail", str(failure)
    return ("fail", f"{unknown} are not said to be computed") if unknown else ("pass", "")


def check_part(part):
    """Every JOBS-th case of all kinds, from the given one on."""
    cases = sorted((case for kind in KINDS for case in load_model_tests(kind=kind)),
                   key=lambda case: case.name)
    known = operators()
    runner = Runner()
    try:
        return [(case.name, *outcome(runner, case, known)) for case in cases[part::JOBS]]
    finally:
        runner.close()


class BackendTest(unittest.TestCase):
    """Every case of the onnx package."""

    def test_all(self):
        counts = {what: collections.Counter() for what in ("pass", "left out", "not computed")}
        for results in in_parallel(check_part, list(range(JOBS))):
            for name, what, detail in results:
                with self.subTest(name):
                    if what == "fail":
                        self.fail(detail)
                    counts[what][detail] += 1
        total = {what: sum(counts[what].values()) for what in counts}
        print(f"\nONNX backend tests: {total['pass']} pass; {total['left out']} left out "
              f"({dict(counts['left out'])}); {total['not computed']} of operators that are not "
              f"computed: {', '.join(sorted(counts['not computed']))}")
        self.assertGreater(total["pass"], 1400)


if __name__ == "__main__":
    unittest.main()
