"""Training of the melody encoder on renditions of the same melodies, as a Task of the loop (`musiclm.train.loop`).

MusicLM (section 3.4) pulls two renditions together and pushes semi-hard negatives away: those of the batch that lie
farther than the positive, but not by the margin. The reason is that most negatives are easy and teach nothing, and the
hardest are often the same music. Here the whole batch takes part (InfoNCE): its softmax weighs negatives by how hard
they are, which leaves no margin to set and loses no pair of a small batch. The second half of the reason is met by the
notes, which are known: windows that sound the same, such as a phrase said again, are no negatives of one another.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import save_artifact
from musiclm.core.config import check_shares
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.streams import MELODY
from musiclm.data.corpus.manifest import CorpusError
from musiclm.data.corpus.melodies import Rendition, load_renditions, read_rendition
from musiclm.models.melody.features import HOP, PER_SEMITONE, PitchSpectra
from musiclm.models.melody.model import KIND, MelodyConfig, MelodyEncoder, unstored
from musiclm.nn.parts import WHOLE, BatchPart, gather, through
from musiclm.nn.precision import full_precision
from musiclm.train.loop import Update

ROLL_STEPS = 10  # of a window, in what is compared of the notes
MIN_ONSETS = 4  # of the notes in a window, if there is such a one
KEPT = 4096  # renditions whose spectra stay in memory, 150 kB each
SPECTRA_HZ = SAMPLE_RATE_HZ / HOP
_DRAWS = 16


@dataclass(frozen=True, kw_only=True)
class MelodyTaskConfig:
    """The model and what training it needs beside the loop's settings."""

    model: MelodyConfig = field(default_factory=MelodyConfig)
    windows_per_melody: int = 2  # of each pair of renditions in a batch: the same players, other notes
    temperature: float = 0.1
    transpose: int = 6  # both renditions by up to so many semitones, by moving spectra
    no_backing_share: float = 0.35  # of windows, without their accompaniment
    backing_db: tuple[float, float] = (-9.0, 3.0)  # of the accompaniment beside the melody, otherwise
    noise_db: tuple[float, float] = (-50.0, -15.0)  # of noise beside the melody
    same_above: float = 0.7  # likeness of the notes from which windows are no negatives of one another
    num_validation: int = 96  # windows, in either of two renditions
    num_fit: int = 6000  # windows that the quantizer sees

    def __post_init__(self) -> None:
        check_shares(self, "no_backing_share", "same_above")
        if self.windows_per_melody < 1 or self.num_validation < 2 or self.num_fit < 1:
            raise ValueError("windows_per_melody and num_fit must be at least 1, num_validation at least 2")
        if not 0 < self.temperature <= 1 or not 0 <= self.transpose <= 12:
            raise ValueError("temperature must lie in (0, 1] and transpose in 0..12")


@dataclass(frozen=True)
class RenditionPairs:
    """Windows of the same moment in two renditions each."""

    spectra: Float[Tensor, "2 b n t"]  # as `PitchSpectra` gives them
    roll: Float[Tensor, "b r"]  # what is played: pitch classes in time, of length 1

    def to_batch(self) -> dict[str, Tensor]:
        return {"spectra": self.spectra, "roll": self.roll}


