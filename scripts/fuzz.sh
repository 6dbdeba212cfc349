#!/bin/sh
# Mutated models, configurations and data against their readers, under the sanitizers: as many
# iterations of each kind.
#   fuzz.sh BUILD COUNT
set -eu
build=$1
count=$2
made=$build/tests/samples/made
failed=0

# run KIND SEED...
run() {
    kind=$1
    shift
    echo "$kind: $*"
    "$build/tests/fuzz/fuzz" "$kind" "$@" --count "$count" --seed "${FUZZ_SEED:-1}" || failed=1
}

set -- tests/fuzz/seeds tests/interop/packages examples/fashion-mnist
[ -d ../shared/models ] && set -- "$@" ../shared/models
packages=$(find "$@" -maxdepth 1 -name '*.mlpackage' | sort)
# shellcheck disable=SC2086
run model $packages
run model "$made/onnx" examples/fashion-mnist/*.onnx
run model "$made/safetensors"
# shellcheck disable=SC2086
run session $packages
run session tests/fuzz/seeds/operators examples/fashion-mnist/*.onnx
run config "$made/config"
run array "$made/npy"
echo "data: images, archives and arrays"
DATA_DAMAGE_COUNT=$count "$build/tests/test_data_damage" || failed=1
exit $failed
