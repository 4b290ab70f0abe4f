"""Figures of a trained codec on held-out music by number of levels, beside Opus: musiclm.evaluate.codec on clips of a corpus.

python benchmarks/codec.py CORPUS ARTIFACT [--split test] [--out benchmarks/codec.json]
"""

import argparse
import time
from pathlib import Path

import torch

from musiclm.core.artifact import git_revision, read_config
from musiclm.data.corpus.manifest import load_manifest
from musiclm.evaluate.codec import evaluate_codec, make_visqol, save_report
from musiclm.models.soundstream.model import SoundStream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/codec.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = SoundStream.from_artifact(arguments.artifact)
    tracks = [track for track in load_manifest(arguments.corpus) if track.split == arguments.split]
    report = evaluate_codec(
        codec, arguments.corpus, tracks, num_clips=arguments.clips, clip_s=arguments.seconds, visqol=make_visqol()
    )
    info = read_config(arguments.artifact)["info"]
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "git_revision": git_revision(),
        "codec": codec.codes_hash,
        "training_steps": info.get("step"),
        "training_minutes": round(info.get("seconds", 0) / 60),
        "split": arguments.split,
    }
    save_report(report, arguments.out, facts)
    for row in report.rows:
        print(
            f"{row.name:14} {row.kbps:5.1f} kbps  mel {row.mel_distance_db:.2f} dB  pitch {row.pitch_correlation:.3f}  "
            f"SI-SDR {row.si_sdr_db:.1f} dB  ViSQOL {row.visqol:.2f}"
        )


if __name__ == "__main__":
    main()
