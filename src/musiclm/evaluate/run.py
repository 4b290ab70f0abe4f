"""`musiclm evaluate`: a bundle's music and models, measured beside controls, into one folder that survives a kill.

REPORT/settings.json            what is measured: bundle by hash, prompts, seed, sizes; another bundle is refused
REPORT/clips/<set>/             what models made, kept: a new measure needs no new generation (`musiclm.evaluate.sets`)
REPORT/heard/<listener>/<set>.json  what a listener heard in each clip of a set: a new listener listens alone
REPORT/sections/<name>.json     figures, each section as soon as it is done
REPORT/report.json              all of it; report.html shows it
"""

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from musiclm import __version__
from musiclm.artifact import git_revision, write_atomic
from musiclm.bundle import open_bundle
from musiclm.corpus.clips import eval_clips
from musiclm.corpus.manifest import load_manifest
from musiclm.evaluate.adherence import Adherence, Prompt, adherence, concept_scores, load_prompts
from musiclm.evaluate.bootstrap import Estimate, area_under_curve, bootstrap, mean
from musiclm.evaluate.codec import PretrainedCodec, evaluate_codec, make_visqol
from musiclm.evaluate.controls import reliable
from musiclm.evaluate.distance import frechet_distance, frechet_infinity, kernel_distance, posterior_divergence
from musiclm.evaluate.judge import MSD_TAGS
from musiclm.evaluate.listeners import CHROMA, LIBROSA, METER, MUSICNN, NOTES, Listener, make_listener
from musiclm.evaluate.memorisation import memorisation
from musiclm.evaluate.music import Description, chroma_agreement, onset_agreement, passage_likeness
from musiclm.evaluate.probes import load_probe_clips, probe_tokens
from musiclm.evaluate.retrieval import evaluate_retrieval
from musiclm.evaluate.sets import ClipSets, EvaluateConfig, Say, spread
from musiclm.evaluate.signal import Sanity
from musiclm.mulan.labels import LABELS_FILE, load_labels

CLIP_S, LONG_S, PROBE_S = 10.0, 40.0, 8.0
NAN = float("nan")


