"""k-means on short vectors: ours against scikit-learn's KMeans(n_clusters=k, n_init=5).

Both turn the same float32 vectors into centroids and a label for each vector, in turns; the best
time of the turns counts. scikit-learn has as many threads as it takes by default, ours has one, then
two. The error is the squared error of the vectors against the nearest centroid, ours relative to
scikit-learn's. Ends with exit status 1 if ours is anywhere larger by more than half a percent.
"""

import argparse
import ctypes
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (2_000, 18_432, 65_536, 300_000)
QUICK_COUNTS = (2_000, 18_432)
DIMS = (2, 4, 8)
CLUSTERS = (4, 16, 64, 256)
CHUNK = 1 << 15
MOST_ERROR = 1.005  # few clusters have many arrangements that are nearly as good as the best


def main():
    options = parse_arguments()
    warnings.filterwarnings("ignore")  # fewer distinct vectors than clusters
    ours = Ours(options.library)
    from sklearn.cluster import KMeans

    KMeans(2, n_init=1).fit(np.eye(4, dtype=np.float32))  # starts its threads
    print("| values | n | dim | k | error | scikit-learn ms | 1 thread ms | time "
          "| 2 threads ms | time |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    worse = slower = rows = 0
    largest = 0.0
    for name, vectors in data(options):
        for clusters in options.clusters:
            row = measure(ours, KMeans, vectors, clusters, options)
            error, reference, one, two = row
            print(f"| {name} | {len(vectors)} | {vectors.shape[1]} | {clusters} | {error:.4f} "
                  f"| {1e3 * reference:.1f} | {1e3 * one:.1f} | {one / reference:.3f} "
                  f"| {1e3 * two:.1f} | {two / reference:.3f} |", flush=True)
            rows += 1
            largest = max(largest, error)
            worse += error > 1.00005
            slower += one > reference / 10
    print(f"\n{rows} cases: the error is above scikit-learn's in {worse}, "
          f"and at most {largest:.4f} of it; the time of one thread is above a tenth of its in "
          f"{slower}.")
    return 1 if largest > MOST_ERROR else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=ROOT / "build" / "libbench_vectors.so")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--patience", type=float, default=2,
                        help="seconds of scikit-learn after which there are no more turns")
    parser.add_argument("--quick", action="store_true", help="up to 18,432 vectors only")
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS)
    parser.add_argument("--clusters", type=int, nargs="+", default=CLUSTERS)
    parser.add_argument("--counts", type=int, nargs="*",
                        help="numbers of random vectors; none for real weights alone")
    parser.add_argument("--kinds", nargs="+", default=("normal", "laplace", "float16"),
                        choices=("normal", "laplace", "float16"))
    parser.add_argument("--weights", type=Path, nargs="*", default=(),
                        help=".npy arrays, output channels first; cut along these into vectors")
    return parser.parse_args()


def data(options):
    """(name, vectors) of each case."""
    for path in options.weights:
        weight = np.load(path).astype(np.float32)
        weight = weight.reshape(weight.shape[0], -1)
        for dim in options.dims:
            if weight.shape[0] % dim == 0:
                cut = weight.reshape(-1, dim, weight.shape[1]).transpose(0, 2, 1)
                yield path.stem, np.ascontiguousarray(cut.reshape(-1, dim))
    counts = QUICK_COUNTS if options.quick else COUNTS
    for count in counts if options.counts is None else options.counts:
        for kind in options.kinds:
            for dim in options.dims:
                random = np.random.default_rng(0)
                shape = (count, dim)
                if kind == "laplace":
                    values = random.laplace(size=shape)
                else:
                    values = random.standard_normal(shape)
                if kind == "float16":
                    values = (values * 0.05).astype(np.float16)
                yield kind, values.astype(np.float32)


def measure(ours, peer, vectors, clusters, options):
    """(error ratio, seconds of scikit-learn, seconds with one thread, with two)."""
    times = {"peer": [], 1: [], 2: []}
    rows = np.ascontiguousarray(vectors.T)  # how the library has them anyway
    for _ in range(options.turns):
        start = time.perf_counter()
        fitted = peer(n_clusters=clusters, n_init=5, random_state=0).fit(vectors)
        times["peer"].append(time.perf_counter() - start)
        for threads in (1, 2):
            start = time.perf_counter()
            centroids, _ = ours(rows, clusters, threads)
            times[threads].append(time.perf_counter() - start)
        if sum(times["peer"]) > options.patience:
            break
    error = squared_error(vectors, centroids)
    reference = squared_error(vectors, fitted.cluster_centers_)
    return error / reference if reference else 1.0, *(min(t) for t in times.values())


def squared_error(vectors, centroids):
    """From differences, in double; in pieces to keep the temporaries small."""
    centroids = np.asarray(centroids, dtype=np.float64)
    total = 0.0
    for start in range(0, len(vectors), CHUNK):
        piece = vectors[start:start + CHUNK].astype(np.float64)
        scores = (centroids**2).sum(axis=1) - 2 * (piece @ centroids.T)
        total += float(((piece - centroids[scores.argmin(axis=1)])**2).sum())
    return total


class Ours:
    """What palettize does to the vectors of a weight; bench/vectors.c lets it be called."""

    def __init__(self, path):
        if not path.exists():
            sys.exit(f"{path}: not there; cmake --build build --target bench_vectors")
        self.function = ctypes.CDLL(str(path)).bench_vector_kmeans
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.function.argtypes = [
            pointer, size, size, ctypes.c_uint, ctypes.c_int, pointer, pointer]
        self.function.restype = ctypes.c_int

    def __call__(self, rows, clusters, threads):
        dim, count = rows.shape
        centroids = np.empty((clusters, dim), dtype=np.float32)
        labels = np.empty(count, dtype=np.uint8)
        status = self.function(rows.ctypes.data, count, dim, clusters, threads,
                               centroids.ctypes.data, labels.ctypes.data)
        if status != 0:
            raise RuntimeError(f"status {status}")
        return centroids, labels


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # nobody's threads spin in others' time
    sys.exit(main())
