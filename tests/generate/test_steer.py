"""Steering, on codes whose onsets and pitches are known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from musiclm.core.artifact import save_artifact
from musiclm.core.theory import PITCHES
from musiclm.generate.autoregressive import stream_semantic
from musiclm.generate.steer import CodeTraits, Steer, Steering, autocorrelation, fit_of_key, metronome, standardised
from musiclm.models.w2vbert.cues import NUM_CUES
from musiclm.models.w2vbert.tokenizer import CodeCues, SemanticTokenizer, SemanticTokenizerConfig, cues_of_codes
from musiclm.nn.sampling import Sampling
from tests.generate.test_autoregressive import MULAN, make
from tests.models.lm.test_depth import make_deep
from tests.models.w2vbert.test_model import tiny
from tests.toy import SIZE, generators

RATE = 25.0
OFF = Steer(beat=0, tempo=0, key=0)


def some_traits(codes: int = 60) -> CodeTraits:
    """Onsets as in music: most codes without a stroke, some with a strong one; each code of one pitch class."""
    generator = torch.Generator().manual_seed(3)
    onset = torch.rand(codes, generator=generator) ** 3
    chroma = torch.eye(12)[torch.arange(codes) % 12]
    return CodeTraits(((onset - onset.mean()) / onset.std(),), (chroma - chroma.mean(0),), RATE)


TRAITS = some_traits()
ONSET, CHROMA = TRAITS.onset[0], TRAITS.chroma[0]
assert ONSET is not None and CHROMA is not None


def drawn(steer: Steer, frames: int, given: list[int] = [], traits: CodeTraits = TRAITS, seed: int = 0) -> np.ndarray:  # noqa: B006
    """Codes of a model that knows nothing: all alike but for the steering."""
    rng, steering = np.random.default_rng(seed), Steering(traits, steer)
    for code in given:
        steering.observe(code)
    codes = []
    for _ in range(frames):
        p = torch.softmax(bias_of(steering).double(), 0).numpy()
        codes.append(int(rng.choice(len(p), p=p / p.sum())))
        steering.observe(codes[-1])
    return np.array(codes)


def bias_of(steering: Steering) -> Tensor:
    bias = steering.bias()
    assert isinstance(bias, Tensor), "a level that tells onsets always has one"
    return bias


def likeness(codes: np.ndarray) -> np.ndarray:
    return autocorrelation(ONSET.double().numpy()[codes])[1]


@pytest.mark.parametrize("num_lags", [1, 7, 60, 99])
def test_some_lags_are_those_of_all(num_lags: int) -> None:
    x = np.random.default_rng(0).normal(size=60)
    centred = x - x.mean()
    products = [centred[lag:] @ centred[: 60 - lag] / (60 - lag) for lag in range(60)]
    wanted = np.array(products)[:num_lags] / (centred @ centred / 60)
    np.testing.assert_allclose(autocorrelation(x, num_lags)[1], wanted)


def test_a_pulse_goes_on() -> None:
    """Three seconds of strokes every 13 frames, then twelve of a model that would forget them."""
    loud, soft = int(ONSET.argmax()), int(ONSET.argmin())
    given = [loud if frame % 13 == 0 else soft for frame in range(75)]
    kept, forgotten = (likeness(drawn(replace(OFF, beat=beat), 300, given)) for beat in (2.0, 0.0))
    assert kept[13] > 0.3 > 0.15 > abs(forgotten[13])
    assert kept[13] > 2 * kept[6:9].max()


def test_nothing_is_expected_of_what_has_no_pulse() -> None:
    steering = Steering(TRAITS, replace(OFF, beat=2.0))
    for frame in range(200):
        if frame < 50:
            assert not bias_of(steering).any(), "the first two seconds are free"
        steering.observe(5)
    assert not bias_of(steering).any(), "one code for eight seconds"


@pytest.mark.parametrize("bpm", [66.0, 97.0, 120.0, 161.0])
def test_a_tempo_in_numbers(bpm: float) -> None:
    """Strokes fall on its beats from the first on, also where a beat is no whole number of frames."""
    codes = drawn(replace(OFF, tempo=2.0, tempo_bpm=bpm), 500)
    beats = np.arange(500) * bpm / 60 / RATE
    strokes = ONSET.double().numpy()[codes]
    near = np.abs(beats - beats.round()) * 60 * RATE / bpm < 0.6
    between = np.abs(np.abs(beats - beats.round()) - 0.25) < 0.08
    assert strokes[near].mean() > strokes[between].mean() + 1.0
    lags = np.arange(round(0.7 * 60 * RATE / bpm), round(1.4 * 60 * RATE / bpm))
    best = lags[likeness(codes)[lags].argmax()]
    assert abs(best - 60 * RATE / bpm) <= 1, best


def test_a_metronome_has_no_level_of_its_own() -> None:
    for period in (6.25, 12.5, 20.0, 37.5):
        strokes = np.array([metronome(frame, period) for frame in range(1500)])
        assert abs(strokes.mean()) < 0.02 and strokes[0] > 2
        assert strokes[round(period / 2)] < strokes[round(period)] and strokes[round(period / 4)] < 0


def test_a_key_in_so_many_words() -> None:
    for name in ("C major", "F# minor", "Bb major"):
        fit = fit_of_key(CHROMA, name)
        assert fit.mean().abs() < 1e-5 and fit.std() == pytest.approx(1, abs=1e-3)
    codes = drawn(replace(OFF, key=1.4, key_name="D major"), 2000)
    often = [PITCHES[pitch] for pitch in np.argsort(-np.bincount(codes % 12, minlength=12))[:4]]
    assert often[0] == "D" and set(often[1:]) <= {"A", "F#", "G", "E", "B"}
    even = np.bincount(drawn(OFF, 2000) % 12, minlength=12)
    assert even.max() < 1.5 * even.min(), "strengths of 0 leave it alone"


def test_what_a_prompt_asks_for() -> None:
    asked = Steer().as_asked("Melodic dance track in B minor, 126 BPM.")
    assert asked.tempo_bpm == 126 and asked.key_name == "B minor"
    own = Steer(tempo_bpm=90, key_name="C major").as_asked("Melodic dance track in B minor, 126 BPM.")
    assert own.tempo_bpm == 90 and own.key_name == "C major", "what is set goes before"
    assert Steer().as_asked("a song at 999 bpm in a minor key") == Steer()


def test_errors_say_what_to_do() -> None:
    for wrong, said in (
        (dict(tempo_bpm=20.0), "between 30 and 300"),
        (dict(tempo_bpm=float("nan")), "between 30 and 300"),
        (dict(key_name="H dur"), "write one such as"),
        (dict(beat=-1.0), "strength of beat is -1"),
        (dict(key=float("inf")), "0 or more"),
    ):
        with pytest.raises(ValueError, match=said):
            Steer(**wrong)


def steering_of(count: int) -> list[Steering]:
    return [Steering(some_traits(SIZE), Steer(tempo_bpm=130.0, key_name="G major")) for _ in range(count)]


def codes_of(
    frames: int, rows: slice, seeds: tuple[int, ...], prompt: Tensor | None = None, chunk_s: float = 1.0
) -> Tensor:
    pieces = stream_semantic(
        make("semantic"), MULAN[rows], frames, Sampling(guidance=2.0), generators(*seeds), prompt, chunk_s=chunk_s,
        steering=steering_of(len(seeds))
    )  # fmt: skip
    return torch.cat(list(pieces), 2)


def test_steered_batch_equals_single_and_stream_equals_whole() -> None:
    batch = codes_of(120, slice(0, 3), (1, 2, 3))
    assert torch.equal(batch[1:2], codes_of(120, slice(1, 2), (2,)))
    assert torch.equal(batch, codes_of(120, slice(0, 3), (1, 2, 3), chunk_s=0.28))
    free = torch.cat(
        list(stream_semantic(make("semantic"), MULAN, 120, Sampling(guidance=2.0), generators(1, 2, 3))), 2
    )
    assert not torch.equal(batch, free)


def test_what_was_given_is_heard() -> None:
    """A prompt keeps its place on the beat: greedy codes go on as if they had never been cut."""
    greedy, model = Sampling(temperature=0.0), make("semantic")
    whole = torch.cat(list(stream_semantic(model, MULAN[:1], 90, greedy, generators(0), steering=steering_of(1))), 2)
    resumed = stream_semantic(
        model, MULAN[:1], 90, greedy, generators(0), prompt=whole[..., :31], steering=steering_of(1)
    )
    assert torch.equal(whole, torch.cat(list(resumed), 2))
    with pytest.raises(ValueError, match="1 steerings for 3 items"):
        list(stream_semantic(model, MULAN, 5, greedy, generators(1, 2, 3), steering=steering_of(1)))


@pytest.mark.parametrize("num_cues", [0, NUM_CUES])
def test_traits_are_read_from_the_centroids(tmp_path: Path, num_cues: int) -> None:
    config = SemanticTokenizerConfig(w2vbert=tiny(), layer=1, num_clusters=32, num_cues=num_cues)
    tokenizer = SemanticTokenizer(config)
    tokenizer.centroids.normal_()
    save_artifact(tmp_path / "w2vbert", "semantic", config, tokenizer, {})
    cues = cues_of_codes(tmp_path / "w2vbert")
    if not num_cues:
        assert cues is None, "such codes say nothing of onsets"
        return
    assert cues is not None and len(cues) == 1
    assert torch.equal(cues[0].chroma, tokenizer.centroids[:, -14:-2])
    assert torch.equal(cues[0].onset, tokenizer.centroids[:, -2])
    traits = CodeTraits.of(cues, RATE)
    (own,), (chroma,) = traits.onset, traits.chroma
    assert own.shape == (32,) and chroma.shape == (32, 12) and traits.frame_rate_hz == RATE
    onset = tokenizer.centroids[:, -2]
    assert torch.allclose(own, (onset - onset.mean()) / onset.std(), atol=1e-5)
    assert torch.allclose(chroma.mean(0), torch.zeros(12), atol=1e-5)


# -- four codes a frame: two registers, which tell pitch, and the network's of either half, which tell onsets


def four_cues(codes: int = SIZE) -> list[CodeCues]:
    generator = torch.Generator().manual_seed(4)
    notes = [CodeCues(torch.rand(codes, 12, generator=generator), None) for _ in range(2)]
    return [*notes, *[CodeCues(None, torch.rand(codes, generator=generator) ** 3)] * 2]


FOUR = CodeTraits.of(four_cues(), RATE / 2)


def test_traits_of_four_levels() -> None:
    assert FOUR.frame_rate_hz == RATE, "two halves of a frame tell onsets"
    assert [chroma is None for chroma in FOUR.chroma] == [False, False, True, True]
    assert [onset is None for onset in FOUR.onset] == [True, True, False, False]
    for chroma in FOUR.chroma[:2]:
        torch.testing.assert_close(chroma.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
        torch.testing.assert_close(chroma.std(0), torch.ones(12))
    with pytest.raises(ValueError, match="no level of these codes tells onsets"):
        CodeTraits.of(four_cues()[:2], RATE / 2)


def test_a_key_is_heard_in_registers_and_strokes_in_halves() -> None:
    keyed = Steering(FOUR, Steer(key=1.4, key_name="G major", beat=0, tempo=0))
    timed = Steering(FOUR, Steer(tempo=1.8, tempo_bpm=125.0, key=0))
    for step in range(48):  # two beats; from then on what was struck before counts as well
        level = step % 4
        key, time = keyed.bias(), timed.bias()
        if level < 2:
            assert isinstance(key, Tensor) and isinstance(time, float) and time == 0.0
            assert torch.equal(key, 1.4 * fit_of_key(FOUR.chroma[level], "G major"))
        else:
            # half frames at 25 Hz, 12 of them a beat
            due = 1.8 * np.clip(metronome(2 * (step // 4) + level - 2, 12.0), -2, 2)
            assert isinstance(time, Tensor) and not torch.as_tensor(key).any()
            torch.testing.assert_close(time, due * FOUR.onset[level], atol=1e-5, rtol=1e-5)
        keyed.observe(step % SIZE)
        timed.observe(step % SIZE)


def test_codes_of_notes_are_no_strokes() -> None:
    """What is expected depends on the network's codes alone, and is what one level at 25 Hz would expect of them."""
    flat = Steering(CodeTraits((FOUR.onset[2],), (None,), RATE), replace(OFF, beat=2.0))
    one, other = (Steering(FOUR, replace(OFF, beat=2.0)) for _ in range(2))
    loud, soft = int(FOUR.onset[2].argmax()), int(FOUR.onset[2].argmin())
    for half in range(120):
        if half % 2 == 0:
            for level in range(2):
                one.observe((half + level) % SIZE)
                other.observe((3 * half + 7 * level) % SIZE)
        assert torch.equal(bias_of(one), bias_of(other)) and torch.equal(bias_of(one), bias_of(flat))
        for each in (one, other, flat):
            each.observe(loud if half % 10 == 0 else soft)
    assert bias_of(flat).any() and one.frame == 120 and one.level == 0


