"""Music that follows a melody: decoding beside the slow way, windows, files that are no melody, takes."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from musiclm.core.artifact import ArtifactError
from musiclm.core.audio import AudioError
from musiclm.core.bundle import Bundle
from musiclm.core.config import to_json
from musiclm.core.streams import MELODY
from musiclm.generate import edit
from musiclm.generate.autoregressive import decode, log_likelihood, stream_semantic
from musiclm.generate.config import item_generator
from musiclm.generate.melody import check_melody_file, highest_line, melody_sound
from musiclm.generate.music import Music
from musiclm.generate.session import MusicLM
from musiclm.generate.story import Story
from musiclm.generate.take import MelodyFile, Take, begin_at_joint, describe_take, load_take
from musiclm.models.lm.melody import NO_MELODY
from musiclm.nn.sampling import Sampling, draw, probabilities
from tests.mock import mock_bundle
from tests.models.lm.test_melody import make, melody_codes, streams_of
from tests.models.melody.toy import line
from tests.toy import generators

RATE = 24000
TUNE = [(0.4 * i, 0.4 * i + 0.38, pitch) for i, pitch in enumerate((60, 62, 64, 65, 67, 65))]
WARM = Sampling(temperature=0.9, top_k=10, guidance=2.0)
BOTH = pytest.mark.parametrize("whole_frames", [True, False])


@pytest.fixture(scope="module", params=["learned", "steered"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MusicLM:
    """One whose semantic stage reads the codes of a melody encoder; one that is steered to its pitches."""
    folder = Path(tmp_path_factory.mktemp("melody"))
    return MusicLM.from_pretrained(mock_bundle(folder, True, melody=request.param == "learned").folder)


@pytest.fixture(scope="module")
def hum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(tmp_path_factory.mktemp("hum")) / "hum.wav"
    soundfile.write(path, 0.5 * line(TUNE, 2.41, 2.0), 24000)
    return path


@BOTH
@pytest.mark.parametrize("given", [0, 3])
def test_decoding_equals_the_slow_way(whole_frames: bool, given: int) -> None:
    """The whole sequence read again for each code, the unguided half without a melody."""
    model, frames = make(whole_frames), 6
    streams = {"mulan": streams_of(whole_frames)["mulan"]}
    layout, levels = model.layout, model.layout.target_spec.levels
    by_frame = melody_codes(frames, 3)
    by_frame[:, :, 4] = NO_MELODY
    known = torch.randint(0, 16, (2, levels, given))
    u = torch.rand(2, (frames - given) * levels)
    steps = list(decode(model, {**streams, "melody": by_frame}, frames, WARM, u, known))
    codes = torch.cat([known, torch.stack(steps, 1).unflatten(1, (-1, levels)).transpose(1, 2)], 2)
    null = torch.ones(2, dtype=torch.bool)
    slow = torch.cat([known, torch.zeros(2, levels, frames - given, dtype=torch.long)], 2)
    for step in range(given * levels, frames * levels):
        level, frame = step % levels, step // levels
        with torch.no_grad():
            logits = model(*layout.prefix(streams), slow, melody=by_frame)[:, level, frame]
            without = model(*layout.prefix(streams, null), slow)[:, level, frame]
        logits = without + 2.0 * (logits - without)
        slow[:, level, frame] = draw(probabilities(logits, WARM), u[:, step - given * levels])
    assert torch.equal(codes, slow)


@BOTH
def test_a_window_that_moves_on_takes_its_part_along(whole_frames: bool) -> None:
    model, total = make(whole_frames), 70 if whole_frames else 130  # windows of 25 or 50 frames
    mulan, codes = streams_of(whole_frames)["mulan"][:1], melody_codes(total, 1, batch=1)
    window = model.layout.crop_frames()
    greedy = Sampling(temperature=0.0)
    long = torch.cat(list(stream_semantic(model, mulan, total, greedy, generators(0), melody=codes)), 2)
    at = window // 2  # the last half, rounded up, is kept
    tail = stream_semantic(
        model, mulan, total - at, greedy, generators(0), prompt=long[..., at:window], melody=codes[..., at:]
    )
    assert torch.equal(torch.cat(list(tail), 2), long[..., at:])
    other = codes.clone()
    other[..., total - 5 :] = (other[..., total - 5 :] + 1) % 8
    changed = torch.cat(list(stream_semantic(model, mulan, total, greedy, generators(0), melody=other)), 2)
    assert torch.equal(changed[..., : total - 5], long[..., : total - 5]) and not torch.equal(changed, long)


def test_the_melody_changes_the_music_and_the_same_seed_repeats_it(model: MusicLM, hum: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "other.wav", line([(a, b, p + 5) for a, b, p in TUNE], 2.41, 2.0), 24000)
    music = model.generate(["slow music", None], 1.3, 3, melody=hum)
    again = model.generate("slow music", 1.3, 3, melody=hum)
    assert again.audio.tobytes() == music.audio[0].tobytes(), "batch = single"
    codes = [
        one.takes[0].semantic
        for one in (
            music,
            model.generate("slow music", 1.3, 3, melody=tmp_path / "other.wav"),
            model.generate("slow music", 1.3, 3),
        )
    ]
    assert not np.array_equal(codes[0], codes[1]) and not np.array_equal(codes[0], codes[2])


def test_after_a_melody_music_goes_on(model: MusicLM, hum: Path) -> None:
    told = model.melody(hum)
    assert told.seconds == pytest.approx(2.8 if told.spec == MELODY else 2.48), "the last frame is not full"
    before = 10 * RATE * 2 // 25  # samples of frames at 12.5 Hz
    frames = model.followed(told, -before, 60)
    assert frames.shape == (1, told.spec.levels, 60)
    there, last = frames[0, 0] >= 0, 10 + round(12.5 * told.seconds)
    assert not there[:10].any() and there[10:last].all() and not there[last:].any()
    assert torch.equal(model.followed(told, before, 20), frames[:, :, 20:40])
    later = replace(told, file=told.file.later(before))
    assert torch.equal(model.followed(later, 0, 60), frames)
    pieces = np.concatenate(list(model.stream("slow music", 4.0, 1, melody=told)))
    assert (
        len(pieces) == 4 * 24000
        and pieces.tobytes() == model.generate("slow music", 4.0, 1, melody=hum).audio.tobytes()
    )


def test_a_take_tells_of_its_melody_and_goes_on(model: MusicLM, hum: Path, tmp_path: Path) -> None:
    music = model.generate("slow music", 1.3, 3, melody=hum)
    (file,) = music.save(tmp_path / "a.wav", take=True)
    take = load_take(tmp_path / "a.take")
    assert take.id == music.takes[0].id and take.about.melody == model.melody(hum).file
    assert np.array_equal(take.melody, model.melody(hum).codes[0]) and take.about.melody.name == "hum.wav"
    assert model.from_take(tmp_path / "a.take").audio.tobytes() == music.audio.tobytes()
    assert music.tags()["melody"] == "hum.wav" and describe_take(tmp_path / "a.take")["melody"]["name"] == "hum.wav"
    assert file.exists()
    broken = replace(take, melody=None)
    path = broken.save(tmp_path / "b.take")
    with pytest.raises(ArtifactError, match="no whole take"):
        load_take(path)
    with pytest.raises(ValueError, match="no name of a file"):
        MelodyFile(name="../x.wav", hash="")


def test_music_that_goes_on_follows_a_melody_from_the_joint(model: MusicLM, hum: Path, tmp_path: Path) -> None:
    model.generate("slow music", 1.3, 3).save(tmp_path / "a.wav", take=True)
    told, plain = (model.extend(tmp_path / "a.take", None, 0.9, melody=melody) for melody in (hum, None))
    assert told.audio.shape == plain.audio.shape and not np.array_equal(told.audio, plain.audio)
    (about,) = (take.about for take in told.takes)
    assert about.melody == model.melody(hum).file.later(about.given_samples) and about.given_samples > 0
    assert plain.takes[0].about.melody is None
    given = model.given(tmp_path / "a.take")
    new = np.concatenate(list(model.stream(None, 0.9, 0, given=given, new_only=True, melody=model.melody(hum))))
    assert new.tobytes() == told.audio[0, about.given_samples :].tobytes()


def test_music_that_goes_on_follows_the_rest_of_its_melody(model: MusicLM, hum: Path, tmp_path: Path) -> None:
    """As the whole piece would have, had it been asked for at once; nothing is left after the end."""
    first = model.generate("slow music", 1.28, 3, melody=hum)
    more = model.extend(first, None, 1.0, 5)
    assert more.takes[0].about.melody == first.takes[0].about.melody, "it begins where it began"
    assert not np.array_equal(more.takes[0].semantic, model.extend(silenced(first), None, 1.0, 5).takes[0].semantic)
    by_frame = model.followed(model.melody(hum), 0, 30)
    given = model.given(first)
    assert given.melody is not None
    assert torch.equal(model.followed(given.melody, 0, 14), by_frame[:, :, 16:30])
    new_only = model.extend(first, None, 1.0, 5, new_only=True).takes[0]
    assert np.array_equal(new_only.semantic, more.takes[0].semantic)
    own = first.takes[0].about.melody
    assert own is not None and new_only.about.melody == own.later(-given.parent.joint_samples)
    other = model.extend(first, None, 1.0, 5, melody=hum).takes[0].about
    assert other.melody is not None and other.melody.start_samples == other.given_samples, "a melody of its own wins"
    long = model.generate("slow music", 3.2, 3, melody=hum)
    assert model.extend(long, None, 1.0, 5).takes[0].about.melody is None


@pytest.mark.parametrize("prompts", [1, 2])
def test_live_music_begins_with_a_melody(model: MusicLM, hum: Path, prompts: int) -> None:
    """As the piece, or the story, of the same prompts does, and goes on without when it ends."""
    config = model.default_config()
    config = replace(config, storm=replace(config.storm, rounds=(1,), window_s=4.0))
    live = model.live("slow music", 7, config, melody=hum)
    blocks = [next(live) for _ in range(4)]
    if prompts > 1:
        live.change("fast music")
    blocks += [next(live) for _ in range(4)]
    audio = np.concatenate(blocks)
    assert live.made_s > model.melody(hum).seconds
    told = Story.parse("\n".join(f"{at_s} {prompt}" for at_s, prompt in live.played))
    again = model.generate(told, live.made_s + 2.5, 7, live.config, melody=hum).audio[0]
    assert again[: len(audio)].tobytes() == audio.tobytes()
    assert model.generate(told, live.made_s + 2.5, 7, live.config).audio[0, : len(audio)].tobytes() != audio.tobytes()


def test_a_bundle_that_can_follow_none_says_so(unsteered: Bundle, hum: Path) -> None:
    model = MusicLM.from_pretrained(unsteered.folder)
    for make_it in (model.live, lambda prompt, melody: model.generate(prompt, 1.0, melody=melody)):
        with pytest.raises(ValueError, match="the bundle mock can't follow a melody") as refused:
            make_it("slow music", melody=hum)
        assert "\n" not in str(refused.value)


def test_a_story_follows_one_melody_through_its_sections(model: MusicLM, hum: Path) -> None:
    story = Story.parse("0:00 slow music\n0:01 fast music")
    told = model.generate(story, 2.4, 3, melody=hum).takes[0]
    without, one = model.generate(story, 2.4, 3).takes[0], model.generate("slow music", 2.4, 3, melody=hum).takes[0]
    change = model.clock.frame(1.0)
    assert np.array_equal(told.semantic[:, :change], one.semantic[:, :change])
    assert not np.array_equal(told.semantic, without.semantic) and not np.array_equal(told.semantic, one.semantic)
    assert told.about.story == story and told.about.melody == model.melody(hum).file


# -- edits


@pytest.fixture(scope="module")
def first(model: MusicLM, hum: Path) -> Music:
    return model.generate("slow music", 2.8, 3, melody=hum)


def deafened(take: Take) -> Take:
    """The same codes, made without a melody."""
    about = replace(take.about, melody=None)
    return replace(take, about=about, document=to_json(about), melody=None)


def silenced(music: Music) -> Music:
    return replace(music, takes=tuple(deafened(take) for take in music.takes))


def draws_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits of whatever parent draw by their seed alone, so that only what the models are told differs."""
    monkeypatch.setattr(edit, "_generator", lambda about, stage: item_generator(about.seed, stage))


