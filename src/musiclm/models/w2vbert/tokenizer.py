"""Semantic tokens: k-means over one layer of w2v-BERT (AudioLM, section 3.2; MusicLM, section 3.1).

Features of the chosen layer are normalised to mean 0 and deviation 1 per dimension before k-means; beside them stand
what they say of pitch, onsets and loudness (`musiclm.models.w2vbert.cues`), which AudioLM does not do. With `harmony`
the notes below and above C4 have codes of their own (`musiclm.models.w2vbert.harmony`), and a frame of 80 ms four: low
register, high register, and one of the network for each half. Only the layers up to the chosen one are kept. Long audio
is encoded in overlapping windows of the length the model was trained on, in constant memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from musiclm.core.artifact import load_artifact, load_model
from musiclm.core.streams import TokenSpec
from musiclm.models.w2vbert.cues import NUM_CUES, CueWeights, cue_map, cues_of
from musiclm.models.w2vbert.harmony import LOWEST_MIDI, NUM_REGISTERS, REGISTER, pitch_classes, semitones, tone_fit
from musiclm.models.w2vbert.model import FRAME_RATE_HZ, FrontEnd, W2vBert, W2vBertConfig
from musiclm.nn.conformer import Conformer
from musiclm.nn.kmeans import assign, kmeans
from musiclm.nn.windows import plan_windows


@dataclass(frozen=True, kw_only=True)
class SemanticTokenizerConfig:
    """What a semantic tokenizer is cut from, and how it reads long audio."""

    w2vbert: W2vBertConfig  # as trained; layers above `layer` are not built
    layer: int  # whose output is clustered; MusicLM: the 7th of the masked-prediction half
    num_clusters: int = 1024
    num_cues: int = 0  # values beside the features; 0 or `cues.NUM_CUES`
    harmony: bool = False  # whether two registers of notes have codes of their own
    window_s: float = 10.0  # longest piece of audio the network sees at once
    context_s: float = (
        1.0  # overlap on either side, thrown away: frames near an inner edge lack half their surroundings
    )

    def __post_init__(self) -> None:
        if not 1 <= self.layer <= self.w2vbert.conformer.num_layers:
            raise ValueError(f"layer is {self.layer}; the model has 1..{self.w2vbert.conformer.num_layers}")
        window, context = self.window_frames
        if not 0 <= 2 * self.context_s < self.window_s or 2 * context >= window:
            raise ValueError(
                f"context_s {self.context_s} on both sides must leave something of window_s {self.window_s}, "
                "in whole frames"
            )

    @property
    def halves(self) -> int:
        """Codes of the network in a frame."""
        return 2 if self.harmony else 1

    @property
    def window_frames(self) -> tuple[int, int]:
        """A window and its overlap on either side, in whole frames, counted at 25 Hz."""
        units_hz = FRAME_RATE_HZ / self.halves
        return round(self.window_s * units_hz) * self.halves, round(self.context_s * units_hz) * self.halves


class SemanticTokenizer(nn.Module):
    """Audio to semantic codes, 25 a second, or with `harmony` four every 80 ms. Use in eval mode; `from_artifact` and
    `fit_tokenizer` return it so."""

    feature_mean: Tensor
    feature_std: Tensor
    cues: Tensor
    centroids: Tensor
    harmony: Tensor

    def __init__(self, config: SemanticTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.w2vbert.conformer.width
        self.front_end = FrontEnd(config.w2vbert)
        self.project = nn.Linear(width, width)
        self.conformer = Conformer(replace(config.w2vbert.conformer, num_layers=config.layer))
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_std", torch.ones(width))
        self.register_buffer("cues", torch.zeros(width, config.num_cues), persistent=config.num_cues > 0)
        self.register_buffer("centroids", torch.zeros(config.num_clusters, width + config.num_cues))
        if config.harmony:
            self.register_buffer("harmony", torch.zeros(NUM_REGISTERS, config.num_clusters, REGISTER))
        self.codes_hash = ""

    @property
    def spec(self) -> TokenSpec:
        return TokenSpec(
            name="semantic",
            codebook_size=self.config.num_clusters,
            levels=NUM_REGISTERS + self.config.halves if self.config.harmony else 1,
            frame_rate_hz=FRAME_RATE_HZ / self.config.halves,
        )

    @property
    def device(self) -> torch.device:
        return self.centroids.device

    @property
    def codebooks(self) -> Float[Tensor, "q v c"]:
        """The vectors behind the codes of each level, those of registers filled up with zeros."""
        if not self.config.harmony:
            return self.centroids[None]
        notes = F.pad(self.harmony, (0, self.centroids.shape[1] - REGISTER))
        return torch.cat([notes, self.centroids.expand(self.config.halves, -1, -1)])

    def features(self, audio: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b t d"]:
        """Normalised features of the chosen layer for one window, t = s // 960, then what they say of the cues."""
        x = self.conformer(self.project(self.front_end(self.front_end.mel_frames(audio))))
        x = (x - self.feature_mean) / self.feature_std
        return torch.cat([x, x @ self.cues], dim=-1)

    @torch.no_grad()
    def encode(self, audio: Float[Tensor, "b 1 s"], windows_at_once: int = 8) -> Int[Tensor, "b q t"]:
        """Codes in [0, num_clusters): one for each whole 40 ms, t = floor(s / 960) at 24 kHz, or with `harmony` four
        for each whole 80 ms.

        Audio up to window_s goes through at once. Longer audio is read in windows of window_s that overlap by 2 *
        context_s; each frame's code comes from the window whose inside it lies in. The last window ends with the audio.
        Memory does not grow with s beyond the codes themselves. Audio of less than a frame gives no codes.
        """
        b, samples = audio.shape[0], self.config.w2vbert.frame_samples
        num_frames = audio.shape[-1] // (samples * self.config.halves) * self.config.halves
        codes = torch.zeros(b, num_frames, dtype=torch.long, device=audio.device)
        notes = codes.new_zeros(b, NUM_REGISTERS if self.config.harmony else 0, num_frames // self.config.halves)
        if num_frames == 0:
            return torch.cat([notes, codes.view(b, -1, self.config.halves).transpose(1, 2)], 1)
        plan = plan_windows(num_frames, *self.config.window_frames)
        size = plan[0].stop - plan[0].start
        for first in range(0, len(plan), windows_at_once):
            group = plan[first : first + windows_at_once]
            pieces = torch.cat([audio[..., w.start * samples : w.stop * samples] for w in group])
            features = self.features(pieces)
            found = assign(features.flatten(0, 1), self.centroids).view(len(group), b, size)
            for window, row in zip(group, found, strict=True):
                inside = slice(window.keep_start - window.start, window.keep_stop - window.start)
                codes[:, window.keep_start : window.keep_stop] = row[:, inside]
            if self.config.harmony:  # windows begin and end with whole frames
                of_group = self._notes(pieces).unflatten(0, (len(group), b))
                for window, row in zip(group, of_group, strict=True):
                    kept = slice((window.keep_start - window.start) // 2, (window.keep_stop - window.start) // 2)
                    notes[:, :, window.keep_start // 2 : window.keep_stop // 2] = row[:, :, kept]
        return torch.cat([notes, codes.unflatten(1, (-1, self.config.halves)).transpose(1, 2)], 1)

    def _notes(self, audio: Float[Tensor, "b 1 s"]) -> Int[Tensor, "b r t"]:
        """Codes of the registers of one window."""
        rows = semitones(audio)
        found = [assign(rows[:, :, r].flatten(0, 1), self.harmony[r]) for r in range(NUM_REGISTERS)]
        return torch.stack([code.view(rows.shape[:2]) for code in found], 1)

    @classmethod
    def from_artifact(cls, folder: Path) -> "SemanticTokenizer":
        """Reads a tokenizer (artifact kind "semantic"), in eval mode. Raises ArtifactError (a ValueError)."""
        tokenizer, artifact = load_model(folder, "semantic", SemanticTokenizerConfig, cls)
        tokenizer.codes_hash = artifact.codes_hash
        return tokenizer


@dataclass(frozen=True)
class CodeCues:
    """What the codes of one level say of their frame, on scales of their own; None: nothing."""

    chroma: Float[Tensor, "v 12"] | None
    onset: Float[Tensor, " v"] | None
    tones: Float[Tensor, "v 128"] | None = None  # by MIDI pitch, of the level that has the melody


def cues_of_codes(folder: Path) -> list[CodeCues] | None:
    """What the codes of each level of a tokenizer say of pitch and onset; None if it was made without cues. Raises:
    ArtifactError."""
    artifact = load_artifact(folder, "semantic")
    if not artifact.config.get("num_cues"):
        return None
    cues = artifact.state["centroids"][:, -NUM_CUES:].float()
    if "harmony" not in artifact.state:
        chroma = cues[:, :12]
        return [CodeCues(chroma, cues[:, 12], (chroma - chroma.mean(1, keepdim=True))[:, torch.arange(128) % 12])]
    low, high = artifact.state["harmony"].float()
    notes = [
        CodeCues(pitch_classes(low), None),
        CodeCues(pitch_classes(high), None, tone_fit(high, LOWEST_MIDI + REGISTER)),
    ]
    return [*notes, *[CodeCues(None, cues[:, 12])] * 2]


@torch.no_grad()
def fit_tokenizer(
    model: W2vBert,
    clips: Iterable[Float[Tensor, "b 1 s"]],
    layer: int,
    num_clusters: int = 1024,
    seed: int = 0,
    num_iterations: int = 30,
    window_s: float = 10.0,
    context_s: float = 1.0,
    cue_weights: CueWeights | None = None,
    harmony: bool = False,
) -> SemanticTokenizer:
    """Cuts a tokenizer from a trained model: statistics and k-means over the features that `layer` has on the clips,
    and over cues, if weighed.

    Give it some tens of frames per cluster: 1024 clusters want 20 minutes of audio or more (25 frames a second).
    Raises: ValueError if there is no clip or no such layer.
    """
    config = SemanticTokenizerConfig(
        w2vbert=model.config,
        layer=layer,
        num_clusters=num_clusters,
        num_cues=NUM_CUES if cue_weights else 0,
        harmony=harmony,
        window_s=window_s,
        context_s=context_s,
    )
    tokenizer = SemanticTokenizer(config)
    wanted = tokenizer.state_dict()
    kept = {name: value for name, value in model.state_dict().items() if name in wanted}
    missing = set(wanted) - set(kept)
    assert missing - {"cues", "harmony"} == {"feature_mean", "feature_std", "centroids"}, missing
    tokenizer.load_state_dict(kept, strict=False)
    tokenizer.eval().to(next(model.parameters()).device)
    fit_clusters(tokenizer, clips, seed, num_iterations, cue_weights)
    return tokenizer


@torch.no_grad()
def fit_clusters(
    tokenizer: SemanticTokenizer,
    clips: Iterable[Float[Tensor, "b 1 s"]],
    seed: int = 0,
    num_iterations: int = 30,
    cue_weights: CueWeights | None = None,
) -> None:
    """Fits statistics, cues and centroids of a tokenizer on clips, in place. Raises: ValueError if there is no clip."""
    tokenizer.feature_mean.zero_()
    tokenizer.feature_std.fill_(1.0)
    width, device = tokenizer.feature_mean.shape[0], tokenizer.centroids.device
    rows: list[Tensor] = []
    notes: list[Tensor] = []
    cue_parts: dict[str, list[Tensor]] = {}
    for clip in clips:
        if tokenizer.config.harmony:
            notes.append(semitones(clip.to(device)).flatten(0, 1))
        rows.append(tokenizer.features(clip.to(device))[..., :width].flatten(0, 1))
        if cue_weights:
            for name, cue in cues_of(clip).items():
                cue_parts.setdefault(name, []).append(cue.flatten(0, 1))
    if not rows:
        raise ValueError("there are no clips to fit clusters on; give it training clips of the corpus")
    data = torch.cat(rows)
    tokenizer.feature_mean.copy_(data.mean(0))
    tokenizer.feature_std.copy_(data.std(0).clamp(min=1e-4))
    data = (data - tokenizer.feature_mean) / tokenizer.feature_std
    if cue_weights:
        cues = cue_map(data.cpu(), {name: torch.cat(parts) for name, parts in cue_parts.items()}, cue_weights)
        tokenizer.cues.copy_(cues)
    data = torch.cat([data, data @ tokenizer.cues], dim=1)
    tokenizer.centroids.copy_(kmeans(data, tokenizer.config.num_clusters, num_iterations, seed))
    for register in range(NUM_REGISTERS if notes else 0):
        own = torch.cat([part[:, register] for part in notes])
        tokenizer.harmony[register] = kmeans(own, tokenizer.config.num_clusters, num_iterations, seed)
