"""Edits change what they were asked to change, fit, say what they did, and come back from their takes to the byte."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from musiclm.core.artifact import ArtifactError
from musiclm.core.audio import AudioError, load
from musiclm.core.bundle import Bundle
from musiclm.generate import edit
from musiclm.generate.autoregressive import decode, log_likelihood, stream_semantic
from musiclm.generate.music import Music, read_tags
from musiclm.generate.pulse import measured_tempo
from musiclm.generate.session import MusicLM
from musiclm.generate.splice import circular, spliced
from musiclm.generate.story import Story
from musiclm.generate.take import About, Drafts, Loop, Parent, Repaint, begin_at_joint, describe_take, load_take
from musiclm.nn.sampling import Sampling
from tests.mock import mock_bundle
from tests.toy import generators

RATE, FADE = 24000, 1200  # 50 ms


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> MusicLM:
    return MusicLM.from_pretrained(bundle.folder)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> MusicLM:
    """Semantic frames of four codes, and a codec of bands: frames of both streams begin together every 80 ms."""
    return MusicLM.from_pretrained(mock_bundle(Path(tmp_path_factory.mktemp("four")), harmony=True).folder)


@pytest.fixture(scope="module")
def first(model: MusicLM) -> Music:
    return model.generate("slow music", 3.33, 3)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """4.01 s with four strokes a second."""
    time_s = np.arange(round(4.01 * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 220 * time_s) * np.exp(-8 * (time_s % 0.25))
    soundfile.write(tmp_path / "song.wav", sound, RATE)
    return tmp_path / "song.wav"


def change(audio: np.ndarray) -> np.ndarray:
    """Of the log spectrum from each 21 ms frame to the next."""
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(audio, np.float64), 512)[::512]
    spectra = np.log(np.abs(np.fft.rfft(frames * np.hanning(512))) + 1e-3)
    return np.linalg.norm(np.diff(spectra, axis=0), axis=1)


# -- stories


@pytest.fixture(scope="module")
def told(model: MusicLM) -> Music:
    """A story with a blend: its second condition begins with frame 50, its last with frame 72."""
    story = Story.parse("0:00 slow piano\n0:02 fast music tempo=140", blend_s=0.9)
    return model.generate(story, 3.84, 1)


def by_the_prompt(model: MusicLM, prompt: str, tempo_bpm: float | None = None) -> dict:
    """What an edit is asked for by hand that the story asks for there."""
    config = model.default_config()
    return {"prompt": prompt, "config": replace(config, steer=replace(config.steer, tempo_bpm=tempo_bpm))}


def test_a_part_of_a_story_is_made_anew_by_its_own_prompt(model: MusicLM, told: Music) -> None:
    """Away from changes an edit without a prompt is that of the prompt there, code for code."""
    for span, asked in (
        ((0.6, 1.4), by_the_prompt(model, "slow piano")),
        ((3.0, 3.6), by_the_prompt(model, "fast music", 140.0)),
    ):
        own, by_hand = (
            model.repaint(told, *span, seed=1, drafts=1),
            model.repaint(told, *span, seed=1, drafts=1, **asked),
        )
        for name in ("semantic", "acoustic"):
            assert np.array_equal(own.takes[0].arrays[name], by_hand.takes[0].arrays[name])
        assert own.audio.tobytes() == by_hand.audio.tobytes() and by_hand.takes[0].about.story is None
        assert own.takes[0].about.story == told.takes[0].about.story
        assert np.array_equal(own.takes[0].mulan, told.takes[0].mulan)  # type: ignore[arg-type]


def test_a_span_over_a_change_follows_both_prompts(
    model: MusicLM, told: Music, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = told.takes[0]
    seen: list[list[tuple[int, torch.Tensor]]] = []

    def watched(lm: object, schedule: object, *rest: object, **more: object) -> Iterator[torch.Tensor]:
        seen.append([(frame, one.mulan) for frame, one in schedule.changes])  # type: ignore[attr-defined]
        return stream_semantic(lm, schedule, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(edit, "stream_semantic", watched)
    music = model.repaint(told, 1.4, 3.0, seed=1, drafts=1)
    columns = torch.from_numpy(before.mulan.astype(np.int64))[None]  # type: ignore[union-attr]
    assert [frame for frame, _ in seen[0]] == [0, 50, 72] == [frame for frame, _ in model.schedule_of(before).changes]
    for place, (_, mulan) in enumerate(seen[0]):
        assert torch.equal(mulan, columns[:, :, place : place + 1])
    first = model.repaint(told, 1.4, 3.0, seed=1, drafts=1, **by_the_prompt(model, "slow piano"))
    last = model.repaint(told, 1.4, 3.0, seed=1, drafts=1, **by_the_prompt(model, "fast music", 140.0))
    codes = [one.takes[0].semantic[:, 35:75] for one in (music, first, last)]
    assert np.array_equal(codes[0][:, :15], codes[1][:, :15]) and not np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0][:, :15], codes[2][:, :15])
    for name, one in (("a.wav", told), ("b.wav", music)):
        one.save(tmp_path / name, take=True)
    assert model.from_take(tmp_path / "b.take").audio.tobytes() == music.audio.tobytes()
    again = model.repaint(tmp_path / "b.take", 0.5, 1.5, seed=2, drafts=1)
    assert again.takes[0].about.story == before.about.story, "an edit of an edit knows the story, too"
    assert [frame for frame, _ in seen[-1]] == [0, 50, 72]
    model.vary(told, 0.5, seed=1)
    assert [frame for frame, _ in seen[-1]] == [0, 50, 72]
    with pytest.raises(ValueError, match="the story begins at sample 5"):
        replace(before.about, story_samples=5)


def test_what_follows_is_judged_by_the_prompts_that_hold_there(model: MusicLM, told: Music) -> None:
    """The score of a draft is the mean over both parts, each under its own condition."""
    take = model.repaint(told, 0.8, 1.6, seed=3, drafts=2).takes[0]
    semantic = torch.from_numpy(take.semantic.astype(np.int64))[None]
    columns = torch.from_numpy(take.mulan.astype(np.int64))[None].split(1, 2)  # type: ignore[union-attr]
    sums = [
        (stop - start) * float(log_likelihood(model.semantic, mulan, semantic[:, :, :stop], start)[0])
        for mulan, start, stop in zip(columns, (40, 50, 72), (50, 72, 90), strict=True)
    ]
    drafts = take.about.drafts
    assert drafts is not None and sum(sums) / 50 == pytest.approx(drafts.scores[drafts.best], abs=1e-3)


def test_a_loop_of_a_story_has_its_place_in_it(model: MusicLM, told: Music, tmp_path: Path) -> None:
    """From 1.6 s on, of two bars of 0.8 s: frame 40 of the story is the loop's first."""
    loop = model.loop(told, 1.6, 1.6, tempo_bpm=300.0, seed=1)
    about = loop.takes[0].about
    assert about.story is not None and about.story_start_samples == -round(1.6 * RATE) and about.prompt == "fast music"
    assert {section.tempo_bpm for section in about.story.sections} == {300.0}
    assert [frame for frame, _ in model.schedule_of(loop.takes[0]).changes] == [0, 10, 32]
    assert loop.audio.shape[1] == round(1.6 * RATE)
    for name, one in (("a.wav", told), ("l.wav", loop)):
        one.save(tmp_path / name, take=True)
    assert load_take(tmp_path / "l.take").id == loop.takes[0].id
    assert model.from_take(tmp_path / "l.take").audio.tobytes() == loop.audio.tobytes()
    early = model.loop(told, 1.6, 0.0, tempo_bpm=300.0, seed=1)
    given = model.given(early)
    assert given.prompt == "slow piano" and isinstance(given.mulan, torch.Tensor)
    assert torch.equal(given.mulan, model.text_codes("slow piano"))
    assert model.given(loop).prompt == "fast music"
    later = model.loop(told, 1.6, 2.0, seed=1).takes[0].about.loop
    assert later is not None and later.tempo_bpm == 140.0, "that of the story there"


