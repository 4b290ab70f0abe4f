"""Mutation spot-check: breaks the package in many places, one at a time, and counts which breaks the tests notice.

    python benchmarks/mutations.py --out benchmarks/mutations.json --label after

Each mutation is a plausible mistake (an index, a sign, a term left out), written as the old text and the new. The
source is copied, the file that holds the old text is found by its name and the text, so that moved files are found too,
and the tests that ought to notice are run on the copy. A mutation survives where they all pass. `--tree` checks another
checkout.
"""

import argparse
import compileall
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 3600
# what tests import and mutations leave alone: once for all of them
PRELOAD = ("hypothesis", "scipy.signal", "scipy.stats", "soundfile", "torch")


@dataclass(frozen=True)
class Mutation:
    file: str  # name of the file
    old: str
    new: str
    tests: tuple[str, ...]  # ends of the paths of test files
    what: str  # what is wrong then


MUTATIONS = (
    Mutation(
        "features.py",
        "left = (n_fft - hop) // 2 if left is None",
        "left = n_fft // 2 if left is None",
        ("core/test_features.py",),
        "frames of the STFT are centred on the beginning of their hop, not on its middle",
    ),
    Mutation(
        "artifact.py",
        'return str(document["info"].get("codes_of", document["hash"]))',
        'return str(document["hash"])',
        ("core/test_artifact.py", "core/test_bundle.py", "train/test_finetune.py"),
        "an encoder changed without touching its codes no longer fits the language models trained on them",
    ),
    Mutation(
        "rvq.py",
        "distance = (flat - total - vectors).square().mean(1)",
        "distance = (flat - vectors).square().mean(1)",
        ("nn/test_rvq.py",),
        "the commitment loss of upper levels compares with the whole input, not with what is left of it",
    ),
    Mutation(
        "conformer.py",
        "hidden = hidden.masked_fill(~mask[..., None], 0.0)",
        "hidden = hidden.masked_fill(~mask[..., None], 1.0)",
        ("nn/test_conformer.py", "tests/test_streaming.py"),
        "padded frames enter the depthwise convolution",
    ),
    Mutation(
        "model.py",
        "part = slice(g, None, self.num_codebooks)",
        "part = slice(0, None, self.num_codebooks)",
        ("w2vbert/test_model.py",),
        "both codebooks of w2v-BERT's targets see the same components",
    ),
    Mutation(
        "task.py",
        "found.append((piece[:, None] == piece) | (text[:, None] == text))",
        "found.append(piece[:, None] == piece)",
        ("mulan/test_task.py",),
        "clips with the same caption are taken for negatives of one another",
    ),
    Mutation(
        "stages.py",
        "dtype=torch.float32) * (step / spec.levels)",
        "dtype=torch.float32) * step",
        ("lm/test_stages.py", "lm/test_model.py"),
        "positions of a condition of several levels run away from those of the target",
    ),
    Mutation(
        "task.py",
        "above = (level > own) & (frame >= masking.cut[:, None, None])",
        "above = level > own",
        ("storm/test_task.py",),
        "SoundStorm does not see the upper levels of its prompt in training",
    ),
    Mutation(
        "store.py",
        "last = math.floor(stop / self.clock_hz) - MULAN_WINDOW_S",
        "last = math.ceil(stop / self.clock_hz) - MULAN_WINDOW_S",
        ("data/test_store.py",),
        "a crop's condition takes in a window that reaches past its end",
    ),
    Mutation(
        "slots.py",
        "bpm = 5 * round(bpm / 5)",
        "bpm = 10 * round(bpm / 10)",
        ("captions/test_sentences.py",),
        "captions say tempi that are up to five beats a minute off",
    ),
    Mutation(
        "harmony.py",
        "for index, tone in enumerate(harmony.tones) if index != 2)",
        "for index, tone in enumerate(harmony.tones) if index != 1)",
        ("compose/test_harmony.py", "compose/test_arrange.py"),
        "chords of five notes lose their third instead of their fifth",
    ),
    Mutation(
        "effects.py",
        "np.exp(-np.arange(int(0.3 * SAMPLE_RATE_HZ)) / (0.09 * SAMPLE_RATE_HZ))",
        "np.exp(-np.arange(int(0.3 * SAMPLE_RATE_HZ)) / (0.9 * SAMPLE_RATE_HZ))",
        ("render/test_render.py",),
        "what ducks under the kick does not come back before the next",
    ),
    Mutation(
        "storm.py",
        "math.floor(frames * math.cos(math.pi / 2 * (round_index + 1) / rounds))",
        "math.floor(frames * (1 - (round_index + 1) / rounds))",
        ("generate/test_storm.py",),
        "SoundStorm unmasks by a straight line, not by the cosine of training",
    ),
    Mutation(
        "steer.py",
        "return float(np.exp(-0.5 * (away / STROKE_FRAMES) ** 2) - share_of_time)",
        "return float(np.exp(-0.5 * (away / STROKE_FRAMES) ** 2))",
        ("generate/test_steer.py",),
        "the metronome asks for more strokes on the whole, not only for when they fall",
    ),
    Mutation(
        "bootstrap.py",
        "low, high = np.percentile(kept, [2.5, 97.5])",
        "low, high = np.percentile(kept, [5, 95])",
        ("evaluate/test_bootstrap.py",),
        "intervals of all reports hold the figure in 90 of 100 draws, not in 95",
    ),
    Mutation(
        "signal.py",
        "return float(change[at].mean() / max(change[~at].mean(), 1e-9))",
        "return float(change[at].mean() / max(change.mean(), 1e-9))",
        ("listen/test_signal.py",),
        "seams are compared with a mean that they are part of",
    ),
    Mutation(
        "loop.py",
        'if local(p) is p], "weight_decay": 0.0}',
        'if local(p) is p], "weight_decay": config.weight_decay}',
        ("train/test_loop.py",),
        "norms and biases decay",
    ),
    Mutation(
        "loop.py",
        "average.copy_(value)",
        "average.copy_(average)",
        ("train/test_loop.py",),
        "the exported average keeps the buffers (codebooks, statistics) of the start",
    ),
    Mutation(
        "sampling.py",
        "before = ordered.cumsum(-1) - ordered",
        "before = ordered.cumsum(-1)",
        ("nn/test_sampling.py",),
        "top-p leaves out the code that reaches the probability",
    ),
    Mutation(
        "distance.py",
        "(products.sum() - np.trace(products)) / (len(x) * (len(x) - 1))",
        "products.sum() / len(x) ** 2",
        ("evaluate/test_distance.py",),
        "the kernel distance counts clips against themselves, which makes small sets better",
    ),
    Mutation(
        "notes_kept.py",
        "pairs, place = pairs + 1, place + 1",
        "pairs, place = pairs + 1, place",
        ("evaluate/test_notes_kept.py",),
        "one onset of the original is matched by several of the copy",
    ),
    Mutation(
        "memorisation.py",
        "own / own[~np.eye(size, dtype=bool)].mean()",
        "own / own.mean()",
        ("evaluate/test_memorisation.py",),
        "the unit of distances between codes includes a code's distance to itself",
    ),
    Mutation(
        "harmony.py",
        "keepdim=True) + FLOOR**2).sqrt()",
        "keepdim=True) + 1e-12).sqrt()",
        ("w2vbert/test_harmony.py",),
        "a register near silence has a spectrum of full length, of its noise",
    ),
    Mutation(
        "tokenizer.py",
        "keep_stop = num_frames if stop == num_frames else stop - context",
        "keep_stop = num_frames if stop == num_frames else stop",
        ("w2vbert/test_tokenizer.py", "w2vbert/test_harmony.py"),
        "codes at the end of a window are made without what follows",
    ),
    Mutation(
        "bands.py",
        "lag = self.kernel - 1 - self.ahead",
        "lag = self.kernel - 1",
        ("soundstream/test_bands.py", "tests/test_streaming.py"),
        "the skip of a block is of other frames than its convolution",
    ),
    Mutation(
        "griffin_lim.py",
        "self.draws[nearest[:, 0]] + bins * 0.5",
        "self.draws[nearest[:, 0]]",
        ("soundstream/test_bands.py",),
        "neighbouring bins of one sine begin with phases that cancel it",
    ),
    Mutation(
        "gap.py",
        "(len(rows) << level) // rows_per_code",
        "len(rows) // rows_per_code",
        ("mulan/test_gap.py",),
        "upper levels of MuLan's quantizer have as few codes as the first",
    ),
    Mutation(
        "merge.py",
        "SPLITS.index(track.split) > SPLITS.index(tracks[track.id].split)",
        "SPLITS.index(track.split) < SPLITS.index(tracks[track.id].split)",
        ("corpus/test_merge.py",),
        "a track that one corpus holds out is trained on where another does not",
    ),
    Mutation(
        "rhythm.py",
        "return bool(third >= 2 and third > back)",
        "return bool(third >= 2)",
        ("facts/test_window.py", "facts/test_traits.py", "captions/test_sentences.py"),
        "snares on every beat count as half time, and fast music is not called fast",
    ),
    Mutation(
        "model.py",
        "own[:, :, :-1].cumsum(2)], 2)",
        "own[:, :, :-1]], 2)",
        ("lm/test_depth.py",),
        "in training a level of a frame knows only the level before it",
    ),
    Mutation(
        "model.py",
        "(losses * real[:, None]).sum(dim=(0, 2)) / real.sum()",
        "losses.sum(dim=(0, 2)) / real.sum()",
        ("lm/test_model.py", "lm/test_task.py"),
        "padded frames count in the loss of language models",
    ),
    Mutation(
        "asked.py",
        'in ("or", "than", "of"):',
        'in ("nor", "than", "of"):',
        ("core/test_asked.py",),
        "of two tempi to choose from the music takes neither",
    ),
    Mutation(
        "containers.py",
        "rows[-1].num += count_at is None",
        "rows[-1].num += 1",
        ("core/test_containers.py",),
        "the frame that tells an MP3's length counts as music",
    ),
    Mutation(
        "real_or_not.py",
        "in_order = (above > 0) + 0.5 * (above == 0)",
        "in_order = (above > 0) * 1.0",
        ("evaluate/test_real_or_not.py",),
        "clips that can't be told apart count as told wrongly",
    ),
    Mutation(
        "signal.py",
        "np.cumsum(power * hz**2)",
        "np.cumsum(power)",
        ("listen/test_signal.py",),
        "the bandwidth of a clip is that of its bass",
    ),
    Mutation(
        "works.py",
        "channel.pedal = control == 64 and value >= 64",
        "channel.pedal = control == 64 and value > 0",
        ("read/test_works.py",),
        "a pedal pressed by less than half holds notes",
    ),
    Mutation(
        "store.py",
        "unit + random * noise * torch.rand(num, 1, generator=generator)[rows]",
        "unit + random * noise",
        ("data/test_store.py",),
        "noise on MuLan's vectors always has its full length",
    ),
    Mutation(
        "model.py",
        "hit_audio = (logits.argmax(0) == target)",
        "hit_audio = (logits.argmax(1) == target)",
        ("mulan/test_model.py",),
        "MuLan's recall from text to audio is that from audio to text",
    ),
)


