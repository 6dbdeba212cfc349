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
PALETTIZE=$palettize "$environment/bin/python" -m unittest discover -s tests/interop -t tests/interop
