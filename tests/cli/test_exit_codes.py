"""How a command ends, as a shell sees it: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C; one line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer.main

from musiclm.cli import app
from musiclm.core.bundle import Bundle
from tests.foreign import small_codec
from tests.forked import ROOT, Ended, Server

# command -> what it is given wrongly; what it is given so that it has to work, and the end of the name of a file it
# opens then
COMMANDS: dict[str, tuple[str, str, str]] = {
    "generate": ("generate  -o a.wav --model no-such", "generate piano -o a.wav --model BUNDLE", "bundle.json"),
    "story": ("story none.txt", "story TALE -o a.wav --model BUNDLE", "bundle.json"),
    "play": ("play -o - --model no-such", "play -o - --model BUNDLE", "bundle.json"),
    "render": ("render none.take", "render take.take -o a.wav --model BUNDLE", "bundle.json"),
    "continue": ("continue none.wav", "continue tone.wav -o a.wav --model BUNDLE", "bundle.json"),
    "repaint": ("repaint none.wav", "repaint tone.wav --to 0.5 -o a.wav --model BUNDLE", "bundle.json"),
    "vary": ("vary none.wav", "vary tone.wav -o a.wav --model BUNDLE", "bundle.json"),
    "loop": ("loop none.wav", "loop tone.wav --tempo 120 -o a.wav --model BUNDLE", "bundle.json"),
    "serve": ("serve --model no-such --port 0", "serve --model BUNDLE --port 0 --folder f", "bundle.json"),
    "codec encode": ("codec encode none.wav", "codec encode tone.wav -o a.codes --model BUNDLE", "bundle.json"),
    "codec decode": ("codec decode none.codes", "codec decode tone.codes -o a.wav --model BUNDLE", "bundle.json"),
    "codec roundtrip": ("codec roundtrip none.wav", "codec roundtrip tone.wav -o a.wav --model BUNDLE", "bundle.json"),
    "train": ("train drums --data d --runs r", "train soundstream --preset tiny --data CORPUS --runs r", "log.jsonl"),
    "plan": ("plan --preset none", "plan --preset tiny", ""),  # opens none
    "label": ("label none", "label CORPUS", "manifest.jsonl"),
    "tokenize": ("tokenize --data d --runs r", "tokenize --data CORPUS --runs r --from BUNDLE", "manifest.jsonl"),
    "bundle": ("bundle --runs r --out b", "bundle --runs r --out b --from BUNDLE", "bundle.json"),
    "evaluate": ("evaluate no-such --report r", "evaluate BUNDLE --report r --quick", "bundle.json"),
    "match": ("match no-such --data d", "match BUNDLE --data CORPUS", "manifest.jsonl"),
    "bench": ("bench no-such", "bench BUNDLE --quick", "bundle.json"),
    "inspect": ("inspect no-such", "inspect BUNDLE", "bundle.json"),
    "encoder add": (
        "encoder add acoustic none --runs r", "encoder add acoustic CODEC --runs r", "model.safetensors",
    ),
    "push": ("push no-such me/mine", "push BUNDLE me/mine", "bundle.json"),
    "corpus build": ("corpus build none --out x", "corpus build CORPUS --out x --jobs 2", "journal.jsonl"),
    "corpus show": ("corpus show none", "corpus show CORPUS", "manifest.jsonl"),
    "corpus merge": ("corpus merge d e --out x", "corpus merge CORPUS OTHER --out x", "manifest.jsonl"),
    "corpus render": (
        "corpus render --hours 1 --works 0.5 --out x", "corpus render --hours 1 --jobs 2 --out x --no-progress",
        ".lock",
    ),
    "corpus melodies": (
        "corpus melodies --renditions 100000 --out x", "corpus melodies --num 50 --jobs 2 --out x --no-progress",
        ".lock",
    ),
    "corpus captions": ("corpus captions none", "corpus captions CORPUS", "manifest.jsonl"),
    "corpus audit": ("corpus audit none --out x.json", "corpus audit CORPUS --out x.json", "manifest.jsonl"),
    "corpus page": ("corpus page none --out x.html", "corpus page CORPUS --out x.html", "manifest.jsonl"),
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> dict[str, str]:
    """What the words in capitals stand for."""
    from musiclm.data.corpus.build import build_corpus

    folder = tmp_path_factory.mktemp("given")
    random, time_s = np.random.default_rng(0), np.arange(24000 * 8) / 24000
    for name in ("one", "other"):
        (folder / "music" / name).mkdir(parents=True)
        for index in range(4):
            envelope = 0.6 + 0.4 * np.sin(2 * np.pi * (time_s / (2 + index) + random.random()))
            sound = 0.3 * envelope * np.sin(2 * np.pi * random.uniform(100, 1000) * time_s)
            soundfile.write(folder / "music" / name / f"{name}{index}.wav", sound, 24000)
        build_corpus([str(folder / "music" / name)], folder / name, jobs=1, progress=False)
    codec = small_codec("mimi", folder / "codec")
    (folder / "tale.txt").write_text("0:00 calm piano")
    return {
        "TALE": str(folder / "tale.txt"),
        "CODEC": str(codec),
        "BUNDLE": str(bundle.folder),
        "CORPUS": str(folder / "one"),
        "OTHER": str(folder / "other"),
    }


def words(line: str, given: dict[str, str]) -> list[str]:
    return [given.get(word, word) for word in line.split(" ")]


def one_line(ended: Ended) -> str:
    text = ended.err.decode()
    assert text.endswith("\n") and text.count("\n") == 1, text
    return text


def all_commands(command: Any, name: str = "") -> Iterator[str]:
    if hasattr(command, "commands"):
        for each, inner in command.commands.items():
            yield from all_commands(inner, f"{name} {each}".strip())
    else:
        yield name


def test_every_command_is_tried() -> None:
    assert sorted(all_commands(typer.main.get_command(app))) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_is_1(server: Server, given: dict[str, str], tmp_path: Path, command: str) -> None:
    ended = server.run(*words(COMMANDS[command][0], given), cwd=tmp_path)
    assert ended.code == 1 and one_line(ended).startswith("error: "), ended


@pytest.mark.parametrize("command", [*COMMANDS, "", "codec", "corpus", "encoder"])
def test_wrong_usage_is_2(server: Server, tmp_path: Path, command: str) -> None:
    ended = server.run(*command.split(), "--no-such-option", cwd=tmp_path)
    assert ended.code == 2
    assert "--no-such-option" in one_line(ended) and f"musiclm {command}".strip() in one_line(ended)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [command for command, (_, _, file) in COMMANDS.items() if file])
def test_ctrl_c_is_130(server: Server, given: dict[str, str], tmp_path: Path, command: str) -> None:
    soundfile.write(tmp_path / "tone.wav", np.zeros(24000) + 0.1, 24000)
    if command == "codec decode":
        assert server.run(*words("codec encode tone.wav --model BUNDLE", given), cwd=tmp_path).code == 0
    if command == "render":
        line = "generate --duration 0.5 --take -o take.wav --model BUNDLE"
        assert server.run(*words(line, given), cwd=tmp_path).code == 0
    _, line, file = COMMANDS[command]
    ended = server.run(*words(line, given), cwd=tmp_path, interrupt=file)
    assert ended.code == 130, ended
    last = ended.err.decode().splitlines()[-1]
    assert last.startswith("stopped") and b"Traceback" not in ended.err, ended
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]


def test_ctrl_c_while_it_is_being_imported_is_130(tmp_path: Path) -> None:
    at_typer = """
