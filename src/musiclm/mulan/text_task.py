"""Training MuLan's text side alone, beside an audio side that stays as it is: `musiclm train mulan --from BUNDLE`.

Every code of every recording stays what it was, so language models that learned from them go on working. Audio vectors and features of the
captions are computed once, which takes longer than the training. Beside the contrastive loss a caption that names its tempo in numbers must
lie nearer to its music than the same caption with other numbers (`musiclm.mulan.tempo`): among unlike captions a model has no need to
read the number, and does not. To teach numbers and leave everything else as it is, `text_anchor` takes the place of the contrastive loss.
With `among_recordings` captions of rendered music are learned from where recordings lie, and texts drawn to recordings (`musiclm.mulan.gap`).
"""

import copy
import math
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.artifact import ArtifactError, codes_hash, read_config
from musiclm.corpus.manifest import RENDERED
from musiclm.mulan.gap import among_recordings, fit_memory, fit_projection, gap_of
from musiclm.mulan.model import MuLan, contrastive_loss
from musiclm.mulan.task import MuLanTask, MuLanTaskConfig, cached_rows, encode_texts
from musiclm.mulan.tempo import with_other_tempo
from musiclm.mulan.text import Pretrained
from musiclm.train import Update

OTHER_TEMPI = 3  # wrong captions beside each that names its tempo


class TextSide(nn.Module):
    """What is trained."""

    def __init__(self, model: MuLan) -> None:
        super().__init__()
        self.text = model.text
        self.log_scale = model.log_scale


