"""Score -> sound: every part alone through a soundfont or the synthesizer, then effects, levels, a room and a master.

Mono, 24 kHz, deterministic.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from musiclm.arrange.compose.grooves import KEYS
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.packages import need
from musiclm.arrange.render import effects, synth
from musiclm.arrange.render.drumkits import DrumKit, choose_kit
from musiclm.arrange.render.soundfonts import RenderError, Soundfont, render_stems
from musiclm.arrange.score import Part, Role, Score
from musiclm.arrange.styles.bands import find_style
from musiclm.arrange.styles.recipe import Room, Sound
from musiclm.core.audio import SAMPLE_RATE_HZ

# level of a part while it plays, dB against the melody
_ROLE_DB: dict[Role, float] = {
    "melody": 0.0,
    "riff": -2.0,
    "bass": -1.5,
    "drums": -0.5,
    "chords": -4.5,
    "countermelody": -4.0,
    "arpeggio": -5.5,
    "pad": -6.0,
    "percussion": -7.0,
    "effects": -8.0,
    "unknown": -4.0,
}
_ROOM_SEND: dict[Role, float] = {"bass": 0.15, "drums": 0.5, "percussion": 0.7}
FORMAT_VERSION = 5  # raise when the same seed would sound different: every piece is then made anew
_ROOMS_AS_WRITTEN: tuple[Room, ...] = ("dry", "studio", "studio", "club", "chamber", "hall")
_TAIL_S = 2.5
_SYNTH_SHARE = 0.75  # of arranged pieces that have parts for it
_FLUIDSYNTH_SHARE = 0.03  # of pieces whose soundfont both can play; it takes six times as long over sf3


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a piece is rendered with: drawn from its style and seed."""

    soundfont: Soundfont
    renderer: str  # symusic or fluidsynth
    sound: Sound
    room_seed: int
    synth: bool = False  # whether the synthesizer plays what it can; the soundfont plays the rest
    kit: DrumKit | None = None  # plays drum parts in place of the soundfont


def choose_setup(
    score: Score,
    soundfonts: Sequence[Soundfont],
    renderers: Sequence[str] = ("symusic",),
    kits: Sequence[DrumKit] = (),
) -> Setup:
    """A soundfont, a renderer, the style's sound a little changed, and a drum kit, which is drawn apart.

    The same score and choices give the same setup.
    """
    if not soundfonts:
        raise RenderError("no soundfont to render with; install the Debian package fluid-soundfont-gm")
    rng = random.Random(f"{score.style}/{score.seed}/desk")  # the draws, so the bytes, depend on this name
    style = find_style(score.style)
    sound = style.sound if style else Sound(room=rng.choice(_ROOMS_AS_WRITTEN))
    soundfonts = [font for font in soundfonts if "fluidsynth" in renderers or not font.fluidsynth_only] or soundfonts
    soundfonts = [font for font in soundfonts if font.can_play(score)] or soundfonts
    weights = [font.chip_weight if sound.chips else font.weight for font in soundfonts]
    font = rng.choices(soundfonts, weights)[0]
    # works keep the soundfont's own balance, which fluidsynth alone plays as it is meant
    needed = font.fluidsynth_only or score.as_written
    other = "fluidsynth" in renderers and (needed or rng.random() < _FLUIDSYNTH_SHARE)
    renderer = "fluidsynth" if other else renderers[0]
    room: Room = sound.room
    if rng.random() < 0.2:
        room = rng.choice(("studio", "club", "chamber", "hall"))
    changed = Sound(
        room=room,
        wet=min(0.6, sound.wet * rng.uniform(0.6, 1.5)),
        lufs=sound.lufs + rng.uniform(-2.0, 2.0),
        cut_hz=sound.cut_hz * rng.uniform(0.85, 1.2) if sound.cut_hz else None,
        drive=sound.drive * rng.uniform(0.6, 1.3),
        pump=sound.pump * rng.uniform(0.5, 1.2),
        chips=sound.chips,
    )
    room_seed = rng.randrange(4)
    plays = any(synth.can_play(part.instrument) for part in score.parts) and not (score.as_written or font.is_chip)
    by_synth = plays and rng.random() < _SYNTH_SHARE
    kit = None if score.as_written or font.is_chip else choose_kit(_left_to_samples(score, by_synth), kits)
    return Setup(soundfont=font, renderer=renderer, sound=changed, room_seed=room_seed, synth=by_synth, kit=kit)


def _left_to_samples(score: Score, by_synth: bool) -> Score:
    """The score without what the synthesizer plays."""
    return replace(score, parts=tuple(p for p in score.parts if not (by_synth and synth.can_play(p.instrument))))


