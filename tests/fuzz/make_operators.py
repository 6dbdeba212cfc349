"""Makes seeds/operators: for each operator of ONNX that is computed, the smallest of ONNX's own tests
of it, from which the fuzzer starts; and small networks as exporters write them.

Run it in the environment of the interoperability tests. Usage: make_operators.py [FOLDER]
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))
from onnx_networks import NETWORKS
from runner import operators
from test_backend import constants, contents, left_out, unknown_operators

SMALL = {"bert": {"layers": 1, "width": 16, "heads": 2, "vocabulary": 20},
         "llama": {"layers": 1, "width": 16, "heads": 2, "key_heads": 1, "inner": 24,
                   "vocabulary": 20},
         "detector": {"width": 4, "classes": 2}, "generator": {"width": 4}}
LARGEST = 40_000  # bytes that one seed may take


def operator_models():
    known, smallest = operators(), {}
    for case in load_model_tests(kind="node"):
        if left_out(case.name):
            continue
        model, data = contents(case)
        if not data or unknown_operators(model, known):
            continue
        constants(model, data[0][0])
        for name in {node.op_type for node in model.graph.node}:
            if name not in smallest or model.ByteSize() < smallest[name].ByteSize():
                smallest[name] = model
    return smallest


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "seeds" / "operators"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models = operator_models()
    for name, options in SMALL.items():
        models[name], _ = NETWORKS[name](dtype=np.float32, opset=17, **options)
    written = {}
    for name, model in sorted(models.items()):
        data = model.SerializeToString()
        if len(data) > LARGEST:
            print(f"left out {name}: {len(data)} bytes")
        elif data not in written.values():
            written[name] = data
            (folder / f"{name.lower()}.onnx").write_bytes(data)
    print(f"{len(written)} seeds, {sum(map(len, written.values()))} bytes")


if __name__ == "__main__":
    main()
