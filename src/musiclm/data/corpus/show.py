"""What is in a corpus: hours by split, licence and source."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table

from musiclm.data.corpus.manifest import SPLITS, Track, load_manifest, load_skipped


def describe_corpus(folder: str | Path) -> RenderableType:
    """Tables to print with rich. Raises: CorpusError if there is no corpus."""
    tracks, skipped = load_manifest(folder), load_skipped(folder)
    hours = sum(track.seconds for track in tracks) / 3600
    head = f"{folder}: {len(tracks)} tracks, {hours:.2f} h, {len({track.piece for track in tracks})} pieces"
    parts: list[RenderableType] = [head, _splits(tracks)]
    parts.append(_hours_by("licence", tracks, lambda track: track.licence))
    parts.append(_hours_by("package", tracks, lambda track: f"{track.source}/{track.package}".rstrip("/")))
    if skipped:
        parts.append(_skipped(skipped))
    return Group(*parts)


def _splits(tracks: list[Track]) -> Table:
    table = Table("split", title_justify="left")
    for column in ("tracks", "pieces", "hours", "of it held-out packages"):
        table.add_column(column, justify="right")
    for split in SPLITS:
        mine = [track for track in tracks if track.split == split]
        held_out = sum(track.seconds for track in mine if track.held_out)
        total = sum(track.seconds for track in mine)
        pieces = len({track.piece for track in mine})
        table.add_row(split, str(len(mine)), str(pieces), f"{total / 3600:.2f}", f"{held_out / 3600:.2f}")
    return table


def _hours_by(name: str, tracks: list[Track], value: Callable[[Track], str], top: int = 20) -> Table:
    seconds: Counter[str] = Counter()
    number: Counter[str] = Counter()
    for track in tracks:
        seconds[value(track)] += track.seconds  # type: ignore[assignment]
        number[value(track)] += 1
    table = Table(name)
    table.add_column("tracks", justify="right")
    table.add_column("hours", justify="right")
    for key, total in seconds.most_common(top):
        table.add_row(key, str(number[key]), f"{total / 3600:.2f}")
    if len(seconds) > top:
        rest = sorted(seconds, key=lambda key: -seconds[key])[top:]
        table.add_row(
            f"{len(rest)} more",
            str(sum(number[key] for key in rest)),
            f"{sum(seconds[key] for key in rest) / 3600:.2f}",
        )
    return table


def _skipped(skipped: list[dict[str, str]]) -> Table:
    """Counts reasons by their beginning: what follows a bracket or a name differs from file to file."""
    reasons = Counter(record["reason"].split(" (")[0].split(" as ")[0].split(", ")[0] for record in skipped)
    table = Table("left out (skipped.jsonl)")
    table.add_column("files", justify="right")
    for reason, number in reasons.most_common(20):
        table.add_row(reason, str(number))
    return table
