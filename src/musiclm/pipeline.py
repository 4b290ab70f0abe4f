"""From a corpus to a bundle: which stage is trained from what, in which order, and where everything lies.

    DATA/                       a corpus (musiclm corpus build)
    RUNS/<stage>/               checkpoint, log, artifact/ of each stage
    RUNS/tokens/                the token store, a stream for each trained encoder
    RUNS/bundle/                the result of `train all`

Encoders come first: soundstream, w2vbert and mulan need audio only and do not wait for one another. Each then fills its stream of
the token store, and a language model can begin as soon as the streams that it reads are there.
"""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from musiclm.artifact import CONFIG_FILE, ArtifactError, load_artifact, read_config, write_atomic
from musiclm.bundle import ENCODERS, MODELS, Bundle, assemble, check_encoders, open_bundle
from musiclm.config import to_json
from musiclm.corpus.clips import ClipSampler, eval_clips
from musiclm.corpus.manifest import load_manifest
from musiclm.lm.task import LmTask
from musiclm.mulan.model import MuLan
from musiclm.presets import STAGES, Preset
from musiclm.soundstream.model import SoundStream
from musiclm.soundstream.task import SoundStreamTask
from musiclm.store import ENCODER_OF, STREAMS, TokenStore
from musiclm.storm.task import StormTask
from musiclm.tokenize import Encoder, tokenize_corpus
from musiclm.train import STATE_FILE, Task, TrainConfig, train
from musiclm.w2vbert.task import W2vBertTask
from musiclm.w2vbert.tokenizer import SemanticTokenizer

Say = Callable[[str], None]
REQUIRED = {*ENCODERS, "semantic"}  # of a bundle


def artifact_of(runs: Path, stage: str, start: str | None = None) -> Path:
    """Where the trained model of a stage lies: in `runs`, else in the bundle `start`. Raises ArtifactError if it is in neither."""
    folder = runs / stage / "artifact"
    if (folder / CONFIG_FILE).exists():
        return folder
    if start is not None:
        return open_bundle(start).part(stage)
    raise ArtifactError(f"{stage} is not trained in {runs} yet; run: musiclm train {stage}")


def build_task(
    stage: str, preset: Preset, data: Path, runs: Path, start: Path | None = None
) -> tuple[Task, TrainConfig]:
    """The task of a stage and its loop. Raises CorpusError or StoreError when what the stage learns from is not there.

    start: an artifact of the stage that training begins with.
    """
    recipe: Any = getattr(preset, stage)
    loop: TrainConfig = recipe.train
    if stage == "soundstream":
        return SoundStreamTask(recipe.task, data, loop.batch_size, loop.seed, start), loop
    if stage == "w2vbert":
        tracks = load_manifest(data)
        crop_s = recipe.task.crop_s
        sampler = ClipSampler(data, [t for t in tracks if t.split == "train"], crop_s, loop.seed)
        held = eval_clips(data, [t for t in tracks if t.split == "validation"], crop_s, 32, loop.seed)[0]
        return W2vBertTask(recipe.task, sampler, held, loop.batch_size, loop.seed), loop
    if stage == "mulan":
        from musiclm.mulan.task import MuLanTask
        from musiclm.mulan.text import load_pretrained
        from musiclm.mulan.text_task import MuLanTextTask

        common: dict[str, Any] = {
            "batch_size": loop.batch_size,
            "seed": loop.seed,
            "cache_dir": runs / "mulan" / "cache",
        }
        if start is not None:
            return MuLanTextTask(recipe.task, data, start=start, **common), loop
        return MuLanTask(recipe.task, data, pretrained=load_pretrained(), **common), loop
    store = TokenStore(runs / "tokens", ("mulan", "semantic") if stage == "semantic" else STREAMS)
    if stage == "storm":
        return StormTask(recipe.task, store, loop.batch_size, loop.seed), loop
    return LmTask(recipe.task, store, loop.batch_size, loop.seed), loop


def describe_data(data: Path) -> dict[str, Any]:
    """Hours by split, licences and the number of tracks, for the model card."""
    tracks = load_manifest(data)
    hours: dict[str, float] = {}
    licences: dict[str, float] = {}
    for track in tracks:
        hours[track.split] = hours.get(track.split, 0.0) + track.seconds / 3600
        if track.split == "train":
            licences[track.licence] = licences.get(track.licence, 0.0) + track.seconds / 3600
    return {
        "sources": sorted({track.source for track in tracks}),
        "tracks": len(tracks),
        "hours": {split: round(value, 2) for split, value in sorted(hours.items())},
        "train_hours_by_licence": {name: round(value, 2) for name, value in sorted(licences.items())},
    }


