"""Training MuLan's text side alone, beside an audio side that stays as it is: `musiclm train mulan-text --from BUNDLE`.

Every code of every recording stays what it was, so language models that learned from them go on working. Audio vectors
and features of the captions are computed once, which takes longer than the training. Beside the contrastive loss a
caption that names its tempo in numbers, or a mood, must lie nearer to its music than the same caption with another
number or mood (`musiclm.data.captions.wrong`): among unlike captions a model has no need to read such a word, and does
not. `anchor` holds captions where they lay before.
"""

import copy
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import ArtifactError, codes_hash, read_config
from musiclm.core.asked import tempo_of
from musiclm.data.captions.wrong import names_mood, other_moods, with_other_mood, with_other_tempo
from musiclm.models.mulan.gap import fit_projection, gap_of
from musiclm.models.mulan.model import MuLan, contrastive_loss
from musiclm.models.mulan.task import CaptionTaskConfig
from musiclm.models.mulan.windows import CaptionedWindows, cached_rows, encode_texts
from musiclm.nn.parts import WHOLE, BatchPart, gather, mean, through
from musiclm.train.loop import Update

OTHERS = 3  # wrong captions beside each that names its tempo, or a mood
# of a window that have wrong ones beside them: the shortest that name a mood, for there it weighs most
FELT_CAPTIONS = 3
Wrong = tuple[int, int, list[str]]  # window, caption, the same caption with other words


class TextSide(nn.Module):
    """What is trained: copies, so that the model they came from stays whole where these lie in shards."""

    def __init__(self, model: MuLan) -> None:
        super().__init__()
        self.text = copy.deepcopy(model.text)
        self.log_scale = nn.Parameter(model.log_scale.detach().clone())


@dataclass(frozen=True, kw_only=True)
class MuLanTextTaskConfig(CaptionTaskConfig):
    """How the text side is trained. Its sizes are those of the MuLan that training begins with."""

    anchor: float = 0.0  # how firmly captions without a tempo in numbers are held where they lay before

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anchor < 0:
            raise ValueError(f"anchor is {self.anchor}; it must be 0 or more")


