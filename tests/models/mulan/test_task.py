"""The MuLan task learns a made-up corpus: beats the baseline, repeats batches, resumes exactly, exports."""

import hashlib
import json
import math
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile
import torch
from tokenizers import Tokenizer

from musiclm.data.corpus.captions import CAPTIONS_FILE
from musiclm.data.corpus.manifest import RENDERED, Track, load_manifest
from musiclm.data.labels import LABELS_FILE, Labels
from musiclm.models.mulan.model import WINDOW_S, MuLan, contrastive_loss
from musiclm.models.mulan.task import MuLanTask, MuLanTaskConfig, spec_augment
from musiclm.models.mulan.text import PretrainedBert, TextEncoder
from musiclm.models.mulan.windows import WindowCache, cached_rows, load_windows
from musiclm.train.loop import TrainConfig, train
from tests.models.mulan.test_model import SMALL
from tests.models.mulan.test_text import small_tokenizer

RATE = 24000
WORDS = {220.0: {"piano": 0.9}, 880.0: {"flute": 0.9}, 3000.0: {"synth": 0.9}, 0.0: {"drums": 0.9}}


def pretrained() -> PretrainedBert:
    document = small_tokenizer()
    vocabulary = document["model"]["vocab"]
    for word in ("piano", "flute", "synth", "drums", "woodwinds", "percussion", "keys", "a", "the", ",", "."):
        vocabulary.setdefault(word, len(vocabulary))
    text = replace(SMALL.text, vocab_size=len(vocabulary))
    torch.manual_seed(0)
    return PretrainedBert(config=text, state=TextEncoder(text).state_dict(), tokenizer_json=json.dumps(document))


def config(start: PretrainedBert, **changes) -> MuLanTaskConfig:
    model = replace(SMALL, text=start.config, text_trained_layers=changes.pop("layers", 0))
    return MuLanTaskConfig(model=model, captions_per_window=2, **changes)


pytestmark = pytest.mark.filterwarnings("ignore:most of .* is unknown")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Eight tracks of four sounds, 14 s each: three quarters to train, the rest to validate."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    tracks, labels = [], []
    t = np.arange(14 * RATE) / RATE
    for number in range(16):
        hz, tags = list(WORDS.items())[number % 4]
        sound = np.sin(2 * np.pi * hz * (1 + 0.003 * number) * t) if hz else rng.normal(size=t.size) * (t % 0.5 < 0.1)
        sound = (sound * 0.2 + rng.normal(size=t.size) * 0.002).astype(np.float32)
        name = f"{number:016x}"
        soundfile.write(folder / "audio" / f"{name}.flac", sound, RATE)
        digest = hashlib.sha256(sound.tobytes()).hexdigest()
        tracks.append(
            Track(
                id=name, path=f"audio/{name}.flac", source="s", package="p", origin=f"{name}.wav", title="", artist="",
                genre="",
                licence="CC0", seconds=14.0, sha256=digest, split="train" if number < 12 else "validation", piece=name,
                held_out=False,
            )
        )  # fmt: skip
        labels += [
            Labels(track=name, start_s=start, tags=tags, level_db=-17.0, brightness_hz=hz) for start in (0.5, 3.9)
        ]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(asdict(track)) + "\n" for track in tracks))
    (folder / LABELS_FILE).write_text("".join(json.dumps(asdict(x)) + "\n" for x in labels))
    return folder


def make(corpus, cache, seed=0, **changes) -> MuLanTask:
    start = pretrained()
    return MuLanTask(config(start, **changes), corpus, batch_size=8, seed=seed, pretrained=start, cache_dir=cache)


def test_batches_are_a_function_of_seed_and_step(corpus, tmp_path):
    first, again = make(corpus, tmp_path), make(corpus, tmp_path)
    for step in (0, 3):
        a, b = first.batch(step), again.batch(step)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(first.batch(0)["mels"], first.batch(1)["mels"])
    assert first.batch(0)["mels"].shape == (8, 5, 64, 48) and first.batch(0)["pooled"].shape[:2] == (8, 2)