def train_stage(
    stage: str,
    preset: Preset,
    data: Path,
    runs: Path,
    *,
    start: str | None = None,
    device: str = "cpu",
    precision: str = "auto",
    max_minutes: float | None = None,
    quiet: bool = False,
) -> Path | None:
    """Trains one stage or goes on with it; the folder of its artifact, or None if it stopped early.

    A finished stage is not trained again. start: a bundle (folder, shipped name, hub id) whose model of this stage a fresh run begins
    with: of SoundStream the decoder learns, of MuLan the text side. Raises: ArtifactError if the folder holds a run of other settings, or the bundle's model is of other sizes or encoders.
    """
    if stage not in STAGES:
        raise ValueError(f"no stage {stage!r}; there are {', '.join(STAGES)} and all")
    if start is not None and stage not in (*MODELS, "mulan", "soundstream"):
        raise ValueError(
            f"{stage} is an encoder: with other weights its tokens would mean other things; "
            f"--from is for soundstream (its decoder), mulan (its text side), {', '.join(MODELS)}"
        )
    folder = runs / stage
    recipe = to_json(getattr(preset, stage))
    begin = part = None
    if start is not None:
        part = open_bundle(start).part(stage)
        begin = load_artifact(part, _kind(part))
        if begin.config != recipe["task"]["model"]:
            raise ArtifactError(
                f"the {stage} model in {part} has other sizes than this preset's; choose its preset, or set them"
            )
        recipe["from"] = begin.hash
    recorded = folder / "recipe.json"
    if recorded.exists() and (folder / STATE_FILE).exists():
        before = json.loads(recorded.read_text())
        # only the length of a run may change: everything else would make another model under the same name
        if {**before, "train": {**before["train"], "steps": 0}} != {**recipe, "train": {**recipe["train"], "steps": 0}}:
            raise ArtifactError(
                f"{folder} holds a run with other settings (see {recorded.name} there); name another --runs folder or remove it"
            )
    if finished(runs, stage, recipe["train"]["steps"]):
        return folder / "artifact"
    if (folder / "artifact").exists() and not (folder / STATE_FILE).exists():
        raise ArtifactError(
            f"{folder / 'artifact'} holds a model but {folder} no checkpoint to go on from; training would replace it: "
            "name another --runs folder, or move it away"
        )
    task, loop = build_task(stage, preset, data, runs, part)
    info: dict[str, Any] = {"data": describe_data(data), "recipe": recipe}
    if begin is not None:
        if isinstance(task, LmTask | StormTask):
            check_encoders(stage, begin.info.get("encoders", {}), task.store.encoders)
        info["from"] = {key: begin.info[key] for key in ("step", "seconds", "train_hours", "from") if key in begin.info}
        info["from"]["hash"] = begin.hash
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(recorded, json.dumps(recipe, indent=1))
    return train(
        task,
        loop,
        folder,
        device=device,
        precision=precision,
        max_minutes=max_minutes,
        info=info,
        begin=begin if stage in MODELS else None,  # SoundStream's and MuLan's tasks load the weights themselves
        quiet=quiet,
    )


def finished(runs: Path, stage: str, steps: int) -> bool:
    """Whether a stage's artifact is there and has had all its steps."""
    folder = runs / stage / "artifact"
    return (folder / CONFIG_FILE).exists() and read_config(folder)["info"].get("step", 0) >= steps


