"""What the master tells the outside: plain lines on stderr, and states to a service manager. sd_notify(3).

Rule: whoever reads them may be gone; that never disturbs the master.
"""

import contextlib
import socket
import sys

__all__ = ["READY", "STOPPING", "notify", "say"]

READY = "READY=1"
STOPPING = "STOPPING=1"


def say(text: str) -> None:
    """Write one line for the operator."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"mta: {text}\n")
        sys.stderr.flush()


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
        say(f"cannot send {state} to NOTIFY_SOCKET {address}: {error.strerror or error}")
