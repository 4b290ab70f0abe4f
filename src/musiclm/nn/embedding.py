"""Embeddings of codes that begin from what the codes mean."""

import torch
from jaxtyping import Float
from torch import Tensor


def project_codebooks(
    vectors: Float[Tensor, "q v c"], width: int, seed: int, *, like_first: bool = False, apart: bool = False
) -> Float[Tensor, "q v d"]:
    """A random projection of a quantizer's vectors to `width`, centred, each level scaled to spread 1.

    Codes near one another then start near one another, and one that training has seen rarely or never (text reaches
    MuLan codes that little audio does) is not noise. like_first: every level is scaled as the first is, so that
    the small residuals of later ones stay small. apart: each level gets a projection of its own, where levels are not
    residuals of one vector (the bands codec: groups side by side).
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(vectors) if apart else 1
    rows = vectors.float().cpu() @ torch.randn(count, vectors.shape[-1], width, generator=generator)
    rows = rows - rows.mean(1, keepdim=True)
    spread = rows.flatten(1).std(dim=1)[:, None, None]
    return rows / (spread[:1] if like_first else spread).clamp(min=1e-9)
