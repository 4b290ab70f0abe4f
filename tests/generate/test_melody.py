"""Music that follows a melody: decoding beside the slow way, windows, files that are no melody, takes."""

from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import torch

from musiclm.core.artifact import ArtifactError
from musiclm.core.audio import AudioError
from musiclm.core.bundle import Bundle
from musiclm.generate.autoregressive import decode, stream_semantic
from musiclm.generate.melody import check_melody_file, highest_line
from musiclm.generate.music import Music
from musiclm.generate.session import MusicLM
from musiclm.generate.take import MelodyFile, describe_take, load_take
from musiclm.models.lm.melody import NO_MELODY
from musiclm.nn.sampling import Sampling, draw, probabilities
from tests.mock import mock_bundle
from tests.models.lm.test_melody import make, melody_codes, streams_of
from tests.models.melody.toy import line
from tests.toy import generators

TUNE = [(0.4 * i, 0.4 * i + 0.38, pitch) for i, pitch in enumerate((60, 62, 64, 65, 67, 65))]
WARM = Sampling(temperature=0.9, top_k=10, guidance=2.0)
BOTH = pytest.mark.parametrize("whole_frames", [True, False])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MusicLM:
    return MusicLM.from_pretrained(mock_bundle(Path(tmp_path_factory.mktemp("melody")), True, melody=True).folder)


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
        logits = told_logits(model, streams, slow, by_frame)[:, level, frame]
        without = model(*layout.prefix(streams, null), slow)[:, level, frame]
        logits = without + 2.0 * (logits - without)
        slow[:, level, frame] = draw(probabilities(logits, WARM), u[:, step - given * levels])
    assert torch.equal(codes, slow)


def told_logits(
    model: torch.nn.Module, streams: dict[str, torch.Tensor], target: torch.Tensor, by_frame: torch.Tensor
) -> torch.Tensor:
    """Logits of a melody that is given at the target's rate already."""
    from musiclm.models.lm import model as module

    before = module.by_frame
    module.by_frame = lambda codes, *_: codes  # type: ignore[assignment]
    try:
        with torch.no_grad():
            return model(*model.layout.prefix(streams), target, melody=by_frame)  # type: ignore[operator]
    finally:
        module.by_frame = before


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
    assert told.seconds == pytest.approx(2.8), "the last frame is not full"
    frames = told.frames(model.semantic.layout.target_spec, 10, 60)
    assert frames.shape == (1, 4, 60)
    there = frames[0, 0] >= 0
    assert not there[:10].any() and there[10:45].all() and not there[45:].any()
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
    more: Music = model.extend(tmp_path / "a.take", None, 0.9)
    assert more.takes[0].about.melody is None and file.exists()
    given = model.given(tmp_path / "a.take")
    both = np.concatenate(list(model.stream(None, 0.9, 0, given=given, new_only=True, melody=model.melody(hum))))
    alone = np.concatenate(list(model.stream(None, 0.9, 0, given=given, new_only=True)))
    assert both.shape == alone.shape and not np.array_equal(both, alone)
    broken = replace(take, melody=None)
    path = broken.save(tmp_path / "b.take")
    with pytest.raises(ArtifactError, match="no whole take"):
        load_take(path)
    with pytest.raises(ValueError, match="no name of a file"):
        MelodyFile(name="../x.wav", hash="")


def test_most_bundles_follow_no_melody_and_say_so(bundle: Bundle, hum: Path) -> None:
    with pytest.raises(ValueError, match="the bundle mock can't follow a melody") as refused:
        MusicLM.from_pretrained(bundle.folder).generate("slow music", 1.0, melody=hum)
    assert "\n" not in str(refused.value)


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


def test_silence_short_sounds_and_drums_alone_are_no_melody(model: MusicLM, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(48000), 24000)
    soundfile.write(tmp_path / "short.wav", 0.1 * np.ones(4800), 24000)
    write_midi(tmp_path / "drums.mid", [(0.0, 1.0, 36, 9)])
    for name, message in (("silent.wav", "is silent"), ("short.wav", "too short"), ("drums.mid", "besides drums")):
        check_melody_file(tmp_path / name)
        with pytest.raises(AudioError, match=message):
            model.melody(tmp_path / name)
