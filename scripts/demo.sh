#!/bin/sh
# The main job on the example that the repository carries.
#   demo.sh PALETTIZE
set -eu
palettize=$1
model=examples/fashion-mnist/fashion-mnist.mlpackage
out=$(dirname "$palettize")/demo
mkdir -p "$out"

echo "palettize makes trained neural networks small: each weight tensor gets a look-up table of 2^n"
echo "values and an n-bit index for each weight. Here is $model,"
echo "a classifier of clothes, at 4 bit:"
echo
echo "\$ palettize compress $model -o $out/4bit.mlpackage --nbits 4"
"$palettize" compress "$model" -o "$out/4bit.mlpackage" --nbits 4
echo
echo "At other bit widths, one look-up table for each weight and one for every 8 output channels"
echo "(mean PSNR over the palettized weights):"
echo
printf '%5s %28s %28s\n' bits "one LUT: ratio, KiB, PSNR" "groups of 8: ratio, KiB, PSNR"
for nbits in 2 4 6 8; do
    printf '%5s' $nbits
    for granularity in per_tensor per_grouped_channel; do
        "$palettize" compress "$model" -o "$out/$nbits-$granularity.mlpackage" --nbits $nbits \
            --granularity $granularity --group-size 8 --json "$out/report.json" --quiet
        python3 - "$out/report.json" <<'PYTHON'
import json
import sys

report = json.load(open(sys.argv[1]))
psnr = [w["psnr"] for w in report["weights"] if w["psnr"] is not None]
print(f"{report['ratio']:10.2f} {report['bytes_after'] / 1024:8.1f} "
      f"{sum(psnr) / len(psnr):6.1f} dB", end="  ")
PYTHON
    done
    echo
done
echo
echo "The files are in $out; they load in Core ML as the original does."
