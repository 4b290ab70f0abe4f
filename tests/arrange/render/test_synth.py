"""The synthesizer: pitches, levels, no aliasing, the same samples for the same score, its place in a rendering."""

import random
from dataclasses import replace

import numpy as np
import pytest

from musiclm.arrange.compose.arrange import arrange
from musiclm.arrange.facts.recording import sound_of
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.read.sources import Sources
from musiclm.arrange.render import render as rendering
from musiclm.arrange.render import synth
from musiclm.arrange.render.soundfonts import Soundfont
from musiclm.arrange.score import Note, Part, Score
from musiclm.arrange.timeline import timeline
from musiclm.core.audio import SAMPLE_RATE_HZ

NUM = 2 * SAMPLE_RATE_HZ


def part_of(instrument: str, *notes: Note) -> Part:
    role = "drums" if instrument in synth.DRUM_MACHINES else "melody"
    return Part(role=role, instrument=instrument, notes=notes or (Note(0.0, 2.0, 69, 100),))


def score_of(*parts: Part, seed: int = 0) -> Score:
    return Score(style="techno", seed=seed, tempo_bpm=120.0, duration=4.0, parts=parts, sections=(), chords=())


@pytest.mark.parametrize("instrument", sorted(synth.PATCHES))
@pytest.mark.parametrize("pitch", [38, 69, 88])
def test_a_note_has_its_pitch_and_nothing_folds_back(instrument, pitch):
    part = part_of(instrument, Note(0.0, 3.0, pitch, 100))
    stem = synth.play(score_of(part), part, NUM)
    assert stem.dtype == np.float32 and stem.shape == (NUM,) and 0.05 < np.abs(stem).max() < 4
    held = stem[SAMPLE_RATE_HZ // 4 :][:SAMPLE_RATE_HZ]
    power = np.abs(np.fft.rfft(held * np.hanning(len(held)))) ** 2  # a bin is 1 Hz
    first_hz = 440 * 2 ** ((pitch - 69) / 12)
    hertz = np.arange(len(power))
    nearest = np.maximum(np.round(hertz / (first_hz / 2)), 1) * first_hz / 2  # a sub-oscillator plays an octave below
    in_tune = np.abs(hertz - nearest) <= 3 + 0.013 * hertz
    assert power[in_tune].sum() > 0.98 * power.sum()
    assert power[int(synth.HIGHEST_HZ * 1.02) :].sum() < 1e-4 * power.sum()


def test_the_filter_closes_and_the_key_ends_the_note():
    patch = synth.Patch(open_hz=8000, closed_hz=300, decay_s=0.2, sustain=0.0)
    sound = synth.tone(patch, 57, SAMPLE_RATE_HZ, random.Random(0))
    assert len(sound) == SAMPLE_RATE_HZ + round(patch.release_s * SAMPLE_RATE_HZ) and abs(sound[-1]) < 1e-3

    def brightness_hz(audio):
        power = np.abs(np.fft.rfft(audio)) ** 2
        return float((power * np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE_HZ)).sum() / power.sum())

    assert brightness_hz(sound[600:3000]) > 2 * brightness_hz(sound[-6000:-2400])
    struck = synth.tone(replace(patch, fall_s=0.3), 57, SAMPLE_RATE_HZ, random.Random(0))
    assert np.abs(struck[18000:]).max() < 0.05 * np.abs(struck[:4000]).max()


def test_echoes_come_a_dotted_eighth_apart():
    part = part_of("saw lead", Note(0.0, 0.1, 69, 100))
    seed = next(s for s in range(20) if np.abs(synth.play(score_of(part, seed=s), part, NUM)[12000:]).max() > 0.01)
    stem = np.abs(synth.play(score_of(part, seed=seed), part, NUM))
    delay = round(0.375 * SAMPLE_RATE_HZ)
    peaks = [stem[k * delay : k * delay + 2400].max() for k in range(4)]
    assert peaks[0] > 2 * peaks[1] > 4 * peaks[2] > 8 * peaks[3] > 0
    assert stem[delay - 2400 : delay - 600].max() < 0.1 * peaks[1]


