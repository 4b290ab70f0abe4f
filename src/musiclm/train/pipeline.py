"""From a corpus to a bundle: which stage is trained from what, in which order, and where everything lies.

    DATA/                       a corpus (musiclm corpus build)
    RUNS/<stage>/               checkpoint, log, artifact/ of each stage
    RUNS/tokens/                the token store, a stream for each trained encoder
    RUNS/bundle/                the result of `train all`

Encoders come first: soundstream, w2vbert and mulan need audio only and do not wait for one another. Each then fills its
stream of the token store, and a language model can begin as soon as the streams that it reads are there. One side of a
bundle's codec or MuLan can be trained alone; the part with it takes the place of the whole one. The melody encoder
learns from a folder of its own (musiclm corpus melodies) and is optional: only a semantic stage that is told of
melodies needs it.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from musiclm.core.artifact import (
    CONFIG_FILE,
    Artifact,
    ArtifactError,
    codes_hash,
    load_artifact,
    read_config,
    write_atomic,
)
from musiclm.core.bundle import Bundle, assemble, check_encoders, open_bundle
from musiclm.core.config import from_json, to_json
from musiclm.core.engines import Engine
from musiclm.core.output import sweep
from musiclm.core.pretrained import take_in
from musiclm.core.streams import (
    ACOUSTIC,
    ALL_STREAMS,
    ENCODER_OF,
    ENCODERS,
    MELODY,
    MODELS,
    PARTS,
    STAGES,
    STREAMS,
    TRAINABLES,
)
from musiclm.core.workers import digest_of_code
from musiclm.data.corpus.clips import ClipSampler, eval_clips
from musiclm.data.corpus.manifest import load_manifest
from musiclm.data.store import HEADER_FILE, TRACKS_PER_SHARD, TokenStore, read_header
from musiclm.data.tokenize import TokenEncoder, tokenize_corpus
from musiclm.models.encoders import is_foreign
from musiclm.models.lm.task import LmTask
from musiclm.models.melody.task import MelodyTask
from musiclm.models.mulan.task import MuLanTask, training_captions
from musiclm.models.mulan.text import first_encoder
from musiclm.models.mulan.text_task import MuLanTextTask
from musiclm.models.soundstream.bands_task import BandsDecoderTask, BandsTask, BandsTaskConfig
from musiclm.models.soundstream.task import SoundStreamTask
from musiclm.models.storm.task import StormTask
from musiclm.models.w2vbert.task import W2vBertTask
from musiclm.train.card import describe_data, describe_melodies, model_card
from musiclm.train.loop import ONE_PROCESS, Means, Task, TrainConfig, newest_checkpoint, train
from musiclm.train.recipes import Preset, Recipe, fit_to_streams, num_fine_levels

Say = Callable[[str], None]
REQUIRED = {*ENCODERS, "semantic"}  # of a bundle
CAN_LACK = [part for part in PARTS if part not in REQUIRED]


def artifact_of(runs: Path, part: str, start: str | None = None) -> Path:
    """Where the trained model of a part lies: in `runs`, where a side trained alone comes first, else in the bundle
    `start`.

    Raises: ArtifactError if it is in neither, or two in `runs` give other codes.
    """
    found = _trained(runs, part)
    if len({codes_hash(read_config(folder)) for folder in found}) > 1:
        names = " and ".join(folder.parent.name for folder in found)
        raise ArtifactError(f"{names} in {runs} give other codes than each other; move one of them elsewhere")
    if found:
        return found[-1]
    if start is not None:
        return open_bundle(start).part(part)
    raise ArtifactError(f"{part} is not trained in {runs} yet; run: musiclm train {part}")


def _trained(runs: Path, part: str) -> list[Path]:
    """Artifacts of a part in RUNS: of the whole model, and of one that had a side trained alone."""
    folders = [runs / name / "artifact" for name, one in TRAINABLES.items() if one.part == part]
    return [folder for folder in folders if (folder / CONFIG_FILE).exists()]


def _soundstream(recipe: Recipe[Any], data: Path, runs: Path, start: Path | None) -> Task:
    network = BandsTask if isinstance(recipe.task, BandsTaskConfig) else SoundStreamTask
    return network(recipe.task, data, recipe.train.batch_size, recipe.train.seed)


def _soundstream_decoder(recipe: Recipe[Any], data: Path, runs: Path, start: Path | None) -> Task:
    assert start is not None
    return BandsDecoderTask(recipe.task, data, recipe.train.batch_size, recipe.train.seed, start)


def _w2vbert(recipe: Recipe[Any], data: Path, runs: Path, start: Path | None) -> Task:
    tracks = load_manifest(data)
    crop_s, loop = recipe.task.crop_s, recipe.train
    sampler = ClipSampler(data, [t for t in tracks if t.split == "train"], crop_s, loop.seed)
    held = eval_clips(data, [t for t in tracks if t.split == "validation"], crop_s, 32, loop.seed)[0]
    return W2vBertTask(recipe.task, sampler, held, loop.batch_size, loop.seed)


def _mulan(recipe: Recipe[Any], data: Path, runs: Path, start: Path | None) -> Task:
    task, loop, cache = recipe.task, recipe.train, runs / "mulan" / "cache"
    sizes = task.model.text
    pretrained = first_encoder(
        task.text_from,
        sizes,
        lambda: training_captions(data, task.captions_per_window),
        cache / "tokenizer.json",
        loop.seed,
    )
    text = replace(sizes, vocab_size=pretrained.config.vocab_size, max_tokens=pretrained.config.max_tokens)
    task = replace(task, model=replace(task.model, text=text))
    return MuLanTask(task, data, batch_size=loop.batch_size, seed=loop.seed, cache_dir=cache, pretrained=pretrained)


def _mulan_text(recipe: Recipe[Any], data: Path, runs: Path, start: Path | None) -> Task:
    assert start is not None
    loop, cache = recipe.train, runs / "mulan" / "cache"  # both trainings of MuLan keep the same things
    return MuLanTextTask(recipe.task, data, batch_size=loop.batch_size, seed=loop.seed, cache_dir=cache, start=start)


def _melody(recipe: Recipe[Any], data: Path, runs: Path, start: Path | None) -> Task:
    return MelodyTask(recipe.task, data, recipe.train.batch_size, recipe.train.seed)


def _lm(recipe: Recipe[Any], data: Path, runs: Path, start: Path | None) -> Task:
    store = TokenStore(runs / "tokens", recipe.task.streams)
    return LmTask(recipe.task, store, recipe.train.batch_size, recipe.train.seed)


def _storm(recipe: Recipe[Any], data: Path, runs: Path, start: Path | None) -> Task:
    store = TokenStore(runs / "tokens", recipe.task.streams)
    return StormTask(recipe.task, store, recipe.train.batch_size, recipe.train.seed)


# how the task of each stage is made of its recipe, the corpus, RUNS and, of one side, the artifact that it begins with
BUILDERS: dict[str, Callable[[Recipe[Any], Path, Path, Path | None], Task]] = {
    "soundstream": _soundstream,
    "w2vbert": _w2vbert,
    "mulan": _mulan,
    "melody": _melody,
    "semantic": _lm,
    "storm": _storm,
    "coarse": _lm,
    "fine": _lm,
    "soundstream-decoder": _soundstream_decoder,
    "mulan-text": _mulan_text,
}


def build_task(
    stage: str, preset: Preset, data: Path, runs: Path, start: Path | None = None
) -> tuple[Task, TrainConfig]:
    """The task of a stage and its loop.

    start: the artifact whose one side is trained. Raises: CorpusError or StoreError when what the stage learns from is
    not there.
    """
    recipe = preset.recipe(stage)
    return BUILDERS[stage](recipe, data, runs, start), recipe.train


def same_sizes(config: dict[str, Any], model: Any) -> bool:
    """Whether an artifact has the configuration of `model`; fields it was written without have their defaults."""
    try:
        return bool(from_json(type(model), config) == model)
    except ValueError:
        return False


def same_run(before: dict[str, Any], recipe: dict[str, Any], task: Any) -> bool:
    """Whether a recorded recipe is this one but for the number of steps.

    Settings that it was written without have their defaults.
    """
    old, new = ({**one, "task": None, "train": {**one["train"], "steps": 0}} for one in (before, recipe))
    return old == new and same_sizes(before["task"], task)


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
    means: Means = ONE_PROCESS,
) -> Path | None:
    """Trains one stage or goes on with it; the folder of its artifact, or None if it stopped early.

    A finished stage is not trained again. means: as `musiclm.train.loop.train`. start: a bundle (folder, shipped
    name, hub id) with whose model a fresh run begins; stages that train one side of a model need it. Raises:
    ValueError for a stage that can't be trained so; ArtifactError if the folder holds a run of other settings, or the
    bundle's model is of other sizes or encoders.
    """
    processes, one, folder = means.processes, TRAINABLES[stage], runs / stage
    preset = _fitted(stage, preset, runs)
    _check_start(stage, start)
    recipe = to_json(preset.recipe(stage))
    if processes.leads:
        sweep(folder / "artifact")
    begin, part, new = _begin(stage, preset, start)
    if begin is not None:
        recipe["from"] = begin.hash
    _check_run(folder, recipe, preset.recipe(stage).task)
    recorded = folder / "recipe.json"
    if finished(runs, stage, recipe["train"]["steps"]):
        if processes.leads and not recorded.exists() and newest_checkpoint(folder) is not None:
            write_atomic(recorded, json.dumps(recipe, indent=1))
        return folder / "artifact"
    _check_not_replaced(folder)
    if processes.many:
        same = {"code": digest_of_code(), "settings": json.dumps(recipe), "data": digest_of_data(data, runs)}
        processes.check_same(same)
    with processes.leader_first():  # which makes caches
        task, loop = build_task(stage, preset, data, runs, part)
    info = _facts(stage, data, recipe, begin)
    if begin is not None and isinstance(task, LmTask | StormTask):
        check_encoders(stage, begin.info.get("encoders", {}), task.store.encoders)
    folder.mkdir(parents=True, exist_ok=True)
    if processes.leads:
        write_atomic(recorded, json.dumps(recipe, indent=1))
    return train(
        task,
        loop,
        folder,
        device=device,
        precision=precision,
        max_minutes=max_minutes,
        info=info,
        begin=None if one.one_side else begin,  # a task of one side loads the weights itself
        new=[name for name in task.groups[task.ema_group].state_dict() if name.startswith(tuple(new))],
        quiet=quiet,
        means=means,
    )


def _fitted(stage: str, preset: Preset, runs: Path) -> Preset:
    """The preset as the tokens in `runs` have it, if the stage learns from tokens.

    Raises: ValueError for a stage that there is not, or without its tokens.
    """
    task = preset.recipe(stage).task
    if stage not in MODELS:
        return preset
    check_tokens(runs, task.streams)
    preset = fitted(preset, runs)
    if stage == "fine" and not num_fine_levels(preset):
        raise ValueError(f"the coarse stage has all acoustic levels of {runs / 'tokens'}; there is no fine stage")
    return preset


def _check_start(stage: str, start: str | None) -> None:
    """Raises: ValueError for a stage that needs a bundle to begin with and has none, or can't begin with one."""
    one = TRAINABLES[stage]
    if one.one_side and start is None:
        raise ValueError(f"{stage} goes on with the {one.part} of a bundle; name it: --from base")
    if start is not None and not one.one_side and one.fills is not None:
        sides = [other.name for other in TRAINABLES.values() if other.one_side]
        raise ValueError(
            f"{stage} is an encoder: with other weights its tokens would mean other things; --from is for "
            f"{', '.join((*MODELS, *sides))}"
        )


