"""CLAP in MuLan's place: windows as MuLan's, means taken off, one quantizer for audio and text."""

from pathlib import Path

import pytest
import torch

from musiclm.core.artifact import ArtifactError
from musiclm.models.encoders import load_joint
from musiclm.models.foreign.joint import KIND, ForeignJoint, windows_of
from musiclm.models.mulan.model import MuLan
from tests.foreign import small_clap, small_hubert

TEXTS = ["slow music", "fast music", "piano", "fast piano"]
RATE = 24000


def track(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    time_s = torch.arange(round(seconds * RATE)) / RATE
    hz = 200 + 2000 * torch.rand(1, generator=generator)
    return (0.3 * torch.sin(6.2832 * hz * time_s * (1 + 0.02 * time_s)))[None]


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> ForeignJoint:
    pytest.importorskip("transformers")
    made = ForeignJoint.from_pretrained(str(small_clap(tmp_path_factory.mktemp("joint") / "clap")), 3, 4)
    made.fit([track(12, 1), track(11, 2), track(4, 3)], TEXTS)
    return made


def test_windows_are_mulans(joint: ForeignJoint) -> None:
    for seconds, wanted in ((3.0, 1), (10.0, 1), (10.9, 1), (12.3, 3)):
        audio = track(seconds)
        assert joint.embed_audio_windows(audio).shape == (wanted, 12)
        own = MuLan._seconds(None, audio)  # type: ignore[arg-type]
        assert torch.equal(windows_of(audio)[0], own[:10].flatten()) and len(windows_of(audio)) == len(own) - 9
    with pytest.raises(ValueError, match="no audio"):
        joint.embed_audio_windows(torch.zeros(1, 0))


def test_vectors_have_length_one_and_means_are_taken_off(joint: ForeignJoint) -> None:
    audio = joint.embed_audio(torch.stack([track(12, 1), track(12, 2)]))
    text = joint.embed_text(TEXTS)
    torch.testing.assert_close(audio.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(4))
    raw = joint._text(TEXTS)
    assert float(raw.mean(0).norm()) > 0.5 > float((raw - joint.text_mean).mean(0).norm())
    assert torch.equal(joint.embed_text(TEXTS)[1:2], joint.embed_text([TEXTS[1]]))
    with pytest.raises(ValueError, match="text 1 is empty"):
        joint.embed_text(["slow", " "])


def test_codes_of_audio_and_text(joint: ForeignJoint, tmp_path: Path) -> None:
    clips = torch.stack([track(10, seed) for seed in range(1, 5)])
    codes = joint.audio_codes(clips)
    assert codes.shape == (4, 3, 1) and codes.max() < 4 and len(codes.unique(dim=0)) > 1
    assert joint.text_codes(TEXTS).shape == (4, 3, 1)
    joint.save(tmp_path / "artifact", KIND, {})
    again = load_joint(tmp_path / "artifact")
    assert torch.equal(again.audio_codes(clips), codes) and again.codes_hash
    assert torch.equal(again.text_codes(TEXTS), joint.text_codes(TEXTS))


def test_what_is_no_joint_embedding_is_refused(tmp_path: Path, joint: ForeignJoint) -> None:
    with pytest.raises(ValueError, match="of type hubert; wanted clap"):
        ForeignJoint.from_pretrained(str(small_hubert(tmp_path / "hubert")))
    clap = small_clap(tmp_path / "clap")
    (clap / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match="can't be loaded"):
        ForeignJoint.from_pretrained(str(clap))
    with pytest.raises(ValueError, match="no tracks"):
        joint.fit([], TEXTS)
