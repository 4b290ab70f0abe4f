"""The command line as a user meets it: real processes, one line and a non-zero exit for each mistake."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm import __version__, cli
from musiclm.core.bundle import Bundle
from musiclm.generate.music import read_tags


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit status of `musiclm ARGUMENTS`, in this process."""
    monkeypatch.setattr(sys, "argv", ["musiclm", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    time_s = np.arange(3 * 44100 + 17) / 44100
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 440 * time_s)[:, None].repeat(2, 1), 44100)
    return tmp_path / "tone.wav"


def test_generate_writes_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "a.flac"
    arguments = ["slow piano", "--duration", "1", "--seed", "4", "--num", "2", "--model", bundle.folder, "-o", out]
    assert run(monkeypatch, "generate", *arguments) == 0
    printed = capsys.readouterr().out
    assert "real-time factor" in printed and "seed 5" in printed
    assert "understood: no tempo in numbers, no key\n" in printed
    files = [tmp_path / "a-1.flac", tmp_path / "a-2.flac"]
    assert [read_tags(file)["seed"] for file in files] == ["4", "5"]
    assert [soundfile.info(file).frames for file in files] == [24000, 24000]
    again = tmp_path / "b.flac"
    assert (
        run(
            monkeypatch,
            "generate",
            "slow piano",
            "--duration",
            "1",
            "--seed",
            "5",
            "--model",
            bundle.folder,
            "-o",
            again,
        )
        == 0
    )
    assert again.read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "-o", "a.wav"], "the prompt is empty"),
        (["music", "--duration", "nan", "-o", "a.wav"], "duration is nan"),
        (["music", "--duration", "-3", "-o", "a.wav"], "duration is -3"),
        (["music", "--seed", "-1", "-o", "a.wav"], "seed must be"),
        (["music", "--tempo", "301", "-o", "a.wav"], "the tempo is 301.0 BPM; it must lie between 30 and 300"),
        (["music", "--key", "H moll", "-o", "a.wav"], "'H moll' is no key; write one such as 'D minor'"),
        (["music", "--beat", "-1", "-o", "a.wav"], "the strength of beat is -1.0"),
        (["music", "--coarse-temperature", "0.9", "-o", "a.wav"], "the coarse temperature does nothing here"),
        (
            ["music", "--acoustic", "ar", "--storm-temperature", "1", "-o", "a.wav"],
            "the storm temperature does nothing",
        ),
        (["music", "-o", "nowhere/a.wav"], "folder nowhere does not exist"),
        (["music", "-o", "a.xyz"], "can't write '.xyz'"),
        (["music", "--acoustic", "magic", "-o", "a.wav"], "acoustic must be one of storm, ar, got 'magic'"),
        (["music", "--model", "no-such", "-o", "a.wav"], "no model 'no-such'"),
        (["music", "--device", "abacus", "-o", "a.wav"], "no device is called"),
    ],
)
def test_each_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in arguments else ["--model", bundle.folder]
    assert run(monkeypatch, "generate", *arguments, *model) != 0
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("musiclm.core.output.os.fsync", full)
    out = tmp_path / "a.wav"
    assert run(monkeypatch, "generate", "slow", "--duration", "0.5", "--model", bundle.folder, "-o", out) == 1
    assert "No space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_codec_round_trip_keeps_the_length(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle, tone: Path, tmp_path: Path
) -> None:
    assert run(monkeypatch, "codec", "encode", tone, "--model", bundle.folder, "--levels", "4") == 0
    codes = tmp_path / "tone.codes"
    assert "2.00" not in capsys.readouterr().out.split("levels")[0] and codes.exists()
    assert run(monkeypatch, "codec", "decode", codes, "-o", tmp_path / "back.wav", "--model", bundle.folder) == 0
    assert (
        run(
            monkeypatch,
            "codec",
            "roundtrip",
            tone,
            "-o",
            tmp_path / "rt.wav",
            "--model",
            bundle.folder,
            "--levels",
            "4",
        )
        == 0
    )
    back, round_trip = soundfile.read(tmp_path / "back.wav")[0], soundfile.read(tmp_path / "rt.wav")[0]
    assert len(back) == round(len(soundfile.read(tone)[0]) * 24000 / 44100)
    assert np.array_equal(back, round_trip), "two commands do what one does"
    assert run(monkeypatch, "inspect", codes) == 0
    assert '"levels": 4' in capsys.readouterr().out


