"""Runs a frozen encoder over a corpus and fills its stream of the token store (MusicLM, section 3.1)."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from musiclm.core.audio import resample
from musiclm.core.engines import Engine, LocalEngine, jobs_for, run_in_order
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.streams import ACOUSTIC, ENCODER_OF, MELODY, MULAN, TokenSpec
from musiclm.core.threads import num_threads
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import Track, load_manifest
from musiclm.data.store import TRACKS_PER_SHARD, StoreError, StreamHeader, StreamWriter
from musiclm.models.encoders import Codec, JointEmbedding, SemanticEncoder, load_codec, load_joint, load_semantic
from musiclm.models.melody.model import MelodyEncoder


@dataclass(frozen=True, kw_only=True)
class TokenEncoder:
    """A frozen encoder as the store needs it; `of_codec` and the like make one of a model, `load` of an artifact.

    One that was loaded can be pickled: as its place, from which another process loads it, once.
    """

    encode: Callable[
        [Float[Tensor, "1 1 s"]], Shaped[Tensor, "_ _"]
    ]  # of 24 kHz; codes (q t), embeddings (n c) of joint ones
    header: StreamHeader
    codebooks: Float[Tensor, "q v c"]
    place: tuple[str, Path, str] | None = None  # what `load` was given

    @classmethod
    def load(cls, stream: str, folder: Path, device: str = "cpu") -> "TokenEncoder":
        """The encoder that fills a stream, from its artifact.

        Raises: ArtifactError if the folder holds no such model.
        """
        if stream == ACOUSTIC.name:
            loaded = cls.of_codec(load_codec(folder), device)
        elif stream == MULAN.name:
            loaded = cls.of_joint(load_joint(folder), device)
        elif stream == MELODY.name:
            loaded = cls.of_melody(MelodyEncoder.from_artifact(folder), device)
        else:
            loaded = cls.of_semantic(load_semantic(folder), device)
        return replace(loaded, place=(stream, Path(folder).absolute(), device))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.place is None:
            raise StoreError(
                f"a {ENCODER_OF[self.header.spec.name]} encoder of no artifact can't go to other processes"
            )
        return _loaded, (*self.place, self.header)

    @classmethod
    def of_codec(cls, model: Codec, device: str = "cpu") -> "TokenEncoder":
        """Raises: StoreError if the model has no hash, that is, was not loaded from an artifact. So do the others."""
        model.eval().to(device)

        def encode(audio: Tensor) -> Tensor:
            own = torch.from_numpy(resample(audio[0].cpu().numpy(), SAMPLE_RATE_HZ, model.sample_rate_hz))
            return encode_long(model, own[None].to(device))[0]

        return cls(encode=encode, header=_header(model.spec, model.codes_hash), codebooks=model.codebooks)

    @classmethod
    def of_semantic(cls, model: SemanticEncoder, device: str = "cpu") -> "TokenEncoder":
        model.eval().to(device)
        header = _header(model.spec, model.codes_hash)
        return cls(encode=lambda audio: model.encode(audio.to(device))[0], header=header, codebooks=model.codebooks)

    @classmethod
    def of_joint(cls, model: JointEmbedding, device: str = "cpu") -> "TokenEncoder":
        model.eval().to(device)
        rvq = model.rvq
        spec = TokenSpec(name=MULAN.name, codebook_size=rvq.codebook_size, levels=rvq.levels, frame_rate_hz=None)
        return cls(
            encode=lambda audio: model.embed_audio_windows(audio[0].to(device)),
            header=_header(spec, model.codes_hash),
            codebooks=rvq.codebooks,
        )

    @classmethod
    def of_melody(cls, model: MelodyEncoder, device: str = "cpu") -> "TokenEncoder":
        model.eval().to(device)
        return cls(
            encode=lambda audio: model.encode(audio.to(device))[0],
            header=_header(model.spec, model.codes_hash),
            codebooks=model.rvq.codebooks,
        )


@functools.lru_cache(maxsize=1)
def _loaded(stream: str, folder: Path, device: str, header: StreamHeader) -> TokenEncoder:
    """Raises: StoreError if another encoder lies in the folder, as it may on another machine."""
    encoder = TokenEncoder.load(stream, folder, device)
    if encoder.header != header:
        raise StoreError(f"{folder} holds another {ENCODER_OF[stream]} on this machine; all machines must see the same")
    return encoder


def _header(spec: TokenSpec, codes_hash: str) -> StreamHeader:
    if not codes_hash:
        raise StoreError(f"the {ENCODER_OF[spec.name]} encoder has no hash; load it from a trained artifact")
    return StreamHeader(spec=spec, encoder=codes_hash)


def encode_long(model: Codec, audio: Float[Tensor, "1 1 s"], piece_s: float = 20.0) -> Int[Tensor, "1 q f"]:
    """Acoustic codes of audio of any length, at the codec's rate, in constant memory; pieces give the whole's."""
    stream = model.encoder_stream()
    codes = [stream.push(piece) for piece in audio.split(round(piece_s * model.sample_rate_hz), dim=-1)]
    return torch.cat([piece.to(audio.device) for piece in [*codes, stream.flush()]], -1)


def tokenize_corpus(
    corpus_dir: Path,
    encoder: TokenEncoder,
    out: Path,
    splits: Sequence[str] = ("train", "validation", "test"),
    max_seconds_per_track: float | None = None,
    speeds: Sequence[float] = (),
    on_progress: Callable[[int, int], None] | None = None,
    engine: Engine | None = None,
    tracks_per_shard: int = TRACKS_PER_SHARD,
) -> Path:
    """Adds every track of the splits that the encoder's stream of the store `out` lacks; stopped at any moment, the
    same call goes on. The shards are the same wherever `engine` works, and however often it was stopped.

    max_seconds_per_track: of a longer track only the middle. Tracks shorter than a second are left out.
    speeds: training tracks are added at these speeds as well, pitch and tempo altered together, as a tape does it: more
    music than there is.
    on_progress: (tracks done, tracks in all), a track at another speed being another one.
    engine: by default this machine, with a process a core if there is enough to do, and this process alone for an
    encoder on a GPU or of no artifact. Each encodes in one thread.

    Raises: StoreError if the stream was filled by another encoder, CorpusError if there is no corpus, ValueError for a
    speed outside 0.5 to 2.
    """
    for speed in speeds:
        if not 0.5 <= speed <= 2:
            raise ValueError(f"speed is {speed}; it must be between 0.5 and 2")
    corpus_dir = Path(corpus_dir).absolute()
    tracks = [track for track in load_manifest(corpus_dir) if track.split in splits and track.seconds >= 1]
    altered = [speed for speed in dict.fromkeys(speeds) if speed != 1]
    plays = [
        Play(track=track, speed=speed)
        for track in tracks
        for speed in (1.0, *(altered if track.split == "train" else ()))
    ]
    writer = StreamWriter(out, encoder.header, encoder.codebooks, tracks_per_shard)
    todo = [play for play in plays if play.id not in writer.done]
    done = len(plays) - len(todo)
    here = encoder.place is None or encoder.place[2] != "cpu"
    work = functools.partial(encode_play, encoder, corpus_dir, max_seconds_per_track)
    with contextlib.ExitStack() as stack:
        stack.callback(writer.flush)  # also what was finished when an error or Ctrl-C came
        chosen = engine or stack.enter_context(LocalEngine(1 if here else jobs_for(len(todo))))
        if on_progress is not None and done:
            on_progress(done, len(plays))
        results = run_in_order(chosen, work, todo, lambda play: f"track {play.id}")
        for number, (play, (start_s, seconds, tokens)) in enumerate(results, done + 1):
            writer.add(play.id, play.track.split, start_s, seconds, tokens, play.track.source)
            if on_progress is not None:
                on_progress(number, len(plays))
    return Path(out)


@dataclass(frozen=True, kw_only=True)
class Play:
    """A track as it is encoded."""

    track: Track
    speed: float

    @property
    def id(self) -> str:
        return self.track.id if self.speed == 1 else f"{self.track.id} x{self.speed:g}"


@torch.no_grad()
def encode_play(
    encoder: TokenEncoder, corpus_dir: Path, max_seconds: float | None, play: Play
) -> tuple[float, float, Shaped[np.ndarray, "_ _"]]:
    """Where the encoded part of a track begins and how long it is, in seconds as it is played, and its tokens."""
    seconds = play.track.seconds / play.speed
    length_s = min(seconds, max_seconds or seconds)
    # where a MuLan window begins, and a frame of any stream of a whole number of frames in two seconds
    start_s = float(int((seconds - length_s) / 4) * 2)
    audio = read_clip(corpus_dir, play.track, start_s * play.speed, length_s * play.speed)
    if play.speed != 1:
        audio = resample(audio[None], SAMPLE_RATE_HZ * play.speed, SAMPLE_RATE_HZ)[0]
    with num_threads(1):  # processes share the cores, and results are the same in every process
        return start_s, length_s, encoder.encode(torch.from_numpy(audio)[None, None]).cpu().numpy()
