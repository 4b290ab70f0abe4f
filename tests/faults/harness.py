"""Commands on a toy corpus, disturbed and then begun again: the result must be that of a run that was never disturbed.

A reference run of each command comes first; trials begin with a copy of what there was before it. Results are compared
file by file, hidden ones too, without what may differ between any two runs: times, dates and the revision.
"""

import contextlib
import hashlib
import json
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.faults.inject import set_times
from tests.forked import Ended, Server
from tests.models.mulan.test_text import bert_folder

NUM_PIECES = 10  # as few as give two to validation and two to test
# what a command needs and the package imports only there; imported once for all
PRELOAD = (
    *(
        "tests.evaluate.test_run",
        "pydantic.json_schema",
        "pydantic.type_adapter",
        "musiclm.listen.tagger",
        "musiclm.data.labels",
        "musiclm.evaluate.report",
    ),
    *("torch._dynamo", "torch.utils.tensorboard", "scipy.signal", "scipy.stats", "librosa", "matplotlib.pyplot"),
    "tests.faults.warm",
)
SMALL = {"label": [{"kind": "no_tagger"}], "evaluate": [{"kind": "small_evaluation"}]}
LOOP = {"steps": 4, "warmup_steps": 2, "validate_every": 3, "save_every": 2, "log_every": 2}
TRAINED = {  # settings beside LOOP
    "soundstream": "train.batch_size=2 task.quantize_from_step=1 task.kmeans_batches=2 task.eval_clips=2",
    "w2vbert": "train.batch_size=2 task.num_fit_clips=4 task.crop_s=2.0",
    "mulan": (
        "train.batch_size=4 task.text_from=bert task.model.text.width=32 task.model.text.num_layers=2 "
        "task.model.text.num_heads=2 task.model.text.feed_forward=64 task.model.text_hidden=32 "
        "task.model.memory_size=16"
    ),
    "semantic": "train.batch_size=2",
    "storm": "train.batch_size=2",
    "coarse": "train.batch_size=2",
    "fine": "train.batch_size=2",
    "soundstream-decoder": "train.batch_size=2 task.eval_clips=2 task.adversary_from_step=2",
    "mulan-text": "train.batch_size=4",
}
SIDES = ("soundstream-decoder", "mulan-text")


def piece(number: int) -> np.ndarray:
    """Three seconds of chords, no two pieces alike."""
    draw, time_s = np.random.default_rng(number), np.arange(3 * 24000) / 24000
    tones = [np.sin(2 * np.pi * hz * time_s) for hz in draw.uniform(100, 2000, 4)]
    envelope = np.exp(-((time_s * draw.uniform(1, 4)) % 1) * 3)
    return 0.15 * envelope * np.sum(tones, 0) + 0.005 * draw.standard_normal(time_s.size)


def train_words(stage: str) -> str:
    settings = [f"train.{name}={value}" for name, value in LOOP.items()] + TRAINED[stage].split()
    start = " --from bundle" if stage in SIDES else ""
    runs = "sides" if stage in SIDES else "runs"
    return f"train {stage} --preset tiny --data corpus --runs {runs}{start} " + " ".join(
        f"--set {stage}.{setting}" for setting in settings
    )


# in their order: each finds what those before it made
COMMANDS: dict[str, str] = {
    "build": "corpus build music --out corpus --jobs 1 --no-progress",
    "label": "label corpus",
    **{stage: train_words(stage) for stage in ("soundstream", "w2vbert", "mulan")},
    "tokenize": "tokenize --data corpus --runs runs --speed 0.9 --speed 1.1",
    **{stage: train_words(stage) for stage in ("semantic", "storm", "coarse", "fine")},
    "bundle": "bundle --runs runs --out bundle --name toy",
    **{stage: train_words(stage) for stage in SIDES},
    "evaluate": "evaluate bundle --report report --data corpus --prompts prompts.csv --quick --embedder nowhere/none",
}
# who reads what a command made, beside the same command begun again
READERS: dict[str, tuple[str, ...]] = {
    "build": ("label", "soundstream", "w2vbert", "tokenize"),
    "label": ("label",),  # half of the labels are labels too: MuLan may learn from what is there
    "soundstream": ("tokenize", "bundle"),
    "w2vbert": ("tokenize", "bundle"),
    "mulan": ("tokenize", "bundle"),
    "tokenize": ("semantic", "storm", "coarse", "fine", "tokenize"),
    "semantic": ("bundle",),
    "storm": ("bundle",),
    "coarse": ("bundle",),
    "fine": ("bundle",),
    "bundle": ("evaluate", *SIDES),
    "evaluate": ("evaluate",),
}
TRAININGS = tuple(TRAINED)


