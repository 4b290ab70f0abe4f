"""Sound, with a soundfont of one sawtooth that the tests write."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musiclm.arrange.render import effects
from musiclm.arrange.render.render import Setup, choose_setup, loudness_lufs, mix, render
from musiclm.arrange.render.soundfonts import (
    SOUNDFONTS,
    RenderError,
    Soundfont,
    check_renderers,
    find_soundfonts,
    render_stems,
)
from musiclm.arrange.score import Chord, Note, Part, Score, Section
from musiclm.arrange.styles.recipe import Sound
from musiclm.core.audio import SAMPLE_RATE_HZ
from tests.arrange.soundfont import write_soundfont


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> Soundfont:
    folder = tmp_path_factory.mktemp("sf2")
    write_soundfont(folder / "saw.sf2")
    return Soundfont(package="saw", file="saw.sf2", licence="none", weight=1, chip_weight=1, folder=folder)


def score(*parts: Part, duration: float = 16.0) -> Score:
    return Score(
        style="techno",
        seed=3,
        tempo_bpm=120.0,
        duration=duration,
        parts=parts,
        sections=(Section(name="verse", start=0.0, duration=duration, intensity=0.6),),
        chords=(Chord(start=0.0, duration=duration, root=0, quality=""),),
    )


def part(*notes: Note, instrument: str = "flute", role: str = "melody", level_db: float = 0.0) -> Part:
    return Part(role=role, instrument=instrument, notes=notes, level_db=level_db)  # type: ignore[arg-type]


def setup(font: Soundfont, renderer: str = "symusic", sound: Sound | None = None) -> Setup:
    return Setup(soundfont=font, renderer=renderer, sound=sound or Sound(room="dry", wet=0.0), room_seed=0)


STEADY = tuple(Note(float(beat), 0.9, 60 + beat % 12, 90) for beat in range(16))


def test_length_level_and_determinism(font: Soundfont) -> None:
    piece = score(part(*STEADY), part(*STEADY, instrument="distorted guitar", role="riff"))
    loud = Sound(room="hall", wet=0.3, lufs=-9.0, drive=0.3, pump=0.4)
    audio = render(piece, setup(font, sound=loud))
    assert audio.dtype == np.float32 and len(audio) == round((8.0 + 2.5) * SAMPLE_RATE_HZ)
    assert np.abs(audio).max() <= effects.CEILING
    assert np.array_equal(audio, render(piece, setup(font, sound=loud)))
    calm = render(piece, setup(font, sound=Sound(room="dry", wet=0.0, lufs=-20.0)))
    assert loudness_lufs(calm) == pytest.approx(-20.0, abs=0.3)


def test_silence_where_nothing_plays(font: Soundfont) -> None:
    audio = render(score(part(Note(4.0, 1.0, 60, 90))), setup(font))
    before, sounding = audio[: int(1.9 * SAMPLE_RATE_HZ)], audio[2 * SAMPLE_RATE_HZ : int(2.4 * SAMPLE_RATE_HZ)]
    assert np.abs(before).max() < 1e-4 < 0.05 < np.abs(sounding).max()
    assert np.abs(audio[int(4.0 * SAMPLE_RATE_HZ) :]).max() < 1e-3


def test_a_note_sounds_when_the_score_says_and_at_its_pitch(font: Soundfont) -> None:
    piece = replace(score(part(Note(2.0, 4.0, 69, 90))), tempo_changes=((1.0, 60.0),))
    audio = render(piece, setup(font))
    onset_s = np.flatnonzero(np.abs(audio) > 0.02)[0] / SAMPLE_RATE_HZ
    assert onset_s == pytest.approx(1.5, abs=0.02)  # one beat at 120, one at 60
    middle = audio[2 * SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ + 16384] * np.hanning(16384)
    peak_hz = np.abs(np.fft.rfft(middle)).argmax() * SAMPLE_RATE_HZ / 16384
    assert peak_hz == pytest.approx(440.0, rel=0.02)


def test_levels_and_dynamics(font: Soundfont) -> None:
    low = tuple(Note(float(beat), 0.9, 48, 90) for beat in range(8))
    high = tuple(Note(float(beat), 0.9, 84, 90) for beat in range(8, 16))
    audio = render(
        score(part(*low), part(*high, level_db=-9.0)), setup(font, sound=Sound(room="dry", wet=0.0, lufs=-24.0))
    )
    first, second = _rms(audio, 0.2, 3.8), _rms(audio, 4.2, 7.8)
    assert 5.5 < 20 * np.log10(first / second) < 10.5  # nine, less what the compressor takes
    swell = tuple(Note(float(beat), 0.9, 60, 40 if beat < 8 else 110) for beat in range(16))
    audio = render(score(part(*swell)), setup(font, sound=Sound(room="dry", wet=0.0, lufs=-20.0)))
    assert _rms(audio, 4.2, 7.8) > 1.5 * _rms(audio, 0.2, 3.8)


def test_a_score_without_a_note_is_silent(font: Soundfont) -> None:
    assert np.abs(render(score(part()), setup(font))).max() == 0.0
    assert np.abs(mix(score(), [], Sound())).max() == 0.0


@pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="the program fluidsynth is not here")
def test_fluidsynth_agrees_on_time_and_pitch(font: Soundfont) -> None:
    notes = (Note(2.0, 2.0, 60, 100), Note(6.0, 2.0, 72, 100))
    piece = score(part(*notes), part(Note(10.0, 2.0, 67, 100), instrument="piano"))
    audio = render(piece, setup(font, "fluidsynth"))
    assert np.array_equal(audio, render(piece, setup(font, "fluidsynth")))
    assert _rms(audio, 0.0, 0.9) < 1e-4 < 0.01 < min(_rms(audio, a, a + 0.8) for a in (1.1, 3.1, 5.1))


def test_the_setup_is_drawn_from_the_score(font: Soundfont) -> None:
    fonts = [replace(font, package=name) for name in "abc"]
    picks = {choose_setup(replace(score(), seed=seed), fonts).soundfont.package for seed in range(30)}
    assert picks == {"a", "b", "c"}
    assert choose_setup(score(), fonts) == choose_setup(score(), fonts)


def test_a_soundfont_that_lacks_an_instrument_is_not_chosen(font: Soundfont) -> None:
    without_whistle = replace(font, package="a", lacks=("tin whistle",))
    without_claps = replace(font, package="b", lacks_keys=(39,))
    whistle = score(part(*STEADY, instrument="tin whistle"))
    claps = score(part(Note(0.0, 1.0, 39, 90), instrument="hand claps", role="percussion"))
    for seed in range(10):
        fonts = [without_whistle, without_claps]
        assert choose_setup(replace(whistle, seed=seed), fonts).soundfont.package == "b"
        assert choose_setup(replace(claps, seed=seed), fonts).soundfont.package == "a"


def test_missing_things_name_their_package(tmp_path: Path, font: Soundfont, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RenderError, match="fluid-soundfont-gm"):
        find_soundfonts([tmp_path])
    held_out = next(known for known in SOUNDFONTS if known.held_out)
    write_soundfont(tmp_path / held_out.file)
    with pytest.raises(RenderError, match="install one of"):  # one for testing alone is not enough
        find_soundfonts([tmp_path])
    with pytest.raises(RenderError, match="install the Debian package"):
        render(score(part(*STEADY)), setup(replace(font, file="gone.sf2")))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RenderError, match="package fluidsynth"):
        check_renderers(["fluidsynth"])


def _installed() -> list[Soundfont]:
    try:
        return find_soundfonts()
    except RenderError:
        return []


@pytest.mark.skipif(
    not _installed() or shutil.which("fluidsynth") is None, reason="no soundfonts or no fluidsynth here"
)
def test_installed_soundfonts_sound_at_the_pitch_asked_for() -> None:
    """With the renderer that is used for each; symusic alone plays some of them semitones off."""
    flute, strings = part(Note(0.0, 3.0, 69, 100)), part(Note(0.0, 3.0, 57, 100), instrument="string section")
    for known in _installed():
        renderer = "fluidsynth" if known.fluidsynth_only else "symusic"
        for stem, pitch in zip(render_stems(score(flute, strings), known.path, renderer, 48000), (69, 57), strict=True):
            magnitudes = np.abs(np.fft.rfft(stem[6000:30576] * np.hanning(24576)))
            partial_hz = magnitudes[:8192].argmax() * SAMPLE_RATE_HZ / 24576
            times = partial_hz / (440 * 2 ** ((pitch - 69) / 12))
            assert abs(times - round(times)) < 0.03 * times and round(times) >= 1, (
                f"{known.package}: {pitch} at {partial_hz}"
            )


def test_effects_by_hand() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(SAMPLE_RATE_HZ).astype(np.float32)
    assert np.abs(effects.limit(noise * 3, 0.5)).max() <= 0.5
    quiet = noise * 1e-3
    assert np.allclose(effects.limit(quiet), quiet)
    gain = effects.duck(SAMPLE_RATE_HZ, [0.5], 0.6)
    assert gain[SAMPLE_RATE_HZ // 2] == pytest.approx(0.4, abs=0.01) and gain[0] == 1.0 and gain[-1] > 0.99
    assert gain[SAMPLE_RATE_HZ // 2 + SAMPLE_RATE_HZ // 5] > 0.9, "it is back within a fifth of a second"
    impulse = effects.impulse_response("hall", 1)
    assert np.sum(impulse**2) == pytest.approx(1.0, rel=1e-3)
    assert np.array_equal(impulse, effects.impulse_response("hall", 1))
    half = len(impulse) // 2
    assert np.sum(impulse[half:] ** 2) < 0.05
    assert effects.active_rms(np.concatenate([np.ones(24000), np.zeros(72000)]).astype(np.float32)) == pytest.approx(
        1.0
    )


def _rms(audio: np.ndarray, start_s: float, end_s: float) -> float:
    return float(np.sqrt(np.mean(audio[int(start_s * SAMPLE_RATE_HZ) : int(end_s * SAMPLE_RATE_HZ)] ** 2)))
