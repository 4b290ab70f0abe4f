"""The token store: what the encoders made of a corpus, as the language models read it.

    DIR/mulan/  DIR/semantic/  DIR/acoustic/    a folder per stream, each filled by its own encoder, at any time:
        header.json                the stream's spec and the encoder by hash
        codebooks.safetensors      the vectors behind the codes, (q v c)
        shard-00000.safetensors    by track id: codes (q t) int16, or MuLan embeddings (n c) float16; tracks as metadata

MuLan is kept as embeddings of 10 s windows at 1 s stride: the tokens of any crop are those of the mean of its windows
(MusicLM, section 3.1), and noise can be added before quantizing. Files appear under their names only when they are
whole.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from musiclm.core import tensors
from musiclm.core.artifact import write_atomic
from musiclm.core.retired import retired_codes
from musiclm.core.streams import ALL_STREAMS, ENCODER_OF, MULAN, STREAMS, TokenSpec, common_rate_hz
from musiclm.data.corpus.manifest import RENDERED
from musiclm.nn.rvq import ResidualVQ

FORMAT = 2
HEADER_FILE = "header.json"
CODEBOOK_FILE = "codebooks.safetensors"
LARGEST_CODEBOOK = 1 << 15  # what int16 holds
TRACKS_PER_SHARD = 16
MULAN_WINDOW_S = 10  # of audio behind one MuLan embedding; the next begins a second later


class StoreError(ValueError):
    """A token store that can't be written or read. The message is one line: what is wrong, and what to do."""