@pytest.mark.parametrize("depth_width", [0, 24])
def test_steered_frames_of_four_codes(depth_width: int) -> None:
    """A batch equals single runs, a stream the whole, and a prompt is heard level by level."""
    model = make_deep(depth_width=depth_width)

    def of(rows: slice, seeds: tuple[int, ...], steer: Steer | None, sampling: Sampling, **more: Any) -> Tensor:
        steering = [Steering(FOUR, steer) for _ in seeds] if steer else []
        pieces = stream_semantic(model, MULAN[rows], 24, sampling, generators(*seeds), steering=steering, **more)
        return torch.cat(list(pieces), 2)

    warm, steer = Sampling(guidance=2.0), Steer(tempo_bpm=130.0, key_name="G major")
    batch = of(slice(0, 3), (1, 2, 3), steer, warm)
    assert batch.shape == (3, 4, 24)
    assert torch.equal(batch[1:2], of(slice(1, 2), (2,), steer, warm))
    assert torch.equal(batch, of(slice(0, 3), (1, 2, 3), steer, warm, chunk_s=0.4))
    assert not torch.equal(batch, of(slice(0, 3), (1, 2, 3), None, warm))
    for only in (replace(steer, key_name=None), replace(steer, tempo_bpm=None)):
        assert not torch.equal(batch, of(slice(0, 3), (1, 2, 3), only, warm))
    greedy = Sampling(temperature=0.0)
    whole = of(slice(0, 1), (0,), steer, greedy)
    assert torch.equal(whole, of(slice(0, 1), (0,), steer, greedy, prompt=whole[..., :11]))


