"""A joint embedding of audio and text made by others, CLAP, in the place of MuLan (MusicLM, section 3.1).

Windows, means and residual quantizer are as MuLan's. CLAP leaves audio and texts in two cones; the quantizer would give
texts codes that no audio has. So each modality's mean is taken off, that of texts as found on names of what music has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import ArtifactError
from musiclm.core.audio import resample
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.pretrained import PretrainedSource, find_source, load_pretrained, loading
from musiclm.models.foreign.artifact import Foreign, read_foreign
from musiclm.nn.rvq import ResidualVQ

KIND = "foreign-joint"
WINDOW_S = 10  # as MuLan's, which is what the token store is made for
WINDOWS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class ForeignJointConfig:
    """Which model, and its quantizer."""

    source: PretrainedSource
    sample_rate_hz: int  # of the model; audio comes at 24 kHz
    dim: int
    rvq_levels: int = 12
    rvq_size: int = 1024


class ForeignJoint(Foreign):
    """Audio and text to joint codes, with the interface of `musiclm.models.encoders.JointEmbedding`."""

    config: ForeignJointConfig
    audio_mean: Tensor
    text_mean: Tensor

    def __init__(self, config: ForeignJointConfig, model: Any, extractor: Any, tokenizer: Any) -> None:
        super().__init__(config, model)
        self.extractor, self.tokenizer = extractor, tokenizer
        self.rvq = ResidualVQ(dim=config.dim, codebook_size=config.rvq_size, levels=config.rvq_levels)
        self.register_buffer("audio_mean", torch.zeros(config.dim))
        self.register_buffer("text_mean", torch.zeros(config.dim))

    @classmethod
    def from_pretrained(cls, name: str, rvq_levels: int = 12, rvq_size: int = 1024) -> "ForeignJoint":
        """By folder or hub id; means and quantizer are to be fitted (`fit`). Raises: ArtifactError if it can't be had,
        ValueError if it is no CLAP."""
        source, folder = find_source(name)
        model, extractor, tokenizer = _load(folder)
        config = ForeignJointConfig(
            source=source,
            sample_rate_hz=int(extractor.sampling_rate),
            dim=int(model.config.projection_dim),
            rvq_levels=rvq_levels,
            rvq_size=rvq_size,
        )
        return cls(config, model, extractor, tokenizer).eval()

    @classmethod
    def from_artifact(cls, folder: Path) -> "ForeignJoint":
        """Loads what `save` wrote, in eval mode. Raises: ArtifactError."""
        artifact, config, source = read_foreign(folder, KIND, ForeignJointConfig)
        joint = cls(config, *_load(source))
        joint.restore(artifact)
        return joint

    # -- towers

    @torch.no_grad()
    def _audio(self, windows: Float[Tensor, "n s"]) -> Float[Tensor, "n d"]:
        """Of windows of 10 s at 24 kHz, of length 1, before the mean is taken off."""
        found = []
        for part in windows.split(WINDOWS_AT_ONCE):
            rows = resample(part.cpu().numpy(), SAMPLE_RATE_HZ, self.config.sample_rate_hz)
            inputs = self.extractor(list(rows), sampling_rate=self.config.sample_rate_hz, return_tensors="pt")
            given = {key: value.to(self.device) for key, value in inputs.items() if isinstance(value, Tensor)}
            found.append(_pooled(self.model.get_audio_features(**given)))
        return F.normalize(torch.cat(found).float(), dim=-1)

    @torch.no_grad()
    def _text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        given = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        given = {key: value.to(self.device) for key, value in given.items() if key in ("input_ids", "attention_mask")}
        return F.normalize(_pooled(self.model.get_text_features(**given)).float(), dim=-1)

    def embed_audio_windows(self, audio: Float[Tensor, "1 s"]) -> Float[Tensor, "n d"]:
        """Embeddings of every 10 s window at 1 s stride of one track, as `MuLan.embed_audio_windows` has them.

        Raises: ValueError if there is no audio.
        """
        return F.normalize(self._audio(windows_of(audio)) - self.audio_mean, dim=-1)

    def embed_audio(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b d"]:
        """One embedding per clip: the mean over its windows, normalised."""
        return F.normalize(torch.stack([self.embed_audio_windows(clip).mean(0) for clip in audio]), dim=-1)

    def encode_text(self, texts: list[str]) -> Float[Tensor, "b d"]:
        """Vectors of texts before the mean is taken off; what is longer than the model reads is cut.

        Raises: ValueError for an empty one.
        """
        if empty := [index for index, text in enumerate(texts) if not text.strip()]:
            raise ValueError(f"text {empty[0]} is empty; describe the music")
        return torch.cat([self._text([text]) for text in texts])  # singly: padding would change the last bits

    def text_vectors(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Of what `encode_text` gives."""
        return F.normalize(pooled - self.text_mean, dim=-1)

    def project_text(self, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """As they are: texts are not drawn to audio."""
        return vectors

    def embed_text(self, texts: list[str]) -> Float[Tensor, "b d"]:
        """One embedding per text. Raises: as `encode_text`."""
        return self.project_text(self.text_vectors(self.encode_text(texts)))

    # -- tokens

    def quantize(self, embedding: Float[Tensor, "b d"]) -> Int[Tensor, "b q 1"]:
        """Tokens of embeddings, of means of them too: they are normalised first."""
        return self.rvq.encode(F.normalize(embedding.float(), dim=-1))[..., None]

    def audio_codes(self, audio: Float[Tensor, "b 1 s"]) -> Int[Tensor, "b q 1"]:
        """Tokens of clips."""
        return self.quantize(self.embed_audio(audio))

    def text_codes(self, texts: list[str]) -> Int[Tensor, "b q 1"]:
        """Tokens of texts, by the same quantizer."""
        return self.quantize(self.embed_text(texts))

    @torch.no_grad()
    def fit(self, tracks: Sequence[Float[Tensor, "1 _"]], texts: Sequence[str], seed: int = 0) -> None:
        """Fits means and quantizer, in place, on the windows of tracks and on texts that say what music may have.

        Raises: ValueError if there is no track.
        """
        if not tracks:
            raise ValueError("there are no tracks to fit codes on; give it a corpus with training tracks")
        each = [self._audio(windows_of(track)) for track in tracks]
        self.audio_mean.copy_(torch.cat(each).mean(0))
        self.text_mean.copy_(torch.cat([self._text([text]) for text in texts]).mean(0))
        windows = [F.normalize(rows - self.audio_mean, dim=-1) for rows in each]
        means = [F.normalize(rows.mean(0, keepdim=True), dim=-1) for rows in windows]  # what a clip's tokens are of
        self.rvq.fit_kmeans(torch.cat([*windows, *means]), seed=seed)


def windows_of(audio: Float[Tensor, "1 s"]) -> Float[Tensor, "n s2"]:
    """Windows of 10 s at 1 s stride; audio that is shorter is repeated, a last part of less than a second left out."""
    samples, need = audio[0], WINDOW_S * SAMPLE_RATE_HZ
    if samples.numel() == 0:
        raise ValueError("there is no audio to embed: the clip has 0 samples")
    if samples.numel() < need:
        samples = samples.repeat(-(-need // samples.numel()))[:need]
    return samples.unfold(0, need, SAMPLE_RATE_HZ)


def _pooled(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found.pooler_output


def _load(folder: Path) -> tuple[Any, Any, Any]:
    model = load_pretrained(folder)
    if (
        not isinstance(model, nn.Module)
        or not hasattr(model, "get_text_features")
        or not hasattr(model, "get_audio_features")
    ):
        raise ValueError(f"{folder} is a model of type {model.config.model_type}; wanted clap")
    extractor = loading(folder, lambda library: library.AutoFeatureExtractor.from_pretrained(str(folder)))
    tokenizer = loading(folder, lambda library: library.AutoTokenizer.from_pretrained(str(folder)))
    longest = int(getattr(extractor, "nb_max_samples", 0))
    if longest and longest < WINDOW_S * extractor.sampling_rate:
        raise ArtifactError(
            f"{folder} hears {longest / extractor.sampling_rate:g} s at once; wanted {WINDOW_S} s or more"
        )
    return model, extractor, tokenizer
