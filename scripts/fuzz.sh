#!/bin/sh
# Mutated packages against every parser, under the sanitizers.
#   fuzz.sh BUILD COUNT
set -eu
build=$1
count=$2
set -- tests/fuzz/seeds tests/interop/packages examples/fashion-mnist
[ -d ../shared/models ] && set -- "$@" ../shared/models
packages=$(find "$@" -maxdepth 1 -name '*.mlpackage' | sort)
# shellcheck disable=SC2086
exec "$build/tests/fuzz/fuzz_packages" $packages --count "$count" --seed "${FUZZ_SEED:-1}"
