"""What is true of a stretch of a score, measured from its notes; `captions` may say this and nothing else.

A fact is left out where a listener could doubt it: tempi between "slow" and "medium", a key that the notes of the window do not
show, an instrument that plays two notes or lies far below the others. The absence of drums is only claimed where not one stroke falls.
Thresholds are at the top; `tests/data/captions/test_sentences.py` derives the same statements again in another way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from musiclm.arrange.facts.recording import sound_of
from musiclm.arrange.facts.traits import traits_of
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.keys import best_key
from musiclm.arrange.render.render import Desk
from musiclm.arrange.score import Role, Score
from musiclm.arrange.styles import STYLES
from musiclm.arrange.timeline import DRUM_KEYS, Played, bar_quarters, beat_quarters, timeline
from musiclm.data.captions.wording import TABLES
from musiclm.data.captions.words import CALM, HAPPY, LIVELY, MEASURED, SAD

WINDOW_S = 10.0
AUDIBLE_DB = 12.0  # a part further below the loudest one is not spoken of
LEAST_NOTES, LEAST_S = 3, 2.0  # so many notes, or so long a sound, before a part counts as heard
# beats a minute; what lies between two words gets none
SPEEDS = (("very slow", 0, 62), ("slow", 62, 78), ("medium", 90, 118), ("fast", 130, 168), ("very fast", 172, 400))
SPARSE_HZ, BUSY_HZ = 1.6, 7.0  # onsets a second
KEY_MARGIN = 0.05  # of correlation, for the key of a finished work
LOUDER_DB = 5.0  # of the last three tenths of a window against the first three
SCALES = {
    "major": {0, 2, 4, 5, 7, 9, 11},
    "minor": {0, 2, 3, 5, 7, 8, 9, 10, 11},  # natural, and the raised sixth and seventh of the melodic one
    "dorian": {0, 2, 3, 5, 7, 9, 10},
    "phrygian": {0, 1, 3, 4, 5, 7, 8, 10},  # with the raised third of flamenco's dominant
    "lydian": {0, 2, 4, 6, 7, 9, 11},
    "mixolydian": {0, 2, 4, 5, 7, 9, 10},
}
FLATS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
SHARPS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")


@dataclass(frozen=True, kw_only=True)
class Player:
    """A part that is heard in the window."""

    instrument: str
    family: str
    role: Role
    enters_s: float  # first and last moment at which it sounds, from the window's beginning
    leaves_s: float
    register: str = ""  # "high", "low"
    articulation: str = ""  # "staccato", "sustained"
    pace: str = ""  # "rapid", "slow" succession of notes
    repeats: bool = False  # the same bar, or pair of bars, over and over


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens at a moment of the window."""

    kind: str  # "enters", "leaves", "fill", "roll", "crash", "stop"
    at_s: float
    instrument: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Empty strings, None and empty tuples: nothing is sure enough to be said."""

    seconds: float
    style: str
    genres: tuple[str, ...] = ()  # wider words for the style
    era: str = ""
    moods: tuple[str, ...] = ()  # of the style, without those that tempo, mode or density of the window go against
    uses: tuple[str, ...] = ()  # what such music is heard in
    players: tuple[Player, ...] = ()
    tempo_bpm: int | None = None  # of the felt beat
    speed: str = ""  # a word of SPEEDS
    tempo_change: str = ""  # "slower", "faster"
    key: str = ""  # "Eb major", "D dorian"
    metre: str = ""  # "3/4", "6/8", "4/4", ...
    swing: bool | None = None
    density: str = ""  # "sparse", "busy"
    dynamics: str = ""  # "louder", "softer"
    drums: bool | None = None  # drums or percussion; False: not one stroke, None: too few to speak of
    drum_sounds: tuple[str, ...] = ()  # of DRUM_KEYS, prominent ones
    beat: tuple[str, ...] = ()  # "four on the floor", "backbeat"
    events: tuple[Event, ...] = ()  # in order of time
    section: str = ""  # where all but the edges of the window lie in it
    ends: bool = False  # the piece comes to its end in the window
    complete: bool = False  # nothing sounds in the window but the players listed
    voices: bool = False  # a choir or a synthetic voice plays somewhere in the window
    electric: bool | None = None  # True: every instrument is, False: none is
    traits: tuple[str, ...] = ()  # "walking bass: double bass", "one chord"; see `traits`
    sound: tuple[str, ...] = ()  # of the recording: "reverberant", "muffled", ...; see `recording`


def facts_of(
    score: Score, start_s: float, seconds: float = WINDOW_S, desk: Desk | None = None, lufs: float | None = None
) -> Facts:
    """What is true of `seconds` of a piece from `start_s` on, rendered with `desk`, so loud that it measures `lufs`, if that is known.

    Raises: ValueError for a window outside the piece.
    """
    if not (seconds > 0 and 0 <= start_s < score.seconds):
        raise ValueError(f"a window of {seconds} s at {start_s} s; the piece lasts {score.seconds:.1f} s")
    end_s = min(start_s + seconds, score.seconds)
    everything = timeline(score)
    inside = [part.between(start_s, end_s) for part in everything]
    heard = [part for part in inside if part.start.size and _is_heard(part, inside, start_s, end_s)]
    pitched = [part for part in heard if not part.is_drums and part.part.role != "effects"]
    in_time = not score.as_written or _keeps_time(score, inside, start_s, end_s)
    bpm, change = _tempo(score, start_s, end_s) if in_time else (None, "")
    rate = _onset_rate(inside, start_s, end_s)
    strokes = [part for part in inside if part.is_drums and part.start.size]
    lately = [part.between(max(0.0, start_s - 1.5), end_s) for part in everything if part.is_drums]
    drums = (
        True
        if any(part.is_drums and part.part.role != "effects" for part in heard)
        else None
        if any(p.start.size for p in lately)
        else False
    )
    electric = {INSTRUMENTS[part.part.instrument].electric for part in inside if part.start.size}
    section = _section(score, start_s, end_s)
    speed, key = _speed(bpm, rate), _key(score, pitched)
    if speed.endswith("fast") and (_is_half_time(score, heard) or score.beats_per_bar == 3):
        speed = ""  # a listener may tap half as fast, or to the bars of a waltz
    density = "sparse" if rate < SPARSE_HZ else "busy" if rate > BUSY_HZ else ""
    style = STYLES.get(score.style)
    sound = sound_of(desk, heard, lufs) if desk else ()
    return Facts(
        seconds=round(end_s - start_s, 3),
        style="" if score.as_written else score.style,
        genres=style.genres if style else (),
        era=style.era if style else "",
        moods=tuple(mood for mood in style.moods if fits(mood, speed, key, density)) if style else (),
        uses=(*style.uses, *TABLES["scenes"].get(score.style, ())) if style else (),
        players=tuple(_player(part, score, start_s, end_s, inside, heard) for part in heard),
        tempo_bpm=bpm,
        speed=speed,
        tempo_change=change,
        key=key,
        metre="" if score.as_written else f"{score.beats_per_bar}/{score.beat_unit}",
        swing=None if score.as_written else _swing(score, heard),
        density=density,
        dynamics=_dynamics(inside, start_s, end_s),
        drums=drums,
        drum_sounds=_drum_sounds(heard) if drums else (),
        beat=_beat(score, heard, start_s, end_s) if in_time else (),
        events=tuple(sorted(_events(score, heard, strokes, everything, start_s, end_s), key=lambda event: event.at_s)),
        section=section,
        ends=end_s >= score.seconds - 0.05 and not score.as_written,  # it may be cut short, or made to go round
        complete={p.part.instrument for p in inside if p.start.size} == {p.part.instrument for p in heard},
        voices=any(INSTRUMENTS[part.part.instrument].family == "voices" and part.start.size for part in inside),
        electric=electric.pop() if len(electric) == 1 and "chip" not in sound else None,
        traits=traits_of(score, heard, inside, start_s, end_s),
        sound=sound,
    )


def facts_of_piece(score: Score, desk: Desk | None = None) -> Facts:
    """What is true of the whole piece; entries and endings are the piece's own."""
    return facts_of(score, 0.0, score.seconds, desk)


