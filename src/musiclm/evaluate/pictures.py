"""Clips to look at: what distances and classifiers miss, a missing bass line or a cloud in place of chords, is seen.

A constant-Q picture has a row for each third of a semitone, so that a note is a line and its partials are lines above.
"""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from musiclm.core.features import SAMPLE_RATE_HZ, LogMel

PICTURES_FILE = "pictures.png"
LOWEST_HZ = 32.703  # C1
OCTAVES, BINS_PER_OCTAVE = 7, 36
FLOOR_DB = -60.0
HOP = 512

Clip = Float[np.ndarray, " s"]


def constant_q_db(clip: Clip) -> Float[np.ndarray, "252 t"]:
    """Magnitudes of a clip at 24 kHz from C1 to C8, dB below the clip's loudest, -60 at least; rows from the lowest up.

    All -60 for silence. Raises: ValueError if librosa is missing.
    """
    try:
        import librosa
    except ImportError:
        raise ValueError("librosa is not installed; run: pip install 'musiclm[eval]'") from None
    spectrum = librosa.cqt(
        np.asarray(clip, np.float32),
        sr=SAMPLE_RATE_HZ,
        hop_length=HOP,
        fmin=LOWEST_HZ,
        n_bins=OCTAVES * BINS_PER_OCTAVE,
        bins_per_octave=BINS_PER_OCTAVE,
    )
    magnitude = np.abs(spectrum)
    largest = float(magnitude.max())
    if largest < 1e-6:
        return np.full(magnitude.shape, FLOOR_DB)
    return np.maximum(20 * np.log10(np.maximum(magnitude / largest, 1e-9)), FLOOR_DB)


def side_by_side(left: Sequence[tuple[str, Clip]], right: Sequence[tuple[str, Clip]]) -> bytes:
    """A PNG of constant-Q pictures with their titles in two columns, or one if `right` is empty; middle C is a line.

    Raises: ValueError for no clips on the left, or if matplotlib or librosa is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("matplotlib is not installed; run: pip install 'musiclm[eval]'") from None
    if not left:
        raise ValueError("no clips to draw")
    columns = [column for column in (left, right) if column]
    num_rows = max(map(len, columns))
    figure = Figure(figsize=(7 * len(columns), 2.1 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, len(columns), squeeze=False)
    for panel in panels.flat:
        panel.axis("off")
    for place, column in enumerate(columns):
        for row, (title, clip) in enumerate(column):
            panel, extent = panels[row, place], (0.0, len(clip) / SAMPLE_RATE_HZ, 1.0, 1.0 + OCTAVES)
            panel.axis("on")
            panel.imshow(
                constant_q_db(clip), origin="lower", aspect="auto", cmap="magma", vmin=FLOOR_DB, vmax=0, extent=extent
            )
            panel.axhline(4.0, color="white", linewidth=0.5, alpha=0.6)
            panel.set_yticks(range(1, OCTAVES + 1), [f"C{octave}" for octave in range(1, OCTAVES + 1)], fontsize=7)
            panel.tick_params(axis="x", labelsize=7)
            # matplotlib reads text between dollar signs as formulas
            panel.set_title(textwrap.shorten(title, 80, placeholder=" …").replace("$", r"\$"), fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    return file.getvalue()


def spectrogram_png(clip: Clip) -> bytes:
    """A log-mel picture of a clip at 24 kHz. Raises: ValueError if matplotlib is missing."""
    try:
        from matplotlib import image
    except ImportError:
        raise ValueError("matplotlib is not installed; run: pip install 'musiclm[eval]'") from None
    import torch

    log_mel = LogMel(n_fft=1024, hop=480, num_mels=96, floor=1e-4)
    mel = log_mel(torch.from_numpy(np.asarray(clip, np.float32))[None])[0].numpy()
    file = io.BytesIO()
    image.imsave(file, mel[::-1], cmap="magma", vmin=float(np.log(1e-4)), vmax=float(np.log(3.0)), format="png")
    return file.getvalue()