def _begin(stage: str, preset: Preset, start: str | None) -> tuple[Artifact | None, Path | None, list[str]]:
    """The model that a run begins with, its folder, and names of parts that it lacks; none of them without a bundle.

    Raises: as `_added`.
    """
    if start is None:
        return None, None, []
    part = open_bundle(start).part(TRAINABLES[stage].part)
    begin = load_artifact(part, read_config(part)["kind"])
    return begin, part, _added(stage, preset, begin, part)


def _facts(stage: str, data: Path, recipe: dict[str, Any], begin: Artifact | None) -> dict[str, Any]:
    """What an artifact is to say of its training."""
    described = describe_melodies(data) if stage == MELODY.name else describe_data(data)
    info: dict[str, Any] = {"data": described, "recipe": recipe}
    if begin is not None:
        info["from"] = {key: begin.info[key] for key in ("step", "seconds", "train_hours", "from") if key in begin.info}
        info["from"]["hash"] = begin.hash
    return info


def _check_not_replaced(folder: Path) -> None:
    """Raises: ArtifactError if the folder has a model that training would replace."""
    if (folder / "artifact").exists() and newest_checkpoint(folder) is None:
        raise ArtifactError(
            f"{folder / 'artifact'} holds a model but {folder} no checkpoint to go on from; training would replace it: "
            "name another --runs folder, or move it away"
        )


