"""The servers of the suite by name: the peers of `bench.peers`, and Posthaste with settings that cost something.

with serving("posthaste by MX", sink, cores=None) as peer: ...
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.load import Sink
from bench.nameserver import Nameserver, NsdMissing
from bench.peers import PEERS, Peer, PeerMissing, Posthaste

__all__ = ["kind_of", "serving"]

RATES = ("connections", "messages", "recipients", "errors")
# All that can be counted is, also of loopback, and nothing is ever refused.
LIMITS = {f"{kind}_per_minute": 100_000_000 for kind in RATES} | {"connections": 10_000, "exempt_relay": False}
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "posthaste by route": {},
    "posthaste, 1 worker": {"workers": {"count": 1}},
    "posthaste, 2 workers": {"workers": {"count": 2}},
    "posthaste, limits": {"limits": {"client": LIMITS}},
}
BY_MX = "posthaste by MX"


def kind_of(name: str) -> type[Peer]:
    """Return the peer that a server is."""
    return Posthaste if name == BY_MX or name in SETTINGS else PEERS[name]


@contextmanager
def serving(name: str, sink: Sink, cores: frozenset[int] | None) -> Iterator[Peer]:
    """Run it for the length of a `with`, relaying to the sink. Raises PeerMissing and StartFailed."""
    if name == BY_MX:
        try:
            nameserver = Nameserver({"sink.test": "@ MX 10 mx\nmx A 127.0.0.1"})
        except NsdMissing as error:
            raise PeerMissing(str(error)) from error
        with nameserver:
            way = {"route": [], "dns": {"nameservers": [nameserver.address]}, "deliver": {"port": sink.port}}
            with Posthaste(sink.via, cores=cores, config=way) as peer:
                yield peer
    elif name in SETTINGS:
        with Posthaste(sink.via, cores=cores, config=SETTINGS[name]) as peer:
            yield peer
    else:
        with PEERS[name](sink.via, cores=cores) as peer:
            yield peer
