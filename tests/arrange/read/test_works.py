"""Finished pieces: read as they are written, broken ones listed, nothing said of them that their notes do not show."""

import random
import re

import mido
import pytest

from musiclm.arrange.facts.window import facts_of
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.read.works import LEAST_S, MOST_S, licence_of, load_works, read_midi, read_works
from musiclm.arrange.render.render import mix
from musiclm.arrange.score import Origin, from_json
from musiclm.arrange.styles.recipe import Sound
from musiclm.core.audio import SAMPLE_RATE_HZ
from musiclm.data.captions.sentences import captions
from tests.arrange.toy_corpus import sound
from tests.arrange.toy_works import chords, control, drums, midi, notes, random_work, scale, wad
from tests.arrange.truth import Window, is_true

ORIGIN = Origin(what="piece", source="mine", name="piece", licence="CC0")


def read(*tracks, **more):
    return read_midi(midi(*tracks, **more), ORIGIN)


def part(score, instrument):
    return next(part for part in score.parts if part.instrument == instrument)


def test_every_program_and_kit_has_an_instrument() -> None:
    tuned = {i.program for i in INSTRUMENTS.values() if not i.on_drum_channel}
    assert tuned == set(range(128))
    keys = [key for i in INSTRUMENTS.values() for key in i.drum_keys]
    assert len(keys) == len(set(keys))


def test_notes_instruments_and_tempo_are_the_files() -> None:
    score = read(scale(program=73), chords(program=52), bpm=90.0, metre=(3, 4))
    assert (score.tempo_bpm, score.tempo_changes) == (pytest.approx(90.0, abs=0.01), ())
    assert (score.beats_per_bar, score.beat_unit) == (3, 4)
    assert [p.instrument for p in score.parts] == ["flute", "choir"]
    assert [(n.start, n.pitch, n.velocity) for n in part(score, "flute").notes[:3]] == [
        (0, 60, 90),
        (1, 62, 90),
        (2, 64, 90),
    ]
    assert score.origins == (ORIGIN,) and not score.sections and not score.chords


def test_volume_pedal_bends_and_drums() -> None:
    violin = [*scale(quarters=30), (0, control(0, 7, 64)), (12, control(0, 11, 64)), (24, control(0, 121, 0))]
    piano = [
        *notes(1, 0, [(k * 4.0, 1.0, 60, 80) for k in range(8)]),
        (0, control(1, 64, 127)),
        (13, control(1, 64, 0)),
    ]
    bent = [
        *notes(2, 81, [(k * 4.0, 2.0, 60, 80) for k in range(8)]),
        (3, mido.Message("pitchwheel", channel=2, pitch=8191)),
    ]
    bent += [(0.5, mido.Message("sysex", data=(1, 2, 3))), (10.5, mido.Message("pitchwheel", channel=2, pitch=0))]
    score = read(violin, piano, bent, drums(30, (36, 64, 38, 39), program=25))
    played = part(score, "violin")
    assert played.level_db == pytest.approx(-11.9, abs=0.1)
    assert [played.notes[k].velocity for k in (0, 15, 28)] == [90, 45, 90]  # expression halves it, a reset ends that
    assert [round(n.duration, 2) for n in part(score, "piano").notes[:5]] == [4.0, 4.0, 4.0, 1.0, 1.0]
    assert [n.pitch for n in part(score, "saw lead").notes[:4]] == [60, 62, 62, 60]
    assert {n.pitch for n in part(score, "808 drum machine").notes} == {36, 38, 39}
    assert {n.pitch for n in part(score, "congas").notes} == {64}
    assert [p.role for p in score.parts if INSTRUMENTS[p.instrument].family == "drums"] == ["drums"]


def test_a_pedal_holds_from_the_middle_of_its_way() -> None:
    """As General MIDI says: values of 64 and more are down."""
    played = notes(0, 0, [(k * 4.0, 1.0, 60, 80) for k in range(10)])
    for value, seconds in ((63, 1.0), (64, 4.0)):
        score = read([*played, (0, control(0, 64, value))])
        assert round(part(score, "piano").notes[0].duration, 2) == seconds


