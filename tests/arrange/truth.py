"""Holds what a caption claims against the notes, without the code that wrote it: plain loops, own tables, other ways
round.

Some claims are definitions, which no notes can bear out alone: a piece is of the style whose recipe made it; era, moods
and uses are what the recipe says of its style; roles, sections, fills and the metre are what the composer wrote. Those
are read from the score or the recipe, and held against the notes where these could speak against them: the band, the
tempo and the metre must be the recipe's, a calm piece must not be busy, a happy one must be in a major mode, drums must
play a fill.
"""

import math
import statistics
from functools import lru_cache

import numpy as np

from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.render.render import Setup, mix
from musiclm.arrange.score import Note, Part, Score
from musiclm.arrange.styles import STYLES
from musiclm.arrange.styles.bands import style_of_band
from musiclm.core.audio import SAMPLE_RATE_HZ
from musiclm.data.captions.wording import TABLES

NAMES = {
    "C": 0,
    "Db": 1,
    "C#": 1,
    "D": 2,
    "Eb": 3,
    "E": 4,
    "F": 5,
    "F#": 6,
    "Gb": 6,
    "G": 7,
    "Ab": 8,
    "G#": 8,
    "A": 9,
    "Bb": 10,
    "B": 11,
}
STEPS = {
    "major": "2212221",
    "minor": "2122122",
    "dorian": "2122212",
    "phrygian": "1222122",
    "lydian": "2221221",
    "mixolydian": "2212212",
}
BEATS = {"very slow": (0, 65), "slow": (55, 80), "medium": (85, 125), "fast": (125, 171), "very fast": (165, 400)}
# wider names by General MIDI program, counted from 0
PROGRAMS = {
    "a keyboard instrument": [*range(0, 9), *range(16, 21)], "an electric guitar": range(26, 32),
    "a guitar": range(24, 32),
    "a plucked string instrument": [6, 24, 25, 46, 104, 105, 106, 107],
    "a bowed string instrument": [40, 41, 42, 43, 110],
    "a string instrument": [40, 41, 42, 43, 46, 104, 106, 107, 110], "a brass instrument": range(56, 62),
    "a woodwind instrument": range(64, 80),
    "a woodwind": range(64, 80), "a wind instrument": range(56, 80), "a mallet instrument": range(8, 14),
    "a synthesizer": [*range(80, 104), 50, 62],
    "a synth": [*range(80, 104), 50, 62], "an organ": range(16, 21), "a sax": range(64, 68),
}  # fmt: skip
DRUMS = {
    "kick": (35, 36), "snare": (38, 40), "rim": (37,), "clap": (39,), "hi-hat": (42, 44, 46),
    "tom": (41, 43, 45, 47, 48, 50),
    "crash": (49, 52, 55, 57), "ride": (51, 53, 59),
}  # fmt: skip


# moods that notes can contradict
CALM = "calm relaxed mellow chill dreamy meditative gentle tender sleepy soothing serene contemplative"
LIVELY = "energetic lively exciting driving intense aggressive frantic danceable bouncy urgent pumping"
HAPPY = "happy cheerful joyful sunny festive carefree merry triumphant jolly bright optimistic euphoric"
SAD = "sad melancholic gloomy lonely dark ominous tense suspenseful eerie menacing cold moody wistful"


