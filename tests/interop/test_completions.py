"""Completions for shells: what bash offers, and that the others can read theirs."""

import shutil
import subprocess
import unittest

from support import InteropTest, run


class CompletionsTest(InteropTest):
    def script(self, shell):
        path = self.folder / f"palettize.{shell}"
        path.write_text(self.succeed("help", "--completions", shell).stdout)
        return path

    def offered(self, *words):
        """What bash offers for the last of the words."""
        script = self.script("bash")
        shown = " ".join(f"'{word}'" for word in words)
        command = (f"source {script}; COMP_WORDS=(palettize {shown}); COMP_CWORD={len(words)}; "
                   "_palettize; printf '%s\\n' \"${COMPREPLY[@]}\"")
        process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        self.assertEqual(process.stderr, "")
        return process.stdout.split()

    @unittest.skipUnless(shutil.which("bash"), "no bash")
    def test_bash(self):
        self.assertEqual(self.offered("de"), ["decompress"])
        self.assertEqual(self.offered("compress", "--nb"), ["--nbits"])
        self.assertEqual(self.offered("compress", "--nbits", ""), ["1", "2", "3", "4", "6", "8"])
        self.assertEqual(self.offered("compress", "--granularity", "per_t"), ["per_tensor"])
        self.assertEqual(self.offered("compress", "mod"), [], "a file")
        self.assertEqual(self.offered("compress", "-o", ""), [], "a file")
        self.assertIn("--data", self.offered("eval", "--"))
        self.assertNotIn("--nbits", self.offered("eval", "--"))
        self.assertEqual(self.offered("help", "co"), ["compress", "compare"])
        self.assertEqual(self.offered("help", "--completions", ""), ["bash", "zsh", "fish"])
        self.assertEqual(self.offered("compress", "--method", "=", "k"), ["kmeans"])
        self.assertEqual(self.offered("compress", "--mode", "="),
                         ["kmeans", "uniform", "unique", "custom"])
        self.assertEqual(self.offered("compress", "--json", "=", "x"), [], "a file")
        self.assertEqual(self.offered("inspect", "--json", ""), [], "a file")

    def test_all_shells_have_all_options(self):
        names = [word for word in self.succeed("compress", "--help").stdout.split()
                 if word.startswith("--")]
        self.assertGreater(len(names), 20)
        for shell in ("bash", "zsh", "fish"):
            text = self.script(shell).read_text()
            for name in names:
                shown = name[2:] if shell == "fish" else name
                self.assertIn(shown, text, shell)

    def test_fish_has_help_of_commands(self):
        text = self.script("fish").read_text()
        for name in ("compress", "inspect", "help"):
            self.assertIn(f"'__fish_seen_subcommand_from {name}' -s h -l help", text)

    def test_zsh_and_fish_read_theirs(self):
        for shell in ("bash", "zsh", "fish"):
            if not shutil.which(shell):
                continue
            with self.subTest(shell=shell):
                process = subprocess.run([shell, "-n", self.script(shell)], capture_output=True,
                                         text=True, timeout=60)
                self.assertEqual((process.returncode, process.stderr), (0, ""))

    def test_other_shells(self):
        process = run("help", "--completions", "tcsh")
        self.assertEqual(process.returncode, 2)
        self.assertIn("bash, zsh and fish", process.stderr)