def test_codec_refuses_what_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle, tone: Path, tmp_path: Path
) -> None:
    (tmp_path / "junk.codes").write_bytes(b"junk")
    for arguments, message in (
        (["encode", tone, "--levels", "13"], "1..12, got 13"),
        (["encode", tmp_path / "none.wav"], "no such file"),
        (["decode", tmp_path / "junk.codes"], "no file of codes"),
        (["decode", tmp_path / "none.codes"], "no such file"),
    ):
        assert run(monkeypatch, "codec", *arguments, "--model", bundle.folder) == 1
        assert message in capsys.readouterr().err


def test_chunked_codes_equal_whole_file_codes(bundle: Bundle, tmp_path: Path) -> None:
    import torch

    from musiclm.core.audio import load
    from musiclm.data.codes import encode_file
    from musiclm.models.soundstream.model import SoundStream

    clip = Path(__file__).parents[1] / "data" / "clips" / "flare-boss-theme.ogg"
    codec = SoundStream.from_artifact(bundle.part("soundstream"))
    long = np.tile(load(clip), 3)
    soundfile.write(tmp_path / "long.wav", long, 24000)
    whole = codec.encode(torch.from_numpy(load(tmp_path / "long.wav"))[None, None])
    assert torch.equal(encode_file(codec, tmp_path / "long.wav").codes.long(), whole[0])


def test_inspect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle) -> None:
    assert run(monkeypatch, "inspect", bundle.folder) == 0
    assert bundle.hash in capsys.readouterr().out
    assert run(monkeypatch, "inspect", bundle.parts["storm"]) == 0
    assert '"kind": "storm"' in capsys.readouterr().out
    assert run(monkeypatch, "inspect", "base") == 0
    assert '"name": "base"' in capsys.readouterr().out
    assert run(monkeypatch, "inspect", bundle.folder / "nothing") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "drums", "--data", "d", "--runs", "r"], "no stage 'drums'"),
        (
            ["train", "storm", "--data", "d", "--runs", "r", "--preset", "huge"],
            "no preset 'huge'; there are tiny, base",
        ),
        (
            ["train", "storm", "--data", "d", "--runs", "r", "--set", "storm.task.crops=1"],
            "unknown setting 'storm.task.crops'; did you mean 'crop_s'?",
        ),
        (["train", "storm", "--data", "d", "--runs", "r", "--set", "fine.train.steps=1"], "does nothing here"),
        (["train", "storm", "--data", "d", "--runs", "r", "--name", "mine"], "--name does nothing here"),
        (["train", "mulan-text", "--data", "d", "--runs", "r"], "mulan-text goes on with the mulan of a bundle"),
        (["train", "soundstream", "--data", "d", "--runs", "r"], "d: no corpus here (no manifest.jsonl)"),
        (["tokenize", "--data", "d", "--runs", "r"], "mulan is not trained in r yet"),
        (["tokenize", "--data", "d", "--runs", "r", "--stream", "pitch"], "no stream 'pitch'; there are mulan"),
        (["bundle", "--runs", "r", "--out", "b"], "soundstream is not trained in r yet"),
        (["evaluate", "base"], "--report is missing"),
        (["evaluate", "nothing", "--report", "r"], "no model 'nothing': it is no folder here"),
        (["evaluate", "base", "--report", "r", "--prompts", "absent.csv"], "absent.csv can't be read"),
        (["evaluate", "base", "--report", "r", "--data", "d"], "d: no corpus here (no manifest.jsonl)"),
        (["evaluate", "--compare", "a.json", "b.json"], "a.json is no report of `musiclm evaluate`"),
        (["bench", "--compare", "a.json", "b.json"], "No such file or directory: 'a.json'"),
        (["bench", "nothing"], "no model 'nothing': it is no folder here"),
        (["bench", "--peers", "--quick"], "--quick and --peers measure different things"),
    ],
)
def test_training_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1


def test_the_installed_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "musiclm.cli", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == __version__
    done = subprocess.run([sys.executable, "-m", "musiclm.cli", "continue"], capture_output=True, text=True)
    assert done.returncode == 2 and "Missing argument" in done.stderr and "Traceback" not in done.stderr