class Study:
    """An evaluation under way."""

    def __init__(
        self,
        bundle: str | Path,
        folder: Path,
        *,
        corpus: Path | None = None,
        prompts: Path | None = None,
        embedders: Sequence[str] = (),
        codecs: Sequence[str] = (),
        config: EvaluateConfig | None = None,
        device: str = "cpu",
        say: Say = print,
    ) -> None:
        """embedders: for distances, beside the judge. codecs: of transformers, beside Opus.

        Raises: ValueError for a folder with the report of another bundle or other settings, or prompts that can't be read.
        """
        self.config, self.folder, self.corpus = config or EvaluateConfig(), Path(folder), corpus
        self.embedders, self.codecs, self.say, self.device = tuple(embedders), tuple(codecs), say, device
        every = load_prompts(prompts)
        self.prompts: list[Prompt] = [every[i] for i in spread(len(every), self.config.num_prompts or len(every))]
        self.bundle = open_bundle(bundle)
        texts = "\n".join(f"{p.text}|{sorted(p.concepts)}|{p.tempo_bpm}|{p.key}" for p in self.prompts)
        self.settings = {
            "bundle": self.bundle.hash,
            "name": self.bundle.document.get("name", ""),
            "prompts": hashlib.sha256(texts.encode()).hexdigest()[:16],
            "corpus": _corpus_hash(corpus) if corpus else None,
            **asdict(self.config),
        }
        self._check_settings()
        self.clips = ClipSets(
            self.bundle,
            self.folder / "clips",
            self.prompts,
            corpus,
            self.config,
            clip_s=CLIP_S,
            long_s=LONG_S,
            device=device,
            say=say,
        )
        self._listeners: dict[str, Listener] = {}

    def _check_settings(self) -> None:
        """Writes the settings, or compares them with those of the report that is there already."""
        path = self.folder / "settings.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if there := [name for name in ("report.json", "report.html") if (self.folder / name).exists()]:
                raise ValueError(
                    f"{self.folder / there[0]} is there already, of no report that can be gone on with; name another --report folder"
                )
            write_atomic(path, json.dumps(self.settings, indent=1))
            return
        before = json.loads(path.read_text())
        changed = sorted(name for name in self.settings if before.get(name) != self.settings[name])
        if changed:
            raise ValueError(
                f"{self.folder} holds a report with another {changed[0]} ({before.get(changed[0])}, now "
                f"{self.settings[changed[0]]}); name another --report folder"
            )

    # listening

    def heard(self, listener: str, name: str) -> list[dict[str, Any]]:
        """What a listener says of each clip of a set; listened to once. Raises: ValueError if the listener is not installed."""
        if name == "retrieved":  # its clips have been listened to
            rows = [*self.heard(listener, "real"), *self.heard(listener, "reference")]
            return [rows[index] for index in self.clips.retrieved]
        path = self.folder / "heard" / folder_name(listener) / f"{name}.json"
        if not path.exists():
            if listener not in self._listeners:
                seams_s = self.clips.seams_s if listener == METER else ()
                self._listeners[listener] = make_listener(listener, seams_s=seams_s, device=self.device)
            hear = self._listeners[listener]
            self.say(f"{listener} listens to {name}")
            clips, rows = self.clips[name], []
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                while some := list(itertools.islice(clips, 16)):  # the pool would ask for all clips at once
                    rows += pool.map(hear, some)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(rows))
        return json.loads(path.read_text())

    def embeddings(self, listener: str, name: str) -> Float[np.ndarray, "n d"]:
        return np.array([row["embedding"] for row in self.heard(listener, name)])

    def tags(self, name: str) -> Float[np.ndarray, "n 50"]:
        return np.array([row["tags"] for row in self.heard(MUSICNN, name)])

    def descriptions(self, name: str) -> list[Description]:
        return [Description(**row) for row in self.heard(LIBROSA, name)]

    # sections

    def quality(self, embedder: str = MUSICNN) -> dict[str, Any]:
        """Distances to `reference`, of every set, by the embeddings of a listener."""
        reference = self.embeddings(embedder, "reference")
        rows = {}
        for name in self.clips.names():
            if name != "reference":
                own = self.embeddings(embedder, name)
                rows[name] = {
                    "fad": _half_interval(own, reference),
                    "fad_infinity": _point(frechet_infinity(own, reference) if len(own) >= 8 else NAN),
                    "mmd": bootstrap(lambda x: kernel_distance(x, reference), own, draws=200)
                    if len(own) > 1
                    else _point(NAN),
                }
        return {"rows": rows}

    def health(self) -> dict[str, Any]:
        """Means of the meter's figures, by set."""
        names = [field.name for field in fields(Sanity)]
        broken = ("broken",) if self.corpus else ()
        return {"rows": {name: _means(self.heard(METER, name), names) for name in (*self.clips.names(), *broken)}}

    def music(self) -> dict[str, Any]:
        """Means of the measures of beat, key, density and notes, by set; and how much clips of a set differ from one another."""
        names = [field.name for field in fields(Description) if field.name != "key"]
        rows = {name: _means(self.heard(LIBROSA, name), names) for name in self.clips.names()}
        found: dict[str, Any] = {"rows": rows}
        for name, row in rows.items():
            row["variety"] = _point(variety(self.embeddings(MUSICNN, name)))
            try:
                row |= _means(self.heard(NOTES, name), ("note_density", "polyphony"))
            except ValueError as error:
                found["notes_left_out"] = str(error)
        return found

    def form(self) -> dict[str, Any]:
        """Repetition, change and steadiness of beat over 40 s, by set of long clips."""
        names = ("repetition", "change", "beat_strength", "beat_jitter")
        return {"rows": {name: _means(self.heard(LIBROSA, name), names) for name in self.clips.long_names()}}

    def diversity(self) -> dict[str, Any]:
        """How much a prompt's clips differ from seed to seed, beside clips of other prompts and of other real tracks; cosine distance."""
        prompts = self.clips.seed_prompts
        first, again = self.embeddings(MUSICNN, "generated")[prompts], self.embeddings(MUSICNN, "seeds")
        groups = np.concatenate([first[:, None], again.reshape(len(prompts), self.config.seeds_per_prompt, -1)], 1)
        rows = {
            "generated": {
                "other_seeds": bootstrap(mean, np.array([variety(group) for group in groups])),
                "other_prompts": _point(variety(first)),
            }
        }
        for name in ("real", "noise") if self.corpus else ():
            rows[name] = {"other_prompts": _point(variety(self.embeddings(MUSICNN, name)))}
        return {"rows": rows}

    def adherence(self) -> dict[str, Any]:
        """Concept by concept; real clips that MuLan finds for the prompts, and training clips and noise that have nothing to do with them."""
        rows: dict[str, Adherence] = {}
        for name in ("generated", "retrieved", "train", "noise"):
            if name in self.clips.names():
                order = np.resize(np.arange(len(self.tags(name))), len(self.prompts))
                described = [self.descriptions(name)[i] for i in order]
                loudness = [self.heard(METER, name)[i]["loudness_lufs"] for i in order]
                scores = concept_scores(self.tags(name)[order], described, loudness)
                rows[name] = adherence(self.prompts, scores, described)
        found = {"rows": {name: asdict(row) for name, row in rows.items()}}
        if (
            "retrieved" in rows
        ):  # what does not even find real clips of the prompts can't be held against generated ones
            doubtful = [c for c, area in rows["retrieved"].concepts.items() if area.high < 0.5]
            found["doubtful_concepts"] = doubtful  # type: ignore[assignment]
        return found

    def cycle(self) -> dict[str, Any]:
        """MuLan cycle consistency (MusicLM, section 5): cosine of a prompt's embedding and its clip's, beside that of shuffled pairs."""
        text, rows = self.clips.embed_prompts(), {}
        for name in ("generated", "retrieved", "train", "noise"):
            if name in self.clips.names():
                audio = self.clips.embed_audio(list(self.clips[name]))
                every = text @ audio[np.resize(np.arange(len(audio)), len(text))].T
                off = every[~np.eye(len(every), dtype=bool)]
                rows[name] = {"mcc": bootstrap(mean, np.diag(every)), "shuffled": _point(float(off.mean()))}
        return {"rows": rows, "note": "MuLan judges a model that was conditioned on it: this favours the model"}

    def captions(self) -> dict[str, Any]:
        """Divergence of the judge's tags from those of a real clip: `generated` from the clip retrieved for the prompt; as controls `real` clips through
        the codec from themselves, and training clips and noise, which have nothing to do with them, from `real`."""
        generated, retrieved, real = (self.tags(name) for name in ("generated", "retrieved", "real"))
        rng = np.random.default_rng(self.config.seed)
        shuffled = [posterior_divergence(generated, retrieved[rng.permutation(len(retrieved))]) for _ in range(20)]
        kld = {"kld": bootstrap(posterior_divergence, generated, retrieved, draws=300)}
        rows = {"generated": kld, "generated_shuffled": {"kld": _point(float(np.mean(shuffled)))}}
        for name in ("codec", "train", "noise"):
            own = self.tags(name)[: len(real)]
            rows[name] = {"kld": bootstrap(posterior_divergence, own, real[: len(own)], draws=300)}
        return {"rows": rows}

    def semantic(self) -> dict[str, Any]:
        """What semantic tokens keep: agreement of `resynthesis` with the clips it was made of; of `codec`, the most there can be; of other clips."""
        real = list(self.clips["real"])
        made = {name: list(self.clips[name]) for name in ("codec", "resynthesis")}
        made["other_clips"] = real[1:] + real[:1]
        rows = {}
        for name, clips in made.items():
            pairs = list(zip(clips, real, strict=True))
            rows[name] = {
                measure: bootstrap(mean, np.array([compare(a, b) for a, b in pairs]))
                for measure, compare in (("chroma", chroma_agreement), ("onset", onset_agreement))
            }
        return {"rows": rows}

    def probes(self) -> dict[str, Any]:
        """What single semantic tokens say of chroma, onset, loudness and the judge's tags: skill on held-out clips, 0 knows nothing, 1 all."""
        assert self.corpus is not None
        hear = make_listener(MUSICNN)

        def tag_scores(audio: torch.Tensor) -> torch.Tensor:
            scores = torch.tensor([hear(clip[0].numpy())["tags"] for clip in audio])
            return torch.logit(scores.clamp(1e-4, 1 - 1e-4)).float()

        tokenizer, sides = self.clips.tokenizer, []
        for splits, num in ((("train",), self.config.num_probe), (("validation", "test"), self.config.num_probe // 3)):
            tracks = self.clips.tracks(*splits)
            clips = load_probe_clips(self.corpus, tracks, PROBE_S, num, self.config.seed, tag_scores)
            with torch.no_grad():
                rows = [tokenizer.encode(clip[None].to(self.clips.model.device))[0, 0] for clip in clips.audio]
            sides.append((clips, torch.stack(rows).cpu()))
        (train, train_codes), (test, test_codes) = sides
        num_codes = len(tokenizer.centroids)
        generator = torch.Generator().manual_seed(self.config.seed)
        mixed = test_codes.flatten()[torch.randperm(test_codes.numel(), generator=generator)].view_as(test_codes)
        codes = {"tokens": test_codes, "shuffled": mixed}
        return {"rows": {name: probe_tokens(train_codes, own, train, test, num_codes) for name, own in codes.items()}}

    def codec(self) -> dict[str, Any]:
        """The codec by number of levels, beside Opus and the codecs asked for, on test tracks."""
        assert self.corpus is not None
        soundstream = self.clips.model.soundstream
        report = evaluate_codec(
            soundstream.to("cpu"),
            self.corpus,
            self.clips.tracks("test"),
            others=[PretrainedCodec(name) for name in self.codecs],
            num_clips=self.config.num_codec,
            clip_s=5.0,
            visqol=make_visqol(),
        )
        soundstream.to(self.clips.model.device)
        found = report.to_json()
        return {**found, "rows": {row.pop("name").lower().replace(" ", "_"): row for row in found["rows"]}}

    def retrieval(self) -> dict[str, Any]:
        """MuLan's retrieval and modality gap on labelled test tracks."""
        assert self.corpus is not None
        labels = load_labels(self.corpus / LABELS_FILE)
        found = asdict(evaluate_retrieval(self.clips.model.mulan, self.corpus, self.clips.tracks("test"), labels))
        rows = {name: value for name, value in found.items() if isinstance(value, dict) and "recall_1" in value}
        for row in rows.values():
            chance = {name: row.pop(f"chance_{name}") for name in ("recall_1", "recall_10", "median_rank")}
        rows["chance"] = chance
        return {"rows": rows, **{name: value for name, value in found.items() if name not in rows}}

    def zero_shot(self) -> dict[str, Any]:
        """MuLan as a tagger of held-out clips: for each of the judge's tags, AUC of the tag's name for the quarter of clips the judge scores highest."""
        tags = np.concatenate([self.tags("real"), self.tags("reference")])
        audio = self.clips.embed_audio([*self.clips["real"], *self.clips["reference"]])
        rng, mulan = np.random.default_rng(self.config.seed), self.clips.model.mulan
        areas, shuffled = {}, []
        for index, tag in enumerate(MSD_TAGS):
            with torch.no_grad():
                similarity = audio @ mulan.embed_text([f"{tag} music"])[0].cpu().numpy()
            likely = tags[:, index] >= np.quantile(tags[:, index], 0.75)
            areas[tag] = bootstrap(area_under_curve, similarity, likely, draws=200)
            shuffled.append(area_under_curve(similarity, rng.permutation(likely)))
        mean_auc = bootstrap(mean, np.array([area.value for area in areas.values()]))
        rows = {"mulan": {"mean_auc": mean_auc}, "shuffled": {"mean_auc": bootstrap(mean, np.array(shuffled))}}
        return {"rows": rows, "tags": areas}

    def memory(self) -> dict[str, Any]:
        """The memorisation study, training clips beside test clips; and how near each set lies to clips of the training split."""
        assert self.corpus is not None
        model, tokenizer, clips = self.clips.model, self.clips.tokenizer, {}
        for split in ("train", "test"):
            tracks = self.clips.tracks(split, least_s=15.0)
            num = min(self.config.num_memorisation, len(tracks))
            audio = eval_clips(self.corpus, tracks, 15.0, num, self.config.seed)[0].to(model.device)
            with torch.no_grad():
                codes = torch.cat([tokenizer.encode(clip[None]) for clip in audio])[:, 0].cpu()
                mulan = torch.cat([model.mulan.audio_codes(clip[None]) for clip in audio]).cpu()
            clips[split] = codes, mulan
        rows = memorisation(model.semantic, clips, tokenizer.centroids.double().cpu().numpy())
        study = [asdict(row) for row in rows]
        return {"study": study, **self.nearest()}

    def nearest(self) -> dict[str, Any]:
        """How much each clip is like the most alike of many training clips, by the judge's embedding and by its best common passage of chroma."""
        train = self.embeddings(MUSICNN, "training_tracks")
        passages = [np.array(row["chroma"]) for row in self.heard(CHROMA, "training_tracks")]
        rows, suspects = {}, []
        for name in ("generated", "real", "copied", "noise"):
            alike = cosines(self.embeddings(MUSICNN, name) - train.mean(0), train - train.mean(0))
            chroma = [np.array(row["chroma"]) for row in self.heard(CHROMA, name)]
            common = np.array([[passage_likeness(own, other) for other in passages] for own in chroma])
            rows[name] = {
                "by_embedding": bootstrap(mean, alike.max(1), draws=300),
                "by_chroma": bootstrap(mean, common.max(1), draws=300),
            }
            if name == "generated":
                tracks = self.clips.training_tracks
                suspects = [
                    {"clip": int(i), "chroma": float(common[i].max()), "track": tracks[int(common[i].argmax())].title}
                    for i in np.argsort(-common.max(1))[:10]
                ]
        return {"rows": rows, "suspects": suspects}

    def sections(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """What can be measured here, by name: without a corpus, what needs no real music."""
        alone = {
            "health": self.health,
            "music": self.music,
            "form": self.form,
            "diversity": self.diversity,
            "adherence": self.adherence,
            "cycle": self.cycle,
        }
        if self.corpus is None:
            return alone
        more = {f"quality_{folder_name(name)}": (lambda name=name: self.quality(name)) for name in self.embedders}
        return {
            "quality": self.quality,
            **more,
            **alone,
            "captions": self.captions,
            "semantic": self.semantic,
            "probes": self.probes,
            "zero_shot": self.zero_shot,
            "retrieval": self.retrieval,
            "memory": self.memory,
            "codec": self.codec,
        }

    def run(self) -> dict[str, Any]:
        """All sections, what is there already not again; the report, which is also written to report.json."""
        started = time.monotonic()
        for name in ("generated", "seeds", "long"):
            self.clips.generate(name)
        found: dict[str, Any] = {}
        for name, measure in self.sections().items():
            path = self.folder / "sections" / f"{name}.json"
            if not path.exists():
                self.say(f"measuring {name}")
                try:
                    figures = measure()
                except ValueError as error:  # a package or labels that are not there: the others go on
                    found[name] = {"skipped": str(error)}
                    self.say(f"{name} left out: {error}")
                    continue
                figures["reliable"] = reliable(
                    name.split("_")[0] if name.startswith("quality") else name, figures["rows"]
                )
                path.parent.mkdir(exist_ok=True)
                write_atomic(path, json.dumps(figures, default=_plain, indent=1))
            found[name] = json.loads(path.read_text())
        report = {
            "settings": self.settings,
            "musiclm": __version__,
            "git_revision": git_revision(),
            "date": time.strftime("%Y-%m-%d"),
            "listeners": sorted(path.name for path in (self.folder / "heard").iterdir()),
            "prompts": [prompt.text for prompt in self.prompts],
            "sections": found,
        }
        write_atomic(self.folder / "report.json", json.dumps(report, indent=1) + "\n")
        self.say(f"measured in {time.monotonic() - started:.0f} s")
        return report


def variety(embeddings: Float[np.ndarray, "n d"]) -> float:
    """Mean cosine distance between different clips of a set, 0 (all alike) to 2; nan for one clip."""
    alike = cosines(embeddings, embeddings)
    return float(1 - alike[~np.eye(len(alike), dtype=bool)].mean()) if len(alike) > 1 else NAN


def cosines(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Of all pairs of rows."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9) for x in (a, b))
    return a @ b.T


def folder_name(listener: str) -> str:
    """A listener's name as a folder's: a path or a hub id loses what no folder may have."""
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in listener).strip("-.")


def _half_interval(own: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"], draws: int = 40) -> Estimate:
    """FAD with a jackknife interval: a bootstrap's repeated clips would bias a covariance; halves without repeats have the spread of the whole.

    None of fewer than four clips.
    """
    if len(own) < 4:
        return _point(frechet_distance(own, reference) if len(own) > 1 else NAN)
    rng = np.random.default_rng(0)
    halves = [frechet_distance(own[rng.permutation(len(own))[: len(own) // 2]], reference) for _ in range(draws)]
    value, spread = frechet_distance(own, reference), 1.96 * float(np.std(halves))
    return Estimate(value, value - spread, value + spread)


def _point(value: float) -> Estimate:
    """A figure without an interval."""
    return Estimate(float(value), NAN, NAN)


def _means(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Estimate]:
    found = {}
    for name in names:
        values = np.array([row[name] for row in rows], np.float64)
        values = values[np.isfinite(values)]
        found[name] = bootstrap(mean, values, draws=300) if len(values) else _point(NAN)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a report")


def _corpus_hash(corpus: Path) -> str:
    tracks = sorted(f"{track.id} {track.split}" for track in load_manifest(corpus))
    return hashlib.sha256("\n".join(tracks).encode()).hexdigest()[:16]