import os, runpy, signal, sys
def hook(event, arguments):
    if event == "import" and arguments[0] == "typer":
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
runpy.run_module("musiclm", run_name="__main__")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(
        [sys.executable, "-c", at_typer, "generate"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert ended.returncode == 130 and ended.stderr == b"stopped\n", ended


def test_sigterm_is_143_and_leaves_no_half_file(server: Server, given: dict[str, str], tmp_path: Path) -> None:
    line = "generate piano --duration 30 -o a.wav --model BUNDLE"
    ended = server.run(*words(line, given), cwd=tmp_path, interrupt=".part", number=signal.SIGTERM)
    assert ended.code == 143 and one_line(ended) == "stopped: terminated\n"
    assert list(tmp_path.iterdir()) == []


def test_without_a_command_it_says_what_there_is(server: Server, tmp_path: Path) -> None:
    for command in ("", "codec", "corpus"):
        ended = server.run(*command.split(), cwd=tmp_path)
        assert ended.code == 2 and b"Usage: musiclm" in ended.out + ended.err
    assert server.run("--help", cwd=tmp_path).code == 0


def test_an_output_that_takes_nothing_is_an_error(server: Server, tmp_path: Path) -> None:
    ended = server.run("inspect", "base", cwd=tmp_path, stdout="/dev/full")
    assert ended.code == 1 and "No space left" in one_line(ended)


def test_a_full_disk_says_what_to_do(server: Server, given: dict[str, str], tmp_path: Path) -> None:
    """Where a file is written, and where a folder is copied."""
    ended = server.run("label", given["OTHER"], cwd=tmp_path, file_limit=600)
    assert ended.code == 1 and "make room, and the same command goes on" in ended.err.decode().splitlines()[-1], ended
    line = "bundle --runs r --out b --from BUNDLE"
    ended = server.run(*words(line, given), cwd=tmp_path, file_limit=3000)
    said = one_line(ended)
    assert ended.code == 1 and said.startswith("error: [Errno 27] File too large: ") and "make room" in said, ended
    assert not list(tmp_path.iterdir())


def test_a_script_that_stops_at_errors_stops_at_ctrl_c(given: dict[str, str], tmp_path: Path) -> None:
    """As at a terminal: the signal reaches shell and training alike; the run goes on from its checkpoint later."""
    script = "set -e\n$PYTHON -m musiclm.cli train soundstream --preset tiny --data $CORPUS --runs r\ntouch went-on\n"
    environment = {
        **os.environ, **given, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    shell = subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    log = tmp_path / "r" / "soundstream" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline and shell.poll() is None:
        time.sleep(0.05)
    os.killpg(shell.pid, signal.SIGINT)
    said = shell.communicate(timeout=120)[1].decode()
    assert shell.returncode == 130, said
    assert said.splitlines()[-1].startswith("stopped: soundstream stopped at step "), said
    assert not (tmp_path / "went-on").exists() and (log.parent / "state.safetensors").exists()
