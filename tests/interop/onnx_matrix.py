"""The matrix of networks as exporters write them, and how one file of it is checked.

A variant of a network is one dense file; it is compressed with many options. Each compressed file
must pass onnx.checker with full_check, compute in onnxruntime what its decompressed form computes,
and be unpacked once, when the session is made.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

import onnx_networks
import support
from onnx_case import (GROUPED, TOLERANCE, WIDTHS, OnnxTest, operators_of, relative_difference,
                       session)
from onnx_networks import graphs_of

THRESHOLD = 2048  # the command's default
GRANULARITIES = (
    (), (*GROUPED, 1), (*GROUPED, 4), (*GROUPED, 16), (*GROUPED, 32),
    (*GROUPED, 8, "--channel-axis", 0), (*GROUPED, 8, "--channel-axis", 1),
    ("--cluster-dim", 2), ("--cluster-dim", 4, *GROUPED, 16),
    ("--cluster-dim", 4, "--channel-axis", 0),
    ("--cluster-dim", 2, *GROUPED, 8, "--channel-axis", 1))
FEW_GRANULARITIES = ((), (*GROUPED, 16), ("--cluster-dim", 2, *GROUPED, 16))


class Variant(NamedTuple):
    network: str
    dtype: str
    opset: int
    storage: str = "initializers"

    def build(self):
        dtype = np.float16 if self.dtype == "float16" else np.float32
        model, inputs = onnx_networks.NETWORKS[self.network](dtype=dtype, opset=self.opset)
        if self.dtype == "bfloat16":
            model = onnx_networks.in_bfloat16(model)
        if self.storage == "constants":
            model = onnx_networks.in_constants(model)
        return model, inputs


def options(granularities):
    return [("--nbits", nbits, *granularity) for granularity in granularities for nbits in WIDTHS]


def full_matrix():
    for network in onnx_networks.NETWORKS:
        for dtype in ("float32", "float16"):
            yield Variant(network, dtype, 17), options(GRANULARITIES)
        few = options(FEW_GRANULARITIES)
        for opset in (11, 13, 21):
            for dtype in ("float32", "float16"):
                yield Variant(network, dtype, opset), few
        for opset in (13, 21):
            yield Variant(network, "bfloat16", opset), few
        for storage in ("constants", "external"):
            yield Variant(network, "float32", 17, storage), few


def sample():
    """Every network, width, granularity, type, opset and storage, but not with each other."""
    turn = 0
    for network, variant in zip(onnx_networks.NETWORKS, (
            ("float16", 17), ("float32", 21), ("float32", 13, "external"),
            ("bfloat16", 13), ("float32", 17, "constants"), ("float32", 11), ("float16", 11)),
            strict=True):
        chosen = []
        for nbits in WIDTHS:
            chosen.append(("--nbits", nbits, *GRANULARITIES[turn % len(GRANULARITIES)]))
            turn += 1
        yield Variant(network, *variant), chosen


CASES = dict(full_matrix() if support.FULL else sample())


class Outcome(NamedTuple):
    """Of one file: what is wrong, if anything, and the difference of its outputs."""
    options: tuple
    error: str
    difference: float


class Checker(OnnxTest):
    """Checks files of one variant, where no test may be at hand: in a process of its own."""

    def runTest(self):
        raise NotImplementedError

    def check_variant(self, variant):
        model, inputs = variant.build()
        self.dense = self.folder / "dense.onnx"
        external = variant.storage == "external"
        onnx.save_model(model, str(self.dense), save_as_external_data=external,
                        location="dense.bin" if external else None, size_threshold=0)
        self.check_file(self.dense)
        self.model, self.inputs = onnx.load(str(self.dense)), inputs
        outcomes = []
        for case in CASES[variant]:
            try:
                outcomes.append(Outcome(case, "", self.check_case(case)))
            except Exception as error:
                outcomes.append(Outcome(case, f"{type(error).__name__}: {error}", np.inf))
        return outcomes

    def check_case(self, case):
        output, report = self.compress(self.dense, *case)
        plain = self.decompress(output)
        self.check_file(output)
        self.check_file(plain)
        self.check_report(case, report)
        before, after = operators_of(self.dense), operators_of(plain)
        del before["Constant"], after["Constant"]  # a weight in one comes back as an initializer
        self.assertEqual(before, after, "after decompressing")
        difference = self.check_outputs(output, plain)
        for path in self.folder.glob("output-*"):
            path.unlink()
        return difference

    def check_report(self, case, report):
        """Each large weight is compressed, or there is a reason; with one table, there is none."""
        large = {name for name, size in weights_in(self.model) if size > THRESHOLD}
        compressed = set(self.status_of(report, "compressed"))
        self.assertLessEqual(compressed, large)
        self.assertGreater(len(compressed), 0)
        self.assert_skips_are_explained(report)
        if len(case) == 2:
            self.assertEqual(compressed, large)

    def check_outputs(self, output, plain):
        folded, expected = self.new_path(), self.new_path()
        mine = session(output, folded).run(None, self.inputs)
        theirs = session(plain, expected).run(None, self.inputs)
        difference = 0.0
        for actual, value in zip(mine, theirs, strict=True):
            self.assertTrue(np.isfinite(value).all() and value.astype(np.float64).std() > 1e-3,
                            "outputs that tell nothing")
            difference = max(difference, relative_difference(actual, value))
        self.assertLessEqual(difference, TOLERANCE)
        self.assertEqual(operators_of(folded), operators_of(expected),
                         "the session unpacks at every run")
        return difference


def weights_in(model):
    """(name, elements) of the floating constants of rank 2 and above."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    for graph in graphs_of(model.graph):
        tensors = [(tensor.name, tensor) for tensor in graph.initializer]
        tensors += [(node.output[0], node.attribute[0].t) for node in graph.node
                    if node.op_type == "Constant"]
        for name, tensor in tensors:
            if tensor.data_type in floats and len(tensor.dims) > 1:
                yield name, int(np.prod(tensor.dims))


def check(variant):
    checker = Checker()
    with tempfile.TemporaryDirectory(prefix="variant-") as folder:
        checker.folder, checker._outputs = Path(folder), 0
        return checker.check_variant(variant)
