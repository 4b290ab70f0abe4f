"""`musiclm corpus melodies`: the same melody in several sounds, registers, tempi and accompaniments, any number of them
(MusicLM, section 3.4, takes covers, hums and renditions that people made).

A melody is the best passage of a piece that the arranger made. Its renditions differ in all that a melody encoder must
not hear: who plays or sings it (`render.voice` hums, sings and whistles), the octave, the tempo by up to six percent,
and what sounds beside it. That is the piece's own accompaniment, another one over the same chords, one over other
chords, or nothing: harmony alone must not tell which melody it is.

Melody NUMBER depends on the seed and its number alone: more of them with the same seed change none.
"""

import concurrent.futures
import json
import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.progress import track as progress_of

from musiclm.arrange.compose.arrange import arrange
from musiclm.arrange.instruments import INSTRUMENTS
from musiclm.arrange.render import effects, synth
from musiclm.arrange.render.render import channel
from musiclm.arrange.render.soundfonts import FOLDERS, Soundfont, check_renderers, find_soundfonts, render_stems
from musiclm.arrange.render.voice import MANNERS, RANGES, Sung, draw_singer, perform
from musiclm.arrange.score import Note, Part, Role, Score
from musiclm.arrange.styles import STYLES
from musiclm.arrange.timeline import to_seconds
from musiclm.core.artifact import write_atomic
from musiclm.core.audio import SAMPLE_RATE_HZ
from musiclm.core.output import replacing
from musiclm.core.unicode import name_bytes
from musiclm.core.workers import pool
from musiclm.data.corpus.build import locked
from musiclm.data.corpus.manifest import CorpusError, Split
from musiclm.data.corpus.melodies import LIST_FILE, SETTINGS_FILE, Rendition, rendition_of, save_renditions

FORMAT = 1  # raise when the same seed would sound different
EXCERPT_S = 12.0  # of a melody as written
TAIL_S = 1.0
TEMPO = 0.06  # tempi lie within this share of the one written
MIN_NOTES, MIN_SHARE = 12, 0.5  # that an excerpt must have, and of its time that they must fill
_ROOMS = ("dry", "studio", "chamber", "hall", "club")
_BACKINGS = ("own", "chords", "other chords", "none")

Audio = np.ndarray


@dataclass(frozen=True, kw_only=True)
class MelodyJob:
    """All that decides what a melody sounds like, but its number."""

    seed: int
    out: Path
    renditions: int  # of each melody; every third one is a voice
    soundfonts: tuple[Soundfont, ...]

    @property
    def settings(self) -> dict[str, Any]:
        fonts = [f"{font.package}: {font.licence}" for font in self.soundfonts]
        return {"format": FORMAT, "seed": self.seed, "renditions": self.renditions, "soundfonts": fonts}


@dataclass(frozen=True)
class Plan:
    """A rendition before it sounds. Notes are in seconds: a quarter note of its parts is one."""

    sound: str
    backing: str
    octave: int
    tempo: float
    melody: tuple[Note, ...]
    parts: tuple[Part, ...]  # of the accompaniment


def split_of(number: int) -> Split:
    """Of ten melodies one is to test on, one to validate on."""
    return "test" if number % 10 == 9 else "validation" if number % 10 == 8 else "train"


