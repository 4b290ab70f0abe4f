"""A miniature of Musical MIDI Accompaniment: a program of thirty lines that plays chords in quarters, and a library of
three style files.
"""

from pathlib import Path

STYLE = """// a comment
Begin Doc
  A gentle {what}.
  Of two lines.
End
Time {beats}
TimeSig {beats} 4
Begin Chord Define
  Unused 1 4 100
End
{tracks}
DefGroove {name}     the pattern itself
DefGroove {name}1    another
DefGroove {name}Fill
DefGroove {name}Intro  four bars
DefGroove {name}End
"""
TRACKS = "Begin Bass\n Sequence x\nEnd\nBegin Chord-Piano\n Sequence x\nEnd"
PROGRAM = """
import random, re, sys
import mido

NAMES = {"C": 0, "Db": 1, "D": 2, "Eb": 3, "E": 4, "F": 5, "F#": 6, "G": 7, "Ab": 8, "A": 9, "Bb": 10, "B": 11}
lines = open(sys.argv[1]).read().splitlines()
settings = {line.split()[0]: line.split()[1:] for line in lines if line[:1].isalpha()}
beats = int(settings["TimeSig"][0])
if "Broken" in settings["Groove"][0]:
    sys.exit("ERROR: no such groove")
chord, at, rng = None, 0, random.Random(int(settings["RndSeed"][0]))
tracks = {"Bass": (0, 32, []), "Bass-High": (3, 73, []), "Chord-Piano": (1, 4, []),
          "Drum-Hat": (9, 0, []), "Drum-Conga": (9, 0, [])}
for line in lines:
    if not line[:1].isdigit():
        continue
    cells = line.split()[1:]
    assert len(cells) == beats, line
    for cell in cells:
        chord = chord if cell == "/" else cell
        found = re.match("([A-G][b#]?)(m(?!a)|dim)?", chord)
        root = NAMES[found[1]]
        triad = [60 + root, 63 + root if found[2] else 64 + root, 67 + root]
        for name, pitches in {"Bass": [36 + root], "Bass-High": [72 + root], "Chord-Piano": triad, "Drum-Hat": [42],
                              "Drum-Conga": [63]}.items():
            for pitch in pitches:
                tracks[name][2].append((96 * at, 80, pitch, rng.randint(70, 90)))
        tracks["Drum-Hat"][2].append((96 * at + 64, 20, 42, 60))
        at += 1
file = mido.MidiFile(ticks_per_beat=96)
for name, (channel, program, notes) in tracks.items():
    events = [(0, 0, mido.Message("program_change", channel=channel, program=program))]
    for start, length, pitch, velocity in notes:
        events.append((start, 2, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
        events.append((start + length, 1, mido.Message("note_off", channel=channel, note=pitch)))
    track, now = mido.MidiTrack([mido.MetaMessage("track_name", name=name)]), 0
    for time, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=time - now))
        now = time
    file.tracks.append(track)
file.save(sys.argv[3])
"""


def write_mma(folder: Path) -> Path:
    """An unpacked package: a program that plays bass, a high line called bass, chords, hi-hat triplets and congas."""
    home = folder / "usr/share/mma"
    (home / "MMA").mkdir(parents=True)
    (home / "lib/stdlib").mkdir(parents=True)
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin/mma").write_text(PROGRAM)
    for name, groove, beats, tracks in (
        ("bossanova", "BossaNova", 4, TRACKS),
        ("waltz", "Waltz", 3, TRACKS),
        ("countrywaltz", "Broken", 3, TRACKS),
        ("drums", "OnlyDrums", 4, "Begin Drum\nEnd"),
        ("odd", "Odd", 5, TRACKS),
        ("nobodyknows", "Unknown", 4, TRACKS),
    ):
        text = STYLE.format(what=name, name=groove, beats=beats, tracks=tracks)
        (home / "lib/stdlib" / f"{name}.mma").write_text(text)
    return folder
