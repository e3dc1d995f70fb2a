"""Children for the tests of the master: small, but real processes that the real master forks.

Each leaves lines in `data_dir/log`, one a write, so that the order of several processes can be seen. What is not
`steady` misbehaves in one way.
"""

import os
import select
import signal
import socket
import sys
import time
from types import FrameType

from mta.child import Child


def steady(child: Child) -> int:
    """Check in, beat, and end at SIGTERM or when the master is gone."""
    return _live(child)


def dies_once_ready(child: Child) -> int:
    """Check in, and raise as soon as the file `data_dir/die` is there (which it removes)."""
    return _live(child, dies=True)


def dies_at_boot(child: Child) -> int:
    """End before checking in."""
    _log(child, "boot")
    return 7


def dies_at_boot_as_bad(child: Child) -> int:
    """End before checking in if the host is called bad, else be steady."""
    return 7 if child.config.hostname == "bad.example.test" else _live(child)


def hangs_at_boot_as_bad(child: Child) -> int:
    """Never check in if the host is called bad, else be steady."""
    if child.config.hostname == "bad.example.test":
        time.sleep(60)
    return _live(child)


def raises_at_boot(child: Child) -> int:
    """Raise before checking in."""
    raise RuntimeError(f"no luck in {child.name}")


def hangs(child: Child) -> int:
    """Check in, and never give a sign of life again."""
    _log(child, "start")
    child.tell("ready")
    time.sleep(60)
    return 0


def ignores_stop(child: Child) -> int:
    """Like steady, but deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return _live(child, is_deaf=True)


def stays(child: Child) -> int:
    """Like steady, but takes its time when it is told to leave: it ends at SIGTERM."""
    return _live(child, leaves=False)


def has_worker_killed(child: Child) -> int:
    """A queue that has worker 1 killed, once."""
    return _live(child, kills=True)


def shows_files(child: Child) -> int:
    """Write down which sockets are open in this child, then live on."""
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    kinds = [os.readlink(link) for link in links if os.path.islink(link)]
    given = 1 + len(child.listeners) + (child.link is not None) + (child.outbox is not None)
    n_sockets = sum(kind.startswith("socket:") for kind in kinds)
    _log(child, f"sockets {n_sockets - given} locks {sum(kind.endswith('/lock') for kind in kinds)}")
    loaded = {"lmdb", "uvloop"} & set(sys.modules)
    _log(child, f"user {os.getuid()} {os.getgid()} loaded {sorted(loaded)}")
    return _live(child)


def _live(child: Child, dies: bool = False, is_deaf: bool = False, kills: bool = False, leaves: bool = True) -> int:
    stops: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        stops.append(number)

    if not is_deaf:
        signal.signal(signal.SIGTERM, note)
    _log(child, "start")
    child.tell("ready")
    die = os.path.join(child.config.data_dir, "die")
    while not stops:
        select.select([child.control, *(bound.sock for bound in child.listeners)], [], [], 0.05)
        child.tell("beat")
        words = child.hear()
        if words is None:
            _log(child, "orphan")
            return 0
        for word in words:
            _log(child, f"heard {word}")
            match word:
                case ["leave", _] if leaves:
                    stops.append(0)
                case ["workers", [[_, pid], *_]] if kills:
                    kills = False
                    child.tell("kill", pid)
        for bound in child.listeners:
            _greet(bound.sock)
        if dies and os.path.exists(die):
            os.unlink(die)
            raise RuntimeError("told to die")
    _log(child, "stop")
    return 0


def _greet(sock: socket.socket) -> None:
    try:
        client, _ = sock.accept()
    except BlockingIOError:
        return
    with client:
        client.sendall(b"220 hello\r\n")


def _log(child: Child, text: str) -> None:
    line = f"{child.name} {os.getpid()} {text}\n".encode()
    fd = os.open(os.path.join(child.config.data_dir, "log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)