@pytest.mark.parametrize(
    ("steer", "prompt", "line"),
    [
        (Steer(), "a calm piano piece", "no tempo in numbers, no key"),
        (Steer(), "house at 124 BPM in A minor", "tempo 124 BPM (prompt), key A minor (prompt)"),
        (Steer(tempo_bpm=120.5), "house at 124 BPM", "tempo 120.5 BPM (set), no key"),
        (Steer(key_name="B flat major"), "in D minor", "no tempo in numbers, key B flat major (set)"),
        (Steer(), "not 120 bpm, at 20 bpm", "no tempo, for 20 BPM is not between 30 and 300, no key"),
    ],
)
def test_what_was_understood_is_one_line(steer: Steer, prompt: str, line: str) -> None:
    assert steer.understood(prompt) == line


@pytest.mark.parametrize("late", [0, 4, 9])
def test_a_tempo_is_aligned_with_what_is_gone_on_with(late: int) -> None:
    """120 BPM are 12.5 frames a beat; strokes come `late` frames after frame 0, and are due there from then on."""
    loud, soft = int(ONSET.argmax()), int(ONSET.argmin())
    strikes = {round(late + 12.5 * beat) for beat in range(20)}
    codes = [loud if frame in strikes else soft for frame in range(100)]
    steering = Steering(TRAITS, replace(OFF, tempo=1.0, tempo_bpm=120.0))
    steering.align(codes)
    for code in codes:
        steering.observe(code)
    due = []
    for frame in range(100, 125):
        due.append(metronome(steering.frame, 12.5))
        steering.observe(loud if frame in strikes else soft)
    for beat in (frame for frame in strikes if 101 <= frame < 124):
        assert max(due[beat - 101 : beat - 98]) > 1.0, "on the beat, to a frame"
    steering = Steering(TRAITS, OFF)
    steering.align(codes)
    assert steering.frame == 0, "nothing to align without a tempo"


