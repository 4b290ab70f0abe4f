"""The sets of clips that `musiclm evaluate` listens to: what a bundle makes, and the controls beside it.

Ten seconds each:
- generated: from the prompts. seeds: some of the prompts again, with other seeds.
- real: held-out tracks; reference: other held-out tracks, which distances are measured to; train: training tracks at random; training_tracks: as many
  training tracks as copies are looked for in. copied: the first of those through the codec, begun 2 s later, which is what a copy would be.
- codec: `real` through the codec. resynthesis: `real` from its semantic and MuLan codes alone. retrieved: the held-out clip that MuLan finds for
  each prompt.
- noise: pink, as loud as `real`. broken: `real` with faults that a meter must show (`break_clip`).

Long ones (`long_s`): long from some of the prompts; real_long of held-out tracks; collage of a quarter each of four of them; noise_long.

What a model makes is kept as FLAC in REPORT/clips/<set>/, so a new measure needs no new generation.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from musiclm.core.audio import AudioError, load, write_audio
from musiclm.core.bundle import Bundle
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.data.corpus.clips import eval_clips, read_clip
from musiclm.data.corpus.manifest import Track, load_manifest
from musiclm.evaluate.adherence import Prompt
from musiclm.generate.acoustic import SemanticSource
from musiclm.generate.session import MusicLM, item_generator
from musiclm.models.w2vbert.tokenizer import SemanticTokenizer

Clip = Float[np.ndarray, " s"]
Say = Callable[[str], None]
MADE = ("generated", "seeds", "long", "codec", "resynthesis")  # by a model, and kept


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How much is measured."""

    num_prompts: int | None = None  # spread over the file; None: all
    num_real: int = 100  # held-out clips, half of them the reference
    num_seed_prompts: int = 8  # prompts made with several seeds
    seeds_per_prompt: int = 3  # beside the one of every prompt
    num_long: int = 16  # clips of 40 s
    num_codec: int = 20
    num_memorisation: int = 64
    num_training: int = 600  # training tracks among which copies of generated clips are looked for
    num_probe: int = 160  # training clips that probes learn from; a third as many held-out ones test them
    seed: int = 0

    @classmethod
    def quick(cls) -> "EvaluateConfig":
        """Ends in some ten minutes on two cores. Fewer of everything: intervals are wider, and the memorisation threshold rests on 480 pairs."""
        return cls(
            num_prompts=60,
            num_real=60,
            num_seed_prompts=4,
            seeds_per_prompt=2,
            num_long=4,
            num_codec=8,
            num_memorisation=16,
            num_training=100,
            num_probe=48,
        )


