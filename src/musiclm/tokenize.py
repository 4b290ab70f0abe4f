"""Runs the three frozen encoders over a corpus and fills the token store (MusicLM, section 3.1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from musiclm.corpus.clips import read_clip
from musiclm.corpus.manifest import Track, load_manifest
from musiclm.features import SAMPLE_RATE_HZ
from musiclm.mulan.model import MuLan
from musiclm.soundstream.model import EncoderStream, SoundStream
from musiclm.store import Header, StoreError, StoreWriter, TrackTokens, frame_ratio
from musiclm.tokens import TokenSpec
from musiclm.w2vbert.tokenizer import SemanticTokenizer


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """The encoders as the store needs them. `Encoders.of` makes one from the models."""

    acoustic: Callable[[Float[Tensor, "1 1 s"]], Int[Tensor, "1 q f"]]
    semantic: Callable[[Float[Tensor, "1 1 s"]], Int[Tensor, "1 1 t"]]
    mulan: Callable[[Float[Tensor, "1 s"]], Float[Tensor, "n c"]]
    header: Header
    codebooks: dict[str, Tensor]  # "mulan" at least

    @classmethod
    def of(cls, soundstream: SoundStream, w2vbert: SemanticTokenizer, mulan: MuLan, device: str = "cpu") -> "Encoders":
        """Raises: StoreError if a model has no hash, that is, was not loaded from an artifact."""
        models = {"soundstream": soundstream, "w2vbert": w2vbert, "mulan": mulan}
        hashes = {}
        for name, model in models.items():
            model.eval().to(device)
            hashes[name] = str(model.artifact_hash or "")
            if not hashes[name]:
                raise StoreError(f"the {name} encoder has no hash; load it from a trained artifact")
        rvq = mulan.rvq
        mulan_spec = TokenSpec(name="mulan", codebook_size=rvq.codebook_size, levels=rvq.levels, frame_rate_hz=None)
        return cls(
            acoustic=lambda audio: encode_long(soundstream, audio.to(device)),
            semantic=lambda audio: w2vbert.encode(audio.to(device)),
            mulan=lambda audio: mulan.embed_audio_windows(audio.to(device)),
            header=Header(specs=(mulan_spec, w2vbert.spec, soundstream.spec), encoders=hashes),
            codebooks={
                "mulan": rvq.codebooks,
                "acoustic": soundstream.rvq.codebooks,
                "semantic": w2vbert.centroids[None],
            },
        )


def encode_long(model: SoundStream, audio: Float[Tensor, "1 1 s"], piece_s: float = 20.0) -> Int[Tensor, "1 q f"]:
    """Acoustic codes of audio of any length in constant memory; the codes of pieces equal those of the whole."""
    stream = EncoderStream(model)
    codes = [stream.push(piece) for piece in audio.split(round(piece_s * SAMPLE_RATE_HZ), dim=-1)]
    return torch.cat([piece.to(audio.device) for piece in [*codes, stream.flush()]], -1)


@torch.no_grad()
def tokenize_track(encoders: Encoders, track: Track, audio: Float[Tensor, " s"]) -> TrackTokens:
    """The tokens of one track, whole semantic frames. Raises: StoreError if the encoders disagree about its length."""
    semantic = encoders.semantic(audio[None, None])[0, 0]
    acoustic = encoders.acoustic(audio[None, None])[0]
    num_frames = semantic.shape[0] * frame_ratio(encoders.header.specs)
    if acoustic.shape[1] < num_frames:
        raise StoreError(
            f"track {track.id}: {acoustic.shape[1]} acoustic frames for {semantic.shape[0]} semantic ones, "
            f"fewer than {num_frames}"
        )
    return TrackTokens(
        id=track.id,
        split=track.split,
        semantic=semantic.cpu().numpy(),
        acoustic=acoustic[:, :num_frames].cpu().numpy(),
        mulan=encoders.mulan(audio[None]).cpu().numpy(),
    )


def tokenize_corpus(
    corpus_dir: Path,
    encoders: Encoders,
    out: Path,
    splits: Sequence[str] = ("train", "validation", "test"),
    max_seconds_per_track: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Adds every track of the splits that the store lacks; stopped at any moment, the same call goes on.

    max_seconds_per_track: of a longer track only the middle. Tracks shorter than a second are left out.
    on_progress: (tracks done, tracks in all).

    Raises: StoreError if the store was filled by other encoders, CorpusError if there is no corpus.
    """
    tracks = [track for track in load_manifest(corpus_dir) if track.split in splits and track.seconds >= 1]
    writer = StoreWriter(out, encoders.header, encoders.codebooks)
    try:
        for index, track in enumerate(tracks):
            if track.id not in writer.done:
                length = min(track.seconds, max_seconds_per_track or track.seconds)
                start = float(int((track.seconds - length) / 2))  # a whole second, where a MuLan window begins
                audio = torch.from_numpy(read_clip(corpus_dir, track, start, length))
                writer.add(tokenize_track(encoders, track, audio))
            if on_progress is not None:
                on_progress(index + 1, len(tracks))
    finally:
        writer.flush()  # also what was finished when an error or Ctrl-C came
    return Path(out)
