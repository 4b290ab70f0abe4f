"""Notes as basic-pitch (Bittner et al. 2022) transcribes them; a small network that had no part in training.

- note_density: notes begun a second.
- polyphony: keys sounding at once, mean over the frames in which any sounds.
- keys_below_c4, keys_above_c4: keys sounding at once below middle C, and from it upwards; mean over all frames, those
  in which nothing sounds included. So a bass line that plays half of the time counts 0.5.

Neither way is better: they are read beside real music. The network's weights ship in the PyPI package `basic-pitch` as
ONNX; its own way from posteriors to notes needs packages that do not install beside ours, so here a note is a peak of
the onset posterior that goes on sounding.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import soxr
from jaxtyping import Bool, Float

from musiclm.core.features import SAMPLE_RATE_HZ

RATE_HZ = 22050
HOP = 256  # samples of a frame of posteriors
FRAME_RATE_HZ = RATE_HZ / HOP
WINDOW = 2 * RATE_HZ - HOP  # samples the network takes
FRAMES = 172  # it returns for them
MARGIN = 15  # frames at either end that hear too little around them
ONSET, SOUNDING = 0.5, 0.3  # the package's thresholds
LEAST_FRAMES = 6  # 70 ms
C4 = 39  # middle C among the 88 keys, which begin with A0

Posteriors = Float[np.ndarray, "t 88"]


@dataclass(frozen=True)
class Transcription:
    """Which of 88 keys, from A0, sound in each frame of 11.6 ms, and in which frames notes begin."""

    sounding: Bool[np.ndarray, "t 88"]
    onsets: Bool[np.ndarray, "t 88"]


@runtime_checkable
class Transcriber(Protocol):
    """Says which notes sound in a clip."""

    def transcribe(self, clip: Float[np.ndarray, " s"]) -> Transcription: ...


class NoteAnalyser:
    """Transcribes clips. Raises: ValueError with the command that installs what is missing."""

    name = "basic-pitch-2"  # another number when its figures change

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
        """The module's figures of a clip at 24 kHz."""
        return count_notes(self.transcribe(clip))

    def transcribe(self, clip: Float[np.ndarray, " s"]) -> Transcription:
        """The notes of a clip at 24 kHz. Clips of equal length have equally many frames."""
        return transcription(*self.posteriors(clip))

    def posteriors(self, clip: Float[np.ndarray, " s"]) -> tuple[Posteriors, Posteriors]:
        """(onset, sounding) of 88 keys from A0, in frames of 11.6 ms, each in [0, 1].

        Windows overlap by twice the margin.
        """
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


def transcription(onset: Posteriors, sounding: Posteriors) -> Transcription:
    """Notes of posteriors: a note begins at a peak of the onset posterior, if its key sounds for 70 ms from there."""
    before, after = np.roll(onset, 1, 0), np.roll(onset, -1, 0)
    before[0] = after[-1] = 0
    peaks = (onset >= ONSET) & (onset > before) & (onset >= after)
    on = sounding >= SOUNDING
    lasts = np.stack([np.pad(on, ((0, k), (0, 0)))[k:] for k in range(1, LEAST_FRAMES + 1)]).all(0)
    return Transcription(on, peaks & lasts)


def count_notes(notes: Transcription, frame_rate_hz: float = FRAME_RATE_HZ) -> dict[str, float]:
    """The module's figures; zeros where nothing is played."""
    at_once = notes.sounding.sum(1)
    num = max(len(at_once), 1)
    return {
        "note_density": float(notes.onsets.sum() * frame_rate_hz / num),
        "polyphony": float(at_once[at_once > 0].mean()) if at_once.any() else 0.0,
        "keys_below_c4": float(notes.sounding[:, :C4].sum() / num),
        "keys_above_c4": float(notes.sounding[:, C4:].sum() / num),
    }
