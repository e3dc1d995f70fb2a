"""The Unix sockets in `data_dir`: `link.sock`, where workers and commands reach the queue process, and `state.sock`,
where workers reach the state process.

Rule: a socket is named through a descriptor of its directory, because a socket address holds 107 bytes of path and a
data_dir may be longer (unix(7)).

The master binds them and hands each to its process; everybody else connects.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

__all__ = ["LINK_NAME", "STATE_NAME", "bind_link", "open_link", "remove_link"]

LINK_NAME = "link.sock"
STATE_NAME = "state.sock"
BACKLOG = 128


def open_link(data_dir: str, name: str = LINK_NAME) -> socket.socket:
    """Return a blocking stream socket connected to a process of `data_dir`, the queue process unless `name` says other.

    While the master lives this works even if the process is being restarted: the connection waits for it.

    Raises:
        OSError: FileNotFoundError or ConnectionRefusedError mean that no server is running on `data_dir`.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_path(data_dir, name) as path:
            sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_link(data_dir: str, name: str = LINK_NAME) -> socket.socket:
    """Return the listening socket, not blocking, mode 0600. Takes the place of a socket file left behind.

    Only for the one who holds the lock of `data_dir`. Raises OSError.
    """
    remove_link(data_dir, name)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux takes the mode of the file from the socket, so there is no moment in which others could connect.
        os.fchmod(sock.fileno(), 0o600)
        with _short_path(data_dir, name) as path:
            sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def remove_link(data_dir: str, name: str = LINK_NAME) -> None:
    """Remove the socket file, if there is one. Only for the one who holds the lock of `data_dir`."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(data_dir, name))


@contextlib.contextmanager
def _short_path(data_dir: str, name: str) -> Iterator[str]:
    directory = os.open(data_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)
