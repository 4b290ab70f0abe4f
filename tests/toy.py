"""A token store made up so that every condition tells something about its target, for the tests of language models."""

from pathlib import Path

import numpy as np
import torch

from musiclm.core.streams import TokenSpec
from musiclm.data.store import STREAMS, StreamHeader, StreamWriter, TokenStore

SIZE = 16
SPECS = (
    TokenSpec(name="mulan", codebook_size=4, levels=2, frame_rate_hz=None),
    TokenSpec(name="semantic", codebook_size=SIZE, levels=1, frame_rate_hz=25.0),
    TokenSpec(name="acoustic", codebook_size=SIZE, levels=12, frame_rate_hz=50.0),
)
HEADERS = {spec.name: StreamHeader(spec=spec, encoder=letter * 64) for spec, letter in zip(SPECS, "abc", strict=True)}


def codebooks(stream: str) -> torch.Tensor:
    """MuLan: four directions at the first level, small steps at the second."""
    generator = torch.Generator().manual_seed(1)
    if stream == "mulan":
        return torch.stack([torch.eye(4, 8), 0.05 * torch.randn(4, 8, generator=generator)])
    return torch.randn(HEADERS[stream].spec.levels, SIZE, 8, generator=generator)


def from_ids(ids: torch.Tensor, spec: TokenSpec, offset: int = 0) -> torch.Tensor:
    """The inverse of `to_ids`: codes `b q t` of ids `b l`."""
    codes = ids.unflatten(1, (-1, spec.levels)).transpose(1, 2)
    return codes - offset - torch.arange(spec.levels)[:, None] * spec.codebook_size


class Writers:
    """A writer for every stream, which take tracks as `make_track` makes them."""

    def __init__(self, folder: Path, tracks_per_shard: int = 16) -> None:
        self.writers = {
            name: StreamWriter(folder, HEADERS[name], codebooks(name), tracks_per_shard) for name in STREAMS
        }

    def add(self, name: str, split: str, tokens: dict[str, np.ndarray], start_s: float = 0.0, source: str = "") -> None:
        for stream, writer in self.writers.items():
            writer.add(name, split, start_s, tokens["semantic"].shape[1] / 25, tokens[stream], source)

    def flush(self) -> None:
        for writer in self.writers.values():
            writer.flush()


def make_track(kind: int, num_frames: int, seed: int) -> dict[str, np.ndarray]:
    """Tokens of a track of one of four kinds, which decides its MuLan code and which four semantic codes it uses.

    Acoustic level k of a frame is a function of the semantic code and of a coin per track-frame that level 0 shows.
    """
    random = np.random.default_rng(seed)
    semantic = 4 * kind + random.integers(0, 4, num_frames)
    coin = random.integers(0, 2, num_frames * 2)
    levels = np.arange(12)[:, None]
    acoustic = (semantic.repeat(2)[None] * 3 + coin[None] * (levels + 1) + levels) % SIZE
    windows = max(1, num_frames // 25 - 9)
    mulan = np.eye(4, 8)[kind] + 0.05 * random.standard_normal((windows, 8))
    return {"semantic": semantic[None], "acoustic": acoustic, "mulan": mulan.astype(np.float32)}


def make_store(folder: Path, num_tracks: int = 8, seconds: int = 40) -> TokenStore:
    writers = Writers(folder, tracks_per_shard=3)
    for index in range(num_tracks):
        writers.add(f"train{index}", "train", make_track(index % 4, seconds * 25 + index, index))
    for index in range(4):
        writers.add(f"valid{index}", "validation", make_track(index, seconds * 25, 100 + index))
    writers.flush()
    return TokenStore(folder)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def random_streams(batch: int, semantic_frames: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Codes of the toy streams, all at random."""
    g = torch.Generator().manual_seed(seed)
    return {
        "mulan": torch.randint(0, 4, (batch, 2, 1), generator=g),
        "semantic": torch.randint(0, SIZE, (batch, 1, semantic_frames), generator=g),
        "acoustic": torch.randint(0, SIZE, (batch, 12, 2 * semantic_frames), generator=g),
    }