def render_melodies(
    num: int,
    seed: int,
    out: Path,
    renditions: int = 6,
    jobs: int = 1,
    soundfont_folders: Sequence[Path] = FOLDERS,
    progress: bool = True,
) -> list[Rendition]:
    """Renders (or goes on rendering) melodies 0 to `num` - 1 into `out`; returns the whole list.

    Raises: CorpusError for settings that make no sense or differ from those of what is there, RenderError if a
    soundfont or fluidsynth is missing (it names the package).
    """
    for name, value, low, high in (("--num", num, 1, 1_000_000), ("--renditions", renditions, 2, 100)):
        if not low <= value <= high:
            raise CorpusError(f"{name} is {value}; it must lie between {low} and {high}")
    check_renderers(["fluidsynth"])
    out = Path(out)
    job = MelodyJob(seed=seed, out=out, renditions=renditions, soundfonts=tuple(find_soundfonts(soundfont_folders)))
    with locked(out, "--out"):
        _check_settings(job)
        (out / "audio").mkdir(exist_ok=True)
        done = _finished(job)
        missing = [number for number in range(num) if number not in done]
        with open(out / LIST_FILE, "ab", buffering=0) as journal, closing(_make_all(missing, job, jobs)) as made:
            journal.write(b"\n" if done else b"")  # ends a line that a kill may have cut
            for found in progress_of(made, "melodies", total=len(missing), disable=not progress):
                journal.write("".join(json.dumps(asdict(one)) + "\n" for one in found).encode())
                done[found[0].melody] = found
        kept = [one for number in sorted(done) for one in done[number]]
        save_renditions(out, kept)
    return kept


def _check_settings(job: MelodyJob) -> None:
    path = job.out / SETTINGS_FILE
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except json.JSONDecodeError:
            before = None
        if not isinstance(before, dict):
            raise CorpusError(f"{path}: is damaged; choose another --out")
        for name, value in job.settings.items():
            if (there := before.get(name)) != value:
                raise CorpusError(
                    f"{job.out}: holds melodies made with {name} {there}, and {value} is asked for; ask for the same "
                    "or choose another --out"
                )
    elif (job.out / "manifest.jsonl").exists():
        raise CorpusError(f"{job.out}: holds a corpus; choose another --out")
    else:
        write_atomic(path, json.dumps(job.settings, indent=1) + "\n")