class Window:
    """The notes of a window as (part, start, end, pitch, velocity) in seconds from its beginning, cut nowhere."""

    def __init__(self, score: Score, start_s: float, seconds: float, setup: Setup | None = None) -> None:
        self.setup = setup
        self.score, self.start_s, self.seconds = score, start_s, min(seconds, score.seconds - start_s)
        self.notes = []
        for part in score.parts:
            for note in part.notes:
                begin = score.seconds_at(note.start) - start_s
                end = score.seconds_at(note.start + note.duration) - start_s
                if begin < self.seconds and end > 0:
                    self.notes.append((part, begin, end, note.pitch, note.velocity))

    def of(self, instrument: str, begin: float = -1e9, end: float = 1e9):
        return [n for n in self.notes if n[0].instrument == instrument and n[1] < end and n[2] > begin]

    def kit(self, *sounds: str):
        keys = [key for sound in sounds for key in DRUMS[sound]]
        return sorted(n[1] for n in self.notes if INSTRUMENTS[n[0].instrument].family == "drums" and n[3] in keys)

    def beats(self) -> list[float]:
        """Felt beats a minute at ten places of the window."""
        score, found = self.score, []
        for k in range(10):
            at = self.start_s + (k + 0.5) * self.seconds / 10
            bpm = score.tempo_bpm
            for place, changed in score.tempo_changes:
                if score.seconds_at(place) <= at:
                    bpm = changed
            compound = score.beat_unit == 8 and score.beats_per_bar in (6, 9, 12)
            found.append(bpm / 1.5 if compound else bpm * score.beat_unit / 4)
        return found


def is_true(kind: str, value: str, window: Window) -> bool:
    """Raises: KeyError for a kind of claim that nobody has written a check for."""
    if kind.startswith("kind:"):
        return INSTRUMENTS[kind[5:]].program in PROGRAMS[value]
    return CHECKS[kind](value, window)


def _plays(value: str, window: Window) -> bool:
    notes = window.of(value)
    begun = [n for n in notes if n[1] > -0.1]
    return len(begun) >= 3 or sum(min(n[2], window.seconds) - max(n[1], 0) for n in notes) >= 1.5


def _role(value: str, window: Window) -> bool:
    instrument, role = value.split(": ")
    notes = window.of(instrument)
    if any(n[0].role == role for n in notes):
        return True
    if not any(n[0].role == "unknown" for n in notes):
        return False
    begun = sorted((n[1], n[3]) for n in notes if n[1] >= 0)
    if role == "chords":  # half of its notes, or more, have two others with them
        company = [sum(abs(other - start) < 0.05 for other, _ in begun) for start, _ in begun]
        return statistics.mean(size >= 3 for size in company) >= 0.5
    alone = statistics.mean(sum(abs(other - start) < 0.02 for other, _ in begun) == 1 for start, _ in begun)
    rest = {n[0].instrument for n in window.notes if INSTRUMENTS[n[0].instrument].family not in ("drums", "percussion")}
    middle = statistics.median(pitch for _, pitch in begun)
    lower = [
        statistics.median(n[3] for n in window.of(name)) < middle
        for name in rest - {instrument}
        if _plays(name, window) and _level(name, window) > _level(instrument, window) - 9
    ]
    return role == "melody" and alone > 0.9 and all(lower)


def _level(instrument: str, window: Window) -> float:
    """Of the mean velocity, in dB."""
    notes = window.of(instrument)
    return notes[0][0].level_db + 40 * math.log10(statistics.mean(n[4] for n in notes) / 127)


def _in_time(window: Window) -> bool:
    """Whether a finished work's notes begin on whole parts of the file's beat, many of them on the beat itself."""
    score = window.score
    beat = 1.5 if score.beat_unit == 8 and score.beats_per_bar in (6, 9, 12) else 4 / score.beat_unit
    inside = [
        (note.start / beat) % 1
        for part in score.parts
        for note in part.notes
        if 0 <= score.seconds_at(note.start) - window.start_s < window.seconds
    ]
    twelfths = [round(12 * place) % 12 for place in inside]
    close = statistics.mean(abs(12 * place - round(12 * place)) < 0.75 for place in inside)
    return (
        close > 0.8
        and statistics.mean(place % 3 == 0 or place % 4 == 0 for place in twelfths) > 0.8
        and twelfths.count(0) >= max(twelfths.count(place) for place in range(1, 12)) * 0.9
    )


