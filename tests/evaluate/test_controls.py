"""Every measure puts its controls in order on real music: excerpts of sixteen pieces, through the codec that ships,
beside noise and broken clips.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from musiclm.core.audio import load, write_audio
from musiclm.core.bundle import open_bundle
from musiclm.data.corpus.manifest import Track, save_manifest
from musiclm.evaluate.controls import orders, reliable
from musiclm.evaluate.distance import frechet_distance, kernel_distance
from musiclm.evaluate.run import EvaluateConfig, Study
from musiclm.evaluate.sets import pink_noise
from musiclm.listen.judge import Judge
from musiclm.models.soundstream.model import SoundStream

CLIPS = sorted((Path(__file__).parent.parent / "data" / "clips").glob("*.ogg"))


def test_orders_by_hand() -> None:
    wanted = orders("beat_strength", "real>noise")
    rows = {"real": {"beat_strength": {"value": 0.5}}, "noise": {"beat_strength": {"value": 0.1}}}
    assert reliable(wanted, rows) == {"beat_strength": True}
    rows["noise"]["beat_strength"]["value"] = 0.5
    assert reliable(wanted, rows) == {"beat_strength": False}, "equal is not in order"
    assert reliable(wanted, {"real": {"beat_strength": {"value": float("nan")}}, "noise": rows["noise"]}) == {}
    wanted = orders("mel_distance_db visqol", "opus_24>opus_12 opus_12>opus_6", higher=False)
    assert len(wanted) == 4
    codec = {f"opus_{k}": {"mel_distance_db": 30 - k} for k in (6, 12, 24)}
    assert reliable(wanted, codec) == {"mel_distance_db": True}
    codec["opus_12"]["mel_distance_db"] = 40
    assert reliable(wanted, codec) == {"mel_distance_db": False}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Of the shipped bundle, on a corpus of the committed excerpts."""
    corpus = tmp_path_factory.mktemp("corpus")
    (corpus / "audio").mkdir()
    tracks = []
    for index, path in enumerate(CLIPS):
        clip = load(path)
        write_audio(corpus / "audio" / f"{path.stem}.flac", clip, 24000)
        facts = dict.fromkeys(("source", "package", "origin", "title", "artist", "genre", "licence"), path.stem)
        tracks.append(
            Track(
                id=path.stem,
                path=f"audio/{path.stem}.flac",
                seconds=len(clip) / 24000,
                sha256=path.stem,
                split="train" if index % 4 == 3 else "test",
                held_out=False,
                piece=path.stem,
                **facts,
            )
        )
    save_manifest(corpus, tracks, [])
    config = EvaluateConfig(num_prompts=2, num_long=1, clip_s=5.5, long_s=9.0)
    return Study("base", tmp_path_factory.mktemp("report"), corpus=corpus, config=config, say=lambda _: None)


@pytest.mark.skipif(find_spec("musicnn") is None, reason="the judge's weights are not installed")
def test_distances_put_real_music_before_the_codec_and_that_before_noise() -> None:
    base = open_bundle("base")
    codec = SoundStream.from_artifact(base.part("soundstream")).eval()
    levels = base.document["sampling"].get("levels")
    pieces = [load(path)[: 3 * 76800].reshape(3, 76800) for path in CLIPS]  # 3.2 s each
    sets = {"real": [piece[0] for piece in pieces], "reference": [clip for piece in pieces for clip in piece[1:]]}
    with torch.no_grad():
        sets["codec"] = [
            codec.decode(codec.encode(torch.from_numpy(clip)[None, None], levels))[0, 0].numpy()
            for clip in sets["real"]
        ]
    rng = np.random.default_rng(0)
    sets["noise"] = [pink_noise(len(clip), float(clip.std()), rng) for clip in sets["real"]]
    embedded = {name: Judge()(clips)[0] for name, clips in sets.items()}
    for measure in (frechet_distance, kernel_distance):
        real, coded, noise = (measure(embedded[name], embedded["reference"]) for name in ("real", "codec", "noise"))
        assert real < coded < noise, (measure.__name__, real, coded, noise)


@pytest.mark.skipif(find_spec("musicnn") is None, reason="the judge's weights are not installed")
@pytest.mark.parametrize("name", ["health", "music", "notes", "form", "semantic"])
def test_real_music_and_its_controls_are_put_in_order(study: Study, name: str) -> None:
    if name == "notes" and find_spec("basic_pitch") is None:
        pytest.skip("basic-pitch is not installed")
    section, measure = study.sections()[name]
    rows = measure()["rows"]
    found = reliable(section.orders, rows)
    # the excerpts are shorter than 8 s; test_music.py holds the longer window
    assert found.keys() == {order.figure for order in section.orders} - {"periodicity_8s"}
    assert all(found.values()), {name: {row: rows[row].get(name) for row in rows} for name in found if not found[name]}