def fits(mood: str, speed: str, key: str, density: str) -> bool:
    """Whether a mood of the style still holds: nothing is calm at breakneck speed, nothing cheerful in a minor key."""
    if mood in MEASURED:
        return False  # said by what was measured, if at all
    minor = key.split()[-1] in ("minor", "phrygian", "dorian") if key else None
    if mood in CALM:
        return not speed.endswith("fast") and density != "busy"
    if mood in LIVELY:
        return not speed.endswith("slow") and density != "sparse"
    if mood in HAPPY:
        return minor is False and not speed.endswith("slow")
    return minor is True if mood in SAD else True


def key_name(tonic: int, mode: str) -> str:
    """As musicians spell it: Eb major, but C# minor."""
    names = FLATS if mode in ("major", "mixolydian", "lydian") else SHARPS
    return f"{names[tonic]} {mode}"


def loudness(part: Played) -> float:
    """Of its mean note, in dB against the same instrument at full velocity: General MIDI's square law, and the part's level."""
    return part.part.level_db + 40 * float(np.log10(max(1.0, part.velocity.mean()) / 127))


def _is_heard(part: Played, others: Sequence[Played], start_s: float, end_s: float) -> bool:
    loudest = max(loudness(other) for other in others if other.start.size)
    if loudness(part) < loudest - AUDIBLE_DB:
        return False
    onsets = int(((part.start >= start_s - 0.05) & (part.start < end_s - 0.1)).sum())
    if part.is_drums:
        return onsets > LEAST_NOTES
    lasts = 2.0 if INSTRUMENTS[part.part.instrument].decay != "sustained" else np.inf  # what is struck dies away
    ends = np.minimum(part.end, part.start + lasts)
    sounding = _union(np.maximum(part.start, start_s), np.minimum(ends, end_s))
    return (onsets >= LEAST_NOTES and sounding >= 0.3) or sounding >= LEAST_S


