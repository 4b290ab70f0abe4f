"""MIDI files and a WAD of them, written by hand or at random."""

import io
import random
import struct

import mido

TICKS = 96


def midi(*tracks, bpm=120.0, metre=None):
    """Bytes of a MIDI file. A track is a list of (quarter, message); the tempo stands in a track of its own."""
    head = [(0, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm)))] if bpm else []
    head += [(0, mido.MetaMessage("time_signature", numerator=metre[0], denominator=metre[1]))] if metre else []
    file = mido.MidiFile(ticks_per_beat=TICKS)
    for events in (head, *tracks):
        track, now = mido.MidiTrack(), 0
        for quarter, message in sorted(events, key=lambda event: (event[0], event[1].type == "note_on")):
            track.append(message.copy(time=round(quarter * TICKS) - now))
            now = round(quarter * TICKS)
        file.tracks.append(track)
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def notes(channel, program, rows, volume=None):
    """Events of (start, duration, pitch, velocity) on a channel."""
    events = [(0, mido.Message("program_change", channel=channel, program=program))]
    if volume is not None:
        events.append((0, control(channel, 7, volume)))
    for start, duration, pitch, velocity in rows:
        events.append((start, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
        events.append((start + duration, mido.Message("note_off", channel=channel, note=pitch)))
    return events


def control(channel, number, value):
    return mido.Message("control_change", channel=channel, control=number, value=value)


def scale(channel=0, program=40, quarters=40, tonic=60, start=0.0, velocity=90, step=1.0):
    degrees = [0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2]
    rows = [(start + k * step, 0.9 * step, tonic + degrees[k % 14], velocity) for k in range(int(quarters / step))]
    return notes(channel, program, rows)


def chords(channel=1, program=0, quarters=40, tonic=48, velocity=80):
    rows = []
    for bar in range(quarters // 4):
        root = (0, 5, 7, 0)[bar % 4]
        rows += [(4.0 * bar, 3.8, tonic + root + third, velocity) for third in (0, 4, 7)]
    return notes(channel, program, rows)


def drums(quarters=40, keys=(36, 42, 38, 42), program=0):
    return notes(9, program, [(k / 2, 0.1, keys[k % 4], 100) for k in range(quarters * 2)])


def random_work(seed):
    """A band of random instruments that play in one key, more or less in time, some of them for a while only."""
    rng = random.Random(seed)
    tonic, mode = rng.randrange(12), rng.choice(([0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10]))
    late = rng.choice((0.0, 0.0, 0.01, 0.2))  # of a quarter: how far from the beat
    tracks = []
    for channel in rng.sample([0, 1, 2, 3, 4, 5], rng.randint(1, 5)):
        first, last, size = rng.choice((0, 0, 8, 16)), rng.choice((80, 80, 56)), rng.choice((1, 1, 1, 3))
        place, low = float(first), rng.choice((36, 48, 60, 72))
        rows = []
        while place < last:
            length = rng.choice((0.25, 0.5, 0.5, 1.0, 2.0))
            degree = rng.choice((0, 0, 2, 4, 1, 3, 5, 6))
            for k in range(size):
                octave, step = divmod(degree + 2 * k, 7)
                pitch = low + (tonic + mode[step]) % 12 + 12 * octave
                rows.append((max(0.0, place + rng.gauss(0, late)), length * 0.9, pitch, rng.randint(50, 110)))
            place += length
        tracks.append(notes(channel, rng.randrange(128), rows, volume=rng.choice((40, 80, 100, 127))))
    if rng.random() < 0.6:
        tracks.append(
            drums(80, rng.choice(((36, 42, 38, 42), (36, 46, 36, 46), (64, 62, 70, 63))), rng.choice((0, 25, 40)))
        )
    return midi(*tracks, bpm=rng.uniform(60, 180), metre=rng.choice((None, (4, 4), (3, 4), (6, 8))))


def wad(**lumps):
    """A WAD archive of these lumps."""
    data, directory = b"", b""
    for name, lump in lumps.items():
        directory += struct.pack("<II8s", 12 + len(data), len(lump), name.encode())
        data += lump
    return b"PWAD" + struct.pack("<II", len(lumps), 12 + len(data)) + data + directory
