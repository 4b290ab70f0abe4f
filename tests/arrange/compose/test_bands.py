"""Pieces for bands: what the score says is what the program was told and what came out of it."""

import random
from pathlib import Path

import pytest

from musiclm.arrange.compose.bands import arrange_for_band, measured_swing, notation, playable_bands
from musiclm.arrange.facts.window import facts_of
from musiclm.arrange.read.mma import Mma, MmaError, find_mma, play, read_library, spell
from musiclm.arrange.score import QUALITIES, Note, Part, Score
from musiclm.arrange.styles import STYLES
from musiclm.arrange.styles.bands import BAND_KITS, BAND_STYLES, find_style
from musiclm.arrange.timeline import bar_quarters
from musiclm.data.captions.sentences import captions
from tests.arrange.toy_mma import write_mma
from tests.arrange.truth import Window, is_true


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Mma:
    found = find_mma(write_mma(tmp_path_factory.mktemp("mma")))
    assert found is not None
    return found


def band(program: Mma, name: str):
    return next(b for b in read_library(program.library) if b.name == name)


def test_the_library_lists_bands_with_bass_and_chords_in_our_metres(program: Mma) -> None:
    names = [found.name for found in read_library(program.library)]
    assert names == ["stdlib/bossanova", "stdlib/countrywaltz", "stdlib/nobodyknows", "stdlib/waltz"]
    assert [found.name for found in playable_bands(program)] == [names[0], names[1], names[3]]
    found = band(program, "stdlib/bossanova")
    assert found.metre == (4, 4) and found.about == "A gentle bossanova. Of two lines."
    assert found.grooves == ("BossaNova", "BossaNova1") and found.intros == ("BossaNovaIntro",)
    assert found.fills == ("BossaNovaFill",) and found.endings == ("BossaNovaEnd",)
    assert band(program, "stdlib/waltz").metre == (3, 4)


def test_the_program_is_found_on_the_path_or_in_the_folder_that_is_named(
    program: Mma, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MmaError, match="unpack the Debian package mma"):
        find_mma(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mma() is None
    program.script.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.script.parent))
    monkeypatch.setenv("MMA_HOME", str(program.home))
    assert find_mma() == program


@pytest.mark.parametrize("name", ["stdlib/bossanova", "stdlib/waltz"])
def test_the_score_says_what_was_played(program: Mma, name: str) -> None:
    score = arrange_for_band(band(program, name), program, 3)
    assert score == arrange_for_band(band(program, name), program, 3) and 55 <= score.seconds <= 160
    assert score.style == name.split("/")[1].replace("bossanova", "bossa nova")
    assert score.beats_per_bar == band(program, name).metre[0]
    parts = {(part.role, part.instrument): part for part in score.parts}
    assert {
        ("bass", "double bass"),
        ("unknown", "flute"),
        ("chords", "electric piano"),
        ("percussion", "congas"),
    } <= set(parts)
    assert any(role == "drums" and instrument in BAND_KITS[score.style] for role, instrument in parts)
    bass = parts["bass", "double bass"].notes
    assert len(bass) == pytest.approx(score.duration, abs=1) and all(
        n.start + n.duration <= score.duration + 1e-6 for n in bass
    )
    for note in bass:  # the program plays the root of the chord that the score has there
        (chord,) = [c for c in score.chords if c.start <= note.start < c.start + c.duration]
        assert note.pitch % 12 == chord.root
    assert any(o.source == "mma" and o.name == name and o.licence == "GPL-2+" for o in score.origins)


def test_its_captions_name_the_style_and_no_melody_where_there_is_none(program: Mma) -> None:
    scores = [arrange_for_band(band(program, "stdlib/waltz"), program, seed) for seed in range(12)]
    without = [score for score in scores if not any(part.role == "melody" for part in score.parts)]
    assert 0 < len(without) < len(scores)
    facts = facts_of(without[0], 20.0)
    assert facts.style == "waltz" and facts.metre == "3/4" and facts.moods == () and facts.swing is not False
    assert not any(player.role == "melody" and player.instrument != "flute" for player in facts.players)
    texts = " ".join(caption.text for seed in range(20) for caption in captions(facts, random.Random(seed)))
    assert "waltz" in texts.lower()


def false_claims(scores: list[Score]) -> list[tuple[object, str]]:
    """Claims of captions of these scores that `truth` does not find in the notes."""
    wrong = []
    for score in scores:
        for start_s in (0.0, score.seconds / 2, score.seconds - 10.0):
            facts, window = facts_of(score, start_s), Window(score, start_s, 10.0)
            for held_out in (False, True):
                rng = random.Random(f"{score.seed} {start_s}")
                for caption in captions(facts, rng, each=1, held_out=held_out):
                    wrong += [(c, caption.text) for c in caption.claims if not is_true(c.kind, c.value, window)]
    return wrong


