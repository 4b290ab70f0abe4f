"""Values out of range: refused before anything is loaded, in one line that names the value and the range, as wrong
usage."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm.cli.options import MOST_THREADS
from musiclm.core.bundle import Bundle
from musiclm.generate.config import GenerateConfig
from musiclm.generate.steer import Steer
from tests.cli.test_cli import run

TEMPERATURES = ("1e-40", "-1", "nan", "inf", "100.1", "0.009")
REFUSED = [
    *(("--temperature", value, "it must be 0, or lie between 0.01 and 100") for value in TEMPERATURES),
    *(("--storm-temperature", value, "it must be 0, or lie between 0.01 and 100") for value in TEMPERATURES),
    ("--coarse-temperature", "1e-40", "it must be 0, or lie between 0.01 and 100"),
    ("--fine-temperature", "1e-40", "it must be 0, or lie between 0.01 and 100"),
    *(("--guidance", value, "it must lie between 0 and 100") for value in ("1e38", "1e39", "1e309", "-1", "nan")),
    *(("--beat", value, "it must lie between 0 and 100") for value in ("1e38", "100.5")),
    *(("--beat", value, "it must be 0 or more") for value in ("-1", "nan", "1e309")),
    ("--again", "1e38", "it must lie between 0 and 100"),
    ("--again", "nan", "it must be 0 or more"),
    *(("--tempo", value, "it must lie between 30 and 300") for value in ("301", "0", "nan")),
    ("--key", "H moll", "write one such as 'D minor'"),
    *(("--top-k", value, "it must be at least 1") for value in ("0", "-5")),
    *(("--top-p", value, "it must be in (0, 1]") for value in ("0", "1.1", "nan")),
    *(("--duration", value, "it must lie between 0.5 s and 600 s") for value in ("0.4", "601", "nan", "1e309")),
    *(("--seed", value, "from 0 to 2^63 - 1") for value in ("-1", str(2**63))),
    *(("--num", value, "there may be 1 to 10000") for value in ("10001", str(10**18))),
    ("--acoustic", "magic", "one of storm, ar"),
    *(("--threads", value, f"there may be 1 to {MOST_THREADS}") for value in ("100000", str(MOST_THREADS + 1))),
]


def shown(value: str) -> str:
    """As a message has it."""
    try:
        return value if value.lstrip("-").isdigit() else str(float(value))
    except ValueError:
        return value


@pytest.mark.parametrize(("option", "value", "allowed"), REFUSED)
def test_a_value_out_of_range_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    option: str,
    value: str,
    allowed: str,
) -> None:
    """There is no such bundle: only what comes before loading can say anything else."""
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "generate", "piano", option, value, "--model", "no-such", "-o", "a.wav") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and option in error, error
    assert allowed in error and shown(value) in error, error


@pytest.mark.parametrize("option", ["--num", "--levels", "--threads"])
def test_none_is_too_few(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    """typer says so, in words of its own."""
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "generate", "piano", option, "0", "--model", "no-such", "-o", "a.wav") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"'{option}'" in error and "1" in error.split(option)[1]


def test_the_last_seed_counts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    last = 2**63 - 1
    assert run(monkeypatch, "generate", "piano", "--seed", str(last), "--num", "2", "--model", "no-such") == 2
    assert f"from 0 to 2^63 - 1, got {last + 1}" in capsys.readouterr().err
    assert run(monkeypatch, "generate", "piano", "--seed", str(last), "--model", "no-such") == 1
    assert "no model 'no-such'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "train storm --data d --runs r",
        "evaluate base --report r",
        "match base --data d",
        "bench no-such",
    ],
)
def test_threads_have_a_bound_in_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *command.split(), "--threads", "100000") == 2
    error = capsys.readouterr().err
    assert f"100000 threads; there may be 1 to {MOST_THREADS}" in error and error.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [
        "--temperature 0.01 --guidance 100 --beat 100 --storm-temperature 0.01",
        "--temperature 100 --guidance 0 --beat 0 --storm-temperature 100 --top-p 1e-40",
        "--temperature 0.01 --guidance 100 --tempo 300 --key Am --acoustic ar --coarse-temperature 0.01 "
        "--fine-temperature 100",
    ],
)
def test_music_is_made_at_the_ends_of_the_ranges(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, tmp_path: Path, options: str
) -> None:
    arguments = ["slow piano", "--duration", "0.5", "--model", bundle.folder, "-o", tmp_path / "a.wav"]
    assert run(monkeypatch, "generate", *arguments, *options.split()) == 0
    audio = soundfile.read(tmp_path / "a.wav")[0]
    assert len(audio) == 12000 and np.isfinite(audio).all() and audio.std() > 0


@pytest.mark.parametrize("name", ["beat", "tempo", "key", "again"])
def test_strengths_of_steering_have_a_bound(name: str) -> None:
    assert getattr(GenerateConfig(steer=Steer(**{name: 100.0})).steer, name) == 100
    with pytest.raises(ValueError, match=rf"the strength of {name} is 1e\+38; it must lie between 0 and 100"):
        GenerateConfig(steer=Steer(**{name: 1e38}))


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ('{"semantic": {"guidance": 1e39}}', "it must lie between 0 and 100"),
        ('{"semantik": {}}', "semantik"),
        ('{"levels": 0}', "it must be 1 or more"),
        ("[]", ""),
    ],
)
def test_a_bundle_recommends_nothing_that_generation_refuses(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
    sampling: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["bundle", "--runs", "r", "--out", "b", "--from", bundle.folder, "--sampling", sampling]
    assert run(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("minutes", ["nan", "-1"])
def test_minutes_of_training_have_a_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, minutes: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "train", "storm", "--data", "d", "--runs", "r", "--max-minutes", minutes) == 2
