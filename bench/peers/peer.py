"""What every peer is: a private mail server in a folder of its own, that relays whatever it takes to one next hop.

    with Postfix("[127.0.0.1]:2600", cores=frozenset({0})) as peer:
        host, port = peer.address

Private: it listens on a free port of 127.0.0.1, asks no name server, and has its configuration, queue and log in its
folder; its processes are in an account of their own, and all of that is gone after `close`.
Rule: an adapter says what to run, how its queue is counted and which version it is; everything else is here.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.memory import rss_anon
from bench.peers.account import Account
from bench.program import Program
from bench.server import StartFailed
from bench.wait import wait_until

__all__ = ["PATH", "Peer", "PeerMissing", "find_program"]

READY_S = 30.0
STOP_S = 20.0
# Characters of a log that an error shows.
LOG_TAIL = 4000
# What Debian does not install beside Postfix is unpacked in a place of its own (`make peers`).
BESIDE = Path("/usr/local/lib/mta-peers")
PATH = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{BESIDE}/usr/sbin"


class PeerMissing(Exception):
    """This machine cannot run a peer; the text says what is missing and the line that installs it."""


def find_program(name: str, line: str) -> str:
    """Return the path of a program. Raises PeerMissing with the `line` that installs it."""
    path = shutil.which(name, path=PATH)
    if path is None:
        raise PeerMissing(f"there is no {name} on this machine: {line}")
    return path


class Peer(Program):
    """One instance and its folder, gone after `close`. The constructor raises PeerMissing."""

    name: ClassVar[str]
    label: ClassVar[str]
    """What it flushes to the disk before it says 250, in words."""
    is_relaying: ClassVar[bool] = True
    """False if it only receives and throws away."""
    rest_s: ClassVar[float] = 0.0
    """How long to leave it alone after a load, for the next one to find it as the first one did."""

    def __init__(self, via: str, *, cores: frozenset[int] | None = None, directory: str | None = None) -> None:
        """`via` is the next hop, "[127.0.0.1]:port"; `cores` the only ones it may run on; its folder is in `directory`,

        which other users must be able to reach; without it, where temporary files are (TMPDIR).
        """
        self.version = self.require()
        """As the peer says it."""
        self.next_hop = via
        self.cores = cores
        self.directory = Path(tempfile.mkdtemp(prefix=f"peer-{self.name}-", dir=directory))
        # Daemons that run as another user must reach their queue.
        self.directory.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address: tuple[str, int] = free.getsockname()[:2]
        self.tracer: Sequence[str] = ()
        """Words in front of all that is started from now on, as those of strace."""
        self.pid = 0
        """Of its first process, 0 while it does not run."""
        self._account: Account | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def require(cls) -> str:
        """Return the version that is installed. Raises PeerMissing."""

    @abstractmethod
    def n_queued(self) -> int:
        """Return the number of messages in its queue."""

    @abstractmethod
    def _launch(self) -> None:
        """Start it, by `_spawn`."""

    @property
    def via(self) -> str:
        """It as the next hop of somebody else."""
        return f"[{self.address[0]}]:{self.address[1]}"

    @property
    def account(self) -> Account:
        """Who counts its processes. RuntimeError while it does not run."""
        if self._account is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._account

    def start(self) -> None:
        """Start it and wait until it greets. Raises StartFailed with what it logged when it does not."""
        self._account = Account(self.name)
        try:
            self._launch()
            wait_until(lambda: self._is_over() or self._greets(), f"a greeting from {self.name}", READY_S)
        except (OSError, TimeoutError) as error:
            raise StartFailed(f"{self.name}: {error}\n{self.log()[-LOG_TAIL:]}") from error
        if self._is_over():
            raise StartFailed(f"{self.name} ended when it should start\n{self.log()[-LOG_TAIL:]}")

    def _words(self) -> list[str]:
        cores = [] if self.cores is None else ["taskset", "-c", ",".join(map(str, sorted(self.cores)))]
        return [*self.tracer, *self.account.words, *cores]

    def _spawn(self, command: Sequence[str | Path], **environ: str) -> subprocess.Popen[bytes]:
        """Run `command` in the account, on its cores, in a session of its own; what it says goes to the log."""
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [*self._words(), *command],
                cwd=self.directory,
                env={"PATH": PATH, "HOME": str(self.directory), "LC_ALL": "C.UTF-8", **environ},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.pid = self._process.pid
        return self._process

    @property
    def _said(self) -> Path:
        return self.directory / "said"

    def _is_over(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=5) as sock:
            if sock.recv(512).startswith(b"220"):
                sock.sendall(b"QUIT\r\n")
                return True
        return False

    def close(self) -> None:
        """End every process of the instance, and delete its folder."""
        if self._account is not None:
            if self.pid:
                self._stop()
            self._account.close(self.pid)
            self._account, self.pid = None, 0
        shutil.rmtree(self.directory, ignore_errors=True)

    def _stop(self) -> None:
        """Ask it to end, and wait for its first process; the others are killed afterwards."""
        process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.send_signal(signal.SIGTERM)
                process.wait(STOP_S)
            process.kill()
            process.wait()

    def log(self) -> str:
        """Return what it has said and logged."""
        files = [self._said, *self.directory.glob("*log")]
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())

    def pids(self) -> list[int]:
        """Return the pids of all its processes."""
        return self.account.pids(self.pid)

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its processes so far, the dead included; `account.how` says how."""
        return self.account.cpu_s(self.pid)

    def rss_anon_octets(self) -> int:
        """Return the octets of anonymous memory that all its processes hold now, summed up."""
        return sum(rss_anon(pid) for pid in self.pids())
