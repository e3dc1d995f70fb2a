"""What the master tells the outside: plain lines on stderr, and states to a service manager. sd_notify(3).

Rule: whoever reads them may be gone; that never disturbs the master.

Each state is a datagram of its own, so that a manager that knows only some of them still takes those.
"""

import socket
import time
from collections.abc import Mapping

from mta.child import say, show
from mta.reply import visible

__all__ = ["READY", "STOPPING", "Watchdog", "notify", "reloading", "say", "show", "status"]

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"
# Of 64 bits.
MOST_DIGITS = 20


def status(text: str) -> str:
    """Return the state that shows `text` beside the service, as in `systemctl status`."""
    return f"STATUS={' '.join(text.split())}"


def reloading() -> str:
    """Return the state that says a reload has begun now; READY ends it, whatever came of it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


class Watchdog:
    """Tells the service manager that the master's loop turns; silent where nobody asked for it.

    The loop is all that it vouches for. A child that hangs is killed and replaced by the master itself; a manager that
    restarted everything for a queue process that cannot start (a full disk, a damaged file) would drop the sessions of
    healthy workers each time, and mend nothing.
    """

    def __init__(self, address: str, environ: Mapping[str, str], pid: int) -> None:
        """`address` is NOTIFY_SOCKET's; WATCHDOG_USEC and WATCHDOG_PID are read from `environ`."""
        self._address = address
        period = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        is_number = period.isascii() and period.isdigit() and len(period) <= MOST_DIGITS
        # Twice in the time that is allowed, as sd_watchdog_enabled(3) advises.
        self._every_s = int(period) / 2e6 if is_ours and address and is_number else 0.0
        self.due_at = time.monotonic() if self._every_s else float("inf")
        """When the next sign of life is due, monotonic seconds; never where nobody waits for one."""

    def pet(self) -> None:
        """Give a sign of life, if one is due. Called in each turn of the loop."""
        now = time.monotonic()
        if now >= self.due_at:
            self.due_at = now + self._every_s
            notify(self._address, ALIVE)


def notify(address: str, state: str) -> None:
    """Send `state` to the service manager's socket: a path, "@name" for an abstract one, "" for none."""
    if not address:
        return
    # systemd writes the leading NUL of an abstract address as an at sign.
    path = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), path)
    except OSError as error:
        first = state.partition("\n")[0]
        say(f"cannot send {first} to NOTIFY_SOCKET {visible(address)}: {error.strerror or error}")
