"""The command itself: what it refuses, and how; what it prints."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
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


class ConfigTest(InteropTest):
    def test_the_last_of_two(self):
        """As of every other option; what is loaded is what is written down."""
        package, files = pair(self.new_path()), []
        for nbits in (2, 4):
            files.append(self.new_path(".yaml"))
            files[-1].write_text(f"global_config: {{nbits: {nbits}}}\n")
        _, report = self.compress(package, "--config", files[0], f"--config={files[1]}")
        compressed = self.status_of(report, "compressed").values()
        self.assertEqual({weight["nbits"] for weight in compressed}, {4})
        self.assertEqual(report["options"]["config"], str(files[1]))
        self.assertEqual(report["options"]["nbits"], "4")


EXAMPLE_DATA = support.EXAMPLE.parent / "data"
IMAGES = ("--mean", "0.286", "--std", "0.353", "--threads", 1)
TRAINING = ("--nbits", 1, "--method", "dkm", "--epochs", 1, "--start", "kmeans", "--enough", 0,
            *IMAGES)


class HeldBackTest(InteropTest):
    """The score of what training wrote, on samples that it held back."""

    def train(self, model, output, *data):
        return self.succeed("compress", model, "-o", output, *TRAINING, "--limit", 100,
                            "--validation", 0.2, *data).stdout

    def labelled(self):
        return "--data", EXAMPLE_DATA, "--split", "train"

    def unlabelled(self):
        folder = self.folder / "unlabelled"
        folder.mkdir()
        shutil.copy(EXAMPLE_DATA / "train-images-idx3-ubyte.gz", folder)
        return "--data", folder

    def test_original_whose_place_is_taken(self):
        """By whichever name: the original's score is not that of what replaced it."""
        pattern = r"On 20 samples held back.* has top-1 ([\d.]+) % \(the original ([\d.]+) %\)"
        for source in (support.EXAMPLE, support.EXAMPLE.parent / "fashion-mnist.onnx"):
            model, link = self.new_path(source.suffix), self.new_path(source.suffix)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, model)
            before = model.stat().st_ino
            link.symlink_to(model)
            told = self.train(model, f"{link}/" if source.is_dir() else link, *self.labelled())
            self.assertRegex(told, pattern)
            self.assertNotEqual(model.stat().st_ino, before)
            expected = self.train(source, self.new_path(source.suffix), *self.labelled())
            scores = [re.search(pattern, text).groups() for text in (told, expected)]
            self.assertEqual(*scores)
            self.assertLess(float(scores[0][0]), float(scores[0][1]))

    def test_without_labels(self):
        model = self.new_path(".onnx")
        shutil.copy(support.EXAMPLE.parent / "fashion-mnist.onnx", model)
        self.assertRegex(self.train(model, model, *self.unlabelled()),
                         r"has the original's class [\d.]+ % of the time\.")

    def test_eval_with_nothing_to_score(self):
        model = support.EXAMPLE.parent / "fashion-mnist.onnx"
        told = self.succeed("eval", model, *self.unlabelled(), "--limit", 3, *IMAGES).stdout
        self.assertIn("the data has no labels: give --reference", told)
        told = self.succeed("eval", model, "--data", EXAMPLE_DATA, "--split", "test", "--limit", 3,
                            *IMAGES).stdout
        self.assertNotIn("--reference", told)

    def test_interrupted_in_a_narrow_terminal(self):
        """While it is scored, too; and no line of the progress is wider than the terminal."""
        columns, output, lines = 40, self.new_path(".onnx"), []
        terminal, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
        process = subprocess.Popen(
            [str(part) for part in (support.COMMAND, "compress",
                                    support.EXAMPLE.parent / "fashion-mnist.onnx", "-o", output,
                                    *TRAINING, "--limit", 3000, "--validation", 0.9,
                                    "--statistics", 1, *self.labelled())],
            stdout=subprocess.DEVNULL, stderr=inner)
        os.close(inner)

        def read():
            try:
                while text := os.read(terminal, 4096):
                    lines.append(text)
            except OSError:  # the other end is closed
                pass

        reader = threading.Thread(target=read)
        reader.start()
        while not output.exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        status = process.wait()
        reader.join()
        os.close(terminal)
        told = b"".join(lines).decode()
        self.assertEqual(status, 130, told)
        self.assertTrue(output.exists())
        drawn = [line.removeprefix("\033[K") for line in told.split("\r")]
        bars = [line for line in drawn if line.startswith("[")]
        self.assertTrue(bars, told)
        for line in bars:
            self.assertLess(len(line), columns)


class InspectTest(InteropTest):
    def test_json_to_a_file(self):
        """As the other commands have it; without a file it goes to standard output."""
        package, file = pair(self.new_path()), self.new_path(".json")
        bare = self.succeed("inspect", package, "--json").stdout
        self.assertEqual(self.succeed("inspect", "--json", package).stdout, bare)
        self.assertEqual(self.succeed("inspect", package, "--json", "-").stdout, bare)
        table = self.succeed("inspect", package).stdout
        for words in (("--json", file, package), (package, "--json", file),
                      (package, f"--json={file}"), (package, f"--json={self.folder / 'x'}")):
            self.assertEqual(self.succeed("inspect", *words).stdout, table)
            written = self.folder / "x" if str(words[-1]).endswith("/x") else file
            self.assertEqual(json.loads(written.read_text()), json.loads(bare))
            written.unlink()

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
