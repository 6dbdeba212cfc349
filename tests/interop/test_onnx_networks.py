"""Networks as exporters write them: every case of onnx_matrix."""

import unittest

import support
from onnx_matrix import CASES, check

_outcomes = {}


def setUpModule():
    if support.JOBS > 1:
        _outcomes.update(zip(CASES, support.in_parallel(check, list(CASES)), strict=True))


class NetworkTest(unittest.TestCase):
    """One method for each variant, added below."""


def _add(variant):
    def method(self):
        for outcome in _outcomes[variant] if variant in _outcomes else check(variant):
            with self.subTest(options=outcome.options):
                self.assertFalse(outcome.error, outcome.error)

    words = "_".join(map(str, variant))
    method.__doc__ = " ".join(map(str, variant))
    setattr(NetworkTest, f"test_{words}", method)


for _variant in CASES:
    _add(_variant)


if __name__ == "__main__":
    unittest.main()