def test_long_pieces_end_at_a_bar_line_and_silence_is_shortened() -> None:
    score = read(scale(quarters=800))
    assert score.seconds <= MOST_S and score.duration % 4 == 0 and score.seconds > MOST_S - 3
    assert max(n.start + n.duration for n in score.parts[0].notes) <= score.duration
    score = read([*scale(quarters=16, start=10.0), *scale(quarters=16, start=101.0)])
    starts = [n.start for n in score.parts[0].notes]
    assert starts[0] == 2.0 and starts[16] == 21.0  # both keep their places in the bar
    changed = read(scale(quarters=60, start=8.0), [(4, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(60)))])
    assert changed.tempo_bpm == pytest.approx(60) and not changed.tempo_changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("works")
    for name in ("game/usr/share/games", "game/usr/share/doc/game", "mine", "groove", "POP909/001"):
        (root / name).mkdir(parents=True)
    (root / "game/usr/share/doc/game/copyright").write_text(
        "Files: *\nLicense: freedoom-license\n\nFiles: debian/*\nLicense: X\n"
    )
    lumps = {"D_E1M1": midi(scale()), "D_SAME": midi(scale()), "D_OLD": b"MUS\x1a", "PIC": b"x", "D_NONE": b""}
    (root / "game/usr/share/games/game.wad").write_bytes(wad(**lumps))
    (root / "mine/song.mid").write_bytes(midi(chords(), drums()))
    (root / "mine/LICENCE.txt").write_text("free for all")
    (root / "broken.mid").write_bytes(midi(scale())[:200])
    (root / "silent.mid").write_bytes(midi())
    (root / "jingle.mid").write_bytes(midi(scale(quarters=5)))
    (root / "alone.midi").write_bytes(midi(scale(tonic=62)))
    (root / "groove/info.csv").write_text("drummer,session,id,style,bpm,beat_type,time_signature,midi_filename\n")
    (root / "groove/beat.mid").write_bytes(midi(drums()))
    (root / "POP909/001/chord_midi.txt").write_text("")
    (root / "POP909/001/001.mid").write_bytes(midi(scale(tonic=65)))
    return root


def test_a_folder_is_read_and_what_fails_is_listed(folder, tmp_path) -> None:
    works = load_works(folder, tmp_path / "works.json")
    origins = [from_json(text).origins[0] for text in works.scores]
    assert [(o.source, o.name, o.licence) for o in origins] == [
        ("works", "alone", "unknown"),
        ("game", "D_E1M1", "BSD-3-Clause"),
        ("mine", "song", "see mine/LICENCE.txt"),
    ]
    listed = dict(works.skipped)
    wads = "game/usr/share/games/game.wad"
    assert set(listed) == {
        "broken.mid",
        "silent.mid",
        "jingle.mid",
        *(f"{wads}/{x}" for x in ("D_SAME", "D_OLD", "D_NONE")),
    }
    assert "no notes" in listed["silent.mid"] and f"less than {LEAST_S:.0f}" in listed["jingle.mid"]
    assert "the same as" in listed[f"{wads}/D_SAME"] and "MUS" in listed[f"{wads}/D_OLD"]
    assert load_works(folder, tmp_path / "works.json") == works