def two_levels() -> CodeTraits:
    """Frames of two codes, at 12.5 Hz; both tell onsets."""
    (onset,), (chroma,) = TRAITS.onset, TRAITS.chroma
    return CodeTraits((onset, onset), (chroma, None), RATE)


def test_phrases_return_as_in_a_rondo() -> None:
    """A A B B A A C C A of a model that knows nothing, 4 s each; by accident one code in sixty agrees."""
    steer = replace(OFF, again=8.0, phrase_s=4.0, tempo_bpm=120)  # eight beats: 50 frames
    codes = drawn(steer, 100 * 9, traits=two_levels()).reshape(9, 100)
    alike = np.array([[(a == b).mean() for b in codes] for a in codes])
    letters = "AABBAACCA"
    same = np.array([[a == b for b in letters] for a in letters])
    assert alike[same].min() > 0.8 and alike[~same].max() < 0.2
    free = drawn(replace(steer, again=0.0), 100 * 9, traits=two_levels()).reshape(9, 100)
    assert np.array([[(a == b).mean() for b in free] for a in free])[~np.eye(9, dtype=bool)].max() < 0.2
    varied = drawn(replace(steer, again=3.0), 100 * 9, traits=two_levels()).reshape(9, 100)
    assert 0.1 < (varied[1] == varied[0]).mean() < 0.6, "varied, not copied"