def _added(stage: str, preset: Preset, begin: Artifact, part: Path) -> list[str]:
    """Names of the parts that the preset's model has and `begin`, in the folder `part`, has not.

    Raises: ArtifactError for other sizes.
    """
    task = preset.recipe(stage).task
    if TRAINABLES[stage].one_side or same_sizes(begin.config, task.model):
        return []
    new = parts_added(begin.config, task)
    if not new:
        raise ArtifactError(
            f"the {stage} model in {part} has other sizes than this preset's; choose its preset, or set them"
        )
    return new


def _check_run(folder: Path, recipe: dict[str, Any], task: Any) -> None:
    """Raises: ArtifactError if the folder holds a run of other settings than `recipe`, or a damaged record of one.

    Only the length of a run may change: everything else would make another model under the same name.
    """
    recorded = folder / "recipe.json"
    if not recorded.exists() or newest_checkpoint(folder) is None:
        return
    try:
        same = same_run(json.loads(recorded.read_text()), recipe, task)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{recorded} is damaged ({error}); delete {recorded} and start again, with the settings of this run"
        ) from None
    if not same:
        raise ArtifactError(
            f"{folder} holds a run with other settings (see {recorded.name} there); name another --runs folder or "
            "remove it"
        )


def digest_of_data(data: Path, runs: Path) -> str:
    """Which corpus and tokens these are: a hash of the manifest and of the headers of the streams."""
    files = [data / "manifest.jsonl", *sorted((runs / "tokens").glob(f"*/{HEADER_FILE}"))]
    digest = hashlib.sha256()
    for path in files:
        if path.exists():
            digest.update(f"{path.parent.name}/{path.name}".encode() + path.read_bytes())
    return digest.hexdigest()