def test_a_tempo_that_is_set_holds_in_all_of_the_story(model: MusicLM, told: Music) -> None:
    config = told.takes[0].about.config
    faster = replace(config, steer=replace(config.steer, tempo_bpm=90.0))
    about = model.repaint(told, 1.4, 3.0, seed=1, drafts=1, config=faster).takes[0].about
    assert about.story is not None and [section.tempo_bpm for section in about.story.sections] == [90.0, 90.0]


def test_a_story_after_a_recording_is_edited_by_its_own_time(model: MusicLM, song: Path) -> None:
    """Of a piece that goes on with a story: its time begins at the joint, before which the first prompt holds."""
    story = Story.parse("0:00 slow piano\n0:01 fast music")
    longer = model.extend(song, story, 2.0, 2)
    joint = longer.takes[0].about.given_samples
    assert joint == 4 * RATE and longer.takes[0].about.story_start_samples == joint
    once = model.repaint(longer, 5.2, 5.9, seed=1, drafts=1)
    assert once.takes[0].about.story_start_samples == joint
    by_hand = model.repaint(longer, 5.2, 5.9, "fast music", seed=1, drafts=1)
    assert np.array_equal(once.takes[0].semantic, by_hand.takes[0].semantic)
    whole = model.vary(longer, 1.0, seed=1)
    assert [frame for frame, _ in model.schedule_of(whole.takes[0]).changes] == [0, 125]


