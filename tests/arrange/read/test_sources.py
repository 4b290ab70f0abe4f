"""Sources: what the tests write is read, what is broken is listed."""

import tarfile
from pathlib import Path

import mido
import pytest

from musiclm.arrange.compose.arrange import arrange
from musiclm.arrange.read.sources import Sources, load_sources

ABC = """X: 1
T:Eight Bars
M:4/4
L:1/4
K:G
"G"G A B c|"D"d c B A|"G"G2 B2|"C"e4|"G"G A B c|"D"d c B A|"D7"F2 A2|"G"G4:|

X: 2
T:No Chords
M:4/4
L:1/4
K:C
C D E F|G4|C D E F|G4|C D E F|G4|C D E F|C4|
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    (root / "tunes").mkdir()
    (root / "tunes" / "one.abc").write_text(ABC)
    (root / "tunes" / "broken.abc").write_bytes(b'X:1\nK:\xff\n|||"')
    grooves = root / "scratch"
    grooves.mkdir()
    rows = ["drummer,session,id,style,bpm,beat_type,time_signature,midi_filename,audio_filename,duration,split"]
    for name, kind in (("beat", "beat"), ("fill", "fill")):
        _drum_file(grooves / f"{name}.mid", 4 if kind == "beat" else 1)
        rows.append(f"d1,s1,d1/{name},rock,120,{kind},4-4,{name}.mid,,8,train")
    (grooves / "bad.mid").write_bytes(b"MThd nothing")
    rows.append("d1,s1,d1/bad,rock,120,beat,4-4,bad.mid,,8,train")
    (grooves / "info.csv").write_text("\n".join(rows))
    with tarfile.open(root / "groove.tar.xz", "w:xz") as archive:
        for path in sorted(grooves.iterdir()):
            archive.add(path, f"groove/{path.name}")
            path.unlink()
    grooves.rmdir()
    song = root / "POP909" / "007"
    song.mkdir(parents=True)
    times = [0.5 * beat for beat in range(32)]
    (song / "beat_midi.txt").write_text("\n".join(f"{t} 1.0 {float(i % 4 == 0)}" for i, t in enumerate(times)))
    names = ["D:maj", "A:maj", "B:min", "G:maj7"] * 2
    (song / "chord_midi.txt").write_text("\n".join(f"{2 * i}\t{2 * i + 2}\t{name}" for i, name in enumerate(names)))
    (song / "key_audio.txt").write_text("0.0\t16.0\tD:maj\n")
    (song / "human_label1.txt").write_text("A4B4\n")
    return root


@pytest.fixture(scope="module")
def sources(folder: Path) -> Sources:
    return load_sources(folder)


def test_a_tune_is_read_with_its_chords(sources: Sources) -> None:
    (tune,) = sources.tunes
    assert (tune.name, tune.metre, tune.mode) == ("Eight Bars", (4, 4), "major")
    (part,) = tune.parts
    assert len(part.notes) == len(part.chords) == 8
    assert [note.pitch % 12 for note in part.notes[0]] == [0, 2, 4, 5]  # G A B c, as if in C
    assert part.chords[1] == ((0.0, 4.0, 7, ""),)
    assert part.chords[6][0][3] == "7"


def test_drumming_keeps_its_timing(sources: Sources) -> None:
    (beat,) = sources.grooves
    assert (beat.family, beat.bpm, len(beat.bars)) == ("rock", 120.0, 3)  # the last bar may be cut short
    assert beat.bars[0][0].start == pytest.approx(0.0208, abs=1e-3)
    assert {note.pitch for bar in beat.bars for note in bar} == {36, 38, 42}  # the kit's own zones moved to GM keys
    (fill,) = sources.fills
    assert len(fill.bars) == 1


def test_a_song_gives_chords_by_phrase(sources: Sources) -> None:
    (song,) = sources.songs
    assert song.mode == "major" and sorted(song.phrases) == ["A", "B"]
    assert [bar[0][2:] for bar in song.phrases["A"]] == [(0, ""), (7, ""), (9, "m"), (5, "maj7")]


def test_what_is_broken_is_listed(sources: Sources) -> None:
    listed = dict(sources.skipped)
    assert "groove.tar.xz/groove/bad.mid" in listed
    assert any(name.startswith("tunes/one.abc#2") for name in listed)  # a tune without chords


def test_a_cache_holds_the_same(folder: Path, sources: Sources, tmp_path: Path) -> None:
    cache = tmp_path / "sources.json"
    assert load_sources(folder, cache) == sources
    assert load_sources(folder, cache) == sources


def test_pieces_use_what_was_read_and_say_so(sources: Sources) -> None:
    used = {item.source for seed in range(12) for item in arrange("country", seed, sources).origins}
    assert "nottingham" in used
    used = {item.source for seed in range(12) for item in arrange("indie rock", seed, sources).origins}
    assert {"groove", "pop909"} <= used
    score = next(s for s in (arrange("country", seed, sources) for seed in range(12)) if len(s.origins) > 2)
    assert all(item.licence and item.name is not None for item in score.origins)


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        load_sources(tmp_path / "missing")
    with pytest.raises(ValueError, match="no tunes"):
        load_sources(tmp_path)
    (tmp_path / "bad.tar.xz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="bad.tar.xz"):
        load_sources(tmp_path)


def _drum_file(path: Path, num_bars: int) -> None:
    """Kick, snare (zone 40) and hat edge (zone 22) in eighths, 10 ticks late."""
    track = mido.MidiTrack()
    now = 0
    for eighth in range(8 * num_bars):
        at = eighth * 240 + 10
        keys = [22] + ([36] if eighth % 4 == 0 else []) + ([40] if eighth % 4 == 2 else [])
        for key in keys:
            track.append(mido.Message("note_on", channel=9, note=key, velocity=90, time=at - now))
            now = at
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(path)
