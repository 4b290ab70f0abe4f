"""Does the semantic stage give back its training music? The paper's study (MusicLM, section 5.3 and appendix).

For clips of the training split: condition on the clip's own MuLan codes and on its first T semantic codes (0 to 10 s),
decode the next 5 s greedily, and compare with how the clip goes on.

- exact: share of clips whose codes are all the same.
- approximate: share of clips whose code histogram lies near the true one: Sinkhorn's optimal transport cost, ground
  distance between the k-means centroids, below a threshold. The threshold is that which one in ten thousand pairs of
  different clips (permuted, of all splits together) falls below; with fewer pairs, none.
- entropy: of the decoded codes, bits; matches of low entropy are silence and held notes rather than theft.

Lower is better. The control is the same with clips of the test split: a model can't have memorised what it has not
seen, so what it scores there is the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.core.streams import to_ids
from musiclm.generate.autoregressive import stream_semantic
from musiclm.models.lm.model import TokenLM
from musiclm.nn.sampling import Sampling

PROMPT_S = (0.0, 1.0, 2.0, 5.0, 10.0)
CONTINUATION_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Of one split at one prompt length."""

    split: str
    prompt_s: float
    num_clips: int
    exact: float
    approximate: float
    threshold: float
    entropy_bits: float  # mean over clips
    entropy_bits_of_matches: float  # nan without any


def memorisation(
    model: TokenLM,
    clips: dict[str, tuple[Int[Tensor, "n s t"], Int[Tensor, "n q 1"]]],
    codebooks: Float[np.ndarray, "s v c"],
    *,
    prompt_s: Sequence[float] = PROMPT_S,
    batch_size: int = 16,
) -> list[Memorisation]:
    """The study on (semantic, MuLan) codes of clips by split; t frames hold the longest prompt and the 5 s after it.

    Raises: ValueError for clips that are too short, or fewer than two of a split.
    """
    rate = model.layout.target_spec.frame_rate_hz
    assert rate is not None
    prompts = [round(seconds * rate) for seconds in prompt_s]
    num_frames = round(CONTINUATION_S * rate)
    longest = max(prompts) + num_frames
    for split, (semantic, _) in clips.items():
        if len(semantic) < 2 or semantic.shape[2] < longest:
            raise ValueError(
                f"{len(semantic)} clips of {semantic.shape[2]} frames in {split}; wanted two or more of {longest}"
            )
    cost = code_distances(codebooks)
    found = []
    for frames in prompts:
        pairs = {}
        for split, (semantic, mulan) in clips.items():
            made = [
                continue_greedily(
                    model, mulan[i : i + batch_size], semantic[i : i + batch_size, :, :frames], num_frames
                )
                for i in range(0, len(mulan), batch_size)
            ]
            true = to_ids(semantic[:, :, frames : frames + num_frames], model.layout.target_spec)
            pairs[split] = torch.cat(made).numpy(), true.numpy()
        found += compare(pairs, cost, frames / rate)
    return found


def continue_greedily(
    model: TokenLM, mulan: Int[Tensor, "b q 1"], prompt: Int[Tensor, "b s p"], num_frames: int
) -> Int[Tensor, "b n"]:
    """The likeliest codes of `num_frames` after a prompt, each given those before, as ids
    (`musiclm.core.streams.to_ids`)."""
    device = model.embedding.weight.device
    generators = [torch.Generator().manual_seed(0) for _ in mulan]  # greedy: nothing is drawn
    pieces = stream_semantic(
        model,
        mulan.to(device),
        prompt.shape[2] + num_frames,
        Sampling(temperature=0.0),
        generators,
        prompt.to(device) if prompt.shape[2] else None,
    )
    return to_ids(torch.cat(list(pieces), 2)[:, :, prompt.shape[2] :].cpu(), model.layout.target_spec)


def code_distances(codebooks: Float[np.ndarray, "s v c"]) -> Float[np.ndarray, "n n"]:
    """Distances of ids, 1 being the mean of two different codes of a level; those of two levels are far from each
    other."""
    levels, size = codebooks.shape[:2]
    cost = np.full((levels * size, levels * size), 10.0)
    for level, centroids in enumerate(codebooks):
        squares = np.square(centroids).sum(1)
        own = np.sqrt(np.maximum(0, squares[:, None] + squares - 2 * centroids @ centroids.T))
        np.fill_diagonal(own, 0)
        rows = slice(level * size, (level + 1) * size)
        cost[rows, rows] = own / own[~np.eye(size, dtype=bool)].mean()
    return cost


def compare(
    pairs: dict[str, tuple[Int[np.ndarray, "n t"], Int[np.ndarray, "n t"]]],
    cost: Float[np.ndarray, "v v"],
    prompt_s: float,
    permutations: int = 16,
) -> list[Memorisation]:
    """Matches of decoded codes with the true ones at the same places, by split.

    One threshold for all, from pairs that do not belong together.
    """
    own = {
        split: np.array([transport_cost(a, b, cost) for a, b in zip(*both, strict=True)])
        for split, both in pairs.items()
    }
    others = np.array(
        [
            transport_cost(made[i], true[(i + shift) % len(true)], cost)
            for made, true in pairs.values()
            for shift in range(1, min(permutations, len(true) - 1) + 1)
            for i in range(len(made))
        ]
    )
    threshold = float(np.quantile(others, 1e-4)) if len(others) >= 10_000 else float(others.min())
    rows = []
    for split, (made, true) in pairs.items():
        matched = own[split] < threshold
        entropy = np.array([code_entropy_bits(codes) for codes in made])
        rows.append(
            Memorisation(
                split=split,
                prompt_s=prompt_s,
                num_clips=len(made),
                exact=float((made == true).all(1).mean()),
                approximate=float(matched.mean()),
                threshold=threshold,
                entropy_bits=float(entropy.mean()),
                entropy_bits_of_matches=float(entropy[matched].mean()) if matched.any() else float("nan"),
            )
        )
    return rows


def transport_cost(
    a: Int[np.ndarray, " t"], b: Int[np.ndarray, " u"], cost: Float[np.ndarray, "v v"], sharpness: float = 50.0
) -> float:
    """Sinkhorn's cost of moving the histogram of `a` onto that of `b` (Cuturi 2013); 0 for equal ones, up to the blur
    of the entropic term.
    """
    (codes_a, counts_a), (codes_b, counts_b) = (np.unique(x, return_counts=True) for x in (a, b))
    p, q = counts_a / len(a), counts_b / len(b)
    ground = cost[np.ix_(codes_a, codes_b)]
    # in logarithms: at this sharpness plain kernels underflow
    log_kernel = -sharpness * ground
    f, g = np.zeros(len(p)), np.zeros(len(q))
    for _ in range(200):
        f = np.log(p) - _log_sum_exp(log_kernel + g, 1)
        g = np.log(q) - _log_sum_exp(log_kernel + f[:, None], 0)
    plan = np.exp(f[:, None] + log_kernel + g)
    return float((plan * ground).sum())


def code_entropy_bits(codes: Int[np.ndarray, " t"]) -> float:
    """Entropy of the histogram of codes."""
    share = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(-(share * np.log2(share)).sum())


def _log_sum_exp(x: Float[np.ndarray, "n m"], axis: int) -> Float[np.ndarray, " _"]:
    top = x.max(axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis)) + top.squeeze(axis)
