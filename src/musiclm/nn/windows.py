"""Long audio in windows that overlap: where each begins and ends, and what of it is kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) go through the network; the codes of [keep_start, keep_stop) are kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan_windows(num_frames: int, window: int, context: int) -> list[Window]:
    """Windows of equal length whose kept parts tile [0, num_frames), `context` frames or more from inner edges."""
    if num_frames <= window:
        return [Window(0, num_frames, 0, num_frames)]
    plan, kept = [], 0
    while kept < num_frames:
        start = min(max(0, kept - context), num_frames - window)
        stop = start + window
        keep_stop = num_frames if stop == num_frames else stop - context
        plan.append(Window(start, stop, kept, keep_stop))
        kept = keep_stop
    return plan
