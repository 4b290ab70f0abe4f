"""`musiclm evaluate` and `match`: bundles and MuLans measured."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musiclm.cli.options import Device, Threads, use_threads

if TYPE_CHECKING:
    from musiclm.evaluate.run import EvaluateConfig


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A shipped bundle's name, a folder, or a hub id.")
    ] = "base",
    report: Annotated[Path | None, typer.Option(help="Folder of the report; begun before, it goes on there.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A corpus: real music to compare with. Without one, less is measured.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="CSV with a column 'prompt', if wanted 'concepts' (a;b), 'tempo_bpm', 'key'.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A quarter of the prompts and fewer clips: about ten minutes.")
    ] = False,
    embedder: Annotated[
        list[str] | None,
        typer.Option(
            help="Distances by its embeddings too: aisfx, or an audio model of transformers by folder or hub name "
            "(repeatable)."
        ),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(help="Beside Opus: EnCodec, DAC or Mimi of transformers by folder or hub name (repeatable)."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.json B.json", help="Show what moved between two reports instead."),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Measure a bundle: quality, adherence to prompts, music, codec, memorisation, beside controls."""
    if compare is not None:
        _print_what_moved(*compare)
        return
    from musiclm.evaluate.report import write_html
    from musiclm.evaluate.run import EvaluateConfig, Study
    from musiclm.generate.checks import check_device

    if report is None:
        raise ValueError("--report is missing; name a folder for the report")
    check_device(device)
    use_threads(threads)
    config = EvaluateConfig.quick() if quick else EvaluateConfig()
    if quick:
        _print_sizes(config)
    study = Study(
        model,
        report,
        corpus=data,
        prompts=prompts,
        embedders=embedder or ["aisfx"],
        codecs=codec or [],
        config=config,
        device=device,
    )
    print(write_html(report, study.run()))


def _print_what_moved(a: Path, b: Path) -> None:
    from musiclm.evaluate.report import compare

    for row in compare(read_report(a), read_report(b)):
        if row["moved"] != "no":
            print(f"{row['figure']:60} {row['a']:10.4g} {row['b']:10.4g}  {row['moved']}")


def _print_sizes(config: "EvaluateConfig") -> None:
    print(
        f"quick: {config.num_prompts} prompts, {config.num_real} real clips, {config.num_long} long ones, "
        f"{config.num_codec} for the codec, "
        f"{config.num_memorisation} for memorisation; the full run has two to four times as many of each, and "
        "narrower intervals"
    )


def read_report(path: Path) -> dict[str, Any]:
    """A report of `evaluate`. Raises: ValueError if it is none."""
    try:
        document = json.loads(path.read_text())
        document["settings"]
        rows = document["sections"].get("retrieval", {}).get("rows", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no report of `musiclm evaluate` ({type(error).__name__}: {error})") from None
    if "chance" in rows:  # as reports of version 0.1.0 call it
        rows["baseline"] = rows.pop("chance")
    return document


def match(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MULAN...", help="Artifacts of trained MuLans, or bundles: folder, shipped name, hub id."
        ),
    ],
    data: Annotated[Path, typer.Option(help="A corpus with real music.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="CSV with a column 'caption', or as for evaluate; the package's prompts by default."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Whose music is ranked: validation to choose by, test to report.")
    ] = "validation",
    per_track: Annotated[int, typer.Option(help="Clips of each track.", min=1)] = 2,
    analyses: Annotated[Path | None, typer.Option(help="JSON file that keeps what was found in the clips.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
    threads: Threads = None,
) -> None:
    """Compare MuLans: does each rank real music by a text as analysers do that had no part in training?"""
    from musiclm.core.artifact import CONFIG_FILE, git_revision, write_atomic
    from musiclm.core.bundle import open_bundle
    from musiclm.core.output import check_output
    from musiclm.data.corpus.manifest import SPLITS
    from musiclm.evaluate.adherence import load_prompts
    from musiclm.evaluate.match import analyse, match_model, read_texts, table
    from musiclm.models.encoders import load_joint

    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    for target in (path for path in (out, analyses) if path is not None):
        others = [path for path in (out, analyses, prompts) if path is not None and path is not target]
        others += (
            [data, *map(Path, models)] if target is out else []
        )  # analyses are read, too, and kept where one likes
        check_output(target, inputs=others, option="another file")
    use_threads(threads)
    texts = read_texts(prompts) if prompts else load_prompts()
    folders = {
        name: Path(name) if (Path(name) / CONFIG_FILE).exists() else open_bundle(name).part("mulan") for name in models
    }
    mulans = {name: load_joint(folder).eval() for name, folder in folders.items()}
    clips = analyse(data, split, per_track, analyses)
    rows = {name: match_model(model, clips, texts) for name, model in mulans.items()}
    print(f"rank correlation with the analysers' scores, {len(texts)} texts, {len(clips.audio)} clips of split {split}")
    for name, row in rows.items():
        print(f"{name}: {row.mean_agreement} (texts that do not name the concept {row.other_texts:.3f})")
    if out:
        report = {"git_revision": git_revision(), "split": split, "texts": len(texts), "clips": len(clips.audio)}
        write_atomic(out, json.dumps({**report, "models": table(rows)}, indent=1) + "\n")