def test_what_is_remembered_does_not_grow() -> None:
    steering = Steering(two_levels(), replace(OFF, again=5.0, phrase_s=4.0, tempo_bpm=90))
    for place in range(5000):
        steering.observe(place % 60)
    assert steering.phrase is not None and len(steering.lately) == len(steering.opening) == steering.phrase


@pytest.mark.parametrize(
    ("bpm", "phrase_s", "frames"),
    [(120, 4.0, 50), (120, 4.9, 50), (100, 4.0, 60), (240, 1.0, 12)],
)
def test_a_phrase_is_whole_bars_of_a_tempo(bpm: float, phrase_s: float, frames: int) -> None:
    steering = Steering(two_levels(), replace(OFF, again=5.0, phrase_s=phrase_s, tempo_bpm=bpm, tempo=1e-9))
    codes = [int(code) for code in np.random.default_rng(1).integers(60, size=2 * 80)]
    for place, code in enumerate(codes):
        if 2 * max(frames, phrase_s * 12.5) <= place < 4 * frames:
            bias = bias_of(steering)
            assert int(bias.argmax()) == codes[place - 2 * frames] and bias.max() == pytest.approx(5.0)
        steering.observe(code)


def test_a_phrase_without_a_tempo_is_whole_beats_of_its_own() -> None:
    """Strokes every 0.56 s, which do not go into 4 s."""
    assert ONSET is not None
    quiet, strong = int(ONSET.argmin()), int(ONSET.argmax())
    codes = [strong if place % 14 == 0 else quiet for place in range(2 * 120)]
    steering = Steering(two_levels(), replace(OFF, again=5.0, phrase_s=4.0))
    for code in codes:
        steering.observe(code)
    assert steering.phrase is not None and steering.phrase % 14 == 0 and abs(steering.phrase - 100) < 20
    still = Steering(two_levels(), replace(OFF, again=5.0, phrase_s=4.0))
    for _ in range(2 * 60):
        still.observe(quiet)
    assert still.phrase == 2 * 50, "without beats it is as long as asked"


