"""Makes docs/examples anew with the bundle that ships: sound files and the page that plays them.

    python runs/examples.py [--musiclm PROGRAM] [--page]

--page: the page alone, of files that are there.

Each example is one command of the program, shown beside it, but for a melody that a program hums to be followed.
Nothing is picked: seeds are 0, 1, 2, 3 as they come.
A file that is there is not made again.
"""

import argparse
import html
import itertools
import random
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from musiclm.arrange.render.voice import Sung, draw_singer, perform
from musiclm.core.audio import probe, write_audio
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.generate.music import read_tags

FOLDER = Path(__file__).parent.parent / "docs" / "examples"
ARCADE = "arcade.ogg"  # the README's, made by the command there; others go on from it
HUM = "hum.opus"
# Beethoven, ninth symphony: pitch and length in quarters
ODE = [(64, 1), (64, 1), (65, 1), (67, 1), (67, 1), (65, 1), (64, 1), (62, 1), (60, 1), (60, 1), (62, 1), (64, 1)]
ODE = [*ODE, (64, 1.5), (62, 0.5), (62, 2), *ODE, (62, 1.5), (60, 0.5), (60, 2)]
QUARTER_S = 0.5


@dataclass(frozen=True)
class Example:
    """One sound. Words of the command without the program's name; FILE stands for the file that is made."""

    file: str
    words: tuple[str, ...]  # none of what is hummed
    text: str  # what to listen for


@dataclass(frozen=True)
class Group:
    """Examples under one heading."""

    title: str
    note: str
    examples: tuple[Example, ...]


def followed(name: str, prompt: str) -> Example:
    words = ("generate", prompt, "--melody", HUM, "--duration", "16", "--seed", "0", "-o", "FILE")
    return Example(f"{name}.opus", words, prompt)


def generated(name: str, prompt: str, duration_s: int, seed: int = 0, text: str = "") -> Example:
    words = ("generate", prompt, "--duration", str(duration_s), "--seed", str(seed), "-o", "FILE")
    return Example(f"{name}.opus", words, text or prompt)


