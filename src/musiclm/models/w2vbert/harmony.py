"""Which notes sound, 12.5 times a second: semitone spectra of two registers, which k-means turns into a code each.

k-means over a layer of w2v-BERT keeps timbre and strokes; 1024 clusters can't hold chords as well
(docs/decisions/014-harmony-codes.md). So what sounds below C4 and what sounds above get codes of their own, made of
long windows, which tell the notes of a chord apart.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from musiclm.core.features import SAMPLE_RATE_HZ, stft

HOP = 1920  # samples of a 12.5 Hz frame
N_FFT = 8192  # a third of a second
LOWEST_MIDI = 24  # C1
REGISTER = 36  # semitones of a register
NUM_REGISTERS = 2  # C1 to B3, C4 to B6
OVERTONES = ((0, 1.0), (12, 0.5), (19, 0.3), (24, 0.25))  # semitones above a tone, and their level beside it
FLOOR = 0.02  # length of a register's spectrum below which it counts as silent


def semitone_filters() -> Float[Tensor, "f n"]:
    """How much each bin of an `N_FFT` spectrum counts for each semitone: a bell a third of a semitone or 0.6 bins wide;
    columns add up to 1."""
    width_hz = SAMPLE_RATE_HZ / N_FFT
    hz = torch.arange(N_FFT // 2 + 1, dtype=torch.float64) * width_hz
    midi = LOWEST_MIDI + torch.arange(NUM_REGISTERS * REGISTER, dtype=torch.float64)
    centre = 440 * 2 ** ((midi - 69) / 12)
    spread = (centre * (2 ** (1 / 36) - 1)).clamp(min=0.6 * width_hz)
    filters = torch.exp(-0.5 * ((hz[:, None] - centre) / spread) ** 2)
    return (filters / filters.sum(0)).float()


def semitones(audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b t r n"]:
    """Square roots of magnitudes by register and semitone, each register of a frame of length 1 or, near silence, less;
    t = s // 1920."""
    num_frames = audio.shape[-1] // HOP
    window = torch.hann_window(N_FFT, device=audio.device)
    spectrum = stft(audio[:, 0, : num_frames * HOP], N_FFT, HOP, window).abs() * (2 / window.sum())
    rows = (spectrum @ semitone_filters().to(audio)).sqrt().unflatten(-1, (NUM_REGISTERS, REGISTER))
    return rows / (rows.square().sum(-1, keepdim=True) + FLOOR**2).sqrt()


def tone_fit(rows: Float[Tensor, "v n"], lowest_midi: int) -> Float[Tensor, "v 128"]:
    """How much each of some spectra of a register is like a tone of each MIDI pitch, on a scale of its own.

    A tone has its octave, twelfth and double octave beside it. Pitches outside of the register count as those of the
    same name inside, in the octave that is nearest.
    """
    tones = torch.zeros(REGISTER, REGISTER)
    for above, level in OVERTONES:
        tones += level * torch.eye(REGISTER).roll(above, 1).triu(above)
    fit = rows @ (tones - tones.mean(1, keepdim=True)).T
    pitch = torch.arange(128)
    low, high = lowest_midi, lowest_midi + REGISTER
    inside = torch.where(pitch < low, low + (pitch - low) % 12, pitch)
    return fit[:, torch.where(inside >= high, high - 12 + (inside - high) % 12, inside) - lowest_midi]


def pitch_classes(rows: Float[Tensor, "*b n"]) -> Float[Tensor, "*b 12"]:
    """Energy per pitch class (0 is C) of a register's semitones."""
    return rows.square().unflatten(-1, (math.ceil(REGISTER / 12), 12)).sum(-2)
