"""Residual vector quantization: levels of codebooks, each coding what the levels before left over (SoundStream, section
III-C).

Codebooks start by k-means on the first data, follow it by exponential moving averages, and codes that fall out of use
are moved to random inputs. Gradients pass straight through; the commitment loss pulls the encoder to its codes. One
model serves every bitrate because training quantizes each example with a random number of levels (quantizer dropout).
MuLan uses the same class, fitted once.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from musiclm.nn.kmeans import assign, kmeans
from musiclm.nn.parts import all_rows, at_the_end, draw, draw_once
from musiclm.nn.precision import double, full_precision


@dataclass(frozen=True)
class Quantized:
    """What `ResidualVQ.forward` returns."""

    output: Float[Tensor, "b d t"]  # straight-through quantized input
    codes: Int[Tensor, "b q t"]
    commitment: Float[Tensor, ""]  # mean squared distance to the codes, over the levels in use
    level_gain: Float[Tensor, " l"]  # share of the residual's energy that each residual level removes


class ResidualVQ(nn.Module):
    """`levels` codebooks of `codebook_size` vectors of width `dim`."""

    codebooks: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(
        self,
        *,
        dim: int,
        codebook_size: int,
        levels: int,
        decay: float = 0.99,
        dead_below: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim, self.codebook_size, self.levels = dim, codebook_size, levels
        self.decay = decay  # of the moving averages, per training step
        self.dead_below = dead_below  # a code whose average use per step is below this is moved to a random input
        self.register_buffer("codebooks", torch.zeros(levels, codebook_size, dim))
        self.register_buffer("counts", torch.ones(levels, codebook_size))
        self.register_buffer("sums", torch.zeros(levels, codebook_size, dim))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def fit_kmeans(self, data: Float[Tensor, "n d"], num_iterations: int = 20, seed: int = 0) -> None:
        """Starts (or refits) every level by k-means on the residuals of `data`; with many processes, of all of
        theirs."""
        residual = data.detach().float()
        every = all_rows(residual)
        for level in range(self.levels):
            centroids = kmeans(residual, self.codebook_size, num_iterations, seed + level)
            index = assign(residual, centroids)
            use = every.sum(torch.bincount(index, minlength=self.codebook_size).to(residual))
            # the averages start as if the data were spread over steps of that size, but never dead on arrival
            self.counts[level] = use.clamp(min=1.0)
            self.codebooks[level] = centroids
            self.sums[level] = centroids * self.counts[level][:, None]
            residual = residual - centroids[index]
        self.started.fill_(True)

    def encode(self, x: Float[Tensor, "n d"], levels: int | None = None) -> Int[Tensor, "n q"]:
        """Codes of each row, greedily level by level; the first `levels` (all by default)."""
        return self._residuals(x, [], self.levels if levels is None else levels)

    def encode_after(self, x: Float[Tensor, "n d"], first: Int[Tensor, " n"]) -> Int[Tensor, "n q"]:
        """Codes of each row whose codes on the first level are given."""
        return self._residuals(x - self.codebooks[0][first], [first], self.levels)

    def _residuals(self, residual: Float[Tensor, "n d"], codes: list[Tensor], levels: int) -> Int[Tensor, "n q"]:
        for level in range(len(codes), levels):
            index = assign(residual, self.codebooks[level])
            codes.append(index)
            residual = residual - self.codebooks[level][index]
        return torch.stack(codes, 1)

    def decode(self, codes: Int[Tensor, "n q"]) -> Float[Tensor, "n d"]:
        """Sum of the code vectors of the levels given, the first ones first. Raises ValueError outside the codebook."""
        if codes.shape[1] > self.levels:
            raise ValueError(f"{codes.shape[1]} levels of codes for a quantizer of {self.levels}")
        if codes.numel() and not (0 <= int(codes.min()) and int(codes.max()) < self.codebook_size):
            raise ValueError(f"codes must lie in [0, {self.codebook_size}), got {int(codes.min())}..{int(codes.max())}")
        out = torch.zeros(codes.shape[0], self.dim, device=codes.device, dtype=self.codebooks.dtype)
        for level in range(codes.shape[1]):  # summed in order, as `forward` does, so that the values agree to the bit
            out = out + self.codebooks[level][codes[:, level]]
        return out

    def forward(self, x: Float[Tensor, "b d t"], num_levels: Int[Tensor, " b"] | None = None) -> Quantized:
        """Quantizes frames; in training mode also moves the codebooks.

        In float32, autocast or not: codes of training are those of encoding. `num_levels` (quantizer dropout): levels
        used by each example, 1..levels. All by default.
        """
        with full_precision(x.device):
            return self._forward(x.float(), num_levels)

    def _forward(self, x: Float[Tensor, "b d t"], num_levels: Int[Tensor, " b"] | None) -> Quantized:
        b, d, t = x.shape
        flat = x.transpose(1, 2).reshape(b * t, d)
        if self.training and not bool(self.started):
            self.fit_kmeans(flat, num_iterations=10)
        keep = None if num_levels is None else num_levels.repeat_interleave(t)
        residual, total = flat.detach(), torch.zeros_like(flat)
        commitment = flat.new_zeros(())
        codes, gains = [], []
        energy = residual.square().sum()
        for level in range(self.levels):
            used = None if keep is None else keep > level
            index = assign(residual, self.codebooks[level])
            vectors = self.codebooks[level][index]
            if self.training:
                seen = (residual, index) if used is None else (residual[used], index[used])
                at_the_end((self, level), seen, functools.partial(self._update, level))
            step = vectors if used is None else vectors * used[:, None]
            # the commitment term needs the gradient of the input at this level: input minus what came before
            distance = (flat - total - vectors).square().mean(1)
            commitment = commitment + (distance.mean() if used is None else (distance * used).sum() / (b * t))
            total = total + step
            residual = residual - step
            left = residual.square().sum()
            gains.append(1 - left / energy.clamp(min=1e-9))
            energy = left
            codes.append(index)
        output = flat + (total - flat).detach()
        return Quantized(
            output=output.reshape(b, t, d).transpose(1, 2),
            codes=torch.stack(codes, 1).reshape(b, t, self.levels).transpose(1, 2),
            commitment=commitment / self.levels,
            level_gain=torch.stack(gains).detach(),
        )

    @torch.no_grad()
    def _update(self, level: int, rows: Float[Tensor, "n d"], index: Int[Tensor, " n"]) -> None:
        every = all_rows(rows)
        if every.count == 0:
            return
        use = every.sum(torch.bincount(index, minlength=self.codebook_size).to(rows))
        sums = every.sum(torch.zeros_like(self.codebooks[level]).index_add_(0, index, rows))
        self.counts[level].mul_(self.decay).add_(use, alpha=1 - self.decay)
        self.sums[level].mul_(self.decay).add_(sums, alpha=1 - self.decay)
        dead = self.counts[level] < self.dead_below * every.count / self.codebook_size
        if bool(dead.any()):
            num, mean_use = int(dead.sum()), every.count / self.codebook_size
            picks = every.pick(draw_once(lambda: torch.randint(every.count, (num,), device=rows.device)))
            self.counts[level][dead] = mean_use
            self.sums[level][dead] = picks * mean_use
        self.codebooks[level] = self.sums[level] / self.counts[level].clamp(min=1e-6)[:, None]


class GroupedVQ(nn.Module):
    """Residual quantizers side by side: a vector is cut into places, each with the codebooks of its group, and places
    may share a group.

    Codes are ordered by level first: those of every place on the first level, then those of the second. So a prefix of
    them is a lower bitrate.
    """

    def __init__(
        self, *, groups: Sequence[int], dim: int, codebook_size: int, levels: int, decay: float = 0.99
    ) -> None:
        """groups: the group of each place, from 0; dim: width of a place; levels: residual levels of a group."""
        super().__init__()
        self.groups, self.dim, self.depth, self.codebook_size = list(groups), dim, levels, codebook_size
        self.levels = levels * len(self.groups)
        self.quantizers = nn.ModuleList(
            [
                ResidualVQ(dim=dim, codebook_size=codebook_size, levels=levels, decay=decay)
                for _ in range(max(groups) + 1)
            ]
        )
        self.last_places = [max(p for p, own in enumerate(groups) if own == group) for group in range(max(groups) + 1)]
        for group in range(max(groups) + 1):
            places = torch.tensor([place for place, own in enumerate(groups) if own == group])
            self.register_buffer(f"places_{group}", places, persistent=False)

    @property
    def codebooks(self) -> Float[Tensor, "q v d"]:
        """The vectors behind each code of a frame."""
        return torch.stack([self.quantizers[g].codebooks[level] for level in range(self.depth) for g in self.groups])  # type: ignore[index]

    @property
    def started(self) -> bool:
        """Whether every group has codebooks."""
        return all(bool(quantizer.started) for quantizer in self.quantizers)

    def places(self, group: int) -> Int[Tensor, " p"]:
        """Which places have the codebooks of a group."""
        return self.get_buffer(f"places_{group}")

    @torch.no_grad()
    def fit_kmeans(self, data: Float[Tensor, "n d"], num_iterations: int = 20, seed: int = 0, steps: int = 1) -> None:
        """Starts every codebook by k-means; `data` is that of `steps` training steps."""
        for group, quantizer in enumerate(self.quantizers):
            assert isinstance(quantizer, ResidualVQ)
            rows = data.unflatten(1, (-1, self.dim))[:, self.places(group)].flatten(0, 1)
            quantizer.fit_kmeans(rows, num_iterations, seed + group * self.depth)
            quantizer.counts.div_(steps)
            quantizer.sums.div_(steps)

    def encode(self, x: Float[Tensor, "n d"], levels: int | None = None) -> Int[Tensor, "n q"]:
        """Codes of each row, the first `levels` of them (all by default)."""
        rows = x.unflatten(1, (-1, self.dim))
        codes = torch.zeros(len(x), self.depth, len(self.groups), dtype=torch.long, device=x.device)
        for group, quantizer in enumerate(self.quantizers):
            assert isinstance(quantizer, ResidualVQ)
            places = self.places(group)
            own = quantizer.encode(rows[:, places].flatten(0, 1))
            codes[:, :, places] = own.reshape(len(x), len(places), self.depth).transpose(1, 2)
        return codes.flatten(1)[:, :levels]

    def encode_held(
        self, x: Float[Tensor, "b t d"], hold: float, before: dict[int, Int[Tensor, " b"]]
    ) -> Int[Tensor, "b t q"]:
        """Codes of clips; on the first level a group keeps the code it had while that costs little.

        A code stays where its squared distance is at most `1 + hold` times that of the nearest. before: the last code
        of each group, empty at the beginning of a clip; moved on. The places of a group follow one another in time.
        """
        b, t, _ = x.shape
        rows = x.unflatten(2, (-1, self.dim))
        codes = torch.zeros(b, t, self.depth, len(self.groups), dtype=torch.long, device=x.device)
        for group, quantizer in enumerate(self.quantizers):
            assert isinstance(quantizer, ResidualVQ)
            places = self.places(group)
            own = rows[:, :, places].flatten(1, 2)
            distance = torch.cdist(own.detach(), quantizer.codebooks[0]).square()
            nearest = distance.min(2)
            limit = (nearest.values * (1 + hold)).cpu().numpy()
            kept, near, items = nearest.indices.cpu().numpy(), distance.cpu().numpy(), np.arange(b)
            last = before[group].cpu().numpy() if group in before else None
            for step in range(own.shape[1]):
                if last is not None:
                    kept[:, step] = np.where(near[items, step, last] <= limit[:, step], last, kept[:, step])
                last = kept[:, step]
            first = torch.from_numpy(kept).to(x.device)
            if own.shape[1]:
                before[group] = first[:, -1]
            found = quantizer.encode_after(own.flatten(0, 1), first.flatten())
            codes[:, :, :, places] = found.view(b, t, len(places), self.depth).transpose(2, 3)
        return codes.flatten(2)

    def decode(self, codes: Int[Tensor, "n q"]) -> Float[Tensor, "n d"]:
        """Vectors of the codes given, the first ones first; a place without a code is zero.

        Raises ValueError outside the codebook.
        """
        if codes.shape[1] > self.levels:
            raise ValueError(f"{codes.shape[1]} codes a vector for a quantizer of {self.levels}")
        if codes.numel() and not (0 <= int(codes.min()) and int(codes.max()) < self.codebook_size):
            raise ValueError(f"codes must lie in [0, {self.codebook_size}), got {int(codes.min())}..{int(codes.max())}")
        out = torch.zeros(len(codes), len(self.groups), self.dim, device=codes.device)
        for slot in range(codes.shape[1]):
            level, place = divmod(slot, len(self.groups))
            quantizer = self.quantizers[self.groups[place]]
            assert isinstance(quantizer, ResidualVQ)
            out[:, place] += quantizer.codebooks[level][codes[:, slot]]
        return out.flatten(1)

    def forward(self, x: Float[Tensor, "b d t"], num_levels: Int[Tensor, " b"] | None = None) -> Quantized:
        """Quantizes frames; in training mode also moves the codebooks.

        `num_levels` (quantizer dropout): how many codes of the frame each example uses, at least those of the first
        level.
        """
        b, _, t = x.shape
        count = len(self.groups)
        rows = x.transpose(1, 2).unflatten(2, (count, self.dim))
        output = torch.zeros_like(rows)
        codes = torch.zeros(b, t, self.depth, count, dtype=torch.long, device=x.device)
        commitment, gains = x.new_zeros((), dtype=torch.float32), []
        for group, quantizer in enumerate(self.quantizers):
            places = self.places(group)
            own = rows[:, :, places].flatten(1, 2).transpose(1, 2)
            depth = None
            if num_levels is not None:  # a group whose last place is still within the prefix has the level
                depth = ((num_levels - 1 - self.last_places[group]) // count + 1).clamp(1, self.depth)
            found = quantizer(own, depth)
            output[:, :, places] = found.output.transpose(1, 2).unflatten(1, (t, len(places)))
            codes[:, :, :, places] = found.codes.unflatten(2, (t, len(places))).transpose(1, 2)
            commitment = commitment + found.commitment * len(places) / count
            gains.append(found.level_gain)
        return Quantized(
            output=output.flatten(2).transpose(1, 2),
            codes=codes.flatten(2).transpose(1, 2),
            commitment=commitment,
            level_gain=torch.stack(gains).mean(0),
        )


def training_state(model: nn.Module) -> list[str]:
    """Names of the moving averages of a model's quantizers, which only training needs: artifacts leave them out."""
    return [
        f"{name}.{buffer}"
        for name, module in model.named_modules()
        if isinstance(module, ResidualVQ)
        for buffer in ("counts", "sums")
    ]


def perplexity(codes: Int[Tensor, "b q t"], codebook_size: int) -> Float[Tensor, " q"]:
    """exp(entropy) of code use per level: 1 (one code only) to `codebook_size` (even use)."""
    values = []
    for level in codes.transpose(0, 1):
        p = double(torch.bincount(level.flatten(), minlength=codebook_size))
        p = p / p.sum().clamp(min=1)
        values.append(torch.exp(-(p * torch.log(p.clamp(min=1e-12))).sum()))
    return torch.stack(values).float().to(codes.device)


def random_num_levels(batch: int, levels: int, share_full: float = 0.25) -> Int[Tensor, " b"]:
    """Quantizer dropout: uniform over 1..levels, with a share of the examples at full depth."""

    def make(num: int) -> Tensor:
        drawn = torch.randint(1, levels + 1, (num,))
        return torch.where(torch.rand(num) < share_full, torch.full_like(drawn, levels), drawn)

    return draw(make, batch)
