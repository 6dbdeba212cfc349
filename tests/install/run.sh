#!/bin/sh
# Installs the build into a scratch folder, builds the examples against it with pkg-config, and
# examples/compress.c with CMake too, and runs them.
#   run.sh BUILD SOURCE
set -eu
build=$1
source=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix
cmake --install "$build" --prefix "$prefix" >"$scratch/log" || { cat "$scratch/log"; exit 1; }
package=$source/examples/fashion-mnist/fashion-mnist.mlpackage

# The .pc file names the prefix that was configured; pkg-config is told of the scratch one.
pc=$(dirname "$(find "$prefix" -name palettize.pc)")
flags="$(PKG_CONFIG_PATH=$pc pkg-config --define-variable=prefix="$prefix" --cflags --libs palettize)"
for example in compress classify; do
    # shellcheck disable=SC2086
    ${CC:-cc} -std=c11 -Wall -Wextra "$source/examples/$example.c" -o "$scratch/$example" $flags
done
library=$(dirname "$(find "$prefix" -name 'libpalettize.so' -o -name 'libpalettize.dylib' | head -n 1)")
LD_LIBRARY_PATH=$library DYLD_LIBRARY_PATH=$library \
    "$scratch/compress" "$package" "$scratch/a.mlpackage" 4
example=$source/examples/fashion-mnist
for model in "$example/fashion-mnist.onnx" "$package" "$scratch/a.mlpackage"; do
    LD_LIBRARY_PATH=$library DYLD_LIBRARY_PATH=$library "$scratch/classify" "$model" \
        "$example/boot.png" "$example/labels.txt" mean=0.2860 std=0.3530 >"$scratch/classes"
    head -n 1 "$scratch/classes" | grep 'Ankle boot'
    test "$(wc -l <"$scratch/classes")" -eq 5
done

cmake -S "$source/tests/install" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$prefix" \
    -DEXAMPLE="$source/examples/compress.c" >"$scratch/log" &&
    cmake --build "$scratch/cmake" >>"$scratch/log" || { cat "$scratch/log"; exit 1; }
"$scratch/cmake/compress" "$package" "$scratch/b.mlpackage" 4
"$scratch/cmake/compress_static" "$package" "$scratch/c.mlpackage" 4
diff -r "$scratch/a.mlpackage" "$scratch/b.mlpackage"
diff -r "$scratch/a.mlpackage" "$scratch/c.mlpackage"
"$prefix/bin/palettize" --version
test -s "$prefix/share/man/man1/palettize.1"