@dataclass(frozen=True, kw_only=True)
class StreamHeader:
    """What the codes of a stream are and who made them."""

    spec: TokenSpec
    encoder: str  # hash of its weights


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The part of a track that a stream covers."""

    id: str  # of the track; "ID xSPEED" where it is played at another speed
    split: str
    start_s: float  # a whole number of seconds
    seconds: float
    num_frames: int  # of the stream; for MuLan windows
    source: str = ""  # of the track, as in the manifest


@dataclass(frozen=True, kw_only=True)
class StoredTrack:
    """A track of the store: the part of it that all streams cover."""

    id: str
    split: str
    num_frames: int  # of the clock
    offset_s: dict[str, int]  # by stream: where in its segment that part begins
    rendered: bool = False  # from a score, not a recording


@dataclass(frozen=True)
class Crops:
    """Pieces of tracks, cut at the same moments from all streams. Past the end of a short track codes are 0."""

    codes: dict[str, Int[Tensor, "b _q _f"]]  # of each stream with frames that the store has been opened with
    embedding: Float[Tensor, "b c"] | None  # mean MuLan embedding of the windows in the crop, not normalised
    num_frames: Int[Tensor, " b"]  # frames of the clock that are real
    tracks: tuple[int, ...]  # index into TokenStore.tracks
    rows: slice = field(default_factory=lambda: slice(None))  # which of a batch's crops these are ...
    all_frames: tuple[int, ...] = ()  # ... and the real frames of every one of it


def read_header(folder: Path) -> StreamHeader:
    """The header of a stream. Raises: StoreError if there is none or it is not one."""
    path = Path(folder) / HEADER_FILE
    if not path.is_file():
        raise StoreError(f"{folder} holds no tokens (no {HEADER_FILE}); make them with `musiclm tokenize`")
    try:
        data = json.loads(path.read_text())
        if data["format"] != FORMAT:
            raise StoreError(f"{path} has format {data['format']}, this version reads {FORMAT}; tokenize again")
        header = StreamHeader(spec=TokenSpec(**data["spec"]), encoder=str(data["encoder"]))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not the header of a token stream ({error}); delete {folder} and tokenize again"
        ) from None
    if retired := retired_codes(header.encoder, f"delete {folder} and tokenize again"):
        raise StoreError(f"{folder} was {retired}")
    return header


def list_shards(folder: Path) -> list[Path]:
    return sorted(Path(folder).glob("shard-*.safetensors"), key=_shard_number)


def _shard_number(path: Path) -> int:
    return int(path.stem.split("-")[1])


class StreamWriter:
    """Adds tracks to a stream of a store, new or begun before. A last shard that is not full is filled first: the files
    are those of a writer that was never stopped.

    Raises: StoreError if the folder holds tokens of another encoder.
    """

    def __init__(
        self,
        store: Path,
        header: StreamHeader,
        codebooks: Float[Tensor, "q v c"],
        tracks_per_shard: int = TRACKS_PER_SHARD,
    ):
        self.header, self.tracks_per_shard = header, tracks_per_shard
        self.folder = Path(store) / header.spec.name
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / HEADER_FILE).exists():
            found = read_header(self.folder)
            if found != header:
                raise StoreError(
                    f"{self.folder} holds tokens of another {ENCODER_OF[header.spec.name]} ({found.encoder[:12]}, "
                    f"now {header.encoder[:12]}); tokenize into a new folder"
                )
        else:
            _save(self.folder / CODEBOOK_FILE, {"codebooks": codebooks.detach().float().cpu().numpy()}, {})
            document = {"format": FORMAT, **asdict(header)}
            write_atomic(self.folder / HEADER_FILE, json.dumps(document, indent=1) + "\n")
        shards = list_shards(self.folder)
        self.done = {segment.id for shard in shards for segment in shard_segments(shard)}
        self.numbers = {_shard_number(shard) for shard in shards}
        self._next()

    def _next(self) -> None:
        """What is written next: first in the place of a shard that was lost, whose tracks come again; then the last
        one, if it is not full; then a new one.
        """
        self.pending: list[tuple[Segment, np.ndarray]] = []
        self.num_saved = 0  # of these
        self.next_shard = next(number for number in range(len(self.numbers) + 1) if number not in self.numbers)
        if self.numbers and self.next_shard == len(self.numbers):
            last = self.folder / f"shard-{self.next_shard - 1:05d}.safetensors"
            segments = shard_segments(last)
            if len(segments) < self.tracks_per_shard:
                with tensors.reader(last, "np") as file:
                    self.pending = [(segment, file.get_tensor(segment.id)) for segment in segments]
                self.next_shard, self.num_saved = self.next_shard - 1, len(segments)

    def add(
        self, id: str, split: str, start_s: float, seconds: float, tokens: Shaped[np.ndarray, "_ _"], source: str = ""
    ) -> None:
        """Takes in codes (q t), or MuLan embeddings (n c), of a segment of a track; on disk when their shard is full or
        at `flush`.

        Raises: StoreError if they are none or do not fit the spec.
        """
        spec = self.header.spec
        if spec.per_clip:
            fit, num_frames = tokens.ndim == 2 and len(tokens) > 0, len(tokens)
        else:
            fit = len(tokens) == spec.levels and tokens.size > 0
            fit = fit and 0 <= tokens.min() and tokens.max() < spec.codebook_size
            num_frames = tokens.shape[-1]
            if spec.codebook_size > LARGEST_CODEBOOK:
                raise StoreError(f"codes of {spec} are kept as 16 bits, below {LARGEST_CODEBOOK}; choose fewer")
        if not fit:
            raise StoreError(f"track {id}: {spec.name} tokens of shape {tokens.shape} do not fit {spec}")
        segment = Segment(id=id, split=split, start_s=start_s, seconds=seconds, num_frames=num_frames, source=source)
        array = tokens.astype(np.float16 if spec.per_clip else np.int16)
        self.pending.append((segment, np.ascontiguousarray(array)))
        self.done.add(id)
        if len(self.pending) == self.tracks_per_shard:
            self.flush()

    def flush(self) -> None:
        """Writes what is pending as a shard."""
        if len(self.pending) == self.num_saved:
            return
        records = [asdict(segment) for segment, _ in self.pending]
        arrays = {segment.id: array for segment, array in self.pending}
        _save(self.folder / f"shard-{self.next_shard:05d}.safetensors", arrays, {"tracks": json.dumps(records)})
        self.numbers.add(self.next_shard)
        self.num_saved = len(self.pending)
        if self.num_saved >= self.tracks_per_shard:
            self._next()


def shard_segments(path: Path) -> list[Segment]:
    """What is in a shard. Raises: StoreError if the file is damaged."""
    try:
        with tensors.reader(path, "np") as file:
            return [Segment(**record) for record in json.loads((file.metadata() or {})["tracks"])]
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} is not a shard of a token store ({error}); delete it and tokenize again") from None


class TokenStream:
    """One stream of a store. Shards are mapped, not loaded."""

    def __init__(self, folder: Path) -> None:
        self.header = read_header(folder)
        try:
            with tensors.reader(folder / CODEBOOK_FILE) as file:
                self.codebooks: Float[Tensor, "q v c"] = file.get_tensor("codebooks")
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"{folder / CODEBOOK_FILE} can't be read ({error}); delete {folder} and tokenize again"
            ) from None
        self.segments: dict[str, Segment] = {}
        self._files: dict[str, Any] = {}
        for shard in list_shards(folder):
            found = shard_segments(shard)
            file = tensors.reader(shard, "np")
            self.segments |= {segment.id: segment for segment in found}
            self._files |= {segment.id: file for segment in found}

    def __getitem__(self, id: str) -> Any:
        """The tokens of a track, to be sliced: only what is cut out is read."""
        return self._files[id].get_slice(id)


class TokenStore:
    """Reads some streams of a store: of each track that all of them have the part that they all cover.

    Times are frames of the clock: the rate at which frames of all streams begin together, or, where that is less than
    once a second, the slowest stream's. A frame of the clock that falls within a stream's frame is cut before it.

    Raises: ValueError if no stream with frames is asked for; StoreError if a stream is missing, none has tracks, or
    streams cover no second of a track in common.
    """

    def __init__(self, folder: Path | str, streams: Sequence[str] = tuple(STREAMS)) -> None:
        self.folder = Path(folder)
        self._streams = {name: TokenStream(self.folder / name) for name in ALL_STREAMS if name in streams}
        self.specs = tuple(stream.header.spec for stream in self._streams.values())
        self.encoders = {ENCODER_OF[name]: stream.header.encoder for name, stream in self._streams.items()}
        self.codebooks = {name: stream.codebooks for name, stream in self._streams.items()}
        timed = [spec for spec in self.specs if not spec.per_clip]
        if not timed:
            raise ValueError(f"a store is read by streams with frames, got {', '.join(streams) or 'none'}")
        common = common_rate_hz(timed)
        clock = common if common > 1 else min(common_rate_hz([spec]) for spec in timed)
        self.clock_hz, self._shared = float(clock), common > 1
        self.ratios = {spec.name: common_rate_hz([spec]) / clock for spec in timed}  # frames per frame of the clock
        first = next(iter(self._streams.values()))
        self.tracks = [self._track(id) for id in first.segments if self._everywhere(id)]
        if not self.tracks:
            raise StoreError(f"{folder} holds no tracks yet; fill it with `musiclm tokenize`")
        self._rvq: ResidualVQ | None = None
        if MULAN.name in self._streams:
            levels, size, dim = self.codebooks[MULAN.name].shape
            self._rvq = ResidualVQ(dim=dim, codebook_size=size, levels=levels)
            self._rvq.codebooks.copy_(self.codebooks[MULAN.name])

    def spec(self, stream: str) -> TokenSpec:
        return self._streams[stream].header.spec

    def _everywhere(self, id: str) -> bool:
        return all(id in stream.segments for stream in self._streams.values())

    def _track(self, id: str) -> StoredTrack:
        found = {name: stream.segments[id] for name, stream in self._streams.items()}
        start = max(segment.start_s for segment in found.values())
        offsets = {name: round(start - segment.start_s) for name, segment in found.items()}
        for name, segment in found.items():
            rate = self.spec(name).frame_rate_hz
            if rate and segment.num_frames < int(segment.seconds * rate - 0.01):  # resampling may lack a sample
                raise StoreError(
                    f"track {id}: {segment.num_frames} {name} frames for {segment.seconds:g} s at {rate:g} Hz are too "
                    "few; tokenize again"
                )
        if self._shared and any(offset * self.clock_hz % 1 for offset in offsets.values()):
            raise StoreError(
                f"track {id}: streams begin {offsets} s apart, which is no whole number of frames; tokenize again"
            )
        left = {
            name: math.floor(found[name].num_frames / ratio) - math.ceil(offsets[name] * self.clock_hz)
            for name, ratio in self.ratios.items()
        }
        for name in found.keys() - self.ratios.keys():  # windows are longer than their stride
            offsets[name] = min(offsets[name], found[name].num_frames - 1)
        if min(left.values()) < 1:
            raise StoreError(
                f"track {id}: the streams of {self.folder} have no part of it in common; tokenize again with one "
                "--max-seconds for all"
            )
        any_of_them = next(iter(found.values()))
        return StoredTrack(
            id=id,
            split=any_of_them.split,
            num_frames=min(left.values()),
            offset_s=offsets,
            rendered=any_of_them.source == RENDERED,
        )

    def _slice(self, track: StoredTrack, stream: str, start: int, stop: int) -> NDArray[np.int16]:
        """Codes (q, frames of the stream) of frames [start, stop) of the clock."""
        n, skip = self.ratios[stream], math.floor(track.offset_s[stream] * self.clock_hz)
        first = math.floor((skip + start) * n)
        codes: NDArray[np.int16] = self._streams[stream][track.id][:, first : first + math.floor((stop - start) * n)]
        return codes

    def of_split(self, split: str, rendered: bool | None = None) -> list[int]:
        """Indices of the tracks of a split: all, only the rendered ones, or only the real ones."""
        return [
            index
            for index, track in enumerate(self.tracks)
            if track.split == split and rendered in (None, track.rendered)
        ]

    def hours(self, split: str) -> float:
        frames = sum(self.tracks[index].num_frames for index in self.of_split(split))
        return frames / self.clock_hz / 3600

    def crops(
        self,
        split: str,
        crop_s: float,
        batch_size: int,
        seed: int,
        step: int,
        rendered_share: float | None = None,
        rows: slice = slice(None),
    ) -> Crops:
        """Random crops, a pure function of the arguments; every second of music is equally likely.

        rendered_share: of crops that are of rendered tracks, on average; None: as large as theirs of the hours.
        rows: of the batch that are read.
        Raises: StoreError if the split, or the part of it that is to be drawn from, is empty.
        """
        length = round(crop_s * self.clock_hz)
        random = np.random.default_rng((seed, step, 0x746F6B))
        parts: list[tuple[bool | None, int]] = [(None, batch_size)]
        if rendered_share is not None:
            num = int(rendered_share * batch_size + random.random())
            parts = [(True, num), (False, batch_size - num)]
        places = []
        for rendered, num in parts:
            if num:
                tracks = np.array(self._some(split, rendered))
                frames = np.array([self.tracks[index].num_frames for index in tracks])
                ends = np.cumsum(frames)
            for _ in range(num):
                chosen = int(np.searchsorted(ends, random.integers(ends[-1]), side="right"))
                places.append((int(tracks[chosen]), int(random.integers(max(0, frames[chosen] - length) + 1))))
        real = tuple(min(start + length, self.tracks[index].num_frames) - start for index, start in places)
        return replace(self.cut(places[rows], length), rows=rows, all_frames=real)

    def eval_crops(self, split: str, crop_s: float, num: int) -> Crops:
        """`num` fixed crops, spread over the tracks of a split and over each track; neighbours are of different tracks.

        Rendered tracks are left out where there are real ones. Raises: StoreError if the split is empty.
        """
        tracks = self.of_split(split, rendered=False) or self._some(split)
        length = round(crop_s * self.clock_hz)
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
        """Crops of `length` frames of the clock at (track index, first frame of the clock)."""
        codes = {
            name: np.zeros((len(places), self.spec(name).levels, math.floor(length * n)), np.int64)
            for name, n in self.ratios.items()
        }
        embedding = None
        if self._rvq is not None:
            embedding = np.zeros((len(places), self._rvq.dim), np.float32)
        real = []
        for row, (index, start) in enumerate(places):
            track = self.tracks[index]
            stop = min(start + length, track.num_frames)
            real.append(stop - start)
            for name, n in self.ratios.items():
                codes[name][row, :, : math.floor((stop - start) * n)] = self._slice(track, name, start, stop)
            if embedding is not None:
                windows, skip = self._streams[MULAN.name][track.id], track.offset_s[MULAN.name]
                first, last = self.windows(start, stop, windows.get_shape()[0] - skip)
                embedding[row] = windows[skip + first : skip + last].astype(np.float32).mean(0)
        return Crops(
            {name: torch.from_numpy(value) for name, value in codes.items()},
            None if embedding is None else torch.from_numpy(embedding),
            torch.tensor(real),
            tuple(index for index, _ in places),
        )

    def windows(self, start: int, stop: int, num: int) -> tuple[int, int]:
        """Which of a track's `num` MuLan windows lie wholly in frames [start, stop) of the clock, or the nearest."""
        first = math.ceil(start / self.clock_hz)
        last = math.floor(stop / self.clock_hz) - MULAN_WINDOW_S
        if first > last:
            middle = (start + stop) / 2 / self.clock_hz
            first = last = round(middle - MULAN_WINDOW_S / 2)
        first, last = min(max(first, 0), num - 1), min(max(last, 0), num - 1)
        return first, last + 1

    def mulan_codes(
        self,
        embedding: Float[Tensor, "b c"],
        noise: float = 0.0,
        generator: torch.Generator | None = None,
        rows: slice = slice(None),
        batch_size: int | None = None,
    ) -> Int[Tensor, "b q 1"]:
        """MuLan tokens, as `MuLan.quantize` makes them: of the embedding at length 1.

        noise: a vector of random direction and of length up to `noise` (uniform per item) is added before.
        rows, batch_size: which of how many items these are, for which random numbers are drawn.
        Raises: ValueError if the store was opened without MuLan's stream.
        """
        if self._rvq is None:
            raise ValueError(f"{self.folder} was opened without the stream {MULAN.name!r}")
        unit = F.normalize(embedding.float(), dim=-1)
        if noise:
            num = len(unit) if batch_size is None else batch_size
            random = F.normalize(torch.randn((num, unit.shape[1]), generator=generator), dim=-1)[rows]
            unit = F.normalize(unit + random * noise * torch.rand(num, 1, generator=generator)[rows], dim=-1)
        return self._rvq.encode(unit)[..., None]

    def streams(self, crops: Crops, noise: float = 0.0, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The crops as codes by stream name: "semantic" b 1 t, "acoustic" b q f, "mulan" b q 1.

        noise, generator: as `mulan_codes`.
        """
        if crops.embedding is None:
            return dict(crops.codes)
        num = len(crops.all_frames) or None
        return {**crops.codes, MULAN.name: self.mulan_codes(crops.embedding, noise, generator, crops.rows, num)}

    def num_frames(self, crops: Crops) -> dict[str, Int[Tensor, " b"]]:
        """Frames of each crop that are real, by stream."""
        return {name: self.frames_of(name, crops.num_frames) for name in self.ratios}

    def frames_of(self, stream: str, num_frames: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Whole frames of a stream in so many of the store's clock."""
        ratio = self.ratios[stream]
        return num_frames * ratio.numerator // ratio.denominator

    def unigram_loss(
        self, stream: str, codes: Int[Tensor, "b q f"], num_frames: Int[Tensor, " b"]
    ) -> Float[Tensor, " q"]:
        """The baseline of a model of `stream`, per level in nats: what a model scores on `codes` (their first
        `num_frames` frames) that knows only how often each code occurs in the training split (counted from one, so that
        no code is impossible)."""
        spec = self.spec(stream)
        counts = torch.ones(spec.levels, spec.codebook_size, dtype=torch.float64)
        for index in self._some("train"):
            seen = self._slice(self.tracks[index], stream, 0, self.tracks[index].num_frames)
            for level in range(spec.levels):
                counts[level] += torch.from_numpy(np.bincount(seen[level], minlength=spec.codebook_size))
        nats = -(counts / counts.sum(1, keepdim=True)).log()
        real = torch.arange(codes.shape[2]) < num_frames[:, None]
        return torch.stack([nats[level][codes[:, level][real]].mean() for level in range(spec.levels)]).float()

    def _some(self, split: str, rendered: bool | None = None) -> list[int]:
        tracks = self.of_split(split, rendered)
        if not tracks:
            kind = {None: "", True: "rendered ", False: "real "}[rendered]
            raise StoreError(f"{self.folder} holds no {kind}tracks of split {split!r}; tokenize some")
        return tracks


def _save(path: Path, arrays: dict[str, Any], metadata: dict[str, str]) -> None:
    try:
        tensors.save(arrays, path, metadata)
    except OSError as error:
        raise StoreError(str(error)) from error