def _key(value: str, window: Window) -> bool:
    name, mode = value.split()
    tonic, scale = NAMES[name], set()
    place = tonic
    for step in STEPS[mode]:
        scale.add(place % 12)
        place += int(step)
    if mode == "minor":
        scale |= {(tonic + 9) % 12, (tonic + 11) % 12}
    if mode == "phrygian":
        scale.add((tonic + 4) % 12)
    pitched = [n for n in window.notes if INSTRUMENTS[n[0].instrument].family not in ("drums", "percussion")]
    if window.score.as_written and not _sounds_like(tonic, mode, pitched, window):
        return False
    share = statistics.mean(n[3] % 12 in scale for n in pitched)
    return (
        (tonic, mode) == (window.score.tonic, window.score.mode)
        and share > 0.8
        and any(n[3] % 12 == tonic for n in pitched)
    )


def _sounds_like(tonic: int, mode: str, pitched, window: Window) -> bool:
    """Whether of all 24 tonic triads three or fewer are sounded longer, and the mode's third longer than the other."""
    lasts = [0.0] * 12
    for n in pitched:
        lasts[n[3] % 12] += max(0.0, min(n[2], n[1] + 2) - n[1])

    def triad(root: int, third: int) -> float:
        return lasts[root % 12] * 1.2 + lasts[(root + third) % 12] + lasts[(root + 7) % 12]

    own, other = (4, 3) if mode == "major" else (3, 4)
    longer = sum(triad(root, third) > triad(tonic, own) for root in range(12) for third in (3, 4))
    return longer <= 4 and lasts[(tonic + own) % 12] > lasts[(tonic + other) % 12]


def _bpm(value: str, window: Window) -> bool:
    in_time = not window.score.as_written or _in_time(window)
    return in_time and sum(abs(bpm - float(value)) <= 3.01 for bpm in window.beats()) >= 7


def _speed(value: str, window: Window) -> bool:
    low, high = BEATS[value]
    return low <= statistics.median(window.beats()) <= high


def _tempo_change(value: str, window: Window) -> bool:
    beats = window.beats()
    return beats[-1] < 0.95 * beats[0] if value == "slower" else beats[-1] > 1.05 * beats[0]


def _drums(value: str, window: Window) -> bool:
    assert value == "no"
    return not any(INSTRUMENTS[n[0].instrument].family in ("drums", "percussion") for n in window.notes)


def _instrumental(value: str, window: Window) -> bool:
    return not any(
        INSTRUMENTS[n[0].instrument].program in (52, 53, 54, 85, 91)
        and not INSTRUMENTS[n[0].instrument].on_drum_channel
        for n in window.notes
    )


def _electric(value: str, window: Window) -> bool:
    return all(INSTRUMENTS[n[0].instrument].electric == (value == "yes") for n in window.notes)


def _solo(value: str, window: Window) -> bool:
    # a twentieth of a second of somebody else's note is nobody's music
    long = [n for n in window.notes if min(n[2], window.seconds) - max(n[1], 0) >= min(0.06, n[2] - n[1])]
    return {n[0].instrument for n in long} == {value}


def _complete(value: str, window: Window) -> bool:
    long = [n for n in window.notes if min(n[2], window.seconds) - max(n[1], 0) >= min(0.06, n[2] - n[1])]
    return len({n[0].instrument for n in long}) == int(value)


def _enters(value: str, window: Window) -> bool:
    return not window.of(value, end=1.9) and bool(window.of(value))


def _first(value: str, window: Window) -> bool:
    return any(n[1] <= 0.6 for n in window.of(value))


def _leaves(value: str, window: Window) -> bool:
    return not window.of(value, begin=window.seconds - 1.9) and any(n[2] > window.seconds - 1.9 for n in window.notes)


def _when(value: str, window: Window) -> bool:
    what, at = value.rsplit(": ", 1)
    kind, instrument = what.split(" ", 1)
    notes = window.of(instrument)
    moment = min(n[1] for n in notes) if kind == "enters" else max(n[2] for n in notes)
    return abs(moment - float(at)) < 0.1


def _fills(window: Window, *families: str) -> list[list[tuple[float, int]]]:
    """Strokes (moment, key) of the drums, by fill of the score; fills without three of them are none."""
    at = window.score.seconds_at
    spans = [(at(s) - window.start_s, at(s + d) - window.start_s) for s, d in window.score.fills]
    strokes = sorted(
        (n[1], n[3])
        for n in window.notes
        if INSTRUMENTS[n[0].instrument].family in (families or ("drums", "percussion"))
    )
    inside = [
        [(moment, key) for moment, key in strokes if s - 0.03 < moment < e]
        for s, e in spans
        if s >= -0.01 and e <= window.seconds + 0.01
    ]
    return [fill for fill in inside if len(fill) >= 3]


