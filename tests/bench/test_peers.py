"""Other projects' models beside ours, in miniature: who runs when, what is scaled to what, what comes out."""

import sys
from pathlib import Path

import pytest
import torch

from musiclm.bench.measure import num_parameters
from musiclm.bench.peers import (
    CODECS,
    PeersConfig,
    in_turn,
    musicgen_small,
    nearest_width,
    peers,
    scaled_codec,
    summary,
)
from musiclm.bench.run import bench_peers
from musiclm.core.bundle import Bundle
from musiclm.generate.session import MusicLM
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import SoundStream
from tests.cli.test_cli import run
from tests.mock import mock_bundle

NEAR = 0.1  # how far from the peer's number of parameters ours may be


def test_they_run_in_turn_and_the_first_round_warms_up() -> None:
    order: list[str] = []
    times = iter(range(100))

    def contestant(name: str):
        return lambda: (order.append(name), {"x": float(next(times))})[1]

    results = in_turn({name: contestant(name) for name in ("peer", "ours", "ours_equal")}, rounds=2)
    assert order == ["peer", "ours", "ours_equal"] * 3
    assert results["peer"] == [{"x": 3.0}, {"x": 6.0}] and results["ours_equal"] == [{"x": 5.0}, {"x": 8.0}]


def test_the_ratio_is_taken_round_by_round() -> None:
    # the machine is ten times slower in the second round: no matter
    results = {"peer": [{"x": 2.0}, {"x": 40.0}, {"x": 2.0}], "ours": [{"x": 1.0}, {"x": 10.0}, {"x": 1.0}]}
    found = summary(results, {"peer": 7, "ours": 8})
    assert found["times_faster"] == {"ours": {"x": 2.0}}
    assert found["peer"] == {"parameters": 7, "x": 2.0} and found["ours"] == {"parameters": 8, "x": 1.0}


def test_the_nearest_width() -> None:
    asked: list[int] = []

    def square(width: int) -> int:
        asked.append(width)
        return width * width

    assert nearest_width(square, 10_000, 4) == 100
    assert nearest_width(square, 103 * 103, 4) == 104 and nearest_width(square, 1, 4) == 4
    assert all(width % 4 == 0 for width in asked)


@pytest.mark.parametrize("target", [15_000_000, 79_000_000])
def test_our_codec_scales_to_the_published_sizes(target: int) -> None:
    with torch.device("meta"):
        size = num_parameters(
            SoundStream(scaled_codec(SoundStreamConfig(network="bands", levels=48, latent_dim=768), target))
        )
    assert size == pytest.approx(target, rel=NEAR)


def test_the_papers_network_scales_too() -> None:
    config = scaled_codec(SoundStreamConfig(latent_dim=128), 2_000_000)
    with torch.device("meta"):
        assert num_parameters(SoundStream(config)) == pytest.approx(2_000_000, rel=NEAR)


def test_every_peer_in_miniature(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = PeersConfig.tiny()
    result = bench_peers(mock_bundle(tmp_path, harmony=True).folder, threads=1, say=lambda _: None, config=config)
    assert result["machine"]["transformers"] and result["settings"]["small"] is True
    figures = result["figures"]
    assert set(figures) == {*CODECS, "musicgen_small"}
    for name, group in figures.items():
        assert set(group) == {"scaled", "peer", "ours", "ours_equal", "times_faster"}
        assert group["ours_equal"]["parameters"] == pytest.approx(group["peer"]["parameters"], rel=NEAR), name
        assert set(group["times_faster"]) == {"ours", "ours_equal"}
        keys = (
            {"lm_real_time_factor"}
            if name == "musicgen_small"
            else {"encode_real_time_factor", "decode_real_time_factor"}
        )
        for who in ("peer", "ours", "ours_equal"):
            assert keys <= set(group[who]) and all(value > 0 for key, value in group[who].items())
        one_round = group["peer"]["lm_real_time_factor" if name == "musicgen_small" else "decode_real_time_factor"]
        own = group["ours"]["lm_real_time_factor" if name == "musicgen_small" else "decode_real_time_factor"]
        assert one_round / own in [pytest.approx(value) for value in group["times_faster"]["ours"].values()]
    assert {"codec_real_time_factor", "text_s"} <= set(figures["musicgen_small"]["peer"])


def test_the_published_size_of_musicgen(bundle: Bundle) -> None:
    library = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = musicgen_small(library, small=False)
    assert num_parameters(model.decoder) == pytest.approx(420e6, rel=0.02)
    assert model.generation_config.eos_token_id is None
    assert num_parameters(model.text_encoder) == pytest.approx(110e6, rel=0.02)
    assert model.config.audio_encoder.frame_rate == 50 and model.decoder.num_codebooks == 4


def test_the_published_sizes_of_the_codecs() -> None:
    library = pytest.importorskip("transformers")
    sizes = {}
    for name, build in CODECS.items():
        with torch.device("meta"):
            sizes[name] = num_parameters(build(library, False)) / 1e6
    assert sizes == {
        "encodec_24khz": pytest.approx(14.85, rel=0.02),
        "dac_24khz": pytest.approx(74.7, rel=0.02),
        "mimi": pytest.approx(79.3, rel=0.03),
    }


def test_without_transformers_one_line_says_what_to_install(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install transformers"):
        peers(MusicLM.from_pretrained(bundle.folder), PeersConfig.tiny())
    assert run(monkeypatch, "bench", bundle.folder, "--peers") == 1
    error = capsys.readouterr().err.strip()
    assert "pip install transformers" in error and len(error.splitlines()) == 1
