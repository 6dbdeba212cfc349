"""What a training step costs, in memory and time, when the way back computes activations again.

The same step (forward, cross entropy, backward, SGD with momentum) of the same model in three
processes, with recompute none, cheap and all. They take turns, and the least time of a turn counts
for each, because whatever else the machine does only adds to it; also the time that its threads had
a processor, which says more on a busy machine if OMP_WAIT_POLICY is passive. The losses after a few
steps must be equal in every digit.
"""

import argparse
import sys
from pathlib import Path

from training_step import MIB, ROOT, Contender

KINDS = ("none", "cheap", "all")


def main():
    options = parse_arguments()
    print(f"batch {options.batch}, {options.threads} threads, {options.turns} turns\n")
    print(f"{'model':<32}{'recompute':<11}{'activations':>12}{'peak MiB':>10}{'ms a step':>11}"
          f"{'ratio':>7}{'processor':>11}{'ratio':>7}")
    for model in options.models:
        measure(options, model)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="ONNX files or Core ML packages")
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "bench" / "training_step")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    return parser.parse_args()


def measure(options, model):
    contenders = [Contender([options.program, model, options.batch, options.threads, kind])
                  for kind in KINDS]
    losses = {contender.run(3)[2] for contender in contenders}
    if len(losses) != 1:
        sys.exit(f"{model}: losses differ: {losses}")
    least = [[float("inf")] * 2 for _ in contenders]
    for turn in range(options.turns):
        order = list(enumerate(contenders))
        for i, contender in order if turn % 2 else order[::-1]:
            took = contender.run(options.steps)
            least[i] = [min(a, b / options.steps) for a, b in zip(least[i], took)]
    for kind, contender, (wall, used) in zip(KINDS, contenders, least):
        peak, activations = contender.stop()
        print(f"{model.name:<32}{kind:<11}{activations / MIB:>12.1f}{peak / MIB:>10.0f}"
              f"{1e3 * wall:>11.1f}{wall / least[0][0]:>7.2f}{1e3 * used:>11.1f}"
              f"{used / least[0][1]:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
