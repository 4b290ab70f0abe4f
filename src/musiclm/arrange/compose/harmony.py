"""Scales, chords, progressions and voice leading.

Progressions are written as a musician would: a bar a word, two chords in a bar joined by a comma, roman numerals
against the major scale ("bVI" is a major chord a minor sixth above the tonic whatever the mode), lower case for minor,
a suffix for the rest.
"""

import random
import re
from dataclasses import dataclass

from musiclm.arrange.score import QUALITIES, Mode

SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "phrygian dominant": (0, 1, 4, 5, 7, 8, 10),
    "hirajoshi": (0, 2, 3, 7, 8),
    "blues": (0, 3, 5, 6, 7, 10),
}
_NUMERALS = {"i": 0, "ii": 2, "iii": 4, "iv": 5, "v": 7, "vi": 9, "vii": 11}
_TOKEN = re.compile(r"(b|#)?(vii|iii|vi|iv|ii|v|i|VII|III|VI|IV|II|V|I)(o|\+)?(.*)")


@dataclass(frozen=True, slots=True)
class Harmony:
    """A chord without a place in time."""

    root: int  # pitch class
    quality: str

    @property
    def tones(self) -> tuple[int, ...]:
        """Pitch classes, root first."""
        return tuple((self.root + step) % 12 for step in QUALITIES[self.quality])


