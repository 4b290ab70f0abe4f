"""Probes, and the benchmark that probes every layer: they find what is there, and nothing where there is nothing."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.w2vbert_probes import linear_probe, probe_semantic_tokens
from musiclm.data.corpus.manifest import Track, save_manifest
from musiclm.evaluate.probes import ProbeClips, histogram, probe_tokens, skill, token_probe
from musiclm.models.w2vbert.cues import chroma, loudness_db, onset_strength
from musiclm.models.w2vbert.model import W2vBert, W2vBertConfig
from musiclm.nn.conformer import ConformerConfig


def tone(hz: float, seconds: float = 1.0) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * hz * torch.arange(round(seconds * 24000)) / 24000)[None, None]


@pytest.mark.parametrize("hz, pitch_class", [(440.0, 9), (261.63, 0), (523.25, 0), (185.0, 6)])
def test_chroma_names_the_note_in_any_octave(hz, pitch_class):
    found = chroma(tone(hz))
    assert found.shape == (1, 25, 12)
    assert (found[0, 5:20].argmax(-1) == pitch_class).all()
    assert (found[0, 5:20, pitch_class] > 0.9).all()
    assert (chroma(torch.zeros(1, 1, 24000)) == 0).all()


def test_onsets_are_where_notes_begin():
    audio = torch.zeros(1, 1, 24000)
    audio[..., 12000:] = tone(440.0, 0.5)
    strength = onset_strength(audio)
    assert strength.shape == (1, 25) and int(strength[0].argmax()) in (12, 13)
    assert float(strength[0, :10].abs().max()) < 1e-5


def test_loudness_is_in_decibels():
    assert float(loudness_db(tone(440.0)).mean()) == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.1)
    assert (loudness_db(torch.zeros(1, 1, 4800)) == -60).all()


def test_skill_is_0_for_the_mean_and_1_for_the_truth():
    target = torch.randn(50, 3)
    mean = torch.zeros(3)
    assert skill(torch.zeros(50, 3), target, mean) == pytest.approx(0)
    assert skill(target, target, mean) == pytest.approx(1)


def test_token_probe_finds_what_tokens_hold_and_nothing_in_noise():
    torch.manual_seed(0)
    codes = torch.randint(0, 10, (4000, 1))
    target = torch.randn(10, 3)[codes[:, 0]]
    half = slice(0, 2000), slice(2000, 4000)
    assert token_probe(codes[half[0]], target[half[0]], codes[half[1]], target[half[1]], 10) > 0.99
    noise = codes[torch.randperm(4000)]
    assert abs(token_probe(noise[half[0]], target[half[0]], noise[half[1]], target[half[1]], 10)) < 0.02
    unseen = torch.full((2000, 1), 10)  # a token training never saw answers the mean
    assert token_probe(codes[half[0]], target[half[0]], unseen, target[half[1]], 11) == pytest.approx(0, abs=1e-5)


def test_a_second_level_tells_what_the_first_left_over():
    torch.manual_seed(0)
    codes = torch.randint(0, 10, (4000, 2))
    parts = torch.randn(10, 3), torch.randn(10, 3)
    target = parts[0][codes[:, 0]] + parts[1][codes[:, 1]]
    train, test = slice(0, 2000), slice(2000, 4000)

    def skill_of(levels):
        own = codes[:, levels]
        return token_probe(own[train], target[train], own[test], target[test], 10)

    shares = [float(part.var(0, unbiased=False).sum()) for part in parts]
    for level in range(2):
        assert skill_of([level]) == pytest.approx(shares[level] / sum(shares), abs=0.05)
    assert skill_of([0, 1]) > 0.98 and skill_of([1, 0]) > 0.98
    same = codes[:, [0, 0]]
    twice = token_probe(same[train], target[train], same[test], target[test], 10)
    assert twice == pytest.approx(skill_of([0]), abs=0.01), "a level that says the same again adds nothing"


def test_slow_frames_of_several_codes_answer_for_all_that_lie_in_them():
    """Codes of 80 ms against targets of 40 ms, an odd one left over; histograms of tags count every level."""
    torch.manual_seed(0)

    def side(clips):
        codes = torch.randint(0, 6, (clips, 2, 12))
        halves = torch.stack([table[codes[:, level]] for level, table in enumerate(tables)], 2)  # b t 2 n
        targets = {"chroma": torch.cat([halves.flatten(1, 2), torch.randn(clips, 1, 12)], 1)}
        targets |= {"onset": torch.randn(clips, 25, 1), "loudness": targets["chroma"][..., :1]}
        return codes, ProbeClips(torch.zeros(clips, 1, 24000), targets, (codes[:, 1] == 3).float().mean(1)[:, None])

    tables = torch.randn(2, 6, 12)
    (train_codes, train), (test_codes, test) = side(60), side(30)
    found = probe_tokens(train_codes, test_codes, train, test, 6)
    assert found["chroma"] > 0.98 and found["loudness"] > 0.98 and abs(found["onset"]) < 0.05 and found["tags"] > 0.7
    first = probe_tokens(train_codes[:, :1], test_codes[:, :1], train, test, 6)
    assert 0.2 < first["chroma"] < 0.8 and first["tags"] < 0.3


def test_linear_probe_is_least_squares():
    torch.manual_seed(0)
    x, weights = torch.randn(500, 6) * 3 + 1, torch.randn(6, 2)
    y = x @ weights + 5
    assert linear_probe(x[:400], y[:400], x[400:], y[400:], ridge=1e-8) > 0.999
    assert linear_probe(x[:400], torch.randn(400, 2), x[400:], torch.randn(100, 2)) < 0.1


def test_histograms_ignore_order():
    codes = torch.tensor([[[0, 1, 1, 3]], [[1, 3, 0, 1]]])
    bags = histogram(codes, 4)
    several = histogram(codes.expand(2, 3, 4), 4)
    assert torch.equal(several, bags.repeat(1, 3)), "level by level"
    assert torch.equal(bags[0], bags[1]) and bags[0].square().tolist() == pytest.approx([0.25, 0.5, 0, 0.25])


def test_the_whole_report_on_a_small_corpus(tmp_path):
    (tmp_path / "audio").mkdir()
    tracks = []
    generator = np.random.default_rng(0)
    for i in range(8):
        notes = [tone(220 * 2 ** (generator.integers(0, 24) / 12), 0.25)[0, 0].numpy() for _ in range(12)]
        audio = np.concatenate([note * np.linspace(1, 0, len(note)) for note in notes]) * (0.1 + 0.1 * i)
        soundfile.write(tmp_path / "audio" / f"{i}.flac", audio, 24000)
        tracks.append(
            Track(
                id=f"{i}", path=f"audio/{i}.flac", source="x", package="p", origin=f"{i}", title="", artist="",
                genre="", licence="CC0", seconds=3.0, sha256="", split="train" if i < 6 else "test", piece=f"{i}",
                held_out=False,
            )
        )  # fmt: skip
    save_manifest(tmp_path, tracks, [])
    torch.manual_seed(0)
    conformer = ConformerConfig(width=16, num_heads=2, num_layers=2, ff_width=32, kernel=3, dropout=0.0)
    model = W2vBert(
        W2vBertConfig(
            conformer=conformer, contrastive_layers=1, num_mels=20, codebook_size=8, code_width=8, quantizer_inputs=8
        )
    )
    report = probe_semantic_tokens(
        model, tmp_path, num_clusters=16, crop_s=1.0, num_train_clips=24, num_test_clips=8,
        tag_scores=lambda audio: audio.square().mean(-1).log(),
    )  # fmt: skip
    assert set(report.layers) == {0, 1, 2} and set(report.token_layers) == {1, 2}
    assert set(report.tokens) == {"chroma", "onset", "loudness", "tags"} == set(report.mel_tokens)
    assert report.tokens == report.token_layers[report.layer]
    assert report.mel_tokens["loudness"] > report.shuffled_tokens["loudness"] + 0.05
    assert all(abs(report.shuffled_tokens[name]) < 0.2 for name in ("chroma", "onset", "loudness"))
    assert 1 < report.tokens_used <= 16 and 0 < report.token_entropy_bits <= 4
    report.save(tmp_path / "report.json", steps=0)
    assert json.loads((tmp_path / "report.json").read_text())["tokens"] == report.tokens
    with pytest.raises(ValueError, match="layer 2"):
        probe_semantic_tokens(model, tmp_path, layer=2, cluster_layers=[1], crop_s=1.0, num_train_clips=4)
