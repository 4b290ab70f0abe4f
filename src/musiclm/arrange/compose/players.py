"""Accompanists: bars of chords and a pattern in, notes out.

Time is in quarters and exactly on the grid; `perform` makes it human.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from musiclm.arrange.compose import patterns
from musiclm.arrange.compose.harmony import SCALES, Harmony, bend_scale, nearest, voice
from musiclm.arrange.score import Mode, Note

SOFT, NORMAL, ACCENT = 70, 82, 98


@dataclass(frozen=True, slots=True)
class Bar:
    start: float
    length: float
    chords: tuple[tuple[float, float, Harmony], ...]  # (start in the bar, duration, chord), covering the bar
    number: int  # in its section
    pulse: float = 1.0  # quarters from beat to beat: 1.5 in 6/8 and 12/8

    def chord_at(self, place: float) -> Harmony:
        """The chord that sounds at `place` quarters after the bar's start."""
        return next((chord for start, _, chord in reversed(self.chords) if start <= place + 1e-6), self.chords[0][2])


@dataclass(frozen=True, slots=True)
class Key:
    tonic: int
    mode: Mode

    @property
    def scale(self) -> tuple[int, ...]:
        return tuple((self.tonic + step) % 12 for step in SCALES[self.mode])


def play_chords(bars: Sequence[Bar], pattern: str, low: int, high: int, rng: random.Random) -> list[Note]:
    """Comping. Voices move as little as they can; the register is kept."""
    size = 4 if high - low >= 15 else 3
    previous: tuple[int, ...] = ()
    notes: list[Note] = []
    rows = patterns.bars_of(patterns.CHORDS[pattern])
    shift = rng.randrange(len(rows))
    for bar in bars:
        for start, duration, mark in _hits(rows[(bar.number + shift) % len(rows)], bar.length, bar.chords):
            chord = bar.chord_at(start)
            voices = voice(chord, previous, low, high, size)
            previous = voices
            pitches = {"b": voices[:1], "u": voices[1:] or voices}.get(mark.lower(), voices)
            velocity = ACCENT if mark.isupper() else SOFT if mark == "u" else NORMAL
            notes += [Note(bar.start + start, duration, pitch, velocity) for pitch in pitches]
    return notes


def play_pad(bars: Sequence[Bar], pattern: str, low: int, high: int, key: Key) -> list[Note]:
    """Held chords: a voice that stays is tied over; "drone" holds tonic and fifth only."""
    held: dict[int, tuple[float, float]] = {}
    notes: list[Note] = []
    previous: tuple[int, ...] = ()
    for bar in bars:
        for start, duration, chord in bar.chords:
            if pattern == "drone":
                voices = voice(Harmony(key.tonic, "5"), previous, low, high, 3)
            else:
                voices = voice(chord, previous, low, high, 4)
            previous = voices
            at = bar.start + start
            for pitch in [
                pitch
                for pitch, (begun, end) in held.items()
                if pitch not in voices or at - begun >= 16 or end < at - 1e-6
            ]:
                begun, end = held.pop(pitch)
                notes.append(Note(begun, end - begun, pitch, NORMAL))
            for pitch in voices:
                held[pitch] = (held[pitch][0] if pitch in held else at, at + duration)
    notes += [Note(begun, end - begun, pitch, NORMAL) for pitch, (begun, end) in held.items()]
    return sorted(notes, key=lambda note: (note.start, note.pitch))


def play_arpeggio(bars: Sequence[Bar], pattern: str, low: int, high: int, rng: random.Random) -> list[Note]:
    """Chord tones one by one, from a voicing that follows the chords."""
    rows = patterns.bars_of(patterns.ARPEGGIOS[pattern])
    shift = rng.randrange(len(rows))
    base_high = min(high, low + 17)
    notes: list[Note] = []
    previous: tuple[int, ...] = ()
    for bar in bars:
        for start, duration, mark in _hits(rows[(bar.number + shift) % len(rows)], bar.length, bar.chords):
            voices = voice(bar.chord_at(start), previous, low, base_high, 4)
            previous = voices
            ladder = [pitch + 12 * octave for octave in (0, 1, 2) for pitch in voices if pitch + 12 * octave <= high]
            pitch = sorted(set(ladder))[min(int(mark), len(set(ladder)) - 1)]
            notes.append(Note(bar.start + start, duration, pitch, ACCENT if start == 0 else NORMAL))
    return notes


def play_riff(bars: Sequence[Bar], pattern: str, low: int, high: int, key: Key, rng: random.Random) -> list[Note]:
    """A figure over the root of each chord, the same at every return, some of its steps exchanged for this piece."""
    rows = patterns.bars_of(patterns.RIFFS[pattern])
    swaps = {step: step if rng.random() < 0.7 else rng.choice("12345") for step in "1234567"}
    notes: list[Note] = []
    for bar in bars:
        row = rows[bar.number % len(rows)]
        for start, duration, mark in _hits(row, bar.length, bar.chords):
            chord = bar.chord_at(start)
            root = nearest(chord.root, low + 4, low, high)
            if mark == "P":
                pitches = [root, root + 7] if root + 7 <= high else [root]
                velocity = ACCENT
            else:
                scale = bend_scale(key.scale, chord)
                pitches = [_above(root, int(swaps.get(mark, mark)), scale, high)]
                velocity = NORMAL if mark != "0" or start % 1 == 0 else SOFT
            notes += [Note(bar.start + start, duration, pitch, velocity) for pitch in pitches]
    return notes


