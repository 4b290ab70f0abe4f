"""The commands that docs/service.md shows do what it says."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile

from musiclm.core.bundle import Bundle
from musiclm.generate.take import load_take
from tests.serve.service import serving

DOCUMENT = Path(__file__).parents[2] / "docs" / "service.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_make_what_they_say(bundle: Bundle, tmp_path: Path) -> None:
    shown = DOCUMENT.read_text().split("<!-- commands")[1].split("<!-- end of the commands")[0]
    lines = "\n".join(line[4:] for line in shown.splitlines() if line.startswith("    "))
    assert lines.count("curl ") >= 7
    with serving(bundle, tmp_path / "takes") as service:
        script = re.sub(r"http://127\.0\.0\.1:8000", service.url, lines)
        done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    seconds = {name: soundfile.info(tmp_path / name).duration for name in ("piano.wav", "pads.flac", "longer.wav")}
    assert seconds == {"piano.wav": 2, "pads.flac": 3, "longer.wav": pytest.approx(4, abs=0.1)}
    assert (
        soundfile.info(tmp_path / "repainted.wav").duration == 3 and soundfile.info(tmp_path / "tale.wav").duration == 4
    )
    assert soundfile.info(tmp_path / "house.opus").subtype == "OPUS"
    assert load_take(tmp_path / "pads.take").about.prompt == "ambient synth pads"
    events = re.findall(r"^event: (.*)$", (tmp_path / "events.txt").read_text(), re.M)
    assert events[-1] == "end" and json.loads((tmp_path / "done.json").read_text())["state"] == "done"
