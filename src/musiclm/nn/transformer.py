"""Decoder-only transformer with a static key-value cache: the network of the three language-model stages.

MusicLM (section 3.2) and AudioLM (section 3.2) use 24 layers, 16 heads, width 1024, feed-forward 4096 and T5's relative
position bias. Here: pre-norm RMSNorm and a gated (SiLU) feed-forward, which is what makes the published sizes add up to
430 M, and a choice of positions. `t5` is the published bias over distances in the sequence. `rotary` turns queries and
keys by positions the caller gives, which need not be places in the sequence: the stages pass times, so that a condition
and the target it belongs to stand at distance 0 (`musiclm.models.lm.stages`). Dropout acts on the embeddings and on
what each sub-layer adds, not on attention weights, because that would rule out the fused attention kernels.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.nn.attention import attention, check_heads, rotation
from musiclm.nn.block import Block

SMALLEST_RMS = 1e-6


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of a decoder.

    A stage of MusicLM: 24 layers x 1024, 16 heads, feed-forward 4096, dropout 0.1, T5 positions.
    """

    width: int  # channels of every position between layers
    num_layers: int
    num_heads: int  # each head is width / num_heads wide, which must be even (rotary pairs)
    ff_width: int  # hidden width of the gated feed-forward, which has three matrices
    dropout: float = 0.1
    positions: Literal["rotary", "t5"] = "rotary"
    rotary_base: float = 10_000.0  # longest rotary wavelength is about 2 pi times this
    t5_buckets: int = 32  # half for exact distances, half in logarithmic steps
    t5_max_distance: int = 128  # from here on all distances share the last bucket

    def __post_init__(self) -> None:
        for name in ("width", "num_layers", "num_heads", "ff_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        check_heads(self.width, self.num_heads)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if not 2 <= self.t5_buckets <= self.t5_max_distance:
            raise ValueError(
                f"t5_buckets {self.t5_buckets} must be at least 2 and at most t5_max_distance {self.t5_max_distance}"
            )


@dataclass(frozen=True)
class KvCache:
    """Keys and values of the ids read so far, in buffers of fixed size.

    `Transformer.forward` writes into the buffers and returns a cache whose `length` has moved on; the one passed in
    shares the buffers and is spent, save for going back to an earlier `length`.
    """

    keys: Float[Tensor, "layers b h l c"]
    values: Float[Tensor, "layers b h l c"]
    length: int  # positions filled so far, a Python number so that no step waits for a device

    @property
    def max_length(self) -> int:
        return self.keys.shape[3]


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32.

    By the vector norm: at one row per step F.rms_norm costs 90 us on a CPU, where it is a chain of ten kernels, and
    this 15 us.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.scale = width**-0.5

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32) * self.scale
        return x / rms.clamp(min=SMALLEST_RMS) * self.weight


def t5_bucket(distance: Int[Tensor, "*b"], num_buckets: int, max_distance: int) -> Int[Tensor, "*b"]:
    """T5's causal buckets: one each for short distances (query minus key, >= 0), then logarithmic ones up to
    `max_distance`.
    """
    exact = num_buckets // 2
    log_share = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = exact + (log_share * (num_buckets - exact)).long()
    return torch.where(distance < exact, distance, far.clamp(max=num_buckets - 1))