# pool -> progressions; which of them fits a mode is found by comparing their notes with the scale
PROGRESSIONS: dict[str, tuple[str, ...]] = {
    "pop": ("I V vi IV", "vi IV I V", "I vi IV V", "IV I V vi", "I IV vi V", "I iii IV V", "i bVI bIII bVII",
        "i bVII bVI bVII", "i iv bVI bVII", "I bVII IV I"),
    "minor pop": ("i bVI bIII bVII", "i iv bVI bVII", "i bVII bVI iv", "i bIII bVII iv", "bVI bVII i i", "i v bVI bVII",
        "vi IV I V", "I V vi IV", "i IV i bVII", "i bVII IV i"),
    "ballad": ("I V vi iii IV I IV V", "I vi ii V", "I I IV V vi iii IV V", "IV V iii vi ii V I I", "i bVII bVI V",
        "i iv bVII bIII bVI iv V V", "i v bVI bIII iv i V V"),
    "rock": ("I IV V IV", "I bVII IV I", "I IV I V", "i bVII bVI bVII", "i bIII bVII IV", "I V IV V", "i i bVI bVII",
        "I I IV V", "i iv i V"),
    "modal rock": ("i bVII IV i", "I bVII IV IV", "i bIII IV i", "i bVII bVI bVII", "I bIII IV I", "i IV bVII i",
        "I V bVII IV", "I IV bVII IV"),
    "metal": ("i i bVI bVII", "i bII i bVII", "i bVI bII V", "i bVI bVII i", "i i bIII bII", "i bVII bVI V",
        "i bIII bVII bVI", "i bVI iv V", "i bII bIII bII"),
    "dark": ("i i bVI bVI", "i bII i bII", "i bVI iv V", "i iv bVI v", "i bII bVII i", "i bVI i bVII"),
    "static minor": ("i i i i", "i i bVII i", "i i iv i", "i i bVI bVII", "i i bII i", "i i IV i", "i i v i"),
    "epic": ("i bVI bIII bVII", "i bVI iv bVII", "i bVII bVI V", "bVI bVII i i", "i bIII bVII iv", "i v bVI iv",
        "i bVI bVII bIII iv bVI bVII V", "i bVII IV bVI"),
    "heroic": ("I V vi IV I V IV V", "I bVII IV I", "I II IV I", "I bVI bVII I", "I iii IV V", "I II I V",
        "i IV bVII i", "i bVI iv V", "I IV bVII I"),
    "ambient": ("I IV I IV", "I II I II", "I vi IV I", "i bVI i bVI", "i IV i IV", "I iii IV IV", "i bIII bVI bVI",
        "I II vi I", "i bVII IV i"),
    "folk": ("I IV I V", "I I IV V", "I V vi IV I V I,V I", "I IV V I", "I vi IV V", "I I V V I I V I", "i bVII i v",
        "i bVII bVI bVII", "i IV i bVII", "i iv i V", "I IV I,V I"),
    "country": ("I I IV I I I V V I I IV I I V I I", "I IV V I", "I I V V V V I I", "I IV I V", "I vi IV V",
        "I I7 IV I I V I,V I", "I bVII IV I"),
    "celtic": ("I I V V I I V I", "I IV I V I IV V I", "i i bVII bVII i i bVII i", "i bVII i v i bVII v i",
        "I I bVII bVII I I bVII I", "I vi IV V", "i bVII bVI bVII", "i IV bVII i", "I IV V I", "i bIII bVII i"),
    "soul": ("I vi ii V", "I IV I IV", "ii V I vi", "IV iii ii I", "I iii IV V", "IV V iii vi", "I IV iii,vi ii,V",
        "i iv bVII bIII", "i IV i IV", "I bVII IV I", "i bVI iv v"),
    "gospel": ("I IV I V", "I I7 IV ivm6 I V I,IV I", "I vi ii V", "IV I V vi IV I V I", "I IV I,vi ii,V",
        "I III7 vi IV I V I I"),
    "funk": ("i i i i", "i7 IV7 i7 IV7", "I7 I7 I7 I7", "I7 I7 IV7 I7", "i7 i7 iv7 i7", "i7 bVII7 IV7 i7",
        "I7 bVII7 I7 IV7"),
    "reggae": ("I IV I V", "I V vi IV", "i iv i v", "i bVII i bVII", "I ii I ii", "vi IV I V", "i bVI bVII i",
        "i IV i IV"),
    "jazz": ("Imaj7 vi7 ii7 V7", "ii7 V7 Imaj7 Imaj7", "Imaj7 VI7 ii7 V7", "iii7 VI7 ii7 V7",
        "Imaj7 IVmaj7 iii7,VI7 ii7,V7", "ii7 V7 iii7 VI7 ii7 V7 Imaj7 V7", "i7 iio7 V7 i7", "i6 iv7 iio7,V7 i6",
        "i7 bVI7 iio7 V7", "Imaj7 #io7 ii7 V7", "i7 IV7 i7 IV7"),
    "minor jazz": ("i7 iv7 i7 V7", "i7 IV7 i7 IV7", "i7 bVImaj7 iio7 V7", "i7 bVII7 bVImaj7 V7", "ii7 V7 Imaj7 vi7",
        "Imaj7 ii7 Imaj7 ii7", "i7 ii7 i7 ii7", "iv7 bVII7 bIIImaj7 bVImaj7 iio7 V7 i6 i6"),
    "blues": ("I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7", "I7 IV7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7"),
    "blues 4/4": ("I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7", "I7 IV7 I7 I7 IV7 IV7 I7 VI7 ii7 V7 I7 V7",
        "i7 i7 i7 i7 iv7 iv7 i7 i7 bVI7 V7 i7 V7"),
    "ragtime": ("I VI7 II7 V7 I VI7 II7,V7 I", "I III7 VI7 VI7 II7 V7 I V7",
        "I I V7 I I II7 V7 V7 I I I7 IV I VI7 II7,V7 I", "I I IV #ivo7 I VI7 II7,V7 I", "I IV I V7"),
    "latin": ("i iv V7 i", "i V7 i V7", "I IV V7 IV", "I V7 I V7", "i bVII bVI V7", "ii7 V7 I vi", "i iv i V7",
        "I vi ii V7"),
    "tango": ("i V7 V7 i iv i V7 i", "i iv V7 i", "i i V7 V7 V7 V7 i i", "i bVI iv V7", "I vi ii V7"),
    "flamenco": ("I bII I bII", "iv bIII bII I", "I bII bIII bII", "iv iv bII I", "I bII bVII,bII I",
        "iv bVII,bIII bII I"),
    "drone": ("I5 I5 I5 I5", "I5 I5 bVII I5", "I5 bVII I5 I5", "I5 I5 bII I5", "I5 I5 IV I5"),
    "waltz": ("I I I V7 V7 V7 V7 I", "I V7 V7 I I V7 V7,I I", "I IV V7 I", "I I ii V7 ii V7 I I", "I vi ii V7",
        "i V7 V7 i iv i V7 i", "i iv V7 i", "I I7 IV ivm I VI7 II7,V7 I"),
    "classical": ("I IV V I", "I V I,IV V I vi ii,V I", "I vi IV V", "I ii V I", "i iv V i", "i V i bVI iv V i i",
        "i iv bVII bIII bVI iio V i", "I V vi iii IV I IV V", "I I V7 I IV I V7 I", "i bVI iv V", "I II V V"),
    "baroque": ("i iv bVII bIII bVI iio V i", "I V vi iii IV I IV V", "i v bVI bIII iv i V V", "i bVII bVI V",
        "I IV viio iii vi ii V I"),
    "game": ("I V vi IV", "I IV V I", "I bVI bVII I", "IV V iii vi", "i bVI bVII i", "i bVII bVI V", "I bVII IV I",
        "I ii IV V", "i iv bVII bIII", "vi V IV V", "I II IV I", "I III7 vi IV", "i IV bVII i"),
    "horror": ("i bII i bII", "i i bvo i", "i bVI i bvo", "i bvim i bvim", "i bII bvo V", "i i iv bII"),
    "andalusian": ("i bVII bVI V", "i i bVII bVII bVI bVI V V", "iv i V i", "i iv V i", "I IV I V", "i bVI V i"),
}  # fmt: skip
# what a pool falls back on when nothing in it fits the mode
MODAL: dict[str, tuple[str, ...]] = {
    "major": ("I V vi IV", "I IV V I"),
    "minor": ("i bVI bIII bVII", "i iv bVII i"),
    "dorian": ("i IV i IV", "i bVII IV i", "i ii IV i"),
    "phrygian": ("i bII i bVII", "i bII bIII bII", "i bII i v"),
    "lydian": ("I II I II", "I II IV I", "I II vi I"),
    "mixolydian": ("I bVII IV I", "I bVII I bVII", "I IV bVII I"),
}
_MOST_MODAL = 0.94  # share of chord tones in the scale that a progression needs


