"""How large a piece from elsewhere may be, and how long work on it may take: one odd file must not hold up thousands.

Files of real music stay far below: five minutes of the densest orchestral MIDI have 15 000 notes, a synthesizer plays
256 at once.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from musiclm.arrange.score import Part

MOST_BYTES = 8_000_000  # of a MIDI or MusicXML file, unpacked
MOST_MESSAGES = 500_000  # of a MIDI file
MOST_QUARTERS = 1_000_000.0  # until its last message: a day at any usual tempo
MOST_NOTES = 20_000  # of what is played, at most five minutes
MOST_AT_ONCE = 256  # notes that sound
MOST_PARTS = 32  # each is rendered alone
READ_S = 300.0  # of work
RENDER_S = 900.0


def check_size(num_bytes: int) -> None:
    """Raises: ValueError for a file that is too large."""
    if num_bytes > MOST_BYTES:
        raise ValueError(f"{num_bytes / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f}")


def check_messages(num_messages: int, quarters: float) -> None:
    """Raises: ValueError for a MIDI file of too many messages, or one that lasts for days."""
    if num_messages > MOST_MESSAGES:
        raise ValueError(f"{num_messages} messages, more than {MOST_MESSAGES}")
    if quarters > MOST_QUARTERS:
        raise ValueError(f"{quarters:.0f} quarter notes long, more than {MOST_QUARTERS:.0f}")


def check_parts(parts: Sequence[Part]) -> None:
    """Raises: ValueError for more than can be rendered in reasonable time."""
    if len(parts) > MOST_PARTS:
        raise ValueError(f"{len(parts)} instruments, more than {MOST_PARTS}")
    if (num_notes := sum(len(part.notes) for part in parts)) > MOST_NOTES:
        raise ValueError(f"{num_notes} notes in what would be played, more than {MOST_NOTES}")
    changes = [(note.start, 1) for part in parts for note in part.notes]
    changes += [(note.start + note.duration, -1) for part in parts for note in part.notes]
    sounding = most = 0
    for _, change in sorted(changes):
        sounding += change
        most = max(most, sounding)
    if most > MOST_AT_ONCE:
        raise ValueError(f"{most} notes sound at once, more than {MOST_AT_ONCE}")


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block when the time is up.

    By an alarm, which only the main thread of a process on Unix has: elsewhere there is no limit. It ends Python's own
    work and waiting for other programs, but no library's inner loop.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: Any) -> None:
        raise TimeoutError(f"took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