def test_same_piece_is_no_negative(corpus, tmp_path):
    task = make(corpus, tmp_path)
    same = task.data.same(np.array([0, 1, 2]), np.array([[0, 1], [0, 1], [0, 1]]))
    assert same.shape == (2, 3, 3) and bool(same[0, 0, 1]) and bool(same.diagonal(dim1=1, dim2=2).all())


def test_same_words_are_no_negative(corpus, tmp_path):
    """Pairs of one piece, or of captions that say the same, by plain loops over what was picked."""
    task = make(corpus, tmp_path)
    captions, windows = task.data.captions, task.data.windows
    captions[0][1], captions[-1][1] = "A piano", "a Piano"
    captions[0][0], captions[-1][0] = "a flute", "drums"
    picked, choices = np.array([0, 1, len(windows) - 1]), np.array([[0, 1]] * 3)
    same = task.data.same(picked, choices)
    for caption in (0, 1):
        for i, first in enumerate(picked):
            for j, second in enumerate(picked):
                piece = windows[first].track.piece == windows[second].track.piece
                words = captions[first][caption].lower() == captions[second][caption].lower()
                assert bool(same[caption, i, j]) is (piece or words)
    assert not same[0, 0, 2] and same[1, 0, 2]


def test_cached_mels_are_the_towers(corpus, tmp_path):
    """What training sees of a labelled window is what `embed_audio` computes of it."""
    task = make(corpus, tmp_path)
    model = task.model.mulan.eval()
    for index in (0, 1, 31):
        window = task.data.windows[index]
        audio, _ = soundfile.read(corpus / window.track.path, dtype="float32")
        start = round(window.start_s * RATE)
        clip = torch.from_numpy(audio[start : start + WINDOW_S * RATE])[None]
        with torch.no_grad():
            expected = model.embed_audio(clip[None])
            found = model.audio_vectors(task.data.features(model, np.array([index])))
        torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)  # float16 in the cache


def test_caches_grow_without_making_a_row_twice(corpus, tmp_path, monkeypatch):
    windows = load_windows(corpus)
    start = pretrained()
    model = MuLan(config(start).model, Tokenizer.from_str(start.tokenizer_json))
    WindowCache(windows[:3], corpus, tmp_path, model, 2)
    import musiclm.models.mulan.windows as module

    made = []
    original = module._context_mel
    monkeypatch.setattr(module, "_context_mel", lambda window, *rest: made.append(window) or original(window, *rest))
    grown = WindowCache(windows[:5], corpus, tmp_path, model, 2)
    assert made == windows[3:5] and len(grown.mels) == 5
    np.testing.assert_array_equal(grown.mels, WindowCache(windows[:5], corpus, tmp_path, model, 2).mels)


@pytest.mark.parametrize("seed", [0, 1])
def test_learns_and_finds_pieces_it_never_heard(corpus, tmp_path, seed):
    """By rank: sixty steps from a random text encoder are sure of too much for the loss on other pieces, and words
    differ from seed to seed.
    """
    task = make(corpus, tmp_path / "cache", seed=seed, layers=2)
    recipe = TrainConfig(
        steps=60, batch_size=8, learning_rate=3e-3, warmup_steps=5, ema_decay=0.9, seed=seed, log_every=60,
        validate_every=1000, save_every=1000
    )  # fmt: skip
    folder = train(task, recipe, tmp_path / "run", quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    trained, validation = (next(entry for entry in logged if entry["kind"] == kind) for kind in ("train", "validation"))
    assert trained["contrastive"] < task.baseline["contrastive"] - 0.1
    assert validation["median_rank"] <= 3 < task.baseline["median_rank"] - 1
    model = MuLan.from_artifact(folder)
    info = json.loads((folder / "config.json").read_text())["info"]
    assert set(info["gap_validation"]) >= {"before", "centred", "after"} and info["baseline"]["contrastive"] > 0
    with torch.no_grad():
        audio = model.audio_vectors(task.data.features(model, np.arange(4)))
        text = model.text_vectors(model.encode_text(["flute", "drums"]))
    for vectors in (audio, text):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(vectors)), atol=1e-3, rtol=0)
    assert (
        float(text[0] @ text[1]) < 0.999 and float(audio[0] @ audio[-1]) < 0.999
    )  # other words, other sounds: other places


