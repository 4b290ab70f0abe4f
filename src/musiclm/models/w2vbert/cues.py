"""What a listener follows in music and a network's layer does not put first: pitch, onsets, loudness, 25 times a
second, measured from audio.

k-means spends its clusters where features vary most, which is timbre; a semantic token then keeps a third of the melody
that its layer holds. So the layer's own guesses of these cues, by ridge regression, stand beside its features, as loud
as `CueWeights` says, where clusters are made.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from musiclm.core.features import SAMPLE_RATE_HZ, LogMel, stft

HOP = 960  # samples of a 25 Hz frame
NUM_CUES = 14  # 12 pitch classes, onset strength, loudness


@dataclass(frozen=True, kw_only=True)
class CueWeights:
    """How loud each cue is beside all features of the layer together, as a ratio of deviations; all 0: features alone,
    as published.
    """

    chroma: float = 0.6
    onset: float = 0.5
    loudness: float = 0.2

    def __post_init__(self) -> None:
        for name in ("chroma", "onset", "loudness"):
            if getattr(self, name) < 0:
                raise ValueError(f"the weight of {name} is {getattr(self, name)}; it must be 0 or more")


def chroma(audio: Float[Tensor, "b 1 s"], n_fft: int = 8192) -> Float[Tensor, "b t 12"]:
    """Energy per pitch class (0 is C), 55 Hz to 1760 Hz, each frame of unit length; t = s // 960.

    Silent frames are zero. A third of a second of window tells semitones apart from about 110 Hz up. Magnitudes, not
    powers: chords, not the loudest note.
    """
    num_frames = audio.shape[-1] // HOP
    magnitude = stft(audio[:, 0, : num_frames * HOP], n_fft, HOP, torch.hann_window(n_fft, device=audio.device)).abs()
    hz = torch.arange(n_fft // 2 + 1, device=audio.device) * SAMPLE_RATE_HZ / n_fft
    pitch = 69 + 12 * torch.log2(hz.clamp(min=1.0) / 440)
    used = (hz >= 55) & (hz <= 1760)
    classes = F.one_hot(pitch.round().long() % 12, 12).float() * used[:, None]
    near = torch.exp(-0.5 * ((pitch - pitch.round()) / 0.25) ** 2)  # bins between two semitones count little
    energy = (magnitude * near) @ classes
    return F.normalize(energy, dim=-1, eps=1e-2)


def onset_strength(audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b t"]:
    """Rise of the log-mel spectrum, mean over bands, from each frame's 10 ms steps; t = s // 960."""
    num_frames = audio.shape[-1] // HOP
    mel = LogMel(n_fft=1024, hop=HOP // 4, num_mels=40, floor=1e-3).to(audio.device)(audio[:, 0, : num_frames * HOP])
    rise = (mel - F.pad(mel, (1, 0), mode="replicate")[..., :-1]).clamp(min=0).mean(1)
    return rise.unflatten(1, (num_frames, 4)).sum(-1)


def loudness_db(audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b t"]:
    """Level of each frame in dB relative to full scale, at least -60; t = s // 960."""
    num_frames = audio.shape[-1] // HOP
    power = audio[:, 0, : num_frames * HOP].unflatten(1, (num_frames, HOP)).square().mean(-1)
    return 10 * torch.log10(power.clamp(min=1e-6))


def cues_of(audio: Float[Tensor, "b 1 s"]) -> dict[str, Float[Tensor, "b t _"]]:
    """All cues by name: 12, 1 and 1 values a frame, t = s // 960."""
    return {
        "chroma": chroma(audio),
        "onset": onset_strength(audio)[..., None],
        "loudness": loudness_db(audio)[..., None],
    }


def cue_map(
    features: Float[Tensor, "n d"], cues: dict[str, Float[Tensor, "n _"]], weights: CueWeights, ridge: float = 1e-2
) -> Float[Tensor, f"d {NUM_CUES}"]:
    """The matrix that turns features (deviation 1 each) into guesses of the cues, as loud as asked for.

    `ridge` is per row.
    """
    gram = (features.T @ features).double() + ridge * len(features) * torch.eye(features.shape[1], dtype=torch.double)
    columns = []
    for name, target in cues.items():
        standard = (target - target.mean(0)) / target.std().clamp(min=1e-6)
        solved = torch.linalg.solve(gram, (features.T @ standard).double()).float()
        spread = (features @ solved).std(0).mean().clamp(min=1e-6)
        loudness = getattr(weights, name) * (features.shape[1] / solved.shape[1]) ** 0.5
        columns.append(solved * (loudness / spread))
    return torch.cat(columns, dim=1)
