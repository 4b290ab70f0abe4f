"""What a codec does to held-out music, by number of levels, beside other codecs on the same clips.

- mel distance: mean absolute difference of log-mel magnitudes (80 bands, 10 ms) in dB; lower is better. Levels below
  -60 dB of full scale count as equal.
- SI-SDR: scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019); higher is better; a codec that keeps
  the spectrum but not the phase scores below 0.
- pitch correlation: Pearson's, over a log-frequency spectrogram fine enough (48 bins an octave, 65 Hz to 2 kHz, windows
  of 0.7 s) that a partial 25 cents off lies elsewhere; 1 is the same. Neither mel distance nor ViSQOL notices a detuned
  or wavering note.
- ViSQOL: audio mode at 48 kHz, 1 (bad) to 5 (as the original); higher is better. It flatters codecs trained on mel
  losses.
- notes kept (`musiclm.evaluate.notes_kept`): F1 of sounding keys below and above middle C, and of onsets; higher is
  better. None of the others notices that a bass line is gone.
- real or not (`musiclm.evaluate.real_or_not`): AUC of a classifier that tells copies from originals; 0.5 is best.
- real-time factor: seconds of encoding and decoding per second of audio; lower is better. That of Opus includes
  starting ffmpeg twice.

Everything is compared at 24 kHz, where the codec works; Opus gets the same 24 kHz audio, EnCodec, DAC and Mimi what
they were made for. The row "another clip" puts other music in the place of each copy: what no copy scores.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from jaxtyping import Float

from musiclm.core.audio import resample
from musiclm.core.features import SAMPLE_RATE_HZ, LogMel
from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import Track
from musiclm.evaluate.bootstrap import Estimate, bootstrap, mean
from musiclm.evaluate.notes_kept import notes_kept
from musiclm.evaluate.real_or_not import real_or_not
from musiclm.listen.analysers import Analyser
from musiclm.listen.notes import Transcriber, Transcription, count_notes
from musiclm.models.encoders import Codec
from musiclm.models.foreign.codec import ForeignCodecConfig, decode_window, encode_window, load_codec
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.nn.rvq import perplexity

Clip = Float[np.ndarray, " s"]


def mel_distance_db(output: Clip, target: Clip) -> float:
    """Mean absolute log-mel difference in dB. Raises ValueError for clips of different lengths."""
    if output.shape != target.shape:
        raise ValueError(f"clips of {output.shape[0]} and {target.shape[0]} samples can't be compared")
    logmel = LogMel(n_fft=1024, hop=240, num_mels=80, floor=1e-3)
    both = logmel(torch.from_numpy(np.stack([output, target]).astype(np.float32)))
    return float((both[0] - both[1]).abs().mean()) * 20 / float(np.log(10))


def si_sdr_db(output: Clip, target: Clip) -> float:
    """Scale-invariant SDR in dB, means removed. -inf for silence as output."""
    output, target = output - output.mean(), target - target.mean()
    scale = float(output @ target) / max(float(target @ target), 1e-12)
    signal = scale * target
    noise = output - signal
    return float(10 * np.log10(max(float(signal @ signal), 1e-12) / max(float(noise @ noise), 1e-12)))


def pitch_correlation(output: Clip, target: Clip) -> float:
    """Correlation of two clips' fine log-frequency spectrograms, -1..1; 0 if one is silent.

    Needs clips of 0.7 s or more.

    Raises: ValueError for clips of different or too short lengths.
    """
    n_fft, hop, bins_per_octave = 16384, 2048, 48
    if output.shape != target.shape or len(target) < n_fft:
        raise ValueError(
            f"clips of {len(output)} and {len(target)} samples; they must be equal and at least {n_fft} long"
        )
    hz = np.arange(1, n_fft // 2 + 1) * SAMPLE_RATE_HZ / n_fft
    bins = np.round(bins_per_octave * np.log2(hz / 65.4)).astype(int)
    inside = (bins >= 0) & (bins < 5 * bins_per_octave)
    pictures = []
    for clip in (output, target):
        frames = np.lib.stride_tricks.sliding_window_view(clip, n_fft)[::hop] * np.hanning(n_fft)
        power = np.abs(np.fft.rfft(frames))[:, 1:][:, inside] ** 2
        picture = np.zeros((5 * bins_per_octave, len(frames)))
        np.add.at(picture, bins[inside], power.T)
        pictures.append(np.sqrt(picture).ravel())
    a, b = (picture - picture.mean() for picture in pictures)
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


def make_visqol() -> Callable[[Clip, Clip], float]:
    """ViSQOL as a function of (output, target) at 24 kHz. Raises ValueError if the package is missing."""
    try:
        from visqol import VisqolApi
    except ImportError:
        raise ValueError("ViSQOL is not installed; run: pip install 'musiclm[eval]'") from None
    api = VisqolApi()
    api.create(mode="audio")

    def score(output: Clip, target: Clip) -> float:
        up = [resample(clip[None].astype(np.float32), SAMPLE_RATE_HZ, 48000)[0] for clip in (target, output)]
        return float(api.measure_from_arrays(up[0].astype(np.float64), up[1].astype(np.float64), 48000).moslqo)

    return score


def through_opus(clip: Clip, bits_per_second: int) -> Clip:
    """The clip through Opus by ffmpeg, aligned with the original.

    Raises ValueError if ffmpeg with libopus is missing.
    """
    if not shutil.which("ffmpeg"):
        raise ValueError("Opus needs the ffmpeg program; install ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        source, coded, back = (str(Path(folder) / name) for name in ("in.wav", "out.opus", "back.wav"))
        soundfile.write(source, clip, SAMPLE_RATE_HZ, subtype="FLOAT")
        rate = ["-ac", "1", "-ar", str(SAMPLE_RATE_HZ)]
        for command in (
            ["-i", source, *rate, "-c:a", "libopus", "-b:a", str(bits_per_second), "-application", "audio", coded],
            ["-i", coded, *rate, "-c:a", "pcm_f32le", back],
        ):
            done = subprocess.run(["ffmpeg", "-v", "error", "-y", *command], capture_output=True, text=True)
            if done.returncode:
                raise ValueError(f"ffmpeg could not code Opus ({' '.join(done.stderr.split())[:200]})")
        out, _ = soundfile.read(back, dtype="float32")
    out = np.pad(out, (0, max(0, len(clip) - len(out))))[: len(clip)]
    return np.asarray(out, np.float32)


class PretrainedCodec:
    """EnCodec, DAC or Mimi of transformers, by folder or hub name, with all its levels and on whole clips.

    Raises: ValueError if it can't be loaded or is no codec.
    """

    def __init__(self, name: str) -> None:
        self.model = load_codec(name)
        self.name = Path(name).name
        self.rate_hz = int(self.model.config.sampling_rate)

    def settings(self) -> list[float | None]:
        """Bandwidths in kbps that one model serves (EnCodec), or None alone for its own."""
        return list(getattr(self.model.config, "target_bandwidths", [None]))

    @torch.no_grad()
    def __call__(self, clip: Clip, bandwidth: float | None = None) -> tuple[Clip, float]:
        """(the clip at 24 kHz after coding, kbps counted from its codes)."""
        audio = torch.from_numpy(resample(clip[None].astype(np.float32), SAMPLE_RATE_HZ, self.rate_hz))[None]
        codes = encode_window(self.model, audio, bandwidth)
        out = decode_window(self.model, codes)
        bits = codes.numel() * float(np.log2(self.model.config.codebook_size))
        back = resample(out.reshape(1, -1).numpy().astype(np.float32), self.rate_hz, SAMPLE_RATE_HZ)[0]
        back = np.pad(back, (0, max(0, len(clip) - len(back))))[: len(clip)]
        return np.clip(back, -1, 1).astype(np.float32), bits / 1000 / (len(clip) / SAMPLE_RATE_HZ)


@dataclass(frozen=True, kw_only=True)
class CodecFigures:
    """Of one codec at one rate; means over the clips where nothing else is said."""

    name: str
    kbps: float | None = None
    mel_distance_db: Estimate
    pitch_correlation: Estimate
    si_sdr_db: Estimate
    visqol: Estimate | None = None
    keys_below_c4: Estimate | None = None  # F1 over all clips' notes together, as the two below
    keys_above_c4: Estimate | None = None
    onsets: Estimate | None = None
    sounding_below_c4: Estimate | None = None  # keys at once, of the originals in `CodecReport`
    sounding_above_c4: Estimate | None = None
    real_or_not: dict[str, Estimate] | None = None  # AUC by analyser
    real_time_factor: float | None = None


@dataclass(frozen=True, kw_only=True)
class CodecReport:
    """Every row, and how the codec's levels are used."""

    rows: list[CodecFigures]
    num_clips: int
    clip_s: float
    perplexity: list[float]  # per level, of codebook_size
    encode_real_time_factor: float
    decode_real_time_factor: float
    sounding_below_c4: Estimate | None = None  # keys at once in the originals
    sounding_above_c4: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def level_counts(config: SoundStreamConfig | ForeignCodecConfig, played: int | None = None) -> list[int]:
    """How many of a codec's codes a frame to measure: what is played, all, and what is whole with fewer of them.

    The bands network's codes are whole with one level of every group, two, and so on; of others any number is, and
    halves down to an eighth are taken.
    """
    if isinstance(config, SoundStreamConfig) and config.network == "bands":
        whole = {config.levels * level // config.group_levels for level in range(1, config.group_levels + 1)}
    else:
        whole = {max(1, config.levels // part) for part in (1, 2, 4, 8)}
    return sorted(whole | ({min(played, config.levels)} if played else set()))


class Comparison:
    """The originals of one report, and copies compared with them."""

    def __init__(
        self,
        originals: Sequence[Clip],
        visqol: Callable[[Clip, Clip], float] | None = None,
        notes: Transcriber | None = None,
        embedders: Sequence[Analyser] = (),
    ) -> None:
        """What is None or empty is not measured."""
        self.originals, self.visqol, self.notes, self.embedders = originals, visqol, notes, tuple(embedders)
        self.transcribed = self._transcribe(originals)
        self.embedded = {embedder.name: _embed(embedder, originals) for embedder in self.embedders}

    def figures(
        self, name: str, copies: Sequence[Clip], kbps: float | None = None, took_s: float | None = None
    ) -> CodecFigures:
        """Of copies at the places of the originals, of their lengths; `took_s` is what coding all of them took."""
        pairs = list(zip(copies, self.originals, strict=True))

        def mean_of(measure: Callable[[Clip, Clip], float]) -> Estimate:
            return bootstrap(mean, np.array([measure(*pair) for pair in pairs]), draws=300)

        transcribed = self._transcribe(copies)
        seconds = sum(map(len, self.originals)) / SAMPLE_RATE_HZ
        return CodecFigures(
            name=name,
            kbps=None if kbps is None else round(kbps, 3),
            mel_distance_db=mean_of(mel_distance_db),
            pitch_correlation=mean_of(pitch_correlation),
            si_sdr_db=mean_of(si_sdr_db),
            visqol=None if self.visqol is None else mean_of(self.visqol),
            **(notes_kept(transcribed, self.transcribed) if transcribed else {}),
            **sounding(transcribed),
            real_or_not={e.name: real_or_not(self.embedded[e.name], _embed(e, copies)) for e in self.embedders} or None,
            real_time_factor=None if took_s is None else took_s / seconds,
        )

    def _transcribe(self, clips: Sequence[Clip]) -> list[Transcription]:
        return [] if self.notes is None else [self.notes.transcribe(clip) for clip in clips]


def sounding(transcribed: Sequence[Transcription]) -> dict[str, Estimate]:
    """Keys sounding at once below and above middle C, means over clips; nothing of nothing."""
    rows = [count_notes(one) for one in transcribed]
    names = ("below_c4", "above_c4") if rows else ()
    return {f"sounding_{n}": bootstrap(mean, np.array([row[f"keys_{n}"] for row in rows]), draws=300) for n in names}


def _embed(embedder: Analyser, clips: Sequence[Clip]) -> Float[np.ndarray, "n d"]:
    return np.array([embedder(clip)["embedding"] for clip in clips])


@torch.no_grad()
def evaluate_codec(
    codec: Codec,
    corpus_dir: Path,
    tracks: Sequence[Track],
    *,
    levels: Sequence[int] | None = None,
    opus_kbps: Sequence[int] = (6, 12, 24),
    others: Sequence[PretrainedCodec] = (),
    num_clips: int = 20,
    clip_s: float = 6.0,
    seed: int = 0,
    visqol: Callable[[Clip, Clip], float] | None = None,
    notes: Transcriber | None = None,
    embedders: Sequence[Analyser] = (),
) -> CodecReport:
    """Figures of the codec at each number of levels, of Opus and of others, on clips spread over `tracks`.

    levels: `level_counts` of the codec by default. The row "another clip" takes further clips of the tracks; with a
    single track it is left out.

    Raises: ValueError without ffmpeg, for fewer than ten clips with embedders, or for no tracks.
    """
    audio, of_tracks, _ = eval_clips(corpus_dir, list(tracks), clip_s, 2 * num_clips, seed)
    targets = [clip[0].numpy() for clip in audio[:num_clips]]
    codes, encode_s = _encoded(codec, audio[:num_clips])
    decode_s = _decode_s(codec, codes)
    compare = Comparison(targets, visqol, notes, embedders)
    rows = [
        *_rows_of_codec(compare, codec, codes, encode_s, levels or level_counts(codec.config)),
        *_rows_of_opus(compare, opus_kbps),
        *(row for other in others for row in _rows_of_other(compare, other)),
    ]
    further, owners = [clip[0].numpy() for clip in audio[num_clips:]], [track.id for track in of_tracks]
    # the clip after another round of all tracks is of the same one again
    shift = int(any(a == b for a, b in zip(owners[:num_clips], owners[num_clips:], strict=True)))
    if len(set(owners)) > 1:
        rows.append(compare.figures("another clip", further[shift:] + further[:shift]))
    total_s = num_clips * clip_s
    return CodecReport(
        rows=rows,
        num_clips=num_clips,
        clip_s=clip_s,
        perplexity=perplexity(torch.cat(codes), codec.spec.codebook_size).tolist(),
        encode_real_time_factor=encode_s / total_s,
        decode_real_time_factor=decode_s / total_s,
        **sounding(compare.transcribed),
    )


def _encoded(codec: Codec, clips: Float[torch.Tensor, "n 1 s"]) -> tuple[list[torch.Tensor], float]:
    """Codes of clips, and how many seconds that took."""
    started = time.perf_counter()
    rates = SAMPLE_RATE_HZ, codec.sample_rate_hz
    codes = [codec.encode(torch.from_numpy(resample(clip.numpy(), *rates))[None]) for clip in clips]
    return codes, time.perf_counter() - started


def _decode_s(codec: Codec, codes: Sequence[torch.Tensor]) -> float:
    started = time.perf_counter()
    for code in codes:
        codec.decode(code)
    return time.perf_counter() - started


def _rows_of_codec(
    compare: Comparison, codec: Codec, codes: Sequence[torch.Tensor], encode_s: float, levels: Sequence[int]
) -> Iterator[CodecFigures]:
    """One for each number of levels."""

    def through(code: torch.Tensor, num: int, samples: int) -> Clip:
        decoded = codec.decode(code[:, :num])[0].numpy()
        return resample(decoded, codec.sample_rate_hz, SAMPLE_RATE_HZ)[0, :samples].clip(-1, 1)

    for num in levels:
        started = time.perf_counter()
        outputs = [through(c, num, len(t)) for c, t in zip(codes, compare.originals, strict=True)]
        took = encode_s + time.perf_counter() - started
        kbps = num * (codec.spec.frame_rate_hz or 0.0) * float(np.log2(codec.spec.codebook_size)) / 1000
        yield compare.figures(f"{num} levels", outputs, kbps, took)


def _rows_of_opus(compare: Comparison, rates_kbps: Sequence[int]) -> Iterator[CodecFigures]:
    for kbps in rates_kbps:
        started = time.perf_counter()
        outputs = [through_opus(target, kbps * 1000) for target in compare.originals]
        took = time.perf_counter() - started
        yield compare.figures(f"Opus {kbps} kbps", outputs, float(kbps), took)


def _rows_of_other(compare: Comparison, other: PretrainedCodec) -> Iterator[CodecFigures]:
    for bandwidth in other.settings():
        started = time.perf_counter()
        coded = [other(target, bandwidth) for target in compare.originals]
        took = time.perf_counter() - started
        kbps = float(np.mean([rate_kbps for _, rate_kbps in coded]))
        yield compare.figures(f"{other.name} {kbps:.3g} kbps", [clip for clip, _ in coded], kbps, took)
