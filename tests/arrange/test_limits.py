"""One odd file doesn't hold up the others: what is too large, slow or broken is listed, the rest is played."""

import io
import math
import random
import re
import struct
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.arrange import limits
from musiclm.arrange.corpus import build as corpus
from musiclm.arrange.read import works
from musiclm.arrange.read.sources import try_reading
from musiclm.arrange.read.works import GAP_S, MOST_S, read_midi, read_works
from musiclm.arrange.render.soundfonts import SOUNDFONTS, PieceError
from musiclm.arrange.score import Note, Origin, Part, Score
from musiclm.arrange.timeline import bar_quarters
from musiclm.data.corpus.manifest import CorpusError, load_manifest, load_skipped
from tests.arrange.soundfont import write_soundfont
from tests.arrange.toy_works import midi, notes, scale, wad

ORIGIN = Origin(what="piece", source="mine", name="piece", licence="CC0")


def crowd(num: int = 5000, ticks: int = 48_000, channels: int = 9) -> bytes:
    """Notes that begin and never end."""
    track = mido.MidiTrack()
    for index in range(num):
        note = {"channel": index % channels, "note": 20 + index // channels % 100, "velocity": 80}
        track.append(mido.Message("note_on", **note, time=ticks // num))
    out = io.BytesIO()
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(file=out)
    return out.getvalue()


def dense(quarters: int = 80, a_beat: int = 300) -> bytes:
    rows = [(k / a_beat, 0.5 / a_beat, 30 + k % 90, 80) for k in range(quarters * a_beat)]
    return midi(*(notes(c, 0, rows[c::4]) for c in range(4)))


def many_instruments() -> bytes:
    return midi(*([*scale(channel=k % 9, program=k), (0, mido.Message("program_change", channel=k % 9, program=k))]
                  for k in range(1)),
                [(k, m) for k in range(0, 60) for m in (
                    mido.Message("program_change", channel=1, program=k),
                    mido.Message("note_on", channel=1, note=60, velocity=80),
                )] + [(60, mido.Message("note_off", channel=1, note=60))])  # fmt: skip


def for_days() -> bytes:
    """A last message two years on: bars without end, if one counted them."""
    track = mido.MidiTrack([mido.Message("note_on", note=60, velocity=80, time=0)])
    track += [mido.MetaMessage("text", text="x", time=0x0FFFFFFF) for _ in range(4)]
    out = io.BytesIO()
    mido.MidiFile(tracks=[track], ticks_per_beat=1).save(file=out)
    return out.getvalue()


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", bytes(limits.MOST_BYTES + 1))
    return out.getvalue()


TOO_MUCH = {
    "crowd.mid": (crowd, "notes sound at once"),
    "dense.mid": (dense, "24000 notes in what would be played, more than 20000"),
    "many.mid": (many_instruments, "instruments, more than 32"),
    "days.mid": (for_days, "quarter notes long"),
    "large.mid": (lambda: b"MThd" + bytes(limits.MOST_BYTES), "8.0 MB, more than 8"),
    "bomb.mxl": (zip_bomb, "8.0 MB, more than 8"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_is_listed_at_once(name: str) -> None:
    make, reason = TOO_MUCH[name]
    began = time.monotonic()
    found = read_works({name: make(), "good.MID": midi(scale())})
    assert len(found.scores) == 1, "the other is played"
    ((listed, why),) = found.skipped
    assert listed == name and reason in why
    assert time.monotonic() - began < 60


def test_what_is_dense_but_music_is_played() -> None:
    rows = [(k * 0.5, 0.4, 36 + (k * 7) % 50, 80) for k in range(1000)]
    score = read_midi(midi(*(notes(c, 8 * c, rows) for c in range(9))), ORIGIN)
    assert sum(len(part.notes) for part in score.parts) == 9000


def test_messages_are_counted() -> None:
    with pytest.raises(ValueError, match="500001 messages"):
        limits.check_messages(limits.MOST_MESSAGES + 1, 10)
    limits.check_messages(limits.MOST_MESSAGES, limits.MOST_QUARTERS)


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_S", 0.2)
    skipped: list[tuple[str, str]] = []

    def forever() -> None:
        while True:
            pass

    assert try_reading(forever, "odd.abc", skipped) is None
    assert skipped == [("odd.abc", "took longer than 0 s")]
    with limits.within(0.05):
        pass
    time.sleep(0.1)  # no alarm is left behind


BROKEN_WADS = {
    "no.wad": (b"text that says WAD", "no WAD archive"),
    "short.wad": (b"PWAD", "no WAD archive"),
    "cut.wad": (wad(D_A=midi(scale()), D_B=midi(scale(tonic=62)))[:-20], "0 of 2 entries|1 of 2 entries"),
    "lump.wad": (b"PWAD" + struct.pack("<II", 1, 12) + struct.pack("<II8s", 12, 20, b"D_A"), "ends after the archive"),
    "far.wad": (b"PWAD" + struct.pack("<II", 1, 1 << 31), "0 of 1 entries"),
    "maps.wad": (wad(MAP01=b"x"), "no music in it"),
}


@pytest.mark.parametrize("name", BROKEN_WADS)
def test_broken_archives_are_listed(name: str) -> None:
    data, reason = BROKEN_WADS[name]
    found = read_works({name: data, "good.mid": midi(scale())})
    assert len(found.scores) >= 1
    assert any(listed.startswith(name) and re.search(reason, why) for listed, why in found.skipped), found.skipped


def test_entries_that_share_their_content_do_not_fill_the_memory() -> None:
    song = midi(scale())
    entry = struct.pack("<II8s", 12, len(song), b"D_A")
    data = b"PWAD" + struct.pack("<II", 100_000, 12 + len(song)) + song + entry * 100_000
    found = read_works({"bomb.wad": data})
    assert len(found.scores) == 1
    assert ("bomb.wad/D_A", "a damaged WAD archive: its music is larger than the file") in found.skipped


def test_archives_and_files_in_capitals_are_found() -> None:
    found = read_works({"DOOM.WAD": wad(D_E1M1=midi(scale())), "SONG.MID": midi(scale(tonic=62))})
    assert len(found.scores) == 2


# rendering


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sf2")
    write_soundfont(folder / SOUNDFONTS[0].file)
    return folder


def render(out: Path, fonts: Path, sources: Path, hours: float) -> corpus.RenderReport:
    return corpus.render_corpus(
        hours, 3, out, sources=sources, works=1.0, soundfont_folders=[fonts], renderers=("symusic",), progress=False
    )


def test_a_piece_that_can_not_be_rendered_is_listed(
    tmp_path: Path, fonts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    for name, tonic in (("good", 60), ("bad", 62), ("slow", 64)):
        (tmp_path / "src" / f"{name}.mid").write_bytes(midi(scale(tonic=tonic)))
    (tmp_path / "src" / "crowd.mid").write_bytes(crowd())
    real = corpus.render

    def odd(score: Score, setup: object) -> object:
        if score.origins[0].name == "bad":
            raise PieceError("the synthesizer gave up")
        while score.origins[0].name == "slow":
            pass
        return real(score, setup)  # type: ignore[arg-type]

    monkeypatch.setattr(corpus, "render", odd)
    monkeypatch.setattr(limits, "RENDER_S", 5.0)
    report = render(tmp_path / "out", fonts, tmp_path / "src", 40 / 3600)
    assert {track.title for track in load_manifest(tmp_path / "out")} == {"good"}
    listed = {record["origin"]: record["reason"] for record in load_skipped(tmp_path / "out")}
    assert "notes sound at once" in listed["crowd.mid"]
    assert listed["works/bad"] == "the synthesizer gave up" and listed["works/slow"] == "took longer than 5 s"
    again = render(tmp_path / "out", fonts, tmp_path / "src", 40 / 3600)
    assert again.num_rendered == 0 and again.num_tracks == report.num_tracks, "what failed is not tried again"


def test_if_nothing_can_be_rendered_it_ends(tmp_path: Path, fonts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src").mkdir()
    for name, tonic in (("a", 60), ("b", 62)):
        (tmp_path / "src" / f"{name}.mid").write_bytes(midi(scale(tonic=tonic)))

    def broken(*_: object) -> object:
        raise PieceError("the synthesizer gave up")

    monkeypatch.setattr(corpus, "render", broken)
    with pytest.raises(CorpusError, match="none of 2 pieces could be rendered; works/.: the synthesizer gave up"):
        render(tmp_path / "out", fonts, tmp_path / "src", 1.0)


# what was made fast is what it was


def plain_seconds_at(score: Score, quarters: float) -> float:
    seconds, at, bpm = 0.0, 0.0, score.tempo_bpm
    for place, next_bpm in score.tempo_changes:
        if place >= quarters:
            break
        seconds, at, bpm = seconds + (place - at) * 60 / bpm, place, next_bpm
    return seconds + (quarters - at) * 60 / bpm


def some_score(rng: random.Random) -> Score:
    starts = sorted(rng.choice((0.0, 40.0, 200.0, 900.0)) + rng.uniform(0, 60) for _ in range(rng.randint(1, 12)))
    played = tuple(Note(round(start, 4), round(rng.uniform(0.1, 9), 4), 60, 80) for start in starts)
    changes = tuple(sorted((round(rng.uniform(0, 900), 2), rng.uniform(20, 300)) for _ in range(rng.randint(0, 5))))
    end = max(note.start + note.duration for note in played)
    return Score(
        style="as written", seed=0, tempo_bpm=rng.uniform(20, 300), tempo_changes=changes, duration=end,
        parts=(Part(role="melody", instrument="piano", notes=played),), sections=(), chords=(),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_times_silences_and_ends_are_as_counted_plainly(seed: int) -> None:
    rng = random.Random(seed)
    score = some_score(rng)
    places = [place for place, _ in score.tempo_changes] + [rng.uniform(0, 1000) for _ in range(20)] + [0.0]
    assert [score.seconds_at(place) for place in places] == [plain_seconds_at(score, place) for place in places]

    bar, reached, cuts = bar_quarters(score), 0.0, []
    for start, end in sorted((note.start, note.start + note.duration) for note in score.parts[0].notes):
        at, bars = math.ceil(reached / bar - 1e-6) * bar, 0
        if reached == 0.0:
            bars = int(start // bar)
        elif score.seconds_at(start) - score.seconds_at(reached) > GAP_S:
            bars = int((start - at) // bar)
        if bars > 0:
            cuts.append((at, bars * bar))
        reached = max(reached, end)
    moved = [
        round(note.start - sum(min(length, max(0.0, note.start - at)) for at, length in cuts), 4)
        for note in score.parts[0].notes
    ]
    shorter = works._without_silence(score)
    assert [note.start for note in shorter.parts[0].notes] == pytest.approx(moved, abs=2e-4)

    long = replace(score, duration=rng.uniform(4, 6000))
    if long.seconds > MOST_S:
        bars = range(1, int(long.duration // bar) + 1)
        last = max((n for n in bars if long.seconds_at(n * bar) <= MOST_S or n == 1), default=1)
        assert works._cut_short(long).duration == last * bar
