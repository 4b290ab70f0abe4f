"""k-means with k-means++ seeding, for semantic tokens (AudioLM, section 3) and for starting RVQ codebooks (SoundStream,
section III-C).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.nn.parts import all_rows
from musiclm.nn.precision import double


def assign(data: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"], chunk: int = 16384) -> Int[Tensor, " n"]:
    """Index of the nearest centroid (Euclidean) of every row; ties go to the lower index."""
    half_norms = centroids.square().sum(1) * 0.5
    parts = [(half_norms - part @ centroids.T).argmin(1) for part in data.split(chunk)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long, device=data.device)


def kmeans(
    data: Float[Tensor, "n d"], num_clusters: int, num_iterations: int = 20, seed: int = 0
) -> Float[Tensor, "k d"]:
    """Lloyd's algorithm; an empty cluster restarts at a random row.

    Fewer rows than clusters: rows are repeated with a little noise.

    In training with many processes each has rows of its own, and the centroids are those of all of them.

    Raises: ValueError if there are no rows or a row is not finite.
    """
    every = all_rows(data)
    bad = every.sum((~torch.isfinite(data)).sum())
    if every.count == 0 or int(bad):
        raise ValueError(f"k-means needs at least one row and finite values, got {tuple(data.shape)}")
    generator = torch.Generator().manual_seed(seed)
    n = every.count
    order = torch.randperm(n, generator=generator)
    if n < num_clusters:
        repeats = -(-num_clusters // n)
        picked = every.pick(order.repeat(repeats)[:num_clusters])
        noise = torch.randn(picked.shape, generator=generator).to(data)
        return picked + noise * every.pick(torch.arange(n)).std().clamp(min=1e-6) * 1e-3
    centroids = _spread(every.pick(order[: 16 * num_clusters]), num_clusters, generator)
    for _ in range(num_iterations):
        index = assign(data, centroids)
        counts = every.sum(torch.bincount(index, minlength=num_clusters))
        sums = every.sum(torch.zeros_like(centroids).index_add_(0, index, data))
        fresh = every.pick(torch.randint(n, (num_clusters,), generator=generator))
        centroids = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None].to(sums), fresh)
    return centroids


def _spread(data: Float[Tensor, "n d"], num: int, generator: torch.Generator) -> Float[Tensor, "k d"]:
    """k-means++ seeding: each next centroid is a row drawn by its squared distance from those so far."""
    squares = data.square().sum(1)

    def distances(row: Float[Tensor, " d"]) -> Float[Tensor, " n"]:
        """Squared.

        By a product, which reads the data once and writes none of its size: differences took sixteen times as long.
        """
        return (squares - 2 * (data @ row) + row @ row).clamp(min=0)

    rows = [data[0]]
    distance = distances(rows[0])
    for draw in torch.rand(num - 1, generator=generator, dtype=torch.float64).tolist():
        total = double(distance).cumsum(0)
        index = int(torch.searchsorted(total, draw * total[-1]).clamp(max=data.shape[0] - 1))
        rows.append(data[index])
        distance = torch.minimum(distance, distances(rows[-1]))
    return torch.stack(rows)
