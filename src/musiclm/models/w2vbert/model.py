"""w2v-BERT: self-supervised features of audio by contrastive learning and masked prediction (arXiv 2108.06209).

    audio -> log-mel at 100 Hz -> two strided convolutions, 25 Hz -> (spans masked)
          -> Conformer, first half -> contrastive loss
          -> Conformer, second half -> masked prediction
    log-mel -> Gumbel quantizer: the targets of both losses

Departures from section 3: the subsampling convolutions run over time only (1-d, mel bands as channels), which costs a
tenth on a CPU; masked frames become a learned vector (and, by default, a line between the span's neighbours) rather
than noise; distractors are all the other masked frames of the clip rather than a sample of 100 (about as many in 8 s
crops).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import load_model
from musiclm.core.features import SAMPLE_RATE_HZ, LogMel
from musiclm.models.w2vbert.loss import W2vBertLoss, contrastive_loss, diversity_loss, masked_prediction_loss
from musiclm.nn.conformer import Conformer, ConformerConfig
from musiclm.nn.kmeans import assign, kmeans
from musiclm.nn.parts import draw, mean
from musiclm.nn.precision import double

FRAME_RATE_HZ = 25


@dataclass(frozen=True, kw_only=True)
class W2vBertConfig:
    """Sizes of w2v-BERT.

    | preset | Conformer | contrastive layers | quantizer | parameters |
    | --- | --- | --- | --- | --- |
    | tiny | 2 x 64, 2 heads, ff 128 | 1 | 2 x 64 | 0.2 M |
    | base | 4 x 192, 3 heads, ff 768, kernel 9 | 2 | 2 x 256 | 3.8 M |
    | paper (XL) | 24 x 1024, 16 heads, ff 4096 | 12 | 1 x 1024 | 0.6 B |
    """

    conformer: ConformerConfig = field(
        default_factory=lambda: ConformerConfig(
            width=192, num_heads=3, num_layers=4, ff_width=768, kernel=9, dropout=0.0
        )
    )  # the whole stack, both halves
    contrastive_layers: int = 2  # blocks before the contrastive loss; the rest belong to masked prediction
    sample_rate_hz: int = SAMPLE_RATE_HZ
    n_fft: int = 2048  # mel window in samples; long for speech, but at 1024 two neighbouring low notes share every band
    num_mels: int = 80
    num_codebooks: int = 2  # groups of the product quantizer
    codebook_size: int = 256  # entries per group
    quantizer_inputs: int = 32  # principal components of a frame's four mel columns that the quantizer sees
    quantizer_whitening: float = (
        0.5  # 0 leaves their spread as it is, 1 makes it equal (then codes follow noise, see GumbelQuantizer)
    )
    code_width: int = 128  # where contrastive outputs meet quantized targets (all groups together)
    mask_span: int = 5  # frames hidden together; the paper hides 10 (0.4 s) with speech, where neighbours say more
    mask_fraction: float = 0.35  # share of the frames of a clip that is hidden, exactly
    mask_bridge: bool = True  # hidden frames hold a line between their span's neighbours besides the learned vector
    contrastive_temperature: float = 0.1
    diversity_weight: float = 0.1
    masked_weight: float = 1.0  # weight of masked prediction beside the contrastive loss

    def __post_init__(self) -> None:
        if self.sample_rate_hz % (4 * FRAME_RATE_HZ):
            raise ValueError(f"sample_rate_hz {self.sample_rate_hz} is no multiple of {4 * FRAME_RATE_HZ}")
        if not 0 < self.contrastive_layers <= self.conformer.num_layers:
            raise ValueError(
                f"contrastive_layers is {self.contrastive_layers}; it must lie in 1..{self.conformer.num_layers}"
            )
        if self.code_width % self.num_codebooks:
            raise ValueError(f"code_width {self.code_width} does not split into {self.num_codebooks} codebooks")
        if not 0 < self.mask_fraction < 1 or self.mask_span < 1:
            raise ValueError(
                f"mask_fraction {self.mask_fraction} must lie in (0, 1) and mask_span {self.mask_span} be >= 1"
            )
        if self.conformer.causal:
            raise ValueError("w2v-BERT reads both directions: set conformer.causal to False")

    @property
    def frame_samples(self) -> int:
        """Samples per 25 Hz frame: 960 at 24 kHz."""
        return self.sample_rate_hz // FRAME_RATE_HZ


class FrontEnd(nn.Module):
    """Audio to 25 Hz frames: log-mel, normalised by the corpus' statistics per band, two convolutions of stride 2."""

    mel_mean: Tensor
    mel_std: Tensor

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        self.frame_samples = config.frame_samples
        self.mel = LogMel(
            sample_rate_hz=config.sample_rate_hz,
            n_fft=config.n_fft,
            hop=config.frame_samples // 4,
            num_mels=config.num_mels,
        )
        self.register_buffer("mel_mean", torch.full((config.num_mels,), -6.0))
        self.register_buffer("mel_std", torch.full((config.num_mels,), 2.5))
        width = config.conformer.width
        self.conv_in = nn.Conv1d(config.num_mels, width, 3, stride=2, padding=1)
        self.conv_out = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(width)

    @torch.no_grad()
    def mel_frames(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b m f"]:
        """Normalised log-mel, four frames to each of the s // frame_samples whole frames; the rest of s is dropped."""
        num_samples = audio.shape[-1] // self.frame_samples * self.frame_samples
        mel = self.mel(audio[:, 0, :num_samples])
        return ((mel - self.mel_mean[:, None]) / self.mel_std[:, None]).clamp(-6, 6)

    def set_mel_statistics(self, audio: Float[Tensor, "b 1 s"]) -> None:
        """Takes mean and deviation of each band from these clips. Digital silence counts, so give it music."""
        mel = self.mel(audio[:, 0]).transpose(0, 1).flatten(1)
        self.mel_mean.copy_(mel.mean(1))
        self.mel_std.copy_(mel.std(1).clamp(min=0.1))

    def forward(self, mel: Float[Tensor, "b m f"]) -> Float[Tensor, "b t d"]:
        hidden = F.gelu(self.conv_in(mel))
        return self.norm(self.conv_out(hidden).transpose(1, 2))


def stack_mel(mel: Float[Tensor, "b m f"]) -> Float[Tensor, "b t n"]:
    """The four 10 ms columns of each 25 Hz frame side by side: n = 4 bands."""
    return mel.transpose(1, 2).unflatten(1, (-1, 4)).flatten(2)


@dataclass(frozen=True)
class DrawnCodes:
    """What the quantizer says of some frames."""

    vectors: Float[Tensor, "b t c"]  # the drawn entries, with a gradient to the logits (straight through)
    codes: Int[
        Tensor, "b t g"
    ]  # likeliest entry per codebook: what masked prediction must name, without the noise of the draw
    probabilities: Float[Tensor, "g v"]  # softmax of the logits, averaged over the frames: input of the diversity loss


class GumbelQuantizer(nn.Module):
    """Product quantizer of wav2vec 2.0 (arXiv 2006.11477, section 2): one entry per codebook, drawn by Gumbel-softmax.

    In eval mode the likeliest entry is taken. Departure: it reads the log-mel of each frame (four columns, the
    strongest `quantizer_inputs` principal components, partly whitened) instead of the convolutions' output, and starts
    as k-means, each codebook on components of its own, its entries near the centroids. Measured on real music, 2
    codebooks: on the convolutions' output, which moves as they learn, 320 entries fell to 6 in use within 50 steps
    whatever the diversity loss did; with normalised logits they stayed in use and nothing was learned. With random
    entries in place of centroids the contrastive loss stayed at the baseline of guessing for 440 steps; with centroids
    it left it at once.
    """

    mean: Tensor
    components: Tensor

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        inputs, self.whitening = config.quantizer_inputs, config.quantizer_whitening
        self.register_buffer("mean", torch.zeros(4 * config.num_mels))
        self.register_buffer("components", torch.randn(4 * config.num_mels, inputs) * (4 * config.num_mels) ** -0.5)
        self.logits = nn.Linear(inputs, self.num_codebooks * self.codebook_size)
        entry_width = config.code_width // self.num_codebooks
        self.entries = nn.Parameter(torch.randn(self.num_codebooks, self.codebook_size, entry_width))

    @torch.no_grad()
    def fit(self, mel: Float[Tensor, "b t m"], seed: int = 0) -> None:
        """Whitening and k-means from the mel columns of some clips (`stack_mel`), before training."""
        data = mel.flatten(0, 1)
        self.mean.copy_(data.mean(0))
        values, vectors = torch.linalg.eigh(torch.cov(double((data - self.mean).T)))
        strongest = values.flip(0)[: self.components.shape[1]].clamp(min=1e-4).float()
        scale = strongest ** (-0.5 * self.whitening)
        scale /= (strongest * scale.square()).mean().sqrt()
        self.components.copy_(vectors.float().flip(1)[:, : len(scale)] * scale)
        points = self._inputs(data)
        self.logits.weight.zero_()
        for g in range(self.num_codebooks):
            rows = slice(g * self.codebook_size, (g + 1) * self.codebook_size)
            part = slice(g, None, self.num_codebooks)  # strong and weak components for every codebook
            own = points[:, part].contiguous()
            centroids = kmeans(own, self.codebook_size, 15, seed + g)
            variance = (own - centroids[assign(own, centroids)]).square().mean().clamp(min=1e-3)
            # (c.x - |c|^2 / 2) / variance: log-posterior of Gaussians of that variance around the centroids, so draws
            # stay near
            self.logits.weight[rows, part] = centroids / variance
            self.logits.bias[rows] = -0.5 * centroids.square().sum(1) / variance
            # entries that sound alike start alike: the contrastive loss then has something to gain from the first step
            common = min(centroids.shape[1], self.entries.shape[-1])
            self.entries[g] *= 0.1
            self.entries[g, :, :common] += centroids[:, :common]

    def _inputs(self, mel: Float[Tensor, "*n m"]) -> Float[Tensor, "*n c"]:
        return ((mel - self.mean) @ self.components).clamp(-8, 8)  # silence and clicks lie tens of deviations out

    def forward(self, mel: Float[Tensor, "b t m"], temperature: float) -> DrawnCodes:
        b, t, _ = mel.shape
        logits = self.logits(self._inputs(mel)).float()
        logits = logits.view(b, t, self.num_codebooks, self.codebook_size)
        if self.training:
            chosen = gumbel_softmax(logits, temperature)
        else:
            chosen = F.one_hot(logits.argmax(-1), self.codebook_size).to(logits)
        vectors = torch.einsum("btgv,gvc->btgc", chosen, self.entries).flatten(2)
        return DrawnCodes(vectors=vectors, codes=logits.argmax(-1), probabilities=logits.softmax(-1).mean(dim=(0, 1)))


def gumbel_softmax(logits: Float[Tensor, "b *rest v"], temperature: float) -> Float[Tensor, "b *rest v"]:
    """A one-hot draw with the gradient of the softmax: F.gumbel_softmax(hard=True), whose noise is that of the whole
    batch."""

    def exponential(rows: int) -> Tensor:
        return logits.new_empty((rows, *logits.shape[1:])).exponential_()

    noised = (logits - draw(exponential, logits.shape[0]).log()) / temperature
    soft = noised.softmax(-1)
    hard = torch.zeros_like(logits).scatter_(-1, soft.max(-1, keepdim=True).indices, 1.0)
    return hard - soft.detach() + soft


def draw_mask(
    batch_size: int, num_frames: int, span: int, fraction: float, generator: torch.Generator
) -> Bool[Tensor, "b t"]:
    """Hides spans at random places until exactly round(fraction * num_frames) frames of each clip are hidden.

    The same count in every clip keeps all that follows a dense tensor. Spans may touch or overlap; the last one is cut.
    """
    target = min(max(2, round(fraction * num_frames)), num_frames)
    mask = [[False] * num_frames for _ in range(batch_size)]  # a tensor's elements one by one take ten times as long
    for row in mask:
        hidden = 0
        while hidden < target:
            start = int(torch.randint(1 - span, num_frames, (1,), generator=generator))
            for t in range(max(0, start), min(start + span, num_frames)):
                if not row[t] and hidden < target:
                    row[t] = True
                    hidden += 1
    return torch.tensor(mask)


def bridge(x: Float[Tensor, "b t d"], hidden: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
    """Straight lines across hidden spans, between the frames around them; at a clip's ends the only one's value."""
    t = x.shape[1]
    here = torch.arange(t, device=x.device).expand_as(hidden)
    before = torch.where(hidden, -1, here).cummax(1).values
    after = t - 1 - torch.where(hidden.flip(1), -1, here).cummax(1).values.flip(1)
    before, after = torch.where(before < 0, after, before), torch.where(after >= t, before, after)
    before, after = before.clamp(0, t - 1), after.clamp(0, t - 1)
    share = ((here - before) / (after - before).clamp(min=1))[..., None].to(x)

    def at(index: Tensor) -> Tensor:
        return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))

    return at(before) * (1 - share) + at(after) * share


