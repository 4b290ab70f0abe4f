"""`musiclm evaluate`: a bundle's music and models, measured beside controls, into one folder that survives a kill.

    REPORT/settings.json        what is measured: bundle by hash, prompts, seed, sizes; another bundle is refused
    REPORT/clips/               generated music, kept: a new metric needs no new generation
    REPORT/sets/<set>.json      what the listeners heard in each set of clips
    REPORT/sections/<name>.json figures, each section as soon as it is done
    REPORT/report.json          all of it; report.html shows it

Sets of ten-second clips: `generated` from the prompts; and, from a corpus, `real` (held-out tracks), `reference` (other held-out tracks, which distances
are measured to), `codec` (`real` through the codec), `resynthesis` (`real` from its semantic and MuLan codes alone), `train` (training tracks), `retrieved`
(the held-out clip that MuLan finds for each prompt); and `noise` (pink, as loud as `real`).
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from musiclm import __version__
from musiclm.acoustic import SemanticSource
from musiclm.artifact import git_revision, write_atomic
from musiclm.audio import load, write_audio
from musiclm.bundle import open_bundle
from musiclm.corpus.clips import eval_clips
from musiclm.corpus.manifest import Track, load_manifest
from musiclm.evaluate.adherence import Adherence, Prompt, adherence, concept_scores, load_prompts
from musiclm.evaluate.bootstrap import Estimate, area_under_curve, bootstrap, mean
from musiclm.evaluate.codec import evaluate_codec, make_visqol
from musiclm.evaluate.distance import frechet_distance, frechet_infinity, kernel_distance, posterior_divergence
from musiclm.evaluate.judge import MSD_TAGS, Judge
from musiclm.evaluate.memorisation import memorisation
from musiclm.evaluate.music import Description, chroma_agreement, describe, onset_agreement
from musiclm.evaluate.retrieval import evaluate_retrieval
from musiclm.evaluate.signal import Sanity, sanity
from musiclm.generate import MusicLM, item_generator
from musiclm.mulan.labels import LABELS_FILE, load_labels
from musiclm.w2vbert.tokenizer import SemanticTokenizer

Clip = Float[np.ndarray, " s"]
Say = Callable[[str], None]
CLIP_S = 10.0


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How much is measured. `quick` ends in some ten minutes on two cores."""

    num_prompts: int | None = None  # the first of every n-th; None: all
    num_real: int = 100  # held-out clips, half of them the reference
    num_codec: int = 20
    num_memorisation: int = 64
    seed: int = 0

    @classmethod
    def quick(cls) -> "EvaluateConfig":
        return cls(num_prompts=60, num_real=60, num_codec=8, num_memorisation=16)


