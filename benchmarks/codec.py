"""Figures of a trained codec on held-out music by number of levels, beside Opus: musiclm.evaluate.codec on a corpus.

    python benchmarks/codec.py CORPUS ARTIFACT [--split test] [--played 4] [--out benchmarks/codec.json]
        [--picture codec.png]

`--played` is how many codes a frame bundles play; that number is pictured, and measured beside all of them and fewer.
Notes kept, keys sounding and real-or-not stand beside Opus at 6, 12 and 24 kbps and other clips.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from musiclm.core.artifact import git_revision, read_config
from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import Track, load_manifest
from musiclm.evaluate.bootstrap import Estimate
from musiclm.evaluate.codec import evaluate_codec, level_counts, make_visqol
from musiclm.evaluate.pictures import side_by_side
from musiclm.listen.analysers import MUSICNN, make_analyser
from musiclm.listen.embedders import Aisfx
from musiclm.listen.notes import NoteAnalyser
from musiclm.models.soundstream.model import SoundStream

NUM_PICTURES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--held-out", action="store_true", help="only tracks of packages that no split trains on")
    parser.add_argument("--clips", type=int, default=48, help="real-or-not needs many")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--played", type=int)
    parser.add_argument("--embedder", action="append", help="for real-or-not; default: the judge and aisfx")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/codec.json"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = SoundStream.from_artifact(arguments.artifact)
    tracks = [track for track in load_manifest(arguments.corpus) if track.split == arguments.split]
    tracks = [t for t in tracks if t.seconds >= arguments.seconds and (t.held_out or not arguments.held_out)]
    report = evaluate_codec(
        codec,
        arguments.corpus,
        tracks,
        levels=level_counts(codec.config, arguments.played),
        num_clips=arguments.clips,
        clip_s=arguments.seconds,
        visqol=make_visqol(),
        notes=NoteAnalyser(),
        embedders=[make_analyser(name) for name in arguments.embedder or (MUSICNN, Aisfx.name)],
    )
    info = read_config(arguments.artifact)["info"]
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "codec": codec.codes_hash,
        "training_steps": info.get("step"),
        "training_minutes": round(info.get("seconds", 0) / 60),
        "split": arguments.split,
        "held_out_packages": arguments.held_out,
    }
    arguments.out.write_text(json.dumps({**facts, **report.to_json()}, indent=1) + "\n")
    for row in report.rows:
        judged = " ".join(f"{name} {auc.value:.2f}" for name, auc in (row.real_or_not or {}).items())
        print(
            f"{row.name:14} {row.kbps or 0:5.1f} kbps  mel {row.mel_distance_db.value:5.2f} dB  "
            f"pitch {row.pitch_correlation.value:5.2f}  SI-SDR {row.si_sdr_db.value:5.1f} dB  "
            f"ViSQOL {_value(row.visqol):.2f}  keys {_value(row.keys_below_c4):.2f} / {_value(row.keys_above_c4):.2f}  "
            f"onsets {_value(row.onsets):.2f}  sounding {_value(row.sounding_below_c4):.2f} / "
            f"{_value(row.sounding_above_c4):.2f}  told from real: {judged}"
        )
    print(f"originals: sounding {_value(report.sounding_below_c4):.2f} / {_value(report.sounding_above_c4):.2f}")
    if arguments.picture:
        arguments.picture.write_bytes(picture(codec, arguments.corpus, tracks, arguments.seconds, arguments.played))


def picture(codec: SoundStream, corpus: Path, tracks: list[Track], clip_s: float, levels: int | None) -> bytes:
    """Ten copies beside their originals."""
    audio, owners, _ = eval_clips(corpus, tracks, clip_s, min(NUM_PICTURES, len(tracks)), 0)
    copies = [codec.decode(codec.encode(clip[None], levels))[0, 0].numpy() for clip in audio]
    titles = [track.title for track in owners]
    return side_by_side(
        [(f"codec: {title}", copy) for title, copy in zip(titles, copies, strict=True)],
        [(title, clip[0].numpy()) for title, clip in zip(titles, audio, strict=True)],
    )


def _value(estimate: Estimate | None) -> float:
    return float("nan") if estimate is None else estimate.value


if __name__ == "__main__":
    main()
