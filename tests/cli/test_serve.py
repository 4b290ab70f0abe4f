"""`musiclm serve`: what can't be served is said in one line, before a model is loaded."""

import socket
from pathlib import Path

import pytest

from tests.cli.test_cli import run


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("--host 0.0.0.0", 1, "0.0.0.0 can be reached from other machines, and no API key is set; set MUSICLM_API_KEY"),
        ("--api-key short", 1, "the API key has fewer than 8 characters"),
        ("--workers 9 --capacity 8", 1, "9 pieces at a time with a capacity of 8"),
        ("--max-duration 1000", 1, "--max-duration is 1000.0 s; it must lie between 0.5 s and 600 s"),
        ("--host no.such.name.invalid --api-key long-enough", 1, "can't listen at no.such.name.invalid:8000"),
        ("--port 70000", 2, "--port"),
        ("--folder words.txt --port 0", 1, "words.txt: can't be used"),
        ("--model no-such --port 0", 1, "no model 'no-such'"),
    ],
)
def test_each_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    line: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUSICLM_API_KEY", raising=False)
    Path("words.txt").write_text("no folder")
    assert run(monkeypatch, "serve", *line.split()) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(monkeypatch, "serve", "--port", str(port)) == 1
    assert f"can't listen at 127.0.0.1:{port} (Address already in use)" in capsys.readouterr().err
