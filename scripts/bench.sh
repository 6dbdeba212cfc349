#!/bin/sh
# Runs the benchmarks against coremltools in a virtual environment that it makes on first use.
#   bench.sh BUILD
set -eu
build=$(cd "$1" && pwd)
environment=$build/bench-venv
if ! cmp -s bench/requirements.txt "$environment/requirements.txt"; then
    echo "Making a Python environment with PyTorch and coremltools (several GB)"
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -r bench/requirements.txt
    cp bench/requirements.txt "$environment/requirements.txt"
fi
export PALETTIZE="$build/palettize"
"$environment/bin/python" bench/coreml_resnet50.py
"$environment/bin/python" bench/kmeans1d.py
cmake --build "$build" --target bench_vectors >/dev/null
"$environment/bin/python" bench/vectors.py --quick --library "$build/libbench_vectors.so"
