"""Posthaste itself, as a peer among peers: `bench.server.Server`, in an account of its own."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from bench.peers.peer import Peer, PeerMissing
from bench.server import MTA, Server

__all__ = ["Posthaste"]

PACKAGE = Path(__file__).resolve().parents[2] / "mta"
SOURCES = {".py", ".pyx", ".pxd", ".h"}


class Posthaste(Peer):
    """One instance; as many workers as it has cores."""

    name = "posthaste"
    label = "one commit (fdatasync, then a synchronous write) for all messages that wait"

    def __init__(
        self,
        via: str,
        *,
        cores: frozenset[int] | None = None,
        directory: str | None = None,
        config: Mapping[str, object] | None = None,
    ) -> None:
        """`config` are tables and values beside the route, or in its place."""
        super().__init__(via, cores=cores, directory=directory)
        route = [{"match": "*", "via": via}]
        self.server = Server({"route": route, **(config or {})}, within=str(self.directory))

    @classmethod
    def require(cls) -> str:
        """Return the version that is installed, and a digest of its source. Raises PeerMissing."""
        if not MTA.exists():
            raise PeerMissing(f"there is no {MTA}: make build")
        digest = hashlib.sha256()
        for path in sorted(path for path in PACKAGE.rglob("*") if path.suffix in SOURCES):
            digest.update(path.read_bytes())
        return f"{version('posthaste-mta')}, source {digest.hexdigest()[:12]}"

    def _launch(self) -> None:
        self.server.before = self._words()
        self.server.start()
        self.pid, self.address = self.server.pid, self.server.address

    def _is_over(self) -> bool:
        return not self.server.is_running

    def _stop(self) -> None:
        self.server.close()

    def log(self) -> str:
        """Return what it has written to stderr."""
        return self.server.stderr()

    def n_queued(self) -> int:
        """Return the number of messages in its queue."""
        return self.server.n_queued()