GROUPS = (
    Group(
        "Sentences",
        "Ten seconds each.",
        (
            generated(
                "band",
                "A rock band in a small club: distorted guitars, a driving bass line and loud drums. Energetic and "
                "raw, at 140 BPM in E minor.",
                10,
            ),
            generated(
                "night-piano",
                "A slow piano piece at night, soft and sad, with long pauses and low chords that ring out.",
                10,
            ),
            generated(
                "dance",
                "Bright dance music for a festival with a four-on-the-floor kick, claps, a pumping bass and a catchy "
                "synthesizer hook. 126 BPM.",
                10,
            ),
            generated(
                "strings",
                "A film score for a wide landscape: slow orchestral strings, horns in the distance, hopeful and calm.",
                10,
            ),
            generated(
                "funk",
                "A funk groove with a slapping bass, a dry guitar, an organ and tight drums. Playful and groovy.",
                10,
            ),
        ),
    ),
    Group(
        "A minute",
        "The form is short-sighted: little that was there comes back.",
        (
            generated("techno-minute", "hypnotic techno with a deep kick drum and a dark synthesizer, 128 BPM", 60),
            generated("harp-minute", "a calm celtic tune with harp and flute in D major", 60),
        ),
    ),
    Group(
        "A story",
        "The prompt changes on the way; each section is told beside its time.",
        (
            Example(
                "story.opus",
                (
                    *("generate", "a calm piano", "--at", "0:15", "a string orchestra joins, full of longing"),
                    *("--at", "0:30", "heavy metal with drums and distorted guitars", "--duration", "45"),
                    *("--seed", "0", "-o", "FILE"),
                ),
                "0:00 a calm piano; 0:15 a string orchestra joins, full of longing; 0:30 heavy metal with drums and "
                "distorted guitars",
            ),
        ),
    ),
    Group(
        "A melody",
        "The Ode to Joy, hummed by a program, and three pieces that follow it, each in its own way.",
        (
            Example(HUM, (), "the melody, hummed"),
            followed("melody-strings", "a string quartet"),
            followed("melody-chiptune", "8-bit chiptune of an arcade game"),
            followed("melody-house", "house with a deep bass"),
        ),
    ),
    Group(
        "One prompt, four seeds",
        "How much the music differs when nothing but the seed does.",
        tuple(
            generated(f"seed-{seed}", "acoustic folk with guitar and fiddle", 8, seed, f"seed {seed}")
            for seed in range(4)
        ),
    ),
    Group(
        "Places and eras",
        "Eight seconds each.",
        tuple(
            generated(name, prompt, 8)
            for name, prompt in (
                ("beach-bar", "bossa nova in a beach bar"),
                ("saloon", "ragtime on an old saloon piano"),
                ("baroque", "baroque harpsichord music at court"),
                ("fifties", "rock and roll of the 1950s"),
                ("eighties", "synth pop of the 1980s with a drum machine"),
                ("space", "ambient music drifting through space"),
            )
        ),
    ),
    Group(
        "No prompt",
        "Drawn from the music model alone.",
        (
            Example(
                "unprompted.opus",
                ("generate", "--duration", "15", "--seed", "0", "-o", "FILE"),
                "what comes if nothing is asked for",
            ),
        ),
    ),
    Group(
        "From a recording",
        f"All three begin with {ARCADE}, the example of the README; any sound file will do.",
        (
            Example(
                "continued.opus",
                ("continue", ARCADE, "--duration", "20", "--seed", "0", "-o", "FILE"),
                "the first ten seconds are the given file, the rest goes on from it",
            ),
            Example(
                "repainted.opus",
                (
                    *("repaint", ARCADE, "a quiet piano", "--from", "4", "--to", "7"),
                    *("--seed", "0", "-o", "FILE"),
                ),
                "seconds 4 to 7 made anew, as a quiet piano",
            ),
            Example(
                "loop.opus",
                ("loop", ARCADE, "--duration", "6", "--seed", "0", "-o", "FILE"),
                "whole bars that run into their own beginning",
            ),
        ),
    ),
)
EXAMPLES = tuple(example for group in GROUPS for example in group.examples)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>musiclm: examples</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }}
body {{ color: #222; background: #fff }}
h2 {{ margin: 2.5rem 0 0 }}
figure {{ margin: 1.2rem 0 }}
audio {{ width: 100%; margin: .3rem 0 }}
code {{ display: block; font-size: .8rem; color: #555; overflow-wrap: anywhere }}
</style>
<h1>What musiclm sounds like</h1>
<p>Made by the bundle <b>base</b> ({bundle}) on a CPU, each by the command below it. Seeds are 0 unless said, and none
was picked from several. The <a href="../../src/musiclm/bundles/base/README.md">model card</a> says what the model
learned from, and how it measures.</p>
{groups}
</html>
"""


def hum(path: Path) -> None:
    """Writes the melody as somebody without training hums it."""
    random_ = random.Random(0)
    starts = [QUARTER_S * start for start in itertools.accumulate((length for _, length in ODE), initial=0.0)]
    notes = [Sung(start, end, pitch) for start, end, (pitch, _) in zip(starts[:-1], starts[1:], ODE, strict=True)]
    singer = draw_singer("hum", random_)
    write_audio(path, perform(notes, singer, round(starts[-1] * SAMPLE_RATE_HZ), random_), SAMPLE_RATE_HZ)


def shown(example: Example) -> str:
    """The command as one types it."""
    return "musiclm " + shlex.join(example.file if word == "FILE" else word for word in example.words)


def page(folder: Path) -> str:
    """The page of the files that are in `folder`."""
    parts = []
    for group in GROUPS:
        parts.append(f"<h2>{html.escape(group.title)}</h2>\n<p>{html.escape(group.note)}</p>")
        for example in group.examples:
            label = html.escape(example.text, quote=True)
            code = f"\n<code>{html.escape(shown(example))}</code>" if example.words else ""
            parts.append(
                f'<figure>\n<figcaption>{label}</figcaption>\n<audio controls preload="none" src="{example.file}" '
                f'aria-label="{label}"></audio>{code}\n</figure>'
            )
    return PAGE.format(bundle=read_tags(folder / EXAMPLES[0].file)["model"], groups="\n".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--musiclm", default="musiclm")
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if not arguments.page:
        for example in EXAMPLES:
            if not (FOLDER / example.file).exists() and not example.words:
                hum(FOLDER / example.file)
            elif not (FOLDER / example.file).exists():
                words = [example.file if word == "FILE" else word for word in example.words]
                subprocess.run([*shlex.split(arguments.musiclm), *words], cwd=FOLDER, check=True)
    (FOLDER / "index.html").write_text(page(FOLDER))
    files = [FOLDER / example.file for example in EXAMPLES]
    print(f"{len(files)} sounds, {sum(probe(file).seconds or 0 for file in files):.0f} s, ", end="")
    print(f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB in {FOLDER}")


if __name__ == "__main__":
    main()
