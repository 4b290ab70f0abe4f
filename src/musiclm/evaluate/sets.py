"""The sets of clips that `musiclm evaluate` measures: what a bundle makes, and the controls beside it.

Ten seconds each:
- generated: from the prompts. seeds: some of the prompts again, with other seeds.
- real: held-out tracks; reference: other held-out tracks, which distances are measured to; train: training tracks at
  random; training_tracks: as many training tracks as copies are looked for in. copied: the first of those through the
  codec, begun 2 s later, which is what a copy would be.
- codec: `real` through the codec. opus: `real` through Opus at 24 kbps. resynthesis: `real` from its semantic and MuLan
  codes alone. retrieved: the held-out clip that MuLan finds for each prompt.
- noise: pink, as loud as `real`. broken: `real` with faults that a meter must show (`break_clip`).

Long ones (`long_s`): long from some of the prompts; real_long of held-out tracks; collage of a quarter each of four of
them; noise_long.

What a model makes is kept as FLAC in REPORT/clips/<set>/, so a new measure needs no new generation.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from musiclm.core.audio import resample
from musiclm.core.bundle import Bundle
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.data.corpus.clips import eval_clips, read_clip
from musiclm.data.corpus.manifest import Track, load_manifest
from musiclm.evaluate.adherence import Prompt
from musiclm.evaluate.clipset import Clip, ClipSet, CutSet, KeptSet, PickedSet
from musiclm.evaluate.codec import through_opus
from musiclm.evaluate.config import EvaluateConfig
from musiclm.generate.session import MusicLM
from musiclm.models.encoders import SemanticEncoder, load_semantic

OPUS_BITS_PER_SECOND = 24_000


class ClipSets:
    """Every set of one report; each is an attribute, and costs nothing until its clips are asked for."""

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        prompts: Sequence[Prompt],
        corpus: Path | None,
        config: EvaluateConfig,
        device: str = "cpu",
    ) -> None:
        """folder: for the clips that models make. corpus: without one there is no real music."""
        self.bundle, self.folder, self.prompts, self.device = bundle, folder, prompts, device
        self.config, self.seed, self._corpus = config, config.seed, corpus
        self.seed_prompts = spread(len(prompts), config.num_seed_prompts)
        self.long_prompts = spread(len(prompts), config.num_long)

    @property
    def has_corpus(self) -> bool:
        return self._corpus is not None

    @property
    def corpus(self) -> Path:
        assert self._corpus is not None, "sections that need real music are left out without a corpus"
        return self._corpus

    @cached_property
    def model(self) -> MusicLM:
        return MusicLM.from_pretrained(self.bundle.folder, self.device)

    @cached_property
    def tokenizer(self) -> SemanticEncoder:
        tokenizer: SemanticEncoder = load_semantic(self.bundle.part("w2vbert")).to(self.model.device)
        return tokenizer

    def short(self) -> tuple[ClipSet, ...]:
        """Those of `clip_s` that tables compare; without a corpus, what was generated alone."""
        if not self.has_corpus:
            return (self.generated,)
        resynthesis = (self.resynthesis,) if "w2vbert" in self.bundle.parts else ()
        controls = (self.train, self.retrieved, self.noise)
        return (self.generated, self.real, self.reference, self.codec, *resynthesis, *controls)

    def long_ones(self) -> tuple[ClipSet, ...]:
        """Those of `long_s`."""
        return (self.long, self.real_long, self.collage, self.noise_long) if self.has_corpus else (self.long,)

    # what the bundle makes

    @cached_property
    def generated(self) -> KeptSet:
        """Clip i has the seed `seed` + i."""
        return self._kept("generated", len(self.prompts), lambda index: self._generate(index, self.config.clip_s))

    @cached_property
    def seeds(self) -> KeptSet:
        """The k-th other seed of prompt i is `seed` + 10000 k + i; all seeds of a prompt stand together."""
        each = self.config.seeds_per_prompt

        def make(index: int) -> tuple[Clip, dict[str, str]]:
            return self._generate(self.seed_prompts[index // each], self.config.clip_s, index % each + 1)

        return self._kept("seeds", len(self.seed_prompts) * each, make)

    @cached_property
    def long(self) -> KeptSet:
        return self._kept(
            "long", len(self.long_prompts), lambda index: self._generate(self.long_prompts[index], self.config.long_s)
        )

    @cached_property
    def codec(self) -> KeptSet:
        real = self.held_out[0]
        return self._kept("codec", len(real), lambda index: (through_codec(self.model, real[index]), {}))

    @cached_property
    def resynthesis(self) -> KeptSet:
        real = self.held_out[0]
        return self._kept("resynthesis", len(real), lambda index: (self.resynthesize(real[index], index), {}))

    def _kept(self, name: str, size: int, make: Callable[[int], tuple[Clip, dict[str, str]]]) -> KeptSet:
        return KeptSet(name, self.folder, size, make)

    def _generate(self, number: int, duration_s: float, again: int = 0) -> tuple[Clip, dict[str, str]]:
        """Of a prompt by its number, with its `again`-th other seed."""
        music = self.model.generate(self.prompts[number].text, duration_s, seed=self.seed + 10_000 * again + number)
        return at_24_khz(self.model, music.audio[0]), music.tags()

    # real music and what is made of it

    @cached_property
    def real(self) -> CutSet:
        return CutSet("real", lambda: self.held_out[0])

    @cached_property
    def reference(self) -> CutSet:
        return CutSet("reference", lambda: self.held_out[1])

    @cached_property
    def train(self) -> CutSet:
        return CutSet("train", lambda: self.cut(self.tracks("train"), len(self.held_out[0]), self.config.clip_s))

    @cached_property
    def retrieved(self) -> PickedSet:
        """For each prompt the clip of `real` and `reference` that MuLan finds."""
        clips = [*self.held_out[0], *self.held_out[1]]
        places = (self.embed_prompts() @ self.embed_audio(clips).T).argmax(1).tolist()
        return PickedSet("retrieved", (self.real, self.reference), places)

    @cached_property
    def training_tracks(self) -> CutSet:
        """One clip of each of `searched_tracks`."""
        return CutSet(
            "training_tracks",
            lambda: (self.cut([track], 1, self.config.clip_s)[0] for track in self.searched_tracks),
        )

    @cached_property
    def copied(self) -> CutSet:
        def clips() -> Iterator[Clip]:
            for track in self.searched_tracks[: len(self.held_out[0])]:
                _, _, (start_s,) = eval_clips(self.corpus, [track], self.config.clip_s, 1, self.seed)
                yield through_codec(self.model, read_clip(self.corpus, track, start_s + 2.0, self.config.clip_s))

        return CutSet("copied", clips)

    @cached_property
    def opus(self) -> CutSet:
        """Asking for its clips raises ValueError without ffmpeg."""
        return CutSet("opus", lambda: (through_opus(clip, OPUS_BITS_PER_SECOND) for clip in self.real))

    @cached_property
    def noise(self) -> CutSet:
        return self._noise("noise", self.real)

    @cached_property
    def broken(self) -> CutSet:
        def clips() -> Iterator[Clip]:
            real = self.held_out[0]
            for index, clip in enumerate(real):
                yield break_clip(clip, real[(index + 1) % len(real)], self.seams_s)

        return CutSet("broken", clips)

    @cached_property
    def real_long(self) -> CutSet:
        return CutSet("real_long", lambda: self._long_clips)

    @cached_property
    def collage(self) -> CutSet:
        def clips() -> Iterator[Clip]:
            whole = self._long_clips
            for index in range(len(whole)):
                yield np.concatenate([np.array_split(whole[(index + k) % len(whole)], 4)[k] for k in range(4)])

        return CutSet("collage", clips)

    @cached_property
    def noise_long(self) -> CutSet:
        return self._noise("noise_long", self.real_long)

    def _noise(self, name: str, real: ClipSet) -> CutSet:
        def clips() -> Iterator[Clip]:
            rng = np.random.default_rng(self.seed)
            for clip in real:
                yield pink_noise(len(clip), float(np.sqrt(np.square(clip).mean())), rng)

        return CutSet(name, clips)

    def tracks(self, *splits: str, least_s: float | None = None) -> list[Track]:
        """Tracks of the splits that are at least so long; a short clip's length by default."""
        least_s = self.config.clip_s if least_s is None else least_s
        return [t for t in load_manifest(self.corpus) if t.split in splits and t.seconds >= least_s]

    def cut(self, tracks: Sequence[Track], num: int, clip_s: float) -> list[Clip]:
        """`num` clips, no two of a track."""
        return list(eval_clips(self.corpus, tracks, clip_s, min(num, len(tracks)), self.seed)[0][:, 0].numpy())

    @cached_property
    def held_out(self) -> tuple[list[Clip], list[Clip]]:
        """(real, reference): clips of validation and test tracks, no track in both.

        Raises: ValueError if there are fewer than four.
        """
        tracks = self.tracks("validation", "test")
        if len(tracks) < 4:
            raise ValueError(
                f"{self.corpus} has {len(tracks)} held-out tracks of {self.config.clip_s:g} s; evaluation needs 4"
            )
        clips = self.cut(tracks, min(self.config.num_real, len(tracks)) // 2 * 2, self.config.clip_s)
        return clips[::2], clips[1::2]

    @cached_property
    def _long_clips(self) -> list[Clip]:
        tracks = self.tracks("validation", "test", least_s=self.config.long_s)
        return self.cut(tracks, max(4, len(self.long_prompts)), self.config.long_s)

    @cached_property
    def searched_tracks(self) -> list[Track]:
        """Training tracks among which copies are looked for."""
        tracks = self.tracks("train", least_s=self.config.clip_s + 2)
        return [tracks[i] for i in spread(len(tracks), self.config.num_training)]

    # the bundle's models

    @torch.no_grad()
    def resynthesize(self, clip: Clip, index: int) -> Float[np.ndarray, " r"]:
        """A clip from its semantic and MuLan codes, as the acoustic stages make it of a semantic stage without
        mistakes.

        Semantic codes are of whole 40 ms: what is left of the clip after them is cut off.
        """
        audio = torch.from_numpy(clip)[None, None].to(self.model.device)
        mulan = self.model.mulan.audio_codes(audio)
        pieces = list(self.model.render(self.tokenizer.encode(audio), mulan, self.seed + index))
        return at_24_khz(self.model, np.concatenate(pieces))[: len(clip)]

    @cached_property
    def seams_s(self) -> tuple[float, ...]:
        """Where windows of the bundle's acoustic decoder meet in a short clip."""
        return self.model.acoustic_decoder(self.model.default_config()).seams_s(self.config.clip_s)

    @torch.no_grad()
    def embed_audio(self, clips: Sequence[Float[np.ndarray, " _"]]) -> Float[np.ndarray, "n d"]:
        """MuLan embeddings of clips."""
        rows = [self.model.mulan.embed_audio(torch.from_numpy(c)[None, None].to(self.model.device)) for c in clips]
        return torch.cat(rows).cpu().numpy()

    @torch.no_grad()
    def embed_prompts(self) -> Float[np.ndarray, "n d"]:
        """MuLan embeddings of the prompts."""
        return torch.cat([self.model.mulan.embed_text([prompt.text]) for prompt in self.prompts]).cpu().numpy()


def spread(total: int, num: int) -> list[int]:
    """`num` of `total` places, evenly; all of them if there are no more."""
    num = min(num, total)
    return [i * total // num for i in range(num)]


def at_24_khz(model: MusicLM, audio: Clip) -> Clip:
    """What a model made, at the rate of all clips."""
    return resample(audio[None], model.sample_rate_hz, SAMPLE_RATE_HZ)[0].clip(-1, 1)


@torch.no_grad()
def through_codec(model: MusicLM, clip: Clip) -> Clip:
    """A clip through the codec, with as many levels as the bundle makes music of."""
    codec = model.soundstream
    audio = resample(clip[None], SAMPLE_RATE_HZ, codec.sample_rate_hz)
    codes = codec.encode(torch.from_numpy(audio)[None].to(model.device), model.default_config().levels)
    return at_24_khz(model, codec.decode(codes)[0, 0].clamp(-1, 1).cpu().numpy())[: len(clip)]


def pink_noise(num_samples: int, rms: float, rng: np.random.Generator) -> Clip:
    """Noise of 3 dB an octave less, at a level."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, num_samples)
    return np.clip(noise * rms / max(float(np.sqrt(np.square(noise).mean())), 1e-12), -1, 1).astype(np.float32)


def break_clip(clip: Clip, other: Clip, seams_s: Sequence[float]) -> Clip:
    """With another clip between its seams, overdriven, muffled by averages of 1 ms, offset, its first tenth silent."""
    out = clip.copy()
    cuts = [0, *(round(seam_s * SAMPLE_RATE_HZ) for seam_s in seams_s), len(clip)]
    for number, (start, stop) in enumerate(zip(cuts, cuts[1:], strict=False)):
        if number % 2:
            out[start:stop] = other[start:stop]
    out = np.clip(out * 4 / max(float(np.abs(out).max()), 1e-9), -1, 1)
    audible = np.ones(len(out))
    audible[: len(out) // 10] = 0
    for _ in range(3):
        out, audible = (np.convolve(x, np.ones(24) / 24, mode="same") for x in (out, audible))
    out = np.clip(out * 1.5 + 0.05, -1, 1) * audible
    return out.astype(np.float32)
