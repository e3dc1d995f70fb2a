"""The process `mta: report`: takes events out of the queue's outbox into files.

Rule: an event may leave the outbox only when its line is flushed to the disk. The queue process deletes events up to
the number it is told on `child.outbox`; whatever goes wrong here, events wait there and nothing is skipped.
Called by the master after the fork; ends in order on SIGTERM or when the master is gone.
"""

import contextlib
import signal
import socket
import time

from mta.child import BEAT_S, Child, say
from mta.errors import StartError
from mta.report.consumer import Consumer
from mta.report.segments import GapError, SegmentWriter
from mta.store import Reader

__all__ = ["main"]

BATCH = 5000
ROUND_S = 0.1
IDLE_ROUND_S = 0.5
IDLE_ROUNDS = 10
RETRY_S = 1.0
EXPIRE_S = 60.0


def main(child: Child) -> int:
    """Run until told to end; return the exit code: 0 in order, 1 after one sentence on stderr."""
    # Blocked, SIGTERM waits to be fetched by sigtimedwait: it cuts a pause short and nothing else.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = child.config
    try:
        writer = SegmentWriter(config.events.directory, config.events.segment_octets, config.events.keep_s)
    except StartError as error:
        say(str(error))
        return 1
    child.tell("ready")
    try:
        return _Loop(child, writer).run()
    except GapError as error:
        say(str(error))
        return 1
    finally:
        writer.close()


class _Loop:
    """The rounds of the process."""

    def __init__(self, child: Child, writer: SegmentWriter) -> None:
        self._child = child
        self._writer = writer
        self._consumer = Consumer(writer)
        self._reader: Reader | None = None
        self._beat_at = 0.0
        self._expire_at = 0.0
        self._is_ending = False
        self._is_failing = False

    def run(self) -> int:
        """Work until the end. Raises GapError."""
        n_empty = 0
        while True:
            self._check_in()
            # Read before the round: what was committed before the word to end came is still written.
            is_last = self._is_ending
            n_rows = self._round()
            n_empty = 0 if n_rows else n_empty + 1
            if is_last and (n_rows < BATCH or self._is_failing):
                break
            if self._is_failing:
                self._pause(RETRY_S)
            elif n_rows < BATCH:
                self._pause(IDLE_ROUND_S if n_empty >= IDLE_ROUNDS else ROUND_S)
        if self._reader is not None:
            self._reader.close()
        return 1 if self._is_failing else 0

    def _round(self) -> int:
        """Carry one batch over; return how many events it had."""
        if self._reader is None:
            config = self._child.config
            try:
                self._reader = Reader(config.data_dir, config.queue.map_octets)
            except FileNotFoundError:
                return 0
            self._look_back(self._reader)
        rows = self._reader.events(self._consumer.last_seq, BATCH)
        if not rows:
            return 0
        try:
            self._consumer.take(rows)
        except OSError as error:
            if not self._is_failing:
                say(f"{self._writer.directory}: events cannot be written, they wait in the queue: {error.strerror}")
            self._is_failing = True
            return len(rows)
        if self._is_failing:
            say(f"{self._writer.directory}: events are written again")
        self._is_failing = False
        self._confirm()
        return len(rows)

    def _check_in(self) -> None:
        """Do what is due by time: a sign of life, the last confirmation once more, old segments."""
        if self._child.hear() is None:
            self._is_ending = True
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            self._child.tell("beat")
            if self._reader is not None:
                self._look_back(self._reader)

    def _look_back(self, reader: Reader) -> None:
        """Compare the oldest row of the outbox with the files; confirm it again: the word may have got lost."""
        head = reader.events(0, 1)
        pending_seq = head[0][0] if head else self._consumer.last_seq + 1
        # A disk that fails shows when there is something to write.
        with contextlib.suppress(OSError):
            if pending_seq <= self._consumer.last_seq:
                self._consumer.compare(head[0])
                self._confirm()
            if time.monotonic() >= self._expire_at:
                self._expire_at = time.monotonic() + EXPIRE_S
                self._writer.expire(time.time(), pending_seq)

    def _confirm(self) -> None:
        if self._child.outbox is not None:
            # Full, or nobody there to read: the next one says it again.
            with contextlib.suppress(OSError):
                self._child.outbox.send(self._consumer.last_seq.to_bytes(8, "big"), socket.MSG_DONTWAIT)

    def _pause(self, seconds: float) -> None:
        if self._is_ending:
            return
        told = signal.sigtimedwait({signal.SIGTERM}, seconds)
        # A process that was stopped and goes on is told of a signal that has no number.
        if told is not None and told.si_signo == signal.SIGTERM:
            self._is_ending = True