def hidden_places(hidden: Bool[Tensor, "b t"]) -> Int[Tensor, "b n"]:
    """Which frames of each clip are hidden, of all as many."""
    return hidden.nonzero()[:, 1].view(len(hidden), int(hidden[0].sum()))  # raises if the counts differ


class W2vBert(nn.Module):
    """The whole training model.

    For tokens see `musiclm.models.w2vbert.tokenizer.SemanticTokenizer`, which keeps the lower layers only.
    """

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        self.config = config
        width = config.conformer.width
        self.front_end = FrontEnd(config)
        self.project = nn.Linear(width, width)
        self.mask_vector = nn.Parameter(torch.randn(width) * 0.1)
        self.conformer = Conformer(config.conformer)
        self.quantizer = GumbelQuantizer(config)
        self.contrastive_out = nn.Linear(width, config.code_width)
        self.target_out = nn.Linear(config.code_width, config.code_width)
        self.masked_out = nn.Linear(width, config.num_codebooks * config.codebook_size)

    def hidden_states(
        self, audio: Float[Tensor, "b 1 s"], last_layer: int | None = None
    ) -> list[Float[Tensor, "b t d"]]:
        """[Conformer input, output of block 1, ...] at 25 Hz, nothing masked; t = s // 960 at 24 kHz."""
        return self.conformer.hidden_states(
            self.project(self.front_end(self.front_end.mel_frames(audio))), last_layer=last_layer
        )

    def forward(
        self,
        audio: Float[Tensor, "b 1 s"],
        hidden: Bool[Tensor, "b t"],
        gumbel_temperature: float = 1.0,
        places: Int[Tensor, "b n"] | None = None,
    ) -> W2vBertLoss:
        """Both losses at the hidden frames (section 3.3).

        Every clip must hide the same number of frames, as `draw_mask` does. places: `hidden_places` of the mask, as
        found before it went to a GPU, which would have to be waited for.
        """
        config = self.config
        b, t = hidden.shape
        mel = self.front_end.mel_frames(audio)
        frames = self.front_end(mel)
        assert frames.shape[1] == t, f"mask of {t} frames for {frames.shape[1]} frames of audio"
        where = hidden_places(hidden) if places is None else places

        def at_hidden(x: Tensor) -> Tensor:
            return x.gather(1, where[..., None].expand(-1, -1, x.shape[-1]))

        targets = self.quantizer(at_hidden(stack_mel(mel)), gumbel_temperature)
        x = self.project(frames)
        filled = self.mask_vector.to(x)
        if config.mask_bridge:
            filled = filled + bridge(x, hidden)
        x = torch.where(hidden[..., None], filled, x)
        states = self.conformer.hidden_states(x)
        contrastive = contrastive_loss(
            self.contrastive_out(at_hidden(states[config.contrastive_layers])).float(),
            self.target_out(targets.vectors).float(),
            targets.codes,
            config.contrastive_temperature,
        )
        logits = self.masked_out(at_hidden(states[-1])).float()
        masked = masked_prediction_loss(
            logits.view(b, where.shape[1], config.num_codebooks, config.codebook_size), targets.codes
        )
        diversity = diversity_loss(mean(targets.probabilities))
        total = contrastive.loss + config.masked_weight * masked.loss + config.diversity_weight * diversity.loss
        return W2vBertLoss(
            total=total, contrastive=contrastive, masked=masked, diversity=diversity, codes=targets.codes
        )

    @torch.no_grad()
    def fit_statistics(self, audio: Float[Tensor, "b 1 s"], seed: int = 0) -> None:
        """Everything that is fitted rather than learned, from some minutes of music before training: mel statistics,
        the quantizer's start.
        """
        self.front_end.set_mel_statistics(audio)
        self.quantizer.fit(stack_mel(self.front_end.mel_frames(audio)), seed)

    @classmethod
    def from_artifact(cls, folder: Path) -> "W2vBert":
        """Reads a pretrained model (artifact kind "w2vbert"), in eval mode. Raises ArtifactError (a ValueError)."""
        return load_model(folder, "w2vbert", W2vBertConfig, cls)[0]


def gumbel_temperature(step: int, start: float = 2.0, end: float = 0.5, decay: float = 0.9985) -> float:
    """Exponential fall from start to end: wav2vec 2.0's schedule, in 1000 steps instead of 300 000."""
    return max(end, start * math.pow(decay, step))
