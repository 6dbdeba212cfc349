"""Makes the configurations of the ratio table: all layers at N bit, but for as many of the smallest
at 8 bit as the published ratio leaves room for; or, where N bit everywhere falls short of it, but for
some with fewer bits.

    choose.py MODEL N RATIO > bench/results/NAME-N.yaml
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NARROWER = {8: 6, 6: 4, 4: 2}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("nbits", type=int)
    parser.add_argument("ratio", type=float)
    parser.add_argument("--command", type=Path, default=ROOT / "build" / "palettize")
    options = parser.parse_args()
    layers = smallest_first(options)
    plain = ratio_of(options, {})
    if plain < options.ratio:
        print(lowered(options, layers))
    elif options.nbits == 8:
        print(text_of(8, {}, "8 bit for all layers"))
    else:
        print(raised(options, layers))


def smallest_first(options):
    process = subprocess.run(
        [options.command, "inspect", options.model, "--nbits", str(options.nbits), "--json"],
        capture_output=True, text=True, check=True)
    weights = [weight for weight in json.loads(process.stdout)["weights"]
               if weight["status"] == "compressible"]
    return sorted(weights, key=lambda weight: weight["bytes"])


def raised(options, layers):
    """As many of the smallest at 8 bit as still reach the ratio, by bisection."""
    def widths(count):
        return {layer["name"]: 8 for layer in layers[:count]}

    low, high = 0, len(layers)  # low reaches it, more than high does not
    while low < high:
        middle = (low + high + 1) // 2
        if ratio_of(options, widths(middle)) >= options.ratio:
            low = middle
        else:
            high = middle - 1
    share = sum(layer["bytes"] for layer in layers[:low]) / sum(
        layer["bytes"] for layer in layers)
    return text_of(options.nbits, widths(low),
                   f"{options.nbits} bit; the {low} smallest of {len(layers)} layers, "
                   f"{100 * share:.1f} % of the weights, at 8")


def lowered(options, layers):
    """The largest that do not save more than is needed, then the smallest until it is enough."""
    narrow = NARROWER[options.nbits]
    before, after = sizes_of(options, {})
    needed = after - before / options.ratio
    chosen = []
    for layer in reversed(layers):
        saved = layer["bytes"] / 16 * (options.nbits - narrow)
        if saved <= needed:
            chosen.append(layer)
            needed -= saved
    for layer in layers:
        widths = {one["name"]: narrow for one in chosen}
        if ratio_of(options, widths) >= options.ratio:
            break
        if layer not in chosen:
            chosen.append(layer)
    else:
        sys.exit(f"{options.model} does not reach {options.ratio} at {narrow} bit")
    share = sum(layer["bytes"] for layer in chosen) / sum(layer["bytes"] for layer in layers)
    return text_of(options.nbits, widths, f"{options.nbits} bit; {len(chosen)} of {len(layers)} "
                                          f"layers, {100 * share:.1f} % of the weights, at {narrow}")


def text_of(nbits, widths, summary):
    lines = [f"# {summary}", f"global_config: {{nbits: {nbits}}}"]
    if widths:
        lines += ["op_name_configs:"]
        lines += [f"  {name}: {{nbits: {width}}}" for name, width in widths.items()]
    return "\n".join(lines)


def ratio_of(options, widths):
    before, after = sizes_of(options, widths)
    return before / after


def sizes_of(options, widths):
    with tempfile.TemporaryDirectory() as folder:
        config, report = Path(folder) / "config.yaml", Path(folder) / "report.json"
        output = Path(folder) / f"out{Path(options.model).suffix}"
        config.write_text(text_of(options.nbits, widths, "") + "\n")
        subprocess.run(
            [options.command, "compress", options.model, "-o", output,
             "--config", config, "--json", report, "--quiet"], check=True)
        run = json.loads(report.read_text())
        return run["bytes_before"], run["bytes_after"]


if __name__ == "__main__":
    main()
