"""Every measure puts its controls in order on real music: excerpts of sixteen pieces, through the codec that ships, beside noise and broken clips."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import musiclm.evaluate.run as run
from musiclm.core.audio import load, write_audio
from musiclm.core.bundle import open_bundle
from musiclm.data.corpus.manifest import Track, save_manifest
from musiclm.evaluate.controls import ORDERS, reliable
from musiclm.evaluate.distance import frechet_distance, frechet_infinity, kernel_distance
from musiclm.evaluate.run import EvaluateConfig, Study
from musiclm.evaluate.sets import pink_noise
from musiclm.listen.judge import Judge
from musiclm.models.soundstream.model import SoundStream

CLIPS = sorted((Path(__file__).parent.parent / "data" / "clips").glob("*.ogg"))


def test_orders_by_hand() -> None:
    rows = {"real": {"beat_strength": {"value": 0.5}}, "noise": {"beat_strength": {"value": 0.1}}}
    assert reliable("music", rows) == {"beat_strength": True}
    rows["noise"]["beat_strength"]["value"] = 0.5
    assert reliable("music", rows) == {"beat_strength": False}, "equal is not in order"
    assert reliable("music", {"real": {"beat_strength": {"value": float("nan")}}, "noise": rows["noise"]}) == {}
    codec = {f"opus_{k}_kbps": {"mel_distance_db": 30 - k} for k in (6, 12, 24)}
    assert reliable("codec", codec) == {"mel_distance_db": True}
    codec["opus_12_kbps"]["mel_distance_db"] = 40
    assert reliable("codec", codec) == {"mel_distance_db": False}


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CLIP_S", 5.5)
        patch.setattr(run, "LONG_S", 9.0)
        folder = tmp_path_factory.mktemp("report")
        return Study(
            "base", folder, corpus=corpus, config=EvaluateConfig(num_prompts=2, num_long=1), say=lambda _: None
        )


@pytest.mark.skipif(find_spec("musicnn") is None, reason="the judge's weights are not installed")
def test_distances_put_real_music_before_the_codec_and_that_before_noise() -> None:
    codec = SoundStream.from_artifact(open_bundle("base").part("soundstream")).eval()
    pieces = [load(path)[: 3 * 76800].reshape(3, 76800) for path in CLIPS]  # 3.2 s each
    sets = {"real": [piece[0] for piece in pieces], "reference": [clip for piece in pieces for clip in piece[1:]]}
    with torch.no_grad():
        sets["codec"] = [
            codec.decode(codec.encode(torch.from_numpy(clip)[None, None], 4))[0, 0].numpy() for clip in sets["real"]
        ]
    rng = np.random.default_rng(0)
    sets["noise"] = [pink_noise(len(clip), float(clip.std()), rng) for clip in sets["real"]]
    heard = {name: Judge()(clips)[0] for name, clips in sets.items()}
    for measure in (frechet_distance, frechet_infinity, kernel_distance):
        real, coded, noise = (measure(heard[name], heard["reference"]) for name in ("real", "codec", "noise"))
        assert real < coded < noise, (measure.__name__, real, coded, noise)


@pytest.mark.skipif(find_spec("musicnn") is None, reason="the judge's weights are not installed")
@pytest.mark.parametrize("section", ["health", "music", "form", "semantic"])
def test_real_music_and_its_controls_are_put_in_order(study: Study, section: str) -> None:
    rows = study.sections()[section]()["rows"]
    found = reliable(section, rows)
    wanted = {order.figure for order in ORDERS if order.section == section}
    wanted -= {"periodicity_8s"}  # the excerpts are shorter; test_music.py holds it
    if find_spec("basic_pitch") is None:
        wanted -= {"note_density", "polyphony"}
    assert found.keys() == wanted
    assert all(found.values()), {name: {row: rows[row].get(name) for row in rows} for name in found if not found[name]}