def parse_numeral(text: str, tonic: int) -> Harmony:
    """The chord of a roman numeral: "bVI" over C is A flat major, "iio7" is Dm7b5, "ivm6" spells what lower case
    already says.

    Raises: ValueError if it is none.
    """
    found = _TOKEN.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no roman numeral such as I, bVII, ii7 or viio")
    accidental, numeral, mark, suffix = found.groups()
    root = (tonic + _NUMERALS[numeral.lower()] + {"b": -1, "#": 1, None: 0}[accidental]) % 12
    suffix = suffix.removeprefix("m") if suffix.startswith("m") and not suffix.startswith("maj") else suffix
    if mark == "o":
        quality = {"": "dim", "7": "dim7" if accidental == "#" else "m7b5"}.get(suffix, "?")
    elif mark == "+":
        quality = "aug"
    elif numeral.islower():
        quality = f"m{suffix}"
    else:
        quality = suffix
    if quality not in QUALITIES:
        raise ValueError(f"{text!r}: no chord quality {quality!r}; known are {', '.join(sorted(QUALITIES))}")
    return Harmony(root, quality)


def parse_progression(text: str, tonic: int) -> list[list[Harmony]]:
    """Bars of chords."""
    return [[parse_numeral(word, tonic) for word in bar.split(",")] for bar in text.split()]


def scale_classes(name: str, tonic: int, mode: Mode) -> tuple[int, ...]:
    """Pitch classes of a scale named as in `Tune.scale`, fitted to the mode (a pentatonic of a minor mode is minor)."""
    if name == "mode":
        steps = SCALES[mode]
    elif name == "pentatonic":
        steps = (0, 2, 4, 7, 9) if 4 in SCALES[mode] else (0, 3, 5, 7, 10)
        steps = tuple(step for step in steps if step in SCALES[mode]) or SCALES[mode]
    elif name == "harmonic minor" and mode != "minor":
        steps = SCALES[mode]  # phrygian keeps its own colour
    else:
        steps = SCALES[name]
    return tuple((tonic + step) % 12 for step in steps)


def bend_scale(scale: tuple[int, ...], harmony: Harmony) -> tuple[int, ...]:
    """The chord's own notes replace those of the scale that would clash (V in minor raises the seventh)."""
    tones = set(harmony.tones)
    kept = {
        pitch for pitch in scale if pitch in tones or not ({(pitch + 1) % 12, (pitch - 1) % 12} & (tones - set(scale)))
    }
    return tuple(sorted(kept | tones))


