"""The losses of w2v-BERT (arXiv 2108.06209, section 3.3), each with the figures that tell learning from luck.

Equation 3 there: L = (L_contrastive + alpha * L_diversity) + gamma * L_masked, alpha = 0.1, gamma = 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class MaskedContrastiveLoss:
    loss: Float[Tensor, ""]  # nats
    accuracy: Float[Tensor, ""]  # share of frames whose own target is nearest
    baseline: Float[Tensor, ""]  # what guessing among the same candidates would reach


@dataclass(frozen=True)
class MaskedPredictionLoss:
    loss: Float[Tensor, ""]  # nats per code, mean over codebooks
    accuracy: Float[Tensor, ""]
    unigram_entropy: Float[Tensor, ""]  # nats: the loss of the best prediction that ignores the sound, on these frames


@dataclass(frozen=True)
class DiversityLoss:
    loss: Float[Tensor, ""]  # 0 when every entry is equally likely, towards 1 on collapse
    perplexity: Float[Tensor, ""]  # of the averaged soft choice, mean over codebooks; at most the codebook size


@dataclass(frozen=True)
class W2vBertLoss:
    total: Float[Tensor, ""]
    contrastive: MaskedContrastiveLoss
    masked: MaskedPredictionLoss
    diversity: DiversityLoss
    codes: Int[Tensor, "b n g"]  # targets at the hidden frames


def contrastive_loss(
    outputs: Float[Tensor, "b n c"], targets: Float[Tensor, "b n c"], codes: Int[Tensor, "b n g"], temperature: float
) -> MaskedContrastiveLoss:
    """InfoNCE by cosine: each output must find its own target among those of the other hidden frames of its clip.

    Distractors with the target's own codes stay in the loss. wav2vec 2.0's code leaves them out, which makes the loss
    fall when codes collapse: on one batch it went from 34 codes in use to 2 in 25 steps. Kept, they cost log(their
    number) and push the quantizer apart. Accuracy and baseline leave them out, since nothing could tell them from the
    target.
    """
    similarity = F.normalize(outputs, dim=-1) @ F.normalize(targets, dim=-1).transpose(1, 2) / temperature
    answer = torch.arange(codes.shape[1], device=codes.device).expand(codes.shape[0], -1)
    with torch.no_grad():
        same = (codes[:, :, None] == codes[:, None, :]).all(-1)  # b n n
        own = torch.eye(codes.shape[1], dtype=torch.bool, device=codes.device)
        nearest = similarity.masked_fill(same & ~own, -torch.inf).argmax(-1)
        candidates = (~same).sum(-1) + 1
    return MaskedContrastiveLoss(
        loss=F.cross_entropy(similarity.flatten(0, 1), answer.flatten()),
        accuracy=(nearest == answer).float().mean(),
        baseline=(1.0 / candidates).mean(),
    )


def masked_prediction_loss(logits: Float[Tensor, "b n g v"], codes: Int[Tensor, "b n g"]) -> MaskedPredictionLoss:
    """Cross-entropy of the quantizer's ids at hidden frames; no gradient reaches the quantizer."""
    return MaskedPredictionLoss(
        loss=F.cross_entropy(logits.flatten(0, 2), codes.flatten()),
        accuracy=(logits.argmax(-1) == codes).float().mean(),
        unigram_entropy=code_entropy(codes, logits.shape[-1]),
    )


def code_entropy(codes: Int[Tensor, "b n g"], codebook_size: int) -> Float[Tensor, ""]:
    """Entropy in nats of the codes' own distribution, mean over codebooks.

    Few codes make it too low, never too high.
    """
    counts = F.one_hot(codes, codebook_size).flatten(0, 1).sum(0).float()
    share = counts / counts.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).mean()


def diversity_loss(probabilities: Float[Tensor, "g v"]) -> DiversityLoss:
    """1 - perplexity / codebook size (wav2vec 2.0, equation 4, in its code's form)."""
    # an entry of probability exactly 0 would have an infinite gradient, and 0 * inf is NaN
    perplexity = torch.special.entr(probabilities.clamp(min=1e-6)).sum(-1).exp()
    return DiversityLoss(loss=(1 - perplexity / probabilities.shape[-1]).mean(), perplexity=perplexity.mean().detach())
