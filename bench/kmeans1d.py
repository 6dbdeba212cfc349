"""1-D k-means on Gaussian values: ours against three that people use.

Every contender turns an array of values into centroids and a label for each value, on the same
data, in turns; the best time of the turns counts. The error is the squared error of the values
against their centroids, relative to the smallest one in the row. Everyone's centroids are first
rounded to the type of the values, as they are when a palette is stored.
"""

import argparse
import ctypes
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((1 << 20, np.float16), (1 << 23, np.float16), (1 << 20, np.float32))
QUICK_SIZES = ((1 << 20, np.float16),)
CLUSTERS = (4, 16, 64, 256)
CHUNK = 1 << 20
KMEANS1D_MEMORY = 2 << 30  # it keeps 16 bytes for each distinct value and cluster


def main():
    options = parse_arguments()
    contenders = {
        "ours": Ours(options.library),
        "np.unique + kmeans1d": kmeans1d(),
        "flash1dkmeans": flash1dkmeans(),
    }
    if not options.quick:
        contenders["scikit-learn"] = sklearn_kmeans
    for name in options.without:
        contenders.pop(name, None)
    print("| values | k | " + " | ".join(contenders) + " |")
    print("|---|---|" + "---|" * len(contenders))
    for size, dtype in QUICK_SIZES if options.quick else SIZES:
        values = np.random.default_rng(0).standard_normal(size).astype(dtype)
        for clusters in CLUSTERS:
            results = measure(contenders, values, clusters, options)
            best = min(error for _, error in results.values() if error is not None)
            cells = " | ".join(cell(results[name], best) for name in contenders)
            print(f"| 2^{size.bit_length() - 1} {dtype.__name__} | {clusters} | {cells} |",
                  flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=ROOT / "build" / "libpalettize.so")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--patience", type=float, default=10,
                        help="seconds after which a contender's next turns are left out")
    parser.add_argument("--quick", action="store_true",
                        help="2^20 float16 values only, without scikit-learn")
    parser.add_argument("--without", nargs="+", default=(), metavar="NAME",
                        help="contenders to leave out: scikit-learn takes minutes for a cell")
    return parser.parse_args()


def measure(contenders, values, clusters, options):
    """{name: (best seconds, squared error)}; (None, None) for a contender that cannot."""
    times, errors = {name: [] for name in contenders}, {}
    for turn in range(options.turns):
        for name, cluster in contenders.items():
            if turn > 0 and (name not in errors or times[name][-1] > options.patience):
                continue
            start = time.perf_counter()
            result = cluster(values, clusters)
            seconds = time.perf_counter() - start
            if result is None:
                continue
            times[name].append(seconds)
            errors[name] = squared_error(values, *result)
    return {name: (min(times[name], default=None), errors.get(name)) for name in contenders}


def squared_error(values, centroids, labels):
    """In pieces, so that the largest array needs no gigabytes of temporaries."""
    centroids = np.asarray(centroids).astype(values.dtype).astype(np.float64)
    total = 0.0
    for start in range(0, values.size, CHUNK):
        piece = slice(start, start + CHUNK)
        difference = values[piece].astype(np.float64) - centroids[labels[piece]]
        total += float(difference @ difference)
    return total


def cell(result, best):
    seconds, error = result
    return "-" if seconds is None else f"{seconds:.3f} s ({error / best:.6f})"


class Ours:
    """pal_kmeans_f16 and pal_kmeans_f32 of the shared library."""

    def __init__(self, path):
        library = ctypes.CDLL(str(path))
        self.functions = {
            np.dtype(np.float16): library.pal_kmeans_f16,
            np.dtype(np.float32): library.pal_kmeans_f32,
        }
        pointer = ctypes.c_void_p
        for function in self.functions.values():
            function.argtypes = [
                pointer, pointer, ctypes.c_size_t, ctypes.c_uint, pointer, pointer, pointer]
            function.restype = ctypes.c_int

    def __call__(self, values, clusters):
        centroids = np.zeros(clusters, dtype=values.dtype)
        labels = np.empty(values.size, dtype=np.uint8)
        status = self.functions[values.dtype](
            values.ctypes.data, None, values.size, clusters,
            centroids.ctypes.data, labels.ctypes.data, None)
        if status != 0:
            raise RuntimeError(f"status {status}")
        return centroids, labels


def kmeans1d():
    """The exact algorithm coremltools uses, on distinct values as coremltools calls it."""
    import logging

    logging.disable(logging.WARNING)
    from coremltools._deps import kmeans1d as module

    def cluster(values, clusters):
        distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        if 16 * distinct.size * clusters > KMEANS1D_MEMORY:
            return None
        result = module.cluster(distinct, clusters, weights=counts)
        return np.array(result.centroids), np.array(result.clusters)[inverse.ravel()]

    return cluster


def flash1dkmeans():
    from flash1dkmeans import kmeans_1d

    def cluster(values, clusters):
        return kmeans_1d(values.astype(np.float32), clusters)  # it takes no float16

    cluster(np.linspace(-1, 1, 1000, dtype=np.float32), 4)  # numba compiles now, not later
    return cluster


def sklearn_kmeans(values, clusters):
    """As coremltools calls it for small weights."""
    from sklearn.cluster import KMeans

    model = KMeans(clusters, init="k-means++", tol=1e-2, n_init=1, random_state=0)
    model.fit(values.reshape(-1, 1))
    return model.cluster_centers_.ravel(), model.labels_


if __name__ == "__main__":
    main()
