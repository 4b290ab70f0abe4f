"""Live music: what is played is a story told while it is made; a new prompt comes soon, and memory does not grow."""

import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from musiclm.core.bundle import Bundle
from musiclm.generate.live import Live
from musiclm.generate.session import MusicLM
from musiclm.generate.story import Story, StorySection
from tests.mock import mock_bundle


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> MusicLM:
    return MusicLM.from_pretrained(bundle.folder)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> MusicLM:
    """Semantic frames of four codes, and a codec of bands, which holds back more than a second."""
    return MusicLM.from_pretrained(mock_bundle(Path(tmp_path_factory.mktemp("four")), harmony=True).folder)


def told_again(live: Live, blend_s: float = 0.0) -> Story:
    """What was played, as a story."""
    return Story(
        sections=tuple(StorySection(at_s=at_s, prompt=prompt) for at_s, prompt in live.played), blend_s=blend_s
    )


@pytest.mark.parametrize(("which", "blend_s"), [("model", 2.0), ("four", 0.0)])
def test_what_was_played_is_a_story(request: pytest.FixtureRequest, which: str, blend_s: float) -> None:
    model: MusicLM = request.getfixturevalue(which)
    config = model.default_config()
    config = replace(config, storm=replace(config.storm, rounds=(2,), window_s=4.0))
    live = model.live("slow piano", 7, config)
    blocks = list(islice(live, 3))
    handed_s = live.made_s
    live.change("fast music at 140 BPM", blend_s)
    blocks += list(islice(live, 5))
    (_, first), (at_s, second) = live.played
    assert (first, second) == ("slow piano", "fast music at 140 BPM") and live.prompt == second
    assert 0 <= at_s - handed_s < 2, "heard within two seconds after what was handed out"
    audio = np.concatenate(blocks)
    assert live.made_s * 24000 == len(audio) and audio.dtype == np.float32 and np.abs(audio).max() <= 1
    assert max(map(len, blocks)) < 1.7 * 24000
    story = told_again(live, blend_s)
    again = model.generate(story, live.made_s + 2.5, 7, live.config).audio[0]
    assert again[: len(audio)].tobytes() == audio.tobytes()
    plain = model.generate("slow piano", live.made_s + 2.5, 7, live.config).audio[0]
    assert plain[: len(audio)].tobytes() != audio.tobytes()


def test_nothing_is_drawn_before_it_is_asked_for(model: MusicLM) -> None:
    live = model.live("slow piano", 7)
    live.change("fast music")
    next(live)
    assert live.played == [(0.0, "slow piano"), (0.0, "fast music")], "the last word before the first sound counts"
    for prompt in ("slow", "fast", "piano"):
        live.change(prompt)
    next(live)
    assert [prompt for _, prompt in live.played[2:]] == ["piano"], "of several the last"
    before = live.made_s
    live.change(None)
    next(live)
    (at_s, prompt) = live.played[-1]
    assert prompt is None and at_s - before <= 0.25, "what the codec of waveforms or spectra holds back"


def test_a_blend_begins_where_the_last_one_is(model: MusicLM) -> None:
    live = model.live("slow piano", 7)
    next(live)
    live.change("fast music", 4.0)
    next(live)
    middle = live._schedule.now
    assert middle.asked is not None and middle.asked.vector is not None
    live.change("slow music", 4.0)
    next(live)
    now = live._schedule.now
    slow = live._asked("slow music").vector
    assert slow is not None and now.asked is not None and now.asked.vector is not None
    expected = middle.asked.towards(live._asked("slow music"), 0.2).vector
    assert expected is not None and float((now.asked.vector - expected).abs().max()) < 1e-6


def test_bad_words_change_nothing(model: MusicLM) -> None:
    live = model.live("slow piano", 7)
    next(live)
    for prompt, blend_s, message in ((" ", 0.0, "the prompt is empty"), ("fast", 61.0, "the blend is 61.0 s")):
        with pytest.raises(ValueError, match=message):
            live.change(prompt, blend_s)
    next(live)
    assert live.played == [(0.0, "slow piano")] and live.prompt == "slow piano"
    for draw_s in (0.01, 1.1, float("nan")):
        with pytest.raises(ValueError, match="draw_s is"):
            model.live("slow", draw_s=draw_s)
    with pytest.raises(ValueError, match="needs the acoustic decoder storm, not ar"):
        model.live("slow", config=replace(model.default_config(), acoustic="ar"))
    with pytest.raises(ValueError, match="seed must be"):
        model.live("slow", -1)


def test_prompts_come_from_another_thread(model: MusicLM) -> None:
    live = model.live(None, 7)
    prompts = [f"{word} {number}" for number in range(20) for word in ("slow", "fast")]

    def change() -> None:
        for prompt in prompts:
            live.change(prompt)

    thread = threading.Thread(target=change)
    thread.start()
    while thread.is_alive():
        next(live)
    list(islice(live, 2))
    times = [at_s for at_s, _ in live.played]
    assert times == sorted(times) and live.played[-1][1] == prompts[-1] and np.isfinite(next(live)).all()


def test_nothing_that_is_held_grows(model: MusicLM) -> None:
    """Sizes of what lives on from one block to the next: once windows are full they stay as they are."""
    config = model.default_config()
    config = replace(config, storm=replace(config.storm, rounds=(1,), window_s=2.0, prompt_s=1.0))
    live, found = model.live("slow piano", 7, config), []
    for place in range(26):
        next(live)
        live.change("fast music" if place % 2 else "slow piano")
        frame = live._blocks.gi_frame
        assert frame is not None
        found.append((frame.f_locals["source"]._known.shape[2], len(live._schedule.changes)))
    assert live.made_s > 12 and max(found[6:]) <= max(found[:13]) and found[-1][0] <= 50 and found[-1][1] <= 4
