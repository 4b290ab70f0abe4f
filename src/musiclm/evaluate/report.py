"""The report as a page: one HTML file with tables, plots, pictures and players."""

import base64
import html
import json
import math
from pathlib import Path
from typing import Any

from musiclm.core.artifact import write_atomic
from musiclm.core.audio import load, ogg_bytes
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.evaluate.compare import compare
from musiclm.evaluate.pictures import spectrogram_png
from musiclm.evaluate.sections import SECTIONS, title_of

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0;font-size:13px}td,th{padding:3px 9px;border-bottom:1px solid "
    "#ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}figure{display:inline-block;width:330px;margin:8px;vertical-align:top}"
    "figure img{width:100%}figure audio{width:100%}figcaption{font-size:13px}.low{color:#888}h2{margin-top:2em}"
)


def write_html(folder: Path, report: dict[str, Any], num_players: int = 12) -> Path:
    """REPORT/report.html from a report and the clips beside it. Raises: ValueError if matplotlib is missing."""
    settings = report["settings"]
    parts = [
        f"<h1>{html.escape(settings.get('name') or 'bundle')} <small class=low>{settings['bundle'][:12]}</small></h1>",
        f"<p>{len(report['prompts'])} prompts, musiclm {report['musiclm']}, revision {report['git_revision']}, "
        f"{report['date']}. "
        f"Analysers: {', '.join(report['analysers'])}; none of them had a part in training. Intervals hold 95 of 100 "
        "draws of the clips.</p>",
        "<h2>To hear</h2>",
        *_players(folder, report["prompts"], num_players),
    ]
    parts += _pictures(folder, report.get("pictures", {}))
    for name, section in report["sections"].items():
        parts.append(f"<h2>{html.escape(title_of(name))}</h2>")
        if "skipped" in section:
            parts.append(f"<p>Left out: {html.escape(section['skipped'])}</p>")
            continue
        note = SECTIONS[name].note if name in SECTIONS else ""
        parts += [f"<p>{html.escape(note)}</p>"] if note else []
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


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _pictures(folder: Path, pictures: dict[str, str]) -> list[str]:
    if "file" not in pictures:
        return []
    data = base64.b64encode((folder / pictures["file"]).read_bytes()).decode()
    return [
        "<h2>To look at</h2>",
        "<p>Constant-Q pictures, ten seconds each, real music in the right column if there is any: a note is a line, "
        "its "
        "partials are lines above it; the thin line is middle C, and colours reach 60 dB below the loudest.</p>",
        f"<img src='data:image/png;base64,{data}' alt='constant-Q pictures' style='width:100%'>",
    ]


def _players(folder: Path, prompts: list[str], num: int) -> list[str]:
    chosen = [i * len(prompts) // max(1, min(num, len(prompts))) for i in range(min(num, len(prompts)))]
    figures = []
    for index in chosen:
        clip = load(folder / "clips" / "generated" / f"{index:04d}.flac")
        sound = base64.b64encode(ogg_bytes(clip, SAMPLE_RATE_HZ)).decode()
        picture = base64.b64encode(spectrogram_png(clip)).decode()
        figures.append(
            f"<figure><img src='data:image/png;base64,{picture}' alt='log-mel spectrogram'>"
            f"<audio controls src='data:audio/ogg;base64,{sound}'></audio>"
            f"<figcaption>{html.escape(prompts[index])}</figcaption></figure>"
        )
    return figures


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
    why = "real clips that MuLan finds for the prompts score below a guess"
    note = f"<p>Doubtful, since {why}: {html.escape(doubtful)}</p>"
    return (
        _table(summary)
        + (note if doubtful else "")
        + _table({"reliable": section["reliable"]})
        + _bars({c: rows["generated"]["concepts"][c] for c in concepts})
        + _table(table)
    )


def _bars(estimates: dict[str, dict[str, float]]) -> str:
    """AUCs with their intervals as lines about 0.5."""
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


__all__ = ["compare", "write_html"]