def _is_roll(fill: list[tuple[float, int]]) -> bool:
    """Whether the snare, or toms, are struck six times or more, most of them within 0.14 s of the one before."""
    for name in ("snare", "tom"):
        moments = [moment for moment, key in fill if key in DRUMS[name]]
        close = sum(0.01 < b - a <= 0.14 for a, b in zip(moments, moments[1:], strict=False))
        if len(moments) >= 6 and close >= 0.5 * (len(moments) - 1) and len(moments) >= 0.6 * len(fill):
            return True
    return False


def _stop(value: str, window: Window) -> bool:
    """Whether at some time, not at the window's edges, nobody sounds for 0.65 s, looked at every 10 ms."""
    assert value == "stop"
    silent = longest = 0
    for k in range(100, int(100 * window.seconds) - 30):
        moment = k / 100
        sounding = False
        for part, begin, end, pitch, _ in window.notes:
            if INSTRUMENTS[part.instrument].family == "drums":
                cymbal = pitch in (*DRUMS["crash"], *DRUMS["ride"])
                end = begin + 2.5 if cymbal else max(end, begin + 0.15)
            sounding = sounding or begin <= moment < end
        silent = 0 if sounding else silent + 1
        longest = max(longest, silent)
    return longest >= 65


def _moments_per_s(window: Window) -> float:
    """Moments of 100 ms in which something begins."""
    return len({round(n[1] * 10) for n in window.notes if 0 <= n[1] < window.seconds}) / window.seconds


def _third(window: Window) -> str:
    """Which third over the tonic sounds longer, "major" or "minor"; "" without a tonic."""
    lasts = [0.0] * 12
    for part, begin, end, pitch, _ in window.notes:
        if INSTRUMENTS[part.instrument].family not in ("drums", "percussion"):
            lasts[(pitch - window.score.tonic) % 12] += max(0.0, min(end, begin + 2) - begin)
    return "" if not lasts[0] else "major" if lasts[4] > lasts[3] else "minor"


def _style(value: str, window: Window) -> bool:
    """The recipe is the one that the score names, and what the notes tell is what it allows.

    Of a band it is that of its groove, whose players are its own.
    """
    score = window.score
    groove = next((origin.name for origin in score.origins if origin.source == "mma"), "")
    if groove:
        style = style_of_band(groove)
        low, high = style.tempo if style else (0.0, 0.0)
        return style is not None and score.style == value == style.name and 0.77 * low <= score.tempo_bpm <= 1.26 * high
    recipe = STYLES[value]
    usual = {name for line in recipe.lines for name in line.instruments}
    playing = {n[0].instrument for n in window.notes}
    low, high = recipe.tempo
    return (
        score.style == value
        and not score.as_written
        and len(playing & usual) >= len(playing) / 2  # a band may have players that are not of the style
        and (score.beats_per_bar, score.beat_unit) == recipe.metre
        and 0.8 * low <= score.tempo_bpm <= 1.2 * high
    )


def _mood(value: str, window: Window) -> bool:
    return (
        value in STYLES[window.score.style].moods
        and not (value in CALM.split() and _moments_per_s(window) > 8)
        and not (value in LIVELY.split() and _moments_per_s(window) < 1.2)
        and not (value in HAPPY.split() and _third(window) != "major")
        and not (value in SAD.split() and _third(window) != "minor")
    )


def _swing(value: str, window: Window) -> bool:
    """Where notes off the beat fall, as a rule: half way, or later."""
    at = window.score.seconds_at
    places = [
        note.start % 1
        for part in window.score.parts
        for note in part.notes
        if 0 <= at(note.start) - window.start_s < window.seconds and 0.42 < note.start % 1 < 0.72
    ]
    late = statistics.median(places) >= 0.56
    return late == (value == "yes") and not window.score.as_written


