"""The token store: what the encoders made of a corpus, as the language models read it.

    DIR/header.json               streams, the encoders by hash
    DIR/codebooks.safetensors     the vectors behind the codes: "mulan" (q v c) and, where known, "acoustic" and "semantic"
    DIR/shard-00000.safetensors   ID/semantic (t,) int16, ID/acoustic (q, f) int16, ID/mulan (n, c) float16; tracks in the metadata

MuLan is kept as embeddings of 10 s windows at 1 s stride: the tokens of any crop are those of the mean of its windows (MusicLM,
section 3.1), and noise can be added before quantizing. Files appear under their names only when they are whole.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn import functional as F

from musiclm.artifact import write_atomic
from musiclm.nn.rvq import ResidualVQ
from musiclm.tokens import TokenSpec

FORMAT = 1
HEADER_FILE = "header.json"
CODEBOOK_FILE = "codebooks.safetensors"
ENCODER_OF = {"mulan": "mulan", "semantic": "w2vbert", "acoustic": "soundstream"}  # which model makes a stream
MULAN_WINDOW_S = 10  # of audio behind one MuLan embedding; the next begins a second later


class StoreError(ValueError):
    """A token store that can't be written or read. The message is one line: what is wrong, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the codes are and who made them."""

    specs: tuple[TokenSpec, ...]
    encoders: dict[str, str]  # hash of the weights of "soundstream", "w2vbert" and "mulan"

    def spec(self, stream: str) -> TokenSpec:
        return next(spec for spec in self.specs if spec.name == stream)


@dataclass(frozen=True, kw_only=True)
class StoredTrack:
    """A track of the store."""

    id: str
    split: str
    num_frames: int  # semantic frames
    shard: str  # file name


@dataclass(frozen=True, kw_only=True)
class TrackTokens:
    """The tokens of one track, as an encoder run gives them."""

    id: str
    split: str
    semantic: Int[np.ndarray, " t"]
    acoustic: Int[np.ndarray, "q f"]
    mulan: Float[np.ndarray, "n c"]


@dataclass(frozen=True)
class Crops:
    """Pieces of tracks, cut at the same moments from all streams. Past the end of a short track codes are 0."""

    semantic: Int[Tensor, "b 1 t"]
    acoustic: Int[Tensor, "b q f"]
    embedding: Float[Tensor, "b c"]  # mean MuLan embedding of the windows in the crop, not normalised
    num_frames: Int[Tensor, " b"]  # semantic frames that are real
    tracks: tuple[int, ...]  # index into TokenStore.tracks


def read_header(folder: Path) -> Header:
    """The header of a store. Raises: StoreError if there is none or it is not one."""
    path = Path(folder) / HEADER_FILE
    if not path.is_file():
        raise StoreError(f"{folder} is no token store (no {HEADER_FILE}); fill one with `musiclm tokenize`")
    try:
        data = json.loads(path.read_text())
        if data["format"] != FORMAT:
            raise StoreError(f"{path} has format {data['format']}, this version reads {FORMAT}; tokenize again")
        return Header(specs=tuple(TokenSpec(**spec) for spec in data["specs"]), encoders=dict(data["encoders"]))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not the header of a token store ({error}); tokenize again") from None


def list_shards(folder: Path) -> list[Path]:
    return sorted(Path(folder).glob("shard-*.safetensors"))