def test_nothing_to_play_is_one_line(tmp_path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        load_works(tmp_path / "missing")
    (tmp_path / "empty.mid").write_bytes(b"")
    with pytest.raises(ValueError, match="no finished piece"):
        load_works(tmp_path)


def test_licences_are_those_of_the_nearest_file() -> None:
    files = {"a/b/x.mid": b"", "a/COPYING": b"License: GPL-2.0\n", "a/c/LICENSE": b"do as you like", "y.mid": b""}
    assert licence_of("a/b/x.mid", files) == "GPL-2"
    assert licence_of("a/c/z.mid", files) == "see a/c/LICENSE"
    assert licence_of("y.mid", files) == "unknown"


def test_processes_change_nothing() -> None:
    files = {f"{k}.mid": midi(scale(tonic=60 + k)) for k in range(4)}
    assert read_works(files, jobs=2) == read_works(files, jobs=1)


@pytest.fixture(scope="module")
def written():
    """(window, caption) of works made at random."""
    found = []
    for seed in range(30):
        score = read_midi(random_work(seed), ORIGIN)
        for start_s in (0.0, score.seconds - 10.0) if seed % 2 else (score.seconds / 3,):
            facts, window = facts_of(score, start_s), Window(score, start_s, 10.0)
            for held_out in (False, True):
                rng = random.Random(f"{seed} {start_s}")
                found += [(window, c) for c in captions(facts, rng, each=1, held_out=held_out)]
    return found


def test_every_claim_holds_against_the_notes(written) -> None:
    wrong = [
        (claim, caption.text)
        for window, caption in written
        for claim in caption.claims
        if not is_true(claim.kind, claim.value, window)
    ]
    assert not wrong, f"{len(wrong)} claims are false, the first: {wrong[0]}"
    kinds = {claim.kind for _, caption in written for claim in caption.claims}
    assert kinds >= {
        "plays",
        "role",
        "bpm",
        "speed",
        "key",
        "mode",
        "drums",
        "enters",
        "instrumental",
        "solo",
    }
    assert not kinds & {"style", "era", "mood", "use", "metre", "swing", "section", "ends", "fill", "roll"}
    roles = {c.value.split(": ")[1] for _, caption in written for c in caption.claims if c.kind == "role"}
    assert roles >= {"melody", "chords", "bass"} and "unknown" not in roles


def test_captions_without_a_style_read_like_others(written) -> None:
    texts = [caption.text for _, caption in written]
    assert sum(text == "music" for text in texts) < 0.04 * len(texts)  # held-out wording for one instrument is scarce
    described = sorted(len(caption.text.split()) for _, caption in written if caption.kind == "description")
    assert described[len(described) // 2] >= 20
    for text in texts:
        assert not re.search(r"[{}()]|  | ,|\.\.|\bWHEN\b|,,|as written|unknown", text), text
        assert not re.search(r"\b[Aa] (?=[aeio](?!ne\b))", text), text
        assert not re.search(r"\b[Aa]n (?=[bcdfgjkpqtvwxyz])", text), text


def test_a_tempo_that_the_notes_do_not_keep_is_not_told() -> None:
    rng = random.Random(0)
    steady = read(chords(), drums(), bpm=118.0)
    assert (facts_of(steady, 0.0).tempo_bpm, facts_of(steady, 0.0).beat) == (118, ("backbeat",))
    loose = read(notes(0, 0, [(rng.uniform(0, 39), 0.5, rng.randint(50, 80), 80) for _ in range(150)]), bpm=118.0)
    facts = facts_of(loose, 0.0)
    assert facts.tempo_bpm is None and not facts.speed and not facts.key and not facts.beat
    assert facts_of(steady, steady.seconds - 10).ends is False


def test_works_keep_their_balance() -> None:
    score = read(
        notes(0, 40, [(k * 2.0, 1.0, 60, 100) for k in range(12)]),
        notes(1, 73, [(1 + k * 2.0, 1.0, 84, 100) for k in range(12)], volume=50),
    )
    stems = [sound(type(score)(**{**score.__dict__, "parts": (p,)})) for p in score.parts]
    audio = mix(score, stems, Sound(room="dry", wet=0.0))
    loud, soft = (
        float((audio[round((t + 0.1) * SAMPLE_RATE_HZ) : round((t + 0.4) * SAMPLE_RATE_HZ)] ** 2).mean())
        for t in (4.0, 4.5)
    )
    assert abs(audio).max() <= 0.96 and loud > 4 * soft  # 12 dB by the file, less compression


def test_voices_without_instruments_get_an_ensemble() -> None:
    """MusicXML of four parts, six bars each."""
    heads, parts = "", ""
    for number, (step, octave) in enumerate((("G", 4), ("E", 4), ("C", 4), ("C", 3)), start=1):
        heads += f"<score-part id='P{number}'><part-name>Voice {number}</part-name></score-part>"
        note = f"<note><pitch><step>{step}</step><octave>{octave}</octave></pitch><duration>1</duration></note>"
        time = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
        bars = "".join(f"<measure number='{k + 1}'>{time if k == 0 else ''}{note * 4}</measure>" for k in range(6))
        parts += f"<part id='P{number}'>{bars}</part>"
    text = f"<score-partwise version='3.0'><part-list>{heads}</part-list>{parts}</score-partwise>"
    works = read_works({"mine/psalm.musicxml": text.encode(), "mine/torn.musicxml": text[:300].encode()})
    (score,) = [from_json(found) for found in works.scores]
    played = {part.instrument for part in score.parts}
    assert sum(len(part.notes) for part in score.parts) == 96 and "piano" not in played
    assert score.origins[0].name == "psalm" and [name for name, _ in works.skipped] == ["mine/torn.musicxml"]


def song(name: str, octave: int) -> bytes:
    """MusicXML of a part by this name, which says that an oboe plays, and a piano below it, six bars each."""
    heads, parts = "", ""
    for part, (called, height, program) in {"P1": (name, octave, 69), "P2": ("Piano", 2, 1)}.items():
        midi_part = f"<midi-instrument id='{part}-I1'><midi-program>{program}</midi-program></midi-instrument>"
        named = f"<score-instrument id='{part}-I1'><instrument-name>{called}</instrument-name></score-instrument>"
        heads += f"<score-part id='{part}'><part-name>{called}</part-name>{named}{midi_part}</score-part>"
        note = f"<note><pitch><step>C</step><octave>{height}</octave></pitch><duration>1</duration></note>"
        time = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
        bars = "".join(f"<measure number='{k + 1}'>{time if k == 0 else ''}{note * 4}</measure>" for k in range(6))
        parts += f"<part id='{part}'>{bars}</part>"
    return f"<score-partwise version='3.0'><part-list>{heads}</part-list>{parts}</score-partwise>".encode()


def test_a_singer_is_played_by_an_instrument_of_that_register_and_the_piano_keeps_its_bass() -> None:
    high = {f"lieder/{k}/high{k}.musicxml": song("Singstimme\nVoice", 5) + b" " * k for k in range(12)}
    low = {f"lieder/{k}/low{k}.musicxml": song("Voice", 3) + b" " * k for k in range(6)}
    other = {"lieder/oboe.musicxml": song("Oboe", 5)}
    files = {**high, **low, **other, "lieder/LICENSE.txt": b"Creative Commons Legal Code\n\n  CC0 1.0 Universal\n"}
    scores = [from_json(text) for text in read_works(dict(files)).scores]
    assert len(scores) == 19 and {score.origins[0].licence for score in scores} == {"CC0"}
    singers: dict[str, set[str]] = {"high": set(), "low": set(), "oboe": set()}
    for score in scores:
        piano, singer = part(score, "piano"), next(p for p in score.parts if p.instrument != "piano")
        assert {note.pitch for note in piano.notes} == {36} and len(singer.notes) == 24
        singers[score.origins[0].name.rstrip("0123456789")].add(singer.instrument)
        assert INSTRUMENTS[singer.instrument].low <= singer.notes[0].pitch <= INSTRUMENTS[singer.instrument].high
    assert len(singers["high"]) >= 3 and len(singers["low"]) >= 2 and singers["oboe"] == {"oboe"}
    assert singers["low"] <= {"cello", "bassoon", "trombone", "french horn"}
