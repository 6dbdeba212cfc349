#!/bin/sh
# Runs the interoperability tests in a virtual environment that it makes on first use.
#   interop.sh PALETTIZE
set -eu
palettize=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
environment=$(dirname "$palettize")/interop-venv
requirements=tests/interop/requirements.txt
if ! cmp -s "$requirements" "$environment/requirements.txt"; then
    echo "Making a Python environment with coremltools for the interoperability tests"
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$environment/requirements.txt"
fi
# The full tests are beside PyTorch, too, where the benchmarks' environment has it.
with_torch=$(dirname "$palettize")/bench-venv/bin/python
if [ -n "${PALETTIZE_FULL:-}" ]; then
    if [ -x "$with_torch" ]; then
        PALETTIZE=$palettize PYTHONPATH=tests/interop \
            "$with_torch" -m unittest test_gradients test_torch_networks
    else
        echo "Left out: gradients and networks of PyTorch, for want of $with_torch (bench/README.md)"
    fi
fi
PALETTIZE=$palettize "$environment/bin/python" -m unittest discover -s tests/interop -t tests/interop