class StoreWriter:
    """Adds tracks to a store, new or begun before.

    Raises: StoreError if the folder holds tokens of other encoders.
    """

    def __init__(self, folder: Path, header: Header, codebooks: Mapping[str, Tensor], tracks_per_shard: int = 16):
        self.folder, self.tracks_per_shard = Path(folder), tracks_per_shard
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / HEADER_FILE).exists():
            found = read_header(self.folder)
            for name in sorted({*found.encoders, *header.encoders}):
                old, new = found.encoders.get(name, "none"), header.encoders.get(name, "none")
                if old != new:
                    raise StoreError(
                        f"{folder} holds tokens of another {name} ({old[:12]}, now {new[:12]}); "
                        "tokenize into a new folder"
                    )
            if found.specs != header.specs:
                raise StoreError(f"{folder} holds other token streams; tokenize into a new folder")
        else:
            arrays = {name: value.detach().float().cpu().numpy() for name, value in codebooks.items()}
            _save(self.folder / CODEBOOK_FILE, arrays, {})
            document = {"format": FORMAT, **asdict(header)}
            write_atomic(self.folder / HEADER_FILE, json.dumps(document, indent=1) + "\n")
        shards = list_shards(self.folder)
        self.done = {track.id for shard in shards for track in shard_tracks(shard)}
        self.next_shard = 1 + int(shards[-1].stem.split("-")[1]) if shards else 0
        self.pending: list[TrackTokens] = []
        self.header = header

    def add(self, track: TrackTokens) -> None:
        """Takes a track in; it is on disk when its shard is full or at `flush`.

        Raises: StoreError if its streams are of unequal length or codes do not fit the specs.
        """
        for stream, codes in (("semantic", track.semantic[None]), ("acoustic", track.acoustic)):
            spec = self.header.spec(stream)
            if codes.shape[0] != spec.levels or (
                codes.size and not 0 <= codes.min() <= codes.max() < spec.codebook_size
            ):
                raise StoreError(f"track {track.id}: {stream} codes of shape {codes.shape} do not fit {spec}")
        ratio = frame_ratio(self.header.specs)
        if track.acoustic.shape[1] != len(track.semantic) * ratio or not len(track.mulan):
            raise StoreError(
                f"track {track.id}: {len(track.semantic)} semantic and {track.acoustic.shape[1]} acoustic frames, "
                f"{len(track.mulan)} MuLan windows; wanted 1 to {ratio} frames and at least one window"
            )
        self.pending.append(track)
        self.done.add(track.id)
        if len(self.pending) == self.tracks_per_shard:
            self.flush()

    def flush(self) -> None:
        """Writes what is pending as a shard."""
        if not self.pending:
            return
        arrays, records = {}, []
        for track in self.pending:
            arrays[f"{track.id}/semantic"] = track.semantic.astype(np.int16)
            arrays[f"{track.id}/acoustic"] = np.ascontiguousarray(track.acoustic.astype(np.int16))
            arrays[f"{track.id}/mulan"] = track.mulan.astype(np.float16)
            records.append({"id": track.id, "split": track.split, "num_frames": len(track.semantic)})
        _save(self.folder / f"shard-{self.next_shard:05d}.safetensors", arrays, {"tracks": json.dumps(records)})
        self.next_shard += 1
        self.pending = []


def shard_tracks(path: Path) -> list[StoredTrack]:
    """The tracks of a shard. Raises: StoreError if the file is damaged."""
    try:
        with safe_open(path, "np") as file:
            records = json.loads((file.metadata() or {})["tracks"])
        return [StoredTrack(**record, shard=path.name) for record in records]
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} is not a shard of a token store ({error}); delete it and tokenize again") from None