def test_phrases_begin_anew_with_another_section() -> None:
    steering = Steering(two_levels(), replace(OFF, again=5.0, phrase_s=2.0, tempo_bpm=120))
    for code in range(60):
        steering.observe(code % 60)
    assert bias_of(steering).max() == pytest.approx(5.0)
    steering.retarget(replace(OFF, again=5.0, phrase_s=2.0, tempo_bpm=120))
    assert float(bias_of(steering).abs().max()) == 0.0
    for code in range(50):
        steering.observe(code)
    assert int(bias_of(steering).argmax()) == 0


@pytest.mark.parametrize("phrase_s", [0.0, 0.5, 61.0, float("nan")])
def test_phrases_have_bounds(phrase_s: float) -> None:
    with pytest.raises(ValueError, match="phrase"):
        Steer(phrase_s=phrase_s)
    with pytest.raises(ValueError, match="strength of again"):
        Steer(again=-1.0)


def test_music_shorter_than_a_phrase_is_left_alone() -> None:
    steer = replace(OFF, beat=2.0, phrase_s=16.0)
    steered, left = (Steering(two_levels(), replace(steer, again=again)) for again in (5.0, 0.0))
    first = None
    for place in range(500):
        if first is None and not torch.equal(bias_of(steered), bias_of(left)):
            first = place
        for each in (steered, left):
            each.observe(place * 7 % 60)
    assert first is not None and first >= 400, "codes of 16 s"


def with_tones(traits: CodeTraits) -> CodeTraits:
    """Each code of the first level is one tone, from C4 on; other levels have no melody."""
    first = standardised(torch.eye(128)[60:120] - torch.eye(128)[60:120].mean(1, keepdim=True)).T
    return replace(traits, tones=(first, *[None] * (len(traits.onset) - 1)))


def test_codes_of_the_melodys_tone_become_likelier_frame_by_frame() -> None:
    melody = [60, 64, 67, -1, 128, 119]
    steering, free = (Steering(with_tones(two_levels()), replace(OFF, melody=2.0)) for _ in range(2))
    steering.follow(melody)
    for frame in range(8):
        for level in range(2):
            bias, plain = bias_of(steering), bias_of(free)
            pitch = melody[frame] if frame < len(melody) else -1
            if level == 0 and 0 <= pitch < 128:
                assert int(bias.argmax()) == pitch - 60 and bias.std() == pytest.approx(2.0, rel=0.02)
            else:
                assert torch.equal(bias, plain)
            for each in (steering, free):
                each.observe(5)


def test_a_melody_is_sung_by_a_model_that_knows_nothing() -> None:
    rng, melody = np.random.default_rng(0), [60, 64, 67, 65, 62] * 40
    steering, codes = Steering(with_tones(TRAITS), replace(OFF, melody=1.5)), []
    steering.follow(melody)
    for _ in melody:
        p = torch.softmax(bias_of(steering).double(), 0).numpy()
        codes.append(int(rng.choice(len(p), p=p / p.sum())))
        steering.observe(codes[-1])
    assert (np.array(codes) == np.array(melody) - 60).mean() > 0.9


def test_a_melody_goes_on_through_another_section_and_nothing_else_returns_meanwhile() -> None:
    traits = with_tones(two_levels())
    steering = Steering(traits, replace(OFF, again=5.0, phrase_s=2.0, tempo_bpm=120, melody=2.0))
    steering.follow([64] * 60)
    for code in range(60):
        steering.observe(code % 60)
    tones = traits.tones[0]
    assert tones is not None
    assert torch.equal(bias_of(steering), 2.0 * tones[64]), "no code of a phrase before is likelier"
    steering.retarget(replace(OFF, again=5.0, phrase_s=2.0, tempo_bpm=90, melody=1.0))
    assert torch.equal(bias_of(steering), tones[64])


def test_traits_tell_where_a_melody_goes() -> None:
    codes = four_cues()
    assert not CodeTraits.of(codes, 12.5).can_follow
    tones = torch.rand(len(codes[2].onset), 128, generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    traits = CodeTraits.of([codes[0], replace(codes[1], tones=tones), *codes[2:]], 12.5)
    assert traits.can_follow and [level is not None for level in traits.tones] == [False, True, False, False]
    assert torch.allclose(traits.tones[1].std(1), torch.ones(128), atol=1e-4)  # type: ignore[union-attr]