def _union(starts: np.ndarray, ends: np.ndarray) -> float:
    """Seconds covered by intervals sorted by their starts."""
    total, reached = 0.0, -np.inf
    for start, end in zip(starts, ends, strict=True):
        if end > max(start, reached):
            total += end - max(start, reached)
            reached = end
    return float(total)


def _player(
    part: Played, score: Score, start_s: float, end_s: float, inside: list[Played], heard: list[Played]
) -> Player:
    """How a part is played is left out where its instrument plays another one too."""
    role = part.part.role if part.part.role != "unknown" else _role(part, heard, start_s, end_s)
    instrument = INSTRUMENTS[part.part.instrument]
    begins = (part.start >= start_s - 0.05) & (part.start < end_s)
    gaps = np.diff(np.unique(np.round(part.start[begins], 2)))
    gaps = gaps[gaps > 0.04]
    durations = (part.end - part.start)[begins]
    register = articulation = pace = ""
    name = part.part.instrument
    single = not part.is_drums and sum(p.part.instrument == name and p.start.size > 0 for p in inside) == 1
    if single and begins.sum() >= 4:
        quarter, middle, upper = (float(q) for q in np.percentile(part.pitch[begins], [25, 50, 75]))
        if instrument.family != "bass" and part.part.role != "bass":
            register = "high" if middle >= 79 and quarter >= 74 else "low" if middle <= 52 and upper <= 57 else ""
        if durations.size and len(gaps):
            ratio = float(np.median(durations)) / float(np.median(gaps))
            if ratio <= 0.5 and float(np.median(durations)) <= 0.25:
                articulation = "staccato"
            pace = "rapid" if float(np.median(gaps)) <= 0.17 else "slow" if float(np.median(gaps)) >= 1.0 else ""
    if single and instrument.decay == "sustained" and float(np.median(part.end - part.start)) >= 1.5:
        articulation = "sustained"
    return Player(
        instrument=name,
        family=instrument.family,
        role=role,
        enters_s=round(max(0.0, float(part.start.min()) - start_s), 2),
        leaves_s=round(min(end_s, float(part.end.max())) - start_s, 2),
        register=register,
        articulation=articulation,
        pace=pace,
        repeats=single and role in ("riff", "arpeggio", "bass", "melody", "chords") and _repeats(part, score),
    )


def _role(part: Played, heard: list[Played], start_s: float, end_s: float) -> Role:
    """What a part of a finished work does in the window: chords where most of what it strikes is three notes or more, melody where
    it alone plays one note at a time, high above all others and as loud; unknown otherwise."""
    begins = (part.start >= start_s) & (part.start < end_s)
    moments, sizes = np.unique(np.round(part.start[begins] / 0.03), return_counts=True)
    if len(moments) >= 3 and (sizes >= 3).mean() >= 0.6:
        return "chords"
    if len(moments) < 6 or (sizes > 1).any() or (part.start[1:] < part.end[:-1] - 0.1).mean() > 0.05:
        return "unknown"
    others = [p for p in heard if not p.is_drums and p.part is not part.part]
    lowest = float(np.percentile(part.pitch[begins], 25))
    above = all(lowest > float(np.percentile(p.pitch, 90)) for p in others)
    loud = all(loudness(part) >= loudness(p) - 3.0 for p in others)
    return "melody" if above and loud else "unknown"