def test_stopped_and_resumed_equals_never_stopped(corpus, tmp_path):
    recipe = TrainConfig(
        steps=4, batch_size=8, warmup_steps=1, ema_decay=0.9, log_every=10, validate_every=1000, save_every=2
    )
    whole = train(make(corpus, tmp_path / "cache"), recipe, tmp_path / "whole", quiet=True)
    stopped = make(corpus, tmp_path / "cache")
    original = stopped.batch

    def killed(step):
        if step == 2:
            raise KeyboardInterrupt
        return original(step)

    stopped.batch = killed
    with pytest.raises(KeyboardInterrupt):
        train(stopped, recipe, tmp_path / "parts", quiet=True)
    resumed = train(make(corpus, tmp_path / "cache"), recipe, tmp_path / "parts", quiet=True)
    first, second = MuLan.from_artifact(whole), MuLan.from_artifact(resumed)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_training_the_text_encoder_too(corpus, tmp_path):
    task = make(corpus, tmp_path, layers=1)
    batch = task.batch(0)
    assert "pooled" not in batch
    before = task.model.mulan.text_encoder.layers[1].up.weight.clone()
    optimizer = torch.optim.AdamW([p for p in task.model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for step in range(15):  # one batch, over and over
        torch.manual_seed(step)
        update = next(iter(task.updates(batch, step)))
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        losses.append(float(update.log["contrastive"]))
    assert losses[-1] < losses[0]
    assert not torch.equal(before, task.model.mulan.text_encoder.layers[1].up.weight)


def test_spec_augment_hides_a_part_and_leaves_the_rest():
    mels = torch.randn(4, 5, 64, 48)
    masked = spec_augment(mels, torch.zeros(64), 10, 12)
    hidden = (masked == 0).float().mean()
    assert 0 < float(hidden) < 0.6
    shift = (masked - mels)[masked != 0].abs()
    assert float(shift.max()) <= 0.2 + 1e-5


def test_needs_labels_and_the_encoder_the_config_names(corpus, tmp_path):
    start = pretrained()
    with pytest.raises(ValueError, match="make them equal"):
        MuLanTask(MuLanTaskConfig(), corpus, batch_size=8, pretrained=start)
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.jsonl").write_text((corpus / "manifest.jsonl").read_text())
    with pytest.raises(ValueError, match="neither captions nor labels"):
        MuLanTask(config(start), other, batch_size=8, pretrained=start)
    assert len(load_manifest(corpus)) == 16


def test_captions_of_the_corpus_are_preferred_to_labels(corpus, tmp_path):
    """Of a track with captions they are what MuLan learns; its windows have no part in the head that predicts tags."""
    both = tmp_path / "both"
    shutil.copytree(corpus, both)
    tracks = load_manifest(both)
    lines = [
        {"track": track.id, "start_s": start, "captions": [f"a flute at {start}", "woodwinds"], "facts": {}}
        for track in tracks[:8]
        for start in (0.0, 2.0)
    ]
    (both / CAPTIONS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = make(both, tmp_path / "cache")
    captioned = [w for w in task.data.windows if w.captions]
    assert {w.track.id for w in captioned} == {track.id for track in tracks[:8]} and len(captioned) == 16
    assert {w.track.id for w in task.data.windows if w.labels} == {track.id for track in tracks[8:]}
    assert task.data.windows[0].pool(4) == task.data.windows[0].pool(4)
    assert sorted(task.data.windows[0].pool(2)) == ["a flute at 0.0", "woodwinds"]
    without = task.targets.isnan().any(1)
    assert without.tolist() == [bool(w.captions) for w in task.data.windows]
    assert math.isfinite(task.baseline["tags"])
    update = next(iter(task.updates(task.batch(0), 0)))
    update.loss.backward()
    assert math.isfinite(float(update.loss)) and "tags" in update.log
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in task.model.parameters())


def test_rendered_tracks_have_their_share_and_figures_of_their_own(corpus, tmp_path):
    """Half of the tracks are rendered ones: of a step as many as asked for, and in validation apart, in wording no
    training caption has.
    """
    both = tmp_path / "both"
    shutil.copytree(corpus, both)
    tracks = load_manifest(both)
    rendered = {track.id for track in tracks[1::2]}
    tracks = [replace(track, source=RENDERED) if track.id in rendered else track for track in tracks]
    (both / "manifest.jsonl").write_text("".join(json.dumps(asdict(track)) + "\n" for track in tracks))
    lines = [{"track": t, "start_s": 0.0, "captions": ["a flute"], "unseen": ["woodwinds"]} for t in sorted(rendered)]
    (both / CAPTIONS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def share(task: MuLanTask) -> float:
        """Rendered windows have no labels: their targets are not numbers."""
        return float(torch.stack([task.batch(step)["targets"].isnan().any(1) for step in range(40)]).float().mean())

    assert share(make(both, tmp_path / "cache", rendered_share=0.2)) == pytest.approx(0.2, abs=0.05)
    assert share(make(both, tmp_path / "cache", rendered_share=1.0)) == 1
    task = make(both, tmp_path / "cache")
    assert share(task) == pytest.approx(0.5, abs=0.1)
    assert {w.captions for w in task.data.windows if w.captions and w.track.split == "train"} == {("a flute",)}
    assert {task.data.windows[w].captions for w in task.data.held_rendered} == {("woodwinds",)}
    assert len(task.data.held) == 4 and len(task.data.held_rendered) == 2
    figures = task.validate(task.model)
    assert figures.keys() <= task.baseline.keys()
    assert task.baseline["loss_validation"] == pytest.approx(math.log(4))
    assert task.baseline["rendered_loss_validation"] == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="no rendered track"):
        make(corpus, tmp_path / "other", rendered_share=0.5).batch(0)


def test_a_corpus_of_captions_alone_is_enough(corpus, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(corpus, alone, ignore=shutil.ignore_patterns(LABELS_FILE))
    lines = [{"track": track.id, "start_s": 0.0, "captions": ["piano"], "facts": {}} for track in load_manifest(alone)]
    (alone / CAPTIONS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = make(alone, tmp_path / "cache")
    update = next(iter(task.updates(task.batch(0), 0)))
    assert math.isfinite(float(update.loss)) and "tags" not in update.log and len(task.data.windows) == 16


def test_the_baseline_is_what_a_blind_model_gets(corpus, tmp_path):
    task = make(corpus, tmp_path)
    n = len(task.data.held)
    flat = torch.ones(n, 4) / 2
    loss = contrastive_loss(flat, flat, torch.tensor(1.0), torch.eye(n, dtype=torch.bool)).loss
    assert float(loss) == pytest.approx(task.baseline["loss_validation"], rel=1e-5)


def test_a_damaged_cache_is_made_again(tmp_path):
    def make_rows(missing):
        return np.array([[i] for i in missing], np.float16)

    path, keys = tmp_path / "cache.npz", ["a", "b", "c"]
    rows = cached_rows(path, keys, make_rows)
    whole = path.read_bytes()
    for keep in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        np.testing.assert_array_equal(cached_rows(path, keys, make_rows), rows)
        assert len(np.load(path)["keys"]) == 3 and [one.name for one in tmp_path.iterdir()] == ["cache.npz"]
