"""The composition root of the state process."""

import gc
import signal
import socket

from mta.child import Child, say
from mta.errors import StartError
from mta.state.process import StateProcess

__all__ = ["main"]


def main(child: Child) -> int:
    """Run until stopped; return the exit code: 0 in order, 1 after one sentence on stderr."""
    wakeup, alarm = socket.socketpair()
    for end in (wakeup, alarm):
        end.setblocking(False)
    signal.set_wakeup_fd(alarm.fileno())
    # The wake-up socket is what tells the loop; the handler is there so that the signal does not end the process.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        process = StateProcess(child, wakeup)
        gc.freeze()
        process.run()
    except StartError as problem:
        say(str(problem))
        return 1
    return 0
