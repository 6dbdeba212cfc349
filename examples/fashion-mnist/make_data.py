"""Cut the part of Fashion-MNIST that this folder carries out of the whole data set.

The first 4,000 training images and the first 2,000 test images, in the same format as the whole.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PARTS = {"train": 4000, "t10k": 2000}


def read_idx(path):
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">u4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def write_idx(path, values):
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    # No name and no time, so that the same values give the same file.
    path.write_bytes(gzip.compress(header + values.tobytes(), 9, mtime=0))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        metavar="DIR",
        help="folder of the four .gz files of the data set (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=HERE / "data",
        metavar="DIR",
        help="folder to write to (default: data, beside the script)",
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for part, count in PARTS.items():
        for kind in ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"):
            values = read_idx(arguments.data / f"{part}-{kind}")
            write_idx(arguments.output / f"{part}-{kind}", values[:count])


if __name__ == "__main__":
    main()
