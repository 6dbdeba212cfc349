"""The command itself: what it refuses, and how; what it prints."""

import json
import unittest

import support  # before coremltools, which it quiets
import coremltools as ct

import networks
from networks import normal, pair
from reference import Settings
from support import InteropTest


class RefusalTest(InteropTest):
    """Options that the package's opset has no operator for; nothing may be written."""

    def refuse(self, package, options, *patterns, status=1):
        output = self.new_path()
        self.assert_refused(
            ["compress", package, "-o", output, *options], output, *patterns, status=status)

    def test_iOS15_has_no_palettes(self):
        package = networks.linear(self.new_path(), normal(64, 64), target=ct.target.iOS15)
        self.refuse(package, ["--nbits", 4], "iOS16|CoreML6")

    def test_options_that_need_iOS18(self):
        for target in (ct.target.iOS16, ct.target.iOS17):
            package = networks.linear(self.new_path(), normal(64, 64), target=target)
            for options, named in (
                (["--nbits", 3], "nbits|3.bit"),
                (Settings.grouped(4).arguments(), "granularity|per_grouped_channel"),
            ):
                with self.subTest(target=target, options=options):
                    self.refuse(package, options, "iOS18|CoreML8", named)

    def test_wrong_usage(self):
        package = pair(self.new_path())
        for options in (
            [], ["--nbits", 5], ["--nbits", "four"], ["--nbits", 4, "--mode", "median"],
            ["--nbits", 4, "--mode", "unique"], ["--nbits", 4, "--granularity", "per_channel"],
            ["--nbits", 4, "--unknown"],
        ):
            with self.subTest(options=options):
                output = self.new_path()
                process = support.run("compress", package, "-o", output, *options)
                self.assertEqual(process.returncode, 2, process.stderr)
                self.assertTrue(process.stderr.strip())
                self.assertFalse(output.exists())

    def test_missing_package(self):
        missing = self.folder / "missing.mlpackage"
        self.refuse(missing, ["--nbits", 4], "missing.mlpackage")

    def test_missing_weight_file(self):
        package = pair(self.new_path())
        next(package.rglob("weight.bin")).unlink()
        self.refuse(package, ["--nbits", 4], "weight.bin")

    def test_damaged_files(self):
        for name, keep in (("weight.bin", 1000), ("weight.bin", 0), ("model.mlmodel", 500)):
            with self.subTest(name=name, keep=keep):
                package = pair(self.new_path())
                path = next(package.rglob(name))
                path.write_bytes(path.read_bytes()[:keep])
                self.refuse(package, ["--nbits", 4], name)


class MistakeTest(InteropTest):
    """What is nearly right is named."""

    def test_suggestions(self):
        for arguments, told in (
            (["compres"], "perhaps compress; try"),
            (["help", "evl"], "perhaps eval; try"),
            (["frobnicate"], "try palettize --help"),
            (["compress", "--group-sise", "4"], "perhaps --group-size; try"),
            (["compress", "--nbit=4"], "perhaps --nbits; try"),
            (["compress", "--frobnicate"], "unknown option --frobnicate; try"),
            (["compress", "-x"], "unknown option -x; try"),
            (["inspect", "a", "b"], "b is one input too many"),
            (["compare", "a", "b", "c", "--data", "d"], "c is one input too many"),
        ):
            with self.subTest(arguments=arguments):
                process = support.run(*arguments)
                self.assertEqual(process.returncode, 2)
                self.assertIn(told, process.stderr)
                self.assertEqual(len(process.stderr.splitlines()), 1)


class InspectTest(InteropTest):
    def test_json_and_text(self):
        package = pair(self.new_path())
        output, _ = self.compress(package, "--nbits", 4)
        for path in (package, output):
            text = self.succeed("inspect", path).stdout
            parsed = json.loads(self.succeed("inspect", path, "--json").stdout)
            self.assertTrue(parsed)
            for name in ("first_weight", "second_weight"):
                self.assertIn(name, text)

    def test_report_on_stdout(self):
        process = self.succeed(
            "compress", pair(self.new_path()), "-o", self.new_path(), "--nbits", 4, "--json", "-",
            "--quiet")
        report = json.loads(process.stdout)
        self.assertEqual(set(self.status_of(report, "compressed")),
                         {"first_weight", "second_weight"})


if __name__ == "__main__":
    unittest.main()