# settings of a model whose part begins at no effect, or almost none, and the prefix of its weights
ADDABLE = {"melody_levels": "melody.", "pointer_heads": "pointer.", "history_layers": "history"}


def parts_added(config: dict[str, Any], task: Any) -> list[str]:
    """Prefixes of the weights that the model of `task` has and that of `config` has not, if it is else the same.

    Only of parts that begin at no effect (`ADDABLE`). Empty if more differs.
    """
    model = task.model
    new = [name for name in ADDABLE if getattr(model, name, 0) and not config.get(name, 0)]
    if not new or not same_sizes(config, replace(model, **dict.fromkeys(new, 0))):
        return []
    return [ADDABLE[name] for name in new]


def finished(runs: Path, stage: str, steps: int) -> bool:
    """Whether a stage's artifact is there and has had all its steps, or is an encoder made by others."""
    folder = runs / stage / "artifact"
    if not (folder / CONFIG_FILE).exists():
        return False
    return is_foreign(folder) or read_config(folder)["info"].get("step", 0) >= steps


def fitted(preset: Preset, runs: Path) -> Preset:
    """The preset with its models built for the streams in RUNS/tokens, where those are others than its own."""
    folders = {name: runs / "tokens" / name for name in STREAMS}
    specs = {name: read_header(folder).spec for name, folder in folders.items() if (folder / HEADER_FILE).is_file()}
    return fit_to_streams(preset, specs)


