"""Files of codes: the same bytes for the same codes, and those of old."""

import json
from pathlib import Path

import pytest
import torch

from musiclm.core import tensors
from musiclm.core.artifact import ArtifactError
from musiclm.data.codes import Encoded, describe_codes, save_codes

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