def _how(value: str, window: Window) -> bool:
    """Articulation, register or pace of an instrument that plays one part."""
    instrument, way = value.split(": ")
    notes = sorted((n[1], n[2], n[3]) for n in window.of(instrument) if n[1] > -0.06 or way == "sustained")
    durations = [n[1] - n[0] for n in notes]
    starts = sorted({round(n[0], 2) for n in notes})
    gaps = [b - a for a, b in zip(starts, starts[1:], strict=False) if b - a > 0.04]
    middle = statistics.median(n[2] for n in notes)
    return {
        "staccato": lambda: statistics.median(durations) <= 0.3,
        "sustained": lambda: statistics.median(durations) >= 1.3,
        "high": lambda: middle >= 77,
        "low": lambda: middle <= 54,
        "rapid": lambda: statistics.median(gaps) <= 0.2,
        "slow": lambda: statistics.median(gaps) >= 0.9,
    }[way]()


def _power(window: Window, begin: float, end: float) -> float:
    total = 1e-9
    for part, start, stop, _, velocity in window.notes:
        if INSTRUMENTS[part.instrument].decay != "sustained":
            stop = min(stop, start + 1)
        total += max(0.0, min(stop, end) - max(start, begin)) * 10 ** (part.level_db / 10) * velocity**4
    return total


def _dynamics(value: str, window: Window) -> bool:
    third = window.seconds / 3
    first, last = _power(window, 0, third), _power(window, 2 * third, window.seconds)
    return last > 1.6 * first if value == "louder" else first > 1.6 * last


def _density(value: str, window: Window) -> bool:
    return _moments_per_s(window) > 5 if value == "busy" else _moments_per_s(window) < 2.2