def test_a_prompt_of_its_own_wins(model: MusicLM, told: Music) -> None:
    for music in (
        model.repaint(told, 1.0, 2.0, "slow music"),
        model.vary(told, 0.5, "slow music"),
        model.loop(told, 2.0, tempo_bpm=120, prompt="slow music"),
    ):
        (take,) = music.takes
        assert take.about.story is None and take.about.prompt == "slow music"
        assert np.array_equal(take.mulan, model.text_codes("slow music")[0])  # type: ignore[arg-type]


# -- repaint


@pytest.mark.parametrize(("which", "acoustic"), [("model", "storm"), ("model", "ar"), ("four", "storm")])
def test_outside_of_the_span_every_sample_stays(
    request: pytest.FixtureRequest, song: Path, which: str, acoustic: str
) -> None:
    model: MusicLM = request.getfixturevalue(which)
    config = replace(model.default_config(), acoustic=acoustic)
    music, original = model.repaint(song, 1.013, 2.507, None, 2, config), load(song)
    start, stop = round(1.013 * RATE), round(2.507 * RATE)
    assert music.audio.shape == (1, len(original)) and np.isfinite(music.audio).all()
    assert music.audio[0, : start - FADE].tobytes() == original[: start - FADE].tobytes()
    assert music.audio[0, stop + FADE :].tobytes() == original[stop + FADE :].tobytes()
    assert np.abs(music.audio[0, start:stop] - original[start:stop]).std() > 0.01
    assert music.audio.tobytes() == model.repaint(song, 1.013, 2.507, None, 2, config).audio.tobytes()
    other = model.repaint(song, 1.013, 2.507, None, 3, config)
    assert not np.array_equal(music.audio[0, start:stop], other.audio[0, start:stop])
    about = music.takes[0].about
    assert about.verb == "repaint" and about.condition == "audio" and about.repaint is not None
    assert about.repaint.drafts.num == 4 == len(about.repaint.drafts.scores)
    assert about.repaint.drafts.best == int(np.argmax(about.repaint.drafts.scores))
    # neither edge jumps more than the sounds on its sides do
    jumps = np.abs(np.diff(music.audio[0]))
    edges = np.concatenate([jumps[start - FADE - 1 : start + 1], jumps[stop - 1 : stop + FADE + 1]])
    assert edges.max() <= 1.5 * max(jumps[: start - FADE].max(), jumps[start:stop].max())