def _repeats(part: Played, score: Score) -> bool:
    """Whether nearly every bar plays the pitches and places (to a sixteenth) of the bar, or of the two bars, before."""
    bar = bar_quarters(score)
    bars: dict[int, set[tuple[int, int]]] = {}
    for place, pitch in zip(part.quarter, part.pitch, strict=True):
        sixteenth = round(float(place) * 4)
        bars.setdefault(int(sixteenth // (bar * 4)), set()).add((int(sixteenth % (bar * 4)), int(pitch)))
    numbers = sorted(bars)[1:-1] if len(bars) > 4 else sorted(bars)  # those at the edges may be cut
    if len(numbers) < 3 or np.mean([len(bars[n]) for n in numbers]) < 2:
        return False
    for period in (1, 2):
        pairs = [(bars[n], bars[n - period]) for n in numbers if n - period in numbers]
        alike = [len(a & b) / len(a | b) for a, b in pairs]
        if len(pairs) >= 2 and min(alike) >= 0.8:
            return True
    return False


def _tempo(score: Score, start_s: float, end_s: float) -> tuple[int | None, str]:
    """Beats a minute where they stay the same, and which way they go where they do not."""
    pieces = [(0.0, score.tempo_bpm), *((score.seconds_at(place), bpm) for place, bpm in score.tempo_changes)]
    inside = []
    for (start, bpm), (end, _) in zip(pieces, [*pieces[1:], (np.inf, 0.0)], strict=True):
        share = (min(end, end_s) - max(start, start_s)) / (end_s - start_s)
        if share > 0:
            inside.append((share, bpm / beat_quarters(score)))
    bpms = [bpm for _, bpm in inside]
    change = ""
    if (
        min(inside)[0] >= 0.1
        and min(bpms) < 0.92 * max(bpms)
        and (len(bpms) == 2 or np.all(np.diff(bpms) < 0) or np.all(np.diff(bpms) > 0))
    ):
        change = "slower" if bpms[-1] < bpms[0] else "faster"
    share, most = max(inside)
    steady = max(bpms) <= 1.03 * min(bpms) or share >= 0.8
    return (round(most) if steady else None), change


def _keeps_time(score: Score, inside: list[Played], start_s: float, end_s: float) -> bool:
    """Whether the notes of a finished work agree with the beats that its file counts: nearly all on a grid of sixteenths or triplets,
    no other place of the grid struck more often than the beat, and most beats struck, 50 to 200 a minute."""
    begun = [(part.start >= start_s) & (part.start < end_s) for part in inside]
    if sum(those.sum() for those in begun) < 8:
        return False
    seconds = np.concatenate([part.start[those] for part, those in zip(inside, begun, strict=True)])
    places = np.concatenate([part.quarter[those] for part, those in zip(inside, begun, strict=True)])
    places = places / beat_quarters(score)

    def near(place: float) -> np.ndarray:
        return np.abs((places - place + 0.5) % 1 - 0.5) < 0.06

    on, straight, thirds = near(0), [near(k / 4) for k in (1, 2, 3)], [near(k / 3) for k in (1, 2)]
    on_grid = max(np.any([on, *grid], axis=0).mean() for grid in (straight, thirds))
    beats = np.unique(np.round(places[on]))
    num_beats = places.max() - places.min()
    bpm = 60 * num_beats / max(seconds.max() - seconds.min(), 1e-3)
    return bool(
        on_grid >= 0.85
        and all(on.sum() >= 0.9 * other.sum() for other in (*straight, *thirds))
        and len(beats) >= 0.6 * num_beats
        and 50 <= bpm <= 200
    )


def _onset_rate(parts: list[Played], start_s: float, end_s: float) -> float:
    """Moments a second at which something begins; those within 50 ms of each other are one."""
    onsets = np.sort(np.concatenate([part.start for part in parts])) if parts else np.zeros(0)
    onsets = onsets[(onsets >= start_s) & (onsets < end_s)]
    count, last = 0, -1.0
    for onset in onsets:
        if onset - last > 0.05:
            count, last = count + 1, float(onset)
    return count / (end_s - start_s)


def _speed(bpm: int | None, rate: float) -> str:
    """A word for the tempo, unless the notes go against it: a fast pulse under long notes does not sound fast."""
    for word, low, high in SPEEDS:
        if bpm is not None and low <= bpm < high:
            fast, slow = word.endswith("fast"), word.endswith("slow")
            return "" if (fast and rate < 2.5) or (slow and rate > 6.0) else word
    return ""


def _is_half_time(score: Score, heard: list[Played]) -> bool:
    """Whether the snare falls on the third beat of four, and seldom on the second and fourth."""
    kits = [part for part in heard if part.is_kit]
    if (score.beats_per_bar, score.beat_unit) != (4, 4) or not kits:
        return False
    struck = np.concatenate([part.quarter[np.isin(part.pitch, [37, 38, 39, 40])] for part in kits]) % 4
    third, back = (np.abs(struck - 2) < 0.15).sum(), ((np.abs(struck - 1) < 0.15) | (np.abs(struck - 3) < 0.15)).sum()
    return bool(third >= 2 and third > back)


def _key(score: Score, pitched: list[Played]) -> str:
    """The score's key, if the window's notes show it: nearly all in its scale, the tonic and the mode's third among them.

    The key of a finished work is itself measured from all its notes; the window's own must be the same by a margin.
    """
    weight = np.zeros(12)
    for part in pitched:
        np.add.at(weight, part.pitch % 12, np.minimum(part.end - part.start, 2.0))
    if weight.sum() <= 0:
        return ""
    if score.as_written:
        tonic, mode, margin = best_key(weight)
        if (tonic, mode) != (score.tonic, score.mode) or margin < KEY_MARGIN:
            return ""
    weight = np.roll(weight / weight.sum(), -score.tonic)
    third = 4 if score.mode in ("major", "lydian", "mixolydian") else 3
    in_scale = float(sum(weight[degree] for degree in SCALES[score.mode]))
    enough = (weight > 0.02).sum() >= 4
    shown = weight[0] >= 0.08 and weight[third] >= 0.04 and weight[third] > weight[7 - third]
    return key_name(score.tonic, score.mode) if in_scale >= 0.9 and shown and enough else ""


def _swing(score: Score, heard: list[Played]) -> bool | None:
    """Whether off-beat eighths come late; None with too few of them, or a little swing."""
    if beat_quarters(score) != 1:
        return None
    places = np.concatenate([part.quarter for part in heard]) % 1 if heard else np.zeros(0)
    if score.swing >= 0.58:
        return True if (np.abs(places - score.swing) < 0.08).sum() >= 6 else None
    return False if score.swing <= 0.52 and (np.abs(places - 0.5) < 0.08).sum() >= 6 else None


def _dynamics(inside: list[Played], start_s: float, end_s: float) -> str:
    """Louder or softer where the power of ten equal stretches rises or falls all along."""
    edges = np.linspace(start_s, end_s, 11)
    power = np.full(10, 1e-9)
    for part in inside:
        lasts = 1.0 if INSTRUMENTS[part.part.instrument].decay != "sustained" else np.inf
        ends = np.minimum(part.end, part.start + lasts)
        weight = 10 ** (part.part.level_db / 10) * (part.velocity / 127) ** 4
        for k in range(10):
            overlap = np.clip(np.minimum(ends, edges[k + 1]) - np.maximum(part.start, edges[k]), 0, None)
            power[k] += float((overlap * weight).sum())
    decibels = 10 * np.log10([power[:3].mean(), power[3:7].mean(), power[7:].mean()])
    if decibels[2] - decibels[0] >= LOUDER_DB and decibels[0] <= decibels[1] <= decibels[2]:
        return "louder"
    if decibels[0] - decibels[2] >= LOUDER_DB and decibels[0] >= decibels[1] >= decibels[2]:
        return "softer"
    return ""


def _drum_sounds(heard: list[Played]) -> tuple[str, ...]:
    """What stands out of the drum kits: three strokes or more (two crashes)."""
    kits = [part for part in heard if part.is_kit]
    keys = np.concatenate([part.pitch for part in kits]) if kits else np.zeros(0, int)
    counts = {name: int(np.isin(keys, list(those)).sum()) for name, those in DRUM_KEYS.items()}
    return tuple(name for name, count in counts.items() if count >= (2 if name == "crash" else 4))


def _beat(score: Score, heard: list[Played], start_s: float, end_s: float) -> tuple[str, ...]:
    """Drum patterns that have a name, in 4/4 only."""
    kits = [part for part in heard if part.is_kit]
    if (score.beats_per_bar, score.beat_unit) != (4, 4) or not kits:
        return ()
    places, keys = (np.concatenate([getattr(part, name) for part in kits]) for name in ("quarter", "pitch"))
    beats = np.arange(np.ceil(places.min() - 0.1), np.floor(places.max()) + 1)
    if len(beats) < 8 or score.seconds_at(beats[-1]) - score.seconds_at(beats[0]) < 0.5 * (end_s - start_s):
        return ()

    def strikes(*names: str) -> np.ndarray:
        struck = places[np.isin(keys, [key for name in names for key in DRUM_KEYS[name]])]
        return np.array([bool((np.abs(struck - beat) < 0.12).any()) for beat in beats])

    kick, snare, back = strikes("kick"), strikes("snare", "clap", "rim"), beats % 2 == 1
    found = []
    if kick.mean() >= 0.9:
        found.append("four on the floor")
    if snare[back].mean() >= 0.85 and snare[~back].mean() <= 0.3:
        found.append("backbeat")
    return tuple(found)


def _events(
    score: Score,
    heard: list[Played],
    strokes: list[Played],
    everything: list[Played],
    start_s: float,
    end_s: float,
) -> list[Event]:
    events = []
    alive = [part for part in everything if part.between(start_s, end_s).start.size]
    for part in heard:
        first, last, name = float(part.start.min()), float(part.end.max()), part.part.instrument
        alone = sum(other.part.instrument == name for other in alive) == 1
        if first - start_s >= 2.0 and end_s - first >= 2.0 and alone and len(heard) > 1:
            events.append(Event(kind="enters", at_s=round(first - start_s, 2), instrument=name))
        if end_s - last >= 2.0 and last - start_s >= 2.0 and alone and len(heard) > 1:
            goes_on = max(float(other.end.max()) for other in heard) - last >= 1.5
            if goes_on:
                events.append(Event(kind="leaves", at_s=round(last - start_s, 2), instrument=name))
    for place, length in score.fills:
        begin, end = score.seconds_at(place), score.seconds_at(place + length)
        hits = np.concatenate([p.start[(p.start >= begin - 0.02) & (p.start < end)] for p in strokes] or [np.zeros(0)])
        if begin >= start_s and end <= end_s and len(hits) >= 3:
            kind = "roll" if _is_roll(strokes, begin, end) else "fill"
            events.append(Event(kind=kind, at_s=round(begin - start_s, 2)))
    for part in strokes:
        crashes = part.start[np.isin(part.pitch, list(DRUM_KEYS["crash"])) & (part.start >= start_s)]
        events += [
            Event(kind="crash", at_s=round(float(at) - start_s, 2))
            for at in crashes
            if part.is_kit and at < end_s - 0.3
        ]
    if (at := _stop(everything, start_s, end_s)) is not None:
        events.append(Event(kind="stop", at_s=round(at - start_s, 2)))
    return events


def _is_roll(strokes: list[Played], begin: float, end: float) -> bool:
    """Whether nearly all strokes of the kit are of one drum, six or more in quick succession."""
    kits = [part for part in strokes if part.is_kit]
    if not kits:
        return False
    moments, keys = (np.concatenate([getattr(part, name) for part in kits]) for name in ("start", "pitch"))
    inside = (moments >= begin - 0.02) & (moments < end)
    for name in ("snare", "tom"):
        struck = np.sort(moments[inside & np.isin(keys, list(DRUM_KEYS[name]))])
        if len(struck) >= max(6, 0.7 * inside.sum()) and float(np.median(np.diff(struck))) <= 0.13:
            return True
    return False


def _stop(everything: list[Played], start_s: float, end_s: float) -> float | None:
    """Where all fall silent at once for 0.7 s or more and then go on; a ringing cymbal is no silence."""
    intervals = []
    for part in everything:
        ringing = np.isin(part.pitch, list(DRUM_KEYS["crash"] | DRUM_KEYS["ride"])) if part.is_kit else False
        intervals.append(
            np.stack([part.start, np.where(ringing, part.start + 2.5, np.maximum(part.end, part.start + 0.15))])
        )
    if not intervals:
        return None
    spans = np.concatenate(intervals, 1)
    spans = spans[:, np.argsort(spans[0])]
    reached = np.maximum.accumulate(spans[1])
    for end, following in zip(reached[:-1], spans[0, 1:], strict=True):
        if following - end >= 0.7 and end >= start_s + 1 and following <= end_s - 0.5:
            return float(end)
    return None


def _section(score: Score, start_s: float, end_s: float) -> str:
    """The section that holds 80 % of the window or more."""
    at: Callable[[float], float] = score.seconds_at
    for section in score.sections:
        begin, end = at(section.start), at(section.start + section.duration)
        if min(end, end_s) - max(begin, start_s) >= 0.8 * (end_s - start_s):
            return section.name
    return ""
