"""Promises of generation: exact length, same seed same bytes, batch = single, stream = whole, prompts that matter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from musiclm.core.artifact import ArtifactError
from musiclm.core.bundle import Bundle
from musiclm.generate.autoregressive import stream_semantic
from musiclm.generate.config import GenerateConfig, item_generator
from musiclm.generate.music import Music, output_paths, read_tags
from musiclm.generate.session import MusicLM
from musiclm.generate.steer import Steer
from tests.mock import mock_bundle


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> MusicLM:
    return MusicLM.from_pretrained(bundle.folder)


@pytest.mark.parametrize("acoustic", ["storm", "ar"])
@pytest.mark.parametrize("duration_s", [0.5, 0.77777, 2.0])
def test_the_duration_is_exact_to_the_sample(model: MusicLM, acoustic: str, duration_s: float) -> None:
    config = replace(model.default_config(), acoustic=acoustic)
    music = model.generate("slow piano music", duration_s=duration_s, seed=3, config=config)
    assert music.audio.shape == (1, round(duration_s * 24000)) and music.sample_rate_hz == 24000
    assert np.abs(music.audio).max() <= 1 and np.isfinite(music.audio).all() and music.audio.std() > 0


def test_past_the_window_of_30_s(model: MusicLM) -> None:
    music = model.generate("fast music", duration_s=33.3)
    assert music.audio.shape[1] == round(33.3 * 24000)


@pytest.mark.parametrize("acoustic", ["storm", "ar"])
def test_same_seed_same_bytes_other_seed_other_music(model: MusicLM, acoustic: str) -> None:
    config = replace(model.default_config(), acoustic=acoustic)
    first, again, other = (model.generate("slow music", 1.0, seed, config).audio for seed in (5, 5, 6))
    assert first.tobytes() == again.tobytes()
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("acoustic", ["storm", "ar"])
def test_an_item_of_a_batch_equals_the_single_run(model: MusicLM, acoustic: str) -> None:
    config = replace(model.default_config(), acoustic=acoustic)
    prompts = ["slow music", "fast music", "slow piano"]
    batch = model.generate(prompts, 1.0, 10, config)
    assert batch.seeds == (10, 11, 12) and len(batch) == 3
    for i, prompt in enumerate(prompts):
        single = model.generate(prompt, 1.0, batch.seeds[i], config)
        assert single.audio[0].tobytes() == batch.audio[i].tobytes() == batch[i].audio[0].tobytes()


def test_the_stream_equals_the_whole(model: MusicLM) -> None:
    pieces = list(model.stream("slow music", 25.0, seed=2))
    assert len(pieces) > 2, "it comes in pieces"
    assert np.concatenate(pieces).tobytes() == model.generate("slow music", 25.0, seed=2).audio[0].tobytes()


def test_the_first_sound_does_not_wait_for_all_semantic_tokens(model: MusicLM) -> None:
    seen: dict[str, tuple[int, int]] = {}
    stream = model.stream("slow music", 25.0, seed=2, on_progress=lambda stage, *done: seen.update({stage: done}))
    first = next(stream)
    made, total = seen["semantic"]
    assert len(first) and made < total == 625
    rest = list(stream)
    assert seen["semantic"] == (625, 625) and sum(map(len, [first, *rest])) == 25 * 24000


def test_the_first_sound_waits_for_the_tokens_of_its_window_alone(model: MusicLM) -> None:
    config = model.default_config()
    config = replace(config, storm=replace(config.storm, first_window_s=1.48))
    seen = []
    next(model.stream("slow music", 25.0, seed=2, config=config, on_progress=lambda *done: seen.append(done)))
    assert max(done for stage, done, _ in seen if stage == "semantic") == 37


@pytest.mark.parametrize("acoustic", ["storm", "ar"])
def test_rendering_semantic_codes_is_what_the_stream_does(model: MusicLM, acoustic: str) -> None:
    config = replace(model.default_config(), acoustic=acoustic, levels=3)
    mulan, generators = model.text_codes("slow music"), [item_generator(7, "semantic")]
    steering = model.steering(config.steer, "slow music")
    pieces = stream_semantic(model.semantic, mulan, 50, config.semantic, generators, steering=steering)
    codes = torch.cat(list(pieces), 2)
    rendered = np.concatenate(list(model.render(codes, mulan, 7, config)))
    assert rendered.tobytes() == model.generate("slow music", 2.0, 7, config).audio[0].tobytes()

    acoustic_codes = model.acoustic_decoder(config).generate(codes, mulan, [item_generator(7, acoustic)])
    whole = model.soundstream.decode(acoustic_codes[:, :3])[0, 0].clamp(-1, 1).detach().numpy()
    np.testing.assert_allclose(rendered, whole, atol=1e-4)
    assert not np.array_equal(rendered, np.concatenate(list(model.render(codes, None, 8, config))))
    with pytest.raises(ValueError, match="seed must be"):
        next(model.render(codes, mulan, -1, config))


def test_fewer_levels_are_other_audio_of_the_same_codes(model: MusicLM) -> None:
    config = model.default_config()
    few, all_of_them = (model.generate("slow music", 1.0, 2, replace(config, levels=n)).audio for n in (1, 12))
    assert few.shape == all_of_them.shape and not np.array_equal(few, all_of_them)
    assert all_of_them.tobytes() == model.generate("slow music", 1.0, 2, replace(config, levels=None)).audio.tobytes()
    with pytest.raises(ValueError, match="levels is 0"):
        replace(config, levels=0)


def test_a_temperature_that_does_nothing_is_refused(model: MusicLM) -> None:
    storm, ar = model.default_config("storm"), model.default_config("ar")
    assert model.with_temperatures(storm, storm=0.3).storm.temperature == 0.3
    both = model.with_temperatures(ar, coarse=0.3, fine=0.2)
    assert (both.coarse.temperature, both.fine.temperature) == (0.3, 0.2)
    assert model.with_temperatures(ar) == ar
    for config, wanted in ((storm, {"coarse": 1.0}), (storm, {"fine": 0.4}), (ar, {"storm": 1.0})):
        (stage,) = wanted
        with pytest.raises(ValueError, match=f"the {stage} temperature does nothing here"):
            model.with_temperatures(config, **wanted)
    with pytest.raises(ValueError, match="fine temperature does nothing here: 4 levels"):
        model.with_temperatures(replace(ar, levels=4), fine=0.4)


def test_a_bundle_without_coarse_and_fine_stages_says_so(bundle: Bundle) -> None:
    """As `base` is."""
    parts = {part: folder for part, folder in bundle.parts.items() if part not in ("coarse", "fine")}
    whole = MusicLM.from_pretrained(bundle.folder)
    model = MusicLM(replace(bundle, parts=parts), whole.soundstream, whole.mulan, whole.semantic)
    with pytest.raises(ArtifactError, match="the bundle mock has no coarse and fine stages.*musiclm train coarse"):
        model.acoustic_decoder(model.default_config("ar"))


def test_the_random_state_outside_does_not_matter(model: MusicLM) -> None:
    torch.manual_seed(1)
    first = model.generate("slow music", 0.6, 4).audio
    torch.manual_seed(2)
    torch.rand(7)
    assert first.tobytes() == model.generate("slow music", 0.6, 4).audio.tobytes()


def test_two_prompts_differ(model: MusicLM) -> None:
    assert not torch.equal(model.text_codes("slow piano"), model.text_codes("fast"))
    slow, fast = (model.generate(prompt, 1.0, seed=1).audio for prompt in ("slow piano", "fast"))
    assert not np.array_equal(slow, fast)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": ""}, "prompt is empty"),
        ({"prompts": "   \n"}, "prompt is empty"),
        ({"prompts": []}, "no prompts"),
        ({"prompts": "a" * 10_001}, "10001 characters"),
        ({"prompts": [3]}, "must be text, got int"),
        ({"duration_s": 0.0}, r"duration is 0\.0 s"),
        ({"duration_s": -1.0}, "must lie between"),
        ({"duration_s": float("nan")}, "duration is nan"),
        ({"duration_s": 601.0}, "600 s"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1.5}, "seed must be"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_says_what_and_which(model: MusicLM, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate(**{"prompts": "music", "duration_s": 0.5, **arguments})


def test_a_long_or_foreign_prompt_still_makes_music(model: MusicLM) -> None:
    for prompt in ("slow " * 1999, "静かなピアノの曲", "🎹🎹"):
        assert model.generate(prompt, 0.5).audio.std() > 0


@pytest.mark.usefixtures("unchecked")
def test_decoders_and_devices_have_names(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="storm or ar, got 'fast'"):
        GenerateConfig(acoustic="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device 'meta' is not available"):
        MusicLM.from_pretrained(bundle.folder, device="meta")
    with pytest.raises(ValueError, match="no device is called 'gpu'"):
        MusicLM.from_pretrained(bundle.folder, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'cuda' is not available"):
            MusicLM.from_pretrained(bundle.folder, device="cuda")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_a_saved_file_says_what_it_is(model: MusicLM, tmp_path: Path, suffix: str) -> None:
    music = model.generate("slow café music", 1.0, seed=8)
    (path,) = music.save(tmp_path / f"a{suffix}")
    tags = read_tags(path)
    assert (tags["prompt"], tags["seed"], tags["generated"]) == ("slow café music", "8", "true")
    assert tags["model"] == model.bundle.hash
    if suffix in (".wav", ".flac"):
        audio, rate = soundfile.read(path)
        assert rate == 24000 and len(audio) == 24000
        np.testing.assert_allclose(audio, music.audio[0], atol=1 / 32000)


def test_the_same_music_makes_the_same_file(model: MusicLM, tmp_path: Path) -> None:
    for suffix in (".wav", ".flac", ".ogg", ".mp3"):
        files = [model.generate("slow", 0.5, 1).save(tmp_path / f"{name}{suffix}")[0] for name in "ab"]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_several_items_are_numbered_and_play_in_a_notebook(model: MusicLM, tmp_path: Path) -> None:
    music = model.generate(["slow", "fast <b>"], 0.5)
    assert [path.name for path in music.save(tmp_path / "a.wav")] == ["a-1.wav", "a-2.wav"]
    assert output_paths("x/y.ogg", 1) == [Path("x/y.ogg")]
    html = music._repr_html_()
    assert html.count("<audio") == 2 and "&lt;b>" in html
    assert isinstance(music[1], Music) and music[1].prompts == ("fast <b>",) and music.duration_s == 0.5


def test_a_tempo_and_a_key_steer_whether_said_or_set(model: MusicLM) -> None:
    config = model.default_config()
    said = model.generate("slow music at 150 BPM in D minor", 3.0, 1).audio
    free = model.generate(
        "slow music at 150 BPM in D minor", 3.0, 1, replace(config, steer=Steer(tempo=0, key=0))
    ).audio
    other = replace(config, steer=Steer(tempo_bpm=60.0))
    assert not np.array_equal(said, free)
    assert not np.array_equal(said, model.generate("slow music at 150 BPM in D minor", 3.0, 1, other).audio)
    again = replace(config, steer=Steer(tempo_bpm=150.0, key_name="D minor"))
    assert np.array_equal(said, model.generate("slow music at 150 BPM in D minor", 3.0, 1, again).audio)


def test_codes_without_cues_are_not_steered(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musiclm.generate.session.load_cues", lambda folder: None)
    model = MusicLM.from_pretrained(bundle.folder)
    assert model.steering(Steer(), "at 150 BPM in D minor") == []
    assert model.generate("slow music at 150 BPM", 1.0).audio.any()
    for asked in (Steer(tempo_bpm=120.0), Steer(key_name="D minor")):
        with pytest.raises(ValueError, match="made without cues"):
            model.generate("slow music", 1.0, config=replace(model.default_config(), steer=asked))


def test_what_was_understood_is_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MusicLM.from_pretrained(bundle.folder)
    assert model.understood(Steer(), "at 150 BPM in Am") == "tempo 150 BPM (prompt), key A minor (prompt)"
    monkeypatch.setattr("musiclm.generate.session.load_cues", lambda folder: None)
    model = MusicLM.from_pretrained(bundle.folder)
    assert model.understood(Steer(), "at 150 BPM").endswith("; the bundle mock can keep to neither")
    assert model.understood(Steer(), "slow music") == "no tempo in numbers, no key"


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> MusicLM:
    """Semantic frames of four codes, read whole; SoundStorm with small tables; a codec of bands whose codes hold."""
    return MusicLM.from_pretrained(mock_bundle(Path(tmp_path_factory.mktemp("four")), harmony=True).folder)


@pytest.mark.parametrize("acoustic", ["storm", "ar"])
def test_promises_hold_for_semantic_frames_of_four_codes(four: MusicLM, acoustic: str) -> None:
    config = replace(four.default_config(), acoustic=acoustic)
    prompts = ["slow music", "fast music"]
    batch = four.generate(prompts, 1.07777, 10, config)
    assert batch.audio.shape == (2, round(1.07777 * 24000)) and np.isfinite(batch.audio).all()
    assert batch.audio.std() > 0 and not np.array_equal(*batch.audio)
    single = four.generate(prompts[1], 1.07777, batch.seeds[1], config)
    assert single.audio[0].tobytes() == batch.audio[1].tobytes()
    pieces = list(four.stream(prompts[1], 1.07777, batch.seeds[1], config))
    assert np.concatenate(pieces).tobytes() == single.audio[0].tobytes()


def test_a_tempo_or_a_key_steers_frames_of_four_codes(four: MusicLM) -> None:
    config = four.default_config()
    free, timed, keyed = (
        four.generate("slow music", 1.0, 1, replace(config, steer=steer)).audio
        for steer in (Steer(tempo=0, key=0), Steer(tempo_bpm=150.0), Steer(key_name="D minor"))
    )
    assert not np.array_equal(free, timed) and not np.array_equal(free, keyed)