def test_only_codes_of_the_span_change_and_an_edit_can_be_edited(model: MusicLM, first: Music, tmp_path: Path) -> None:
    first.save(tmp_path / "a.wav", take=True)
    once = model.repaint(tmp_path / "a.take", 1.0, 2.0, "fast music", 5)
    assert once.audio.tobytes() == model.repaint(first, 1.0, 2.0, "fast music", 5).audio.tobytes()
    old, new = first.takes[0], once.takes[0]
    assert new.prompts == ("fast music",) if isinstance(new, Music) else new.about.prompt == "fast music"
    for name, per_s in (("semantic", 25), ("acoustic", 50)):
        same = (old.arrays[name] == new.arrays[name]).all(0)
        assert same[:per_s].all() and same[2 * per_s :].all() and not same[per_s : 2 * per_s].all()
    once.save(tmp_path / "b.wav", take=True)
    assert model.from_take(tmp_path / "b.take").audio.tobytes() == once.audio.tobytes()
    twice = model.repaint(tmp_path / "b.take", 2.5, None, None, 6)
    assert twice.prompts == ("fast music",)
    assert np.array_equal(twice.takes[0].semantic[:, :62], new.semantic[:, :62]), (
        "the codes of the take, not its sound's"
    )
    assert twice.audio[0, : 60000 - FADE].tobytes() == once.audio[0, : 60000 - FADE].tobytes()
    longer = model.extend(once, None, 1.0, 7)
    assert longer.audio[0, : 79680 - FADE].tobytes() == once.audio[0, : 79680 - FADE].tobytes()
    assert np.array_equal(longer.takes[0].semantic[:, :83], new.semantic[:, :83])
    (file,) = twice.save(tmp_path / "c.wav", take=True)
    told = describe_take(tmp_path / "c.take")
    assert [(line["verb"], line["name"]) for line in told["parents"]] == [("repaint", "b.take"), ("repaint", "a.take")]
    assert (told["parents"][1]["from_s"], told["parents"][1]["to_s"]) == (1.0, 2.0)
    assert read_tags(file)["repaints"] == "b.take"
    with pytest.raises(ArtifactError, match="leave out --new-only"):
        begin_at_joint(new)
    (tmp_path / "a.take").unlink()
    with pytest.raises(ArtifactError, match=r"repaints a part of the take a\.take .* put it there$"):
        model.from_take(tmp_path / "b.take")


@pytest.mark.parametrize(("start_s", "stop_s"), [(0.0, 1.0), (3.2, None), (0.02, 0.9), (0.0, None), (2.0, 3.99)])
def test_a_span_may_touch_an_edge(model: MusicLM, song: Path, tmp_path: Path, start_s: float, stop_s: float) -> None:
    music, original = model.repaint(song, start_s, stop_s, "slow music", 1), load(song)
    stop = len(original) if stop_s is None else round(stop_s * RATE)
    fade_from = max(0, round(start_s * RATE) - FADE)
    assert music.audio.shape[1] == len(original)
    assert music.audio[0, :fade_from].tobytes() == original[:fade_from].tobytes()
    assert music.audio[0, stop + FADE :].tobytes() == original[stop + FADE :].tobytes()
    music.save(tmp_path / "a.wav", take=True)
    assert model.from_take(tmp_path / "a.take").audio.tobytes() == music.audio.tobytes()
    drafts = music.takes[0].about.repaint.drafts  # type: ignore[union-attr]
    assert drafts.num == len(drafts.scores) == 4 if stop_s else drafts == Drafts(num=1)


def test_a_span_longer_than_a_window(model: MusicLM, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 45 * RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, RATE, "FLOAT")
    seen: list[tuple[str, int, int]] = []
    music = model.repaint(tmp_path / "a.wav", 4.0, 38.0, None, 1, drafts=2, on_progress=lambda *x: seen.append(x))
    assert music.audio[0, : 4 * RATE - FADE].tobytes() == noise[: 4 * RATE - FADE].tobytes()
    assert music.audio[0, 38 * RATE + FADE :].tobytes() == noise[38 * RATE + FADE :].tobytes()
    assert ("semantic", 34 * 25, 34 * 25) in seen and seen[-1][0] == "acoustic" and seen[-1][1] == seen[-1][2]
    # of a recording the take has codes around the span alone; going on from it reads the sound
    take = music.takes[0]
    assert take.about.codes_start_samples == 0 and take.semantic.shape[1] == 42 * 25
    more = model.extend(music, None, 0.5, 2)
    assert more.audio[0, : 45 * RATE - FADE].tobytes() == music.audio[0, : 45 * RATE - FADE].tobytes()
    assert more.takes[0].about.condition == "audio"


