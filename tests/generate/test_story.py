"""Stories: prompts by time. Parsing, blends, the promises of generation, and takes that know their story."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musiclm.core.artifact import ArtifactError
from musiclm.core.bundle import Bundle
from musiclm.core.config import from_json, to_json
from musiclm.generate.acoustic import SemanticSource
from musiclm.generate.autoregressive import stream_semantic
from musiclm.generate.music import read_tags
from musiclm.generate.schedule import Condition, Schedule
from musiclm.generate.session import MusicLM
from musiclm.generate.steer import Steer, Steering, between, metronome
from musiclm.generate.storm import StormAcoustic, StormSampling
from musiclm.generate.story import Story, StorySection, blend, clock, load_story, of_prompts, parse_time
from musiclm.generate.take import describe_take, load_take
from musiclm.nn.sampling import Sampling, uniforms
from tests.generate.test_autoregressive import MULAN, WARM, make
from tests.generate.test_steer import ONSET, TRAITS
from tests.generate.test_storm import MODEL
from tests.generate.test_take import changed
from tests.mock import mock_bundle
from tests.toy import generators, random_streams

TWO = of_prompts("slow piano", ["0:01 fast music"])


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> MusicLM:
    return MusicLM.from_pretrained(bundle.folder)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> MusicLM:
    """Semantic frames of four codes, and a codec of bands: frames of both streams begin together every 80 ms."""
    return MusicLM.from_pretrained(mock_bundle(Path(tmp_path_factory.mktemp("four")), harmony=True).folder)


# -- files of stories


def test_a_file_is_read_section_by_section(tmp_path: Path) -> None:
    path = tmp_path / "tale.txt"
    path.write_text(
        "# a tale\n\n0:00 calm piano\n0:30 heavy metal with drums  tempo=150 key=E minor\r\n"
        '  0:01:05.5 key="B flat major" ambient pads # in the distance\n'
    )
    story = load_story(path, 4)
    assert story == Story(
        sections=(
            StorySection(at_s=0.0, prompt="calm piano"),
            StorySection(at_s=30.0, prompt="heavy metal with drums", tempo_bpm=150.0, key_name="E minor"),
            StorySection(at_s=65.5, prompt="ambient pads # in the distance", key_name="B flat major"),
        ),
        blend_s=4.0,
    )
    assert story.title == "calm piano → heavy metal with drums → ambient pads # in the distance"
    assert Story.parse(str(story), 4) == story, "what is shown can be read again"
    assert from_json(Story, to_json(story)) == story


@pytest.mark.parametrize(
    ("text", "time_s"),
    [("0", 0), ("75", 75), ("1:15", 75), ("1:5", 65), ("01:15.25", 75.25), ("0:01:15", 75), ("12.5", 12.5)],
)
def test_times(text: str, time_s: float) -> None:
    assert parse_time(text) == time_s


@given(st.integers(0, 600_000))
def test_clocks_show_times_that_can_be_read(milliseconds: int) -> None:
    assert abs(parse_time(clock(milliseconds / 1000)) - milliseconds / 1000) < 1e-6


@pytest.mark.parametrize("text", ["", "x", "-1", "1:60", "1:60:00", "1:2:3:4", "1e3", "nan", "0:", ":30", "1.2:30"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no sections; write one as in: 0:00 calm piano"),
        ("# nothing\n", "has no sections"),
        ("calm piano", "line 1: 'calm' is no time; write it as 0:30"),
        ("0:00", "line 1: there is no prompt after 0:00"),
        ("0:00 tempo=120", "line 1: there is no prompt"),
        ("0:10 calm piano", "line 1: the first section is at 0:10; it must be at 0:00"),
        ("0:00 a\n0:30 b\n0:20 c", "line 3: the section at 0:20 comes less than 0.5 s after the one at 0:30"),
        ("0:00 a\n0:00.2 b", "line 2: the section at 0:00.2 comes less than 0.5 s after"),
        ("0:00 a\n10:00 b", "line 2: a section is at 600.0 s; it must lie between 0 and 600 s"),
        ("0:00 a\n\n0:30 b tempo=fast", "line 3: tempo=fast is no number"),
        ("0:00 a tempo=20", "line 1: the tempo is 20.0 BPM; it must lie between 30 and 300"),
        ("0:00 a tempo=nan", "line 1: the tempo is nan BPM"),
        ("0:00 a tempo=90 tempo=91", "line 1: tempo= is there twice"),
        ("0:00 a key=H moll", "line 1: 'H' is no key; write one such as 'D minor'"),
        ("0:00 a\n0:01 " + "b" * 10_001, "line 2: the prompt has 10001 characters"),
        ("0:00 a\uffff", "line 1: the line holds U\\+FFFF"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tale.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        load_story(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be read .*check the name"):
        load_story(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="can't be read"):
        load_story(tmp_path)
    (tmp_path / "large").write_bytes(bytes(1 << 21))
    with pytest.raises(ValueError, match="more than any story"):
        load_story(tmp_path / "large")
    (tmp_path / "latin").write_bytes(b"\xef\xbb\xbf0:00 caf\xe9 music")
    assert load_story(tmp_path / "latin").sections[0].prompt == "café music"
    for blend_s in (-1.0, 61.0, float("nan")):
        with pytest.raises(ValueError, match="the blend is"):
            Story(sections=TWO.sections, blend_s=blend_s)


# -- blends


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 60))
def test_a_blend_rises_step_by_step(length_s: float) -> None:
    steps = blend(length_s)
    times, shares = zip(*steps, strict=True)
    assert times[0] == 0 and shares[-1] == 1 and all(0 < share <= 1 for share in shares)
    assert all(a < b for a, b in zip(times, times[1:], strict=False))
    assert all(a < b for a, b in zip(shares, shares[1:], strict=False))
    assert max(np.diff(times), default=0) <= 1.5 and (times[-1] == length_s or length_s <= 0.5)


def test_a_blend_is_no_longer_than_its_section() -> None:
    story = of_prompts("a", ["2 b", "4 c"], blend_s=5)
    assert [(step.at_s, step.section, round(step.share, 2)) for step in story.steps()] == [
        *((0, 0, 1), (2, 1, 0.33), (3, 1, 0.67), (4, 1, 1)),
        *((4, 2, 0.17), (5, 2, 0.33), (6, 2, 0.5), (7, 2, 0.67), (8, 2, 0.83), (9, 2, 1)),
    ]


def told(model: MusicLM, story: Story, stop: int = 1000) -> Schedule:
    about = model.about(story, 600.0 if story.sections[-1].at_s > 9 else 40.0)
    return model._conditions(story, about, None, stop)


def test_blends_lie_between_their_prompts(model: MusicLM) -> None:
    story = of_prompts("slow piano", ["0:02 fast music"], blend_s=5)
    schedule = told(model, story)
    assert [frame for frame, _ in schedule.changes] == [0, 50, 75, 100, 125, 150, 175]
    first, *between_them, last = [condition.mulan for _, condition in schedule.changes]
    assert torch.equal(first, model.text_codes("slow piano")) and torch.equal(last, model.text_codes("fast music"))
    vectors = [model.mulan.rvq.decode(codes[..., 0]) for codes in (first, *between_them, last)]
    near = [float(torch.cosine_similarity(vector, vectors[-1])) for vector in vectors]
    assert near[0] < near[-2] + 1e-6 and near[-1] == pytest.approx(1), "towards the second prompt"
    assert len(told(model, story, 100).changes) == 3, "what is not reached is left out"
    assert schedule.mulan.shape[2] == 7
    assert (schedule.at(49), schedule.until(49), schedule.until(175)) == (schedule.changes[0][1], 50, None)


def test_tempi_of_a_blend_meet_by_ratio_and_keys_change_half_way() -> None:
    slow, fast = Steer(tempo_bpm=60.0, key_name="C major"), Steer(tempo_bpm=240.0, key_name="D minor")
    middle = between(slow, fast, 0.5)
    assert (middle.tempo_bpm, middle.key_name) == (pytest.approx(120), "D minor")
    assert between(slow, fast, 0.25).key_name == "C major" and between(slow, fast, 1.0) == fast
    assert between(Steer(), fast, 0.25).tempo_bpm == 240 and between(slow, Steer(), 0.25).tempo_bpm is None


def test_tempo_and_key_of_the_whole_of_a_section_and_of_its_prompt() -> None:
    whole, asked = Steer(tempo_bpm=100.0, beat=0.5), "at 90 BPM in D minor"
    free, own = (
        StorySection(at_s=0.0, prompt=asked),
        StorySection(at_s=0.0, prompt=asked, tempo_bpm=80.0, key_name="A minor"),
    )

    def heard(section: StorySection, steer: Steer) -> tuple[float | None, str | None]:
        steer = section.set_in(steer).as_asked(section.prompt)
        return steer.tempo_bpm, steer.key_name

    assert heard(free, whole) == (100, "D minor") and heard(own, whole) == (80, "A minor")
    assert heard(free, Steer()) == (90, "D minor") and own.set_in(whole).beat == 0.5


# -- steering by time


def due(steering: Steering, frames: int) -> list[float]:
    """What a given tempo strikes in the next frames; nothing is struck."""
    found = []
    for _ in range(frames):
        assert steering.period is not None
        found.append(metronome(steering.frame - steering.first_beat, steering.period))
        steering.observe(int(ONSET.argmin()))
    return found


def test_a_new_tempo_begins_where_the_last_beat_was() -> None:
    off = Steer(beat=0, key=0)
    steering = Steering(TRAITS, replace(off, tempo_bpm=120.0))  # 12.5 frames a beat
    due(steering, 30)
    steering.retarget(replace(off, tempo_bpm=60.0))  # at frame 30, 0.4 beats after the one at 25
    after = due(steering, 40)
    assert int(np.argmax(after)) == 15, "0.6 beats of 25 frames later"
    steering.retarget(replace(off, tempo_bpm=60.0, key_name="C major"))
    assert int(np.argmax(due(steering, 10))) == 0, "the same tempo goes on"
    steering.retarget(off)
    assert steering.period is None and len(steering.past) == 50, "the pulse so far is remembered"


def test_a_tempo_after_none_begins_where_the_music_strikes() -> None:
    steering = Steering(TRAITS, Steer(beat=0, key=0))
    loud, soft = int(ONSET.argmax()), int(ONSET.argmin())
    strikes = {round(4 + 12.5 * beat) for beat in range(20)}
    for frame in range(100):
        steering.observe(loud if frame in strikes else soft)
    steering.retarget(Steer(beat=0, key=0, tempo_bpm=120.0))
    assert not steering.past
    after = due(steering, 25)
    for beat in (frame for frame in strikes if 101 <= frame < 124):
        assert max(after[beat - 101 : beat - 98]) > 1.0, "on the beat, to a frame"


# -- stages


def test_random_numbers_are_the_same_in_parts() -> None:
    """What lets a window be cut without other draws after it."""
    whole = uniforms(generators(1), 100, torch.device("cpu"))
    (one,) = generators(1)
    parts = [uniforms([one], count, torch.device("cpu")) for count in (1, 0, 16, 7, 76)]
    assert torch.equal(torch.cat(parts, 1), whole)


def schedule_of(*frames: int) -> Schedule:
    return Schedule([(frame, Condition(MULAN[i % 3 : i % 3 + 1])) for i, frame in enumerate(frames)])


def test_the_semantic_stage_begins_anew_with_each_condition() -> None:
    """Greedy: each part is what the codes so far go on to under its condition."""
    model, greedy = make("semantic"), Sampling(temperature=0.0, guidance=2.0)
    codes = torch.cat(list(stream_semantic(model, schedule_of(0, 20, 50), 70, greedy, generators(0))), 2)
    slow = torch.zeros(1, 1, 0, dtype=torch.long)
    for row, stop in ((0, 20), (1, 50), (2, 70)):
        pieces = stream_semantic(model, MULAN[row : row + 1], stop, greedy, generators(0), slow)
        slow = torch.cat([slow, *list(pieces)[bool(slow.shape[2]) :]], 2)
    assert torch.equal(codes, slow)
    alone = torch.cat(list(stream_semantic(model, MULAN[:1], 70, greedy, generators(0))), 2)
    assert torch.equal(codes[..., :20], alone[..., :20]) and not torch.equal(codes, alone)


def test_a_schedule_of_one_condition_draws_what_its_codes_do() -> None:
    model = make("semantic")
    for frames in (30, 800):
        plain, told = (
            torch.cat(list(stream_semantic(model, mulan, frames, WARM, generators(3))), 2)
            for mulan in (MULAN[:1], schedule_of(0))
        )
        assert torch.equal(plain, told)
    same = Schedule([(0, Condition(MULAN[:1])), (13, Condition(MULAN[:1]))])
    again = torch.cat(list(stream_semantic(model, same, 30, WARM, generators(3))), 2)
    assert torch.equal(again, plain[..., :30]), "a change to the same takes no random numbers"


def test_semantic_codes_without_an_end() -> None:
    endless = stream_semantic(make("semantic"), MULAN[:1], None, WARM, generators(3), chunk_s=0.4)
    codes = torch.cat([next(endless) for _ in range(85)], 2)
    whole = torch.cat(list(stream_semantic(make("semantic"), MULAN[:1], 850, WARM, generators(3))), 2)
    assert torch.equal(codes, whole)


def test_acoustic_windows_end_where_a_condition_does() -> None:
    schedule = Schedule([(0, Condition(random_streams(1, 1, 1)["mulan"])), (30, Condition(None))])
    decoder = StormAcoustic(MODEL, StormSampling(rounds=(2,), window_s=1.0, prompt_s=0.4))
    assert decoder.plan(120, 0, schedule) == [(0, 50), (30, 60), (40, 90), (70, 120)]
    semantic, seen = random_streams(1, 60)["semantic"], []
    pieces = list(decoder.stream(semantic, schedule, generators(1), on_progress=lambda *x: seen.append(x)))
    assert [piece.shape[2] for piece in pieces] == [50, 10, 30, 30] and seen[-1] == (52, 52)
    codes = torch.cat(pieces, 2)
    first = decoder.generate(semantic[:, :, :30], schedule.at(0).mulan, generators(1))
    assert torch.equal(codes[:, :, :60], first)
    endless = decoder.stream(SemanticSource(iter(semantic.split(5, 2)), 1, None, forgets=True), schedule, generators(1))
    for piece in pieces[:3]:
        assert torch.equal(next(endless), piece), "without an end it is the same"


def test_what_was_let_go_is_gone() -> None:
    source = SemanticSource(iter(torch.arange(100).view(1, 1, 100).split(10, 2)), 1, None, forgets=True)
    assert source[0:5].flatten().tolist() == [*range(5)] and source[30:42].flatten().tolist() == [*range(30, 42)]
    assert source[35:36].flatten().tolist() == [35]
    with pytest.raises(AssertionError, match="frame 30 is asked for"):
        source[30:31]
    with pytest.raises(ValueError, match="100 semantic frames came"):
        source[35:101]


@given(st.sets(st.integers(1, 40), max_size=5), st.integers(-20, 60), st.integers(0, 20), st.integers(1, 40))
def test_parts_of_a_schedule(starts: set[int], first: int, start: int, length: int) -> None:
    """Frame by frame they say what the whole does."""
    whole = Schedule([(frame, Condition(None)) for frame in (0, *sorted(starts))])
    later = whole.since(first)
    for frame in range(70):
        assert later.at(frame) is whole.at(max(0, first + frame))
    span = range(start, start + length)
    parts = whole.parts(span)
    assert [frame for part, _ in parts for frame in part] == list(span)
    assert all(whole.at(frame) is condition for part, condition in parts for frame in part)
    assert all(a is not b for (_, a), (_, b) in zip(parts, parts[1:], strict=False))
    round_it = whole.again(length)
    for frame in range(70):
        assert round_it.at(frame) is whole.at(frame if frame < length else frame - length)


def test_conditions_are_in_order() -> None:
    for frames in ((), (1,), (0, 5, 5), (0, 7, 3)):
        with pytest.raises(ValueError, match="must be in order"):
            schedule_of(*frames)


# -- whole music


@pytest.mark.parametrize(("which", "acoustic"), [("model", "storm"), ("model", "ar"), ("four", "storm")])
def test_promises_of_generation_hold_for_stories(request: pytest.FixtureRequest, which: str, acoustic: str) -> None:
    model: MusicLM = request.getfixturevalue(which)
    config = replace(model.default_config(), acoustic=acoustic)
    story = of_prompts("slow piano", ["0:00.8 fast music tempo=150", "0:01.6 slow music"], blend_s=0.7)
    music = model.generate([story, "slow"], 2.0777, 5, config)
    assert music.audio.shape == (2, round(2.0777 * 24000)) and np.isfinite(music.audio).all()
    pieces = list(model.stream(story, 2.0777, 5, config))
    assert np.concatenate(pieces).tobytes() == music.audio[0].tobytes()
    assert not np.array_equal(music.audio[0], model.generate(story, 2.0777, 6, config).audio[0])
    assert not np.array_equal(music.audio[0], model.generate(replace(story, blend_s=0.0), 2.0777, 5, config).audio[0])


@pytest.mark.parametrize("acoustic", ["storm", "ar"])
def test_a_story_of_one_section_is_the_piece_of_its_prompt(model: MusicLM, acoustic: str) -> None:
    config = replace(model.default_config(), acoustic=acoustic)
    for prompt in ("slow piano", "slow music at 150 BPM in D minor"):
        plain, story = (model.generate(p, 2.5, 3, config) for p in (prompt, of_prompts(prompt, [])))
        assert story.audio.tobytes() == plain.audio.tobytes()
        assert np.array_equal(story.takes[0].mulan, plain.takes[0].mulan)


def test_a_story_begins_like_its_first_prompt_and_then_does_not(model: MusicLM) -> None:
    plain, story = model.generate("slow piano", 2.0, 3).takes[0], model.generate(TWO, 2.0, 3).takes[0]
    assert np.array_equal(story.semantic[:, :25], plain.semantic[:, :25])
    assert not np.array_equal(story.semantic, plain.semantic)
    assert np.array_equal(story.mulan, np.concatenate([model.text_codes(s.prompt)[0] for s in TWO.sections], 1))


def test_a_tempo_of_a_section_steers_it_alone(model: MusicLM) -> None:
    timed = of_prompts("slow piano", ["0:01 fast music tempo=140 key=D minor"])
    free, steered = model.generate(TWO, 3.0, 3).takes[0], model.generate(timed, 3.0, 3).takes[0]
    assert np.array_equal(free.semantic[:, :25], steered.semantic[:, :25])
    assert not np.array_equal(free.semantic, steered.semantic)
    assert model.understood(Steer(), timed).splitlines() == [
        "0:00 no tempo in numbers, no key",
        "0:01 tempo 140 BPM (set), key D minor (set)",
    ]


def test_a_section_after_the_end_is_refused(model: MusicLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="the section at 0:01 begins after the end of the music, 1 s; make it longer"):
        model.generate(TWO, 1.0)
    monkeypatch.setattr("musiclm.generate.session.load_cues", lambda folder: None)
    plain = MusicLM.from_pretrained(model.bundle.folder)
    assert plain.generate(TWO, 1.5).audio.any()
    with pytest.raises(ValueError, match="made without cues"):
        plain.generate(of_prompts("slow", ["1 fast tempo=120"]), 2.0)


# -- takes


def test_a_take_of_a_story(model: MusicLM, tmp_path: Path) -> None:
    story = of_prompts("slow piano", ["0:01 fast music tempo=140"], blend_s=3)
    music = model.generate(story, 2.5, 3)
    (path,) = music.save(tmp_path / "a.flac", take=True)
    take = load_take(tmp_path / "a.take")
    assert take.about.story == story and take.about.prompt == "fast music" and take.mulan.shape[1] == 3
    kept, now = model.schedule_of(take), told(model, story, 63)
    assert [frame for frame, _ in kept.changes] == [frame for frame, _ in now.changes] == [0, 25, 50]
    for (_, one), (_, other) in zip(kept.changes, now.changes, strict=True):
        assert torch.equal(one.mulan, other.mulan) and one.steers == other.steers
    again = model.from_take(tmp_path / "a.take")
    assert again.audio.tobytes() == music.audio.tobytes()
    assert describe_take(tmp_path / "a.take")["story"] == to_json(story)
    tags = read_tags(path)
    assert tags["title"] == "slow piano → fast music" and tags["story"] == str(story) and tags["blend_s"] == "3"
    assert "slow piano → fast music" in music._repr_html_()
    changed(tmp_path / "a.take", lambda told, arrays: told["about"]["story"]["sections"].pop())
    with pytest.raises(ArtifactError, match="says of itself what can't be"):
        load_take(tmp_path / "a.take")


def test_a_story_is_gone_on_with_as_it_ends(model: MusicLM) -> None:
    story = of_prompts("slow piano", ["0:01 fast music tempo=140 key=D minor"])
    music = model.generate(story, 2.0, 3)
    given = model.given(music)
    assert torch.equal(given.mulan, model.text_codes("fast music")) and given.prompt == "fast music"
    assert (given.steer.tempo_bpm, given.steer.key_name) == (140, "D minor")
    more = model.extend(music, None, 1.0, 5)
    about = more.takes[0].about
    assert about.story is None and about.prompt == "fast music"
    assert (about.config.steer.tempo_bpm, about.config.steer.key_name) == (140, "D minor")
    third = model.extend(more, None, 1.0, 5).takes[0].about
    assert third.config.steer.tempo_bpm == 140, "and so on"
    other = model.extend(music, "slow", 1.0, 5).takes[0].about
    assert other.config.steer.tempo_bpm is None, "another prompt has a tempo of its own"


def test_music_goes_on_with_a_story(model: MusicLM) -> None:
    """Its times count from the joint."""
    first = model.generate("slow piano", 1.0, 3)
    told = model.extend(first, TWO, 2.0, 5)
    plain = model.extend(first, "slow piano", 2.0, 5)
    assert told.audio.shape == plain.audio.shape == (1, 3 * 24000) and told.takes[0].about.story == TWO
    assert np.array_equal(told.takes[0].semantic[:, :50], plain.takes[0].semantic[:, :50])
    assert not np.array_equal(told.takes[0].semantic, plain.takes[0].semantic)


def test_a_story_as_json_is_short() -> None:
    assert len(json.dumps(to_json(TWO))) < 250
