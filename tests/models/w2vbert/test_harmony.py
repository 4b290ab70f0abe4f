"""Codes of notes: which semitone lights, silence, windows; tokenizers of four codes a frame beside those of one."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from musiclm.core.artifact import save_artifact
from musiclm.data.tokenize import TokenEncoder
from musiclm.evaluate.probes import token_probe
from musiclm.models.w2vbert.cues import NUM_CUES, CueWeights
from musiclm.models.w2vbert.harmony import (
    FLOOR,
    HOP,
    LOWEST_MIDI,
    REGISTER,
    pitch_classes,
    semitone_filters,
    semitones,
    tone_fit,
)
from musiclm.models.w2vbert.model import W2vBert
from musiclm.models.w2vbert.tokenizer import (
    SemanticTokenizer,
    SemanticTokenizerConfig,
    cues_of_codes,
    fit_tokenizer,
)
from musiclm.nn.kmeans import assign

from .test_model import tiny


def tones(pitches: Tensor, seconds: float, gain: float = 0.2) -> Tensor:
    """A sine of each MIDI pitch, `b 1 s`."""
    t = torch.arange(round(seconds * 24000)).double() / 24000
    hz = 440 * 2 ** ((pitches.double()[:, None] - 69) / 12)
    return (gain * torch.sin(2 * math.pi * hz * t)).float()[:, None]


def lit(rows: Tensor) -> Tensor:
    """The strongest semitone (MIDI) in the middle of each clip, within each register, `b r`."""
    return rows[:, rows.shape[1] // 2].argmax(-1) + LOWEST_MIDI + torch.tensor([0, REGISTER])


def test_a_sine_lights_its_own_semitone_in_its_own_register() -> None:
    pitches = torch.arange(LOWEST_MIDI, LOWEST_MIDI + 2 * REGISTER)
    rows = semitones(tones(pitches, 0.8))
    assert rows.shape == (72, 10, 2, 36)
    register = (pitches - LOWEST_MIDI) // REGISTER
    found = lit(rows).gather(1, register[:, None])[:, 0]
    away = (found - pitches).abs()
    assert away.max() <= 1 and not away[6:].any(), "an octave above C1 the window tells semitones apart"
    length = rows[:, 5].norm(dim=-1)
    own, other = length.gather(1, register[:, None])[:, 0], length.gather(1, 1 - register[:, None])[:, 0]
    assert (own > 0.98).all() and (other < own).all()
    assert other[(pitches < 58) | (pitches > 61)].max() < 0.3, "the other register is dark, but for neighbours of C4"
    # an octave up is twelve semitones up, of the same class
    within = rows[:, 5].gather(1, register[:, None, None].expand(-1, 1, REGISTER))[:, 0]
    classes = pitch_classes(within)
    assert (classes[6:].argmax(1) == pitches[6:] % 12).all()
    assert torch.equal(lit(rows)[8:24, 0] + 12, lit(rows)[20:36, 0])
    torch.testing.assert_close(classes.sum(1), within.square().sum(1))


def test_filters_are_bells_of_weight_one_around_their_pitch() -> None:
    filters = semitone_filters()
    torch.testing.assert_close(filters.sum(0), torch.ones(72))
    hz = torch.arange(4097) * 24000 / 8192
    centres = 440 * 2 ** ((torch.arange(24, 96) - 69) / 12)
    assert ((filters * hz[:, None]).sum(0) / centres - 1).abs().max() < 0.03


def test_registers_are_of_length_one_but_near_silence() -> None:
    both = tones(torch.tensor([48]), 0.8) + tones(torch.tensor([72]), 0.8, gain=0.05)
    length = semitones(both).norm(dim=-1)
    assert (length[0, 2:-2] > 0.97).all() and (length <= 1 + 1e-5).all(), "each by itself, however soft"
    assert not semitones(torch.zeros(1, 1, 4 * HOP)).any()
    hiss = semitones(1e-6 * torch.randn(1, 1, 8 * HOP)).norm(dim=-1)
    assert hiss.max() < 0.5 and FLOOR < 0.1


def music(seed: int, seconds: float = 1.6, clips: int = 8) -> tuple[Tensor, Tensor]:
    """A triad or two in either clip half, of sines that are struck, and the chord (0 to 11) of each 80 ms."""
    generator = torch.Generator().manual_seed(seed)
    halves, frames = round(seconds / 0.8), round(seconds / 0.08)
    roots = torch.randint(0, 12, (clips, halves), generator=generator)
    octave = torch.randint(0, 2, (clips, halves), generator=generator) * 12
    pieces = []
    for half in range(halves):
        at = roots[:, half] + octave[:, half]
        chord = sum(tones(48 + at + step, 0.8, 0.1) for step in (0, 4, 7))
        struck = torch.exp(-10 * (torch.arange(chord.shape[-1]) / 24000 % 0.2))
        pieces.append(chord * struck)
    audio = torch.cat(pieces, -1)
    audio = audio * (0.3 + 0.7 * torch.rand(clips, 1, 1, generator=generator))
    return audio + 1e-3 * torch.randn(audio.shape, generator=generator), roots.repeat_interleave(frames // halves, 1)


CUES = CueWeights(chroma=0.0, onset=0.5, loudness=0.2)


@pytest.fixture(scope="module")
def pair() -> tuple[SemanticTokenizer, SemanticTokenizer]:
    """With harmony and without, fitted on the same clips."""
    torch.manual_seed(0)
    model = W2vBert(tiny()).eval()
    clips = [music(step)[0] for step in range(6)]
    model.fit_statistics(clips[0])
    made = [
        fit_tokenizer(model, clips, 1, num_clusters=16, window_s=1.6, context_s=0.4, cue_weights=CUES, harmony=harmony)
        for harmony in (True, False)
    ]
    return made[0], made[1]


def test_a_frame_has_four_codes_of_whole_80_ms(pair: tuple[SemanticTokenizer, SemanticTokenizer]) -> None:
    tokenizer, plain = pair
    assert (tokenizer.spec.levels, tokenizer.spec.frame_rate_hz) == (4, 12.5)
    assert (plain.spec.levels, plain.spec.frame_rate_hz) == (1, 25.0)
    for samples in (0, 1919, 1920, 3839, 38400, 38400 * 2 + 1919):
        codes = tokenizer.encode(0.1 * torch.randn(2, 1, samples))
        assert codes.shape == (2, 4, samples // 1920)
        assert not samples // 1920 or (0 <= int(codes.min()) and int(codes.max()) < 16)


@pytest.mark.parametrize("seconds", [1.6, 6.4])
def test_the_network_s_levels_are_the_even_and_odd_codes_without_harmony(
    pair: tuple[SemanticTokenizer, SemanticTokenizer], seconds: float
) -> None:
    tokenizer = pair[0]
    plain = SemanticTokenizer(replace(tokenizer.config, harmony=False)).eval()
    plain.load_state_dict({name: value for name, value in tokenizer.state_dict().items() if name != "harmony"})
    audio, _ = music(50, seconds, clips=2)
    alone, codes = plain.encode(audio), tokenizer.encode(audio)
    assert torch.equal(codes[:, 2], alone[:, 0, ::2]) and torch.equal(codes[:, 3], alone[:, 0, 1::2])


def test_notes_of_long_audio_are_those_of_the_whole(pair: tuple[SemanticTokenizer, SemanticTokenizer]) -> None:
    """Windows overlap by more than a spectrum's reach, so no inner edge is heard; low register first."""
    tokenizer = pair[0]
    audio, _ = music(51, 6.4, clips=2)
    codes, rows = tokenizer.encode(audio, windows_at_once=2), semitones(audio)
    for register in range(2):
        whole = assign(rows[:, :, register].flatten(0, 1), tokenizer.harmony[register]).view(2, 80)
        assert torch.equal(codes[:, register], whole)
    assert codes[:, :2].unique().numel() > 6
    single = torch.cat([tokenizer.encode(clip[None]) for clip in audio])
    assert (single == codes).float().mean() > 0.98  # float32 sums of another order may flip a frame


