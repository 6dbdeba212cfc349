"""What the tables come to: which rows of ours fall short of coremltools', or of the published ratio."""

import statistics

import rows

NOISE = 0.2  # of an accuracy, in percent of the images


def shortfalls(ours, theirs):
    """(row, what falls short, our figure, the figure that it has to reach or stay below), of all rows
    that both sides have."""
    found = []
    for name, other in theirs.items():
        mine = ours.get(name)
        if not mine or name.endswith("/float"):
            continue
        if name.startswith("ratio/"):
            _, network, nbits = name.split("/")
            published = rows.RATIO_NETWORKS[network].published[int(nbits)]
            found += [(name, what, is_, wanted) for what, is_, wanted in
                      (("ratio", mine["ratio"], other["ratio"]),
                       ("published ratio", mine["chosen"], published)) if is_ < wanted]
            continue
        if "accuracy" in other:
            is_, wanted = (statistics.mean(one["accuracy"]) for one in (mine, other))
            if is_ < wanted - NOISE - 1e-9:
                found.append((name, "accuracy", is_, wanted))
        # What was stopped would have taken longer; what asked for too much memory, more of it.
        for what, limit in (("seconds", "unfinished"), ("peak_bytes", "out_of_memory")):
            wanted = other.get(what, other.get(limit))
            if wanted is not None and mine[what] >= wanted:
                found.append((name, what, mine[what], wanted))
    return found


def scored(theirs):
    """The rows of methods that coremltools has, where it has an accuracy, and where it has none."""
    names = [name for name in rows.row_names()
             if not name.startswith("ratio/") and name.split("/")[1] in rows.PEER_METHODS]
    return ([name for name in names if "accuracy" in theirs.get(name, {})],
            [name for name in names if "accuracy" not in theirs.get(name, {})])


def summary(ours, theirs):
    """What the tables come to, in words."""
    both, missing = scored(theirs)
    text = f"coremltools has accuracies in {len(both)} rows of the methods that it has"
    text += f" (none in {', '.join(missing)})." if missing else "."
    cut = sum("steps" in theirs[name] for name in both)
    if cut:
        text += f" Those of {cut} rows are of training that was cut short (‡)."
    found = shortfalls(ours, theirs)
    if not found:
        return (f"{text} In all of them palettize's accuracy is at least that minus {NOISE} for "
                "noise, and its time and memory are lower; no ratio is below coremltools' or the "
                "published one.")
    return (f"{text} palettize falls short of it, allowing {NOISE} for noise, or of a published "
            "ratio in: " + "; ".join(f"{name}, {what}: {is_:.6g} beside {wanted:.6g}"
                                     for name, what, is_, wanted in found) + ".")