def check_tokens(runs: Path, streams: Sequence[str]) -> None:
    """Raises: ArtifactError if an encoder in RUNS was trained again since it filled its stream of RUNS/tokens.

    A model would learn those codes for hours, and then be refused beside that encoder.
    """
    for stream in streams:
        folder, encoder = runs / "tokens" / stream, ENCODER_OF[stream]
        if not (folder / HEADER_FILE).is_file() or not _trained(runs, encoder):
            continue
        learned, now = read_header(folder).encoder, codes_hash(read_config(artifact_of(runs, encoder)))
        if now != learned:
            raise ArtifactError(
                f"{folder} holds codes of another {encoder} ({learned[:12]}) than the one in {runs} ({now[:12]}); "
                f"delete {folder} and tokenize again"
            )


def tokenize(
    data: Path,
    runs: Path,
    *,
    start: str | None = None,
    streams: Sequence[str] = tuple(STREAMS),
    max_seconds_per_track: float | None = None,
    speeds: Sequence[float] = (),
    device: str = "cpu",
    on_progress: Callable[[str, int, int], None] | None = None,
    engine: Engine | None = None,
    tracks_per_shard: int = TRACKS_PER_SHARD,
) -> Path:
    """Fills streams of RUNS/tokens, each with the encoder trained in RUNS, or, where there is none, that of the bundle
    `start`.

    max_seconds_per_track, speeds, engine, tracks_per_shard: as `musiclm.data.tokenize.tokenize_corpus`.
    on_progress: (stream, tracks done, tracks in all). Raises: ArtifactError if an encoder is missing, ValueError for an
    unknown stream or a speed outside 0.5 to 2.
    """
    for stream in streams:
        if stream not in ALL_STREAMS:
            raise ValueError(f"no stream {stream!r}; there are {', '.join(ALL_STREAMS)}")
    for stream in streams:
        encoder = TokenEncoder.load(stream, artifact_of(runs, ENCODER_OF[stream], start), device)
        report = None if on_progress is None else functools.partial(on_progress, stream)
        tokenize_corpus(
            data,
            encoder,
            runs / "tokens",
            max_seconds_per_track=max_seconds_per_track,
            speeds=speeds,
            on_progress=report,
            engine=engine,
            tracks_per_shard=tracks_per_shard,
        )
    return runs / "tokens"