def _repeats(value: str, window: Window) -> bool:
    """Most bars that lie wholly in the window have a bar with the same pitches next to them or two on."""
    score = window.score
    bar = score.beats_per_bar * 4 / score.beat_unit
    sequences: dict[int, list[int]] = {}
    for part in score.parts:
        for note in sorted(part.notes, key=lambda n: n.start) if part.instrument == value else ():
            number = int((note.start + 0.05) // bar)
            inside = window.start_s - 0.1 <= score.seconds_at(number * bar)
            if inside and score.seconds_at((number + 1) * bar) <= window.start_s + window.seconds + 0.1:
                sequences.setdefault(number, []).append(note.pitch)
    alike = [
        any(sorted(sequences[n]) == sorted(sequences.get(m, [])) for m in (n - 2, n - 1, n + 1, n + 2))
        for n in sequences
    ]
    return bool(alike) and statistics.mean(alike) >= 0.6


def _beat(value: str, window: Window) -> bool:
    score = window.score
    quarters = [
        q for q in range(int(score.duration)) if 0.2 <= score.seconds_at(q) - window.start_s < window.seconds - 0.2
    ]
    first, *_, last = window.kit(*DRUMS)
    quarters = [
        q for q in quarters if first - 0.2 < score.seconds_at(q) - window.start_s < last + 0.2
    ]  # while there are drums
    near = 60 / min(window.beats()) * 0.15

    def struck(quarter: int, *sounds: str) -> bool:
        at = score.seconds_at(quarter) - window.start_s
        return any(abs(time - at) < near for time in window.kit(*sounds))

    if value == "four on the floor":
        return statistics.mean(struck(q, "kick") for q in quarters) > 0.8
    return statistics.mean(struck(q, "snare", "clap", "rim") for q in quarters if q % 2) > 0.75


@lru_cache(maxsize=64)
def _through(sound, room_seed: int, kicks: bool) -> np.ndarray:
    """What a setup makes of a second of white noise by a melody player, after one of silence: the whole mix, 8 s.

    With `kicks`, of 6 s.
    """
    length, rate = 8 * SAMPLE_RATE_HZ, SAMPLE_RATE_HZ
    noise = np.zeros(length, np.float32)
    long = np.random.default_rng(0).standard_normal(6 * rate if kicks else rate)
    noise[rate : rate + long.size] = 0.1 * long
    beats = tuple(Note(start=k, duration=0.1, pitch=36, velocity=100) for k in range(2, 14)) if kicks else ()
    parts = (Part(role="melody", instrument="flute", notes=()), Part(role="drums", instrument="drum kit", notes=beats))
    score = Score(style="x", seed=0, tempo_bpm=120, duration=16, parts=parts, sections=(), chords=())
    return mix(score, [noise, np.zeros_like(noise)], sound, room_seed)


def _level_db(audio: np.ndarray, begin_s: float, end_s: float) -> float:
    return 10 * float(
        np.log10(np.mean(audio[int(begin_s * SAMPLE_RATE_HZ) : int(end_s * SAMPLE_RATE_HZ)] ** 2) + 1e-12)
    )


def _treble_db(audio: np.ndarray) -> float:
    """What is left at 8 to 11 kHz, against 1 to 3 kHz."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    hz = np.fft.rfftfreq(audio.size, 1 / SAMPLE_RATE_HZ)
    high, middle = (power[(hz > low) & (hz < top)].mean() for low, top in ((8000, 11000), (1000, 3000)))
    return 10 * float(np.log10(high / middle))


def _sound(value: str, window: Window) -> bool:
    """Test signals go through the setup's whole mix, and what comes out is measured."""
    setup = window.setup
    answer = _through(setup.sound, setup.room_seed, False)
    burst, treble = _level_db(answer, 1.0, 2.0), _treble_db(answer)
    pitched = any(INSTRUMENTS[n[0].instrument].family not in ("drums", "percussion", "bass") for n in window.notes)
    if value == "pumping":
        pumped = _through(setup.sound, setup.room_seed, True)
        dips = [
            _level_db(pumped, k / 2 + 0.01, k / 2 + 0.06) - _level_db(pumped, k / 2 + 0.3, k / 2 + 0.45)
            for k in range(3, 12)
        ]
        return statistics.median(dips) < -1.0 and len(window.kit("kick")) >= 4 and pitched
    if value == "clean":
        loud = any(INSTRUMENTS[n[0].instrument].drive > 0.1 and n[0].level_db > -3 for n in window.notes)
        return treble > -3 and _level_db(answer, 0, 0.99) < -100 and not loud and "opl3" not in setup.soundfont.package
    return {
        "mono": lambda: answer.ndim == 1,
        "no audience": lambda: _level_db(answer, 0, 0.99) < -100,  # the setup adds nothing of its own
        "reverberant": lambda: pitched and _level_db(answer, 2.1, 2.3) - burst > -30,
        "cavernous": lambda: pitched and _level_db(answer, 3.0, 3.3) - burst > -50,
        "spring": lambda: setup.sound.room == "spring" and _level_db(answer, 2.05, 2.2) - burst > -35,
        "dry": lambda: _level_db(answer, 2.15, 2.3) - burst < -32,
        "muffled": lambda: treble < -5,
        "chip": lambda: "opl3" in setup.soundfont.package,
        "sampled": lambda: "opl3" not in setup.soundfont.package,
    }[value]()


def _trait(value: str, window: Window) -> bool:
    """Figures of a part or of the band, by other measures and wider limits than the captions have."""
    name, _, instrument = value.partition(": ")
    score, at = window.score, window.score.seconds_at
    notes = [
        (note.start, note.pitch)
        for part in score.parts
        for note in sorted(part.notes, key=lambda n: (n.start, n.pitch))
        if (part.instrument == instrument or not instrument)
        and at(note.start) < window.start_s + window.seconds
        and at(note.start + note.duration) > window.start_s
    ]
    tops = (
        [max(p for s, p in notes if abs(s - start) < 0.02) for start in sorted({round(s, 2) for s, _ in notes})]
        if instrument
        else []
    )
    steps = [abs(b - a) for a, b in zip(tops, tops[1:], strict=False) if a != b]
    beats = [s - int(s) for s, _ in notes]
    third = len(tops) // 3

    def chords() -> list[tuple[int, str]]:
        found = []
        for k in range(200):
            moment = window.start_s + 0.12 + k * (window.seconds - 0.24) / 199
            for chord in score.chords:
                if at(chord.start) <= moment < at(chord.start + chord.duration):
                    found.append((chord.root, chord.quality))
        return found

    def left_out() -> float:
        """Share of beats without a note that have one within the beat before them."""
        starts = [s for s, _ in notes]
        places = range(int(min(starts)) + 1, int(max(starts)))
        missed = [
            not any(abs(s - q) < 0.15 for s in starts) and any(q - 0.85 < s < q - 0.15 for s in starts) for q in places
        ]
        return statistics.mean(missed)

    def hats(least: float, most: float) -> bool:
        return least < len(window.kit("hi-hat")) / window.seconds / (statistics.median(window.beats()) / 60) < most

    return {
        "walking bass": lambda: statistics.mean(b < 0.15 or b > 0.85 for b in beats) > 0.75 and len(set(tops)) >= 3,
        "offbeat chords": lambda: statistics.mean(b < 0.2 or b > 0.8 for b in beats) < 0.2,
        "syncopated": lambda: left_out() >= 0.2,
        "power chords": lambda: (
            len({n[3] % 12 for n in window.of(instrument)}) <= 9 and INSTRUMENTS[instrument].drive > 0.3
        ),
        "rising": lambda: statistics.mean(tops[-third:]) > statistics.mean(tops[:third]) + 3,
        "falling": lambda: statistics.mean(tops[-third:]) < statistics.mean(tops[:third]) - 3,
        "stepwise": lambda: statistics.mean(step <= 2 for step in steps) > 0.65,
        "leaping": lambda: statistics.mean(step >= 4 for step in steps) > 0.45,
        "wide range": lambda: max(tops) - min(tops) >= 19,
        "narrow range": lambda: max(tops) - min(tops) <= 7,
        "sixteenth hats": lambda: hats(3.0, 4.6),
        "eighth hats": lambda: hats(1.5, 2.4),
        "one chord": lambda: len(set(chords())) == 1,
        "two chords": lambda: len(set(chords())) == 2,
        "many chords": lambda: len(set(chords())) >= 5,
        "on the grid": lambda: (
            statistics.mean(abs(b * 12 - round(b * 12)) / 12 * 60 / score.tempo_bpm < 0.005 for b in beats) > 0.9
        ),
    }[name]()


CHECKS = {
    "trait": _trait,
    "sound": _sound,
    "plays": _plays,
    "role": _role,
    "style": _style,
    "era": lambda value, window: STYLES[window.score.style].era == value,
    "mood": _mood,
    "use": lambda value, window: value in (*STYLES[window.score.style].uses, *TABLES["scenes"][window.score.style]),
    "speed": _speed,
    "bpm": _bpm,
    "tempo change": _tempo_change,
    "key": _key,
    "mode": lambda value, window: _third(window) == value,
    "metre": lambda value, window: (
        f"{window.score.beats_per_bar}/{window.score.beat_unit}" == value and not window.score.as_written
    ),
    "swing": _swing,
    "drums": _drums,
    "drum sound": lambda value, window: len(window.kit(value)) >= 2,
    "beat": _beat,
    "instrumental": _instrumental,
    "electric": _electric,
    "solo": _solo,
    "complete": _complete,
    "enters": _enters,
    "first": _first,
    "leaves": _leaves,
    "when": _when,
    "fill": lambda value, window: len(_fills(window)) >= int(value),
    "roll": lambda value, window: sum(map(_is_roll, _fills(window, "drums"))) >= int(value),
    "crash": lambda value, window: len(window.kit("crash")) >= 1,
    "stop": _stop,
    "dynamics": _dynamics,
    "density": _density,
    "section": lambda value, window: any(s.name == value for s in window.score.sections),
    "ends": lambda value, window: (
        window.start_s + window.seconds >= window.score.seconds - 0.1 and not window.score.as_written
    ),
    "repeats": _repeats,
    "articulation": _how,
    "register": _how,
    "pace": _how,
}
