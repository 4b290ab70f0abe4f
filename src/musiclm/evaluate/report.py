"""The report as a page: one HTML file with tables, plots, spectrograms and players, and what changed between two reports."""

import base64
import html
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from musiclm.core.artifact import write_atomic
from musiclm.core.audio import load
from musiclm.core.features import SAMPLE_RATE_HZ, LogMel

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0;font-size:13px}td,th{padding:3px 9px;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}figure{display:inline-block;width:330px;margin:8px;vertical-align:top}"
    "figure img{width:100%}figure audio{width:100%}figcaption{font-size:13px}.low{color:#888}h2{margin-top:2em}"
)
TITLES = {
    "quality": "Quality: distance to held-out real music",
    "health": "Meter readings",
    "music": "What the music is like",
    "form": "Form over 40 seconds",
    "diversity": "From seed to seed",
    "adherence": "Is what the prompt names heard?",
    "cycle": "MuLan cycle consistency",
    "captions": "Tags of generated against retrieved clips",
    "semantic": "What semantic tokens keep",
    "probes": "What single semantic tokens know",
    "zero_shot": "MuLan as a tagger",
    "retrieval": "MuLan's retrieval",
    "memory": "Memorisation",
    "codec": "Codec",
}
NOTES = {
    "quality": "FAD and MMD of the judge's embeddings to the set `reference`; lower is better. `real` is what other real music scores, `noise` what nothing scores.",
    "adherence": "AUC of an independent listener's score between clips whose prompt names the concept and clips whose prompt does not: 0.5 is chance. "
    "`retrieved` is the real clip that MuLan finds for each prompt.",
    "memory": "Greedy continuations of training clips against how they go on; the test split is the control.",
    "captions": "Kullback-Leibler divergence of tag posteriors, nats, lower is better; `generated` against the real clip retrieved for the prompt.",
    "health": "`broken` is real music muffled, overdriven, offset, partly silent and cut at the seams: every meter must show it.",
    "form": "`collage` is made of quarters of four real pieces: it must change more and repeat less.",
    "diversity": "Cosine distance of the judge's embeddings, higher is more varied.",
    "probes": "Skill on held-out clips: 0 knows nothing, 1 knows all; `shuffled` is chance.",
}


def write_html(folder: Path, report: dict[str, Any], num_players: int = 12) -> Path:
    """REPORT/report.html from a report and the clips beside it. Raises: ValueError if matplotlib is missing."""
    settings = report["settings"]
    parts = [
        f"<h1>{html.escape(settings.get('name') or 'bundle')} <small class=low>{settings['bundle'][:12]}</small></h1>",
        f"<p>{len(report['prompts'])} prompts, musiclm {report['musiclm']}, revision {report['git_revision']}, {report['date']}. "
        f"Listeners: {', '.join(report['listeners'])}; none of them had a part in training. Intervals hold 95 of 100 draws of the clips.</p>",
        "<h2>To hear</h2>",
        *_players(folder, report["prompts"], num_players),
    ]
    for name, section in report["sections"].items():
        parts.append(f"<h2>{html.escape(_title(name))}</h2>")
        if "skipped" in section:
            parts.append(f"<p>Left out: {html.escape(section['skipped'])}</p>")
            continue
        parts += [f"<p>{html.escape(NOTES[name])}</p>"] if name in NOTES else []
        if name == "adherence":
            parts.append(_adherence(section))
        else:
            parts.append(_section(section))
    parts.append(f"<h2>Settings</h2><pre>{html.escape(json.dumps(settings, indent=1))}</pre>")
    page = f"<!doctype html><meta charset=utf-8><title>musiclm evaluate</title><style>{STYLE}</style>" + "\n".join(
        parts
    )
    path = folder / "report.html"
    write_atomic(path, page)
    return path


