"""What captions say is true of the notes, reads like English, varies, and keeps held-out wording out of training."""

import json
import random
import re
from dataclasses import asdict

import pytest

from musiclm import cli
from musiclm.arrange.compose.arrange import arrange
from musiclm.arrange.corpus.describe import PIECES_FILE, load_score, window_starts, write_captions
from musiclm.arrange.facts.window import facts_of
from musiclm.arrange.render.render import choose_setup
from musiclm.arrange.render.soundfonts import SOUNDFONTS
from musiclm.arrange.score import to_json
from musiclm.arrange.styles import STYLES
from musiclm.data.captions import words
from musiclm.data.captions.sentences import KINDS, captions, write
from musiclm.data.captions.slots import BPM_UNITS, NEARLY, NOUNS
from musiclm.data.captions.wording import RULES
from musiclm.data.corpus.build import locked
from musiclm.data.corpus.captions import CAPTIONS_FILE, load_captions
from musiclm.data.corpus.manifest import CorpusError, Track
from tests.arrange.toy_scores import beat, piece, random_score, scale
from tests.arrange.truth import Window, is_true


@pytest.fixture(scope="module")
def written():
    """(window, held_out, caption) of every style, a third of them arranged, the others random; both wordings."""
    found = []
    for number, style in enumerate(sorted(STYLES)):
        score = random_score(number, style) if number % 3 else arrange(style, number)
        setup = choose_setup(score, SOUNDFONTS, ("symusic", "fluidsynth"))
        for start in (0.0, max(0.0, score.seconds - 10)) if number % 2 else (score.seconds / 2,):
            facts, window = facts_of(score, start, setup=setup), Window(score, start, 10.0, setup)
            for held_out in (False, True):
                rng = random.Random(f"{number} {start}")
                found += [(window, held_out, c) for c in captions(facts, rng, each=1, held_out=held_out)]
    return found


def test_every_claim_holds_against_the_notes(written):
    wrong = []
    for window, _, caption in written:
        wrong += [
            (claim, caption.text, window.score.style, window.start_s)
            for claim in caption.claims
            if not is_true(claim.kind, claim.value, window)
        ]
    assert not wrong, f"{len(wrong)} claims are false, the first: {wrong[0]}"
    kinds = {claim.kind.split(":")[0] for _, _, caption in written for claim in caption.claims}
    assert kinds >= {
        "plays",
        "role",
        "style",
        "mood",
        "use",
        "speed",
        "bpm",
        "key",
        "mode",
        "metre",
        "drums",
        "drum sound",
        "enters",
        "fill",
        "crash",
        "articulation",
    }


def test_instruments_in_the_text_are_claimed(written):
    """The other way round: every instrument that a text names plays. Names are looked up in the text itself."""
    for window, _, caption in written:
        playing = {n[0].instrument for n in window.notes}
        for name in (
            "violin",
            "trumpet",
            "harpsichord",
            "accordion",
            "banjo",
            "marimba",
            "bagpipes",
            "clarinet",
            "sitar",
            "harmonica",
            "tuba",
        ):
            named = re.search(rf"\b(a|an|the|on|solo) {name}\b", caption.text)
            assert not named or name in playing, (caption.text, playing)


def test_held_out_wording_is_never_trained_on(written):
    train = {wording for _, held_out, caption in written if not held_out for wording in caption.wordings}
    unseen = {wording for _, held_out, caption in written if held_out for wording in caption.wordings}
    assert len(unseen & {w for w in unseen if words.is_held_out(w)}) > 100
    assert not {wording for wording in train if words.is_held_out(wording)} - plain_wordings()
    assert not {wording for wording in unseen if not words.is_held_out(wording)} & shared_wordings()
    texts = [caption.text for _, held_out, caption in written if not held_out]
    openings = [
        way.split("{")[0].strip()
        for way in RULES["opening"][1:]
        if words.is_held_out(way) and len(way.split("{")[0]) > 12
    ]
    assert openings and not any(text.startswith(opening) for text in texts for opening in openings)


def groups():
    moods = [(mood,) for style in STYLES.values() for mood in style.moods if mood not in words.MOODS]
    uses = [(*style.uses, *words.TABLES["scenes"][style.name]) for style in STYLES.values()]
    tables = [
        RULES,
        words.MOODS,
        *(table for name, table in words.TABLES.items() if name not in ("kinds", "moods", "scenes")),
    ]
    return [group for table in tables for group in table.values()] + [NOUNS, BPM_UNITS, NEARLY, *moods, *uses]


def plain_wordings():
    """What people mostly call a thing: training must know it. Wider names of instruments are all such."""
    return {group[0] for group in groups()} | words.KINDS.keys()


def shared_wordings():
    """Of groups with held-out ways: those that only training may use. Some words stand in several groups."""
    several = {way for group in groups() if not any(map(words.is_held_out, group[1:])) for way in group}
    return {
        way
        for group in groups()
        if any(map(words.is_held_out, group[1:]))
        for way in group
        if not words.is_held_out(way)
    } - several


