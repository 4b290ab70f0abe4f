"""Notes, counted by basic-pitch (Bittner et al. 2022), a small network that hears pitches begin and sound; it had no part in training.

- note_density: notes begun a second. polyphony: pitches sounding at once, mean over the frames in which any sounds.

Neither way is better: they are read beside real music. The network's weights ship in the PyPI package `basic-pitch` as ONNX; its own way from
posteriors to notes needs packages that do not install beside ours, so here a note is a peak of the onset posterior that goes on sounding.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soxr
from jaxtyping import Float

from musiclm.core.features import SAMPLE_RATE_HZ

RATE_HZ = 22050
HOP = 256  # samples of a frame of posteriors
WINDOW = 2 * RATE_HZ - HOP  # samples the network takes
FRAMES = 172  # it returns for them
MARGIN = 15  # frames at either end that hear too little around them
ONSET, SOUNDING = 0.5, 0.3  # the package's thresholds
LEAST_FRAMES = 6  # 70 ms

Posteriors = Float[np.ndarray, "t 88"]


class NoteListener:
    """Counts notes. Raises: ValueError with the command that installs what is missing."""

    name = "basic-pitch"

    def __init__(self) -> None:
        spec = find_spec("basic_pitch")
        if spec is None or spec.origin is None:
            raise ValueError("basic-pitch is not installed; run: pip install --no-deps basic-pitch==0.4.0")
        try:
            import onnxruntime
        except ImportError:
            raise ValueError("onnxruntime is not installed; run: pip install 'musiclm[eval]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = Path(spec.origin).parent / "saved_models" / "icassp_2022" / "nmp.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, clip: Float[np.ndarray, " s"]) -> dict[str, float]:
        """Of a clip at 24 kHz."""
        onset, sounding = self.posteriors(clip)
        return count_notes(onset, sounding, RATE_HZ / HOP)

    def posteriors(self, clip: Float[np.ndarray, " s"]) -> tuple[Posteriors, Posteriors]:
        """(onset, sounding) of 88 keys from A0, in frames of 11.6 ms, each in [0, 1]. Windows overlap by twice the margin."""
        audio = soxr.resample(np.asarray(clip, np.float32), SAMPLE_RATE_HZ, RATE_HZ)
        num_frames = len(audio) // HOP
        step = FRAMES - 2 * MARGIN
        padded = np.pad(audio, (MARGIN * HOP, WINDOW))
        parts = []
        for start in range(0, max(1, num_frames), step):
            window = padded[start * HOP : start * HOP + WINDOW][None, :, None]
            names = ["StatefulPartitionedCall:2", "StatefulPartitionedCall:1"]
            parts.append(self.session.run(names, {"serving_default_input_2:0": window}))
        onset, sounding = (
            np.concatenate([part[i][0, MARGIN : FRAMES - MARGIN] for part in parts])[:num_frames] for i in (0, 1)
        )
        return onset, sounding


def count_notes(onset: Posteriors, sounding: Posteriors, frame_rate_hz: float) -> dict[str, float]:
    """Note density and polyphony of posteriors; zeros where nothing is played."""
    before, after = np.roll(onset, 1, 0), np.roll(onset, -1, 0)
    before[0] = after[-1] = 0
    peaks = (onset >= ONSET) & (onset > before) & (onset >= after)
    on = sounding >= SOUNDING
    lasts = np.stack([np.pad(on, ((0, k), (0, 0)))[k:] for k in range(1, LEAST_FRAMES + 1)]).all(0)
    at_once = on.sum(1)
    return {
        "note_density": float((peaks & lasts).sum() / max(len(onset) / frame_rate_hz, 1e-9)),
        "polyphony": float(at_once[at_once > 0].mean()) if at_once.any() else 0.0,
    }