def test_every_claim_holds_against_the_notes(program: Mma) -> None:
    names = ("stdlib/bossanova", "stdlib/waltz")
    assert not false_claims(
        [arrange_for_band(band(program, name), program, seed) for name in names for seed in range(4)]
    )


def test_accompaniment_makes_way_for_the_melody(program: Mma) -> None:
    scores = [arrange_for_band(band(program, "stdlib/bossanova"), program, seed) for seed in range(4)]
    score = next(score for score in scores if any(part.role == "melody" for part in score.parts))
    melody = [n for part in score.parts if part.role == "melody" for n in part.notes]
    chords = [n for part in score.parts if part.role == "chords" for n in part.notes]
    for note in chords:
        for other in melody:
            together = min(note.start + note.duration, other.start + other.duration) - max(note.start, other.start)
            assert together <= 0.34 or (note.pitch - other.pitch) % 12 not in (1, 11)


def test_notation_changes_grooves_with_the_sections(program: Mma) -> None:
    score = arrange_for_band(band(program, "stdlib/bossanova"), program, 1)
    lines = notation(score, band(program, "stdlib/bossanova"), random.Random(0))
    bars = [line for line in lines if line[0].isdigit()]
    assert len(bars) == round(score.duration / bar_quarters(score)) and all(len(bar.split()) == 5 for bar in bars)
    grooves = [line.split(":")[1] for line in lines if line.startswith("Groove")]
    assert set(grooves) >= {"BossaNova", "BossaNova1"} or len(set(grooves)) >= 2
    assert lines[0].startswith("RndSeed ") and lines[1] == f"Tempo {score.tempo_bpm:g}"


def test_a_complaint_of_the_program_is_passed_on(program: Mma) -> None:
    with pytest.raises(MmaError, match="no such groove"):
        arrange_for_band(band(program, "stdlib/countrywaltz"), program, 0)
    with pytest.raises(ValueError, match=r"styles/bands\.py"):
        arrange_for_band(band(program, "stdlib/nobodyknows"), program, 0)


def drum_part(*places: float) -> Part:
    return Part(
        role="drums", instrument="drum kit", notes=tuple(Note(k + p, 0.1, 42, 80) for k in range(30) for p in places)
    )


def test_swing_is_told_only_where_nearly_all_notes_show_it() -> None:
    assert measured_swing([drum_part(0.0, 0.5)]) == (0.5, 0.5)
    assert measured_swing([drum_part(0.0, 0.66)]) == (0.67, 0.67)
    assert measured_swing([drum_part(0.0, 0.66), drum_part(0.5), drum_part(0.67)]) == (0.55, 0.67)
    assert measured_swing([drum_part(0.0, 0.25, 0.75)]) == (0.55, 0.5)


def test_every_row_of_the_table_is_a_style() -> None:
    for name, style in BAND_STYLES.items():
        assert find_style(name) is STYLES.get(name, style) and style.tempo[0] < style.tempo[1] and len(style.lines) == 1
        assert name in STYLES or not (style.moods or style.uses or style.era)
    assert find_style("as written") is None


def test_the_real_program_plays_what_it_is_told() -> None:
    real = find_mma()
    if real is None:
        pytest.skip("the program mma is not on PATH (Debian package mma)")
    for quality in QUALITIES:  # it knows every chord of ours by the name that we give it
        parts = play(
            real,
            [
                "RndSeed 1",
                "Tempo 120",
                "TimeSig 4 4",
                "Groove stdlib/pianoballad:PianoBallad",
                f"1 {spell(2, quality)}",
                "2 /",
            ],
        )
        bass = [note for part in parts if part.role == "bass" for note in part.notes]
        assert min(bass, key=lambda note: note.start).pitch % 12 == 2
    found = next(b for b in playable_bands(real) if b.name == "stdlib/bossanova")
    score: Score = arrange_for_band(found, real, 5)
    assert score == arrange_for_band(found, real, 5) and score.style == "bossa nova" and score.swing == 0.5
    others = [
        b
        for b in playable_bands(real)
        if b.name in ("stdlib/swing", "stdlib/rb", "yamaha/salsa1", "stdlib/countrywaltz")
    ]
    assert len(others) == 4 and not false_claims([score, *(arrange_for_band(b, real, 2) for b in others)])
    roles = {part.role for part in score.parts}
    assert {"bass", "chords", "percussion"} <= roles