def _title(name: str) -> str:
    """Of a section; `quality_<embedder>` is the first one by another listener."""
    section, _, embedder = name.partition("_")
    if section == "quality" and embedder:
        return f"{TITLES['quality']}, heard by {embedder}"
    return TITLES.get(name, name)


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Every figure that both reports have, and whether their intervals say that it moved ("yes", "no", "no interval").

    Raises: ValueError if they were measured on other prompts, where no figure means the same.
    """
    for name in ("prompts", "corpus"):
        if a["settings"].get(name) != b["settings"].get(name):
            raise ValueError(
                f"the reports were measured on other {name} ({a['settings'].get(name)}, {b['settings'].get(name)}); "
                "measure both bundles on the same"
            )
    one, other = dict(_figures(a["sections"])), dict(_figures(b["sections"]))
    rows = []
    for name, (value, low, high) in one.items():
        if name not in other:
            continue
        value_b, low_b, high_b = other[name]
        if any(map(math.isnan, (low, high, low_b, high_b))):
            moved = "no interval"
        else:
            moved = "yes" if low_b > high or high_b < low else "no"
        rows.append({"figure": name, "a": value, "b": value_b, "moved": moved})
    return rows


def _figures(node: Any, path: str = "") -> list[tuple[str, tuple[float, float, float]]]:
    """Numbers of a nest with their paths; estimates with their intervals."""
    nan = float("nan")
    if isinstance(node, dict):
        if set(node) == {"value", "low", "high"}:
            return [(path, (_number(node["value"]), _number(node["low"]), _number(node["high"])))]
        return [pair for key, value in node.items() for pair in _figures(value, f"{path}.{key}" if path else key)]
    if isinstance(node, list):
        return [pair for index, value in enumerate(node) for pair in _figures(value, f"{path}.{index}")]
    if isinstance(node, int | float) and not isinstance(node, bool):
        return [(path, (float(node), nan, nan))]
    return []


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _players(folder: Path, prompts: list[str], num: int) -> list[str]:
    chosen = [i * len(prompts) // max(1, min(num, len(prompts))) for i in range(min(num, len(prompts)))]
    figures = []
    for index in chosen:
        clip = load(folder / "clips" / "generated" / f"{index:04d}.flac")
        file = io.BytesIO()
        soundfile.write(file, clip, SAMPLE_RATE_HZ, format="OGG", subtype="VORBIS")
        sound = base64.b64encode(file.getvalue()).decode()
        picture = base64.b64encode(spectrogram_png(clip)).decode()
        figures.append(
            f"<figure><img src='data:image/png;base64,{picture}' alt='log-mel spectrogram'>"
            f"<audio controls src='data:audio/ogg;base64,{sound}'></audio>"
            f"<figcaption>{html.escape(prompts[index])}</figcaption></figure>"
        )
    return figures


def spectrogram_png(clip: np.ndarray) -> bytes:
    """A log-mel picture of a clip at 24 kHz. Raises: ValueError if matplotlib is missing."""
    try:
        from matplotlib import image
    except ImportError:
        raise ValueError("matplotlib is not installed; run: pip install 'musiclm[eval]'") from None
    import torch

    mel = LogMel(n_fft=1024, hop=480, num_mels=96, floor=1e-4)(torch.from_numpy(np.asarray(clip, np.float32))[None])[
        0
    ].numpy()
    file = io.BytesIO()
    image.imsave(file, mel[::-1], cmap="magma", vmin=float(np.log(1e-4)), vmax=float(np.log(3.0)), format="png")
    return file.getvalue()


def _section(section: dict[str, Any]) -> str:
    parts = []
    parts.append(_table(section["rows"]))
    rest = {name: value for name, value in section.items() if name != "rows"}
    flat = {name: value for name, value in rest.items() if not isinstance(value, dict | list) or _is_estimate(value)}
    if flat:
        parts.append(_table({"": flat}))
    for name, value in rest.items():
        if isinstance(value, dict) and not _is_estimate(value):
            parts.append(f"<h3>{html.escape(name)}</h3>")
            if all(isinstance(x, dict) and not _is_estimate(x) for x in value.values()):
                parts.append(_table(value))
            elif value and all(_is_estimate(x) for x in value.values()):
                parts.append(_bars(value) + _table({key: {"value": x} for key, x in value.items()}))
            else:
                parts.append(_table({"": value}))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            parts.append(f"<h3>{html.escape(name)}</h3>" + _table({str(i + 1): row for i, row in enumerate(value)}))
        elif isinstance(value, list):
            parts.append(f"<p>{html.escape(name)}: {html.escape(', '.join(_cell(x) for x in value))}</p>")
    return "\n".join(parts)


def _adherence(section: dict[str, Any]) -> str:
    rows = section["rows"]
    summary = {
        name: {
            key: row[key] for key in ("mean_auc", "mean_auc_shuffled", "tempo", "tempo_shuffled", "key", "key_shuffled")
        }
        for name, row in rows.items()
    }
    concepts = sorted(rows["generated"]["concepts"], key=lambda c: -rows["generated"]["concepts"][c]["value"])
    table = {
        concept: {
            "clips": rows["generated"]["positives"][concept],
            **{name: row["concepts"][concept] for name, row in rows.items() if concept in row["concepts"]},
        }
        for concept in concepts
    }
    doubtful = ", ".join(section.get("doubtful_concepts", []))
    note = f"<p>Doubtful, since real clips that MuLan finds for the prompts score below chance: {html.escape(doubtful)}</p>"
    return (
        _table(summary)
        + (note if doubtful else "")
        + _table({"reliable": section["reliable"]})
        + _bars({c: rows["generated"]["concepts"][c] for c in concepts})
        + _table(table)
    )


def _bars(estimates: dict[str, dict[str, float]]) -> str:
    """AUCs with their intervals as lines about chance."""
    height = 16 * len(estimates) + 20
    lines = [f"<line x1=380 x2=380 y1=0 y2={height} stroke='#bbb'/>"]
    for row, (name, one) in enumerate(estimates.items()):
        y = 14 + 16 * row

        def x(value: float) -> float:
            return 130 + 500 * min(max(value, 0.0), 1.0)

        low, high = (_number(one[k]) for k in ("low", "high"))
        if not math.isnan(low):
            lines.append(f"<line x1={x(low):.0f} x2={x(high):.0f} y1={y} y2={y} stroke='#88a' stroke-width=3 />")
        lines.append(f"<circle cx={x(one['value']):.0f} cy={y} r=4 fill='#225'/>")
        lines.append(f"<text x=120 y={y + 4} text-anchor=end font-size=12>{html.escape(name)}</text>")
    return f"<svg width=660 height={height}>{''.join(lines)}</svg>"


def _table(rows: dict[str, dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    head = "".join(f"<th>{html.escape(column.replace('_', ' '))}</th>" for column in columns)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{_cell(row.get(column))}</td>" for column in columns)
        + "</tr>"
        for name, row in rows.items()
    )
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"value", "low", "high"}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if _is_estimate(value):
        low, high = _number(value["low"]), _number(value["high"])
        interval = "" if math.isnan(low) else f" <span class=low>[{low:.3g}, {high:.3g}]</span>"
        return f"{_number(value['value']):.3g}{interval}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return html.escape(", ".join(_cell(x) for x in value))
    return html.escape(str(value))