class Layer(Block):
    """x + attention(norm(x)), then x + gated feed-forward(norm(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.attention_norm = RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.attention_out = nn.Linear(config.width, config.width, bias=False)
        self.ff_norm = RMSNorm(config.width)
        self.gate_up = nn.Linear(config.width, 2 * config.ff_width, bias=False)
        self.ff_out = nn.Linear(config.ff_width, config.width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "b l d"],
        angles: Complex[Tensor, "l half"] | None,
        bias: Float[Tensor, "1 h l k"] | None,
        cache: tuple[Tensor, Tensor] | None,
        start: int | Int[Tensor, " 1"],
    ) -> Float[Tensor, "b l d"]:
        qkv = self.qkv(self.attention_norm(x))
        mixed = attention(qkv, self.num_heads, angles=angles, mask=bias, causal=True, cache=cache, start=start)
        x = x + self.dropout(self.attention_out(mixed))
        gate, up = self.gate_up(self.ff_norm(x)).chunk(2, dim=-1)
        return x + self.dropout(self.ff_out(F.silu(gate) * up))


class Transformer(nn.Module):
    """Causal layers over embedded ids, with a final RMSNorm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width)
        if config.positions == "t5":
            self.distance_bias = nn.Embedding(config.t5_buckets, config.num_heads)
            nn.init.zeros_(self.distance_bias.weight)
        for name, weight in self.named_parameters():
            if name.endswith(("attention_out.weight", "ff_out.weight")):
                # what is added to the stream shrinks with depth, so that its variance does not grow with it (GPT-2)
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.num_layers))
            elif name.endswith(("qkv.weight", "gate_up.weight")):
                nn.init.normal_(weight, std=config.width**-0.5)

    def new_cache(self, batch: int, max_length: int) -> KvCache:
        """Empty buffers for `batch` sequences of up to `max_length` ids, on the weights' device, in their type."""
        config, weight = self.config, self.norm.weight
        shape = (
            config.num_layers, batch, config.num_heads, max_length, config.width // config.num_heads
        )  # fmt: skip
        return KvCache(weight.new_empty(shape), weight.new_empty(shape), 0)

    def forward(
        self, x: Float[Tensor, "b l d"], positions: Float[Tensor, " l"], cache: KvCache | None = None
    ) -> tuple[Float[Tensor, "b l d"], KvCache | None]:
        """Hidden states of `x`, each seeing itself and what came before, in `cache` included; and the cache moved on.

        `positions` are those of `x` alone and used by rotary only; T5 counts places in the sequence.

        Raises: ValueError if the cache is too short for `x`.
        """
        config, length = self.config, x.shape[1]
        start = 0 if cache is None else cache.length
        if cache is not None and start + length > cache.max_length:
            raise ValueError(
                f"{start} cached and {length} new ids exceed the cache of {cache.max_length}; make a longer one"
            )
        angles = None
        if config.positions == "rotary":
            angles = rotation(positions, config.width // config.num_heads, config.rotary_base)
        bias = self._bias(start, length, x)
        x = self.dropout(x)
        for index, layer in enumerate(self.layers):
            held = None if cache is None else (cache.keys[index], cache.values[index])
            x = layer(x, angles, bias, held, start)
        moved = None if cache is None else KvCache(cache.keys, cache.values, start + length)
        return self.norm(x), moved

    def _bias(self, start: int, length: int, like: Tensor) -> Float[Tensor, "1 h l k"] | None:
        """What is added to the attention logits: -inf at later keys, T5's bias; None where a plain kernel does it."""
        t5 = self.config.positions == "t5"
        if not t5 and (start == 0 or length == 1):
            return None
        queries = torch.arange(start, start + length, device=like.device)
        return self.bias_of(queries[:, None] - torch.arange(start + length, device=like.device), like)

    def bias_of(self, distance: Int[Tensor, "l k"], like: Tensor) -> Float[Tensor, "1 h l k"]:
        """What is added to the attention logits of queries that come so many places after keys."""
        later = distance < 0
        if self.config.positions == "t5":
            bucket = t5_bucket(distance.clamp(min=0), self.config.t5_buckets, self.config.t5_max_distance)
            bias = self.distance_bias(bucket).permute(2, 0, 1)[None]
        else:
            bias = torch.zeros(1, 1, *distance.shape, device=like.device)
        dtype = (
            torch.get_autocast_dtype(like.device.type) if torch.is_autocast_enabled(like.device.type) else like.dtype
        )
        return bias.masked_fill(later, float("-inf")).to(dtype)


class StaticStep:
    """`Transformer.forward` of one position after the other, with shapes that never change.

    A step at width 1024 is some hundred small kernels, and a CPU takes longer to ask a GPU for them than it takes to
    compute them. So on CUDA the step is recorded once, as a graph that is asked for as a whole. Elsewhere it is
    computed each time, and slower than without this, since every step reads the whole cache.
    """

    def __init__(self, transformer: Transformer, cache: KvCache) -> None:
        """cache: what has been read so far; its buffers are used from now on."""
        self.transformer, self.cache = transformer, cache
        for buffer in (cache.keys, cache.values):
            buffer[:, :, :, cache.length :].zero_()  # nothing, rather than what 0 times it may not be
        device = buffer.device
        self.x = transformer.norm.weight.new_zeros(cache.keys.shape[1], 1, transformer.config.width)
        self.position = torch.zeros(1, device=device)
        self.place = torch.full((1,), cache.length, device=device)
        self.keys = torch.arange(cache.max_length, device=device)
        self.hidden: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._record()

    def __call__(
        self, x: Float[Tensor, "b 1 d"], positions: Float[Tensor, " 1"], cache: KvCache
    ) -> tuple[Float[Tensor, "b 1 d"], KvCache]:
        """See `Transformer.forward`; what is returned may be overwritten by the next call."""
        assert cache.keys is self.cache.keys and cache.length < cache.max_length
        self.x.copy_(x)
        self.position.copy_(positions)
        self.place.fill_(cache.length)
        if self.graph is None:
            self.hidden = self._compute()
        else:
            self.graph.replay()
        assert self.hidden is not None
        return self.hidden, KvCache(cache.keys, cache.values, cache.length + 1)

    def _compute(self) -> Float[Tensor, "b 1 d"]:
        transformer, config, x = self.transformer, self.transformer.config, self.x
        angles = None
        if config.positions == "rotary":
            angles = rotation(self.position, config.width // config.num_heads, config.rotary_base)
        bias = transformer.bias_of(self.place[:, None] - self.keys, x)
        for index, layer in enumerate(transformer.layers):
            x = layer(x, angles, bias, (self.cache.keys[index], self.cache.values[index]), self.place)
        return transformer.norm(x)  # type: ignore[no-any-return]

    def _record(self) -> None:
        """A few runs first, on a stream of their own: kernels are chosen, and work space is taken, then."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._compute()
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.hidden = self._compute()
