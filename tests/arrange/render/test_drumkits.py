"""Sampled drum kits: what they play, when they are drawn, and that nothing changes where they are missing."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm.arrange.render import drumkits
from musiclm.arrange.render.drumkits import KITS, DrumKit, choose_kit, find_kits, read_kit
from musiclm.arrange.render.render import choose_setup, render
from musiclm.arrange.render.soundfonts import SOUNDFONTS, RenderError, find_soundfonts
from musiclm.arrange.score import AS_WRITTEN, Note, Part, Score
from tests.arrange.soundfont import write_soundfont

RATE = 24000
XML = """<?xml version="1.0"?>
<drumkit_info xmlns="http://www.hydrogen-music.org/drumkit" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<name>toy</name><instrumentList>{}</instrumentList></drumkit_info>"""
LAYER = "<layer><filename>{}</filename><min>{}</min><max>{}</max><gain>{}</gain></layer>"


def instrument(name: str, *layers: str, volume: float = 1.0) -> str:
    return f"<instrument><name>{name}</name><volume>{volume}</volume>{''.join(layers)}</instrument>"


def write_kit(folder: Path) -> Path:
    """A kick in two layers, a snare at half volume, hi-hats that ring for two seconds, the older form for a crash;
    tones of known pitch.
    """
    folder.mkdir(parents=True)
    time = np.arange(2 * RATE) / RATE
    for name, hertz in {"soft": 100, "hard": 200, "snare": 300, "open": 400, "closed": 500, "crash": 600}.items():
        soundfile.write(folder / f"{name}.wav", 0.5 * np.cos(2 * np.pi * hertz * time), RATE)
    instruments = [
        instrument("Kick", LAYER.format("soft.wav", 0, 0.5, 1), LAYER.format("hard.wav", 0.5, 1, 1)),
        instrument("Snare Rock", LAYER.format("snare.wav", 0, 1, 1), volume=0.5),
        instrument("Open HH", LAYER.format("open.wav", 0, 1, 1)),
        instrument("Closed HH", LAYER.format("closed.wav", 0, 1, 1)),
        instrument("Closed HH", LAYER.format("missing.wav", 0, 1, 1)),
        "<instrument><name>Crash</name><volume>1</volume><filename>crash.wav</filename></instrument>",
        instrument("15"),
    ]
    (folder / "drumkit.xml").write_text(XML.format("".join(instruments)))
    return folder


def beat(*strokes: tuple[float, int, int], name: str = "drum kit", seed: int = 0) -> Score:
    """A score at 60 quarters a minute: a quarter is a second."""
    part = Part(
        role="drums", instrument=name, notes=tuple(Note(at, 0.1, key, velocity) for at, key, velocity in strokes)
    )
    return Score(style="funk", seed=seed, tempo_bpm=60, duration=8.0, parts=(part,), sections=(), chords=())


def level(audio: np.ndarray, at_s: float, hertz: float) -> float:
    """Amplitude of a tone in a tenth of a second."""
    piece = audio[round(at_s * RATE) : round((at_s + 0.1) * RATE)]
    return float(np.abs(np.mean(piece * np.exp(-2j * np.pi * hertz * np.arange(len(piece)) / RATE)))) * 2


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> list[DrumKit]:
    folder = tmp_path_factory.mktemp("kits")
    for kit in KITS[:3]:
        write_kit(folder / kit.name)
    return find_kits([folder])


def test_velocity_chooses_the_layer_and_sets_the_level(kits: list[DrumKit]) -> None:
    score = beat((0.0, 36, 127), (2.5, 36, 32), (5.0, 38, 127))
    audio = kits[0].play(score, score.parts[0], 8 * RATE)
    assert audio.shape == (8 * RATE,) and audio.dtype == np.float32
    assert level(audio, 0.2, 200) == pytest.approx(0.5, rel=0.02) and level(audio, 0.2, 100) < 0.01
    assert level(audio, 2.7, 100) == pytest.approx(0.5 * 32 / 127, rel=0.02) and level(audio, 2.7, 200) < 0.01
    assert level(audio, 5.2, 300) == pytest.approx(0.25, rel=0.02)
    assert np.abs(audio[round(4.6 * RATE) : 5 * RATE]).max() < 1e-6  # samples last two seconds


def test_a_closed_hat_stops_the_open_one(kits: list[DrumKit]) -> None:
    rings, stopped = beat((0.0, 46, 127)), beat((0.0, 46, 127), (0.5, 42, 127))
    both = [kits[0].play(score, score.parts[0], 8 * RATE) for score in (rings, stopped)]
    assert level(both[0], 1.0, 400) > 0.4 and level(both[1], 0.3, 400) > 0.4 and level(both[1], 1.0, 400) < 0.01


def test_drums_are_known_by_name_and_stand_in_for_their_kin(kits: list[DrumKit]) -> None:
    keys = read_kit(kits[0].path)
    assert set(keys) == {35, 36, 38, 40, 42, 44, 46, 49, 52, 55, 57}
    assert keys[44] == keys[42] and keys[57][0].path.name == "crash.wav" and len(keys[36]) == 2
    wanted = {
        "PearlSideStick": "rim", "Hi Hat Closed": "closed", "Sabian Hat Pedal": "pedal",
        "Hi-Hat Open (Paiste 14\")": "open",
        "Hi-Hat Semiopen": "", "Snare Rimshot (Pearl)": "", "Snare (Pearl Free Floating)": "snare",
        "Floor Tom": "low tom",
        "Tom Mid (Tama)": "mid tom", "VariBreaks Hat 1 Cl": "closed", "VariBreaks Hat 1 Op": "open", "ride-cup": "bell",
        "ride-crash20inch": "ride", "e3 - snare 2": "snare", "Sabian Hat Swish": "", "c3 - bass drum 1": "kick",
        "Ride Bell": "bell",
    }  # fmt: skip
    assert {name: drumkits._drum_of(name) for name in wanted} == wanted


def test_a_kit_plays_only_parts_whose_drums_it_has(kits: list[DrumKit]) -> None:
    assert kits[0].can_play(beat((0, 36, 90), (1, 38, 90)).parts[0])
    assert not kits[0].can_play(beat((0, 36, 90), (1, 51, 90)).parts[0])  # no ride
    assert not kits[0].can_play(beat((0, 36, 90), name="brushed drums").parts[0])
    assert not kits[0].can_play(beat((0, 36, 90), name="electronic drum kit").parts[0])
    assert replace(kits[0], electronic=True).can_play(beat((0, 36, 90), name="electronic drum kit").parts[0])


def test_a_missing_kit_changes_only_what_it_would_have_played(kits: list[DrumKit]) -> None:
    scores = [beat((0, 36, 90), seed=seed) for seed in range(200)]
    every = [choose_kit(score, kits) for score in scores]
    fewer = [choose_kit(score, kits[1:]) for score in scores]
    for kit, other in zip(every, fewer, strict=True):
        assert kit == other or kit == kits[0]
    counts = [sum(kit == each for kit in every) for each in (*kits, None)]
    assert all(20 < count < 120 for count in counts)
    assert not any(choose_kit(score, []) for score in scores)
    assert choose_kit(replace(scores[0], parts=()), kits) is None


def test_kits_change_nothing_else_of_a_piece(kits: list[DrumKit], tmp_path: Path) -> None:
    write_soundfont(tmp_path / SOUNDFONTS[0].file)
    fonts = find_soundfonts([tmp_path])
    scores = [beat((0.0, 36, 127), (1.0, 38, 127), seed=seed) for seed in range(40)]
    with_kits = [choose_setup(score, fonts, ("symusic",), kits) for score in scores]
    assert [replace(setup, kit=None) for setup in with_kits] == [choose_setup(score, fonts) for score in scores]
    index = next(index for index, setup in enumerate(with_kits) if setup.kit)
    sampled, plain = (render(scores[index], setup) for setup in (with_kits[index], replace(with_kits[index], kit=None)))
    assert level(sampled, 0.2, 200) > 5 * level(plain, 0.2, 200)
    written = replace(scores[index], style=AS_WRITTEN)
    assert choose_setup(written, fonts, ("symusic",), kits).kit is None


def test_only_kits_of_known_licence_are_found(tmp_path: Path) -> None:
    write_kit(tmp_path / "somebody's kit")
    (tmp_path / KITS[0].name).mkdir()
    assert find_kits([tmp_path]) == []
    assert all(kit.licence and kit.package for kit in KITS)


def test_a_damaged_kit_is_named(tmp_path: Path) -> None:
    folder = write_kit(tmp_path / KITS[1].name)
    (folder / "drumkit.xml").write_text("<drumkit_info><instr")
    with pytest.raises(RenderError, match=r"drumkit\.xml: can't be read"):
        read_kit(folder)
    folder = write_kit(tmp_path / KITS[0].name)
    (folder / "hard.wav").write_bytes(b"RIFF")
    score = beat((0.0, 36, 127))
    with pytest.raises(RenderError, match=r"hard\.wav"):
        find_kits([tmp_path])[0].play(score, score.parts[0], RATE)


def test_a_soundfont_of_drums_rings_on_after_short_notes(tmp_path: Path) -> None:
    if shutil.which("fluidsynth") is None:
        pytest.skip("the program fluidsynth is not here")
    kit = next(kit for kit in KITS if kit.keys)
    write_soundfont(tmp_path / kit.name)
    (found,) = find_kits([tmp_path])
    score = beat((0.0, 35, 127), (1.0, 36, 127), (5.0, 38, 1))
    assert found.can_play(score.parts[0]) and not found.can_play(beat((0, 70, 90)).parts[0])
    audio = found.play(score, score.parts[0], 8 * RATE)
    loud = [np.abs(audio[round(at * RATE) : round((at + 0.2) * RATE)]).max() for at in (0.7, 4.0)]
    assert min(loud) > 0.01
