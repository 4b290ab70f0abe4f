"""MuLan's text side trained alone: no code of any audio changes, captions are learned, the number of a tempo and the
word for a mood are read.
"""

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from musiclm.core.artifact import ArtifactError, config_hash, read_config
from musiclm.core.asked import tempo_of
from musiclm.data.captions import words
from musiclm.data.captions.wrong import FELT, names_mood, other_moods, with_other_mood, with_other_tempo
from musiclm.data.corpus.captions import CAPTIONS_FILE
from musiclm.data.corpus.manifest import load_manifest
from musiclm.data.labels import LABELS_FILE
from musiclm.models.mulan.model import MuLan
from musiclm.models.mulan.text_task import MuLanTextTask, MuLanTextTaskConfig
from musiclm.train.loop import TrainConfig, train
from tests.models.mulan.test_task import config, corpus, pretrained  # noqa: F401  (corpus is a fixture)

pytestmark = pytest.mark.filterwarnings("ignore:most of .* is unknown")
TEMPI = (60, 90, 130, 180)  # of the four sounds of the corpus
MOODS = ("sad", "groovy", "heroic", "eerie")


@pytest.fixture(scope="module")
def captioned(corpus, tmp_path_factory) -> Path:  # noqa: F811
    """The made-up corpus; each caption names a tempo, which goes with the sound, and nothing else."""
    folder = tmp_path_factory.mktemp("captioned") / "corpus"
    shutil.copytree(corpus, folder, ignore=shutil.ignore_patterns(LABELS_FILE))
    lines = [
        {"track": track.id, "start_s": start, "captions": [f"music at {TEMPI[i % 4]} bpm", f"{TEMPI[i % 4]} bpm"],
            "facts": {}}
        for i, track in enumerate(load_manifest(folder))
        for start in (0.0, 2.0, 4.0)
    ]  # fmt: skip
    (folder / CAPTIONS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    """A MuLan that knows nothing; its text encoder, random but fixed, tells numbers apart."""
    start = pretrained()
    document = json.loads(start.tokenizer_json)
    vocabulary = document["model"]["vocab"]
    for word in ("at", "bpm", *words.MOODS, *map(str, range(50, 201))):
        vocabulary.setdefault(word, len(vocabulary))
    sizes = config(replace(start, config=replace(start.config, vocab_size=len(vocabulary)))).model
    torch.manual_seed(1)
    model = MuLan(sizes, Tokenizer.from_str(json.dumps(document)))
    model.rvq.fit_kmeans(F.normalize(torch.randn(200, sizes.dim), dim=-1))
    model.memory.copy_(F.normalize(torch.randn_like(model.memory), dim=-1))
    folder = tmp_path_factory.mktemp("mulan") / "artifact"
    model.save(folder, {"step": 7})
    return folder


def make(captioned: Path, artifact: Path, cache: Path) -> MuLanTextTask:
    settings = MuLanTextTaskConfig(captions_per_window=2)
    return MuLanTextTask(settings, captioned, batch_size=8, seed=0, start=artifact, cache_dir=cache)


def recipe(steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps, batch_size=8, learning_rate=1e-2, warmup_steps=5, ema_decay=0.9, log_every=steps,
        validate_every=1000, save_every=2
    )  # fmt: skip


def test_numbers_are_read_and_no_code_changes(captioned, artifact, tmp_path):
    task = make(captioned, artifact, tmp_path / "cache")
    assert len(task.wrong["tempo"][0]) == 2 * len(task.data.train) and len(task.wrong["mood"][0]) == 0
    folder = train(task, recipe(150), tmp_path / "run", quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert task.baseline["tempo"] == pytest.approx(math.log(4))
    assert next(entry for entry in logged if entry["kind"] == "train")["tempo"] < 0.5 * task.baseline["tempo"]
    assert (
        next(entry for entry in logged if entry["kind"] == "validation")["median_rank"] < task.baseline["median_rank"]
    )

    before, after = MuLan.from_artifact(artifact), MuLan.from_artifact(folder)
    torch.manual_seed(0)
    clip = torch.randn(1, 1, 12 * 24000) * 0.1
    with torch.no_grad():
        assert torch.equal(before.audio_codes(clip), after.audio_codes(clip))
        assert not torch.equal(before.embed_text(["130 bpm"]), after.embed_text(["130 bpm"]))
        # a held-out piece of each sound ranks its own tempo first
        rows = [next(w for w in task.data.held if f"{bpm} bpm" in task.data.windows[w].captions) for bpm in TEMPI]
        text = after.text_vectors(after.encode_text([f"{bpm} bpm" for bpm in TEMPI]))
        assert (task.audio[rows] @ text.T).argmax(1).tolist() == [0, 1, 2, 3]
    unchanged = {k for k, v in before.state_dict().items() if torch.equal(v, after.state_dict()[k])}
    changed = before.state_dict().keys() - unchanged
    assert changed and all(name.startswith(("text.", "text_pull", "text_heat", "log_scale")) for name in changed)
    assert read_config(folder)["hash"] != read_config(artifact)["hash"]
    assert after.codes_hash == before.codes_hash == read_config(artifact)["hash"]


def test_moods_are_read(captioned, artifact, tmp_path):
    """Each sound has a mood; some captions have wrong ones beside them; a held-out piece ranks its own mood first."""
    felt = tmp_path / "felt"
    shutil.copytree(captioned, felt)
    lines = [json.loads(line) for line in (felt / CAPTIONS_FILE).read_text().splitlines()]
    for line in lines:
        mood = MOODS[TEMPI.index(int(line["captions"][1].split()[0]))]
        line["captions"] = [f"{mood} music", f"music, {mood}"]
    (felt / CAPTIONS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = make(felt, artifact, tmp_path / "cache")
    assert len(task.wrong["mood"][0]) == 2 * len(task.data.train) and len(task.wrong["tempo"][0]) == 0
    folder = train(task, recipe(150), tmp_path / "run", quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert next(entry for entry in logged if entry["kind"] == "train")["mood"] < 0.5 * task.baseline["mood"]
    after = MuLan.from_artifact(folder)
    with torch.no_grad():
        rows = [next(w for w in task.data.held if f"{mood} music" in task.data.windows[w].captions) for mood in MOODS]
        text = after.text_vectors(after.encode_text([f"{mood} music" for mood in MOODS]))
        assert (task.audio[rows] @ text.T).argmax(1).tolist() == [0, 1, 2, 3]


def test_anchored_captions_stay_where_they_were(captioned, artifact, tmp_path):
    """Every second caption names no tempo: with the anchor it hardly moves, and numbers are learned all the same."""
    mixed = tmp_path / "mixed"
    shutil.copytree(captioned, mixed)
    lines = [json.loads(line) for line in (mixed / CAPTIONS_FILE).read_text().splitlines()]
    for line in lines:
        line["captions"][1] = "music"
    (mixed / CAPTIONS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = MuLanTextTaskConfig(captions_per_window=2)
    before, moved = MuLan.from_artifact(artifact), {}
    for anchor in (0.0, 30.0):
        task = MuLanTextTask(
            replace(settings, anchor=anchor), mixed, batch_size=8, seed=0, start=artifact, cache_dir=tmp_path / "cache"
        )  # fmt: skip
        after = MuLan.from_artifact(train(task, recipe(100), tmp_path / f"run{anchor}", quiet=True))
        with torch.no_grad():
            pooled = before.encode_text(["music"])
            moved[anchor] = float(1 - (before.text_vectors(pooled) * after.text_vectors(pooled)).sum())
        logged = [json.loads(line) for line in (tmp_path / f"run{anchor}" / "log.jsonl").read_text().splitlines()]
        assert next(entry for entry in logged if entry["kind"] == "train")["tempo"] < 0.7 * task.baseline["tempo"]
    assert moved[30.0] < 0.05 and moved[30.0] < 0.2 * moved[0.0]
    with pytest.raises(ValueError, match="anchor is -1"):
        replace(settings, anchor=-1)


def test_stopped_and_resumed_equals_never_stopped(captioned, artifact, tmp_path):
    whole = train(make(captioned, artifact, tmp_path / "cache"), recipe(4), tmp_path / "whole", quiet=True)
    stopped = make(captioned, artifact, tmp_path / "cache")
    original = stopped.batch

    def killed(step):
        if step == 2:
            raise KeyboardInterrupt
        return original(step)

    stopped.batch = killed
    with pytest.raises(KeyboardInterrupt):
        train(stopped, recipe(4), tmp_path / "parts", quiet=True)
    resumed = train(make(captioned, artifact, tmp_path / "cache"), recipe(4), tmp_path / "parts", quiet=True)
    assert read_config(whole)["hash"] == read_config(resumed)["hash"]


def test_what_does_not_fit_is_refused(captioned, artifact, tmp_path):
    document = json.loads((artifact / "config.json").read_text())
    document["config"]["text_trained_layers"] = 1
    document["config_hash"] = config_hash(document["config"])
    shutil.copytree(artifact, tmp_path / "trained")
    (tmp_path / "trained" / "config.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="text_trained_layers 1"):
        make(captioned, tmp_path / "trained", tmp_path / "cache")
    with pytest.raises(ArtifactError, match="no trained model"):
        make(captioned, tmp_path / "nothing", tmp_path / "cache")


@pytest.mark.parametrize(
    ("caption", "bpm"),
    [
        ("Surf rock at 168 BPM.", 168),
        ("a tune of about 92 beats per minute, in 3/4", 92),
        ("90 beats a minute", 90),
        ("tempo 128, four on the floor", 128),
        ("a 12-bar blues of the 80s with 7 players", None),
        ("an 808 and a tempo", None),
    ],
)
def test_a_wrong_tempo_is_the_only_wrong_word(caption, bpm):
    assert tempo_of(caption) == bpm
    for seed in range(50):
        other = with_other_tempo(caption, random.Random(seed))
        if bpm is None:
            assert other is None
            continue
        assert other is not None
        found = tempo_of(other)
        assert found is not None and 50 <= found <= 200 and abs(math.log(found / bpm)) > 0.12
        assert other.replace(f"{found:g}", str(bpm), 1) == caption
    assert with_other_tempo("at 300 bpm", random.Random(0)) is None


def test_a_wrong_mood_is_the_only_wrong_word():
    pool = ["A groovy, upbeat song with a bass-heavy beat.", "Danceable funk.", "a heroic theme"]
    others = other_moods(pool)
    assert {"sad", "solemn", "eerie"} <= set(others)
    assert not {"groovy", "funky", "upbeat", "danceable", "heroic", "triumphant"} & set(others)  # said, or nearly
    assert not names_mood("a bass-heavy guitar-led track in D minor")
    for seed in range(50):
        wrong = with_other_mood(pool[0], others, random.Random(seed))
        said = [found[0] for found in FELT.finditer(wrong)]
        changed = [mood for mood in said if mood not in ("groovy", "upbeat")]
        assert len(said) == 2 and len(changed) == 1
        assert wrong.replace("An ", "A ").replace(changed[0], "#") in (
            pool[0].replace(w, "#") for w in ("groovy", "upbeat")
        )
        assert wrong.startswith("An " if wrong.split()[1][0] in "aeiou" else "A ")
    assert with_other_mood("Sad piano", ["happy"], random.Random(1)) == "Happy piano"
