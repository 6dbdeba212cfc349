"""Runs the commands of the documentation, as a reader would who copies them.

    run.py PALETTIZE

Blocks that begin with ```sh are run in their order, those of a page in one folder, which is a copy of
the example with a small checkpoint beside it. "```sh not-run" marks what needs data that is not here.
Blocks with a method that the command does not have are passed over.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("tutorial-coreml.md", "tutorial-onnx.md", "tutorial-llm.md", "coming-from-coremltools.md")


def main():
    command = Path(sys.argv[1]).absolute()
    help_text = subprocess.run([command, "compress", "--help"], capture_output=True, text=True,
                               check=True).stdout
    methods = re.search(r"--method (\S+)", help_text)[1].split("|")
    count = 0
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder) / "fashion-mnist"
            shutil.copytree(ROOT / "examples" / "fashion-mnist", here)
            make_checkpoint(here / "Llama-3.2-1B")
            for block in blocks(ROOT / "docs" / page):
                if set(re.findall(r"--method (\w+)", block)) <= set(methods):
                    run(page, block, here, command)
                    count += 1
    print(f"{count} blocks of {len(PAGES)} pages")


def blocks(path):
    found = re.findall(r"^```sh\n(.*?)^```$", path.read_text(), re.S | re.M)
    if not found:
        sys.exit(f"{path} has no commands")
    return found


def run(page, block, folder, command):
    environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}"}
    process = subprocess.run(["sh", "-eu", "-c", block], cwd=folder, env=environment,
                             capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"docs/{page}: status {process.returncode}\n{block}\n{process.stdout}"
                 f"{process.stderr}")


def make_checkpoint(folder):
    """Two layers of a language model, bfloat16, in two files with their index."""
    width, files = 64, {}
    names = ["model.embed_tokens.weight", "model.norm.weight"]
    for layer in range(2):
        names += [f"model.layers.{layer}.self_attn.{kind}_proj.weight" for kind in "qkvo"]
        names += [f"model.layers.{layer}.mlp.{kind}_proj.weight" for kind in ("gate", "up", "down")]
    folder.mkdir()
    for number, part in enumerate((names[:8], names[8:]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        header, data = {}, b""
        for name in part:
            shape = [width] if name.endswith("norm.weight") else [width, width]
            count = shape[0] ** len(shape)
            # bfloat16 is the upper half of a float32; any values of both signs will do
            values = b"".join(struct.pack("<f", (k * 7919 % 2003 - 1001) / 9000)[2:]
                              for k in range(count))
            header[name] = {"dtype": "BF16", "shape": shape,
                            "data_offsets": [len(data), len(data) + len(values)]}
            data += values
            files[name] = file
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "config.json").write_text('{"model_type": "llama"}\n')


if __name__ == "__main__":
    main()
