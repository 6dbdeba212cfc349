"""What every interop test needs: the environment, the command, a test case with helpers.

Run with

    python -m unittest discover -s tests/interop -v

Environment:
    PALETTIZE         the command under test (default: build/palettize)
    PALETTIZE_SHARED  folder that holds models/*.mlpackage (default: ../shared beside the
                      repository); tests that need it skip when it is absent
    PALETTIZE_FULL    1: the full matrix of models and settings, not only a sample
    PALETTIZE_JOBS    processes that prepare the reference files and run the larger matrices
                      (default: 1)
"""

import atexit
import json
import logging
import os
import shutil
import subprocess
import tempfile
import unittest
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

# Before coremltools is imported: it warns at import about the parts that need macOS.
logging.disable(logging.WARNING)
os.environ["TQDM_DISABLE"] = "1"
warnings.simplefilter("ignore")

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(os.environ.get("PALETTIZE", ROOT / "build" / "palettize")).absolute()
SHARED = Path(os.environ.get("PALETTIZE_SHARED", ROOT.parent / "shared"))
EXAMPLE = ROOT / "examples" / "fashion-mnist" / "fashion-mnist.mlpackage"
FULL = os.environ.get("PALETTIZE_FULL", "") not in ("", "0")
JOBS = int(os.environ.get("PALETTIZE_JOBS", "1"))

TIMEOUT_SECONDS = 300

_scratch = None


def scratch():
    """A folder that lives as long as this run of the tests."""
    global _scratch
    if _scratch is None:
        _scratch = Path(tempfile.mkdtemp(prefix="palettize-interop-"))
        atexit.register(shutil.rmtree, _scratch, ignore_errors=True)
    return _scratch


def model(name):
    """The path of a model by name; skips the test when it is not there."""
    path = EXAMPLE if name == "fashion-mnist" else SHARED / "models" / f"{name}.mlpackage"
    if not path.is_dir():
        raise unittest.SkipTest(f"no {path}: set PALETTIZE_SHARED, or build the example")
    return path


def onnx_model(name):
    """The same of an ONNX model."""
    folder = EXAMPLE.parent if name.startswith("fashion") else SHARED / "models"
    path = folder / f"{name}.onnx"
    if not path.is_file():
        raise unittest.SkipTest(f"no {path}: set PALETTIZE_SHARED")
    return path


def run(*arguments):
    """Runs the command and returns the finished process, output captured as text."""
    if not COMMAND.is_file():
        raise RuntimeError(f"no command at {COMMAND}: build it, or set PALETTIZE")
    return subprocess.run(
        [str(COMMAND), *map(str, arguments)],
        capture_output=True, text=True, timeout=TIMEOUT_SECONDS,
    )


def files_of(package):
    """The content of every file of a package, by its path inside the package."""
    package = Path(package)
    return {
        str(path.relative_to(package)): path.read_bytes()
        for path in sorted(package.rglob("*")) if path.is_file()
    }


def size_of(package):
    return sum(path.stat().st_size for path in Path(package).rglob("*") if path.is_file())


def in_parallel(function, items):
    """[function(item) ...], by JOBS processes; the function belongs to a module."""
    if JOBS < 2 or len(items) < 2:
        return list(map(function, items))
    with ProcessPoolExecutor(JOBS, mp_context=get_context("spawn")) as pool:
        return list(pool.map(function, items))


class InteropTest(unittest.TestCase):
    """A test case with a folder of its own and the three subcommands as methods."""

    maxDiff = 4000

    def setUp(self):
        warnings.simplefilter("ignore")  # unittest switches warnings on for each run
        folder = tempfile.TemporaryDirectory(prefix="case-", dir=scratch())
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self._outputs = 0

    def new_path(self, suffix=".mlpackage"):
        """A fresh path in this test's folder, nothing there yet."""
        self._outputs += 1
        return self.folder / f"output-{self._outputs}{suffix}"

    def succeed(self, *arguments):
        process = run(*arguments)
        self.assertEqual(
            process.returncode, 0,
            f"palettize {' '.join(map(str, arguments))}\nstdout: {process.stdout}\n"
            f"stderr: {process.stderr}",
        )
        return process

    def compress(self, package, *options):
        """Compresses; returns the new package's path and the JSON report."""
        output, report = self.new_path(), self.new_path(".json")
        self.succeed("compress", package, "-o", output, *options, "--json", report, "--quiet")
        return output, json.loads(report.read_text())

    def decompress(self, package):
        output = self.new_path()
        self.succeed("decompress", package, "-o", output, "--quiet")
        return output

    def assert_refused(self, arguments, output, *patterns, status=1):
        """The command fails with one line that matches every pattern, and writes nothing."""
        process = run(*arguments)
        told = f"palettize {' '.join(map(str, arguments))}\nstderr: {process.stderr}"
        self.assertEqual(process.returncode, status, told)
        self.assertEqual(len(process.stderr.strip().splitlines()), 1, f"not one line: {told}")
        for pattern in patterns:
            self.assertRegex(process.stderr, pattern)
        self.assertFalse(Path(output).exists(), f"left {output} behind")
        leftovers = [path.name for path in Path(output).parent.glob(f"*{Path(output).name}*")]
        self.assertEqual(leftovers, [], "left a temporary file behind")

    def status_of(self, report, status):
        """The report's weights with the given status, by name."""
        return {entry["name"]: entry for entry in report["weights"] if entry["status"] == status}

    def assert_skips_are_explained(self, report):
        for name, entry in self.status_of(report, "skipped").items():
            self.assertTrue(entry["reason"], f"{name} is skipped without a reason")
