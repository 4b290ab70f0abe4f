"""`musiclm generate --take`, `render` and `continue`."""

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
    """An empty folder to work in, with the bundle at hand."""
    monkeypatch.chdir(tmp_path)
    return bundle.folder


def test_a_take_beside_the_sound_and_the_sound_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    line = ["slow piano", "--duration", "1", "--num", "2", "--take", "-o", "a.flac", "--model", here]
    assert run(monkeypatch, "generate", *line) == 0
    assert "a-1.flac, a-1.take: 1 s of music" in capsys.readouterr().out
    assert run(monkeypatch, "render", "a-2.take", "-o", "b.flac", "--model", here) == 0
    assert f"b.flac: 1.00 s of the take {load_take('a-2.take').id[:12]}" in capsys.readouterr().out
    assert Path("b.flac").read_bytes() == Path("a-2.flac").read_bytes()
    assert run(monkeypatch, "inspect", "a-2.take") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["prompt"], told["seed"], told["parents"]) == ("slow piano", 1, [])
    assert told["codes"]["acoustic"] == {"levels": 12, "frames": 50, "type": "uint8"}
    # neither a take that is there is written over, nor a sound that was not named
    assert run(monkeypatch, "generate", "slow", "--duration", "1", "--take", "-o", "a-1.wav", "--model", here) == 1
    assert "a-1.take: is there already" in capsys.readouterr().err and not Path("a-1.wav").exists()
    Path("a-1.wav").touch()
    assert run(monkeypatch, "render", "a-1.take", "--model", here) == 1
    assert "a-1.wav: is there already" in capsys.readouterr().err


def test_music_without_a_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert run(monkeypatch, "generate", "--duration", "1", "-o", "a.wav", "--model", here) == 0
    assert "understood: no prompt, no tempo in numbers, no key\n" in capsys.readouterr().out
    assert run(monkeypatch, "inspect", "a.wav") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["condition"] == "none" and "prompt" not in told
    assert run(monkeypatch, "generate", "--guidance", "2", "--model", here) == 2
    assert "--guidance does nothing without a prompt" in capsys.readouterr().err


def test_a_recording_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    rate = 44100
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate + 900) / rate)
    soundfile.write("tone.wav", np.stack([tone, tone], 1), rate)
    assert run(monkeypatch, "continue", "tone.wav", "--duration", "1", "--take", "--model", here) == 0
    assert "goes on after 1.00 s of tone.wav, the last whole frame; the models read" in capsys.readouterr().out
    assert soundfile.info("tone-continued.wav").frames == 48000
    tags = read_tags("tone-continued.wav")
    assert (tags["condition"], tags["continues"], tags["generated"]) == ("audio", "tone.wav", "true")
    assert run(monkeypatch, "render", "tone-continued.take", "-o", "again.wav", "--model", here) == 0
    assert Path("again.wav").read_bytes() == Path("tone-continued.wav").read_bytes()
    # from the take, with a prompt, the new part alone
    line = ["tone-continued.take", "fast music", "--duration", "0.5", "--new-only", "--take", "-o", "new.wav"]
    assert run(monkeypatch, "continue", *line, "--model", here) == 0
    assert soundfile.info("new.wav").frames == 12000 and read_tags("new.wav")["prompt"] == "fast music"
    capsys.readouterr()
    assert run(monkeypatch, "inspect", "new.take") == 0
    told = json.loads(capsys.readouterr().out)
    assert [line["name"] for line in told["parents"]] == ["tone-continued.take", "tone.wav"]
    # what a take goes on from must be there, unless it is not asked for
    Path("tone.wav").unlink()
    assert run(monkeypatch, "render", "tone-continued.take", "-o", "no.wav", "--model", here) == 1
    error = capsys.readouterr().err
    assert "goes on from the audio tone.wav" in error and error.count("\n") == 1 and not Path("no.wav").exists()
    assert run(monkeypatch, "render", "tone-continued.take", "--new-only", "-o", "no.wav", "--model", here) == 0
    assert soundfile.info("no.wav").frames == 24000


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("render none.take", 1, "none.take: no such file"),
        ("render words.take", 1, "words.take: no take, or a damaged one"),
        ("render", 2, "Missing argument"),
        ("continue none.wav", 1, "none.wav: no such file"),
        ("continue words.take", 1, "words.take: no take, or a damaged one"),
        ("continue words.txt", 1, "words.txt"),
        ("continue tone.wav -o tone.wav", 1, "tone.wav: is the file that is read"),
        ("continue tone.wav --duration 0.1", 2, "it must lie between 0.5 s and 600 s"),
        ("continue tone.wav --seed -1", 2, "from 0 to 2^63 - 1"),
        ("continue tone.wav --tempo 1000", 2, "between 30 and 300"),
        ("continue tone.wav --melody none.mid", 1, "none.mid: no such file"),
        ("continue tone.wav --melody words.txt", 1, "words.txt"),
        ("continue tone.wav --melody silence.wav -o tone-2.wav", 1, "is silent; there is no melody to follow"),
        ("continue", 2, "Missing argument"),
        ("continue tone.wav --model no-such", 1, "no model 'no-such'"),
    ],
)
def test_each_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: Path, line: str, code: int, message: str
) -> None:
    soundfile.write("tone.wav", np.zeros(24000) + 0.1, 24000)
    soundfile.write("silence.wav", np.zeros(24000), 24000)
    for name in ("words.take", "words.txt"):
        Path(name).write_text("no sound at all")
    before = sorted(Path().iterdir())
    model = [] if "--model" in line else ["--model", here]
    assert run(monkeypatch, *line.split(), *model) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("command", ["render", "continue", "generate"])
def test_help_names_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    shown = capsys.readouterr().out
    assert "--new-only" in shown if command != "generate" else "--take" in shown
