"""What a codec does to held-out music: mel distance, SI-SDR and ViSQOL by number of levels, beside other codecs on the same clips.

- mel distance: mean absolute difference of log-mel magnitudes (80 bands, 10 ms) in dB; lower is better. Levels below -60 dB of full scale count
  as equal.
- SI-SDR: scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019); higher is better; a codec that keeps the spectrum but not the
  phase scores below 0.
- pitch correlation: Pearson's, over a log-frequency spectrogram fine enough (48 bins an octave, 65 Hz to 2 kHz, windows of 0.7 s) that a partial
  25 cents off lies elsewhere; 1 is the same. Neither mel distance nor ViSQOL hears a detuned or wavering note.
- ViSQOL: audio mode at 48 kHz, 1 (bad) to 5 (as the original); higher is better. It flatters codecs trained on mel losses.

- real-time factor: seconds of encoding and decoding per second of audio; lower is better. That of Opus includes starting ffmpeg twice.

Everything is compared at 24 kHz, where the codec works; Opus gets the same 24 kHz audio, EnCodec, DAC and Mimi what they were made for.
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from jaxtyping import Float

from musiclm.artifact import write_atomic
from musiclm.audio import resample
from musiclm.corpus.clips import eval_clips
from musiclm.corpus.manifest import Track
from musiclm.features import SAMPLE_RATE_HZ, LogMel
from musiclm.nn.rvq import perplexity
from musiclm.soundstream.model import SoundStream

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
    """Correlation of two clips' fine log-frequency spectrograms, -1..1; 0 if one is silent. Needs clips of 0.7 s or more.

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
    """The clip through Opus by ffmpeg, aligned with the original. Raises ValueError if ffmpeg with libopus is missing."""
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
    """EnCodec, DAC or Mimi of transformers, by folder or hub name. Raises: ValueError if it can't be loaded or is no codec."""

    def __init__(self, name: str) -> None:
        try:
            import transformers
        except ImportError:
            raise ValueError(f"the codec {name} needs transformers; run: pip install transformers") from None
        try:
            self.model = transformers.AutoModel.from_pretrained(name, use_safetensors=True).eval()
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"the codec {name} can't be loaded ({' '.join(str(error).split()).split('. ')[0]})"
            ) from None
        self.kind = self.model.config.model_type
        if self.kind not in ("encodec", "dac", "mimi"):
            raise ValueError(f"{name} is a model of type {self.kind}; wanted encodec, dac or mimi")
        if getattr(self.model.config, "audio_channels", 1) != 1:
            raise ValueError(f"{name} codes {self.model.config.audio_channels} channels; wanted a mono model")
        self.name = Path(name).name
        self.rate_hz = int(self.model.config.sampling_rate)

    def settings(self) -> list[float | None]:
        """Bandwidths in kbps that one model serves (EnCodec), or None alone for its own."""
        return list(self.model.config.target_bandwidths) if self.kind == "encodec" else [None]

    @torch.no_grad()
    def __call__(self, clip: Clip, bandwidth: float | None = None) -> tuple[Clip, float]:
        """(the clip at 24 kHz after coding, kbps counted from its codes)."""
        audio = torch.from_numpy(resample(clip[None].astype(np.float32), SAMPLE_RATE_HZ, self.rate_hz))[None]
        if self.kind == "encodec":
            coded = self.model.encode(audio, bandwidth=bandwidth)
            codes, size = coded.audio_codes, self.model.config.codebook_size
            out = self.model.decode(codes, coded.audio_scales).audio_values
        elif self.kind == "dac":
            coded = self.model.encode(audio)
            codes, size = coded.audio_codes, self.model.config.codebook_size
            out = self.model.decode(coded.quantized_representation).audio_values
        else:
            codes, size = self.model.encode(audio).audio_codes, self.model.config.codebook_size
            out = self.model.decode(codes).audio_values
        bits = codes.numel() * float(np.log2(size))
        back = resample(out.reshape(1, -1).numpy().astype(np.float32), self.rate_hz, SAMPLE_RATE_HZ)[0]
        back = np.pad(back, (0, max(0, len(clip) - len(back))))[: len(clip)]
        return np.clip(back, -1, 1).astype(np.float32), bits / 1000 / (len(clip) / SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class CodecFigures:
    """Means over the clips."""

    name: str
    kbps: float
    mel_distance_db: float
    pitch_correlation: float
    si_sdr_db: float
    visqol: float | None
    real_time_factor: float


@dataclass(frozen=True)
class CodecReport:
    """Every row, and how the codec's levels are used."""

    rows: list[CodecFigures]
    num_clips: int
    clip_s: float
    perplexity: list[float]  # per level, of codebook_size
    encode_real_time_factor: float
    decode_real_time_factor: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def evaluate_codec(
    codec: SoundStream,
    corpus_dir: Path,
    tracks: Sequence[Track],
    *,
    levels: Sequence[int] = (1, 2, 4, 8, 12),
    opus_kbps: Sequence[int] = (6, 12, 24),
    others: Sequence[PretrainedCodec] = (),
    num_clips: int = 20,
    clip_s: float = 6.0,
    seed: int = 0,
    visqol: Callable[[Clip, Clip], float] | None = None,
) -> CodecReport:
    """Figures of the codec at each number of levels, of Opus and of others, on clips spread over `tracks`. Raises: ValueError without ffmpeg."""
    audio, _, _ = eval_clips(corpus_dir, list(tracks), clip_s, num_clips, seed)
    started = time.perf_counter()
    codes = [codec.encode(clip[None]) for clip in audio]
    encode_s = time.perf_counter() - started
    started = time.perf_counter()
    for code in codes:
        codec.decode(code)
    decode_s = time.perf_counter() - started
    targets = [clip[0].numpy() for clip in audio]
    rows = []
    rate_hz = codec.config.spec.frame_rate_hz or 0.0

    def through(code: torch.Tensor, num: int, samples: int) -> Clip:
        return codec.decode(code[:, :num])[0, 0, :samples].clamp(-1, 1).numpy()

    for num in levels:
        started = time.perf_counter()
        outputs = [through(c, num, len(t)) for c, t in zip(codes, targets, strict=True)]
        took = encode_s + time.perf_counter() - started
        kbps = num * rate_hz * float(np.log2(codec.config.codebook_size)) / 1000
        rows.append(_figures(f"{num} levels", kbps, outputs, targets, visqol, took))
    for kbps_opus in opus_kbps:
        started = time.perf_counter()
        outputs = [through_opus(target, kbps_opus * 1000) for target in targets]
        took = time.perf_counter() - started
        rows.append(_figures(f"Opus {kbps_opus} kbps", float(kbps_opus), outputs, targets, visqol, took))
    for other in others:
        for bandwidth in other.settings():
            started = time.perf_counter()
            coded = [other(target, bandwidth) for target in targets]
            took = time.perf_counter() - started
            kbps = float(np.mean([one[1] for one in coded]))
            name = f"{other.name} {kbps:.3g} kbps"
            rows.append(_figures(name, kbps, [one[0] for one in coded], targets, visqol, took))
    total_s = num_clips * clip_s
    return CodecReport(
        rows=rows,
        num_clips=num_clips,
        clip_s=clip_s,
        perplexity=perplexity(torch.cat(codes), codec.config.codebook_size).tolist(),
        encode_real_time_factor=encode_s / total_s,
        decode_real_time_factor=decode_s / total_s,
    )


def _figures(
    name: str,
    kbps: float,
    outputs: Sequence[Clip],
    targets: Sequence[Clip],
    visqol: Callable[[Clip, Clip], float] | None,
    took_s: float,
) -> CodecFigures:
    pairs = list(zip(outputs, targets, strict=True))
    return CodecFigures(
        name=name,
        kbps=round(kbps, 3),
        mel_distance_db=float(np.mean([mel_distance_db(o, t) for o, t in pairs])),
        pitch_correlation=float(np.mean([pitch_correlation(o, t) for o, t in pairs])),
        si_sdr_db=float(np.mean([si_sdr_db(o, t) for o, t in pairs])),
        visqol=None if visqol is None else float(np.mean([visqol(o, t) for o, t in pairs])),
        real_time_factor=took_s * SAMPLE_RATE_HZ / sum(len(t) for t in targets),
    )


def save_report(report: CodecReport, path: Path, facts: dict[str, Any]) -> None:
    """Writes the report with the facts (revision, model hash, split) that identify it."""
    write_atomic(path, json.dumps({**facts, **report.to_json()}, indent=1) + "\n")