def test_what_is_edited_follows_the_melody_where_it_did_before(
    model: MusicLM, first: Music, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws_alike(monkeypatch)
    (before,) = first.takes
    edits = {
        "repaint": lambda music: model.repaint(music, 0.9, 1.9, None, 1),
        "vary": lambda music: model.vary(music, 1.0, None, 1),
        "loop": lambda music: model.loop(music, 2.0, 0.64, 240.0, None, 1),
    }
    for verb, make_it in edits.items():
        music = make_it(first)
        (take,) = music.takes
        assert take.about.verb == verb and take.melody is not None and before.melody is not None
        assert take.about.encoders == before.about.encoders and "melody" in take.about.encoders
        assert np.array_equal(take.melody, before.melody), "kept whole, for later edits"
        assert music.tags()["melody"] == "hum.wav"
        assert not np.array_equal(take.semantic, make_it(silenced(first)).takes[0].semantic), verb
        assert make_it(silenced(first)).takes[0].about.melody is None
        music.save(tmp_path / f"{verb}.wav", take=True)
        assert load_take(tmp_path / f"{verb}.take").id == take.id
    starts = {verb: load_take(tmp_path / f"{verb}.take").about.melody.start_samples for verb in edits}  # type: ignore[union-attr]
    assert starts == {"repaint": 0, "vary": 0, "loop": -load_take(tmp_path / "loop.take").about.loop.start_samples}  # type: ignore[union-attr]
    assert starts["loop"] < 0


def test_the_models_are_told_what_lies_at_the_place_of_the_edit(
    model: MusicLM, first: Music, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[torch.Tensor] = []

    def seen(*arguments: Any, melody: torch.Tensor | None = None, **more: Any) -> Any:
        assert melody is not None
        told.append(melody[0, 0])
        return stream_semantic(*arguments, melody=melody, **more)

    monkeypatch.setattr(edit, "stream_semantic", seen)
    (melody,) = torch.from_numpy(first.takes[0].melody[:1].astype(np.int64))  # type: ignore[index]
    learned = model.semantic.config.melody is not None
    by_frame = torch.nn.functional.pad(melody.repeat_interleave(5) if learned else melody, (0, 20), value=NO_MELODY)
    model.repaint(first, 0.88, 1.92, None, 1, drafts=1)  # frames 11 to 24
    assert torch.equal(told[-1], by_frame[:24])
    model.vary(first, 0.5, None, 1)
    assert torch.equal(told[-1], by_frame[:35])
    music = model.loop(first, 2.0, 0.64, 240.0, None, 1, drafts=1)  # from frame 8; two bars of a second
    assert torch.equal(told[-1], by_frame[8 : 8 + len(told[-1])]) and len(told[-1]) == 25
    edited = model.repaint(music, 0.96, 1.6, None, 1, drafts=1)  # of the loop: what is told moves on with it
    assert torch.equal(told[-1], by_frame[8 : 8 + 20])
    assert edited.takes[0].about.melody == music.takes[0].about.melody


def test_a_bundle_that_follows_no_melody_edits_no_take_that_does(model: MusicLM, first: Music, tmp_path: Path) -> None:
    plain = Path(tmp_path / "plain")
    without = MusicLM.from_pretrained(mock_bundle(plain, True, cues=False).folder)
    with pytest.raises(ValueError, match="can't follow a melody") as refused:
        without.vary(first)
    assert "\n" not in str(refused.value)
    (take,) = first.takes
    about = replace(take.about, encoders={**take.about.encoders, "melody": "0" * 64})
    other = replace(first, takes=(replace(take, about=about, document=to_json(about)),))
    with pytest.raises(ArtifactError, match="with another melody"):
        model.repaint(other, 0.9, 1.9)


def test_a_take_that_begins_at_the_joint_keeps_the_melodys_place(model: MusicLM, hum: Path, tmp_path: Path) -> None:
    model.generate("slow music", 1.6, 3).save(tmp_path / "a.wav", take=True)
    given, takes = model.given(tmp_path / "a.take"), list[Take]()
    list(model.stream(None, 1.6, 0, given=given, melody=model.melody(hum), on_take=takes.append))
    assert takes[0].about.melody == model.melody(hum).file.later(given.parent.joint_samples)
    assert begin_at_joint(takes[0]).about.melody == model.melody(hum).file


def test_steered_music_sounds_more_like_its_melody(tmp_path: Path, hum: Path) -> None:
    """By the tones that its own codes tell, frame by frame."""
    model = MusicLM.from_pretrained(mock_bundle(tmp_path, True).folder)
    traits, told = model._traits, model.melody(hum)
    assert traits is not None
    pitches = model.followed(told, 0, 30)[0, 0].tolist()
    assert sum(0 <= one < 128 for one in pitches) > 20

    def likeness(strength: float) -> float:
        config = model.default_config()
        config = replace(config, steer=replace(config.steer, melody=strength))
        fits = []
        for seed in range(3):
            codes = model.generate("slow music", 2.4, seed, config, melody=hum).takes[0].semantic
            for tones, row in zip(traits.tones, codes.tolist(), strict=True):
                if tones is not None:
                    pairs = zip(pitches, row, strict=True)
                    fits += [float(tones[one, code]) for one, code in pairs if 0 <= one < 128]
        return float(np.mean(fits))

    free, firm = likeness(0.0), likeness(3.0)
    assert firm > free + 0.5
    assert likeness(0.0) == free


def test_what_follows_is_judged_beside_its_melody() -> None:
    model = make(True)
    mulan, codes, told = streams_of(True)["mulan"], torch.randint(0, 16, (2, 4, 9)), melody_codes(9, 3)
    own = log_likelihood(model, mulan, codes, 4, told)
    layout = model.layout
    with torch.no_grad():
        logits = model(*layout.prefix({"mulan": mulan}), codes, melody=told).log_softmax(-1)
    picked = logits.gather(-1, codes[..., None])[:, :, 4:, 0]
    assert torch.allclose(own, picked.mean((1, 2))) and not torch.allclose(own, log_likelihood(model, mulan, codes, 4))


# -- MIDI


def write_midi(path: Path, notes: list[tuple[float, float, int, int]]) -> Path:
    """Notes (start, end, pitch, channel) at 120 quarters a minute."""
    track, now = mido.MidiTrack(), 0
    events = [(a, "note_on", p, c) for a, _, p, c in notes] + [(b, "note_off", p, c) for _, b, p, c in notes]
    for at, kind, pitch, channel in sorted(events):
        ticks = round(at * 960)
        track.append(mido.Message(kind, note=pitch, channel=channel, velocity=90, time=ticks - now))
        now = ticks
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(path)
    return path


def test_the_highest_notes_are_the_line() -> None:
    assert highest_line([(0.0, 1.0, 60), (0.0, 2.0, 48)]) == [(0.0, 1.0, 60), (1.0, 2.0, 48)]
    assert highest_line([(0.0, 2.0, 60), (0.5, 1.0, 72)]) == [(0.0, 0.5, 60), (0.5, 1.0, 72), (1.0, 2.0, 60)]
    assert highest_line([(0.0, 1.0, 60), (1.0, 2.0, 60)]) == [(0.0, 1.0, 60), (1.0, 2.0, 60)], "struck again"
    assert highest_line([(0.0, 1.0, 60), (0.3, 0.7, 50)]) == [(0.0, 1.0, 60)]
    assert highest_line([]) == []


def test_midi_and_its_sound_are_one_melody(model: MusicLM, tmp_path: Path) -> None:
    """A bass below and drums beside it do nothing; other notes do."""
    one = write_midi(tmp_path / "a.mid", [(a, b, p, 0) for a, b, p in TUNE])
    with_bass = [(a, b, p, 0) for a, b, p in TUNE] + [(0.4 * i, 0.4 * i + 0.38, 36, 1) for i in range(6)]
    two = write_midi(tmp_path / "b.mid", [*with_bass, (0.0, 0.1, 80, 9)])
    other = write_midi(tmp_path / "c.mid", [(a, b, p + 3, 0) for a, b, p in TUNE])
    codes = [model.melody(path).codes for path in (one, two, other)]
    assert torch.equal(codes[0], codes[1]) and not torch.equal(codes[0], codes[2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mid", b"MThd", "is a damaged MIDI file"),
        ("a.mid", b"RIFF....", "no MIDI file"),
        ("a.mid", None, "no such file"),
        ("a.wav", None, "a.wav"),
        ("a.wav", b"text", "a.wav"),
    ],
)
def test_what_is_no_melody_is_refused_in_a_line(
    model: MusicLM, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=message) as refused:
        model.melody(tmp_path / name)
    assert "\n" not in str(refused.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@drawn(st.binary(max_size=60), st.integers(-3, 3), st.integers(-(2**15), 2**15 - 1))
def test_any_bytes_are_a_melody_or_refused_in_a_line(tmp_path: Path, track: bytes, kind: int, ticks: int) -> None:
    """A head that is well, with division by zero and times that go backwards among them, and anything after it."""
    path = tmp_path / "a.mid"
    head = b"MThd" + struct.pack(">IhHh", 6, kind, 1, ticks)
    path.write_bytes(head + b"MTrk" + struct.pack(">I", len(track)) + track)
    try:
        assert melody_sound(path).ndim == 1
    except AudioError as refused:
        assert "\n" not in str(refused)


def slowest_line(notes: list[tuple[float, float, int]]) -> list[tuple[float, int]]:
    """What sounds at each hundredth: the highest note."""
    found = []
    for at in range(400):
        held = [pitch for start, end, pitch in notes if start <= at / 100 + 0.005 < end]
        found.append((at / 100, max(held, default=0)))
    return found


@settings(max_examples=50, deadline=None)
@drawn(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.integers(40, 80)), max_size=12))
def test_at_every_moment_the_highest_note_sounds(notes: list[tuple[int, int, int]]) -> None:
    tenths = [(start / 10, (start + length) / 10, pitch) for start, length, pitch in notes]
    line = highest_line(tenths)
    assert all(a[1] <= b[0] for a, b in zip(line, line[1:], strict=False))
    assert slowest_line(line) == slowest_line(tenths)


def test_silence_short_sounds_and_drums_alone_are_no_melody(model: MusicLM, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(48000), 24000)
    soundfile.write(tmp_path / "short.wav", 0.1 * np.ones(4800), 24000)
    write_midi(tmp_path / "drums.mid", [(0.0, 1.0, 36, 9)])
    for name, message in (("silent.wav", "is silent"), ("short.wav", "too short"), ("drums.mid", "besides drums")):
        check_melody_file(tmp_path / name)
        with pytest.raises(AudioError, match=message):
            model.melody(tmp_path / name)