def test_chords_are_told_apart_better_than_without(pair: tuple[SemanticTokenizer, SemanticTokenizer]) -> None:
    """Chords of the same twelve roots: a reader of a frame's codes guesses the root."""
    skills = []
    for tokenizer in pair:
        sides = []
        for seeds in (range(6), range(20, 24)):
            pieces = [music(seed) for seed in seeds]
            audio, roots = torch.cat([x for x, _ in pieces]), torch.cat([x for _, x in pieces])
            codes = tokenizer.encode(audio)
            if codes.shape[1] == 1:
                codes = codes[:, 0].unflatten(1, (-1, 2)).transpose(1, 2)
            sides += [codes.transpose(1, 2).flatten(0, 1), torch.eye(12)[roots.flatten()]]
        skills.append(token_probe(*sides, 16))
    assert skills[0] > skills[1] + 0.2, skills


def test_saved_and_loaded(pair: tuple[SemanticTokenizer, SemanticTokenizer], tmp_path: Path) -> None:
    tokenizer, plain = pair
    audio, _ = music(52, clips=2)
    for name, own in (("harmony", tokenizer), ("plain", plain)):
        save_artifact(tmp_path / name, "semantic", own.config, own, {})
        loaded = SemanticTokenizer.from_artifact(tmp_path / name)
        assert loaded.config == own.config and torch.equal(loaded.encode(audio), own.encode(audio))
        torch.testing.assert_close(loaded.codebooks, own.codebooks)
        encoder = TokenEncoder.of_semantic(loaded)
        assert encoder.header.spec == own.spec and torch.equal(encoder.codebooks, loaded.codebooks)
        assert torch.equal(encoder.encode(audio[:1]), own.encode(audio[:1])[0])
    cues = cues_of_codes(tmp_path / "harmony")
    assert cues is not None and len(cues) == 4
    for register in range(2):
        chroma = pitch_classes(tokenizer.harmony[register])
        torch.testing.assert_close(cues[register].chroma, chroma)
        assert cues[register].onset is None
    onset = tokenizer.centroids[:, -2]
    for level in (2, 3):
        assert cues[level].chroma is None
        torch.testing.assert_close(cues[level].onset, onset)
    alone = cues_of_codes(tmp_path / "plain")
    assert alone is not None and len(alone) == 1
    torch.testing.assert_close(alone[0].onset, plain.centroids[:, -2])


