"""The model card of a bundle, written from what its parts say of themselves."""

import json
import re
from pathlib import Path
from typing import Any

from musiclm.core.artifact import load_artifact, read_config
from musiclm.core.bundle import Bundle
from musiclm.core.hub import CARD_FILE
from musiclm.data.corpus.manifest import load_manifest
from musiclm.data.corpus.melodies import load_renditions, soundfonts_of


def describe_data(data: Path) -> dict[str, Any]:
    """Hours by split, licences and the number of tracks, for the model card."""
    tracks = load_manifest(data)
    hours: dict[str, float] = {}
    licences: dict[str, float] = {}
    for track in tracks:
        hours[track.split] = hours.get(track.split, 0.0) + track.seconds / 3600
        if track.split == "train":
            licences[track.licence] = licences.get(track.licence, 0.0) + track.seconds / 3600
    return {
        "sources": sorted({track.source for track in tracks}),
        "tracks": len(tracks),
        "hours": {split: round(value, 2) for split, value in sorted(hours.items())},
        "train_hours_by_licence": {name: round(value, 2) for name, value in sorted(licences.items())},
    }


def describe_melodies(data: Path) -> dict[str, Any]:
    """The same of a folder of melodies in several renditions."""
    renditions = load_renditions(data)
    hours: dict[str, float] = {}
    for one in renditions:
        hours[one.split] = hours.get(one.split, 0.0) + one.seconds / 3600
    return {
        "sources": ["melodies made up and rendered by the arranger"],
        "tracks": len(renditions),
        "hours": {split: round(value, 2) for split, value in sorted(hours.items())},
        "train_hours_by_licence": {"; ".join(soundfonts_of(data)): round(hours.get("train", 0.0), 2)},
    }


def model_card(name: str, artifacts: dict[str, Path], notes: str = "") -> str:
    """A card of the parts of a bundle, after `notes` (Markdown)."""
    infos = {part: read_config(folder)["info"] for part, folder in artifacts.items()}
    lines = [
        f"# {name}",
        "",
        f"A MusicLM bundle: text to {_rate_hz(artifacts) / 1000:g} kHz mono music. What stands below *Data* and "
        "*Stages* is written by `musiclm bundle` from what the trained parts say of themselves.",
        "",
        *([notes, ""] if notes else []),
        "## Data",
        "",
        *_others(artifacts),
        *_data_lines(infos),
        "",
        "## Stages",
        "",
        "| stage | parameters | steps | minutes | validation figures (in brackets the baseline: what guessing, or "
        "code frequencies alone, score) |",
        "| --- | --- | --- | --- | --- |",
        *(_stage_line(part, artifacts[part], info) for part, info in infos.items()),
    ]
    return "\n".join(lines) + "\n"


def _rate_hz(artifacts: dict[str, Path]) -> int:
    """Of the music."""
    config = read_config(artifacts["soundstream"])["config"] if "soundstream" in artifacts else {}
    return int(config.get("sample_rate_hz", 24000))


def hub_card(bundle: Bundle, licence: str | None = None) -> str:
    """The model card of a bundle as the hub reads it: its README.md, headed by metadata unless it has some of its own.

    licence: by the hub's name, such as "cc-by-4.0"; None: that of the README's own metadata, or "other", which is what
    the card says. Raises: ValueError for a licence that no name of one is, or where the README has another.
    """
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise ValueError(f"{licence!r} is no licence of the hub; they have names such as apache-2.0 and cc-by-4.0")
    text = (bundle.folder / CARD_FILE).read_text()
    if text.startswith("---\n"):
        if licence is not None and f"license: {licence}\n" not in text:
            raise ValueError(f"the README.md of {bundle.folder} has metadata of its own; set its licence there")
        return text
    # JSON is YAML too
    lines = [f"{name}: {json.dumps(value)}" for name, value in hub_metadata(bundle, licence).items()]
    return "\n".join(["---", *lines, "---", "", text])


