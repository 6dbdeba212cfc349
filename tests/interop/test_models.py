"""Real networks: our packages against coremltools', model by model and setting by setting."""

import re
import unittest

import reference
import support
from comparison import ComparisonTest
from reference import Settings

IOS16 = ("resnet20-iOS16", "mobilenetv2-iOS16", "mobilenetv3small-iOS16")
IOS18 = ("resnet20-iOS18", "resnet20-bn-iOS18", "mobilenetv3small-cifar-iOS18")


def full_matrix():
    for name in (*IOS16, *IOS18, "fashion-mnist"):
        for nbits in (2, 4, 6, 8):
            yield name, Settings(nbits)
    for name in IOS18:
        yield name, Settings(3)
        for nbits in (1, 2, 3, 4, 6, 8):
            yield name, Settings.grouped(nbits)


def sample():
    yield "resnet20-iOS16", Settings(4)
    yield "resnet20-iOS18", Settings(2)
    yield "resnet20-iOS18", Settings(3)
    yield "resnet20-iOS18", Settings.grouped(8)
    yield "resnet20-bn-iOS18", Settings(6)
    yield "mobilenetv3small-cifar-iOS18", Settings.grouped(2)
    yield "fashion-mnist", Settings(4)


CASES = list(full_matrix() if support.FULL else sample())


def setUpModule():
    present = []
    for name, settings in CASES:
        try:
            present.append((support.model(name), settings))
        except unittest.SkipTest:
            pass
    reference.prepare(present)


class ModelTest(ComparisonTest):
    """One method for each case, added below."""


def _add(name, settings):
    def method(self):
        # coremltools folds batch normalisation into layers too small to be compressed.
        self.compare(support.model(name), settings, rewrites="-bn-" in name)

    words = re.sub(r"\W+", "_", f"{name} {settings}")
    method.__doc__ = f"{name} {settings}"
    setattr(ModelTest, f"test_{words}", method)


for _name, _settings in CASES:
    _add(_name, _settings)


if __name__ == "__main__":
    unittest.main()