class MuLanTextTask:
    """See `musiclm.train.loop.Task`.

    start: a MuLan's artifact. Raises: ArtifactError if there is none, or its text encoder was trained too; ValueError
    as `CaptionedWindows`.
    """

    name = "mulan-text"
    ema_group = "model"
    whole_batch = True  # its negatives

    def __init__(
        self,
        config: MuLanTextTaskConfig,
        corpus_dir: Path,
        *,
        batch_size: int,
        seed: int = 0,
        start: Path,
        cache_dir: Path | None = None,
    ) -> None:
        self.config, self.batch_size, self.seed = config, batch_size, seed
        torch.manual_seed(seed)
        model = MuLan.from_artifact(start)
        if model.config.text_trained_layers:
            raise ArtifactError(
                f"the mulan model in {start} learned with text_trained_layers {model.config.text_trained_layers}; "
                "here only the head over "
                "a text encoder that stays is trained: begin with a MuLan whose encoder was not, or train MuLan anew"
            )
        cache_dir = Path(cache_dir or Path(corpus_dir) / "mulan_cache")
        self.data = CaptionedWindows(
            Path(corpus_dir), cache_dir, model, config.captions_per_window, config.rendered_share
        )
        self.mulan = model.requires_grad_(False)
        self.before = copy.deepcopy(model.text).eval()
        self.side = TextSide(model).requires_grad_(True)
        self.groups: dict[str, nn.Module] = {"model": self.side}
        self.codes_of = codes_hash(read_config(start))
        keys = [f"{window.track.sha256} {window.start_s}" for window in self.data.windows]
        rows = cached_rows(
            cache_dir / f"vectors-{self.codes_of[:16]}.npz",
            keys,
            lambda missing: (
                model.audio_vectors(self.data.features(model, np.array(missing))).numpy().astype(np.float16)
            ),
        )
        self.audio = F.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)
        self.wrong = {"tempo": self._encoded(self._other_tempi()), "mood": self._encoded(self._other_moods())}
        self.baseline = self.data.baseline(batch_size) | {kind: math.log(1 + OTHERS) for kind in self.wrong}
        self.names_tempo = torch.tensor([[tempo_of(text) is not None for text in row] for row in self.data.captions])

    def _other_tempi(self) -> Iterator[Wrong]:
        """The training captions that name their tempo in numbers."""
        for window in map(int, self.data.train):
            for caption, text in enumerate(self.data.captions[window]):
                rng = random.Random(f"{self.seed} {window} {caption}")
                wrong = [other for _ in range(OTHERS) if (other := with_other_tempo(text, rng)) is not None]
                if wrong:
                    yield window, caption, wrong

    def _other_moods(self) -> Iterator[Wrong]:
        """The shortest training captions of each window that name a mood."""
        for window in map(int, self.data.train):
            pool = self.data.captions[window]
            others = other_moods([*pool, *self.data.windows[window].captions])
            felt = [caption for caption, text in enumerate(pool) if names_mood(text)] if others else []
            for caption in sorted(felt, key=lambda k: len(pool[k]))[:FELT_CAPTIONS]:
                rng = random.Random(f"{self.seed} {window} {caption} mood")
                yield window, caption, [with_other_mood(pool[caption], others, rng) for _ in range(OTHERS)]

    def _encoded(self, wrong: Iterable[Wrong]) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Window and caption of each (n 2), and text features of its wrong captions (n 3 d)."""
        found = list(wrong)
        texts = [text for _, _, row in found for text in row]
        if not texts:
            return np.zeros((0, 2), np.int64), np.zeros((0, OTHERS, 1), np.float16)
        rows = cached_rows(
            self.data.cache.captions_file,
            texts,
            lambda missing: encode_texts(self.mulan, [texts[i] for i in missing]).numpy().astype(np.float16),
        )
        return np.array([place for *place, _ in found]), rows.reshape(len(found), OTHERS, -1)

    def start(self, device: torch.device) -> None:
        """Nothing: all weights are there."""

    def batch(self, step: int, part: BatchPart = WHOLE) -> dict[str, Tensor]:
        """A window of as many tracks as fit, a caption of each; and as many captions that name their tempo, or a mood,
        with wrong ones beside them. "audio" and "same" are always of all."""
        rows = part.rows(self.batch_size)
        rng = np.random.default_rng([self.seed, step])
        picked = self.data.pick(rng, self.batch_size)
        choices = rng.integers(self.config.captions_per_window, size=(self.batch_size, 1))
        pooled = self.data.cache.pooled
        assert pooled is not None
        batch = {
            "audio": self.audio[torch.from_numpy(picked)],
            "pooled": torch.tensor(pooled[picked, choices[:, 0]][rows], dtype=torch.float32),
            "same": self.data.same(picked, choices)[0],
            "names_tempo": self.names_tempo[picked, choices[:, 0]][rows],
        }
        for kind, (places, others) in self.wrong.items():
            if len(places):
                some = rng.integers(len(places), size=self.batch_size)[rows]
                window, caption = places[some].T
                texts = np.concatenate([pooled[window, caption][:, None], others[some]], axis=1)
                batch[f"{kind}_audio"] = self.audio[torch.from_numpy(window)]
                batch[f"{kind}_pooled"] = torch.tensor(texts, dtype=torch.float32)
        return batch

    def updates(self, batch: dict[str, Tensor], step: int) -> Iterator[Update]:
        loss, log = through(self.side, self._losses, batch)
        yield Update(group="model", loss=loss, log=log)

    def _losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float | Tensor]]:
        text = self._vectors(self.side.text, batch["pooled"])
        result = contrastive_loss(batch["audio"], gather(text), self.side.log_scale, batch["same"])
        loss = result.loss
        log: dict[str, float | Tensor] = {
            "contrastive": result.loss,
            "audio_to_text": result.audio_to_text,
            "text_to_audio": result.text_to_audio,
            "temperature": (-self.side.log_scale).exp(),
        }
        if self.config.anchor:
            with torch.no_grad():
                was = self._vectors(self.before.to(text.device), batch["pooled"])
            held = ~batch["names_tempo"]
            log["moved"] = (1 - (text * was).sum(-1))[held].sum() / mean(held.sum()).clamp(min=1)
            loss = loss + self.config.anchor * log["moved"]
        for kind in self.wrong:
            if f"{kind}_pooled" in batch:
                pooled = batch[f"{kind}_pooled"]
                texts = self._vectors(self.side.text, pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2])
                scale = self.side.log_scale.clamp(max=math.log(100.0)).exp()
                likeness = (texts * batch[f"{kind}_audio"][:, None]).sum(-1) * scale
                log[kind] = F.cross_entropy(likeness, torch.zeros(len(likeness), dtype=torch.long, device=texts.device))
                loss = loss + log[kind]
        return loss, log

    def _vectors(self, head: nn.Module, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b d2"]:
        raw = F.normalize(head(pooled), dim=-1)
        return F.normalize(raw - self.mulan.text_mean.to(raw.device), dim=-1)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """See `CaptionedWindows.validate`."""
        assert isinstance(module, TextSide)
        return self.data.validate(lambda windows: self.pairs(module, windows))

    def pairs(
        self, module: nn.Module, windows: NDArray[np.int64]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], Float[Tensor, ""]]:
        """Vectors of windows and of a caption of each, and the loss's scale."""
        assert isinstance(module, TextSide)
        device = module.log_scale.device
        text = self._vectors(module.text, self.data.pooled(self.mulan, windows, 0).to(device))
        return self.audio[torch.from_numpy(windows)].to(device), text, module.log_scale

    @torch.no_grad()
    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Fits how far text is drawn to audio, and writes the artifact, whose codes of audio are those of the one it
        began with.
        """
        assert isinstance(module, TextSide)
        model = copy.deepcopy(self.mulan)
        model.text.load_state_dict(module.text.state_dict())
        model.log_scale.copy_(module.log_scale)
        audio, text, _ = (value.cpu() for value in self.pairs(module, self.data.held))
        fit_projection(model, audio, text, self.config.projection)
        gap = gap_of(model, audio, model.project_text(text))
        facts = {
            "windows": self.data.counts(),
            "baseline": self.baseline,
            "gap_validation": {"after": asdict(gap)},
            "codes_of": self.codes_of,
        }
        model.save(folder, {**info, **facts})
