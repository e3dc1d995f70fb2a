"""The master's signals, as numbers to read in its loop.

Rule: a handler does nothing; the interpreter writes the number into a pipe, and the loop reads it when it is ready to.
"""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType

__all__ = ["Signals"]

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


class Signals:
    """Catches what the master is sent, from its making to `close`. One a process, in its main thread."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, _note) for number in WATCHED}
        # The image before this one, if there was one, has held them back for us.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)

    def fileno(self) -> int:
        """Return the descriptor that is readable while signals wait."""
        return self._read_fd

    def read(self) -> list[int]:
        """Return the numbers of the signals that came since the last call, oldest first."""
        with contextlib.suppress(BlockingIOError):
            return list(os.read(self._read_fd, 4096))
        return []

    def again(self, numbers: Iterable[int]) -> None:
        """Have signals read again, behind what waits."""
        os.write(self._write_fd, bytes(numbers))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back for the length of a fork, so that none meant for the child lands in our pipe, or over an
        exec."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def become_child(self) -> None:
        """In a forked child: leave the master's pipe, and take what every child starts with.

        SIGINT from a terminal reaches the whole group and is the master's alone, and so are SIGHUP and SIGUSR2.
        """
        signal.set_wakeup_fd(-1)
        os.close(self._read_fd)
        os.close(self._write_fd)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, _end_at_once)

    def close(self) -> None:
        """Give the signals back to who had them."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        os.close(self._read_fd)
        os.close(self._write_fd)


def _note(number: int, frame: FrameType | None) -> None:
    """Only there so that the interpreter writes the number into the pipe."""


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(0)
