"""A page to listen to a rendered corpus: player, spectrogram, piano roll, captions and origins of some clips."""

import base64
import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from musiclm.arrange.corpus.describe import load_score
from musiclm.arrange.score import Score
from musiclm.arrange.timeline import timeline
from musiclm.core.artifact import write_atomic
from musiclm.core.audio import ogg_bytes
from musiclm.core.features import SAMPLE_RATE_HZ
from musiclm.data.corpus.captions import CAPTIONS_FILE, load_captions
from musiclm.data.corpus.clips import read_clip
from musiclm.data.corpus.manifest import CorpusError, Track, load_manifest
from musiclm.evaluate.audit import spread
from musiclm.evaluate.pictures import spectrogram_png

WINDOW_S = 10.0
STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:1150px;margin:2em auto;padding:0 1em;color:#222}"
    "article{border-top:1px solid #ccc;padding:1em 0;display:grid;grid-template-columns:420px 1fr;gap:1.4em}"
    "h2{font-size:17px;margin:0 0 .4em}img,svg,audio{width:100%;display:block;margin-bottom:6px}svg{background:#f6f6f8}"
    "li{margin:.25em 0}small{color:#777}details{color:#555;font-size:13px}"
)
COLOURS = ("#4363d8", "#e6194b", "#3cb44b", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000", "#000075", "#f032e6")


def write_page(corpus_dir: Path, out: Path, num: int = 40, seed: int = 0) -> Path:
    """Writes `out`. Raises: CorpusError for a corpus without captions, ValueError if matplotlib is missing."""
    corpus_dir = Path(corpus_dir)
    tracks = {track.id: track for track in load_manifest(corpus_dir)}
    if not load_captions(corpus_dir):
        raise CorpusError(f"{corpus_dir} has no captions; a page is made of a rendered corpus (musiclm corpus render)")
    with open(corpus_dir / CAPTIONS_FILE, encoding="utf-8") as file:
        records = [record for record in map(json.loads, file) if record["track"] in tracks]
    articles = [_article(corpus_dir, tracks[record["track"]], record) for record in spread(records, num, seed)]
    head = (
        f"<h1>{html.escape(corpus_dir.resolve().name)}</h1><p>{len(articles)} clips of "
        f"{len(tracks)} tracks. Below each player: spectrogram, and the notes of the score, a colour a player.</p>"
    )
    page = f"<!doctype html><meta charset=utf-8><title>musiclm corpus</title><style>{STYLE}</style>{head}" + "\n".join(
        articles
    )
    write_atomic(Path(out), page)
    return Path(out)


def _article(corpus_dir: Path, track: Track, record: dict[str, Any]) -> str:
    start_s = float(record["start_s"])
    clip = read_clip(corpus_dir, track, start_s, WINDOW_S)
    score = load_score(corpus_dir, track.id)
    sound, picture = (
        base64.b64encode(data).decode() for data in (ogg_bytes(clip, SAMPLE_RATE_HZ), spectrogram_png(clip))
    )
    texts = "".join(f"<li>{html.escape(text)}</li>" for text in record["captions"])
    unseen = "".join(f"<li>{html.escape(text)}</li>" for text in record.get("unseen", ()))
    origins = "".join(
        f"<li>{html.escape(f'{origin.what}: {origin.source}, {origin.name} ({origin.licence})')}</li>"
        for origin in score.origins
    )
    return (
        f"<article><div><audio controls src='data:audio/ogg;base64,{sound}'></audio>"
        f"<img src='data:image/png;base64,{picture}' alt='log-mel spectrogram'>{piano_roll(score, start_s)}</div>"
        f"<div><h2>{html.escape(score.style)} <small>{html.escape(track.split)}, {html.escape(track.title)} from "
        f"{start_s:g} s, "
        f"{html.escape(track.licence)}</small></h2><ul>{texts}</ul>"
        + (f"<details><summary>in held-out wording</summary><ul>{unseen}</ul></details>" if unseen else "")
        + (f"<details><summary>origins</summary><ul>{origins}</ul></details>" if origins else "")
        + f"<details><summary>facts</summary><pre>{html.escape(json.dumps(record.get('facts', {}), indent=1))}"
        + "</pre></details></div></article>"
    )


def piano_roll(score: Score, start_s: float, seconds: float = WINDOW_S) -> str:
    """The notes of a window as SVG: time to the right, pitch upwards, drums in the rows at the foot; players below by
    colour.
    """
    width, height, foot = 800, 220, 40
    drawn, names = [], []
    for number, played in enumerate(timeline(score)):
        part = played.between(start_s, start_s + seconds)
        if not part.start.size:
            continue
        colour = COLOURS[number % len(COLOURS)]
        names.append(f"<tspan fill='{colour}'>{html.escape(part.part.instrument)} ({part.part.role}) </tspan>")
        left = np.clip((part.start - start_s) / seconds * width, 0, width)
        right = np.clip((part.end - start_s) / seconds * width, 0, width)
        low = foot * (part.pitch - 27) / 60 if part.is_drums else foot + (height - foot) * (part.pitch - 21) / 88
        for x, end, y, velocity in zip(left, right, low, part.velocity, strict=True):
            drawn.append(
                f"<rect x={x:.1f} y={height - y:.1f} width={max(2.0, end - x):.1f} height=3 fill='{colour}' "
                f"opacity={0.35 + velocity / 200:.2f} />"
            )
    legend = f"<text x=4 y={height + 14} font-size=12>{''.join(names)}</text>"
    return f"<svg viewBox='0 0 {width} {height + 20}'>{''.join(drawn)}{legend}</svg>"
