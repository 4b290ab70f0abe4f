"""`musiclm play` on a device that is not there, with somebody typing."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm.cli.play import typed_lines
from musiclm.core.bundle import Bundle
from musiclm.generate.live import Live
from tests.cli.test_cli import run
from tests.core import test_speakers
from tests.core.test_speakers import device  # noqa: F401
from tests.mock import mock_bundle


@pytest.fixture
def typist(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A handle to type into."""
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield write
        os.close(write)


@pytest.mark.usefixtures("device")
def test_music_plays_and_lines_change_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle, typist: int
) -> None:
    lives: list[Live] = []
    before = Live.__init__

    def kept(self: Live, *arguments: object, **more: object) -> None:
        before(self, *arguments, **more)  # type: ignore[arg-type]
        lives.append(self)

    def slow(self: Live) -> np.ndarray:
        if len(lives[0].played) == 1:  # until what was typed has been read
            time.sleep(0.05)
        return follow(self)

    follow = Live.__next__
    monkeypatch.setattr(Live, "__init__", kept)
    monkeypatch.setattr(Live, "__next__", slow)
    os.write(typist, b"\n\xff\xef\xbf\xbf\nfast music at 140 BPM\n")
    arguments = ["slow piano", "--duration", "2", "--seed", "3", "--model", bundle.folder]
    assert run(monkeypatch, "play", *arguments) == 0
    said = capsys.readouterr()
    assert "understood: no tempo in numbers, no key\n" in said.out
    assert "understood: tempo 140 BPM (prompt), no key\n" in said.out
    assert said.err.startswith("error: the prompt holds U+FFFF at place 2"), "it says so and plays on"
    assert "played 2.0 s of music (real-time factor" in said.out and " underruns" in said.out
    (live,) = lives
    assert [prompt for _, prompt in live.played] == ["slow piano", "fast music at 140 BPM"]
    (played,) = test_speakers.made
    sound = np.concatenate(played.played)
    assert played.closed and np.isfinite(sound).all() and (sound != 0).sum() > 40000


@pytest.mark.usefixtures("device")
def test_the_end_of_what_is_typed_at_a_terminal_is_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    main, end = os.openpty()
    with open(end, "rb", buffering=0) as file:
        monkeypatch.setattr(sys, "stdin", file)
        os.write(main, b"\x04")  # Ctrl-D
        assert run(monkeypatch, "play", "slow piano", "--model", bundle.folder) == 0
    os.close(main)
    assert "played " in capsys.readouterr().out


@pytest.mark.usefixtures("device")
def test_ctrl_c_ends_it_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle, typist: int
) -> None:
    follow = Live.__next__

    def interrupted(self: Live) -> np.ndarray:
        if self.made_s > 0.5:
            raise KeyboardInterrupt
        return follow(self)

    monkeypatch.setattr(Live, "__next__", interrupted)
    assert run(monkeypatch, "play", "--model", bundle.folder) == 0
    said = capsys.readouterr()
    assert "played " in said.out and "understood: no prompt, " in said.out and said.err == ""
    assert test_speakers.made[0].closed


@pytest.mark.usefixtures("device", "typist")
def test_a_device_that_goes_away_ends_it_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    monkeypatch.setattr(test_speakers.FakeDevice, "unplugged_after", 20)
    assert run(monkeypatch, "play", "slow piano", "--model", bundle.folder) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the sound device takes no more sound; was it unplugged?") and error.count("\n") == 1


def test_music_begins_with_a_melody(
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    unsteered: Bundle,
    typist: int,
    tmp_path: Path,
) -> None:
    follows = mock_bundle(tmp_path / "follows", melody=True).folder
    soundfile.write(tmp_path / "hum.wav", 0.3 * np.sin(2 * np.pi * 220 * np.arange(24000) / 24000), 24000)
    line = ["play", "slow piano", "--duration", "1", "--seed", "3", "-o", "-", "--raw", "--model"]
    assert run(monkeypatch, *line, follows) == 0
    plain = capfdbinary.readouterr().out
    assert run(monkeypatch, *line, follows, "--melody", tmp_path / "hum.wav") == 0
    told = capfdbinary.readouterr()
    assert len(told.out) == len(plain) and told.out != plain and b"hum.wav: 1.0 s of it" in told.err
    for melody, model, message in (
        (tmp_path / "none.mid", follows, b"none.mid: no such file"),
        (tmp_path / "hum.wav", unsteered.folder, b"the bundle mock can't follow a melody"),
    ):
        assert run(monkeypatch, *line, model, "--melody", melody) == 1
        assert message in capfdbinary.readouterr().err


def test_raw_samples_into_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], bundle: Bundle, typist: int
) -> None:
    line = ["play", "slow piano", "--duration", "1", "--seed", "3", "--model", bundle.folder, "-o", "-"]
    assert run(monkeypatch, *line, "--raw") == 0
    sent = capfdbinary.readouterr()
    assert len(sent.out) == 48000 and b"played 1.0 s of music" in sent.err and b"underruns" not in sent.err
    assert run(monkeypatch, *line) == 0
    wav = capfdbinary.readouterr().out
    assert wav[44:] == sent.out and wav[:4] == b"RIFF" and wav[4:8] == wav[40:44] == b"\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["-o", "a.wav"], 2, "play writes to - only; `musiclm generate` makes files"),
        (["--raw"], 2, "--raw does nothing without -o -"),
        ([" "], 1, "the prompt is empty"),
        (["--ahead", "6"], 2, "6.0 s ahead; it must lie between 0 and 5"),
        (["--duration", "nan"], 2, "the duration is nan s; it must be 0.5 s or more"),
        (["--blend", "-1"], 2, "the blend is -1.0 s"),
        (["--model", "no-such", "-o", "-"], 1, "no model 'no-such'"),
        ([], 1, "pip install 'musiclm[play]'"),
    ],
)
def test_each_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: list[str], code: int, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert run(monkeypatch, "play", *line) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("error: "), error


def test_lines_are_put_together_from_what_arrives() -> None:
    read, write = os.pipe()
    lines = typed_lines(read)
    os.write(write, b"calm pi")
    os.write(write, b"ano\n\n  \r\nfast caf\xe9\r\nlast")
    assert [next(lines), next(lines)] == ["calm piano", "fast caf\udce9"]
    os.close(write)
    assert list(lines) == ["last"]
    os.close(read)


def test_a_line_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musiclm.cli.play.LONGEST_LINE", 1000)
    read, write = os.pipe()
    os.write(write, b"a" * 3000)
    assert len(next(typed_lines(read))) == 3000
    os.close(write)
    os.close(read)
