"""How many CPU threads compute, and how they wait for one another.

The threads of one operation meet at barriers. Who comes first spins there, by default of OpenMP for milliseconds and
more, so as not to lose the microseconds of falling asleep. On a machine that does something else as well, the late
thread waits for a core, and the others burn theirs while it does: small operations get several times slower. So music
of small networks is made on one thread (`threads_for`), which waits for nobody, and waiting threads soon sleep
(`wait_briefly`). Neither depends on what else the machine does, since the number of threads decides the last bits of
sums.

torch is imported by the functions that need it: `wait_briefly` has to come before.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

# what tells OpenMP how long to spin: the standard's word, GNU's (torch for Linux), LLVM's and Intel's (macOS, Windows)
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# spins of GNU's, about 0.1 ms: undisturbed threads of an operation are not that far apart; LLVM's and Intel's count ms
BRIEFLY = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}
WEIGHTS_PER_THREAD = 32_000_000  # below, a second thread gains a tenth on idle cores, and loses half beside a busy one
P = ParamSpec("P")
T = TypeVar("T")


def wait_briefly() -> None:
    """Threads that wait spin for a moment, then sleep; also in processes that this one starts.

    Nothing changes where torch is imported already, or where the environment says how to wait (`WAITING`).
    """
    if not any(name in os.environ for name in WAITING):
        os.environ.update(BRIEFLY)


@contextlib.contextmanager
def num_threads(num: int) -> Iterator[None]:
    """`num` threads compute inside, for what this thread asks of torch; as many as before after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(network: Any) -> int:
    """How many of the threads there are share what a network, a module, does when music is made; one at least."""
    import torch

    num_weights = sum(weight.numel() for weight in network.parameters())
    return max(1, min(torch.get_num_threads(), num_weights // WEIGHTS_PER_THREAD))


def on_threads(num: Callable[..., int]) -> Callable[[Callable[P, Iterator[T]]], Callable[P, Iterator[T]]]:
    """For a generator function: what it does between two values runs on as many threads as `num` says of its
    arguments. Whoever asks for the values keeps the threads that it has.
    """

    def decorate(function: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            steps, threads = function(*args, **kwargs), num(*args, **kwargs)
            while True:
                with num_threads(threads):
                    try:
                        value = next(steps)
                    except StopIteration:
                        return
                yield value

        return run

    return decorate
