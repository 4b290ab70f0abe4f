"""A score as a standard MIDI file: a track a part, with tempo, metre, key and section names."""

from pathlib import Path
from typing import Any

from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.packages import need
from musiclm.arrange.score import Score

TICKS = 480  # a quarter
_DRUM_CHANNEL = 9


def save_midi(score: Score, path: Path) -> None:
    """Raises: ImportError, in one line, if the package mido is missing."""
    mido = need("mido")
    numerator, denominator = score.beats_per_bar, score.beat_unit
    head: list[tuple[int, Any]] = [
        (0, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)),
        (0, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(score.tempo_bpm))),
    ]
    for place, bpm in score.tempo_changes:
        head.append((_ticks(place), mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm))))
    for section in score.sections:
        head.append((_ticks(section.start), mido.MetaMessage("marker", text=section.name)))
    tracks = [_track(mido, head)]
    tuned = [channel for channel in range(16) if channel != _DRUM_CHANNEL]
    for index, part in enumerate(score.parts):
        instrument = INSTRUMENTS[part.instrument]
        channel = _DRUM_CHANNEL if instrument.on_drum_channel else tuned[index % len(tuned)]
        events: list[tuple[int, Any]] = [
            (0, mido.MetaMessage("track_name", name=f"{part.role}: {part.instrument}")),
            (0, mido.Message("program_change", channel=channel, program=instrument.program)),
        ]
        for note in part.notes:
            on = mido.Message("note_on", channel=channel, note=note.pitch, velocity=note.velocity)
            events.append((_ticks(note.start), on))
            end = max(_ticks(note.start) + 1, _ticks(note.start + note.duration))
            events.append((end, mido.Message("note_off", channel=channel, note=note.pitch)))
        tracks.append(_track(mido, events))
    mido.MidiFile(tracks=tracks, ticks_per_beat=TICKS).save(path)


def _ticks(quarters: float) -> int:
    return round(quarters * TICKS)


def _track(mido: Any, events: list[tuple[int, Any]]) -> Any:
    track = mido.MidiTrack()
    now = 0
    for at, message in sorted(events, key=lambda event: (event[0], event[1].type == "note_on")):
        track.append(message.copy(time=at - now))
        now = at
    return track