@dataclass
class Outcome:
    """What one trial came to."""

    command: str
    fault: str
    result: str  # "same"; "one line", then the same; "untouched", if the fault did not come to pass; else what is wrong
    kills: int = 0
    told: str = ""

    @property
    def good(self) -> bool:
        return self.result in ("same", "one line", "untouched")


@dataclass
class Reference:
    """A command that nothing disturbed."""

    before: Path
    after: Path
    files: dict[str, str]  # path -> digest
    events: list[str]
    seconds: float
    largest: int  # bytes of its largest new file
    grown: int  # bytes that it added


def digest_of(path: Path) -> str:
    """Of what a file holds, but for times, dates and the revision."""
    data = path.read_bytes()
    if path.suffix == ".safetensors" and len(data) > 8:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        told = header.get("__metadata__", {})
        if "run" in told:
            told["run"] = {name: value for name, value in json.loads(told["run"]).items() if name != "seconds"}
        data = json.dumps(header, sort_keys=True).encode() + data[8 + size :]
    elif path.name == "journal.jsonl":  # in the order of finishing; the last line of an original holds
        lines = [json.loads(line) for line in data.splitlines() if line.strip()]
        data = json.dumps(sorted({line["key"]: line["id"] for line in lines}.items())).encode()
    elif path.suffix in (".json", ".jsonl"):
        lines = [data] if path.suffix == ".json" else data.splitlines()
        data = json.dumps([timeless(json.loads(line)) for line in lines], sort_keys=True).encode()
    elif path.suffix in (".html", ".md"):
        data = re.sub(rb"revision \S+ ?\S*|\d{4}-\d\d-\d\d|\d+ min", b"", data)
    elif path.suffix == ".npz":  # a zip, with dates
        with np.load(path) as arrays:
            data = b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays))
    return hashlib.sha256(data).hexdigest()[:16]


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        inside = {key: timeless(one) for key, one in value.items() if key not in ("git_revision", "date")}
        if "step" in inside:  # of a training: how long it took
            inside.pop("seconds", None)
        return inside
    return [timeless(one) for one in value] if isinstance(value, list) else value