class Renditions:
    """The renditions of some melodies, and pairs of windows of them.

    Melody and accompaniment are mixed as spectra: powers add, as they do on average where phases have nothing to do
    with one another. So a file is read and transformed once, not for every window of it.
    """

    def __init__(self, folder: Path, renditions: Sequence[Rendition], config: MelodyTaskConfig) -> None:
        """Raises: CorpusError if no melody has two renditions."""
        self.folder, self.config = folder, config
        by_melody: dict[int, list[Rendition]] = {}
        for one in renditions:
            by_melody.setdefault(one.melody, []).append(one)
        self.melodies = [some for _, some in sorted(by_melody.items()) if len(some) > 1]
        if not self.melodies:
            raise CorpusError(f"{folder}: no melody with two renditions here; make more with `musiclm corpus melodies`")
        self.window_s = config.model.window / SPECTRA_HZ
        self._transform = PitchSpectra()
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()

    def pairs(
        self, num_melodies: int, seed: Sequence[int], augment: bool = True, rows: slice = slice(None)
    ) -> RenditionPairs:
        """Windows of so many melodies, `windows_per_melody` each: a pure function of the arguments.

        rows: which of the melodies' windows are made.
        """
        random = np.random.default_rng((*seed, 0))
        rounds = -(-num_melodies // len(self.melodies))
        order = np.concatenate([random.permutation(len(self.melodies)) for _ in range(rounds)])
        windows, rolls = [], []
        for place in range(num_melodies)[rows]:
            random, some = np.random.default_rng((*seed, 1, place)), self.melodies[order[place]]
            two = [some[i] for i in random.permutation(len(some))[:2]]
            shift = int(random.integers(-self.config.transpose, self.config.transpose + 1)) if augment else 0
            for _ in range(self.config.windows_per_melody):
                start_s = self._start(two[0], random)
                windows.append(np.stack([self._window(one, one.at(start_s), shift, random) for one in two]))
                rolls.append(roll(two[0], two[0].at(start_s), self.window_s, shift))
        return RenditionPairs(torch.from_numpy(np.stack(windows, 1)), torch.from_numpy(np.stack(rolls)).float())

    def _start(self, one: Rendition, random: np.random.Generator) -> float:
        """Where a window begins in the melody as written: where there is something to follow, if it is found."""
        longest = one.seconds * one.tempo - self.window_s
        best, most = 0.0, -1
        for _ in range(_DRAWS):
            start_s = float(random.uniform(-0.2 * self.window_s, max(0.0, longest)))
            here = one.at(start_s)
            num_onsets = sum(here <= begin < here + self.window_s for begin, _, _ in one.notes)
            if num_onsets >= MIN_ONSETS:
                return start_s
            if num_onsets > most:
                best, most = start_s, num_onsets
        return best

    def _window(
        self, one: Rendition, start_s: float, shift: int, random: np.random.Generator
    ) -> Float[np.ndarray, "n t"]:
        """Melody and accompaniment from a moment on, mixed anew, `shift` semitones higher."""
        num, first = self.config.model.window, round(start_s * SPECTRA_HZ)
        spectra = self.spectra(one)
        out = np.zeros((*spectra.shape[:2], num), np.float32)
        begin, end = max(0, first), min(first + num, spectra.shape[2])
        if begin < end:
            out[..., begin - first : end - first] = spectra[..., begin:end]
        return mixed(_moved(out, PER_SEMITONE * shift), self.config, random)

    def spectra(self, one: Rendition) -> Float[np.ndarray, "2 n t"]:
        """Of melody and accompaniment, half precision; those used last are kept."""
        found = self._kept.pop(one.path, None)
        if found is None:
            audio = torch.from_numpy(read_rendition(self.folder, one, 0.0, one.seconds))
            found = self._transform(audio).numpy().astype(np.float16)
        self._kept[one.path] = found
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found


def _moved(spectra: Float[np.ndarray, "2 n t"], by: int) -> Float[np.ndarray, "2 n t"]:
    """Moved up by so many bins, zeros where nothing is known."""
    out = np.zeros_like(spectra)
    n = spectra.shape[1]
    out[:, max(0, by) : n + min(0, by)] = spectra[:, max(0, -by) : n - max(0, by)]
    return out


def mixed(
    sides: Float[np.ndarray, "2 n t"], config: MelodyTaskConfig, random: np.random.Generator
) -> Float[np.ndarray, "n t"]:
    """A melody with its accompaniment at a level that is drawn, or without; noise; a tilt of the spectrum."""
    melody, backing = sides
    level = _rms(melody)
    power = melody**2
    if _rms(backing) > 0 and random.random() >= config.no_backing_share:
        power = power + (backing * (level / _rms(backing) * 10 ** (random.uniform(*config.backing_db) / 20))) ** 2
    power = power + (level * 10 ** (random.uniform(*config.noise_db) / 20) * random.standard_normal(power.shape)) ** 2
    tilt_db = random.uniform(-15, 15) * np.linspace(-0.5, 0.5, len(power))
    out = np.sqrt(power) * 10 ** (tilt_db[:, None] / 20)
    return (out * (10 ** (random.uniform(-50, -30) / 20) / max(1e-9, _rms(out)))).astype(np.float32)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def roll(one: Rendition, start_s: float, window_s: float, shift: int = 0) -> Float[np.ndarray, " n"]:
    """Pitch classes in `ROLL_STEPS` steps of a window of a rendition, its onsets once more; of length 1, or 0."""
    held = np.zeros((2, ROLL_STEPS, 12))
    step = window_s / ROLL_STEPS
    edges = start_s + step * np.arange(ROLL_STEPS)
    for begin, end, pitch in one.notes:
        overlap = np.clip(np.minimum(end, edges + step) - np.maximum(begin, edges), 0, None) / step
        held[0, :, (pitch + shift) % 12] += overlap
        held[1, :, (pitch + shift) % 12] += (edges <= begin) & (begin < edges + step)
    flat = held.ravel()
    return flat / max(1e-9, float(np.linalg.norm(flat))) if flat.any() else flat


@dataclass(frozen=True)
class PairLoss:
    """What `pair_loss` returns."""

    loss: Float[Tensor, ""]
    recall: Float[Tensor, ""]  # at 1: how often the same moment in the other rendition is the nearest
    baseline: Float[Tensor, ""]  # the loss of vectors that tell nothing


def pair_loss(
    one: Float[Tensor, "b c"], other: Float[Tensor, "b c"], same: Bool[Tensor, "b b"], temperature: float
) -> PairLoss:
    """Symmetric cross-entropy over the batch's similarities (InfoNCE, van den Oord et al. 2018).

    same[i, j]: the notes of i and j are alike, so j is no negative of i.
    """
    eye = torch.eye(len(one), dtype=torch.bool, device=one.device)
    left_out = same & ~eye
    logits = (one @ other.T / temperature).float().masked_fill(left_out, -1e4)
    target = torch.arange(len(one), device=one.device)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    recall = ((logits.argmax(1) == target).float().mean() + (logits.argmax(0) == target).float().mean()) / 2
    return PairLoss(loss, recall, (~left_out).sum(1).float().log().mean())


class MelodyTask:
    """Trains on the renditions of the train split, and fits the quantizer at export.

    Figures: `loss` (InfoNCE, nats) and `recall` at 1 among `num_validation` windows, each beside its baseline.
    """

    name = MELODY.name
    ema_group = "model"
    whole_batch = True  # negatives are of the whole of it

    def __init__(self, config: MelodyTaskConfig, folder: Path, batch_size: int, seed: int = 0) -> None:
        """batch_size: melodies. Raises: CorpusError if the folder holds no renditions to train and validate on."""
        self.config, self.batch_size, self.seed = config, batch_size, seed
        renditions = load_renditions(folder)
        self.train = Renditions(folder, [one for one in renditions if one.split == "train"], config)
        held_out = Renditions(folder, [one for one in renditions if one.split == "validation"], config)
        torch.manual_seed(seed)
        self.model = MelodyEncoder(config.model)
        self.groups: dict[str, nn.Module] = {"model": self.model}
        num = -(-config.num_validation // config.windows_per_melody)
        self.validation = held_out.pairs(num, (seed, 0, 1), augment=False)
        self.baseline = {"recall": 1.0 / len(self.validation.roll)}

    def batch(self, step: int, part: BatchPart = WHOLE) -> dict[str, Tensor]:
        """A pure function of (seed, step); of a part its melodies."""
        rows = part.rows(self.batch_size)
        return self.train.pairs(self.batch_size, (self.seed, step, 0), rows=rows).to_batch()

    def start(self, device: torch.device) -> None:
        """Nothing has to be fitted before."""

    def updates(self, batch: dict[str, Tensor], step: int) -> Iterator[Update]:
        loss = through(self.model, self._loss, self.model, batch)
        log: dict[str, float | Tensor] = {"recall": loss.recall, "loss_baseline": loss.baseline}
        yield Update(group="model", loss=loss.loss, log=log)

    def _loss(self, module: MelodyEncoder, batch: dict[str, Tensor]) -> PairLoss:
        roll = gather(batch["roll"])
        one, other = module(batch["spectra"].flatten(0, 1)).chunk(2)
        # negatives are those of the whole batch
        return pair_loss(gather(one), gather(other), roll @ roll.T > self.config.same_above, self.config.temperature)

    def validate(self, module: nn.Module) -> dict[str, float]:
        assert isinstance(module, MelodyEncoder)
        device = next(module.parameters()).device
        loss = self._loss(module, {name: value.to(device) for name, value in self.validation.to_batch().items()})
        self.baseline["loss"] = float(loss.baseline)
        return {"loss": float(loss.loss), "recall": float(loss.recall)}

    @torch.no_grad()
    def fit(self, module: MelodyEncoder) -> MelodyEncoder:
        """A copy whose quantizer knows windows of training renditions."""
        fitted = copy.deepcopy(module).eval()
        device = next(module.parameters()).device
        vectors = []
        # steps that training does not share, the same ones at every call
        for step in range(-(-self.config.num_fit // (2 * self.batch_size * self.config.windows_per_melody))):
            spectra = self.train.pairs(self.batch_size, (self.seed, step, 2)).spectra
            vectors.append(fitted(spectra.flatten(0, 1).to(device)))
        with full_precision(device):
            fitted.rvq.fit_kmeans(torch.cat(vectors), seed=self.seed)
        return fitted

    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Writes the artifact (kind "melody"), half precision, its quantizer fitted."""
        assert isinstance(module, MelodyEncoder)
        fitted = self.fit(module)
        skip = unstored(fitted.state_dict())
        facts = {**info, "baseline": self.baseline}
        save_artifact(folder, KIND, self.config.model, fitted, facts, dtype=torch.float16, skip=skip)
