"""Takes give the sound they were saved with again, say what made them, and music goes on from them and from sound
files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from musiclm.core.artifact import ArtifactError
from musiclm.core.audio import AudioError, load
from musiclm.core.bundle import Bundle
from musiclm.core.config import from_json, to_json
from musiclm.core.output import OutputError
from musiclm.generate.config import GenerateConfig
from musiclm.generate.music import Music, read_tags
from musiclm.generate.session import MusicLM
from musiclm.generate.splice import cross_fade
from musiclm.generate.take import About, Parent, describe_take, load_take, sound_of
from musiclm.nn.sampling import Sampling
from tests.mock import mock_bundle

FADE = 1200  # 50 ms


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> MusicLM:
    return MusicLM.from_pretrained(bundle.folder)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> MusicLM:
    """Semantic frames of four codes, and a codec of bands: frames of both streams begin together every 80 ms."""
    return MusicLM.from_pretrained(mock_bundle(Path(tmp_path_factory.mktemp("four")), harmony=True).folder)


@pytest.fixture(scope="module")
def first(model: MusicLM) -> Music:
    return model.generate("slow music", 1.33, 3)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """2.01 s: the joint comes at 2 s."""
    time_s = np.arange(round(2.01 * 24000)) / 24000
    sound = 0.3 * np.sin(2 * np.pi * 220 * time_s) * (0.6 + 0.4 * np.sin(2 * np.pi * 2 * time_s))
    soundfile.write(tmp_path / "song.wav", sound, 24000)
    return tmp_path / "song.wav"


# -- takes


@pytest.mark.parametrize(("which", "acoustic"), [("model", "storm"), ("model", "ar"), ("four", "storm")])
def test_a_take_gives_the_same_sound_again(
    request: pytest.FixtureRequest, tmp_path: Path, which: str, acoustic: str
) -> None:
    model: MusicLM = request.getfixturevalue(which)
    config = replace(model.default_config(), acoustic=acoustic, levels=3)
    music = model.generate(["slow music", None], 1.1, 7, config)
    files = music.save(tmp_path / "a.ogg", take=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.ogg", "a-1.take", "a-2.ogg", "a-2.take"]
    for i, file in enumerate(files):
        again = model.from_take(file.with_suffix(".take"))
        assert again.audio[0].tobytes() == music.audio[i].tobytes()
        (same,) = again.save(tmp_path / "same.ogg")
        assert same.read_bytes() == file.read_bytes(), "tags too"
    take = load_take(tmp_path / "a-1.take")
    assert take.id == music.takes[0].id != music.takes[1].id and take.about == music.takes[0].about
    assert take.about.config == config and (take.about.seed, take.about.prompt) == (7, "slow music")
    assert take.about.bundle_hash == model.bundle.hash and take.semantic.dtype == take.acoustic.dtype == np.uint8
    assert np.array_equal(take.mulan, model.text_codes("slow music")[0])


def test_a_file_depends_on_the_take_alone_and_is_small(model: MusicLM, first: Music, tmp_path: Path) -> None:
    model.generate("slow music", 1.33, 3).takes[0].save(tmp_path / "a.take")
    first.takes[0].save(tmp_path / "b.take")
    assert (tmp_path / "a.take").read_bytes() == (tmp_path / "b.take").read_bytes()
    codes = sum(array.nbytes for array in first.takes[0].arrays.values())
    assert codes < 1000 * 1.33 and (tmp_path / "a.take").stat().st_size < codes + 2500


def test_a_take_is_never_written_over(first: Music, tmp_path: Path) -> None:
    first.save(tmp_path / "a.wav", take=True)
    before = (tmp_path / "a.wav").stat().st_mtime_ns
    with pytest.raises(OutputError, match=r"a\.take: is there already"):
        first.save(tmp_path / "a.wav", take=True)
    assert (tmp_path / "a.wav").stat().st_mtime_ns == before, "nor is the sound, when its take can't be"


def test_a_take_of_another_codec_is_refused(first: Music, four: MusicLM, tmp_path: Path) -> None:
    first.takes[0].save(tmp_path / "a.take")
    for use in (four.from_take, four.given):
        with pytest.raises(ArtifactError, match="the take was made by the bundle 'mock'") as refused:
            use(tmp_path / "a.take")
        assert "\n" not in str(refused.value)


def changed(path: Path, change: Callable[[dict, dict], None]) -> None:
    """Writes a take anew with its document and codes changed in place."""
    from musiclm.core import tensors

    with tensors.reader(path, "np") as file:
        told = json.loads(file.metadata()["take"])
    arrays = load_file(path)
    change(told, arrays)
    save_file(arrays, path, {"take": json.dumps(told)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told, arrays: told["about"].update(seed=4), "is damaged"),
        (lambda told, arrays: arrays["acoustic"].__setitem__((0, 0), arrays["acoustic"][0, 0] ^ 1), "is damaged"),
        (lambda told, arrays: arrays.pop("mulan"), "is damaged"),
        (lambda told, arrays: told.update(kind="other"), "no take; make one"),
        (lambda told, arrays: told.update(format=2), "has format 2"),
        (lambda told, arrays: told.update(id=3), "no take of this version"),
        (lambda told, arrays: told["about"].update(seed=-1), "seed must be"),
        (lambda told, arrays: told["about"].update(duration_s=float("nan")), "duration is nan"),
        (lambda told, arrays: told["about"].update(mood="calm"), "unknown setting 'mood'"),
        (lambda told, arrays: told["about"].update(condition="none"), "condition is 'none'"),
        (lambda told, arrays: arrays.update(semantic=arrays["semantic"].astype(np.float32)), "no take of this version"),
        (lambda told, arrays: arrays.update(semantic=np.zeros((1, 1 << 18), np.uint8)), "no take of this version"),
        (lambda told, arrays: arrays.update(more=np.zeros((1, 1), np.uint8)), "no take of this version"),
        (lambda told, arrays: arrays.update(semantic=np.zeros((1, 1 << 25), np.uint8)), "more than any take"),
    ],
)
def test_what_is_no_take_is_refused_in_a_line(first: Music, tmp_path: Path, change: Callable, message: str) -> None:
    path = first.takes[0].save(tmp_path / "a.take")
    changed(path, change)
    with pytest.raises(ArtifactError, match=message) as refused:
        load_take(path)
    assert "\n" not in str(refused.value)


def test_files_of_other_kinds_are_refused_too(first: Music, tmp_path: Path) -> None:
    path = first.takes[0].save(tmp_path / "a.take")
    whole = path.read_bytes()
    for content in (b"", b"sound", whole[:200], whole[:-1], b"\x80\x04pickle" * 9):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="no take, or a damaged one"):
            load_take(path)
    for name in ("none.take", "."):
        with pytest.raises(ArtifactError, match="no such file"):
            load_take(tmp_path / name)


def test_codes_that_the_codec_can_not_have_are_refused(model: MusicLM, first: Music) -> None:
    take = first.takes[0]
    for wrong in (
        replace(take, acoustic=take.acoustic + np.uint8(200)),
        replace(take, acoustic=np.tile(take.acoustic, (2, 1))),
        replace(take, about=replace(take.about, duration_s=9.0)),
    ):
        with pytest.raises(ArtifactError, match="damaged"):
            list(sound_of(wrong, model.soundstream))


text = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=30).map(str.strip).filter(bool)
number = st.floats(0.01, 100)
configs = st.builds(
    GenerateConfig,
    semantic=st.builds(Sampling, temperature=number, top_k=st.none() | st.integers(1, 99), guidance=number),
    acoustic=st.sampled_from(["storm", "ar"]),
    levels=st.none() | st.integers(1, 99),
)
parents = st.builds(
    Parent,
    kind=st.sampled_from(["take", "audio"]),
    hash=text,
    name=text.filter(lambda name: name == Path(name).name),
    joint_samples=st.integers(FADE, 2**52),
    context_samples=st.integers(FADE, 2**52),
)
abouts = st.builds(
    About,
    prompt=text,
    condition=st.just("text"),
    seed=st.integers(0, 2**63 - 1),
    duration_s=st.floats(0.5, 600),
    sample_rate_hz=st.just(24000),
    config=configs,
    bundle=text,
    bundle_hash=text,
    encoders=st.dictionaries(text, text, max_size=3),
    parent=st.none() | parents,
    pieces=st.lists(st.integers(1, 1000), max_size=5).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(abouts)
def test_what_a_take_says_comes_back(about: About) -> None:
    assert from_json(About, json.loads(json.dumps(to_json(about)))) == about


# -- without a prompt


def test_music_without_a_prompt(model: MusicLM, first: Music, tmp_path: Path) -> None:
    music = model.generate(None, 1.33, 3)
    assert music.prompts == (None,) and music.takes[0].mulan is None
    assert not np.array_equal(music.audio, first.audio)
    (path,) = music.save(tmp_path / "a.wav", take=True)
    tags = read_tags(path)
    assert "prompt" not in tags and tags["condition"] == "none" and tags["title"] == "music without a prompt"
    strong = replace(model.default_config(), semantic=Sampling(guidance=9.0))
    assert np.array_equal(music.audio, model.generate(None, 1.33, 3, strong).audio), "nothing to be guided by"
    assert "without a prompt" in music._repr_html_()
    assert np.concatenate(list(model.stream(None, 1.33, 3))).tobytes() == music.audio[0].tobytes()


# -- going on


@pytest.mark.parametrize(("which", "acoustic"), [("model", "storm"), ("model", "ar"), ("four", "storm")])
def test_the_given_part_stays_as_it_is(request: pytest.FixtureRequest, song: Path, which: str, acoustic: str) -> None:
    model: MusicLM = request.getfixturevalue(which)
    config = replace(model.default_config(), acoustic=acoustic)
    music = model.extend(song, None, 1.5, 2, config)
    original, about = load(song), music.takes[0].about
    assert about.parent is not None and about.parent.joint_samples == 48000 == about.parent.context_samples
    assert music.audio.shape == (1, 48000 + 36000) and np.isfinite(music.audio).all()
    assert music.audio[0, : 48000 - FADE].tobytes() == original[: 48000 - FADE].tobytes()
    again = model.extend(song, None, 1.5, 2, config)
    assert again.audio.tobytes() == music.audio.tobytes() and again.takes[0].id == music.takes[0].id
    assert not np.array_equal(music.audio, model.extend(song, None, 1.5, 3, config).audio)
    alone = model.extend(song, None, 1.5, 2, config, new_only=True)
    assert np.array_equal(alone.audio[0], music.audio[0, 48000:])
    # no jump at the joint or in the fade that is larger than those of the sounds on its sides
    jumps = np.abs(np.diff(music.audio[0]))
    around = max(jumps[:46000].max(), jumps[48000:].max())
    assert jumps[48000 - FADE - 1 : 48001].max() <= 1.5 * around


def test_music_goes_on_from_a_take_as_from_the_music(model: MusicLM, first: Music, tmp_path: Path) -> None:
    first.save(tmp_path / "a.wav", take=True)
    by_file, by_music = (model.extend(source, None, 1.0, 5) for source in (tmp_path / "a.take", first))
    assert by_file.audio.tobytes() == by_music.audio.tobytes()
    assert by_file.prompts == ("slow music",), "its condition holds"
    about = by_file.takes[0].about
    joint = int(1.33 * 25) * 960
    assert about.parent is not None and about.parent.hash == first.takes[0].id and about.parent.name == "a.take"
    assert by_file.audio.shape[1] == joint + 24000
    assert by_file.audio[0, : joint - FADE].tobytes() == first.audio[0, : joint - FADE].tobytes()
    # context and what is new
    assert by_file.takes[0].semantic.shape == (1, 33 + 25)
    assert np.array_equal(by_file.takes[0].semantic[:, :33], first.takes[0].semantic[:, :33])
    assert np.array_equal(by_file.takes[0].acoustic[:, :66], first.takes[0].acoustic[:, :66])
    other = model.extend(first, "fast music", 1.0, 5)
    assert other.prompts == ("fast music",) and not np.array_equal(other.audio, by_file.audio)
    with pytest.raises(ValueError, match="music of 2 items"):
        model.extend(model.generate(["slow", "fast"], 0.5))


def test_a_family_of_takes(model: MusicLM, song: Path, tmp_path: Path) -> None:
    """A recording, two takes after it, each rendered again from what lies beside it."""
    one = model.extend(song, "slow music", 1.0, 1)
    one.save(tmp_path / "one.flac", take=True)
    two = model.extend(tmp_path / "one.take", None, 1.0, 2)
    two.save(tmp_path / "two.flac", take=True)
    assert two.audio.shape[1] == 48000 + 24000 + 24000 and two.takes[0].about.condition == "text"
    assert read_tags(tmp_path / "two.flac")["continues"] == "one.take"
    assert model.from_take(tmp_path / "two.take").audio.tobytes() == two.audio.tobytes()
    told = describe_take(tmp_path / "two.take")
    assert [(line["kind"], line["name"], line["found"]) for line in told["parents"]] == [
        ("take", "one.take", True),
        ("audio", "song.wav", True),
    ]
    assert told["id"] == two.takes[0].id and told["parents"][0]["hash"] == one.takes[0].id
    assert told["parents"][0]["joint_s"] == 3.0 and told["parents"][0]["prompt"] == "slow music"
    (tmp_path / "one.take").rename(tmp_path / "renamed.take")
    assert describe_take(tmp_path / "two.take")["parents"][0]["name"] == "renamed.take", "found by its id"
    soundfile.write(song, np.zeros(48000), 24000)
    assert not describe_take(tmp_path / "two.take")["parents"][1]["found"], "another recording of that name"
    with pytest.raises(ArtifactError, match=r"goes on from the audio song\.wav .* not beside it"):
        model.from_take(tmp_path / "two.take")
    (tmp_path / "renamed.take").unlink()
    assert not describe_take(tmp_path / "two.take")["parents"][0]["found"]
    with pytest.raises(ArtifactError, match=r"goes on from the take one\.take"):
        model.from_take(tmp_path / "two.take")


def test_of_a_long_recording_the_models_read_the_last_window(model: MusicLM, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 34 * 24000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 24000, "FLOAT")
    soundfile.write(tmp_path / "b.wav", np.concatenate([noise[: 3 * 24000] * 0.5, noise[3 * 24000 :]]), 24000, "FLOAT")
    a, b = (model.extend(tmp_path / f"{name}.wav", None, 0.5, 1) for name in "ab")
    about = a.takes[0].about
    assert about.parent is not None and about.parent.context_samples == 30 * 24000 and a.audio.shape[1] == 34.5 * 24000
    assert np.array_equal(a.takes[0].semantic, b.takes[0].semantic)
    assert a.takes[0].semantic.shape[1] == 30 * 25 + 13
    assert np.array_equal(a.audio[0, 34 * 24000 :], b.audio[0, 34 * 24000 :])
    assert np.array_equal(b.audio[0, : 33 * 24000], load(tmp_path / "b.wav")[: 33 * 24000])


def test_what_can_not_be_gone_on_from(model: MusicLM, first: Music, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(9600), 24000)
    with pytest.raises(AudioError, match=r"0\.40 s, too short"):
        model.extend(tmp_path / "short.wav")
    with pytest.raises(AudioError, match="no such file"):
        model.extend(tmp_path / "none.wav")
    coarse = model.generate("slow", 0.6, 1, replace(model.default_config("ar"), levels=4))
    assert coarse.takes[0].acoustic.shape[0] == 4
    with pytest.raises(ArtifactError, match="has 4 acoustic levels, and the decoder storm needs 12"):
        model.extend(coarse)
    assert model.extend(coarse, None, 0.5, 1, coarse.takes[0].about.config).audio.std() > 0
    with pytest.raises(ValueError, match="the prompt is empty"):
        model.extend(first, " ")


def test_silence_can_be_gone_on_from(model: MusicLM, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(24000), 24000)
    assert np.isfinite(model.extend(tmp_path / "silence.wav", None, 0.5).audio).all()


def test_a_cross_fade_is_as_loud_as_its_sides() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(0, 0.1, (2, 24000)).astype(np.float32)
    assert np.allclose(cross_fade(a, a), a, atol=1e-6)
    faded = cross_fade(a, b)
    assert abs(faded[8000:16000].std() - 0.1) < 0.005
    assert np.allclose(faded[:10], a[:10], atol=1e-3) and np.allclose(faded[-10:], b[-10:], atol=1e-3)
