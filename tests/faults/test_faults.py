"""A small part of what `make faults` does: a corpus, tokens of random models, and the stage that learns from them."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from musiclm.core.bundle import Bundle
from tests.faults.harness import COMMANDS, Harness, follow, one_line
from tests.forked import ROOT, Ended, Server


@pytest.fixture(scope="module")
def harness(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    streams = "--stream mulan --stream semantic"
    commands = {
        "build": COMMANDS["build"],
        "tokenize": f"tokenize --data corpus --runs runs --from {bundle.folder} {streams}",
        "semantic": COMMANDS["semantic"],
    }
    with Server("torch._dynamo", "torch.utils.tensorboard") as server:
        yield Harness(server, tmp_path_factory.mktemp("faults"), random.Random(0), commands)


def moments(harness: Harness, command: str, event: str, name: str) -> list[int]:
    """Numbers of the events of a kind on files whose names hold `name`."""
    events = harness.reference(command).events
    return [number for number, line in enumerate(events, 1) if line.startswith(event) and name in line]


def test_killed_while_tokens_are_written(harness: Harness) -> None:
    header, shard = moments(harness, "tokenize", "os.rename", "tokens/semantic/.")[1:]
    outcome = harness.kill("tokenize", [header, shard])
    assert outcome.result == "same" and outcome.kills, outcome


def test_killed_while_a_stage_saves_and_exports(harness: Harness) -> None:
    """Before the last checkpoint takes its name, and between the two renamings that replace an artifact."""
    saved = moments(harness, "semantic", "os.rename", "runs/semantic/.")
    replaced = moments(harness, "semantic", "os.rename", "runs/semantic/artifact")
    assert len(replaced) == 1, "the second artifact puts the first one aside"
    for at in ([saved[1], saved[-1]], [replaced[0] + 1]):
        outcome = harness.kill("semantic", at)
        assert outcome.result == "same" and outcome.kills == len(at), outcome


def test_other_faults_end_in_one_line(harness: Harness) -> None:
    outcomes = [
        harness.torn("tokenize", "semantic", "runs/tokens/semantic/shard-00000.safetensors"),
        harness.stopped_by("semantic", "disk full", file_limit=20_000),
    ]
    assert all(one.result == "one line" for one in outcomes), outcomes
    assert "make room" in outcomes[1].told or "free space" in outcomes[1].told


def test_the_harness_sees_what_is_wrong(harness: Harness, tmp_path: Path) -> None:
    """A command that does nothing after a kill, a traceback, and a remedy that can't be followed."""
    reference = harness.reference("build")
    with harness.trial(reference.before) as work:
        harness.commands["nothing"] = "corpus show corpus"
        harness.references["nothing"] = reference
        assert harness.finish("nothing", work).startswith("ended with 1")
        (work / "corpus").mkdir()
        (work / "corpus" / "manifest.jsonl").write_bytes((reference.after / "corpus" / "manifest.jsonl").read_bytes())
        assert harness.finish("nothing", work).startswith("differs: ")
        del harness.commands["nothing"], harness.references["nothing"]
    assert one_line(Ended(1, b"", b"step 1\nerror: a: is damaged\n")) == "error: a: is damaged"
    for err in (b"Traceback (most recent call last)\nerror: a\n", b"error: a\nmore\n", b""):
        assert not one_line(Ended(1, b"", err))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.json").touch()
    assert "no remedy" in follow("error: a/b.json is damaged", tmp_path)
    assert "not there" in follow("error: a/c.json is damaged; delete a/c.json and start again", tmp_path)
    assert follow("error: a/b.json: is damaged; delete it and start again", tmp_path) == ""
    assert not (tmp_path / "a" / "b.json").exists()


@pytest.mark.slow
def test_every_command_survives_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults", "--count", "100", "--out", str(tmp_path / "faults.json")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
