"""Makes dkm.json: differentiable k-means in PyTorch, float64, gradients by autograd.

    python tests/reference/dkm.py > tests/reference/dkm.json

The formulas of docs/dkm.md written down plainly, with the whole attention in memory, for
tests/unit/test_dkm.c to compare with. Needs PyTorch; the tests do not.
"""

import json
import sys

import torch

torch.set_default_dtype(torch.float64)


def dkm(weights, centroids, tau=1e-4, iterations=3, epsilon=1e-4, zero_threshold=1e-7,
        prune_threshold=1e-7, enforce_zero=False, relative=False, rounding=None):
    """One group: vectors [n, dim] and centroids [k, dim] to palettized vectors, centroids, and how
    many iterations there were."""
    centroids = centroids.clone()
    zero = None
    if enforce_zero:
        zero = int(centroids.square().sum(1).argmin())
        centroids[zero] = 0
    if relative:
        tau = tau * weights.detach().var(dim=0, unbiased=False).mean()
    last = None
    for iteration in range(iterations):
        distance = (weights[:, None, :] - centroids[None, :, :]).square().sum(-1)
        if zero is not None:
            bonus = torch.zeros(len(centroids))
            bonus[zero] = prune_threshold
            distance = distance - bonus
        attention = torch.softmax(-distance / tau, dim=-1).clamp(min=zero_threshold)
        centroids = (attention.T @ weights) / attention.sum(0)[:, None]
        if rounding is not None:
            centroids = centroids + (rounding(centroids) - centroids).detach()
        if zero is not None:
            keep = torch.ones(len(centroids), 1)
            keep[zero] = 0
            centroids = centroids * keep
        inertia = distance.min(-1).values.sum()
        if last is not None and abs(last - inertia) <= epsilon:
            break
        last = inertia
    return attention @ centroids, centroids, iteration + 1


def layer(case, weights, centroids):
    """A whole tensor [outer, groups, channels, inner]."""
    outer, groups, channels, inner = case["shape"]
    dim, scale = case["dim"], None
    cut = weights.reshape(outer, groups, channels, inner)
    if "scale" in case:
        scale = torch.tensor(case["scale"]).reshape(groups, channels)[None, :, :, None]
        cut = cut / scale
    parts, ends, counts = [], [], []
    for group in range(groups):
        vectors = cut[:, group].reshape(outer, channels // dim, dim, inner).transpose(2, 3)
        rounding = (lambda c: c.half().double()) if case.get("float16") else None
        result, end, count = dkm(vectors.reshape(-1, dim), centroids[group], rounding=rounding,
                                 **case["knobs"])
        result = result.reshape(outer, channels // dim, inner, dim).transpose(2, 3)
        parts.append(result.reshape(outer, channels, inner))
        ends.append(end)
        counts.append(count)
    palettized = torch.stack(parts, dim=1)
    if scale is not None:
        palettized = palettized * scale
    return palettized.reshape(-1), torch.stack(ends), counts


def make(name, shape, dim, clusters, seed, spread=0.1, **extra):
    case = {"name": name, "shape": shape, "dim": dim, "clusters": clusters,
            "knobs": extra.pop("knobs", {}), **extra}
    generator = torch.Generator().manual_seed(seed)
    n = shape[0] * shape[1] * shape[2] * shape[3]
    weights = (torch.randn(n, generator=generator) * spread).float().double()
    gradient = torch.randn(n, generator=generator).float().double()
    if "scale" in case:
        case["scale"] = (0.5 + torch.rand(shape[1] * shape[2], generator=generator)).float().tolist()
    choice = torch.randn(shape[1], clusters, dim, generator=generator) * spread
    centroids = choice.sort(dim=1).values if dim == 1 else choice
    weights.requires_grad_(True)
    palettized, ends, counts = layer(case, weights, centroids)
    (palettized * gradient).sum().backward()
    case.update(weights=numbers(weights), gradient=numbers(gradient),
                centroids=centroids.reshape(-1).tolist(), palettized=numbers(palettized),
                ends=numbers(ends), iterations=counts, weight_gradient=numbers(weights.grad))
    return case


def numbers(tensor):
    """Digits enough for the comparison, and for what is float32 to be exact."""
    return [float(f"{x:.10g}") for x in tensor.detach().reshape(-1).tolist()]


def main():
    cases = [
        make("scalar, coremltools' defaults", [1, 1, 90, 1], 1, 4, 1),
        make("scalar, warm", [1, 1, 90, 1], 1, 8, 2, knobs={"tau": 2e-3, "epsilon": 0.0}),
        make("scalar, 5 iterations, no threshold", [1, 1, 64, 1], 1, 16, 3,
             knobs={"tau": 5e-4, "epsilon": 0.0, "iterations": 5, "zero_threshold": 0.0}),
        make("scalar, one iteration", [1, 1, 50, 1], 1, 4, 4,
             knobs={"tau": 1e-3, "iterations": 1}),
        make("scalar, stops early", [1, 1, 50, 1], 1, 4, 5, knobs={"tau": 1e-3, "epsilon": 1e3}),
        make("scalar, a threshold that matters", [1, 1, 80, 1], 1, 8, 6,
             knobs={"tau": 1e-3, "epsilon": 0.0, "zero_threshold": 1e-3}),
        make("scalar, zero enforced", [1, 1, 80, 1], 1, 8, 7,
             knobs={"tau": 1e-3, "epsilon": 0.0, "enforce_zero": True, "prune_threshold": 1e-3}),
        make("scalar, relative temperature", [1, 1, 80, 1], 1, 8, 8,
             knobs={"tau": 0.05, "epsilon": 0.0, "relative": True}),
        make("scalar, float16 table", [1, 1, 80, 1], 1, 8, 9, float16=True,
             knobs={"tau": 1e-3, "epsilon": 0.0}),
        make("grouped", [3, 2, 4, 5], 1, 4, 10, knobs={"tau": 1e-3, "epsilon": 0.0}),
        make("grouped, scaled", [2, 3, 2, 6], 1, 4, 11, scale=True,
             knobs={"tau": 1e-3, "epsilon": 0.0}),
        make("vectors of 2", [1, 1, 8, 15], 2, 8, 12, knobs={"tau": 2e-3, "epsilon": 0.0}),
        make("vectors of 4, grouped", [2, 2, 8, 5], 4, 4, 13,
             knobs={"tau": 5e-3, "epsilon": 0.0}),
        make("vectors of 2, zero enforced, scaled", [1, 2, 4, 10], 2, 4, 14, scale=True,
             knobs={"tau": 5e-3, "epsilon": 0.0, "enforce_zero": True}),
    ]
    json.dump(cases, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