def hub_metadata(bundle: Bundle, licence: str | None = None) -> dict[str, Any]:
    """What the hub shows and searches: licence, tags, data, and the validation figures of each stage."""
    infos = {part: read_config(folder)["info"] for part, folder in bundle.parts.items()}
    sources = sorted({source for info in infos.values() for source in info.get("data", {}).get("sources", [])})
    figures = {(part, name): value for part, info in infos.items() for name, value in metrics_of(info).items()}
    found: dict[str, Any] = {"license": licence or "other"}
    if licence is None:
        found |= {"license_name": "see-the-card", "license_link": CARD_FILE}
    found |= {
        "language": ["en"],
        "library_name": "musiclm",
        "pipeline_tag": "text-to-audio",
        "tags": ["musiclm", "text-to-music", "music-generation", "music"],
    }
    # the hub takes names of data sets only
    if named := [source for source in sources if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", source, re.ASCII)]:
        found["datasets"] = named
    if figures:
        found["metrics"] = sorted({name for _, name in figures})
        data = {"name": f"validation split of {', '.join(sources) or 'its corpus'}", "type": "audio"}
        metrics = [{"type": name, "name": f"{part} {name}", "value": value} for (part, name), value in figures.items()]
        result = {"task": {"type": "text-to-audio", "name": "Text to music"}, "dataset": data, "metrics": metrics}
        found["model-index"] = [{"name": bundle.name, "results": [result]}]
    return found


def _others(artifacts: dict[str, Path]) -> list[str]:
    """What of the parts was made by others, whose licences hold for it."""
    lines = []
    for part, folder in artifacts.items():
        document = read_config(folder)
        if "source" in document["config"]:
            source = document["config"]["source"]
            local = source["revision"] is None  # of a folder the name, not where it lies
            where = Path(source["name"]).name if local else f"{source['name']}@{source['revision']}"
            role = {"soundstream": "codec", "w2vbert": "semantic encoder", "mulan": "joint embedding"}[part]
            lines.append(f"The {role} was made by others and keeps its own licence: {where}.")
        elif part == "mulan":
            lines.append("MuLan's text encoder starts from all-MiniLM-L6-v2, Apache-2.0.")
    return lines


def _data_lines(infos: dict[str, dict[str, Any]]) -> list[str]:
    """Two tables: the corpora that parts learned from, and the hours of training music that each licence holds for."""
    parts_of: dict[str, list[str]] = {}
    for part, info in infos.items():
        parts_of.setdefault(json.dumps(info.get("data", {}), sort_keys=True), []).append(part)
    corpora = {", ".join(parts): json.loads(described) for described, parts in parts_of.items()}
    lines = [
        "",
        "| stages | tracks | of | training, h | validation, h | test, h |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for parts, data in corpora.items():
        hours = [str(data.get("hours", {}).get(split, "?")) for split in ("train", "validation", "test")]
        sources = ", ".join(data.get("sources", ["?"]))
        lines.append(f"| {' | '.join([parts, str(data.get('tracks', '?')), sources, *hours])} |")
    held = {parts: licences_of(data.get("train_hours_by_licence", {})) for parts, data in corpora.items()}
    things: dict[str, set[str]] = {}
    for by_licence in held.values():
        for licence, (_, of) in by_licence.items():
            things.setdefault(licence, set()).update(of)
    lines += [
        "",
        "Hours of training music that each licence holds for. A rendered piece stands in the row of each licence that "
        "it has: of its soundfont, its tune, its drums.",
        "",
        f"| licence | of | {' | '.join(held)} |",
        "| --- | --- |" + " --- |" * len(held),
    ]
    for licence, of in sorted(things.items()):
        hours = [f"{held[parts][licence][0]:.2f}" if licence in held[parts] else "" for parts in held]
        lines.append(f"| {' | '.join([licence, ', '.join(sorted(of)), *hours])} |")
    return lines


def licences_of(hours: dict[str, float]) -> dict[str, tuple[float, set[str]]]:
    """By single licence: hours of music under it, and what of the music is.

    hours: by what a track says of itself, a licence ("GPL-2") or what it was made from ("piano: MIT; tune: GPL-3; by
    two people": what follows a colon is a licence, words without one belong to the licence before them).
    """
    found: dict[str, tuple[float, set[str]]] = {}
    for told, value in hours.items():
        licences: dict[str, set[str]] = {}
        if ": " not in told:
            licences[told] = {"recordings"}
        else:
            for thing, licence in re.findall(r"([^;:]+): ((?:(?!; [^;:]+: ).)+)", told):
                licences.setdefault(licence, set()).add(thing.strip())
        for licence, things in licences.items():
            before, of = found.get(licence, (0.0, set()))
            found[licence] = (before + value, of | things)
    return found


def _stage_line(part: str, folder: Path, info: dict[str, Any]) -> str:
    """A row of the table: sizes, steps and minutes of all runs behind the weights, figures."""
    state = load_artifact(folder, read_config(folder)["kind"]).state
    parameters = sum(value.numel() for value in state.values())
    baseline = baseline_of(info)
    figures = [
        f"{name} {value:.4g}" + (f" ({baseline[name]:.4g})" if name in baseline else "")
        for name, value in metrics_of(info).items()
    ]
    # a run with a hash alone: the same weights in another form
    runs = [run for run in [info, *_before(info)][::-1] if "step" in run]
    steps = " + ".join(str(run["step"]) for run in runs)
    minutes = " + ".join(f"{run.get('seconds', 0) / 60:.0f}" for run in runs)
    return f"| {part} | {parameters / 1e6:.2f} M | {steps} | {minutes} | {', '.join(figures)} |"


def baseline_of(info: dict[str, Any]) -> dict[str, float]:
    """By figure, what a model that knows nothing scores. Artifacts of version 0.1.0 before its release say `chance`."""
    return info.get("baseline", info.get("chance", {}))


def metrics_of(info: dict[str, Any]) -> dict[str, float]:
    """Validation figures by their names of today: `worth_STREAM` was what `shuffled_STREAM` is."""
    renamed = {"worth_mulan_over_none": "dropped_mulan", "contrastive_chance": "contrastive_baseline"}
    return {
        renamed.get(name, name.replace("worth_", "shuffled_")): value for name, value in info.get("metrics", {}).items()
    }


def _before(info: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs whose weights a run began with, latest first."""
    return [info["from"], *_before(info["from"])] if "from" in info else []