def find(tree: Path, mutation: Mutation) -> Path:
    """The one source file that holds the old text once. Raises: LookupError if there is none, or more."""
    files = [path for path in (tree / "src").rglob("*.py") if path.read_text().count(mutation.old) == 1]
    named = [path for path in files if path.name == mutation.file] or files
    if len(named) != 1:
        raise LookupError(f"{len(named)} files of {tree} hold {mutation.old!r}; wanted one: write the mutation anew")
    return named[0]


def test_files(tree: Path, mutation: Mutation) -> list[str]:
    """Raises: LookupError if there is none."""
    every = [path for path in (tree / "tests").rglob("test_*.py")]
    found = [str(path) for path in every if path.as_posix().endswith(mutation.tests)]
    if not found:
        raise LookupError(f"no test file of {tree} ends with any of {mutation.tests}")
    return found


def run_tests(tree: Path, files: list[str]) -> tuple[bool, str]:
    """Whether one fails, and its name. Raises: RuntimeError if they could not be run.

    In a child of this process, which has imported what is large and not the package itself.
    """
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            signal.alarm(LIMIT_S)
            for number in (1, 2):
                os.dup2(output.fileno(), number)
            os.chdir(tree)
            os.environ |= {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
            sys.path[:0] = [str(tree / "src"), str(tree)]
            sys.dont_write_bytecode = True
            code = 3
            try:
                code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files]))
            finally:
                sys.stdout.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        text = output.read().decode(errors="replace")
    if code not in (0, 1):
        raise RuntimeError(f"pytest ended with {code} (limit {LIMIT_S} s):\n{text[-4000:]}")
    failed = [line for line in text.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return code == 1, failed[0].split(" - ")[0].split(" ", 1)[1] if failed else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to break; this one by default")
    parser.add_argument("--out", type=Path, help="the JSON file that takes the result, under `label`")
    parser.add_argument("--label", default="after")
    parser.add_argument("--only", type=int, nargs="*", help="mutations by number, from 1")
    options = parser.parse_args()
    chosen = [m for k, m in enumerate(MUTATIONS, 1) if not options.only or k in options.only]
    for name in PRELOAD:
        importlib.import_module(name)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(options.tree, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "out", "build"))
        compileall.compile_dir(tree / "src", quiet=1)  # children write none
        for number, mutation in enumerate(MUTATIONS, 1):
            if mutation not in chosen:
                continue
            path = find(tree, mutation)
            original = path.read_text()
            path.write_text(original.replace(mutation.old, mutation.new))
            Path(importlib.util.cache_from_source(str(path))).unlink()  # Python may take the old one for the new one's
            started = time.monotonic()
            caught, name = run_tests(tree, test_files(tree, mutation))
            path.write_text(original)
            compileall.compile_file(path, quiet=1)
            if caught and run_tests(tree, [name])[0]:
                raise SystemExit(f"{name} fails without mutation {number} too: the machine is at fault, or the test")
            rows.append({"file": mutation.file, "what": mutation.what, "caught": caught, "by": name})
            took = time.monotonic() - started
            print(f"{number:2} {'caught' if caught else 'MISSED'} {took:4.0f} s  {mutation.what}  {name}", flush=True)
    total = sum(bool(row["caught"]) for row in rows)
    print(f"{total} of {len(rows)} are caught")
    if options.out is not None:
        document = json.loads(options.out.read_text()) if options.out.exists() else {}
        document[options.label] = {"caught": total, "of": len(rows), "mutations": rows}
        options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