class ClipSets:
    """Clips by name of the set."""

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        prompts: Sequence[Prompt],
        corpus: Path | None,
        config: EvaluateConfig,
        *,
        clip_s: float,
        long_s: float,
        device: str = "cpu",
        say: Say = print,
    ) -> None:
        self.bundle, self.folder, self.prompts, self.corpus, self.device, self.say = (
            bundle,
            folder,
            prompts,
            corpus,
            device,
            say,
        )
        self.config, self.seed, self.clip_s, self.long_s = config, config.seed, clip_s, long_s
        self.seed_prompts = spread(len(prompts), config.num_seed_prompts)
        self.long_prompts = spread(len(prompts), config.num_long)

    @cached_property
    def model(self) -> MusicLM:
        return MusicLM.from_pretrained(self.bundle.folder, self.device)

    @cached_property
    def tokenizer(self) -> SemanticTokenizer:
        return SemanticTokenizer.from_artifact(self.bundle.part("w2vbert")).to(self.model.device)

    def names(self) -> tuple[str, ...]:
        """Sets of short clips: without a corpus what was generated, without w2v-BERT in the bundle no resynthesis."""
        if self.corpus is None:
            return ("generated",)
        resynthesis = ("resynthesis",) if "w2vbert" in self.bundle.parts else ()
        return ("generated", "real", "reference", "codec", *resynthesis, "train", "retrieved", "noise")

    def long_names(self) -> tuple[str, ...]:
        return ("long",) if self.corpus is None else ("long", "real_long", "collage", "noise_long")

    def __getitem__(self, name: str) -> Iterator[Clip]:
        """The clips of a set, one at a time. Raises: ValueError for an unknown name or a kept clip that can't be read."""
        if name in MADE:
            for index in range(self.size(name)):
                yield self.read(name, index)
        elif name == "retrieved":
            clips = [*self.held_out[0], *self.held_out[1]]
            yield from (clips[index] for index in self.retrieved)
        elif name in ("noise", "noise_long"):
            rng = np.random.default_rng(self.seed)
            for clip in self["real" if name == "noise" else "real_long"]:
                yield pink_noise(len(clip), float(np.sqrt(np.square(clip).mean())), rng)
        elif name == "broken":
            real = self.held_out[0]
            for index, clip in enumerate(real):
                yield break_clip(clip, real[(index + 1) % len(real)], self.seams_s)
        elif name == "collage":
            clips = self.real_long
            for index in range(len(clips)):
                quarters = [np.array_split(clips[(index + k) % len(clips)], 4)[k] for k in range(4)]
                yield np.concatenate(quarters)
        elif name == "training_tracks":
            for track in self.training_tracks:
                yield self.cut([track], 1, self.clip_s)[0]
        elif name == "copied":
            assert self.corpus is not None
            for track in self.training_tracks[: len(self.held_out[0])]:
                _, _, (start_s,) = eval_clips(self.corpus, [track], self.clip_s, 1, self.seed)
                yield self.through_codec(read_clip(self.corpus, track, start_s + 2.0, self.clip_s))
        elif name in ("real", "reference", "train", "real_long"):
            yield from {
                "real": lambda: self.held_out[0],
                "reference": lambda: self.held_out[1],
                "train": lambda: self.training,
                "real_long": lambda: self.real_long,
            }[name]()
        else:
            raise ValueError(f"no set {name!r}")

    def size(self, name: str) -> int:
        """How many clips a set that a model makes has."""
        if name == "generated":
            return len(self.prompts)
        if name == "seeds":
            return len(self.seed_prompts) * self.config.seeds_per_prompt
        return len(self.long_prompts) if name == "long" else len(self.held_out[0])

    # what a model makes

    def path(self, name: str, index: int) -> Path:
        return self.folder / name / f"{index:04d}.flac"

    def read(self, name: str, index: int) -> Clip:
        """A clip that a model makes, made now if it is not there. Raises: ValueError if the file is damaged."""
        path = self.path(name, index)
        if not path.exists():
            self.make(name, index)
        try:
            return load(path)
        except AudioError as error:
            raise ValueError(f"{path} can't be read ({error}); delete it and run again: it is made anew") from None

    def make(self, name: str, index: int) -> None:
        """Writes a clip. Clip i of `generated` has the seed `seed` + i; the k-th other seed of prompt i is `seed` + 10000 k + i."""
        if name in ("codec", "resynthesis"):
            clip = self.held_out[0][index]
            audio = self.through_codec(clip) if name == "codec" else self.resynthesize(clip, index)
            tags: dict[str, str] = {}
        else:
            number, again = index, 0
            if name == "seeds":
                number, again = (
                    self.seed_prompts[index // self.config.seeds_per_prompt],
                    index % self.config.seeds_per_prompt + 1,
                )
            elif name == "long":
                number = self.long_prompts[index]
            duration_s = self.long_s if name == "long" else self.clip_s
            music = self.model.generate(self.prompts[number].text, duration_s, seed=self.seed + 10_000 * again + number)
            audio, tags = music.audio[0], music.tags()
        self.path(name, index).parent.mkdir(parents=True, exist_ok=True)
        write_audio(self.path(name, index), audio, SAMPLE_RATE_HZ, tags)

    def generate(self, name: str) -> None:
        """All clips of a set that are not there yet."""
        missing = [index for index in range(self.size(name)) if not self.path(name, index).exists()]
        started = last = time.monotonic()
        for done, index in enumerate(missing, 1):
            self.make(name, index)
            if time.monotonic() - last > 20 or done == len(missing):
                last = time.monotonic()
                self.say(f"{name}: made {done} of {len(missing)} clips in {last - started:.0f} s")

    @torch.no_grad()
    def through_codec(self, clip: Clip) -> Clip:
        """A clip through the codec, with as many levels as the bundle makes music of."""
        audio = torch.from_numpy(clip)[None, None].to(self.model.device)
        codes = self.model.soundstream.encode(audio, self.model.default_config().levels)
        return self.model.soundstream.decode(codes)[0, 0, : len(clip)].clamp(-1, 1).cpu().numpy()

    @torch.no_grad()
    def resynthesize(self, clip: Clip, index: int) -> Float[np.ndarray, " r"]:
        """A clip from its semantic and MuLan codes: what the acoustic stages make when the semantic stage makes no mistake.

        Semantic codes are of whole 40 ms: what is left of the clip after them is cut off.
        """
        model, config = self.model, self.model.default_config()
        audio = torch.from_numpy(clip)[None, None].to(model.device)
        codes = self.tokenizer.encode(audio)
        source = SemanticSource(iter([codes]), 1, codes.shape[2])
        generators = [item_generator(self.seed + index, config.acoustic)]
        acoustic = torch.cat(
            list(model.acoustic_decoder(config).stream(source, model.mulan.audio_codes(audio), generators)), 2
        )
        decoded = model.soundstream.decode(acoustic[:, : config.levels])[0, 0, : len(clip)]
        return decoded.clamp(-1, 1).cpu().numpy()

    @cached_property
    def seams_s(self) -> tuple[float, ...]:
        """Where windows of the bundle's acoustic decoder meet in a short clip."""
        return self.model.acoustic_decoder(self.model.default_config()).seams_s(self.clip_s)

    # real music

    def tracks(self, *splits: str, least_s: float | None = None) -> list[Track]:
        """Tracks of the splits that are at least so long; a short clip's length by default."""
        assert self.corpus is not None
        least_s = self.clip_s if least_s is None else least_s
        return [t for t in load_manifest(self.corpus) if t.split in splits and t.seconds >= least_s]

    def cut(self, tracks: Sequence[Track], num: int, clip_s: float) -> list[Clip]:
        """`num` clips, no two of a track."""
        assert self.corpus is not None
        return list(eval_clips(self.corpus, tracks, clip_s, min(num, len(tracks)), self.seed)[0][:, 0].numpy())

    @cached_property
    def held_out(self) -> tuple[list[Clip], list[Clip]]:
        """(real, reference): clips of validation and test tracks, no track in both. Raises: ValueError if there are fewer than four."""
        tracks = self.tracks("validation", "test")
        if len(tracks) < 4:
            raise ValueError(
                f"{self.corpus} has {len(tracks)} held-out tracks of {self.clip_s:g} s; evaluation needs 4"
            )
        clips = self.cut(tracks, min(self.config.num_real, len(tracks)) // 2 * 2, self.clip_s)
        return clips[::2], clips[1::2]

    @cached_property
    def training(self) -> list[Clip]:
        return self.cut(self.tracks("train"), len(self.held_out[0]), self.clip_s)

    @cached_property
    def training_tracks(self) -> list[Track]:
        tracks = self.tracks("train", least_s=self.clip_s + 2)
        return [tracks[i] for i in spread(len(tracks), self.config.num_training)]

    @cached_property
    def real_long(self) -> list[Clip]:
        return self.cut(
            self.tracks("validation", "test", least_s=self.long_s), max(4, len(self.long_prompts)), self.long_s
        )

    @cached_property
    def retrieved(self) -> list[int]:
        """For each prompt the place, in `real` and then `reference`, of the clip that MuLan finds."""
        clips = [*self.held_out[0], *self.held_out[1]]
        return (self.embed_prompts() @ self.embed_audio(clips).T).argmax(1).tolist()

    # MuLan

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


def pink_noise(num_samples: int, rms: float, rng: np.random.Generator) -> Clip:
    """Noise of 3 dB an octave less, at a level."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, num_samples)
    return np.clip(noise * rms / max(float(np.sqrt(np.square(noise).mean())), 1e-12), -1, 1).astype(np.float32)


def break_clip(clip: Clip, other: Clip, seams_s: Sequence[float]) -> Clip:
    """With another clip between its seams, overdriven, muffled (moving averages of 1 ms), offset, and silent for a tenth of its length."""
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