def digests(folder: Path) -> dict[str, str]:
    """Of every file but curves for TensorBoard, which are a log by the clock, and locks, which are empty."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "tensorboard" not in path.parts and path.name != ".lock":
            try:
                found[name] = digest_of(path)
            except (ValueError, KeyError, EOFError) as error:
                found[name] = f"damaged: {type(error).__name__}"
    return found


def difference(one: dict[str, str], other: dict[str, str]) -> str:
    """Names of files that are not the same in both, or ""."""
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    marks = [f"{'-' if name not in other else '+' if name not in one else '!'}{name}" for name in names]
    return " ".join(marks[:6]) + (f" and {len(marks) - 6} more" if len(marks) > 6 else "")


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def one_line(ended: Ended) -> str:
    """The line that says why a command ended with 1, or "" if it did not end so."""
    lines = ended.err.decode(errors="replace").strip().splitlines()
    if ended.code != 1 or not lines or not lines[-1].startswith("error: ") or "Traceback" in "".join(lines):
        return ""
    return lines[-1] if sum(line.startswith("error: ") for line in lines) == 1 else ""


@dataclass
class Harness:
    """Trials in a folder of its own."""

    server: Server
    folder: Path
    random: random.Random
    commands: dict[str, str] = field(default_factory=lambda: dict(COMMANDS))
    references: dict[str, Reference] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    say: Any = print

    def __post_init__(self) -> None:
        self.server.run("--version", cwd=self.folder)  # it begins when it has imported everything
        begin = self.folder / "begin" / "music"
        begin.mkdir(parents=True)
        for number in range(NUM_PIECES):
            soundfile.write(begin / f"piece{number}.wav", piece(number), 24000)
        prompts = "prompt,concepts\ncalm piano,calm\nheavy metal with drums,metal;drums\njazz,jazz\n"
        (begin.parent / "prompts.csv").write_text(prompts)
        if "mulan" in self.commands:
            bert_folder(begin.parent / "bert", head=False)
        self.last = begin.parent

    def run(self, command: str, work: Path, faults: list[dict[str, Any]] | None = None, **more: Any) -> Ended:
        every = [*SMALL.get(command, []), *(faults or [])]
        return self.server.run(*self.commands[command].split(), cwd=work, faults=every, **more)

    def reference(self, command: str) -> Reference:
        """The command undisturbed, after all those before it in `commands`."""
        for name in self.commands:
            if name not in self.references:
                after, log = self.folder / f"after-{name}", self.folder / f"{name}.events"
                with self.trial(self.last) as work:  # a journal names its sources by their folder
                    started = time.monotonic()
                    ended = self.run(
                        name,
                        work,
                        [{"kind": "file_events", "log": str(log)}],
                    )
                    seconds = time.monotonic() - started
                    assert ended.code == 0, f"{name}: {ended.err.decode()}"
                    work.rename(after)
                events = log.read_text(errors="replace").splitlines() if log.exists() else []
                old, new = digests(self.last), digests(after)
                sizes = [(after / path).stat().st_size for path in new if old.get(path) != new[path]]
                grown = bytes_of(after) - bytes_of(self.last)
                self.references[name] = Reference(self.last, after, new, events, seconds, max(sizes), grown)
                self.say(f"{name}: undisturbed in {seconds:.1f} s, {len(events)} events, {len(sizes)} files")
                self.last = after
            if name == command:
                break
        return self.references[command]

    @contextlib.contextmanager
    def trial(self, source: Path) -> Iterator[Path]:
        work = self.folder / "trial"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source, work)
        yield work
        shutil.rmtree(work, ignore_errors=True)

    def note(self, outcome: Outcome) -> Outcome:
        self.outcomes.append(outcome)
        if not outcome.good:
            self.say(f"BAD {outcome}")
        return outcome

    def finish(self, command: str, work: Path) -> str:
        """Runs the command to its end: "same", or what is wrong."""
        ended = self.run(command, work)
        if ended.code != 0:
            return f"ended with {ended.code}: {ended.err.decode(errors='replace')[-600:]}"
        found = difference(self.references[command].files, digests(work))
        return f"differs: {found}" if found else "same"

    def undisturbed(self, command: str) -> Outcome:
        """A second run gives the same: else no comparison says anything."""
        with self.trial(self.reference(command).before) as work:
            return self.note(Outcome(command, "none", self.finish(command, work)))

    def kill(self, command: str, moments: list[int | float]) -> Outcome:
        """Killed some times in a row, then left in peace.

        moments: before the n-th file event (int), or after so many seconds (float).
        """
        reference, kills, hit = self.reference(command), 0, []
        with self.trial(reference.before) as work:
            for moment in moments:
                if isinstance(moment, int):
                    ended = self.run(command, work, [{"kind": "file_events", "kill_at": moment}])
                else:
                    ended = self.run(command, work, kill_after_s=moment)
                if ended.code == -9:
                    kills += 1
                    hit.append(f"{moment}" if isinstance(moment, int) else f"{moment:.2f} s")
                elif ended.code != 0:
                    told = ended.err.decode(errors="replace")[-600:]
                    return self.note(
                        Outcome(command, "kill", f"after a kill it ended with {ended.code}: {told}", kills)
                    )
            result = self.finish(command, work)
        fault = "kill at a file" if isinstance(moments[0], int) else "kill at a time"
        return self.note(Outcome(command, fault, result if kills or result != "same" else "untouched", kills, str(hit)))

    def draw_moments(self, command: str, aimed: bool) -> list[int | float]:
        reference = self.reference(command)
        num = self.random.choice((1, 1, 2, 3, 4))
        if aimed:
            return [self.random.randint(1, len(reference.events)) for _ in range(num)]
        return [self.random.uniform(0, reference.seconds) for _ in range(num)]

    def stopped_by(
        self, command: str, fault: str, faults: list[dict[str, Any]] | None = None, needle: str = "", **more: Any
    ) -> Outcome:
        """A fault that ends the command with one line, or leaves it alone; then the same command without it."""
        with self.trial(self.reference(command).before) as work:
            ended = self.run(command, work, faults, **more)
            return self.note(self.judged(command, fault, work, ended, needle))

    def judged(self, command: str, fault: str, work: Path, ended: Ended, needle: str = "") -> Outcome:
        line = one_line(ended)
        if ended.code == 0:
            found = difference(self.references[command].files, digests(work))
            return Outcome(command, fault, f"differs: {found}" if found else "same")
        if not line or needle not in line:
            return Outcome(command, fault, f"ended with {ended.code}: {ended.err.decode(errors='replace')[-900:]}")
        result = self.finish(command, work)
        return Outcome(command, fault, "one line" if result == "same" else result, told=line)

    def full_disk_by_limit(self, command: str) -> Outcome:
        """No file may grow past a limit: as a disk that is full at that byte of a file."""
        limit = self.random.randint(1, self.reference(command).largest)
        return self.stopped_by(command, "disk full (limit)", file_limit=limit)

    def full_disk(self, command: str) -> Outcome | None:
        """A disk that is full at some point of the command's work. None where no file system can be mounted."""
        reference = self.reference(command)
        work = self.folder / "trial"
        work.mkdir(exist_ok=True)
        with mounted(work) as resize:
            if resize is None:
                work.rmdir()
                return None
            shutil.copytree(reference.before, work, dirs_exist_ok=True)
            used = shutil.disk_usage(work).used
            resize(used + round(self.random.uniform(0, 1) * reference.grown))
            ended = self.run(command, work)
            resize(1 << 30)
            return self.note(self.judged(command, "disk full (file system)", work, ended))

    def torn(self, maker: str, reader: str, name: str) -> Outcome:
        """A file that `maker` made ends somewhere in the middle when `reader` comes.

        It says which file to delete, and both commands then make what they would have made; or it does not mind.
        """
        self.reference(maker)
        wanted = self.reference(reader)
        source = wanted.after if reader == maker else wanted.before
        with self.trial(source) as work:
            path = work / name
            size = path.stat().st_size
            keep = self.random.choice((0, self.random.randrange(size), size - 1))
            with open(path, "r+b") as file:
                file.truncate(keep)
            fault = f"torn {kind_of(name)}"
            ended = self.run(reader, work)
            told = f"{name} cut to {keep} of {size} bytes"
            if ended.code == 0:
                found = difference(wanted.files, digests(work))
                if not found:
                    return self.note(Outcome(reader, fault, "same", told=told))
                if found == f"!{name}":  # it was not read: whoever reads it has to notice
                    return self.note(Outcome(reader, fault, "untouched", told=told))
                return self.note(Outcome(reader, fault, f"differs: {found}", told=told))
            line = one_line(ended)
            if not line:
                err = ended.err.decode(errors="replace")[-900:]
                return self.note(Outcome(reader, fault, f"ended with {ended.code}: {err}", told=told))
            if problem := follow(line, work):
                return self.note(Outcome(reader, fault, f"{problem}: {line}", told=told))
            again = self.run(maker, work)
            if again.code != 0:
                err = again.err.decode(errors="replace")[-900:]
                return self.note(Outcome(reader, fault, f"{maker} again: {again.code}: {err}", told=f"{told}; {line}"))
            result = self.finish(reader, work)
            result = "one line" if result == "same" else result
            return self.note(Outcome(reader, fault, result, told=f"{told}; {line}"))

    def not_a_number(self, command: str, of: str) -> Outcome:
        """Once: a memory error, a processor's slip. The same command then goes on."""
        step = self.random.randrange(LOOP["steps"])
        faults = [{"kind": "not_a_number", "step": step, "of": of}]
        return self.stopped_by(command, f"NaN in a {of}", faults, needle="finite" if of == "gradient" else "nan")

    def jumping_clock(self, command: str) -> Outcome:
        """Before and after a kill; files have times from the past and the future."""
        reference, seed = self.reference(command), self.random.randrange(1 << 30)
        clock = {"kind": "jumping_clock", "seed": seed}
        at = self.random.randint(1, len(reference.events))
        with self.trial(reference.before) as work:
            self.run(command, work, [clock, {"kind": "file_events", "kill_at": at}])
            set_times(work, seed)
            ended = self.run(command, work, [{**clock, "seed": seed + 1}])
            found = difference(reference.files, digests(work))
            result = f"ended with {ended.code}: {ended.err.decode()[-600:]}" if ended.code else found or "same"
        return self.note(Outcome(command, "clock that jumps", result, kills=1))


