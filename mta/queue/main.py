"""The composition root of the queue process: opens the environment after the fork, runs, closes."""

import gc
import signal
import socket

from mta.child import Child, say
from mta.queue.process import QueueProcess
from mta.store import StoreError, Writer

__all__ = ["main"]


def main(child: Child) -> int:
    """Run until stopped; return the exit code: 0 in order, 1 when the queue could not be opened or written."""
    wakeup, alarm = socket.socketpair()
    for end in (wakeup, alarm):
        end.setblocking(False)
    signal.set_wakeup_fd(alarm.fileno())
    # The wake-up socket is what tells the loop; the handler is there so that the signal does not end the process.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        writer = Writer(child.config.data_dir, child.config.queue.map_octets)
        process = QueueProcess(child, writer, wakeup)
        gc.freeze()
        process.run()
        writer.close()
    except StoreError as problem:
        say(f"queue: {problem}")
        return 1
    return 0
