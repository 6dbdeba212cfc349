#!/bin/sh
# The main job on the example that the repository carries.
#   demo.sh PALETTIZE
set -eu
palettize=$1
example=examples/fashion-mnist
model=$example/fashion-mnist.mlpackage
out=$(dirname "$palettize")/demo
mkdir -p "$out"

# A number of a JSON report, after a calculation on it.
number() {
    python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print(sys.argv[2] % eval(sys.argv[3]))' \
        "$1" "$2" "$3"
}

# Percent of the test images that a model gets right.
score() {
    "$palettize" eval "$1" --data $example/data --split test --mean 0.2860 --std 0.3530 \
        --json "$out/score.json" --quiet
    number "$out/score.json" %.2f "r['top1']"
}

echo "palettize makes trained neural networks small: each weight tensor gets a look-up table of 2^n"
echo "values and an n-bit index for each weight. Here is $model,"
echo "a classifier of clothes, at 4 bit:"
echo
echo "\$ palettize compress $model -o $out/4bit.mlpackage --nbits 4"
"$palettize" compress "$model" -o "$out/4bit.mlpackage" --nbits 4
echo
echo "The original and the compressed file are run on 2,000 test images:"
echo
for scored in "$model" "$out/4bit.mlpackage"; do
    echo "\$ palettize eval $scored --data $example/data --split test --mean 0.2860 --std 0.3530"
    "$palettize" eval "$scored" --data $example/data --split test --mean 0.2860 --std 0.3530 2>/dev/null
    echo
done
echo "At other bit widths, one look-up table for each weight and one for every 8 output channels"
echo "(the original has $(score "$model") %):"
echo
printf '%5s %32s %32s\n' bits "one LUT: ratio, KiB, accuracy" "groups of 8: ratio, KiB, accuracy"
for nbits in 2 3 4 6 8; do
    printf '%5s' $nbits
    for granularity in per_tensor per_grouped_channel; do
        small=$out/$nbits-$granularity.mlpackage
        "$palettize" compress "$model" -o "$small" --nbits $nbits \
            --granularity $granularity --group-size 8 --json "$out/report.json" --quiet
        printf '%14s %8s %7s %%' "$(number "$out/report.json" %.2f "r['ratio']")" \
            "$(number "$out/report.json" %.1f "r['bytes_after'] / 1024")" "$(score "$small")"
    done
    echo
done
echo
echo "The files are in $out; they load in Core ML as the original does."