def label(data: Path, say: Say, windows_per_track: int = 6, engine: Engine | None = None) -> None:
    """Weak labels for MuLan's captions, into DATA/labels.jsonl; what is there is kept.

    engine: as `musiclm.data.labels.label_corpus`.
    """
    from musiclm.data.labels import label_corpus
    from musiclm.listen.tagger import Tagger

    tagger = None
    try:
        tagger = Tagger.load()
    except ValueError as error:
        say(f"labels without instrument and mood tags: {error}")
    for count, _ in enumerate(label_corpus(data, tagger, windows_per_track=windows_per_track, engine=engine), 1):
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
    means: Means = ONE_PROCESS,
) -> Bundle | None:
    """Every stage in order, and the bundle; what is finished is not done again. None if the time was up first.

    Of several processes the leader makes labels, tokens and the bundle, while the others wait.
    """
    import time

    melody = [MELODY.name] if MELODY.name in preset.semantic.task.streams else []
    if melody:
        artifact_of(runs, MELODY.name)  # it learns from other data, so it must be there
    deadline = None if max_minutes is None else time.monotonic() + max_minutes * 60

    def left() -> float | None:
        return None if deadline is None else max(0.0, (deadline - time.monotonic()) / 60)

    processes = means.processes
    own = device if processes.device is None else str(processes.device)
    for stage in STAGES:
        if stage == "mulan" and not finished(runs, stage, preset.mulan.train.steps):
            processes.by_leader(lambda: label(data, say, preset.label_windows_per_track))
        if stage == "semantic":
            processes.by_leader(lambda: _make_tokens(preset, data, runs, melody, own))
        if stage == "fine" and not num_fine_levels(fitted(preset, runs)):
            continue
        artifact = train_stage(
            stage,
            preset,
            data,
            runs,
            device=device,
            precision=precision,
            max_minutes=left(),
            quiet=quiet,
            means=means,
        )
        if artifact is None:
            return None
        if processes.leads:
            say(f"{stage}: done")
    with processes.leader_first():
        if processes.leads:
            make_bundle(runs, runs / "bundle", name)
    return open_bundle(runs / "bundle")


def _make_tokens(preset: Preset, data: Path, runs: Path, melody: Sequence[str], device: str) -> None:
    """Tokens of all streams of `train all`; melody: its stream, if there is one."""
    encoders = [*(name for name in STREAMS if name != ACOUSTIC.name), *melody]
    tokenize(data, runs, streams=encoders, speeds=preset.speeds, device=device)
    longest = preset.max_seconds_per_track
    tokenize(data, runs, streams=(ACOUSTIC.name,), max_seconds_per_track=longest, device=device)


def make_bundle(
    runs: Path,
    out: Path,
    name: str,
    *,
    start: str | None = None,
    leave_out: Sequence[str] = (),
    notes: str = "",
    sampling: dict[str, Any] | None = None,
) -> Bundle:
    """Puts the trained stages of a run together.

    The encoders and the semantic stage must be there; decoders may be missing.

    start: a bundle that has the stages which RUNS lacks, and the sampling if none is given. leave_out: stages that are
    not wanted, such as those of `start` that learned from other encoders. Raises: ValueError for one that a bundle
    needs. notes: Markdown at the head of the model card. sampling: settings that `musiclm generate` takes by default
    ({"semantic": {...}, "storm": {...}, "steer": {...}}, fields of Sampling, StormSampling and Steer).
    """
    if needed := sorted(set(leave_out) - set(CAN_LACK)):
        raise ValueError(
            f"{' and '.join(needed)} can't be left out of a bundle; only {', '.join(sorted(CAN_LACK))} can be left out"
        )
    there = set() if start is None else set(open_bundle(start).parts)
    there |= {stage for stage in PARTS if (runs / stage / "artifact" / CONFIG_FILE).exists()}
    artifacts = {
        stage: artifact_of(runs, stage, start) for stage in PARTS if stage in (there | REQUIRED) - set(leave_out)
    }
    if sampling is None and start is not None:
        sampling = open_bundle(start).document.get("sampling")
    facts = {"sampling": sampling or {}}
    return assemble(out, artifacts, name, model_card(name, artifacts, notes), facts, _copied)


def _copied(artifact: Path, target: Path) -> None:
    """A copy of an artifact for a bundle. What refers to a folder takes it in, for that is on this machine alone."""
    source = read_config(artifact)["config"].get("source") if is_foreign(artifact) else None
    if source is None or source["revision"] is not None:
        shutil.copytree(artifact, target)
    else:
        take_in(artifact, target)
