"""Semantic tokens of a model made by others: k-means on a layer (AudioLM, section 3.2).

The model is w2v-BERT 2.0, HuBERT, MERT, or any audio encoder of transformers that has its layers in `encoder.layers`
and frames at an even rate.

Features are normalised to mean 0 and deviation 1 per dimension before k-means. Layers above the chosen one are not run.
Long audio is read in windows that overlap, as `musiclm.models.w2vbert.tokenizer` does. Codes say nothing of onsets and
pitch that music could be steered by.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from musiclm.core.artifact import ArtifactError
from musiclm.core.audio import resample
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.pretrained import PretrainedSource, find_source, load_pretrained, loading
from musiclm.core.streams import SEMANTIC, TokenSpec
from musiclm.models.foreign.artifact import Foreign, read_foreign
from musiclm.nn.kmeans import assign, kmeans
from musiclm.nn.windows import plan_windows

KIND = "foreign-semantic"
TAIL_S = 0.1  # of audio after a window: the last frame of convolutions reaches past its own time
DEPTH = 2 / 3  # of the layers, where none is named: notes are read best above the middle
PROBE_S = 2  # of silence, by which frames are counted
FRAMES_PER_CLUSTER = 50  # that k-means sees


@dataclass(frozen=True, kw_only=True)
class ForeignSemanticConfig:
    """Which model, which layer of it, and how long audio is read."""

    source: PretrainedSource
    sample_rate_hz: int  # of the model; audio comes at 24 kHz
    layer: int  # counted from 1
    width: int
    num_clusters: int
    frame_rate_hz: float
    window_s: float = 10.0  # longest piece of audio that the network sees at once
    context_s: float = 1.0  # overlap on either side, thrown away

    def __post_init__(self) -> None:
        if self.num_clusters < 2:
            raise ValueError(f"num_clusters is {self.num_clusters}; it must be 2 or more")

    @property
    def spec(self) -> TokenSpec:
        """The stream of its codes."""
        return TokenSpec(
            name=SEMANTIC.name, codebook_size=self.num_clusters, levels=1, frame_rate_hz=self.frame_rate_hz
        )


class ForeignSemantic(Foreign):
    """Audio to semantic codes, with the interface of `musiclm.models.encoders.SemanticEncoder`."""

    config: ForeignSemanticConfig
    feature_mean: Tensor
    feature_std: Tensor
    centroids: Tensor

    def __init__(self, config: ForeignSemanticConfig, model: nn.Module, extractor: Any) -> None:
        super().__init__(config, model)
        self.extractor = extractor
        layers = layers_of(model)
        del layers[config.layer :]
        self._features: Tensor | None = None
        layers[config.layer - 1].register_forward_hook(self._keep)
        self.register_buffer("feature_mean", torch.zeros(config.width))
        self.register_buffer("feature_std", torch.ones(config.width))
        self.register_buffer("centroids", torch.zeros(config.num_clusters, config.width))

    def _keep(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self._features = output if isinstance(output, Tensor) else output[0]

    @classmethod
    def from_pretrained(cls, name: str, layer: int | None = None, num_clusters: int = 1024) -> "ForeignSemantic":
        """By folder or hub id; clusters are to be fitted (`fit`).

        Raises: ArtifactError if it can't be had; ValueError for a layer that it does not have.
        """
        source, folder = find_source(name)
        model, extractor = _load(folder)
        num_layers = len(layers_of(model))
        chosen = max(1, round(num_layers * DEPTH)) if layer is None else layer
        if not 1 <= chosen <= num_layers:
            raise ValueError(f"{name} has layers 1 to {num_layers}, got {layer}")
        config = ForeignSemanticConfig(
            source=source,
            sample_rate_hz=int(extractor.sampling_rate),
            layer=chosen,
            width=int(model.config.hidden_size),
            num_clusters=num_clusters,
            frame_rate_hz=1.0,
        )
        probe = cls(config, model, extractor).eval()
        silence = torch.zeros(1, 1, PROBE_S * SAMPLE_RATE_HZ)
        try:
            counts = [probe._run(torch.cat([silence] * times, -1)).shape[1] for times in (1, 2)]
        except (TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise ArtifactError(
                f"{name} can't be run on audio alone ({reason}); take a model of audio frames"
            ) from None
        rate_hz = (counts[1] - counts[0]) / PROBE_S
        if not 1 <= rate_hz <= 200 or abs(counts[0] - PROBE_S * rate_hz) > 2:
            raise ArtifactError(f"{name} has no frames at an even rate: {counts} in {PROBE_S} and {2 * PROBE_S} s")
        # the hook of the probe would stay
        layers_of(model)[chosen - 1]._forward_hooks.clear()
        return cls(replace(config, frame_rate_hz=rate_hz), model, extractor).eval()

    @classmethod
    def from_artifact(cls, folder: Path) -> "ForeignSemantic":
        """Loads what `save` wrote, in eval mode. Raises: ArtifactError."""
        artifact, config, source = read_foreign(folder, KIND, ForeignSemanticConfig)
        tokenizer = cls(config, *_load(source))
        tokenizer.restore(artifact)
        return tokenizer

    @property
    def spec(self) -> TokenSpec:
        return self.config.spec

    @property
    def codebooks(self) -> Float[Tensor, "1 v c"]:
        """The vectors behind the codes."""
        return self.centroids[None]

    @torch.no_grad()
    def _run(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b t d"]:
        """Features of the layer of audio at 24 kHz, as they are."""
        rows = resample(audio[:, 0].cpu().numpy(), SAMPLE_RATE_HZ, self.config.sample_rate_hz)
        inputs = self.extractor(list(rows), sampling_rate=self.config.sample_rate_hz, return_tensors="pt")
        # all rows are of one length: there is nothing to mask
        given = {key: value.to(self.device) for key, value in inputs.items() if key != "attention_mask"}
        self.model(**given)
        assert self._features is not None
        features, self._features = self._features, None
        return features.float()

    def features(self, audio: Float[Tensor, "b 1 s"], num_frames: int) -> Float[Tensor, "b t d"]:
        """Normalised features of the first frames of one window. Raises: ArtifactError if the model gives fewer."""
        found = self._run(audio)[:, :num_frames]
        if found.shape[1] < num_frames:
            raise ArtifactError(f"the model {self.config.source.name} gave {found.shape[1]} frames of {num_frames}")
        return (found - self.feature_mean) / self.feature_std

    @torch.no_grad()
    def encode(self, audio: Float[Tensor, "b 1 s"], windows_at_once: int = 8) -> Int[Tensor, "b 1 t"]:
        """Codes of audio at 24 kHz: one for each whole frame.

        Audio up to window_s goes through at once, longer audio in windows that overlap by 2 * context_s. Audio of less
        than a frame gives no codes.
        """
        rate_hz = self.config.frame_rate_hz
        num_frames = int(audio.shape[-1] * rate_hz / SAMPLE_RATE_HZ + 1e-6)
        codes = torch.zeros(audio.shape[0], 1, num_frames, dtype=torch.long, device=audio.device)
        window, context = round(self.config.window_s * rate_hz), round(self.config.context_s * rate_hz)
        plan = plan_windows(num_frames, window, context) if num_frames else []
        tail = round(TAIL_S * SAMPLE_RATE_HZ)
        padded = nn.functional.pad(audio, (0, tail))
        size = min(window, num_frames)
        length = round(size / rate_hz * SAMPLE_RATE_HZ) + tail
        for first in range(0, len(plan), windows_at_once):
            group = plan[first : first + windows_at_once]
            starts = [round(each.start / rate_hz * SAMPLE_RATE_HZ) for each in group]
            pieces = torch.cat([padded[..., start : start + length] for start in starts])
            rows = assign(self.features(pieces, size).flatten(0, 1), self.centroids).view(len(group), -1, size)
            for each, row in zip(group, rows, strict=True):
                inside = slice(each.keep_start - each.start, each.keep_stop - each.start)
                codes[:, 0, each.keep_start : each.keep_stop] = row[:, inside].to(codes.device)
        return codes

    @torch.no_grad()
    def fit(self, clips: Iterable[Float[Tensor, "b 1 s"]], seed: int = 0, num_iterations: int = 30) -> None:
        """Fits statistics and centroids on clips of 24 kHz, in place. Raises: ValueError if there is none."""
        self.feature_mean.zero_()
        self.feature_std.fill_(1.0)
        rate_hz = self.config.frame_rate_hz
        rows = []
        for clip in clips:
            num_frames = int(clip.shape[-1] * rate_hz / SAMPLE_RATE_HZ)
            padded = nn.functional.pad(clip, (0, round(TAIL_S * SAMPLE_RATE_HZ)))
            rows.append(self.features(padded, num_frames).flatten(0, 1))
        if not rows:
            raise ValueError("there are no clips to fit clusters on; give it a corpus with training tracks")
        data = torch.cat(rows)
        self.feature_mean.copy_(data.mean(0))
        self.feature_std.copy_(data.std(0).clamp(min=1e-4))
        data = (data - self.feature_mean) / self.feature_std
        self.centroids.copy_(kmeans(data, self.config.num_clusters, num_iterations, seed))


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The layers of an encoder. Raises: ValueError if they are not where they are sought."""
    layers = getattr(getattr(model, "encoder", None), "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise ValueError(f"{type(model).__name__} has no encoder.layers to take features from; take another model")
    return layers


def num_fit_clips(config: ForeignSemanticConfig, clip_s: float) -> int:
    """Clips that hold enough frames for k-means."""
    return max(1, int(np.ceil(FRAMES_PER_CLUSTER * config.num_clusters / (clip_s * config.frame_rate_hz))))


def _load(folder: Path) -> tuple[Any, Any]:
    model = load_pretrained(folder)
    return model, loading(folder, lambda library: library.AutoFeatureExtractor.from_pretrained(str(folder)))
