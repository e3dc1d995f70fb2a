"""The sink from outside: where mail of a load arrives and is counted, in a process of its own (`bench.load.sink_main`).

with Sink() as sink, Posthaste(sink.via) as server:
    sent = send(server.address, Load(messages=20_000))
    sink.wait(sent)
    assert sink.lost(sent) == 0 and sink.tally(sent.run).doubled == 0
"""

from collections.abc import Sequence

from bench.child import Child
from bench.load.built import ensure_built
from bench.load.model import Rule, Sent, Tally
from bench.program import Program
from bench.wait import wait_until

__all__ = ["Sink"]

WAIT_S = 60.0


class Sink(Program):
    """A sink; what it has counted is gone after `close`. Methods may raise OSError when the process is gone."""

    def __init__(self, *, cores: frozenset[int] | None = None, rules: Sequence[Rule] = ()) -> None:
        """`cores` are the only ones that it runs on."""
        self._cores = cores
        self._rules = rules
        self._child: Child | None = None
        self.port = 0

    def start(self) -> None:
        """Start it; it serves at once."""
        ensure_built()
        cores = "" if self._cores is None else ",".join(map(str, sorted(self._cores)))
        self._child = Child("bench.load.sink_main", ["--cores", cores])
        self.port = self._running.ask("port", int)
        self.set_rules(self._rules)

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    @property
    def _running(self) -> Child:
        if self._child is None:
            raise RuntimeError("the sink does not run")
        return self._child

    @property
    def pid(self) -> int:
        """Its process."""
        return self._running.pid

    @property
    def via(self) -> str:
        """The sink as the next hop of a route."""
        return f"[127.0.0.1]:{self.port}"

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Replace all rules; none at all is a sink that takes everything."""
        self._running.ask("rules", bool, rules)

    def count(self) -> int:
        """Return how many messages it has answered with 250 since it was started, whatever they were."""
        return self._running.ask("count", int)

    def n_ruled(self) -> int:
        """Return how often the rules that it has now were used."""
        return self._running.ask("ruled", int)

    def tally(self, run: str) -> Tally:
        """Return what has come of a run so far."""
        return self._running.ask("tally", Tally, run)

    def lost(self, sent: Sent) -> int:
        """Return how many messages of a run were accepted and have not come so far."""
        accepted = int.from_bytes(sent.numbers, "little")
        arrived = int.from_bytes(self._running.ask("numbers", bytes, sent.run), "little")
        return (accepted & ~arrived).bit_count()

    def wait(self, sent: Sent, timeout_s: float = WAIT_S) -> None:
        """Wait until every accepted message of a run is there. Raises TimeoutError."""
        wait_until(lambda: self.lost(sent) == 0, f"{sent.accepted} messages at the sink", timeout_s)

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has taken."""
        return self._running.ask("cpu", float)