def render(score: Score, setup: Setup) -> Float[np.ndarray, " s"]:
    """The piece with its last reverberation: `score.seconds` and a tail of 2.5 s. Never above 0.95.

    Raises: RenderError if the soundfont or the renderer is missing.
    """
    num_samples = round((score.seconds + _TAIL_S) * SAMPLE_RATE_HZ)
    stems: list[Float[np.ndarray, " s"] | None] = []
    for part in score.parts:
        if setup.synth and synth.can_play(part.instrument):
            stems.append(synth.play(score, part, num_samples))
        elif setup.kit and setup.kit.can_play(part):
            stems.append(setup.kit.play(score, part, num_samples))
        else:
            stems.append(None)
    rest = tuple(part for part, stem in zip(score.parts, stems, strict=True) if stem is None)
    sampled = iter(
        render_stems(replace(score, parts=rest), setup.soundfont.path, setup.renderer, num_samples) if rest else ()
    )
    stems = [next(sampled) if stem is None else stem for stem in stems]
    return mix(score, [stem for stem in stems if stem is not None], setup.sound, setup.room_seed)


def mix(
    score: Score, stems: Sequence[Float[np.ndarray, " s"]], sound: Sound, room_seed: int = 0
) -> Float[np.ndarray, " s"]:
    """Stems (one per part, equally long) to a finished piece.

    Works as written keep the balance that they have in the soundfont.
    """
    num_samples = len(stems[0]) if stems else round((score.seconds + _TAIL_S) * SAMPLE_RATE_HZ)
    beats = np.zeros(num_samples, np.float32)  # drums: what ducking spares
    lows = np.zeros(num_samples, np.float32)  # bass and percussion
    rest = np.zeros(num_samples, np.float32)  # all else, whose rumble is cut
    send = np.zeros(num_samples, np.float32)
    for part, stem in zip(score.parts, stems, strict=True):
        levelled = stem * np.float32(10 ** (part.level_db / 20)) if score.as_written else channel(part, stem)
        bus = beats if part.role == "drums" else lows if part.role in ("bass", "percussion") else rest
        bus += levelled
        if part.role in _ROOM_SEND:
            send += levelled * np.float32(_ROOM_SEND[part.role])
    if not score.as_written:
        rest = effects.high_pass(rest, 90.0)
    send += rest
    rest += lows
    if sound.pump:
        gain = effects.duck(num_samples, _kicks(score), min(0.8, sound.pump))
        rest *= gain
        send *= gain
    mixed = (beats + rest) + np.float32(sound.wet) * effects.add_room(send, sound.room, room_seed)
    return master(mixed, sound)


def master(audio: Float[np.ndarray, " s"], sound: Sound) -> Float[np.ndarray, " s"]:
    """Filter, saturation, light compression, loudness of the style, peaks held under the ceiling, and a clean end."""
    audio = effects.high_pass(audio, 28.0)
    if sound.cut_hz:
        audio = effects.low_pass(audio, sound.cut_hz)
    audio = effects.compress(effects.saturate(audio, sound.drive))
    loudness = loudness_lufs(audio)
    if loudness is None:
        return np.zeros_like(audio)
    audio = effects.limit(audio * np.float32(10 ** ((sound.lufs - loudness) / 20)))
    fade = min(len(audio), SAMPLE_RATE_HZ // 10)
    audio[len(audio) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return audio


def loudness_lufs(audio: Float[np.ndarray, " s"]) -> float | None:
    """Integrated loudness; None for silence, or for less than the 0.4 s that the measure needs."""
    if len(audio) < 0.4 * SAMPLE_RATE_HZ or float(np.abs(audio).max(initial=0.0)) < 1e-5:
        return None
    value = float(need("pyloudnorm").Meter(SAMPLE_RATE_HZ).integrated_loudness(audio.astype(np.float64)))
    return value if np.isfinite(value) else None


def channel(part: Part, stem: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """One part through its amplifier and fader. Its level is set once, so that its own dynamics stay."""
    instrument = INSTRUMENTS[part.instrument]
    audio = effects.distort(stem, instrument.drive)
    rms = effects.active_rms(audio)
    if rms < 1e-6:
        return np.zeros_like(stem)
    level = 0.1 * 10 ** ((_ROLE_DB[part.role] + part.level_db) / 20)
    angle = (part.pan + 1) * np.pi / 4
    return audio * np.float32(level / rms * (np.cos(angle) + np.sin(angle)) / np.sqrt(2))


def _kicks(score: Score) -> list[float]:
    """Seconds at which the bass drum strikes."""
    return [
        score.seconds_at(note.start)
        for part in score.parts
        if part.role == "drums"
        for note in part.notes
        if note.pitch == KEYS["kick"]
    ]