def test_strokes_of_a_drum_machine():
    kit = synth.DrumMachine(True, random.Random(0))
    kick, snare, closed, opened, crash = (kit.stroke(key) for key in (36, 38, 42, 46, 49))

    def share_below(audio, hertz):
        power = np.abs(np.fft.rfft(audio)) ** 2
        return power[np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE_HZ) < hertz].sum() / power.sum()

    assert share_below(kick, 250) > 0.9 and share_below(closed, 4000) < 0.05 and 0.1 < share_below(snare, 1000) < 0.95
    assert len(closed) < len(opened) < len(crash) and kit.stroke(36) is kick
    toms = [np.argmax(np.abs(np.fft.rfft(kit.stroke(key), 24000))) for key in (41, 43, 45, 47, 48, 50)]
    assert toms == sorted(toms) and 60 < toms[0] < toms[-1] < 350
    for key in range(27, 88):  # every key of the map makes a sound
        assert np.abs(kit.stroke(key)).max() > 0.05
    other = synth.DrumMachine(False, random.Random(0)).stroke(36)
    assert len(other) < len(kick)


def test_velocity_and_time_are_kept_and_the_same_score_gives_the_same_samples():
    part = part_of("electronic drum kit", Note(0.0, 0.25, 36, 120), Note(2.0, 0.25, 36, 60))
    stem = synth.play(score_of(part), part, NUM)
    one, two = np.abs(stem[:6000]).max(), np.abs(stem[SAMPLE_RATE_HZ:][:6000]).max()
    assert (
        two / one == pytest.approx(0.5**1.6, rel=1e-3)
        and np.abs(stem[SAMPLE_RATE_HZ - 2000 : SAMPLE_RATE_HZ]).max() < 0.01
    )
    assert np.array_equal(stem, synth.play(score_of(part), part, NUM))
    assert not np.array_equal(stem, synth.play(score_of(part, seed=1), part, NUM))
    assert len(synth.play(score_of(part), part, 10)) == 10  # a piece that is cut short
    with pytest.raises(KeyError):
        synth.play(score_of(), part_of("violin"), NUM)
    assert {*synth.PATCHES, *synth.DRUM_MACHINES} <= INSTRUMENTS.keys()


def test_a_piece_has_the_synthesizer_beside_the_soundfont(monkeypatch):
    font = Soundfont(package="p", file="f", licence="MIT", weight=1, chip_weight=1)
    scores = [arrange("techno", seed, Sources()) for seed in range(12)]
    setups = [rendering.choose_setup(score, [font]) for score in scores]
    able = [any(synth.can_play(part.instrument) for part in score.parts) for score in scores]
    assert 0 < sum(setup.synth for setup in setups) < len(setups) or sum(able) < len(able)
    assert not any(setup.synth and not can for setup, can in zip(setups, able, strict=True))
    chip = replace(font, is_chip=True)
    assert not any(rendering.choose_setup(score, [chip]).synth for score in scores)
    score, setup = next((s, d) for s, d in zip(scores, setups, strict=True) if d.synth)
    asked = []

    def stems(given, path, renderer, num_samples):
        asked.extend(part.instrument for part in given.parts)
        return [np.zeros(num_samples, np.float32) for _ in given.parts]

    monkeypatch.setattr(rendering, "render_stems", stems)
    monkeypatch.setattr(Soundfont, "path", property(lambda self: self.file))
    audio = rendering.render(score, setup)
    assert np.abs(audio).max() > 0.1 and asked == [
        p.instrument for p in score.parts if not synth.can_play(p.instrument)
    ]
    assert "sampled" not in sound_of(setup, timeline(score)) and "sampled" in sound_of(
        replace(setup, synth=False), timeline(score)
    )
