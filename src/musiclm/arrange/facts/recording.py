"""What the renderer did to a window that a listener can hear: its room, filter, ducking, the kind of sounds.

The setup a piece was rendered with is not stored; it follows from the score and from what the journal says was
installed. Where the journal is missing, or tells of another setup, nothing is known and nothing is said.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.render import effects, synth
from musiclm.arrange.render.render import FORMAT_VERSION, Setup, choose_setup
from musiclm.arrange.render.soundfonts import SOUNDFONTS
from musiclm.arrange.score import Score
from musiclm.arrange.timeline import DRUM_KEYS, Played

JOURNAL = "journal.jsonl"  # of a rendered corpus: a record per piece
REVERBERANT_S, REVERBERANT_WET = 1.0, 0.2  # a room that rings so long, and so loud against the dry sound
CAVERNOUS_S = 3.5
DRY_S, DRY_WET = 0.4, 0.12
SPRING_WET = 0.15
MUFFLED_HZ = 5600.0  # of a filter over everything
CLEAN_DRIVE = 0.1  # more saturation, of the mix or of an amplifier, is not clean
PUMP, LEAST_KICKS = 0.25, 6
LOUD_LUFS, QUIET_LUFS = -14.0, -24.0  # about a tenth of recordings is louder, a quarter softer


def read_journal(corpus_dir: Path) -> dict[str, dict[str, Any]]:
    """Records of a corpus's journal by track; none without a journal. Lines cut short are passed over."""
    path = Path(corpus_dir) / JOURNAL
    records = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
            records[record["id"]] = record
        except (ValueError, KeyError, TypeError):
            continue
    return records


def setup_of(score: Score, record: dict[str, Any]) -> Setup | None:
    """What a piece was rendered with, by its line in the journal. None if that can't be told for certain."""
    known = {font.package: font for font in SOUNDFONTS}
    try:
        version, _, packages, renderers, *_ = record["stamp"].split(":")
        setup = choose_setup(score, [known[package] for package in packages.split(",")], renderers.split(","))
        same = (setup.soundfont.package, setup.renderer) == (record["soundfont"], record["renderer"])
    except (KeyError, ValueError):
        return None
    return setup if same and version == str(FORMAT_VERSION) else None


def sound_of(setup: Setup, audible: Sequence[Played], lufs: float | None = None) -> tuple[str, ...]:
    """Names of the rules `fact:...` that hold of the sound of a window in which these parts are audible; lufs: how loud
    it was measured to be.
    """
    sound, chip = setup.sound, setup.soundfont.is_chip
    decay_s = effects.ROOMS[sound.room][0]
    into_room = [part for part in audible if not part.is_drums and part.part.role != "bass"]  # others hardly reach it
    drive = max((INSTRUMENTS[part.part.instrument].drive for part in audible), default=0.0)
    kicks = sum(
        int(np.isin(part.pitch, list(DRUM_KEYS["kick"])).sum())
        for part in audible
        if part.is_kit and part.part.role == "drums"
    )
    filtered = sound.cut_hz is not None
    found = {
        "mono": True,
        "no audience": True,
        "clean": not filtered and not chip and max(sound.drive, drive) <= CLEAN_DRIVE,
        "reverberant": decay_s >= REVERBERANT_S and sound.wet >= REVERBERANT_WET and bool(into_room),
        "cavernous": decay_s >= CAVERNOUS_S and sound.wet >= REVERBERANT_WET and bool(into_room),
        "spring": sound.room == "spring" and sound.wet >= SPRING_WET and bool(into_room),
        "dry": decay_s <= DRY_S and sound.wet <= DRY_WET,
        "muffled": sound.cut_hz is not None and sound.cut_hz <= MUFFLED_HZ,
        "chip": chip,
        "sampled": not chip and not any(setup.synth and synth.can_play(part.part.instrument) for part in audible),
        "loud": lufs is not None and lufs >= LOUD_LUFS,
        "quiet": lufs is not None and lufs <= QUIET_LUFS,
        "pumping": sound.pump >= PUMP and kicks >= LEAST_KICKS and bool(into_room),
    }
    return tuple(name for name, holds in found.items() if holds)
