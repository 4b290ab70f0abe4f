"""`musiclm repaint`, `vary` and `loop`."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm.core.bundle import Bundle
from musiclm.generate.music import read_tags
from musiclm.generate.take import load_take
from tests.cli.test_cli import run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> Path:
    """A folder with a recording of 3 s, strokes at 120 a minute; the bundle's folder."""
    monkeypatch.chdir(tmp_path)
    time_s = np.arange(3 * 24000) / 24000
    soundfile.write("song.wav", 0.3 * np.sin(2 * np.pi * 220 * time_s) * np.exp(-9 * (time_s % 0.5)), 24000)
    return bundle.folder


def test_a_family_of_edits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    line = ["song.wav", "slow piano", "--from", "1", "--to", "2", "--drafts", "2", "--seed", "5", "--take"]
    assert run(monkeypatch, "repaint", *line, "--model", here) == 0
    told = capsys.readouterr().out
    assert "repaints 1.00 to 2.00 s of song.wav, which has 3.00 s\n" in told
    assert "song-repainted.wav, song-repainted.take: 1 s of music in" in told
    assert "of 2 fits what follows best: -" in told and "nats a code; the others -" in told
    assert soundfile.info("song-repainted.wav").frames == 72000
    assert read_tags("song-repainted.wav")["repaints"] == "song.wav"
    assert run(monkeypatch, "vary", "song-repainted.take", "--strength", "0", "--take", "--model", here) == 0
    assert "100% of the semantic codes are as they were\n" in capsys.readouterr().out
    assert load_take("song-repainted-varied.take").about.prompt == "slow piano"
    line = ["song-repainted-varied.take", "--duration", "1", "--tempo", "120", "--beats", "2", "--take", "-o", "l.flac"]
    assert run(monkeypatch, "loop", *line, "--model", here) == 0
    assert "tempo 120.00 BPM (set): 1 bars of 2 beats, 1.000 s, the last 0.50 s anew\n" in capsys.readouterr().out
    assert soundfile.info("l.flac").frames == 24000
    # each again from its take
    for name in ("song-repainted.wav", "song-repainted-varied.wav", "l.flac"):
        again = Path("again").with_suffix(Path(name).suffix)
        assert run(monkeypatch, "render", Path(name).with_suffix(".take"), "-o", again, "--model", here) == 0
        assert again.read_bytes() == Path(name).read_bytes()
    capsys.readouterr()
    assert run(monkeypatch, "inspect", "l.take") == 0
    told = json.loads(capsys.readouterr().out)
    family = [("loop", "song-repainted-varied.take"), ("vary", "song-repainted.take"), ("repaint", "song.wav")]
    assert [(line["verb"], line["name"]) for line in told["parents"]] == family
    assert run(monkeypatch, "render", "l.take", "--new-only", "-o", "no.wav", "--model", here) == 1
    assert "leave out --new-only" in capsys.readouterr().err and not Path("no.wav").exists()


def test_without_what_follows_there_is_one_draft(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert run(monkeypatch, "repaint", "song.wav", "--from", "2", "-o", "a.wav", "--model", here) == 0
    assert "nothing follows what was made, so there was one draft" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("repaint none.wav", 1, "none.wav: no such file"),
        ("repaint none.take", 1, "none.take: no such file"),
        ("repaint words.take", 1, "words.take: no take, or a damaged one"),
        ("repaint", 2, "Missing argument"),
        ("repaint song.wav --from 1 --to 1.2", 2, "shorter than 0.5 s"),
        ("repaint song.wav --from -1", 2, "begins at -1 s"),
        ("repaint song.wav --from 2 --to 9", 1, "after the end of song.wav, which has 3 s"),
        ("repaint song.wav --drafts 0", 2, "0 drafts; there may be 1 to 64"),
        ("repaint song.wav -o song.wav", 1, "song.wav: is the file that is read"),
        ("repaint song.wav --model no-such", 1, "no model 'no-such'"),
        ("vary song.wav --strength 1.1", 2, "the strength is 1.1"),
        ("vary song.wav --strength nan", 2, "the strength is nan"),
        ("vary words.txt", 1, "words.txt"),
        ("loop song.wav --duration 0.1", 2, "it must lie between 0.5 s and 600 s"),
        ("loop song.wav --tempo 1000", 2, "between 30 and 300"),
        ("loop song.wav --beats 0", 2, "Invalid value for '--beats'"),
        ("loop song.wav --tempo 120 --duration 60", 1, "ask for a shorter --duration"),
        ("loop flat.wav", 1, "no steady beat can be measured in flat.wav; name its tempo (--tempo)"),
    ],
)
def test_each_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path, line: str, code: int, message: str
) -> None:
    soundfile.write("flat.wav", np.zeros(96000) + 0.1, 24000)
    for name in ("words.take", "words.txt"):
        Path(name).write_text("no sound at all")
    before = sorted(Path().iterdir())
    model = [] if "--model" in line else ["--model", here]
    assert run(monkeypatch, *line.split(), *model) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
    assert sorted(Path().iterdir()) == before
