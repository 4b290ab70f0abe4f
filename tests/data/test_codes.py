"""Files of codes: the same bytes for the same codes, and those of old."""

import json
from pathlib import Path

import pytest
import torch

from musiclm.core import tensors
from musiclm.core.artifact import ArtifactError
from musiclm.data import codes as module
from musiclm.data.codes import Encoded, describe_codes, load_codes, save_codes
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import SoundStream

ENCODED = Encoded(torch.arange(12, dtype=torch.int16).view(3, 4), 7000, "ab" * 32)


def test_the_same_codes_are_the_same_file(tmp_path: Path) -> None:
    written = set()
    for number in range(8):
        save_codes(tmp_path / f"{number}.codes", ENCODED)
        written.add((tmp_path / f"{number}.codes").read_bytes())
    assert len(written) == 1
    about = describe_codes(tmp_path / "0.codes")
    assert about == {"kind": "musiclm codes", "samples": 7000, "codec": "ab" * 32, "levels": 3, "frames": 4}


def test_files_of_old_are_read(tmp_path: Path) -> None:
    old = {"kind": "musiclm codes", "samples": "7000", "codec": "ab" * 32}
    tensors.save({"codes": ENCODED.codes}, tmp_path / "old.codes", old)
    assert describe_codes(tmp_path / "old.codes") == {**old, "levels": 3, "frames": 4}


@pytest.mark.parametrize("about", ["{", "[1]", '"musiclm codes"', json.dumps({"kind": "other"})])
def test_what_is_none_is_refused(tmp_path: Path, about: str) -> None:
    tensors.save({"codes": ENCODED.codes}, tmp_path / "bad.codes", {"about": about})
    with pytest.raises(ArtifactError, match="no file of codes"):
        describe_codes(tmp_path / "bad.codes")


ABOUT = {"kind": "musiclm codes", "samples": 7000, "codec": "ab" * 32}
CODES = ENCODED.codes
DAMAGED = {
    "samples missing": ({"codes": CODES}, {k: v for k, v in ABOUT.items() if k != "samples"}),
    "no samples": ({"codes": CODES}, {**ABOUT, "samples": 0}),
    "samples that are none": ({"codes": CODES}, {**ABOUT, "samples": "many"}),
    "codec missing": ({"codes": CODES}, {k: v for k, v in ABOUT.items() if k != "codec"}),
    "float": ({"codes": CODES.float()}, ABOUT),
    "one axis": ({"codes": CODES[0]}, ABOUT),
    "three axes": ({"codes": CODES[None]}, ABOUT),
    "empty": ({"codes": CODES[:, :0]}, ABOUT),
    "more than codes": ({"codes": CODES, "more": CODES + 1}, ABOUT),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files_are_refused_before_codes_are_loaded(tmp_path: Path, what: str) -> None:
    arrays, about = DAMAGED[what]
    tensors.save(arrays, tmp_path / "bad.codes", {"about": json.dumps(about)})
    with pytest.raises(ArtifactError, match="damaged"):
        describe_codes(tmp_path / "bad.codes")


def test_too_large_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_codes(tmp_path / "a.codes", ENCODED)
    monkeypatch.setattr(module, "LARGEST_BYTES", 100)
    with pytest.raises(ArtifactError, match="more than any file of codes"):
        describe_codes(tmp_path / "a.codes")


@pytest.mark.parametrize(
    ("levels", "frames", "code"), [(3, 4, 15), (13, 4, 15), (3, 5, 15), (3, 3, 15), (3, 4, 16), (3, 4, -1)]
)
def test_codes_that_the_codec_does_not_have_are_refused(tmp_path: Path, levels: int, frames: int, code: int) -> None:
    codec = SoundStream(SoundStreamConfig(latent_dim=8, codebook_size=16, channels=2))
    codec.codes_hash = ABOUT["codec"]
    samples = 4 * codec.config.samples_per_frame - 5
    encoded = Encoded(torch.full((levels, frames), code, dtype=torch.int16), samples, codec.codes_hash)
    save_codes(tmp_path / "a.codes", encoded)
    if (levels, frames, code) == (3, 4, 15):
        assert torch.equal(load_codes(tmp_path / "a.codes", codec).codes, encoded.codes)
    else:
        with pytest.raises(ArtifactError, match="damaged.*this codec has 12 levels of 16"):
            load_codes(tmp_path / "a.codes", codec)
