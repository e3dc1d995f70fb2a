"""Posthaste itself, as a peer among peers: `bench.server.Server`, in an account of its own."""

from collections.abc import Mapping
from importlib.metadata import version

from bench.peers.peer import Peer, PeerMissing
from bench.server import MTA, Server

__all__ = ["Posthaste"]


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
        """Return the version that is installed. Raises PeerMissing."""
        if not MTA.exists():
            raise PeerMissing(f"there is no {MTA}: make build")
        return version("posthaste-mta")

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
