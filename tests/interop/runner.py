"""Our engine, driven through tests/tools/run_model.c."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

BUILD = Path(os.environ["PALETTIZE"]).parent
RUN_MODEL = BUILD / "tests" / "run_model"


def operators():
    """The operators of ONNX that the engine computes; those of other domains as DOMAIN.NAME."""
    return set(subprocess.run([RUN_MODEL, "operators"], check=True, capture_output=True,
                              text=True).stdout.split())


class Failed(Exception):
    """The engine's message."""


class Runner:
    """A process that runs one model after another."""

    def __init__(self):
        self.process = subprocess.Popen([RUN_MODEL], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def run(self, model, inputs):
        """Outputs of a model file as a list of arrays. `inputs`: a list in the model's order, or a
        dictionary by name."""
        with tempfile.TemporaryDirectory() as folder:
            fields = [str(model), folder]
            named = inputs.items() if isinstance(inputs, dict) else enumerate(inputs)
            for i, (name, array) in enumerate(named):
                path = f"{folder}/in{i}.npy"
                array = np.asarray(array, order="C")
                if array.dtype.kind not in "biuf" or array.dtype.name == "bfloat16":
                    array = array.astype(np.float32)  # a type of ml_dtypes
                np.save(path, array)
                fields.append(f"{name}={path}" if isinstance(name, str) else path)
            print("\t".join(fields), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline().rstrip("\n")
            if not answer:
                raise RuntimeError(f"run_model died of {self.process.wait()} on {model}")
            if answer != "ok":
                raise Failed(answer)
            count = len(Path(folder, "names").read_text().splitlines())
            return [np.load(f"{folder}/{i}.npy") for i in range(count)]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
