"""`corpus melodies`: renditions of one melody; a stopped run goes on, and a larger one leaves them as they are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from musiclm.arrange.corpus import melodies
from musiclm.arrange.render.soundfonts import SOUNDFONTS
from musiclm.cli import app
from musiclm.data.corpus.manifest import CorpusError
from musiclm.data.corpus.melodies import LIST_FILE, Rendition, load_renditions, read_rendition
from musiclm.models.melody.task import roll
from tests.arrange.soundfont import write_soundfont

pytestmark = pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="fluidsynth is not installed")


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sf2")
    write_soundfont(folder / SOUNDFONTS[0].file)
    return folder


def make(out: Path, fonts: Path, num: int, **settings: int) -> list[Rendition]:
    return melodies.render_melodies(
        num, out=out, soundfont_folders=[fonts], progress=False, **{"seed": 3, "renditions": 3, **settings}
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fonts: Path) -> Path:
    out = tmp_path_factory.mktemp("whole")
    make(out, fonts, 2)
    return out


def test_renditions_are_of_one_melody_in_other_clothes(whole: Path) -> None:
    found = load_renditions(whole)
    assert [one.melody for one in found] == [0, 0, 0, 1, 1, 1]
    for some in (found[:3], found[3:]):
        assert some[0].sound in melodies.MANNERS and all(one.sound not in melodies.MANNERS for one in some[1:])
        rolls = [roll(one, one.at(2.0), 4.0 / one.tempo) for one in some]
        assert min(float(rolls[0] @ other) for other in rolls[1:]) > 0.95
        for one in some:
            assert 0.94 <= one.tempo <= 1.06 and len(one.notes) >= melodies.MIN_NOTES
            sides = read_rendition(whole, one, 0.0, one.seconds)
            assert 0.5 < np.abs(sides).max() < 0.95 and np.abs(sides[0]).max() > 0.05
            assert sides[1].any() == (one.backing != "none")
    assert float(roll(found[0], 2.0, 4.0) @ roll(found[3], 2.0, 4.0)) < 0.9


def test_more_melodies_change_none_and_a_stopped_run_goes_on(whole: Path, fonts: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    list_file = tmp_path / "out" / LIST_FILE
    lines = list_file.read_text().splitlines()
    list_file.write_text("\n".join(lines[:4]) + "\n" + lines[4][:50])  # killed within a line of melody 1
    again = make(tmp_path / "out", fonts, 2)
    assert list_file.read_bytes() == (whole / LIST_FILE).read_bytes() and len(again) == 6
    for one in again:
        assert (tmp_path / "out" / one.path).read_bytes() == (whole / one.path).read_bytes()


def test_settings_that_do_not_fit_are_refused_in_a_line(whole: Path, fonts: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="made with seed 3, and 4 is asked for"):
        make(whole, fonts, 2, seed=4)
    with pytest.raises(CorpusError, match="--renditions is 1"):
        make(tmp_path, fonts, 2, renditions=1)
    (tmp_path / "manifest.jsonl").touch()
    with pytest.raises(CorpusError, match="holds a corpus"):
        make(tmp_path, fonts, 2)
    result = CliRunner().invoke(app, ["corpus", "melodies", "--out", str(tmp_path), "--num", "0"])
    assert result.exit_code == 2 and not (tmp_path / LIST_FILE).exists()
    assert json.loads((whole / "melodies.json").read_text())["soundfonts"] == ["fluid-soundfont-gm: MIT"]
