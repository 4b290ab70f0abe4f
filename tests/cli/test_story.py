"""`musiclm story`, `generate --at`, and music sent into a pipe."""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm.cli.generate import joined
from musiclm.core.audio import load
from musiclm.core.bundle import Bundle
from musiclm.generate.music import read_tags
from tests.cli.test_cli import run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> Path:
    """An empty folder to work in, with the bundle at hand."""
    monkeypatch.chdir(tmp_path)
    return bundle.folder


def test_a_story_from_a_file_and_from_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    Path("tale.txt").write_text("# a tale\n0:00 slow piano\n0:01 fast music tempo=140\n")
    line = ["--duration", "2", "--blend", "1", "--seed", "4", "--model", here]
    assert run(monkeypatch, "story", "tale.txt", "--take", *line) == 0
    printed = capsys.readouterr().out
    assert "understood: 0:00 no tempo in numbers, no key\nunderstood: 0:01 tempo 140 BPM (set), no key\n" in printed
    assert "tale.wav, tale.take: 2 s of music" in printed
    at = ["--at", "0:01", "fast music tempo=140", "-o", "same.wav"]
    assert run(monkeypatch, "generate", "slow piano", *at, *line) == 0
    assert Path("same.wav").read_bytes() == Path("tale.wav").read_bytes(), "tags too"
    tags = read_tags("tale.wav")
    assert tags["story"] == "0:00 slow piano\n0:01 fast music tempo=140" and tags["prompt"] == "fast music"
    assert run(monkeypatch, "render", "tale.take", "-o", "again.wav", "--model", here) == 0
    assert Path("again.wav").read_bytes() == Path("tale.wav").read_bytes()
    capsys.readouterr()
    assert run(monkeypatch, "inspect", "tale.take") == 0
    story = json.loads(capsys.readouterr().out)["story"]
    assert [section["at_s"] for section in story["sections"]] == [0, 1] and story["blend_s"] == 1
    assert run(monkeypatch, "continue", "tale.take", "--duration", "1", "-o", "more.wav", "--model", here) == 0
    assert "understood: tempo 140 BPM (set), no key\n" in capsys.readouterr().out
    assert read_tags("more.wav")["prompt"] == "fast music" and soundfile.info("more.wav").frames == 72000


def test_words_of_an_option_are_joined() -> None:
    line = ["a", "--at", "0:30", "b c", "--at", "1:00 d", "--at", "1:30", "e", "-o", "x", "--", "--at", "f", "g"]
    joint = ["a", "--at", "0:30 b c", "--at", "1:00 d", "--at", "1:30 e", "-o", "x", "--", "--at", "f", "g"]
    assert joined(line) == joint and joined(["--at"]) == ["--at"] and joined(["--at", "1"]) == ["--at", "1"]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["story", "none.txt"], 1, "none.txt can't be read (No such file or directory); check the name"),
        (["story", "bad.txt"], 1, "bad.txt, line 2: 'later' is no time; write it as 0:30"),
        (["story", "tale.txt", "--duration", "20"], 1, "the section at 0:30 begins after the end of the music, 20 s"),
        (["story", "tale.txt", "--duration", "0.1"], 2, "it must lie between 0.5 s and 600 s"),
        (["story", "tale.txt", "--blend", "61"], 2, "the blend is 61.0 s; it must lie between 0 and 60 s"),
        (["story", "tale.txt", "--raw"], 2, "--raw does nothing without -o -"),
        (["story", "tale.txt", "-o", "-", "--take"], 2, "-o - sends one piece of music"),
        (["story", "tale.txt", "--melody", "none.mid"], 1, "none.mid: no such file"),
        (["story"], 2, "Missing argument"),
        (
            ["generate", "piano", "--at", "0:30", "metal"],
            2,
            "the section at 0:30 begins after the end of the music, 10",
        ),
        (["generate", "piano", "--at", "soon", "metal"], 2, "'soon' is no time"),
        (["generate", "piano", "--at", "0:05"], 2, "no prompt after 0:05"),
        (["generate", "piano", "--at", "0:05", "a", "--at", "0:05", "b"], 2, "comes less than 0.5 s after the one at"),
        (["generate", "--at", "0:05", "metal"], 2, "--at needs a prompt to begin with"),
        (["generate", "piano", "--blend", "2"], 2, "--blend does nothing without --at"),
        (["generate", "piano", "-o", "-", "--num", "2"], 2, "-o - sends one piece of music"),
        (["generate", "piano", "-o", "-", "--model", "no-such"], 1, "no model 'no-such'"),
    ],
)
def test_each_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: Path,
    line: list[str],
    code: int,
    message: str,
) -> None:
    Path("tale.txt").write_text("0:00 slow piano\n0:30 fast music")
    Path("bad.txt").write_text("0:00 slow piano\nlater fast music")
    before = sorted(Path().iterdir())
    assert run(monkeypatch, *line, *([] if "--model" in line else ["--model", here])) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("error: "), error
    assert sorted(Path().iterdir()) == before


def test_music_is_sent_into_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], here: Path
) -> None:
    """The samples of the file, with a header that says how many, or alone; words go elsewhere."""
    line = ["slow piano", "--duration", "1.5", "--model", here]
    assert run(monkeypatch, "generate", *line, "-o", "a.wav") == 0
    capfdbinary.readouterr()
    assert run(monkeypatch, "generate", *line, "-o", "-") == 0
    sent = capfdbinary.readouterr()
    assert b"understood: " in sent.err and b"real-time factor" in sent.err
    samples, rate = soundfile.read(io.BytesIO(sent.out), dtype="int16")
    assert rate == 24000 and np.array_equal(samples, soundfile.read("a.wav", dtype="int16")[0])
    assert run(monkeypatch, "generate", *line, "-o", "-", "--raw") == 0
    assert capfdbinary.readouterr().out == sent.out[44:] and len(sent.out) == 44 + 2 * 36000


def test_a_reader_that_leaves_ends_it_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as pipe:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, write_through=True))
        monkeypatch.setattr("musiclm.cli._close_stdout", lambda: None)
        assert run(monkeypatch, "generate", "slow", "--duration", "1", "-o", "-", "--model", here) == 1
        monkeypatch.undo()
    assert "error" not in capsys.readouterr().err


def test_a_wav_of_unknown_length_can_be_read(tmp_path: Path) -> None:
    from musiclm.core.speakers import Pipe

    tone = 0.5 * np.sin(np.arange(30000) / 20).astype(np.float32)
    with open(tmp_path / "a.wav", "wb") as file:
        Pipe(file, 24000).write_all(np.split(tone, 10))
    assert np.abs(load(tmp_path / "a.wav") - tone).max() < 1e-4
