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
    "$palettize" eval "$scored" --data $example/data --split test --mean 0.2860 --std 0.3530
    echo
done
echo "Every method at several bit widths (the original has $(score "$model") %). Sensitive and layer-wise"
echo "look at 128 training images, without training; differentiable k-means sees 4,000, each once:"
echo
printf '%4s %8s   %12s %12s %12s %16s\n' bits ratio K-Means Sensitive Layer-wise Differentiable
for nbits in 2 3 4 6; do
    printf '%4s' $nbits
    for method in kmeans sensitive layerwise dkm; do
        small=$out/$nbits-$method.mlpackage
        set -- --method $method
        test $method = kmeans ||
            set -- "$@" --data $example/data --split train --mean 0.2860 --std 0.3530
        test $method = dkm && set -- "$@" --epochs 1
        "$palettize" compress "$model" -o "$small" --nbits $nbits "$@" \
            --json "$out/$nbits-$method.json" --quiet
        test $method = kmeans && printf '%9s  ' "$(number "$out/$nbits-kmeans.json" %.2f "r['ratio']")"
        case $method in dkm) width=14 ;; *) width=10 ;; esac
        printf " %${width}s %%" "$(score "$small")"
    done
    echo
done
echo
echo "The files are in $out; they load in Core ML as the original does. A page on the runs, to open in a"
echo "browser: $out/report.html"
"$palettize" report "$out"/[0-9]-*.json -o "$out/report.html"