def test_captions_are_many_and_various(written):
    texts = [caption.text for _, held_out, caption in written if not held_out]
    assert len(set(texts)) > 0.97 * len(texts)
    assert len({word for text in texts for word in re.findall("[a-z'-]+", text.lower())}) > 1000
    described = [c.text for _, held_out, c in written if c.kind == "description" and not held_out]
    lengths = sorted(len(text.split()) for text in described)
    assert 30 <= lengths[len(lengths) // 2] <= 55 and lengths[-1] < 130
    starts = [" ".join(text.split()[:3]) for text in described]
    assert max(starts.count(start) for start in set(starts)) < 0.12 * len(starts)


def test_grammar_is_sound(written):
    for *_, caption in written:
        text = caption.text
        assert not re.search(r"[{}()]|  | ,|\.\.|\bWHEN\b|,,", text), text
        assert not re.search(r"\b[Aa] (?=[aeio](?!ne\b))", text), text
        assert not re.search(r"\b[Aa]n (?=[bcdfgjkpqtvwxyz])", text), text
        assert not re.search(r"\b(\w{3,}) \1\b", text.lower()), text
        assert caption.kind != "description" or ((text[0].isupper() or text[0].isdigit()) and text.endswith("."))


def test_the_same_seed_says_the_same():
    facts = facts_of(piece(scale(), beat()), 0.0)
    for kind in KINDS:
        assert write(facts, kind, random.Random(1)) == write(facts, kind, random.Random(1))


def test_silence_has_next_to_nothing_to_say():
    facts = facts_of(piece(style="nothing"), 0.0)
    for kind in KINDS:
        caption = write(facts, kind, random.Random(0))
        assert caption.text and not {c.kind for c in caption.claims} & {"plays", "key", "mood", "use"}


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "scores").mkdir()
    tracks = []
    for number, split in enumerate(("train", "train", "test")):
        score = random_score(number, "surf rock")
        name = f"{number:016x}"
        (tmp_path / "scores" / f"{name}.json").write_text(to_json(score))
        tracks.append(
            Track(
                id=name, path=f"audio/{name}.flac", source="rendered", package="surf rock", origin=name, title="",
                artist="", genre="surf rock",
                licence="CC0", seconds=score.seconds, sha256=name, split=split, piece=name, held_out=split == "test",
            )
        )  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(asdict(track)) + "\n" for track in tracks))
    return tmp_path


def test_captions_of_a_corpus_go_on_where_they_stopped(corpus, monkeypatch):
    write_captions(corpus)
    whole = {name: (corpus / name).read_bytes() for name in (CAPTIONS_FILE, PIECES_FILE)}
    found = load_captions(corpus)
    assert [c.start_s for c in found if c.track.endswith("0")] == window_starts(load_score(corpus, f"{0:016x}").seconds)
    assert all(bool(c.unseen) == c.track.endswith("2") and len(c.captions) >= 8 for c in found)
    for name in whole:
        (corpus / name).unlink()
    import musiclm.arrange.corpus.describe as module

    original = module.load_score
    monkeypatch.setattr(
        module, "load_score", lambda folder, track: 1 / 0 if track.endswith("2") else original(folder, track)
    )
    with pytest.raises(ZeroDivisionError):
        write_captions(corpus)
    assert not (corpus / CAPTIONS_FILE).exists()
    asked = []
    monkeypatch.setattr(module, "load_score", lambda folder, track: asked.append(track) or original(folder, track))
    with open(corpus / f".{PIECES_FILE}.part", "a") as file:
        file.write('{"track": "cut sh')
    write_captions(corpus)
    assert {name: (corpus / name).read_bytes() for name in whole} == whole
    assert asked.count(f"{0:016x}") == 1  # its piece's line was there; its windows were not


def test_scores_that_are_missing_are_one_line(corpus, tmp_path):
    with pytest.raises(CorpusError, match="no score here"):
        load_score(corpus, "ff")
    for path in (corpus / "scores").iterdir():
        path.unlink()
    with pytest.raises(CorpusError, match="no track has a score"):
        write_captions(corpus)


def test_windows_cover_a_piece():
    assert window_starts(4.0) == [0.0] and window_starts(10.0) == [0.0]
    assert window_starts(37.0) == [0.0, 10.0, 20.0, 27.0] and window_starts(32.0) == [0.0, 10.0, 20.0]


def test_captions_are_not_written_by_two_at_once(corpus, monkeypatch, capsys):
    """A rendering that is at work holds the corpus; nothing is touched."""
    with locked(corpus, "--out"):
        monkeypatch.setattr("sys.argv", ["musiclm", "corpus", "captions", str(corpus)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert stop.value.code == 1 and "another build is at work" in capsys.readouterr().err
    assert not (corpus / CAPTIONS_FILE).exists()