def play_bass(bars: Sequence[Bar], pattern: str, low: int, high: int, key: Key) -> list[Note]:
    """The bass line; it knows the next bar's chord and can walk there."""
    rows = patterns.bars_of(patterns.BASSES[pattern])
    notes: list[Note] = []
    last = low + 7
    for index, bar in enumerate(bars):
        following = bars[index + 1].chords[0][2] if index + 1 < len(bars) else bar.chords[-1][2]
        row = rows[bar.number % len(rows)]
        if set(row) == {"w"}:
            walked = _walk(bar, following, len(row), last, low, high, key)
            notes += walked
            last = walked[-1].pitch
            continue
        for start, duration, mark in _hits(row, bar.length, bar.chords):
            chord = bar.chord_at(start)
            root = nearest(chord.root, low + 6, low, min(high, low + 14))
            pitch = _bass_pitch(mark, root, chord, following, low, high)
            notes.append(Note(bar.start + start, duration, pitch, ACCENT if start == 0 else NORMAL))
            last = pitch
    return notes


def follow_riff(riff: Sequence[Note], low: int, high: int) -> list[Note]:
    """The riff's lowest notes an octave or two below."""
    lowest: dict[float, Note] = {}
    for note in riff:
        if note.start not in lowest or note.pitch < lowest[note.start].pitch:
            lowest[note.start] = note
    return [
        Note(
            note.start, note.duration, nearest(note.pitch % 12, min(note.pitch - 12, low + 7), low, high), note.velocity
        )
        for note in lowest.values()
    ]


def play_percussion(
    bars: Sequence[Bar], pattern: str, keys: Sequence[int], tuned: tuple[int, int] | None
) -> list[Note]:
    """Hand percussion on its own keys, or timpani and taiko on root and fifth inside the range `tuned`."""
    rows = patterns.bars_of(patterns.PERCUSSION[pattern])
    notes = []
    for bar in bars:
        for start, duration, mark in _hits(rows[bar.number % len(rows)], bar.length, ()):
            index = "xyz".index(mark.lower())
            if tuned:
                low, high = tuned
                chord = bar.chord_at(start)
                pitch = nearest((chord.root if index == 0 else chord.root + 7) % 12, (low + high) / 2, low, high)
            else:
                pitch = keys[min(index, len(keys) - 1)]
            notes.append(Note(bar.start + start, duration, pitch, ACCENT if mark.isupper() else SOFT))
    return notes


def _hits(
    row: str, length: float, chords: Sequence[tuple[float, float, Harmony]]
) -> Iterator[tuple[float, float, str]]:
    """(start, duration, mark) of a bar's pattern. A held note ends where the chord changes and is struck anew there."""
    step = length / len(row)
    changes = [start for start, _, _ in chords[1:]]
    index = 0
    while index < len(row):
        mark = row[index]
        if mark in ".'-":
            index += 1
            continue
        end = index + 1
        while end < len(row) and row[end] == "-":
            end += 1
        start, stop = index * step, end * step
        if end < len(row) and row[end] == "'":
            stop -= 0.35 * step
        inside = [place for place in changes if start + 1e-6 < place < stop - 1e-6]
        for begin, finish in zip([start, *inside], [*inside, stop], strict=True):
            yield begin, finish - begin, mark
        index = end


def _above(root: int, steps: int, scale: Sequence[int], high: int) -> int:
    pitch = root
    for _ in range(steps):
        pitch += 1
        while pitch % 12 not in scale:
            pitch += 1
    return pitch if pitch <= high else pitch - 12


def _bass_pitch(mark: str, root: int, chord: Harmony, following: Harmony, low: int, high: int) -> int:
    tones = {(tone - chord.root) % 12 for tone in chord.tones}
    third = next((step for step in (3, 4) if step in tones), 7)
    fifth = next((step for step in (7, 6, 8) if step in tones), 7)
    seventh = next((step for step in (10, 11, 9) if step in tones), 10)
    if mark == "a":
        target = nearest(following.root, root, low, high)
        pitch = target - 1 if target > root else target + (2 if target + 2 <= high else -1)
    else:
        pitch = root + {"1": 0, "3": third, "5": fifth, "6": 9, "7": seventh, "8": 12}[mark]
    while pitch > high:
        pitch -= 12
    while pitch < low:
        pitch += 12
    return pitch


def _walk(bar: Bar, following: Harmony, num: int, last: int, low: int, high: int, key: Key) -> list[Note]:
    """A note a beat: roots where chords change, then chord and scale steps towards the next root, reached from a
    semitone or tone away.
    """
    beat = bar.length / num
    notes: list[Note] = []
    target = nearest(following.root, last, low, high)
    for index in range(num):
        place = index * beat
        chord = bar.chord_at(place)
        begins = any(abs(start - place) < 1e-6 for start, _, _ in bar.chords)
        if begins:
            pitch = nearest(chord.root, last, low, high)
        elif index == num - 1:
            below = target - 1 if target - 1 >= low else target + 1
            pitch = below if last <= target else min(target + 1, high)
        else:
            direction = 1 if target > last or last - low < 4 else -1
            allowed = chord.tones if index % 2 == 0 else bend_scale(key.scale, chord)
            pitch = last + direction
            while pitch % 12 not in allowed:
                pitch += direction
            if not low <= pitch <= high:
                pitch = nearest(chord.tones[min(2, len(chord.tones) - 1)], last, low, high)
        notes.append(Note(bar.start + place, beat * 0.92, pitch, ACCENT if index % 2 == 0 else NORMAL))
        last = pitch
    return notes
