"""Conformer stack (Gulati et al. 2020), the network inside w2v-BERT (section 3.1) and SoundStorm (section 3.1).

Two departures from the Conformer paper, both so that an item of a batch equals the same item alone and padding never
leaks: the convolution module normalises with LayerNorm in place of BatchNorm, and padded frames are zeroed before the
depthwise convolution. Positions are rotary (as in SoundStorm) rather than Transformer-XL relative ones.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.nn.attention import attention, check_heads, rotation
from musiclm.nn.block import Block


@dataclass(frozen=True, kw_only=True)
class ConformerConfig:
    """Sizes of a Conformer stack. w2v-BERT XL: 24 x 1024, 16 heads, kernel 5 (0.6 B).

    SoundStorm: 12 x 1024, 16 heads, kernel 5.
    """

    width: int  # channels of every frame between blocks
    num_heads: int  # attention heads; each is width / num_heads wide, which must be even (rotary pairs)
    num_layers: int  # blocks
    ff_width: int  # hidden width of each of the two half-step feed-forwards
    kernel: int = 5  # frames seen by the depthwise convolution
    dropout: float = 0.1  # after each sub-layer and inside attention
    causal: bool = False  # frame t sees no frame after t, neither by attention nor by convolution
    rotary_base: float = 10_000.0  # longest rotary wavelength is about 2 pi times this many frames

    def __post_init__(self) -> None:
        for name in ("width", "num_heads", "num_layers", "ff_width", "kernel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        check_heads(self.width, self.num_heads)
        if not self.causal and self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; without causal it must be odd to be centred")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")


class FeedForward(nn.Module):
    """Half-step feed-forward: LayerNorm, Linear, SiLU, Linear. The caller halves it."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.ff_width)
        self.down = nn.Linear(config.ff_width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        hidden = self.dropout(F.silu(self.up(self.norm(x))))
        return self.dropout(self.down(hidden))


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions; keys at padded frames are never seen."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], angles: Complex[Tensor, "t half"], seen: Bool[Tensor, "b 1 q k"] | None
    ) -> Float[Tensor, "b t d"]:
        config = self.config
        mixed = attention(
            self.qkv(self.norm(x)),
            config.num_heads,
            angles=angles,
            pairs="halves",
            mask=seen,
            causal=config.causal,
            dropout=config.dropout if self.training else 0.0,
        )
        return self.dropout(self.out(mixed))


class Convolution(nn.Module):
    """Gated pointwise, depthwise over time, LayerNorm, SiLU, pointwise; padded frames are zeros to the depthwise."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.gate = nn.Linear(config.width, 2 * config.width)
        self.depthwise = nn.Conv1d(config.width, config.width, config.kernel, groups=config.width)
        self.mid_norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        before = config.kernel - 1 if config.causal else config.kernel // 2
        self.padding = (before, config.kernel - 1 - before)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        hidden = F.glu(self.gate(self.norm(x)), dim=-1)
        if mask is not None:
            hidden = hidden.masked_fill(~mask[..., None], 0.0)
        hidden = self.depthwise(F.pad(hidden.transpose(1, 2), self.padding)).transpose(1, 2)
        return self.dropout(self.out(F.silu(self.mid_norm(hidden))))


class ConformerBlock(Block):
    """Half feed-forward, attention, convolution, half feed-forward, each added to its input; LayerNorm at the end."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.ff_in = FeedForward(config)
        self.attention = SelfAttention(config)
        self.convolution = Convolution(config)
        self.ff_out = FeedForward(config)
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        angles: Complex[Tensor, "t half"],
        seen: Bool[Tensor, "b 1 q k"] | None,
        mask: Bool[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t d"]:
        x = x + 0.5 * self.ff_in(x)
        x = x + self.attention(x, angles, seen)
        x = x + self.convolution(x, mask)
        x = x + 0.5 * self.ff_out(x)
        return self.norm(x)


class Conformer(nn.Module):
    """A stack of Conformer blocks over frames.

    mask is true at real frames. Whatever stands at padded frames, NaN included, changes nothing elsewhere, and the
    output is zero there.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_layers))

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        return_layer: int | None = None,
    ) -> Float[Tensor, "b t d"]:
        """The output of block return_layer (1 is the first, 0 the input); the last by default. Later blocks do not run.

        Raises: ValueError if there is no such layer.
        """
        return self.hidden_states(x, mask, return_layer)[-1]

    def hidden_states(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        last_layer: int | None = None,
    ) -> list[Float[Tensor, "b t d"]]:
        """[input, output of block 1, ..., output of block last_layer]; all blocks by default."""
        last_layer = self.config.num_layers if last_layer is None else last_layer
        if not 0 <= last_layer <= self.config.num_layers:
            raise ValueError(f"layer {last_layer} asked of a Conformer with {self.config.num_layers} layers")
        num_frames = x.shape[1]
        positions = torch.arange(num_frames, device=x.device, dtype=torch.float32)
        head_width = self.config.width // self.config.num_heads
        angles = rotation(positions, head_width, self.config.rotary_base, "halves")
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0.0)  # not a product: 0 * NaN is NaN
        seen = self._seen(mask, num_frames)
        states = [x]
        for block in self.blocks[:last_layer]:
            x = block(x, angles, seen, mask)
            states.append(x)
        if mask is not None:
            states = [state.masked_fill(~mask[..., None], 0.0) for state in states]
        return states

    def _seen(self, mask: Bool[Tensor, "b t"] | None, num_frames: int) -> Bool[Tensor, "b 1 q k"] | None:
        """Which keys each query sees; None where plain (or plain causal) attention does, which is faster."""
        if mask is None:
            return None
        # a row without a real frame would give a softmax over nothing: let it see its zeros, the output is masked
        # anyway
        keys = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
        if not self.config.causal:
            return keys.expand(-1, 1, num_frames, -1)
        lower = torch.ones(num_frames, num_frames, dtype=torch.bool, device=mask.device).tril()
        # a frame always sees itself, so left padding can't leave it with nothing
        return (keys & lower) | torch.eye(num_frames, dtype=torch.bool, device=mask.device)