def test_codebooks_are_those_that_codes_are_assigned_by(pair: tuple[SemanticTokenizer, SemanticTokenizer]) -> None:
    tokenizer, plain = pair
    width = 32 + NUM_CUES
    assert tokenizer.codebooks.shape == (4, 16, width) and plain.codebooks.shape == (1, 16, width)
    assert torch.equal(tokenizer.codebooks[:2, :, :REGISTER], tokenizer.harmony)
    assert not tokenizer.codebooks[:2, :, REGISTER:].any()
    assert torch.equal(tokenizer.codebooks[2], tokenizer.centroids)
    assert torch.equal(tokenizer.codebooks[3], tokenizer.centroids)
    assert torch.equal(plain.codebooks[0], plain.centroids)


def test_a_window_of_whole_frames_must_hold_more_than_its_overlaps() -> None:
    """A window of twelve frames of 80 ms, with overlaps of six on either side."""
    with pytest.raises(ValueError, match="in whole frames"):
        SemanticTokenizerConfig(w2vbert=tiny(), layer=1, harmony=True, window_s=0.96, context_s=0.47)


def test_a_tone_fits_its_own_pitch_best() -> None:
    """Tones with overtones in the upper register; those outside of it are the nearest of their name inside."""
    pitches = torch.arange(60, 90)
    harmonics = sum(tones(pitches + above, 1.0, 0.2 * level) for above, level in ((0, 1.0), (12, 0.4), (19, 0.2)))
    rows = semitones(harmonics)[:, 6, 1]
    fit = tone_fit(rows, LOWEST_MIDI + REGISTER)
    assert torch.equal(fit[:, 60:96].argmax(1) + 60, pitches)
    assert torch.equal(fit[:, 48], fit[:, 60]) and torch.equal(fit[:, 11], fit[:, 71])
    assert torch.equal(fit[:, 96], fit[:, 84]) and torch.equal(fit[:, 127], fit[:, 91])
    assert torch.allclose(tone_fit(torch.ones(1, REGISTER), 60), torch.zeros(1, 128), atol=1e-5), "all tones are none"
