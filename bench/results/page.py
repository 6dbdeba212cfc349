"""docs/results.md, from the figures that have been measured so far."""

import statistics
import textwrap

import compare
import rows

INTRODUCTION = """<!-- Made by: bench/results.py -->
# Results

Made by `bench/results.py`. Every configuration is a file in [bench/results](../bench/results), in the
layout that `palettize compress --config` reads. Figures that have not been measured are left empty.
"""

RATIOS = """
## Compression ratio of the Core ML package

Size of the float16 package, all its files, divided by that of the palettized one. *published*: the
table in Core ML Tools' documentation. *per tensor*: N bit and one look-up table for every weight that
is large enough (2048 elements), beside coremltools {version} on the same package. *our configuration*
reaches the published ratio: where that is lower than N bit everywhere, it spends the room on the
smallest layers (those of the first stages and the depthwise ones), which cost least to keep; where
it is higher, some layers get fewer bits.

| network | bits | published | per tensor | coremltools, per tensor | our configuration | what it does |
|---|---|---|---|---|---|---|
"""

ACCURACY = """
## Accuracy on the test images, percent

Everything is scored on the final file, by `palettize eval`; coremltools' networks in PyTorch, which is
where they exist. {samples} training images for the methods that look at data; DKM sees all training
images {epochs}. Figures of several trials are their mean ± standard deviation (of the sample).
{notes}
"""

NOTES = {  # what a figure of a row has -> what is said of it above the tables
    "steps": "Figures with ‡ are of training that was cut short, as the whole would take too long: the "
             "learning rate\nfell to zero over the time that it had, which was enough for the steps "
             "that are named. The whole\nmay reach more.",
    "unfinished": "\"> 7 min\" and the like: stopped after that time.",
    "refused": "\"refused\": coremltools stops with an error, as some group has fewer weights "
               "than\na look-up table has entries.",
    "out_of_memory": "\"> 16 GiB\": stopped when it asked for more memory than that.",
}

TIMES = {1: "once", 2: "twice", 3: "three times"}

METHOD_TITLES = {"kmeans": "K-Means", "sensitive": "Sensitive K-Means",
                 "layerwise": "layer-wise", "dkm": "DKM"}


def make(ours, theirs, version="9.0"):
    summary = textwrap.fill(compare.summary(ours, theirs), 100, break_on_hyphens=False)
    parts = [INTRODUCTION, f"\n{summary}\n", RATIOS.format(version=version)]
    parts += [ratio_row(ours, theirs, network, nbits)
              for network, one in rows.RATIO_NETWORKS.items() for nbits in one.published]
    for name, network in rows.SCORED_NETWORKS.items():
        notes = [note for key, note in NOTES.items()
                 if any(key in figures for row, figures in theirs.items()
                        if row.startswith(f"{name}/"))]
        parts.append(ACCURACY.format(samples=rows.SAMPLES, epochs=TIMES[rows.EPOCHS[name]],
                                     notes="\n".join(notes))
                     .replace("## Accuracy on", f"## {network.title}: accuracy on").rstrip())
        parts.append(f"\n\nFloat: {accuracy(ours.get(f'{name}/float'))} here"
                     + (f", {accuracy(theirs[f'{name}/float'])} in PyTorch"
                        if f"{name}/float" in theirs else "") + ".\n")
        for form, title in (("", "One look-up table for each weight"),
                            ("/grouped", f"A table for every {rows.GROUP_SIZE} output channels")):
            parts.append(accuracy_table(ours, theirs, name, form, title))
    return "".join(parts)


def ratio_row(ours, theirs, network, nbits):
    name = f"ratio/{network}/{nbits}"
    one, mine, other = rows.RATIO_NETWORKS[network], ours.get(name, {}), theirs.get(name, {})
    summary = rows.config_of(name).read_text().splitlines()[0].removeprefix("# ")
    return (f"| {one.title} | {nbits} | {one.published[nbits]:.2f} | {ratio(mine.get('ratio'))} "
            f"| {ratio(other.get('ratio'))}{mark(other)} | {ratio(mine.get('chosen'))} "
            f"| [{summary}](../bench/results/{rows.config_of(name).name}) |\n")


def accuracy_table(ours, theirs, network, form, title):
    lines = [f"\n### {title}\n\n| method | " + " | ".join(f"{n} bit" for n in rows.BITS) + " |\n",
             "|---" * (len(rows.BITS) + 1) + "|\n"]
    lines.append("| ratio | " + " | ".join(
        ratio(ours.get(f"{network}/kmeans/{n}{form}", {}).get("ratio")) for n in rows.BITS)
        + " |\n")
    for method in rows.METHODS:
        for whose, figures in (("palettize", ours), ("coremltools", theirs)):
            if whose == "coremltools" and method not in rows.PEER_METHODS:
                continue
            cells = [figures.get(f"{network}/{method}/{n}{form}") for n in rows.BITS]
            lines.append(f"| {METHOD_TITLES[method]}, {whose} | "
                         + " | ".join(map(accuracy, cells)) + " |\n")
    return "".join(lines) + costs(ours, theirs, network, form)


def costs(ours, theirs, network, form):
    """What each row took."""
    lines = ["\nTime and peak memory; of several trials the most:\n\n| method | "
             + " | ".join(f"{n} bit" for n in rows.BITS) + " |\n",
             "|---" * (len(rows.BITS) + 1) + "|\n"]
    for method in rows.METHODS:
        for whose, figures in (("palettize", ours), ("coremltools", theirs)):
            cells = [cost(figures.get(f"{network}/{method}/{n}{form}", {})) for n in rows.BITS]
            if any(cells):
                lines.append(f"| {METHOD_TITLES[method]}, {whose} | " + " | ".join(cells) + " |\n")
    return "".join(lines)


def cost(figures):
    if "seconds" not in figures:
        return limit_of(figures)
    seconds, peak = figures["seconds"], f"{figures['peak_bytes'] / (1 << 20):.0f} MiB"
    if "steps" in figures:
        done, steps = figures["steps"]
        return f"> {seconds:.0f} s ({done} of {steps} steps), {peak}"
    return f"{seconds:.{2 if seconds < 1 else 1 if seconds < 100 else 0}f} s, {peak}"


def limit_of(figures):
    """What a row without figures failed by."""
    if "refused" in figures:
        return "refused"
    if "unfinished" in figures:
        return f"> {figures['unfinished'] / 60:.0f} min"
    if "out_of_memory" in figures:
        return f"> {figures['out_of_memory'] / (1 << 30):.0f} GiB"
    return ""


def ratio(value):
    return "" if value is None else f"{value:.2f}"


def accuracy(figures):
    if not figures or "accuracy" not in figures:
        return limit_of(figures or {})
    values = figures["accuracy"]
    text = f"{statistics.mean(values):.2f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.2f}"
    return text + mark(figures)


def mark(figures):
    return " ‡" if "steps" in figures else ""
