"""What phases cost: audio from the true magnitudes of held-out clips, with phases made in several ways, nothing
quantized.

    python benchmarks/phase.py CORPUS [--out benchmarks/phase.json]

Rows say how many of the lowest bins keep their true phase advance (phase gained from frame to frame; the others are
drawn) and how many iterations of Griffin-Lim follow. The upper bound of any codec of this kind, and the reason for its
phase half (docs/decisions/001-codec-front-end.md).
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch

from musiclm.core.artifact import git_revision
from musiclm.data.corpus.clips import eval_clips
from musiclm.data.corpus.manifest import load_manifest
from musiclm.evaluate.codec import make_visqol, mel_distance_db, pitch_correlation
from musiclm.models.soundstream.config import SoundStreamConfig
from musiclm.models.soundstream.model import SoundStream
from musiclm.models.soundstream.phase import PhaseSynthesis
from musiclm.models.soundstream.spectrogram import Spectra

WAYS = (
    (0, 0),
    (0, 4),
    (0, 16),
    (64, 0),
    (64, 4),
    (64, 16),
    (481, 0),
    (481, 4),
)  # bins with their phase advance, iterations


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/phase.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tracks = [track for track in load_manifest(arguments.corpus) if track.split == "validation"]
    audio = eval_clips(arguments.corpus, tracks, arguments.seconds, arguments.clips, 0)[0]
    visqol, config = make_visqol(), SoundStreamConfig()
    spectra = SoundStream(config).spectra(audio)
    rows = []
    for tonal_bins, iterations in WAYS:
        phase_advance = spectra.phase_advance.clone()
        phase_advance[:, :, tonal_bins:] = 0  # of no length: drawn at random
        synthesis = PhaseSynthesis(dataclasses.replace(config, phase_iterations=iterations))
        outputs = synthesis(Spectra(spectra.log_magnitude, phase_advance))[:, 0].clamp(-1, 1).numpy()
        pairs = list(zip(outputs, audio[:, 0].numpy(), strict=True))
        row: dict[str, float] = {"tonal_bins": tonal_bins, "iterations": iterations}
        for name, measure in {
            "mel_distance_db": mel_distance_db,
            "pitch_correlation": pitch_correlation,
            "visqol": visqol,
        }.items():
            row[name] = round(float(np.mean([measure(output, target) for output, target in pairs])), 3)
        rows.append(row)
        print(row, flush=True)
    facts = {"date": time.strftime("%Y-%m-%d"), "git_revision": git_revision(), "clips": arguments.clips, "rows": rows}
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