@dataclass(frozen=True)
class Heard:
    """What the listeners say of a set of clips."""

    embeddings: Float[np.ndarray, "n 200"]
    tags: Float[np.ndarray, "n 50"]
    descriptions: list[Description]
    sanity: list[Sanity]

    def __len__(self) -> int:
        return len(self.descriptions)

    @property
    def loudness_lufs(self) -> list[float]:
        return [one.loudness_lufs for one in self.sanity]

    def rows(self, indices: Sequence[int]) -> "Heard":
        described, metered = [self.descriptions[i] for i in indices], [self.sanity[i] for i in indices]
        return Heard(self.embeddings[list(indices)], self.tags[list(indices)], described, metered)

    @classmethod
    def join(cls, *parts: "Heard") -> "Heard":
        return cls(
            np.concatenate([part.embeddings for part in parts]),
            np.concatenate([part.tags for part in parts]),
            [one for part in parts for one in part.descriptions],
            [one for part in parts for one in part.sanity],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "embeddings": self.embeddings.round(5).tolist(),
            "tags": self.tags.round(5).tolist(),
            "descriptions": [asdict(one) for one in self.descriptions],
            "sanity": [asdict(one) for one in self.sanity],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Heard":
        return cls(
            np.array(data["embeddings"]),
            np.array(data["tags"]),
            [Description(**one) for one in data["descriptions"]],
            [Sanity(**one) for one in data["sanity"]],
        )


class Study:
    """An evaluation under way."""

    def __init__(
        self,
        bundle: str | Path,
        folder: Path,
        *,
        corpus: Path | None = None,
        prompts: Path | None = None,
        config: EvaluateConfig | None = None,
        device: str = "cpu",
        say: Say = print,
    ) -> None:
        """Raises: ValueError for a folder with the report of another bundle or other settings, or prompts that can't be read."""
        self.config, self.folder, self.corpus, self.say, self.device = (
            config or EvaluateConfig(),
            Path(folder),
            corpus,
            say,
            device,
        )
        every = load_prompts(prompts)
        num = min(self.config.num_prompts or len(every), len(every))
        self.prompts: list[Prompt] = [every[i * len(every) // num] for i in range(num)]
        opened = open_bundle(bundle)
        texts = "\n".join(f"{p.text}|{sorted(p.concepts)}|{p.tempo_bpm}|{p.key}" for p in self.prompts)
        self.settings = {
            "bundle": opened.hash,
            "name": opened.document.get("name", ""),
            "prompts": hashlib.sha256(texts.encode()).hexdigest()[:16],
            "corpus": _corpus_hash(corpus) if corpus else None,
            **asdict(self.config),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "settings.json"
        if path.exists():
            before = json.loads(path.read_text())
            changed = sorted(name for name in self.settings if before.get(name) != self.settings[name])
            if changed:
                raise ValueError(
                    f"{self.folder} holds a report with another {changed[0]} ({before.get(changed[0])}, now "
                    f"{self.settings[changed[0]]}); name another --report folder"
                )
        else:
            write_atomic(path, json.dumps(self.settings, indent=1))
        for name in ("clips", "sets", "sections"):
            (self.folder / name).mkdir(exist_ok=True)
        self.bundle = opened
        self._model: MusicLM | None = None
        self._judge: Judge | None = None
        self._tokenizer: SemanticTokenizer | None = None
        self._retrieved: list[int] | None = None
        self._held_out: tuple[list[Clip], list[Clip]] | None = None

    @property
    def model(self) -> MusicLM:
        if self._model is None:
            self._model = MusicLM.from_pretrained(self.bundle.folder, self.device)
        return self._model

    @property
    def tokenizer(self) -> SemanticTokenizer:
        if self._tokenizer is None:
            self._tokenizer = SemanticTokenizer.from_artifact(self.bundle.part("w2vbert")).to(self.model.device)
        return self._tokenizer

    # sets of clips

    def clip_path(self, index: int) -> Path:
        return self.folder / "clips" / f"{index:04d}.flac"

    def generate(self) -> None:
        """What is missing of the clips of the prompts; clip i has the seed config.seed + i."""
        started, made = time.monotonic(), 0
        for index, prompt in enumerate(self.prompts):
            if self.clip_path(index).exists():
                continue
            music = self.model.generate(prompt.text, CLIP_S, seed=self.config.seed + index)
            write_audio(self.clip_path(index), music.audio[0], music.sample_rate_hz, music.tags())
            made += 1
            if made % 20 == 0:
                self.say(f"generated {index + 1} of {len(self.prompts)} clips")
        if made:
            seconds = time.monotonic() - started
            self.say(f"generated {made} clips in {seconds:.0f} s, real-time factor {seconds / made / CLIP_S:.2f}")

    def tracks(self, *splits: str) -> list[Track]:
        assert self.corpus is not None
        return [track for track in load_manifest(self.corpus) if track.split in splits and track.seconds >= CLIP_S]

    def held_out(self) -> tuple[list[Clip], list[Clip]]:
        """(real, reference): clips of validation and test tracks, no track in both."""
        if self._held_out is None:
            assert self.corpus is not None
            tracks = self.tracks("validation", "test")
            num = min(self.config.num_real, len(tracks)) // 2 * 2
            audio = eval_clips(self.corpus, tracks, CLIP_S, num, self.config.seed)[0][:, 0].numpy()
            self._held_out = list(audio[::2]), list(audio[1::2])
        return self._held_out

    def clips_of(self, name: str) -> Iterator[Clip]:
        """The clips of a set, made or read as they are asked for."""
        if name == "generated":
            for index in range(len(self.prompts)):
                yield load(self.clip_path(index))
            return
        real, reference = self.held_out()
        if name in ("real", "reference"):
            yield from real if name == "real" else reference
        elif name == "codec":
            levels = self.model.default_config().levels
            with torch.no_grad():
                for clip in real:
                    audio = torch.from_numpy(clip)[None, None].to(self.model.device)
                    codes = self.model.soundstream.encode(audio, levels)
                    yield self.model.soundstream.decode(codes)[0, 0, : len(clip)].clamp(-1, 1).cpu().numpy()
        elif name == "resynthesis":
            yield from (self.resynthesize(clip, index) for index, clip in enumerate(real))
        elif name == "train":
            assert self.corpus is not None
            tracks = self.tracks("train")
            num = min(len(real), len(tracks))
            yield from eval_clips(self.corpus, tracks, CLIP_S, num, self.config.seed)[0][:, 0].numpy()
        elif name == "retrieved":
            clips = [*real, *reference]
            yield from (clips[index] for index in self.retrieved())
        elif name == "noise":
            rng = np.random.default_rng(self.config.seed)
            for clip in real:
                yield pink_noise(len(clip), float(np.sqrt(np.square(clip).mean())), rng)
        else:
            raise ValueError(f"no set {name!r}")

    @torch.no_grad()
    def retrieved(self) -> list[int]:
        """For each prompt the place, in `real` and then `reference`, of the clip that MuLan finds."""
        if self._retrieved is None:
            mulan, device = self.model.mulan, self.model.device
            clips = [clip for part in self.held_out() for clip in part]
            audio = torch.cat([mulan.embed_audio(torch.from_numpy(clip)[None, None].to(device)) for clip in clips])
            self._retrieved = [int((mulan.embed_text([p.text]) @ audio.T)[0].argmax()) for p in self.prompts]
        return self._retrieved

    @torch.no_grad()
    def resynthesize(self, clip: Clip, index: int) -> Clip:
        """A clip from its semantic and MuLan codes: what the acoustic stages make when the semantic stage makes no mistake."""
        model, config = self.model, self.model.default_config()
        audio = torch.from_numpy(clip)[None, None].to(model.device)
        codes = self.tokenizer.encode(audio)
        source = SemanticSource(iter([codes]), 1, codes.shape[2])
        generators = [item_generator(self.config.seed + index, config.acoustic)]
        acoustic = torch.cat(
            list(model.acoustic_decoder(config).stream(source, model.mulan.audio_codes(audio), generators)), 2
        )
        decoded = model.soundstream.decode(acoustic[:, : config.levels])[0, 0, : len(clip)]
        return decoded.clamp(-1, 1).cpu().numpy()

    def set_names(self) -> tuple[str, ...]:
        """What can be listened to here: without a corpus only what was generated, without w2v-BERT in the bundle no resynthesis."""
        if self.corpus is None:
            return ("generated",)
        resynthesis = ("resynthesis",) if "w2vbert" in self.bundle.parts else ()
        return ("generated", "real", "reference", "codec", *resynthesis, "train", "retrieved", "noise")

    def heard(self, name: str) -> Heard:
        """What the listeners say of a set; listened to once."""
        if name == "retrieved":  # its clips have been listened to
            return Heard.join(self.heard("real"), self.heard("reference")).rows(self.retrieved())
        path = self.folder / "sets" / f"{name}.json"
        if path.exists():
            return Heard.from_json(json.loads(path.read_text()))
        if self._judge is None:
            self._judge = Judge()
        self.say(f"listening to {name}")
        embeddings, tags, descriptions, metered = [], [], [], []
        for clip in self.clips_of(name):
            embedding, score = self._judge([clip])
            embeddings.append(embedding[0])
            tags.append(score[0])
            descriptions.append(describe(clip))
            metered.append(sanity(clip))
        found = Heard(np.stack(embeddings), np.stack(tags), descriptions, metered)
        write_atomic(path, json.dumps(found.to_json()))
        return Heard.from_json(found.to_json())  # as a resumed run reads it

    # sections

    def quality(self) -> dict[str, Any]:
        """Distances to `reference`, of every set."""
        reference = self.heard("reference").embeddings
        rows = {}
        for name in self.set_names():
            if name == "reference":
                continue
            own = self.heard(name).embeddings
            rows[name] = {
                "fad": _half_interval(own, reference),
                "fad_infinity": Estimate(frechet_infinity(own, reference), float("nan"), float("nan")),
                "mmd": bootstrap(lambda x: kernel_distance(x, reference), own, draws=200),
            }
        return {
            "rows": rows,
            # a distance that does not put real music before a codec's and before noise says nothing of generated music
            "reliable": {
                metric: rows["real"][metric].value < min(rows[name][metric].value for name in ("codec", "noise"))
                for metric in ("fad", "fad_infinity", "mmd")
            },
        }

    def health(self) -> dict[str, Any]:
        """Means of the meter's figures, by set."""
        names = [field.name for field in fields(Sanity)]
        return {
            "rows": {name: _means([asdict(x) for x in self.heard(name).sanity], names) for name in self.set_names()}
        }

    def music(self) -> dict[str, Any]:
        """Means of the measures of beat, key, density and form, by set; and how much clips of a set differ from one another."""
        names = [field.name for field in fields(Description) if field.name != "key"]
        rows = {}
        for name in self.set_names():
            heard = self.heard(name)
            rows[name] = _means([asdict(x) for x in heard.descriptions], names)
            rows[name]["variety"] = Estimate(variety(heard.embeddings), float("nan"), float("nan"))
        return {"rows": rows}

    def adherence(self) -> dict[str, Any]:
        """Concept by concept, generated and retrieved."""
        rows: dict[str, Adherence] = {}
        for name in ("generated", "retrieved"):
            if name in self.set_names():
                heard = self.heard(name)
                scores = concept_scores(heard.tags, heard.descriptions, heard.loudness_lufs)
                rows[name] = adherence(self.prompts, scores, heard.descriptions)
        return {"rows": {name: asdict(row) for name, row in rows.items()}}

    def cycle(self) -> dict[str, Any]:
        """MuLan cycle consistency (MusicLM, section 5): cosine of a prompt's embedding and its clip's, beside that of shuffled pairs."""
        mulan, device = self.model.mulan, self.model.device
        with torch.no_grad():
            text = torch.cat([mulan.embed_text([prompt.text]) for prompt in self.prompts]).cpu().numpy()
            rows = {}
            for name in ("generated", "retrieved"):
                if name not in self.set_names():
                    continue
                clips = self.clips_of(name)
                audio = np.concatenate(
                    [mulan.embed_audio(torch.from_numpy(c)[None, None].to(device)).cpu().numpy() for c in clips]
                )
                every = text @ audio.T
                off = every[~np.eye(len(every), dtype=bool)]
                rows[name] = {
                    "mcc": bootstrap(mean, np.diag(every)),
                    "shuffled": Estimate(float(off.mean()), float("nan"), float("nan")),
                }
        return {"rows": rows, "note": "MuLan judges a model that was conditioned on it: this favours the model"}

    def captions(self) -> dict[str, Any]:
        """Divergence of the judge's tags of `retrieved` (a real clip for each prompt) from those of `generated`, beside shuffled pairs."""
        generated, retrieved = self.heard("generated").tags, self.heard("retrieved").tags
        rng = np.random.default_rng(self.config.seed)
        shuffled = [posterior_divergence(generated, retrieved[rng.permutation(len(retrieved))]) for _ in range(20)]
        return {
            "rows": {
                "generated": {
                    "kld": bootstrap(posterior_divergence, generated, retrieved, draws=300),
                    "shuffled": Estimate(float(np.mean(shuffled)), float("nan"), float("nan")),
                }
            }
        }

    def semantic(self) -> dict[str, Any]:
        """What semantic tokens keep: agreement of `resynthesis` with the clips it was made of, beside other clips; and of `codec`, the most there can be."""
        targets = list(self.clips_of("real"))
        rows = {}
        for name in ("resynthesis", "codec"):
            made = list(self.clips_of(name))
            rows[name] = {
                f"{measure}{control}": bootstrap(
                    mean, np.array([compare(a, b) for a, b in zip(made, others, strict=True)])
                )
                for measure, compare in (("chroma", chroma_agreement), ("onset", onset_agreement))
                for control, others in (("", targets), ("_shuffled", targets[1:] + targets[:1]))
            }
        return {"rows": rows}

    def codec(self) -> dict[str, Any]:
        """The codec by number of levels, beside Opus, on test tracks."""
        assert self.corpus is not None
        report = evaluate_codec(
            self.model.soundstream.to("cpu"),
            self.corpus,
            self.tracks("test"),
            num_clips=self.config.num_codec,
            clip_s=5.0,
            visqol=make_visqol(),
        )
        self.model.soundstream.to(self.model.device)
        return report.to_json()

    def retrieval(self) -> dict[str, Any]:
        """MuLan's retrieval and modality gap on labelled test tracks."""
        assert self.corpus is not None
        labels = load_labels(self.corpus / LABELS_FILE)
        return asdict(evaluate_retrieval(self.model.mulan, self.corpus, self.tracks("test"), labels))

    def zero_shot(self) -> dict[str, Any]:
        """MuLan as a tagger of held-out clips: for each of the judge's tags, AUC of the tag's name for the quarter of clips the judge scores highest."""
        tags = np.concatenate([self.heard("real").tags, self.heard("reference").tags])
        real, reference = self.held_out()
        mulan, device = self.model.mulan, self.model.device
        with torch.no_grad():
            audio = torch.cat(
                [mulan.embed_audio(torch.from_numpy(c)[None, None].to(device)) for c in (*real, *reference)]
            )
            rows = {}
            for index, tag in enumerate(MSD_TAGS):
                similarity = (mulan.embed_text([f"{tag} music"]) @ audio.T)[0].cpu().numpy()
                likely = tags[:, index] >= np.quantile(tags[:, index], 0.75)
                rows[tag] = bootstrap(area_under_curve, similarity, likely, draws=200)
        return {"rows": rows, "mean_auc": float(np.mean([row.value for row in rows.values()]))}

    def memory(self) -> dict[str, Any]:
        """The memorisation study, training clips beside test clips; and how near each set lies to clips of the training split."""
        assert self.corpus is not None
        tokenizer, rows = self.tokenizer, []
        for split in ("train", "test"):
            tracks = [track for track in self.tracks(split) if track.seconds >= 15]
            num = min(self.config.num_memorisation, len(tracks))
            audio = eval_clips(self.corpus, tracks, 15.0, num, self.config.seed)[0].to(self.model.device)
            with torch.no_grad():
                codes = torch.cat([tokenizer.encode(clip[None]) for clip in audio])[:, 0].cpu()
                mulan = torch.cat([self.model.mulan.audio_codes(clip[None]) for clip in audio]).cpu()
            centroids = tokenizer.centroids.double().cpu().numpy()
            rows += [asdict(row) for row in memorisation(self.model.semantic, codes, mulan, centroids, split)]
        train = self.heard("train").embeddings
        nearest = {
            name: bootstrap(mean, nearest_cosine(self.heard(name).embeddings, train), draws=300)
            for name in ("generated", "real", "noise")
        }
        return {"rows": rows, "nearest_training_clip_cosine": nearest}

    def sections(self) -> list[str]:
        """What can be measured here: without a corpus, what needs no real music."""
        alone = ["health", "music", "adherence", "cycle"]
        return alone if self.corpus is None else [
            "quality", *alone, "captions", "semantic", "zero_shot", "retrieval", "memory", "codec"
        ]  # fmt: skip

    def run(self) -> dict[str, Any]:
        """All sections, what is there already not again; the report, which is also written to report.json."""
        started = time.monotonic()
        self.generate()
        found: dict[str, Any] = {}
        for name in self.sections():
            path = self.folder / "sections" / f"{name}.json"
            if not path.exists():
                self.say(f"measuring {name}")
                try:
                    figures = getattr(self, name)()
                except ValueError as error:  # a package or labels that are not there: the others go on
                    found[name] = {"skipped": str(error)}
                    self.say(f"{name} left out: {error}")
                    continue
                write_atomic(path, json.dumps(figures, default=_plain, indent=1))
            found[name] = json.loads(path.read_text())
        report = {
            "settings": self.settings,
            "musiclm": __version__,
            "git_revision": git_revision(),
            "date": time.strftime("%Y-%m-%d"),
            "listeners": [Judge.name, "librosa", "pyloudnorm"],
            "prompts": [prompt.text for prompt in self.prompts],
            "sections": found,
        }
        write_atomic(self.folder / "report.json", json.dumps(report, indent=1) + "\n")
        self.say(f"measured in {time.monotonic() - started:.0f} s")
        return report


def pink_noise(num_samples: int, rms: float, rng: np.random.Generator) -> Clip:
    """Noise of 3 dB an octave less, at a level."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, num_samples)
    return np.clip(noise * rms / max(float(np.sqrt(np.square(noise).mean())), 1e-12), -1, 1).astype(np.float32)


def variety(embeddings: Float[np.ndarray, "n d"]) -> float:
    """Mean cosine distance between different clips of a set, 0 (all alike) to 2; nan for one clip."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-9)
    alike = unit @ unit.T
    return float(1 - alike[~np.eye(len(unit), dtype=bool)].mean()) if len(unit) > 1 else float("nan")


def nearest_cosine(own: Float[np.ndarray, "n d"], others: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " n"]:
    """For each clip the cosine to the most alike of the others."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9) for x in (own, others))
    return (a @ b.T).max(1)


def _half_interval(own: Float[np.ndarray, "n d"], reference: Float[np.ndarray, "m d"], draws: int = 40) -> Estimate:
    """FAD with a jackknife interval: a bootstrap's repeated clips would bias a covariance; halves without repeats have the spread of the whole."""
    rng = np.random.default_rng(0)
    halves = [frechet_distance(own[rng.permutation(len(own))[: len(own) // 2]], reference) for _ in range(draws)]
    value, spread = frechet_distance(own, reference), 1.96 * float(np.std(halves))
    return Estimate(value, value - spread, value + spread)


def _means(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Estimate]:
    found = {}
    for name in names:
        values = np.array([row[name] for row in rows], np.float64)
        values = values[np.isfinite(values)]
        found[name] = bootstrap(mean, values, draws=300) if len(values) else Estimate(*(float("nan"),) * 3)
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