def _finished(job: MelodyJob) -> dict[int, list[Rendition]]:
    """Melodies that are there with all their renditions; lines cut short by a kill are ignored."""
    path = job.out / LIST_FILE
    found: dict[int, list[Rendition]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            one = rendition_of(line)
        except (ValueError, TypeError, KeyError):
            continue
        if (job.out / one.path).is_file():
            found.setdefault(one.melody, []).append(one)
    return {number: some for number, some in found.items() if len(some) == job.renditions}


def _make_all(numbers: Sequence[int], job: MelodyJob, jobs: int) -> Generator[list[Rendition], None, None]:
    if jobs == 1 or len(numbers) < 2:
        yield from (make_melody(number, job) for number in numbers)
        return
    with pool(jobs) as processes:
        for future in concurrent.futures.as_completed([processes.submit(make_melody, n, job) for n in numbers]):
            yield future.result()


def make_melody(number: int, job: MelodyJob) -> list[Rendition]:
    """Composes a melody, renders and writes its renditions."""
    rng = random.Random(f"melodies/{job.seed}/{number}")
    split = split_of(number)
    score, start_s = _excerpt(rng)
    plans = [_plan(score, start_s, index, rng) for index in range(job.renditions)]
    fonts = _fonts(plans, split, job.soundfonts, rng)
    found = []
    for index, (plan, (melody, backing)) in enumerate(zip(plans, _sound(plans, fonts, rng), strict=True)):
        path = f"audio/{number:06d}-{index}.flac"
        peak = max(1e-6, float(np.abs(melody).max()), float(np.abs(backing).max()))
        samples = np.rint(np.stack([melody, backing], 1) * (0.9 / peak) * 32767).astype(np.int16)
        try:
            with replacing(job.out / path) as temporary:
                soundfile.write(name_bytes(temporary), samples, SAMPLE_RATE_HZ, "PCM_16", format="FLAC")
        except (OSError, soundfile.LibsndfileError) as error:
            raise CorpusError(f"{job.out}: can't be written ({error}); make room or choose another --out") from error
        notes = tuple((round(note.start, 3), round(note.start + note.duration, 3), note.pitch) for note in plan.melody)
        found.append(
            Rendition(
                melody=number,
                split=split,
                path=path,
                sound=plan.sound,
                backing=plan.backing,
                octave=plan.octave,
                tempo=plan.tempo,
                seconds=len(samples) / SAMPLE_RATE_HZ,
                notes=notes,
            )
        )
    return found


def _excerpt(rng: random.Random) -> tuple[Score, float]:
    """A piece, and where in it, in seconds, the passage with most of a melody begins."""
    tuneful = sorted(name for name, style in STYLES.items() if any(line.role == "melody" for line in style.lines))
    while True:
        score = arrange(rng.choice(tuneful), rng.randrange(2**31))
        notes = sorted((note for part in score.parts if part.role == "melody" for note in part.notes), key=_start)
        if len(notes) < MIN_NOTES:
            continue
        starts = to_seconds(score, np.array([note.start for note in notes]))
        held = np.cumsum([0.0, *(note.duration * 60 / score.tempo_bpm for note in notes)])
        until = np.searchsorted(starts, starts + EXCERPT_S)
        shares = (held[until] - held[: len(notes)]) / EXCERPT_S
        best = int(shares.argmax())
        if until[best] - best >= MIN_NOTES and shares[best] >= MIN_SHARE:
            return score, float(starts[best]) - 0.1


def _start(note: Note) -> float:
    return note.start


def _plan(score: Score, start_s: float, index: int, rng: random.Random) -> Plan:
    tempo = round(1 + rng.uniform(-TEMPO, TEMPO), 3)
    written = [note for part in score.parts if part.role == "melody" for note in part.notes]
    notes = _cut(score, written, start_s, tempo)
    sound: str = rng.choice(MANNERS)
    if index % 3 == 0:
        low, high = RANGES[sound]  # type: ignore[index]
    else:
        sound = rng.choice(
            [name for name, one in INSTRUMENTS.items() if "melody" in one.roles and one.family != "bass"]
        )
        low, high = INSTRUMENTS[sound].low, INSTRUMENTS[sound].high
    octave = _octave(notes, low, high, rng)
    melody = tuple(replace(note, pitch=min(115, max(24, note.pitch + 12 * octave))) for note in notes)
    backing = rng.choice(_BACKINGS) if index % 3 else rng.choice(("none", *_BACKINGS))
    parts = {"own": _own, "chords": _chords, "other chords": _other_chords}
    backs = parts[backing](score, start_s, tempo, rng) if backing != "none" else ()
    return Plan(sound, backing, octave, tempo, melody, tuple(part for part in backs if part.notes))


def _cut(score: Score, notes: Sequence[Note], start_s: float, tempo: float) -> list[Note]:
    """Notes that begin in the excerpt, in seconds of the rendition."""
    found = []
    for note in notes:
        begins = score.seconds_at(note.start) - start_s
        if 0 <= begins < EXCERPT_S:
            ends = min(EXCERPT_S, score.seconds_at(note.start + note.duration) - start_s)
            found.append(Note(begins / tempo, max(0.03, (ends - begins) / tempo), note.pitch, note.velocity))
    return found


def _octave(notes: Sequence[Note], low: int, high: int, rng: random.Random) -> int:
    """One in which the notes lie within a range; where none does, the nearest."""
    lowest, highest = min(note.pitch for note in notes), max(note.pitch for note in notes)
    fitting = [shift for shift in range(-4, 5) if low <= lowest + 12 * shift and highest + 12 * shift <= high]
    return rng.choice(fitting) if fitting else round(((low + high) - (lowest + highest)) / 24)


def _own(score: Score, start_s: float, tempo: float, rng: random.Random) -> list[Part]:
    """Up to three of the piece's other parts, half of them by somebody else."""
    others = [part for part in score.parts if part.role not in ("melody", "countermelody", "effects")]
    chosen = rng.sample(others, min(len(others), rng.randint(1, 3)))
    return [
        replace(
            part,
            notes=tuple(_cut(score, part.notes, start_s, tempo)),
            instrument=part.instrument if rng.random() < 0.5 else _other_player(part.role, part.instrument, rng),
        )
        for part in chosen
    ]


def _other_player(role: Role, instrument: str, rng: random.Random) -> str:
    family = INSTRUMENTS[instrument].family
    if family in ("drums", "percussion"):
        return instrument
    return rng.choice(
        [name for name, one in INSTRUMENTS.items() if role in one.roles and not one.on_drum_channel] or [instrument]
    )


def _chords(score: Score, start_s: float, tempo: float, rng: random.Random) -> list[Part]:
    """Other players over the piece's chords."""
    harmony = []
    for chord in score.chords:
        begins, ends = (score.seconds_at(at) - start_s for at in (chord.start, chord.start + chord.duration))
        begins, ends = max(0.0, begins), min(EXCERPT_S, ends)
        if ends - begins > 0.1:
            triad = (
                (0, 3, 7)
                if chord.quality.startswith(("m", "dim")) and not chord.quality.startswith("maj")
                else (0, 4, 7)
            )
            harmony.append((begins / tempo, ends / tempo, [(chord.root + step) % 12 for step in triad]))
    return _players(score, harmony, start_s, tempo, rng)


def _other_chords(score: Score, start_s: float, tempo: float, rng: random.Random) -> list[Part]:
    """Other players over other chords: for each two seconds or so a triad of the key that holds the longest note."""
    melody = _cut(score, [note for part in score.parts if part.role == "melody" for note in part.notes], start_s, tempo)
    steps = (0, 2, 4, 5, 7, 9, 11) if score.mode in ("major", "lydian", "mixolydian") else (0, 2, 3, 5, 7, 8, 10)
    scale = [(score.tonic + step) % 12 for step in steps]
    triads = [[scale[(degree + third) % 7] for third in (0, 2, 4)] for degree in range(7)]
    length = 60 / (score.tempo_bpm * tempo) * rng.choice((2, 4))
    harmony, at = [], 0.0
    while at < EXCERPT_S / tempo:
        weights = [0.0] * 12
        for note in melody:
            weights[note.pitch % 12] += max(0.0, min(at + length, note.start + note.duration) - max(at, note.start))
        longest = max(range(12), key=weights.__getitem__)
        options = [triad for triad in triads if longest in triad] or triads
        harmony.append((at, min(at + length, EXCERPT_S / tempo), rng.choice(options)))
        at += length
    return _players(score, harmony, start_s, tempo, rng)


def _players(
    score: Score,
    harmony: Sequence[tuple[float, float, list[int]]],
    start_s: float,
    tempo: float,
    rng: random.Random,
) -> list[Part]:
    """Chords held, struck or broken, perhaps with a bass and the piece's drums."""
    beat = 60 / (score.tempo_bpm * tempo)
    role: Role = rng.choice(("pad", "chords", "arpeggio"))
    lowest = rng.choice((48, 55, 60))
    notes, bass = [], []
    for begins, ends, classes in harmony:
        voicing = sorted(lowest + (pitch - lowest) % 12 for pitch in classes)
        bass.append(Note(begins, ends - begins, 36 + classes[0], 90))
        at, step = begins, beat / rng.choice((1, 2))
        if role == "pad":
            notes += [Note(begins, ends - begins, pitch, 80) for pitch in voicing]
            continue
        while at < ends - 0.05:
            for pitch in voicing if role == "chords" else [voicing[round((at - begins) / step) % 3]]:
                notes.append(Note(at, min(step * 0.9, ends - at), pitch, rng.randint(60, 100)))
            at += step
    parts = [Part(role=role, instrument=_other_player(role, "piano", rng), notes=tuple(notes))]
    if rng.random() < 0.6:
        parts.append(Part(role="bass", instrument=_other_player("bass", "double bass", rng), notes=tuple(bass)))
    drums = [part for part in score.parts if part.role in ("drums", "percussion")]
    if drums and rng.random() < 0.5:
        part = rng.choice(drums)
        parts.append(replace(part, notes=tuple(_cut(score, part.notes, start_s, tempo))))
    return parts


def _fonts(plans: Sequence[Plan], split: Split, soundfonts: Sequence[Soundfont], rng: random.Random) -> list[Soundfont]:
    """One for each rendition. What is tested on is played by held-out soundfonts too, if there are any."""
    held_out = [font for font in soundfonts if font.held_out]
    trained = [font for font in soundfonts if not font.held_out]
    found = []
    for index, plan in enumerate(plans):
        fonts = held_out if split == "test" and held_out and index % 2 else trained
        parts = plan.parts if plan.sound in MANNERS else (*plan.parts, _lead(plan))
        able = [font for font in fonts if font.can_play(_carrier(parts))] or fonts
        # sf3 is unpacked anew by each process that plays it, which takes ten times as long as to play
        weights = [font.weight * (0.1 if font.file.endswith(".sf3") else 1.0) for font in able]
        found.append(rng.choices(able, weights)[0])
    return found


def _lead(plan: Plan) -> Part:
    return Part(role="melody", instrument=plan.sound, notes=plan.melody)


def _carrier(parts: Sequence[Part]) -> Score:
    """Parts in seconds, as a score at 60 quarters a minute."""
    return Score(
        style="melodies",
        seed=0,
        tempo_bpm=60.0,
        duration=EXCERPT_S * (1 + TEMPO),
        parts=tuple(parts),
        sections=(),
        chords=(),
    )


def _sound(plans: Sequence[Plan], fonts: Sequence[Soundfont], rng: random.Random) -> Iterator[tuple[Audio, Audio]]:
    """Melody and accompaniment of each rendition, equally long. A soundfont is loaded once for all it plays."""
    longest = round((EXCERPT_S / (1 - TEMPO) + TAIL_S) * SAMPLE_RATE_HZ)
    wanted: dict[str, list[tuple[int, Part]]] = {}
    stems: dict[int, list[tuple[Part, Audio]]] = {index: [] for index in range(len(plans))}
    for index, plan in enumerate(plans):
        if plan.sound in MANNERS:
            sung = [Sung(note.start, note.start + note.duration, note.pitch) for note in plan.melody]
            singer = draw_singer(plan.sound, rng)  # type: ignore[arg-type]
            voice = Part(role="melody", instrument="choir", notes=plan.melody)
            stems[index].append((voice, perform(sung, singer, longest, rng)))
        for part in plan.parts if plan.sound in MANNERS else (*plan.parts, _lead(plan)):
            if synth.can_play(part.instrument) and rng.random() < 0.7:
                score = replace(_carrier([part]), seed=rng.randrange(2**31))
                stems[index].append((part, synth.play(score, part, longest)))
            else:
                wanted.setdefault(str(fonts[index].path), []).append((index, part))
    for path, played in wanted.items():
        score = _carrier([part for _, part in played])
        rendered = render_stems(score, Path(path), "fluidsynth", longest)
        for (index, part), stem in zip(played, rendered, strict=True):
            stems[index].append((part, stem))
    for index, plan in enumerate(plans):
        length = round((EXCERPT_S / plan.tempo + TAIL_S) * SAMPLE_RATE_HZ)
        room, wet, seed = rng.choice(_ROOMS), rng.choice((0.0, rng.uniform(0, 0.4))), rng.randrange(4)
        sides = []
        for lead in (True, False):
            total = np.zeros(length, np.float32)
            for part, stem in stems[index]:
                if (part.role == "melody") == lead:
                    total += channel(part, stem[:length])
            if wet:
                total = total + np.float32(wet) * effects.add_room(total, room, seed)  # type: ignore[arg-type]
            sides.append(total)
        yield sides[0], sides[1]
