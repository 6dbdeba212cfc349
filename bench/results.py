"""Makes docs/results.md: measures the rows that have no figures yet and puts the page together.

    results.py                                  all rows that are missing, then the page
    results.py --rows 'resnet20/layerwise/*'    these, whether they are missing or not
    results.py --page                           the page alone
    results.py --list                           the names of all rows, and which have figures

Our figures are kept in bench/results/ours.json, coremltools' in peers.json, which
bench/results/peers.py makes.
"""

import argparse
import fnmatch
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench" / "results"))

import page
import rows

OURS, PEERS = (ROOT / "bench" / "results" / name for name in ("ours.json", "peers.json"))
PAGE = ROOT / "docs" / "results.md"


def main():
    options = parse_arguments()
    known = read(OURS)
    names = rows.row_names()
    if options.list:
        print("\n".join(f"{'*' if name in known else ' '} {name}" for name in names))
        return 0
    if options.page:
        chosen = []
    elif options.rows:
        chosen = [name for name in names
                  if any(fnmatch.fnmatch(name, pattern) for pattern in options.rows)]
        if not chosen:
            sys.exit(f"no row is named {' or '.join(options.rows)}; --list shows them")
    else:
        chosen = [name for name in names if name not in known]
    bench = rows.Bench(options.command, options.shared, options.work, options.torch_python)
    failed = [name for name in chosen if not measure(bench, name)]
    PAGE.write_text(page.make(read(OURS), read(PEERS)))
    return "\n".join(["these rows have no figures:", *failed]) if failed else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     epilog="Rows take minutes to hours; each is kept once it is "
                                            "measured, so a run may be stopped and started again.")
    parser.add_argument("--rows", nargs="+", help="names, or patterns of them")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--command", type=Path, default=ROOT / "build" / "palettize")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared",
                        help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "results",
                        help="folder that keeps the exported networks")
    parser.add_argument("--torch-python", default=sys.executable,
                        help="a Python with bench/requirements.txt, to export networks")
    return parser.parse_args()


def read(path):
    return json.loads(path.read_text()) if path.is_file() else {}


def measure(bench, name):
    """Keeps the figures of a row; false if it could not be measured."""
    try:
        figures = rows.measure(bench, name)
    except RuntimeError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return False
    OURS.write_text(json.dumps(dict(sorted((read(OURS) | {name: figures}).items())), indent=1)
                    + "\n")
    print(name, figures, flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