def test_the_given_sound_comes_while_the_rest_is_made_and_stops_with_the_listener(model: MusicLM, song: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    blocks = edit.repaint(model, song, 2.0, 3.0, drafts=2).blocks(lambda *x: seen.append(x), None)
    block = next(blocks)
    assert len(block) and not seen
    blocks.close()

    def cancel(stage: str, done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        model.repaint(song, 2.0, 3.0, on_progress=cancel)


def test_the_kept_draft_is_the_one_that_what_follows_fits_best(model: MusicLM, first: Music) -> None:
    """Each draft's score is the mean of the log-probabilities that the sampler itself sees, step by step."""
    take = model.repaint(first, 1.0, 2.0, seed=9, drafts=3).takes[0]
    assert take.about.repaint is not None
    semantic = torch.from_numpy(take.semantic.astype(np.int64))[None]
    mulan = torch.from_numpy(take.mulan.astype(np.int64))[None]  # type: ignore[union-attr]
    judged = semantic
    (score,) = log_likelihood(model.semantic, mulan, judged, 50).tolist()
    assert score == pytest.approx(take.about.repaint.drafts.scores[take.about.repaint.drafts.best], abs=1e-3)
    slow = []
    for frame in range(50, 84):
        probabilities = _next(model, mulan, judged[:, :, :frame])
        slow.append(float(probabilities[judged[0, 0, frame]].log()))
    assert np.mean(slow) == pytest.approx(score, abs=1e-3)
    with pytest.raises(ValueError, match="none is left to be judged"):
        log_likelihood(model.semantic, mulan, judged, 84)


def _next(model: MusicLM, mulan: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """The distribution of the code after `given`."""
    layout = model.semantic.layout
    prefix, positions = layout.prefix({"mulan": mulan})
    ids = torch.cat([prefix, layout.target_ids(given)], 1)
    where = torch.cat([positions, layout.target_positions(0, given.shape[2], ids.device)])
    with torch.inference_mode():
        hidden, _ = model.semantic.read(ids, where)
        return model.semantic.logits(hidden[0, -1], 0).softmax(-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_s": 1.0, "stop_s": 1.4}, "shorter than 0.5 s"),
        ({"start_s": -1.0}, "begins at -1 s"),
        ({"start_s": float("nan")}, "begins at nan s"),
        ({"start_s": 1.0, "stop_s": 9.0}, r"the span ends at 9 s, after the end of song\.wav, which has 4\.01 s"),
        ({"start_s": 3.8}, "shorter than 0.5 s"),
        ({"drafts": 0}, "0 drafts"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"seed": -1}, "the seed must be"),
    ],
)
def test_spans_that_can_not_be(model: MusicLM, song: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.repaint(song, **arguments)


def test_what_can_not_be_edited(model: MusicLM, four: MusicLM, first: Music, tmp_path: Path) -> None:
    first.save(tmp_path / "a.wav", take=True)
    with pytest.raises(ArtifactError, match="with another"):
        four.repaint(tmp_path / "a.take", 1.0, 2.0)
    with pytest.raises(ValueError, match="music of 2 items can't be edited"):
        model.vary(model.generate(["slow", "fast"], 0.5))
    with pytest.raises(AudioError, match="no such file"):
        model.loop(tmp_path / "none.wav")
    with pytest.raises(ValueError, match=r"the strength is 1\.5"):
        model.vary(first, 1.5)


# -- vary


def test_from_the_same_codes_in_another_sound_to_another_piece(model: MusicLM, first: Music, tmp_path: Path) -> None:
    old = first.takes[0]
    kept = {}
    for strength in (0.0, 0.3, 0.7, 1.0):
        music = model.vary(first, strength, seed=3)
        take = music.takes[0]
        assert music.audio.shape == first.audio.shape and take.semantic.shape == old.semantic.shape
        assert not np.array_equal(take.acoustic, old.acoustic), "the same seed draws other numbers"
        kept[strength] = float((take.semantic == old.semantic).mean())
        assert take.about.vary is not None and take.about.vary.kept == pytest.approx(kept[strength], abs=1e-4)
        assert np.array_equal(take.mulan, old.mulan)
    assert kept[0.0] == 1.0 and kept[0.3] > 0.6 > kept[0.7] > kept[1.0]
    music.save(tmp_path / "b.wav", take=True)
    assert model.from_take(tmp_path / "b.take").audio.tobytes() == music.audio.tobytes(), "without its parent"
    assert describe_take(tmp_path / "b.take")["parents"][0]["strength"] == 1.0
    again = model.vary(music, 0.0, seed=3)
    assert np.array_equal(again.takes[0].semantic, music.takes[0].semantic)
    assert not np.array_equal(again.audio, music.audio)


def test_the_stream_of_a_variation_equals_the_whole(model: MusicLM, first: Music) -> None:
    takes = []
    blocks = list(edit.vary(model, first, 0.5, seed=1).blocks(None, takes.append))
    whole = model.vary(first, 0.5, seed=1)
    assert np.concatenate(blocks).tobytes() == whole.audio[0].tobytes() and takes[0].id == whole.takes[0].id


@pytest.mark.parametrize("which", ["model", "four"])
def test_recordings_and_takes_that_go_on_are_varied_whole(
    request: pytest.FixtureRequest, song: Path, tmp_path: Path, which: str
) -> None:
    model: MusicLM = request.getfixturevalue(which)
    music = model.vary(song, 0.2, seed=1)
    assert music.audio.shape[1] == len(load(song)) and music.takes[0].about.condition == "audio"
    longer = model.extend(song, None, 1.0, 2)
    longer.save(tmp_path / "longer.wav", take=True)
    varied = model.vary(tmp_path / "longer.take", 0.0)
    assert varied.audio.shape == longer.audio.shape
    assert np.array_equal(varied.takes[0].semantic, longer.takes[0].semantic)
    with pytest.raises(ValueError, match=r"600 s are the most at once"):
        source = replace(model.source(song), num_samples=601 * RATE)
        edit._check_long(source, source.duration_s)


def test_a_kept_code_is_certain_and_others_come_from_the_model(model: MusicLM) -> None:
    """The frequencies of the next code are those of the mixture."""
    mulan = model.text_codes("slow music")
    strength, old, draws = 0.4, 5, 4000
    given = torch.tensor([[[1, 2, 3]]])
    own = _next(model, mulan, given)
    coins = torch.rand(draws, generator=torch.Generator().manual_seed(0)) >= strength
    counts = torch.zeros(16)
    u = torch.rand(draws, generator=torch.Generator().manual_seed(1))
    cumulative = own.cumsum(0)
    for kept in (True, False):
        guide = edit.Keeping([old if kept else None], 16)
        sampler = decode(model.semantic, {"mulan": mulan}, 4, Sampling(), torch.zeros(1, 1), given, [guide])
        if kept:
            assert next(sampler).tolist() == [old], "whatever the draw"
            counts[old] += int(coins.sum())
        else:
            drawn = torch.searchsorted(cumulative, u[~coins] * cumulative[-1], right=True)
            counts += torch.bincount(drawn, minlength=16)
    wanted = strength * own
    wanted[old] += 1 - strength
    assert torch.allclose(counts / draws, wanted, atol=0.03)


def test_at_full_strength_the_guide_says_what_steering_says(model: MusicLM) -> None:
    mulan = model.text_codes("slow music")
    plain, guided = (
        torch.cat(list(stream_semantic(model.semantic, mulan, 40, Sampling(), generators(4), steering=steering)), 2)
        for steering in (
            model.steering(model.default_config().steer, "120 bpm"),
            [edit.Keeping([None] * 40, 16, model.steering(model.default_config().steer, "120 bpm")[0])],
        )
    )
    assert torch.equal(plain, guided)


# -- loop


def test_whole_bars_to_the_sample_without_a_seam(model: MusicLM, four: MusicLM, song: Path, tmp_path: Path) -> None:
    for which in (model, four):
        music = which.loop(song, 1.9, tempo_bpm=123.0, seed=2, beats_per_bar=3)
        assert music.audio.shape[1] == round(60 * 3 / 123.0 * RATE), "one bar is nearest"
        music = which.loop(song, 3.1, tempo_bpm=123.0, seed=2)
        about, original = music.takes[0].about, load(song)
        length = round(2 * 60 * 4 / 123.0 * RATE)
        assert about.loop is not None and (about.loop.bars, about.loop.tempo_from) == (2, "set")
        assert music.audio.shape[1] == length and about.loop.redone_samples == length // 2
        inside = slice(FADE, length - length // 2 - FADE)
        assert music.audio[0, inside].tobytes() == original[inside].tobytes()
        assert music.audio.tobytes() == which.loop(song, 3.1, tempo_bpm=123.0, seed=2).audio.tobytes()
        # played twice, the joint changes no more than places inside what was made do
        twice = np.concatenate([music.audio[0], music.audio[0]])
        at = change(twice[length - 512 * 20 : length + 512 * 20])
        assert at[18:22].max() <= 1.5 * change(music.audio[0]).max()
        jumps = np.abs(np.diff(twice))
        assert jumps[length - 2 : length + 1].max() <= jumps[: length - 2].max()
    music.save(tmp_path / "a.wav", take=True)
    assert four.from_take(tmp_path / "a.take").audio.tobytes() == music.audio.tobytes()


def test_the_end_of_a_loop_fits_its_beginning(model: MusicLM, first: Music, tmp_path: Path) -> None:
    """What is judged, and what SoundStorm and the codec see after the joint, is the beginning."""
    first.save(tmp_path / "a.wav", take=True)
    music = model.loop(tmp_path / "a.take", 2.0, tempo_bpm=120.0, seed=1)  # 50 semantic frames: no part of a frame
    take, old = music.takes[0], first.takes[0]
    assert np.array_equal(take.semantic[:, :25], old.semantic[:, :25])
    after = take.semantic.shape[1] - 50
    assert after == 25 and np.array_equal(take.semantic[:, 50:], old.semantic[:, :after])
    assert np.array_equal(take.acoustic[:, 100:], old.acoustic[:, : 2 * after])
    assert np.allclose(music.audio[0, FADE : 24000 - FADE], first.audio[0, FADE : 24000 - FADE])
    # its own take is found again, and can be edited: rendered, varied, gone on from
    music.save(tmp_path / "b.wav", take=True)
    assert model.from_take(tmp_path / "b.take").audio.tobytes() == music.audio.tobytes()
    assert model.vary(tmp_path / "b.take", 0.1).audio.shape == music.audio.shape
    assert model.extend(tmp_path / "b.take", None, 0.5).audio.shape[1] == 48000 + 12000
    told = describe_take(tmp_path / "b.take")["parents"][0]
    assert (told["verb"], told["bars"], told["tempo_bpm"]) == ("loop", 1, 120.0)
    assert model.loop(tmp_path / "b.take", seed=4).takes[0].about.loop.tempo_from == "take"  # type: ignore[union-attr]


def test_who_tells_the_tempo(model: MusicLM, song: Path) -> None:
    def of(music: Music) -> tuple[float, str]:
        found = music.takes[0].about.loop
        assert found is not None
        return found.tempo_bpm, found.tempo_from

    said = model.generate("house at 124 BPM", 2.5)
    assert of(model.loop(said, drafts=1)) == (124.0, "take")
    assert of(model.loop(said, prompt="house at 130 BPM", drafts=1)) == (130.0, "prompt")
    assert of(model.loop(said, tempo_bpm=140.0, prompt="house at 130 BPM", drafts=1)) == (140.0, "set")
    bpm, told_by = of(model.loop(song, drafts=1))
    assert told_by == "measured" and any(abs(bpm * factor / 120 - 1) < 0.01 for factor in (0.5, 1, 2))


def test_loops_that_can_not_be(model: MusicLM, song: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 6 * RATE), RATE)
    with pytest.raises(ValueError, match=r"no steady beat can be measured in noise\.wav"):
        model.loop(tmp_path / "noise.wav")
    with pytest.raises(ValueError, match=r"5 bars of 2\.00 s from 0 s on are longer than song\.wav"):
        model.loop(song, 10.0, tempo_bpm=120)
    with pytest.raises(ValueError, match="the tempo is 500"):
        model.loop(song, tempo_bpm=500)
    with pytest.raises(ValueError, match="after the end of song"):
        model.loop(song, start_s=9.0)
    with pytest.raises(ValueError, match="0 beats a bar"):
        model.loop(song, beats_per_bar=0)


@pytest.mark.parametrize("bpm", [63.0, 91.3, 120.0, 128.5, 174.0])
def test_a_tempo_is_measured_well_enough_to_count_bars_by(bpm: float) -> None:
    random = np.random.default_rng(0)
    sound = random.normal(0, 0.002, 20 * RATE)
    for beat in range(int(20 * bpm / 60)):
        at = round(beat * 60 / bpm * RATE)
        decay = np.exp(-np.arange(4800) / 900)[: 20 * RATE - at]
        sound[at : at + 4800] += decay * random.normal(0, 0.5 if beat % 4 == 0 else 0.25, len(decay))
    found = measured_tempo(sound.astype(np.float32))
    assert found is not None and min(abs(found * factor / bpm - 1) for factor in (0.5, 1.0, 2.0)) < 0.002
    assert measured_tempo(random.normal(0, 0.1, 20 * RATE).astype(np.float32)) is None
    assert measured_tempo(np.zeros(RATE * 5, np.float32)) is None


# -- sound and takes


def blocks(audio: np.ndarray, size: int = 777) -> Iterator[np.ndarray]:
    return iter([audio[i : i + size] for i in range(0, len(audio), size)])


@pytest.mark.parametrize(("start", "stop"), [(0, 4000), (100, 9000), (5000, 10000), (3000, 9990), (0, 10000)])
def test_splices_by_the_slow_way(start: int, stop: int) -> None:
    old, new = np.random.default_rng(0).normal(0, 0.1, (2, 10000)).astype(np.float32)
    found = np.concatenate(
        list(spliced(blocks(old), blocks(np.concatenate([old[:50], new])), -50, start, stop, 10000, 600))
    )
    assert len(found) == 10000 and np.array_equal(found[start:stop], new[start:stop])
    before, after = min(600, start), min(600, 10000 - stop)
    assert np.array_equal(found[: start - before], old[: start - before])
    assert np.array_equal(found[stop + after :], old[stop + after :])
    assert not before or not np.array_equal(found[start - before : start], old[start - before : start])
    with pytest.raises(ValueError, match="ends .* samples early"):
        list(spliced(blocks(old[:-1]), blocks(new[:-1]), 0, start, stop, 10000, 600))


def test_a_circle_has_no_joint() -> None:
    """Of sounds that go round already nothing changes."""
    turn = np.sin(2 * np.pi * np.arange(10000) / 100).astype(np.float32)
    made = np.concatenate([turn, turn])
    found = np.concatenate(list(circular(blocks(turn), blocks(made), 6000, 10000, 600)))
    assert len(found) == 10000 and np.allclose(found, turn, atol=1e-6)


def about(**more: object) -> dict:
    parent = Parent(kind="audio", hash="0", name="a.wav")
    drafts = Drafts(num=1)
    span = Repaint(start_samples=1, stop_samples=2, total_samples=3, codes_start_samples=0, drafts=drafts)
    loop = Loop(
        start_samples=0, redone_samples=12000, tempo_bpm=120.0, tempo_from="set", bars=1, beats_per_bar=2, drafts=drafts
    )
    return {"parent": parent, "repaint": span, "loop": loop, **more}


def test_takes_that_can_not_be_are_refused(first: Music) -> None:
    whole = first.takes[0].about
    parts = about()
    with pytest.raises(ValueError, match="an edit has one verb"):
        replace(whole, **parts)
    with pytest.raises(ValueError, match="an edit has one verb"):
        replace(whole, repaint=parts["repaint"])
    with pytest.raises(ValueError, match="shorter than the cross-fade"):
        replace(whole, parent=parts["parent"])
    with pytest.raises(ValueError, match="a loop of"):
        replace(whole, parent=parts["parent"], loop=replace(parts["loop"], redone_samples=79000))
    with pytest.raises(ValueError, match="are no span"):
        replace(parts["repaint"], stop_samples=4)
    with pytest.raises(ValueError, match="draft 1 of 1"):
        Drafts(num=1, best=1)
    fine: About = replace(whole, parent=parts["parent"], repaint=parts["repaint"])
    assert fine.verb == "repaint" and fine.sound_samples == 3 and whole.verb == "generate"


def test_takes_of_before_are_read(first: Music, tmp_path: Path) -> None:
    """Their documents know nothing of edits."""
    take = first.takes[0]
    document = {key: value for key, value in take.document.items() if key not in ("repaint", "vary", "loop")}
    old = replace(take, document=document)
    old.save(tmp_path / "old.take")
    assert load_take(tmp_path / "old.take").about == take.about