def tokenize(
    data: Path,
    runs: Path,
    *,
    start: str | None = None,
    streams: Sequence[str] = STREAMS,
    max_seconds_per_track: float | None = None,
    speeds: Sequence[float] = (),
    device: str = "cpu",
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Fills streams of RUNS/tokens, each with the encoder trained in RUNS, or, where there is none, that of the bundle `start`.

    max_seconds_per_track, speeds: as `musiclm.tokenize.tokenize_corpus`.
    on_progress: (stream, tracks done, tracks in all). Raises: ArtifactError if an encoder is missing, ValueError for an unknown stream or a speed
    outside 0.5 to 2.
    """
    loaders: dict[str, Callable[[Path], Any]] = {
        "mulan": MuLan.from_artifact,
        "semantic": SemanticTokenizer.from_artifact,
        "acoustic": SoundStream.from_artifact,
    }
    for stream in streams:
        if stream not in loaders:
            raise ValueError(f"no stream {stream!r}; there are {', '.join(STREAMS)}")
    for stream in streams:
        encoder = Encoder.of(loaders[stream](artifact_of(runs, ENCODER_OF[stream], start)), device)
        told = None if on_progress is None else functools.partial(on_progress, stream)
        tokenize_corpus(
            data,
            encoder,
            runs / "tokens",
            max_seconds_per_track=max_seconds_per_track,
            speeds=speeds,
            on_progress=told,
        )
    return runs / "tokens"


def label(data: Path, say: Say, windows_per_track: int = 6) -> None:
    """Weak labels for MuLan's captions, into DATA/labels.jsonl; what is there is kept."""
    from musiclm.mulan.labels import label_corpus
    from musiclm.mulan.tagger import Tagger

    tagger = None
    try:
        tagger = Tagger.load()
    except ValueError as error:
        say(f"labels without instrument and mood tags: {error}")
    for count, _ in enumerate(label_corpus(data, tagger, windows_per_track=windows_per_track), 1):
        if count % 100 == 0:
            say(f"labelled {count} windows")


def train_all(
    preset: Preset,
    data: Path,
    runs: Path,
    *,
    name: str,
    device: str = "cpu",
    precision: str = "auto",
    max_minutes: float | None = None,
    say: Say = print,
    quiet: bool = False,
) -> Bundle | None:
    """Every stage in order, and the bundle; what is finished is not done again. None if the time was up first."""
    import time

    deadline = None if max_minutes is None else time.monotonic() + max_minutes * 60

    def left() -> float | None:
        return None if deadline is None else max(0.0, (deadline - time.monotonic()) / 60)

    for stage in STAGES:
        if stage == "mulan":
            label(data, say, preset.label_windows_per_track)
        if stage == "semantic":
            tokenize(data, runs, streams=("mulan", "semantic"), speeds=preset.speeds, device=device)
            longest = preset.max_seconds_per_track
            tokenize(data, runs, streams=("acoustic",), max_seconds_per_track=longest, device=device)
        if (
            train_stage(stage, preset, data, runs, device=device, precision=precision, max_minutes=left(), quiet=quiet)
            is None
        ):
            return None
        say(f"{stage}: done")
    return make_bundle(runs, runs / "bundle", name)


def make_bundle(
    runs: Path,
    out: Path,
    name: str,
    *,
    start: str | None = None,
    notes: str = "",
    sampling: dict[str, Any] | None = None,
) -> Bundle:
    """Puts the trained stages of a run together. The encoders and the semantic stage must be there; decoders may be missing.

    start: a bundle that has the stages which RUNS lacks, and the sampling if none is given. notes: Markdown at the head of the model
    card. sampling: settings that `musiclm generate` takes by default ({"semantic": {...}, "storm": {...}, "steer": {...}}, fields of
    Sampling, StormSampling and Steer).
    """
    there = set() if start is None else set(open_bundle(start).parts)
    there |= {stage for stage in MODELS if (runs / stage / "artifact" / CONFIG_FILE).exists()}
    artifacts = {stage: artifact_of(runs, stage, start) for stage in (*ENCODERS, *MODELS) if stage in there | REQUIRED}
    if sampling is None and start is not None:
        sampling = open_bundle(start).document.get("sampling")
    facts = {"sampling": sampling or {}}
    return assemble(out, artifacts, name, model_card(name, artifacts, notes), facts)


def model_card(name: str, artifacts: dict[str, Path], notes: str = "") -> str:
    """A card written from what the artifacts say of themselves, after `notes`."""
    infos = {stage: read_config(folder)["info"] for stage, folder in artifacts.items()}
    lines = [
        f"# {name}",
        "",
        "A MusicLM bundle: text to 24 kHz mono music. The tables are written by `musiclm bundle` from the run itself.",
        "",
    ]
    lines += [notes, ""] if notes else []
    lines += ["## Data", "", "MuLan's text encoder starts from all-MiniLM-L6-v2, Apache-2.0."]
    stages_of: dict[str, list[str]] = {}
    for stage, info in infos.items():
        stages_of.setdefault(json.dumps(info.get("data", {}), sort_keys=True), []).append(stage)
    for described, stages in stages_of.items():
        data = json.loads(described)
        hours = ", ".join(f"{split} {value} h" for split, value in data.get("hours", {}).items())
        lines += ["", f"**{', '.join(stages)}**: {data.get('tracks', '?')} tracks of {', '.join(data.get('sources', ['?']))}; {hours}.", ""]  # fmt: skip
        lines += ["Hours of training music by licence:", ""]
        lines += [f"- {licence}: {hours}" for licence, hours in data.get("train_hours_by_licence", {}).items()]
    lines += [
        "",
        "## Stages",
        "",
        "| stage | parameters | steps | minutes | validation figures (chance or unigram in brackets) |",
    ]
    lines += ["| --- | --- | --- | --- | --- |"]
    for stage, info in infos.items():
        parameters = sum(
            value.numel() for value in load_artifact(artifacts[stage], _kind(artifacts[stage])).state.values()
        )
        chance = info.get("chance", {})
        figures = [
            f"{key} {value:.4g}" + (f" ({chance[key]:.4g})" if key in chance else "")
            for key, value in info.get("metrics", {}).items()
        ]
        runs = [info, *_before(info)][::-1]
        steps = " + ".join(str(run.get("step", "?")) for run in runs)
        minutes = " + ".join(f"{run.get('seconds', 0) / 60:.0f}" for run in runs)
        lines.append(f"| {stage} | {parameters / 1e6:.2f} M | {steps} | {minutes} | {', '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _before(info: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs whose weights a run began with, latest first."""
    return [info["from"], *_before(info["from"])] if "from" in info else []


def _kind(folder: Path) -> str:
    return str(read_config(folder)["kind"])