def kind_of(name: str) -> str:
    """A file's kind, for the table."""
    path = Path(name)
    for mark, kind in (("state", "checkpoint"), ("shard-", "shard"), ("model", "weights")):
        if path.name.startswith(mark):
            return kind
    return {".flac": "audio", ".npz": "cache", ".safetensors": "codebooks"}.get(path.suffix, path.suffix[1:])


def follow(line: str, work: Path) -> str:
    """Does what an error says to delete; what is wrong with that, or ""."""
    found = re.search(r"delete (\S+?)[,;.]?(?: |$)", line)
    if found is None:
        return "" if "again" in line else "no remedy in the line"
    named = found[1]
    if named in ("it", "the"):
        paths = [word.strip(":,;") for word in line.split() if "/" in word]
        named = paths[0] if paths else ""
    path = work / named
    if not named or not path.exists():
        return f"{named!r} is not there to delete"
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return ""


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Any]:
    """A file system in memory at `folder`, and a function that sets its size; None where that is not allowed."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", str(folder)], capture_output=True)
    if made.returncode:
        yield None
        return

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={max(4096, size)}", str(folder)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def table(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """A row a command and fault: trials, kills and how they ended."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for one in outcomes:
        row = rows.setdefault((one.command, one.fault), Counter())
        row["trials"] += 1
        row["kills"] += one.kills
        row[one.result if one.good else "bad"] += 1
    names = ("trials", "kills", "same", "one line", "untouched", "bad")
    return [
        {"command": command, "fault": fault, **{name: row[name] for name in names}}
        for (command, fault), row in rows.items()
    ]
