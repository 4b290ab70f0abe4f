"""Work that a signal stops: Ctrl-C is Python's KeyboardInterrupt, and `Interrupted` where there is more to say."""

import signal


class Interrupted(BaseException):
    """A signal stopped the work, and what was done is put away. The message is one line that says how to go on.

    Not an Exception, like KeyboardInterrupt: no `except Exception` on the way may take it for a failure.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that the signal ended: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number