def fit(progression: str, mode: Mode) -> float:
    """Share of chord tones that belong to the mode; the leading tone of V counts, as every minor key has it."""
    allowed = set(SCALES[mode]) | ({11} if mode == "minor" else set())
    tones = [tone for bar in parse_progression(progression, 0) for harmony in bar for tone in harmony.tones]
    return sum(tone in allowed for tone in tones) / len(tones)


def choose_progression(pools: tuple[str, ...], mode: Mode, rng: random.Random) -> str:
    """One that sounds like the mode: its tonic chord has the mode's third and nearly all its notes lie in the scale."""
    known = [
        text for pool in pools for text in PROGRESSIONS[pool] if _tonic_is_major(text) in (4 in SCALES[mode], None)
    ]
    if any(pool in FREE_POOLS for pool in pools):
        fitting = known
    else:
        fitting = [text for text in known if fit(text, mode) >= _MOST_MODAL]
    return rng.choice(fitting or list(MODAL[mode]))


def _tonic_is_major(progression: str) -> bool | None:
    """Whether the tonic is major; None if it is a bare fifth.

    A progression without its tonic belongs to the relative key: major stands for it.
    """
    found = re.search(r"(?:^|[ ,])(I|i)(?![IViv])(5?)", progression)
    return None if found and found.group(2) else found is None or found.group(1) == "I"


# pools that leave the scale on purpose; only the third of the tonic decides there
FREE_POOLS = frozenset(
    {
        "blues",
        "blues 4/4",
        "ragtime",
        "jazz",
        "minor jazz",
        "funk",
        "flamenco",
        "horror",
        "drone",
        "gospel",
        "tango",
        "andalusian",
        "waltz",
    }
)


def colour_chord(harmony: Harmony, colour: str, tonic: int, mode: Mode) -> Harmony:
    """Triads as they are, with the seventh that the mode gives them, or bare fifths."""
    if colour == "power":
        return Harmony(harmony.root, "5" if harmony.quality not in ("dim", "m7b5", "dim7") else harmony.quality)
    if colour == "sevenths" and harmony.quality in ("", "m"):
        scale = {(tonic + step) % 12 for step in SCALES[mode]}
        if harmony.quality == "m":
            return Harmony(harmony.root, "m7")
        dominant = (harmony.root - tonic) % 12 == 7
        major_seventh = (harmony.root + 11) % 12 in scale
        return Harmony(harmony.root, "maj7" if major_seventh and not dominant else "7")
    return harmony


def voice(harmony: Harmony, previous: tuple[int, ...], low: int, high: int, size: int = 4) -> tuple[int, ...]:
    """Pitches of a chord inside [low, high], as near as can be to the voices before. At most `size` of them, ascending.

    All close positions are compared: the least total movement wins, with the middle of the register as a mild pull, so
    that a progression neither jumps nor creeps out of range.
    """
    tones = harmony.tones[:size]
    if len(harmony.tones) > size:  # the fifth says least
        tones = tuple(tone for index, tone in enumerate(harmony.tones) if index != 2)[:size]
    best: tuple[float, tuple[int, ...]] | None = None
    middle = (low + high) / 2
    for inversion in range(len(tones)):
        turned = tones[inversion:] + tones[:inversion]
        for bottom in range(low + (turned[0] - low) % 12, high + 1, 12):
            pitches = [bottom]
            for tone in turned[1:]:
                pitches.append(pitches[-1] + ((tone - pitches[-1]) % 12 or 12))
            if pitches[-1] > high:
                continue
            moved = sum(min(abs(pitch - old) for old in previous) for pitch in pitches) if previous else 0.0
            cost = moved + 0.35 * abs(sum(pitches) / len(pitches) - middle)
            if best is None or cost < best[0]:
                best = (cost, tuple(pitches))
    if best is None:  # a register narrower than the chord: its notes one by one, wherever they fit
        return tuple(sorted({pitch for pitch in range(low, high + 1) if pitch % 12 in tones})[:size]) or (low,)
    return best[1]


def nearest(pitch_class: int, target: float, low: int, high: int) -> int:
    """The pitch of that class nearest to `target` inside [low, high]. Raises: ValueError if the range holds none."""
    found = range(low + (pitch_class - low) % 12, high + 1, 12)
    if not found:
        raise ValueError(f"no pitch of class {pitch_class} between {low} and {high}; widen the register")
    return min(found, key=lambda pitch: (abs(pitch - target), pitch))
