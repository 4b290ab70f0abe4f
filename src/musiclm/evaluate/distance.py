"""How far two sets of clips lie from each other: Fréchet and kernel distance of embeddings, divergence of tag
posteriors.

- FAD: Fréchet distance between Gaussians fitted to the embeddings of two sets (Kilgour et al. 2019). 0 is the same,
  lower is better; the unit is that of the embedder, so figures of different embedders can't be compared. A small set
  makes it too large.
- FAD-infinity: the same extrapolated to endless sets (Chong and Forsyth 2020; Gui et al. 2024): the intercept of a line
  through FAD against 1 / n. With fewer clips than dimensions that is no line, so half of the set must have more clips
  than an embedding has numbers.
- MMD: unbiased squared maximum mean discrepancy with the cubic kernel of Binkowski et al. (2018). 0 is the same (it can
  fall below), lower is better.
- KLD: mean Kullback-Leibler divergence of tag posteriors of paired clips, nats, lower is better.
"""

import numpy as np
from jaxtyping import Float

Embeddings = Float[np.ndarray, "n d"]
Reference = Float[np.ndarray, "m d"]


def frechet_distance(a: Embeddings, b: Reference) -> float:
    """FAD of two sets, 0 or more. Raises: ValueError for sets of fewer than two clips or of different width, and
    embeddings that are not finite."""
    _check(a, b)
    # trace of the root of the product of two covariances: both from the factors, by singular values, with no matrix
    # root of an ill-conditioned product: tr((A'A B'B)^(1/2)) is the nuclear norm of A B'
    left, right = (x - x.mean(0) for x in (a, b))
    left, right = left / np.sqrt(len(a) - 1), right / np.sqrt(len(b) - 1)
    shared = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    means = np.square(a.mean(0) - b.mean(0)).sum()
    return max(0.0, float(means + np.square(left).sum() + np.square(right).sum() - 2 * shared))


def frechet_infinity(a: Embeddings, b: Reference, *, points: int = 15, draws: int = 4, seed: int = 0) -> float:
    """FAD of `a` against the reference `b` at infinite size of `a`: subsets of a half to the whole of `a`, without
    replacement.

    Raises: ValueError for sets too small for it (`can_extrapolate`).
    """
    _check(a, b)
    if not can_extrapolate(a):
        raise ValueError(
            f"{len(a)} clips; the extrapolation needs more than {2 * max(a.shape[1], 4)}, twice the numbers "
            "of an embedding"
        )
    rng = np.random.default_rng(seed)
    sizes = np.linspace(len(a) // 2, len(a), points).round().astype(int)
    found = [np.mean([frechet_distance(a[rng.permutation(len(a))[:n]], b) for _ in range(draws)]) for n in sizes]
    slope_and_intercept = np.polyfit(1 / sizes, found, 1)
    return float(slope_and_intercept[1])


def can_extrapolate(a: Embeddings) -> bool:
    """Whether half of a set has more clips than an embedding has numbers, and more than four."""
    return len(a) // 2 > max(a.shape[1], 4)


def kernel_distance(a: Embeddings, b: Reference) -> float:
    """Squared MMD with the kernel (x.y / d + 1)^3 on embeddings scaled to the reference `b`'s mean square.

    Raises: as `frechet_distance`.
    """
    _check(a, b)
    scale = np.sqrt(np.square(b).mean())
    a, b = a / scale, b / scale
    d = a.shape[1]

    def kernel(x: Embeddings, y: Reference) -> Float[np.ndarray, "n m"]:
        return (x @ y.T / d + 1) ** 3

    def within(x: Embeddings) -> float:
        products = kernel(x, x)
        return float((products.sum() - np.trace(products)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def posterior_divergence(scores: Float[np.ndarray, "n t"], reference: Float[np.ndarray, "n t"]) -> float:
    """Mean over pairs of KL(reference | scores), each tag a yes or no, summed over the tags.

    Raises: ValueError for other shapes.
    """
    if scores.shape != reference.shape or not len(scores):
        raise ValueError(f"scores of shapes {scores.shape} and {reference.shape}; pairs need the same")
    p, q = (np.clip(x, 1e-6, 1 - 1e-6) for x in (reference, scores))
    return float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(1).mean())


def _check(a: Embeddings, b: Reference) -> None:
    if a.ndim != 2 or b.ndim != 2 or min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"embeddings of shapes {a.shape} and {b.shape}; wanted two or more rows of the same width")
    for x in (a, b):
        if not np.isfinite(x).all():
            raise ValueError(
                f"{int((~np.isfinite(x).all(1)).sum())} of {len(x)} embeddings are not finite; leave those clips out"
            )
