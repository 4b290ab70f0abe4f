"""SoundStorm's network: a Conformer that fills in masked acoustic codes (SoundStorm, sections 3.1 and 3.2).

One position per acoustic frame: the sum of its levels' embeddings (each level has a mask code of its own) and of the
semantic code of that moment. One head per level. The paper conditions on semantic tokens alone; `mulan_levels` > 0 also
adds the sum of that many MuLan codes' embeddings to every frame, which costs nothing and tells the decoder what
semantic tokens do not hold.

`depth_width` > 0 is another way with the levels, for small training budgets. As published, a step teaches one level of
an item, and of it the masked frames: one code in thirty. With it frames are masked whole, and a small network per frame
reads the Conformer's state and the frame's lower levels and predicts the next (as the depth transformer of
RQ-Transformer does, arXiv 2203.01941), so that a step teaches every level of every masked frame; decoding takes the
rounds of the first level alone.

`series` tells the network per frame which codes were drawn just before. A sum of two dozen embeddings does not tell it
which code of a group sounded last, and codes that hold then change in every frame. Frames are drawn in order, so the
codes before are always known. `history_layers` adds what a frame's network is to know of all frames before: causal
layers behind the Conformer, which read each frame as soon as it is drawn, and in training all of them.

`code_width` > 0 keeps tables of many levels small: codes are embedded and distinguished at that width, and a matrix of
each level turns it into the network's. Twenty-four levels of 1024 codes at a width of 256 would else be half of all
weights.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import load_model
from musiclm.core.streams import ACOUSTIC, MULAN, SEMANTIC, Pace, TokenSpec
from musiclm.nn.conformer import Conformer, ConformerConfig
from musiclm.nn.depth import Depth
from musiclm.nn.embedding import project_codebooks
from musiclm.nn.transformer import KvCache, Transformer, TransformerConfig

KIND = "storm"


@dataclass(frozen=True, kw_only=True)
class SoundStormConfig:
    """Sizes. The paper: 12 layers x 1024, 16 heads, feed-forward 4096, kernel 5 (350 M), no MuLan condition."""

    conformer: ConformerConfig
    mulan_levels: int = 0  # of the MuLan condition; 0 is none, as published
    depth_width: int = 0  # hidden width of the network that predicts a frame's levels in turn; 0 is none, as published
    code_width: int = 0  # of the tables of acoustic codes; 0 is the conformer's, as published
    # which levels follow one another in time, within a frame and from frame to frame: levels of one number do. With
    # `depth_width`, a level then reads the code before it, and the one after it where that is known; (): neither
    series: tuple[int, ...] = ()
    history_layers: int = 0  # causal layers that read the frames drawn before, for a model with `series`
    acoustic: TokenSpec = field(default=ACOUSTIC)
    semantic: TokenSpec = field(default=SEMANTIC)
    mulan: TokenSpec = field(default=MULAN)

    def __post_init__(self) -> None:
        if not 0 <= self.mulan_levels <= self.mulan.levels:
            raise ValueError(f"mulan_levels is {self.mulan_levels}; it must lie in 0..{self.mulan.levels}")
        for name in ("depth_width", "code_width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.series and (len(self.series) != self.acoustic.levels or not self.depth_width):
            raise ValueError(
                f"series must number {self.acoustic.levels} levels, and needs a depth_width; got {len(self.series)} "
                f"and {self.depth_width}"
            )
        if self.history_layers < 0 or (self.history_layers and not self.series):
            raise ValueError(f"history_layers is {self.history_layers}; it must be 0 or more, and needs series")
        if self.conformer.causal:
            raise ValueError("SoundStorm's conformer sees both sides; set causal to false")

    @property
    def pace(self) -> Pace:
        """Acoustic frames beside semantic ones; of several semantic frames each acoustic frame reads all."""
        return Pace.of(self.acoustic, self.semantic)

    @property
    def before(self) -> list[tuple[int, int]]:
        """Of each level: where the code before it in time is, as a level and how many frames back."""
        places = []
        for level, number in enumerate(self.series):
            own = [other for other, its in enumerate(self.series) if its == number]
            place = own.index(level)
            places.append((own[place - 1], 0 if place else 1))
        return places

    @property
    def after(self) -> list[int]:
        """Of each level: the level of the next frame that is the next in time of those not drawn with it."""
        return [self.series.index(number) for number in self.series]

    @property
    def semantic_codes(self) -> int:
        """Semantic codes that an acoustic frame reads, each with rows of its own."""
        return self.pace.semantic_at_once * self.semantic.levels


class SoundStorm(nn.Module):
    """Hidden states of frames with some codes masked, and logits of one level."""

    beside_rows: Tensor

    def __init__(self, config: SoundStormConfig) -> None:
        super().__init__()
        self.config = config
        width, acoustic = config.conformer.width, config.acoustic
        inner = config.code_width or width
        spread = acoustic.levels**-0.5  # of each level, so that a known frame has spread 1, as its semantic code has
        # codes of level k are rows k * (size + 1) ..., its mask the last of them: at first nothing, so that what is
        # known stands out
        self.embedding = nn.Embedding(acoustic.levels * (acoustic.codebook_size + 1), inner)
        nn.init.normal_(self.embedding.weight, std=1.0 if config.code_width else spread)
        with torch.no_grad():
            self.embedding.weight.view(acoustic.levels, -1, inner)[:, -1].zero_()
        if config.code_width:
            self.widen = nn.Parameter(torch.randn(acoustic.levels, inner, width) * (acoustic.levels * inner) ** -0.5)
            self.narrow = nn.Parameter(torch.randn(acoustic.levels, width, inner) * width**-0.5)
        self.semantic = nn.Embedding(config.semantic_codes * config.semantic.codebook_size, width)
        if config.semantic_codes > 1:
            nn.init.normal_(self.semantic.weight, std=config.semantic_codes**-0.5)
        if config.mulan_levels:
            # one more row stands for no condition
            self.mulan = nn.Embedding(config.mulan_levels * config.mulan.codebook_size + 1, width)
            nn.init.normal_(self.mulan.weight, std=0.5 * config.mulan_levels**-0.5)
        if config.depth_width:
            self.depth = Depth(width, config.depth_width, acoustic.levels)
        if config.series:
            # what the codes before and after a level say, and how likely they stay; at first nothing
            self.beside = nn.Parameter(torch.zeros(2, acoustic.levels, inner, width))
            self.stay = nn.Parameter(torch.zeros(2, acoustic.levels, width))
            levels = torch.tensor([[level for level, _ in config.before], config.after])
            self.register_buffer("beside_rows", levels * (acoustic.codebook_size + 1), persistent=False)
        self.conformer = Conformer(config.conformer)
        if config.history_layers:
            sizes = config.conformer
            self.history = Transformer(
                TransformerConfig(
                    width=width,
                    num_layers=config.history_layers,
                    num_heads=sizes.num_heads,
                    ff_width=sizes.ff_width // 2,
                    dropout=sizes.dropout,
                )
            )
            self.history_out = nn.Linear(width, width, bias=False)
            nn.init.zeros_(self.history_out.weight)  # at first nothing
        self.head = nn.Parameter(torch.empty(acoustic.levels, acoustic.codebook_size, inner))
        nn.init.normal_(self.head, std=0.02)
        self.head_bias = nn.Parameter(torch.zeros(acoustic.levels, acoustic.codebook_size))
        self.artifact_hash = ""

    @classmethod
    def from_artifact(cls, folder: Path) -> "SoundStorm":
        """Loads a trained model in evaluation mode. Raises ArtifactError when the folder is not one."""
        model, artifact = load_model(folder, KIND, SoundStormConfig, cls)
        model.artifact_hash = artifact.hash
        return model

    @property
    def mask_code(self) -> int:
        """What stands in `codes` where a code is not known."""
        return self.config.acoustic.codebook_size

    def forward(
        self,
        codes: Int[Tensor, "b q f"],
        semantic: Int[Tensor, "b s t"],
        mulan: Int[Tensor, "b m 1"] | None = None,
        real: Bool[Tensor, "b f"] | None = None,
    ) -> Float[Tensor, "b f d"]:
        """Hidden states of acoustic frames.

        codes: in [0, codebook_size], codebook_size where masked. semantic: whole units that cover at least the f
        frames.
        mulan: the condition, all levels or more than are used; None is no condition. real: false at padded frames,
        which change nothing.
        """
        return self.conformer(self.embed(codes, semantic, mulan), real)

    def embed(
        self, codes: Int[Tensor, "b q f"], semantic: Int[Tensor, "b s t"], mulan: Int[Tensor, "b m 1"] | None
    ) -> Float[Tensor, "b f d"]:
        """The input of the Conformer: a sum per frame."""
        config = self.config
        b, _, num_frames = codes.shape
        x = self.embed_frames(codes)
        count = config.semantic_codes
        own = torch.arange(count, device=codes.device) * config.semantic.codebook_size
        pace = config.pace
        if min(pace.acoustic, pace.semantic) == 1:
            units = self.semantic(semantic.transpose(1, 2).reshape(b, -1, count) + own).sum(2)
            x = x + units.repeat_interleave(pace.acoustic, dim=1)[:, :num_frames]
        else:  # each acoustic frame reads the semantic ones from that on which sounds when it begins
            first = torch.arange(num_frames, device=codes.device) * pace.semantic // pace.acoustic
            over = first[:, None] + torch.arange(pace.semantic_at_once, device=codes.device)
            read = semantic.transpose(1, 2)[:, over.clamp(max=semantic.shape[2] - 1)]  # b f n s
            x = x + self.semantic(read.flatten(2) + own).sum(2)
        if config.mulan_levels:
            x = x + self.condition(mulan, b)[:, None]
        return x

    def embed_frames(self, codes: Int[Tensor, "b q f"]) -> Float[Tensor, "b f d"]:
        """The sum of each frame's codes."""
        b, levels, num_frames = codes.shape
        base = torch.arange(levels, device=codes.device) * (self.config.acoustic.codebook_size + 1)
        rows = (codes.transpose(1, 2) + base).reshape(b * num_frames, levels)
        if self.config.code_width:
            x = self.embedding(rows).flatten(1) @ self.widen.flatten(0, 1)  # `_widened` of all levels, and their sum
        else:
            x = F.embedding_bag(rows, self.embedding.weight, mode="sum")
        return x.view(b, num_frames, -1)

    def with_history(
        self,
        hidden: Float[Tensor, "b f d"],
        earlier: Int[Tensor, "b q f"],
        first: int = 0,
        cache: KvCache | None = None,
    ) -> tuple[Float[Tensor, "b f d"], KvCache | None]:
        """States that know the codes of all frames before, and the cache moved on; for a model with `history_layers`.

        hidden: the Conformer's. earlier: the codes of the frame before each, `mask_code` before the first. first: which
        frame of the window is the first here; with a cache, frames follow one another.
        """
        places = torch.arange(first, first + hidden.shape[1], device=hidden.device, dtype=torch.float32)
        read, moved = self.history(hidden + self.embed_frames(earlier), places, cache)
        return hidden + self.history_out(read), moved

    def frames_before(self, codes: Int[Tensor, "b q f"]) -> Int[Tensor, "b q f"]:
        """The codes of the frame before each; `mask_code` before the first."""
        return torch.cat([torch.full_like(codes[:, :, :1], self.mask_code), codes[:, :, :-1]], 2)

    def condition(self, mulan: Int[Tensor, "b m 1"] | None, batch: int) -> Float[Tensor, "b d"]:
        """Sum of the MuLan embeddings; a code below 0 at the first level, or None, is no condition."""
        config = self.config
        null = config.mulan_levels * config.mulan.codebook_size
        if mulan is None:
            return self.mulan.weight[null].expand(batch, -1)
        codes = mulan[:, : config.mulan_levels, 0]
        base = torch.arange(config.mulan_levels, device=codes.device) * config.mulan.codebook_size
        summed = F.embedding_bag((codes.clamp(min=0) + base), self.mulan.weight, mode="sum")
        return torch.where(codes[:, :1] < 0, self.mulan.weight[null], summed)

    def logits(self, hidden: Float[Tensor, "b f d"], level: int) -> Float[Tensor, "b f v"]:
        """Logits of one level for all rows, float32."""
        return F.linear(self._narrowed(hidden, level), self.head[level], self.head_bias[level]).float()

    def _widened(self, embedded: Float[Tensor, "... n c"], levels: int | slice) -> Float[Tensor, "... n d"]:
        """Embeddings of codes at the width of the network; of several levels, level first."""
        return embedded @ self.widen[levels] if self.config.code_width else embedded

    def _narrowed(
        self, hidden: Float[Tensor, "... n d"], levels: int | slice | Int[Tensor, " b"]
    ) -> Float[Tensor, "... n c"]:
        """States at the width of the tables of codes; of several levels, level first."""
        return hidden @ self.narrow[levels] if self.config.code_width else hidden

    def neighbours(
        self, codes: Int[Tensor, "b q f"], known: Int[Tensor, "b q f"], given: Int[Tensor, "b q f"] | None = None
    ) -> tuple[Int[Tensor, "b q f"], Int[Tensor, "b q f"]]:
        """The codes before and after each code in time (`SoundStormConfig.series`); `mask_code` where there is none.

        codes: those before are taken from these, for frames are drawn in order. known: those after, from these. given:
        those of the frames before, if not from `codes`.
        """
        earlier = self.frames_before(codes if given is None else given)
        later = torch.cat([known[:, :, 1:], torch.full_like(codes[:, :, :1], self.mask_code)], 2)
        before = [(earlier if back else codes)[:, level] for level, back in self.config.before]
        return torch.stack(before, 1), torch.stack([later[:, level] for level in self.config.after], 1)

    def neighbour_terms(
        self, neighbours: tuple[Int[Tensor, "n q"], Int[Tensor, "n q"]], levels: slice
    ) -> Float[Tensor, "n q d"]:
        """What the codes before and after some levels add to their states."""
        before, after = (
            torch.einsum("nqc,qcd->nqd", self.embedding(codes + rows[levels]), beside[levels])
            for codes, rows, beside in zip(neighbours, self.beside_rows, self.beside, strict=True)
        )
        return before + after

    def _with_stays(
        self,
        logits: Float[Tensor, "n q v"],
        hidden: Float[Tensor, "n q d"],
        neighbours: tuple[Int[Tensor, "n q"], Int[Tensor, "n q"]],
        levels: slice,
    ) -> Float[Tensor, "n q v"]:
        """Logits with those of the codes before and after raised."""
        for side, codes in enumerate(neighbours):
            gain = torch.einsum("nqd,qd->nq", hidden, self.stay[side, levels]).float()
            gain = gain.masked_fill(codes == self.mask_code, 0.0)
            logits = logits.scatter_add(2, codes.clamp(max=self.mask_code - 1)[..., None], gain[..., None])
        return logits

    def depth_logits(
        self,
        state: Float[Tensor, "n d"],
        level: int,
        neighbours: tuple[Int[Tensor, " n"], Int[Tensor, " n"]] | None = None,
    ) -> Float[Tensor, "n v"]:
        """Logits of a level of frames, float32.

        `state` is the Conformer's output plus the embeddings of the lower levels. neighbours: the codes before and
        after, for a model with `series`.
        """
        own = slice(level, level + 1)
        if neighbours is None:
            hidden = self.depth(state[:, None], own)
            return self.logits(hidden[None, :, 0], level)[0]
        beside = (neighbours[0][:, None], neighbours[1][:, None])
        hidden = self.depth(state[:, None] + self.neighbour_terms(beside, own), own)
        return self._with_stays(self.logits(hidden[None, :, 0], level)[0][:, None], hidden, beside, own)[:, 0]

    def depth_state(self, state: Float[Tensor, "n d"], level: int, codes: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """`state` with the codes of a level added to it."""
        own = self.embedding(codes + level * (self.config.acoustic.codebook_size + 1))
        return state + self._widened(own, level)

    def all_depth_logits(
        self,
        hidden: Float[Tensor, "n d"],
        codes: Int[Tensor, "n q"],
        neighbours: tuple[Int[Tensor, "n q"], Int[Tensor, "n q"]] | None = None,
    ) -> Float[Tensor, "n q v"]:
        """Logits of all levels of frames, each given the true codes below it: `depth_logits` of every level at once."""
        base = torch.arange(codes.shape[1] - 1, device=codes.device) * (self.config.acoustic.codebook_size + 1)
        below = self._widened(self.embedding(codes[:, :-1] + base).transpose(0, 1), slice(-1)).transpose(0, 1)
        states = torch.cat([hidden[:, None], hidden[:, None] + below.cumsum(1)], 1)
        if neighbours is not None:
            states = states + self.neighbour_terms(neighbours, slice(None))
        states = self.depth(states, slice(None))
        narrow = self._narrowed(states.transpose(0, 1), slice(None)).transpose(0, 1)
        logits = (torch.einsum("nqc,qvc->nqv", narrow, self.head) + self.head_bias).float()
        return logits if neighbours is None else self._with_stays(logits, states, neighbours, slice(None))

    def logits_per_row(self, hidden: Float[Tensor, "b f d"], level: Int[Tensor, " b"]) -> Float[Tensor, "b f v"]:
        """Logits of each row's own level, float32."""
        logits = self._narrowed(hidden, level) @ self.head[level].transpose(1, 2)
        return (logits + self.head_bias[level][:, None]).float()

    @torch.no_grad()
    def start_embeddings(self, stream: str, vectors: Float[Tensor, "q v c"], seed: int = 0) -> None:
        """Starts a stream's embeddings from what its codes mean (`project_codebooks`), with the spread they had.

        A no-op for MuLan where it is no condition.
        """
        config = self.config
        if stream == MULAN.name:
            if not config.mulan_levels:
                return
            vectors = vectors[: config.mulan_levels]
        if stream == ACOUSTIC.name:
            vectors = vectors[: config.acoustic.levels]
        # MuLan's finer levels matter less: all are scaled like the first, so that rare fine codes are no loud noise
        width = self.embedding.weight.shape[1] if stream == ACOUSTIC.name else config.conformer.width
        side_by_side = stream == ACOUSTIC.name and (
            config.code_width > 0 or config.pace.semantic > config.pace.acoustic
        )
        apart = side_by_side or (stream == SEMANTIC.name and config.semantic.levels > 1)
        rows = project_codebooks(vectors, width, seed, like_first=stream == MULAN.name, apart=apart)
        if stream == ACOUSTIC.name:
            table = self.embedding.weight.view(config.acoustic.levels, -1, width)[:, :-1]
        else:
            weight = self.semantic.weight if stream == SEMANTIC.name else self.mulan.weight[:-1]
            table = weight.view(-1, *rows.shape[1:])
            rows = rows.repeat(len(table) // len(rows), 1, 1)
        table.copy_(rows.to(table) * table.std())
