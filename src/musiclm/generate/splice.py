"""How sound that was given and sound that is made become one: cross-faded where they meet, in blocks, in constant
memory.

Outside of what is made the given sound stays sample for sample, but for a fade on either side. There both hold the same
music, once as it was given and once as the codec decodes it, so what is made begins and ends where it was asked to.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

Blocks = Iterator[Float[np.ndarray, " s"]]


class Tape:
    """Blocks of sound, read by numbers of samples."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.rest = np.zeros(0, np.float32)

    def read(self, num: int) -> Blocks:
        """The next `num` samples. Raises: ValueError if there are fewer."""
        while num:
            if not len(self.rest):
                block = next(self.blocks, None)
                if block is None:
                    raise ValueError(f"the sound ends {num} samples early")
                self.rest = block
            block, self.rest = self.rest[:num], self.rest[num:]
            num -= len(block)
            if len(block):
                yield block

    def whole(self, num: int) -> Float[np.ndarray, " s"]:
        """The next `num` samples at once. Raises: as `read`."""
        return np.concatenate([np.zeros(0, np.float32), *self.read(num)])

    def skip(self, num: int) -> None:
        """Reads on. Raises: as `read`."""
        for _ in self.read(num):
            pass


def skipping(num: int, blocks: Blocks) -> Blocks:
    """Sound without its first `num` samples. Raises: ValueError if there are fewer."""
    tape = Tape(blocks)
    tape.skip(num)
    if len(tape.rest):
        yield tape.rest
    yield from tape.blocks


def cross_fade(old: Float[np.ndarray, " s"], new: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """From one sound to another, as loud throughout as they are, whether or not they are alike."""
    rise = (np.arange(len(old), dtype=np.float64) + 0.5) / max(1, len(old))
    energy = float(np.sqrt((old.astype(np.float64) ** 2).sum() * (new.astype(np.float64) ** 2).sum()))
    likeness = 0.0 if energy < 1e-9 else float(np.clip(old.astype(np.float64) @ new / energy, 0, 1))
    scale = np.sqrt(rise**2 + (1 - rise) ** 2 + 2 * rise * (1 - rise) * likeness)
    return np.clip(((1 - rise) * old + rise * new) / scale, -1, 1).astype(np.float32)


def spliced(given: Blocks, made: Blocks, made_start: int, start: int, stop: int, total: int, fade: int) -> Blocks:
    """`total` samples: `made` from `start` to `stop`, `given` around it, with cross-fades of `fade` samples outside.

    made_start: where in the whole the first sample of `made` lies. A fade is as long as the given sound beside it, if
    that is shorter. Of both no more is read than needed. Raises: ValueError if either ends early.
    """
    old, new = Tape(given), Tape(made)
    before, after = min(fade, start), min(fade, total - stop)
    if start:
        yield from old.read(start - before)
        new.skip(start - before - made_start)
        yield cross_fade(old.whole(before), new.whole(before))
    else:
        new.skip(-made_start)
    yield from new.read(stop - start)
    if stop < total:
        old.skip(stop - start)
        yield cross_fade(new.whole(after), old.whole(after))
        yield from old.read(total - stop - after)


def circular(given: Blocks, made: Blocks, start: int, total: int, fade: int) -> Blocks:
    """`total` samples that run into their own beginning: `made` from `start` on, before it `given`.

    `made` counts from the beginning of the whole and goes on past its end, as the whole goes on with its own beginning:
    there it fades into what was given. So all that is made is decoded before the first sample is known.

    Raises: ValueError if either ends early.
    """
    old, new = Tape(given), Tape(made)
    new.skip(start - fade)
    before, inside, after = new.whole(fade), new.whole(total - start), new.whole(fade)
    yield cross_fade(after, old.whole(fade))
    yield from old.read(start - 2 * fade)
    yield cross_fade(old.whole(fade), before)
    yield inside