def frame_ratio(specs: Sequence[TokenSpec]) -> int:
    """Acoustic frames per semantic frame. Raises: StoreError if that is no whole number."""
    rates = {spec.name: spec.frame_rate_hz for spec in specs}
    acoustic, semantic = rates["acoustic"], rates["semantic"]
    if not acoustic or not semantic or acoustic % semantic:
        raise StoreError(f"acoustic frames at {acoustic} Hz are no multiple of semantic frames at {semantic} Hz")
    return int(acoustic // semantic)


class TokenStore:
    """Reads a store. Shards are mapped, not loaded.

    Raises: StoreError if the folder is no store or has no tracks.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.header = read_header(self.folder)
        self.ratio = frame_ratio(self.header.specs)
        self.semantic_rate_hz = float(self.header.spec("semantic").frame_rate_hz or 0)
        shards = list_shards(self.folder)
        self.tracks = [track for shard in shards for track in shard_tracks(shard)]
        if not self.tracks:
            raise StoreError(f"{folder} holds no tracks yet; fill it with `musiclm tokenize`")
        self._files = {shard.name: safe_open(shard, "np").__enter__() for shard in shards}
        with safe_open(self.folder / CODEBOOK_FILE, "pt") as file:
            self.codebooks: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        levels, size, dim = self.codebooks["mulan"].shape
        self._rvq = ResidualVQ(dim=dim, codebook_size=size, levels=levels)
        self._rvq.codebooks.copy_(self.codebooks["mulan"])

    def of_split(self, split: str) -> list[int]:
        """Indices of the tracks of a split."""
        return [index for index, track in enumerate(self.tracks) if track.split == split]

    def hours(self, split: str) -> float:
        frames = sum(self.tracks[index].num_frames for index in self.of_split(split))
        return frames / self.semantic_rate_hz / 3600

    def crops(self, split: str, crop_s: float, batch_size: int, seed: int, step: int) -> Crops:
        """Random crops, a pure function of the arguments; every second of music is equally likely.

        Raises: StoreError if the split is empty.
        """
        tracks = np.array(self._some(split))
        frames = np.array([self.tracks[index].num_frames for index in tracks])
        length = round(crop_s * self.semantic_rate_hz)
        random = np.random.default_rng((seed, step, 0x746F6B))
        ends = np.cumsum(frames)
        places = []
        for _ in range(batch_size):
            chosen = int(np.searchsorted(ends, random.integers(ends[-1]), side="right"))
            places.append((int(tracks[chosen]), int(random.integers(max(0, frames[chosen] - length) + 1))))
        return self.cut(places, length)

    def eval_crops(self, split: str, crop_s: float, num: int) -> Crops:
        """`num` fixed crops, spread over the tracks of a split and over each track; neighbours are of different tracks."""
        tracks = self._some(split)
        length = round(crop_s * self.semantic_rate_hz)
        per_track = math.ceil(num / len(tracks))
        # where there are more tracks than crops, take them evenly from the list, which is ordered by source
        chosen = [tracks[i * len(tracks) // num] for i in range(num)] if per_track == 1 else tracks
        places = []
        for index in range(num):
            track = chosen[index % len(chosen)]
            room = max(0, self.tracks[track].num_frames - length)
            places.append((track, room * (2 * (index // len(chosen)) + 1) // (2 * per_track)))
        return self.cut(places, length)

    def cut(self, places: Sequence[tuple[int, int]], length: int) -> Crops:
        """Crops of `length` semantic frames at (track index, first semantic frame)."""
        levels, dim = self.header.spec("acoustic").levels, self.codebooks["mulan"].shape[2]
        semantic = np.zeros((len(places), 1, length), np.int64)
        acoustic = np.zeros((len(places), levels, length * self.ratio), np.int64)
        embedding = np.zeros((len(places), dim), np.float32)
        real = []
        for row, (index, start) in enumerate(places):
            track = self.tracks[index]
            file = self._files[track.shard]
            stop = min(start + length, track.num_frames)
            real.append(stop - start)
            semantic[row, 0, : stop - start] = file.get_slice(f"{track.id}/semantic")[start:stop]
            piece = file.get_slice(f"{track.id}/acoustic")[:, start * self.ratio : stop * self.ratio]
            acoustic[row, :, : piece.shape[1]] = piece
            windows = file.get_slice(f"{track.id}/mulan")
            first, last = self.windows(start, stop, windows.get_shape()[0])
            embedding[row] = windows[first:last].astype(np.float32).mean(0)
        return Crops(
            torch.from_numpy(semantic),
            torch.from_numpy(acoustic),
            torch.from_numpy(embedding),
            torch.tensor(real),
            tuple(index for index, _ in places),
        )

    def windows(self, start: int, stop: int, num: int) -> tuple[int, int]:
        """Which of a track's `num` MuLan windows lie in semantic frames [start, stop): those wholly inside, or the one nearest."""
        first = math.ceil(start / self.semantic_rate_hz)
        last = math.floor(stop / self.semantic_rate_hz) - MULAN_WINDOW_S
        if first > last:
            middle = (start + stop) / 2 / self.semantic_rate_hz
            first = last = round(middle - MULAN_WINDOW_S / 2)
        first, last = min(max(first, 0), num - 1), min(max(last, 0), num - 1)
        return first, last + 1

    def mulan_codes(
        self, embedding: Float[Tensor, "b c"], noise: float = 0.0, generator: torch.Generator | None = None
    ) -> Int[Tensor, "b q 1"]:
        """MuLan tokens, as `MuLan.quantize` makes them: of the embedding at length 1.

        noise: a vector of random direction and of length up to `noise` (uniform per item) is added before.
        """
        unit = F.normalize(embedding.float(), dim=-1)
        if noise:
            random = F.normalize(torch.randn(unit.shape, generator=generator), dim=-1)
            unit = F.normalize(unit + random * noise * torch.rand(len(unit), 1, generator=generator), dim=-1)
        return self._rvq.encode(unit)[..., None]

    def streams(self, crops: Crops, noise: float = 0.0, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The crops as codes by stream name: "semantic" b 1 t, "acoustic" b q f, "mulan" b q 1."""
        mulan = self.mulan_codes(crops.embedding, noise, generator)
        return {"semantic": crops.semantic, "acoustic": crops.acoustic, "mulan": mulan}

    def unigram_loss(
        self, stream: str, codes: Int[Tensor, "b q f"], num_frames: Int[Tensor, " b"]
    ) -> Float[Tensor, " q"]:
        """Chance for a model of `stream`, per level in nats: what a model scores on `codes` (their first `num_frames` frames) that knows only how
        often each code occurs in the training split (counted from one, so that no code is impossible)."""
        spec = self.header.spec(stream)
        counts = torch.ones(spec.levels, spec.codebook_size, dtype=torch.float64)
        for index in self._some("train"):
            track = self.tracks[index]
            seen = np.atleast_2d(self._files[track.shard].get_tensor(f"{track.id}/{stream}"))
            for level in range(spec.levels):
                counts[level] += torch.from_numpy(np.bincount(seen[level], minlength=spec.codebook_size))
        nats = -(counts / counts.sum(1, keepdim=True)).log()
        real = torch.arange(codes.shape[2]) < num_frames[:, None]
        return torch.stack([nats[level][codes[:, level][real]].mean() for level in range(spec.levels)]).float()

    def _some(self, split: str) -> list[int]:
        tracks = self.of_split(split)
        if not tracks:
            raise StoreError(f"{self.folder} holds no tracks of split {split!r}; tokenize that split too")
        return tracks


def _save(path: Path, arrays: dict[str, Any], metadata: dict[str, str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(arrays, temporary, metadata=metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} could not be written ({error}); check free space and permissions") from error
    finally:
        temporary.unlink(missing_ok=True)
