"""Embedders for distances between sets of clips, beside the judge (`musiclm.listen.judge`).

- aisfx: a CNN trained to index sound effects (Ma and Lerch 2022), 512 wide, weights CC BY 4.0 in the PyPI package
  `aisfx`. It hears timbre and texture.
- any audio model of `transformers`, by its name on the Hugging Face hub or by a folder: CLAP by its audio features,
  others (MERT, HuBERT, wav2vec 2.0, AST, Whisper's encoder) by the mean of their last layer over time. Weights must be
  safetensors: pickles from outside are not read.

None had a part in training. Their units differ, so distances of different embedders can't be compared.
"""

import hashlib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from musiclm.core.artifact import ArtifactError
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.core.pretrained import find_folder, load_pretrained, loading

Clip = Float[np.ndarray, " s"]
AISFX_RATE_HZ = 44100
# of the one file this reads, whose arrays lie in an order that is known: its pickle is left alone
AISFX_SHA256 = "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"
AISFX_LARGEST = 9.457798957824707  # the log-mel that its training data scaled to 1
BLOCK = 100  # spectrogram frames, 2.3 s


class Aisfx:
    """512 numbers of a clip.

    Raises: ValueError with the command that installs the weights, or if they are not the published ones.
    """

    name = "aisfx"

    def __init__(self, device: str = "cpu") -> None:
        spec = find_spec("aisfx")
        if spec is None or not spec.submodule_search_locations:
            raise ValueError("aisfx is not installed; run: pip install --no-deps aisfx==0.1.2")
        path = Path(next(iter(spec.submodule_search_locations))) / "models" / "checkpoint.pth"
        import librosa

        self.device = device
        self.weights = {name: value.to(device) for name, value in read_aisfx(path).items()}
        filters = librosa.filters.mel(sr=AISFX_RATE_HZ, n_fft=2048, n_mels=96, fmin=0, fmax=22050, htk=True, norm=1)
        self.filters = torch.from_numpy(filters).to(device)

    def __call__(self, clip: Clip) -> dict[str, list[float]]:
        """Of a clip at 24 kHz, 2.4 s or longer: the mean over blocks of 2.3 s, half overlapping.

        Raises: ValueError for a shorter one.
        """
        spectrogram = self.spectrogram(clip)
        if len(spectrogram) < BLOCK:
            raise ValueError(f"a clip of {len(clip) / SAMPLE_RATE_HZ:.2f} s; aisfx needs 2.4 s or more")
        blocks = spectrogram.unfold(0, BLOCK, BLOCK // 2).transpose(1, 2)
        return {"embedding": self.embed(blocks).mean(0).cpu().double().tolist()}

    def spectrogram(self, clip: Clip) -> Float[Tensor, "t 96"]:
        """log10(1 + 10000 mel power) of the clip at full scale, over the largest of the training data."""
        audio = soxr.resample(np.asarray(clip, np.float32), SAMPLE_RATE_HZ, AISFX_RATE_HZ)
        wave = torch.from_numpy(audio / max(float(np.abs(audio).max()), 1e-9)).to(self.device)
        window = torch.hann_window(2048, device=self.device)
        power = torch.stft(wave, 2048, 1024, window=window, pad_mode="constant", return_complex=True).abs().square()
        return (torch.log10(self.filters @ power * 10000 + 1) / AISFX_LARGEST).T

    @torch.no_grad()
    def embed(self, blocks: Float[Tensor, "b t 96"]) -> Float[Tensor, "b 512"]:
        """Four blocks of two 3 x 3 convolutions, halved after each but the last; mean over mels, largest over time."""
        w, x = self.weights, blocks[:, None]
        for block in (1, 2, 3, 4):
            for layer in (1, 2):
                x = F.conv2d(x, w[f"{block}.{layer}.kernel"], padding=1)
                mean, variance, scale, shift = (
                    w[f"{block}.{layer}.{name}"] for name in ("mean", "variance", "scale", "shift")
                )
                x = F.batch_norm(x, mean, variance, scale, shift).relu()
            x = F.max_pool2d(x, 2 if block < 4 else 1)
        return x.mean(3).amax(2)


def read_aisfx(path: Path) -> dict[str, Tensor]:
    """The arrays of the published checkpoint: BLOCK.LAYER.kernel, .scale, .shift, .mean, .variance.

    Raises: ValueError for any other file.
    """
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != AISFX_SHA256:
        raise ValueError(
            f"{path} is not the published checkpoint; run: pip install --no-deps --force-reinstall aisfx==0.1.2"
        )
    found = {}
    with zipfile.ZipFile(path) as file:

        def array(index: int) -> Tensor:
            return torch.from_numpy(np.frombuffer(file.read(f"archive/data/{index}"), np.float32).copy())

        for block in (1, 2, 3, 4):
            first, width = 12 * (block - 1), 32 * 2**block
            for layer in (1, 2):
                found[f"{block}.{layer}.kernel"] = array(first + layer - 1).view(width, -1, 3, 3)
                for place, name in enumerate(("scale", "shift", "mean", "variance")):
                    found[f"{block}.{layer}.{name}"] = array(first + 2 + 5 * (layer - 1) + place)
    return found


class TransformersEmbedder:
    """An audio model of transformers as an embedder. Raises: ValueError if it can't be loaded, saying why."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        try:
            folder = find_folder(name)
            self.extractor = loading(
                folder, lambda library: library.AutoFeatureExtractor.from_pretrained(str(folder)), "the embedder"
            )
            self.model: Any = load_pretrained(folder, "the embedder").to(device)
        except ArtifactError as error:
            raise ValueError(
                f"{error}; give aisfx, or a folder or hub name of an audio model with safetensors weights"
            ) from None
        self.rate_hz = int(self.extractor.sampling_rate)

    @torch.no_grad()
    def __call__(self, clip: Clip) -> dict[str, list[float]]:
        """Of a clip at 24 kHz."""
        audio = soxr.resample(np.asarray(clip, np.float32), SAMPLE_RATE_HZ, self.rate_hz)
        inputs = self.extractor(audio, sampling_rate=self.rate_hz, return_tensors="pt")
        inputs = {key: value.to(self.device) for key, value in inputs.items() if isinstance(value, Tensor)}
        found: Any
        if hasattr(self.model, "get_audio_features"):  # CLAP
            found = self.model.get_audio_features(**inputs)
            found = found if isinstance(found, Tensor) else found.pooler_output
        else:
            model = self.model.get_encoder() if self.model.config.is_encoder_decoder else self.model
            inputs.pop("attention_mask", None)  # one clip, nothing padded
            found = model(**inputs).last_hidden_state.flatten(1, -2).mean(1)
        return {"embedding": found[0].double().cpu().tolist()}