class MuLanTextTask(MuLanTask):
    """See `musiclm.train.Task`.

    start: a MuLan's artifact. Raises: ArtifactError if its sizes are not the configuration's, or its text encoder is to be trained too; ValueError as `MuLanTask`.
    """

    def __init__(
        self,
        config: MuLanTaskConfig,
        corpus_dir: Path,
        *,
        batch_size: int,
        seed: int = 0,
        start: Path,
        cache_dir: Path | None = None,
    ) -> None:
        if config.model.text_trained_layers:
            raise ArtifactError(
                f"mulan.task.model.text_trained_layers is {config.model.text_trained_layers}; with --from only the head over the text encoder is "
                "trained: set it to 0, or train MuLan from the start"
            )
        model = MuLan.from_artifact(start)
        if model.config != config.model:
            raise ArtifactError(
                f"the mulan model in {start} has other sizes than this preset's; choose its preset, or set them"
            )
        assert model.tokenizer is not None
        pretrained = Pretrained(model.config.text, model.text_encoder.state_dict(), model.tokenizer.to_str())
        cache_dir = Path(cache_dir or Path(corpus_dir) / "mulan_cache")
        super().__init__(
            config, corpus_dir, batch_size=batch_size, seed=seed, pretrained=pretrained, cache_dir=cache_dir
        )
        self.mulan = model.requires_grad_(False)
        self.before = copy.deepcopy(model.text).eval()
        self.side = TextSide(model).requires_grad_(True)
        self.groups = {"model": self.side}
        self.codes_of = codes_hash(read_config(start))
        keys = [f"{window.track.sha256} {window.start_s}" for window in self.windows]
        rows = cached_rows(
            cache_dir / f"vectors-{self.codes_of[:16]}.npz",
            keys,
            lambda missing: model.audio_vectors(self.features(model, np.array(missing))).numpy().astype(np.float16),
        )
        self.rendered = torch.tensor([window.track.source == RENDERED for window in self.windows])
        learned = torch.tensor([window.track.split == "train" for window in self.windows])
        self.vectors = F.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)
        self.audio = self.vectors
        if config.among_recordings:
            self.audio = among_recordings(self.vectors, self.rendered, learned)
        self.tempi, self.other_tempi = self._other_tempi()
        self.chance = {key: value for key, value in self.chance.items() if key not in ("tags", "measures")}
        self.chance["tempo"] = math.log(1 + OTHER_TEMPI)
        self.names_tempo = torch.zeros(len(self.windows), config.captions_per_window, dtype=torch.bool)
        self.names_tempo[tuple(torch.from_numpy(self.tempi.T))] = True

    def _other_tempi(self) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Window and caption of each training caption that names its tempo, and text features of it with other numbers (n 3 d)."""
        places: list[tuple[int, int]] = []
        texts: list[str] = []
        for window in self.train:
            for caption in range(self.config.captions_per_window):
                rng = random.Random(f"{self.seed} {window} {caption}")
                text = self.data.captions[window][caption]
                others = [other for _ in range(OTHER_TEMPI) if (other := with_other_tempo(text, rng)) is not None]
                if others:
                    places.append((int(window), caption))
                    texts += others
        if not places:
            return np.zeros((0, 2), np.int64), np.zeros((0, OTHER_TEMPI, 1), np.float16)
        rows = cached_rows(
            self.data.captions_file,
            texts,
            lambda missing: encode_texts(self.mulan, [texts[i] for i in missing]).numpy().astype(np.float16),
        )
        return np.array(places), rows.reshape(len(places), OTHER_TEMPI, -1)

    def start(self, device: torch.device) -> None:
        """Nothing: all weights are there."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """A window of as many tracks as fit, a caption of each; and as many captions that name their tempo, with wrong ones beside them."""
        rng = np.random.default_rng([self.seed, step])
        picked = np.concatenate([self._pick(rng, tracks, num) for tracks, num in self._parts(rng) if num])
        choices = rng.integers(self.config.captions_per_window, size=(self.batch_size, 1))
        pooled = self.data.pooled
        assert pooled is not None
        batch = {
            "audio": self.audio[torch.from_numpy(picked)],
            "pooled": torch.tensor(pooled[picked, choices[:, 0]], dtype=torch.float32),
            "same": self._same(picked, choices)[0],
            "names_tempo": self.names_tempo[picked, choices[:, 0]],
        }
        if len(self.tempi):
            some = rng.integers(len(self.tempi), size=self.batch_size)
            window, caption = self.tempi[some].T
            texts = np.concatenate([pooled[window, caption][:, None], self.other_tempi[some]], axis=1)
            batch["tempo_audio"] = self.audio[torch.from_numpy(window)]
            batch["tempo_pooled"] = torch.tensor(texts, dtype=torch.float32)
        return batch

    def updates(self, batch: dict[str, Tensor], step: int) -> Iterator[Update]:
        text = self._vectors(self.side.text, batch["pooled"])
        log: dict[str, float | Tensor] = {}
        if self.config.text_anchor:
            with torch.no_grad():
                was = self._vectors(self.before.to(text.device), batch["pooled"])
            held = ~batch["names_tempo"]
            moved = (1 - (text * was).sum(-1))[held].sum() / held.sum().clamp(min=1)
            log["moved"] = moved
            loss = self.config.text_anchor * moved
        else:
            result = contrastive_loss(batch["audio"], text, self.side.log_scale, batch["same"])
            loss = result.loss
            log |= {
                "contrastive": result.loss,
                "audio_to_text": result.audio_to_text,
                "text_to_audio": result.text_to_audio,
                "temperature": (-self.side.log_scale).exp(),
            }
        if "tempo_pooled" in batch:
            texts = self._vectors(self.side.text, batch["tempo_pooled"].flatten(0, 1)).unflatten(
                0, (-1, 1 + OTHER_TEMPI)
            )
            scale = self.side.log_scale.clamp(max=math.log(100.0)).exp()
            likeness = (texts * batch["tempo_audio"][:, None]).sum(-1) * scale
            right = torch.zeros(len(likeness), dtype=torch.long, device=likeness.device)
            log["tempo"] = F.cross_entropy(likeness, right)
            loss = loss + log["tempo"]
        yield Update(group="model", loss=loss, log=log)

    def _vectors(self, head: nn.Module, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b d2"]:
        raw = F.normalize(head(pooled), dim=-1)
        return F.normalize(raw - self.mulan.text_mean.to(raw.device), dim=-1)

    @torch.no_grad()
    def pairs(
        self, module: nn.Module, windows: NDArray[np.int64]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], Float[Tensor, ""]]:
        assert isinstance(module, TextSide)
        device = module.log_scale.device
        text = self._vectors(module.text, self.pooled(self.mulan, windows, 0).to(device))
        return self.audio[torch.from_numpy(windows)].to(device), text, module.log_scale

    @torch.no_grad()
    def export(self, module: nn.Module, folder: Path, info: dict[str, Any]) -> None:
        """Fits how far text is drawn to audio, and to what if `among_recordings`, and writes the artifact, whose codes of audio are those of the one it began with."""
        assert isinstance(module, TextSide)
        model = copy.deepcopy(self.mulan)
        model.text.load_state_dict(module.text.state_dict())
        model.log_scale.copy_(module.log_scale)
        if self.config.among_recordings:
            recordings, _ = self.stretches(model, rendered=False)
            train = torch.from_numpy(self.train)
            everywhere = torch.cat([self.vectors[train], model.audio_vectors(recordings)])
            of_rendered = torch.cat([self.rendered[train], torch.zeros(len(recordings), dtype=torch.bool)])
            fit_memory(model, everywhere, of_rendered, self.seed)
        audio, text, _ = (value.cpu() for value in self.pairs(module, self.held))
        fit_projection(model, audio, text, self.config.projection)
        gap = gap_of(model, audio, model.project_text(text))
        windows = {"train": len(self.train), "train_tracks": len(self.by_track), "validation": len(self.held)}
        facts = {
            "windows": windows,
            "chance": self.chance,
            "gap_validation": {"after": asdict(gap)},
            "codes_of": self.codes_of,
        }
        model.save(folder, {**info, **facts})
