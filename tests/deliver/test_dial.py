"""Whom a session connects to: in which order, from where, and whom never."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from mta.config import Deliver
from mta.deliver import Dial, Dialer, Own
from mta.deliver.dial import MOST_TARGETS
from mta.deliver.families import AGAIN_S, Families
from mta.dns import Resolver
from mta.message import Hosts
from tests.harness.oddserver import OddServer, answer

FOUR, SIX = ["192.0.2.1", "192.0.2.2"], ["2001:db8::1"]


# Families, by a clock of the test's own.


def test_families_of_one_keep_their_order() -> None:
    families = Families()
    assert families.order(FOUR, [], 0.0) == FOUR
    assert families.order([], SIX, 0.0) == SIX


def test_families_unknown_begin_with_ipv6_and_take_turns() -> None:
    assert Families().order(FOUR, SIX, 0.0) == [SIX[0], *FOUR]


@pytest.mark.parametrize(("four_s", "six_s", "first"), [(0.01, 0.5, 4), (0.5, 0.01, 6), (0.1, 0.1, 6), (30.0, 0.2, 6)])
def test_families_faster_one_goes_first(four_s: float, six_s: float, first: int) -> None:
    families = Families()
    for _ in range(2):
        families.order(FOUR, SIX, 0.0)
    families.took(4, four_s, 1.0)
    families.took(6, six_s, 1.0)
    assert families.order(FOUR, SIX, 2.0)[0] == (FOUR if first == 4 else SIX)[0]


def test_families_slower_one_is_tried_again_after_a_while_once() -> None:
    families = Families()
    for _ in range(2):
        families.order(FOUR, SIX, 0.0)
    families.took(6, 30.0, 0.0)
    families.took(4, 0.1, 300.0)
    assert families.order(FOUR, SIX, AGAIN_S - 1)[0] == FOUR[0]
    assert families.order(FOUR, SIX, AGAIN_S)[0] == SIX[0]
    # While that one looks, the others go on as before; what it finds counts.
    assert families.order(FOUR, SIX, AGAIN_S + 1)[0] == FOUR[0]
    families.took(6, 0.01, AGAIN_S + 2)
    assert families.order(FOUR, SIX, AGAIN_S + 3)[0] == SIX[0]


# Our own listeners.


@pytest.mark.parametrize(
    ("bound", "address", "port", "expected"),
    [
        (("127.0.0.2", 25), "127.0.0.2", 25, True),
        (("127.0.0.2", 25), "127.0.0.3", 25, False),
        (("127.0.0.2", 25), "127.0.0.2", 26, False),
        # All addresses: every one of this machine, and no other.
        (("0.0.0.0", 25), "127.0.0.9", 25, True),
        (("0.0.0.0", 25), "192.0.2.1", 25, False),
        (("0.0.0.0", 25), "::1", 25, False),
        (("::", 25), "::1", 25, True),
        (("::", 25), "0:0::1", 25, True),
        (("::", 25), "2001:db8::1", 25, False),
        (("::", 25), "127.0.0.1", 25, False),
        # The kernel takes "any" for this machine, and IPv4 inside IPv6 for IPv4.
        (("127.0.0.1", 25), "0.0.0.0", 25, True),
        (("::1", 25), "::", 25, True),
        (("127.0.0.1", 25), "::ffff:127.0.0.1", 25, True),
        (("0.0.0.0", 25), "::ffff:0.0.0.0", 25, True),
    ],
)
def test_own_has_what_reaches_a_listener(bound: tuple[str, int], address: str, port: int, expected: bool) -> None:
    assert Own([bound]).has(address, port) is expected


# Connecting.


class Peer(asyncio.Protocol):
    """Hangs up."""

    def __init__(self) -> None:
        self.is_made = False
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hang up."""
        self.is_made = True
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self.lost.set()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await scenario()

    uvloop.run(limited())


def dialer(deliver: Deliver | None = None, own: Own | None = None, *servers: tuple[str, int]) -> Dialer:
    loop = asyncio.get_running_loop()
    return Dialer(deliver or Deliver(), Resolver(servers, 1.0, loop), own or Own(()), loop)


async def reached(dial: Dial) -> list[str]:
    """Connect until there is nobody left; return who answered, in order."""
    found = []
    while await connected(dial):
        found.append(dial.target.remote_mta)
    return found


async def connected(dial: Dial) -> bool:
    """Connect, and wait until that is over."""
    peer = Peer()
    if not await dial.connect(peer, lambda: peer.is_made):
        return False
    await peer.lost.wait()
    return True


@pytest.fixture
def port() -> int:
    """A port that is free at 127.0.0.2 to 127.0.0.9."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.asynccontextmanager
async def listening(port: int, *addresses: str) -> AsyncIterator[list[str]]:
    """Listen at some addresses; give the list of who connected."""
    peers: list[str] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        writer.close()
        await writer.wait_closed()

    servers = [await asyncio.start_server(hang_up, address, port) for address in addresses]
    try:
        yield peers
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()


def test_dial_ranks_decide_and_equal_ones_are_shuffled_for_each_session(port: int) -> None:
    hosts: Hosts = tuple((f"127.0.0.{n}", port) for n in (2, 3, 4, 5))

    async def main() -> None:
        made = dialer()
        orders = Counter(tuple(host for host, _ in made.dial(hosts, (1, 5, 5, 9))._hosts) for _ in range(200))
        assert set(orders) == {
            ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"),
            ("127.0.0.2", "127.0.0.4", "127.0.0.3", "127.0.0.5"),
        }
        assert min(orders.values()) > 40
        # Without ranks they keep their order.
        async with listening(port, "127.0.0.3", "127.0.0.5"):
            assert await reached(made.dial(hosts)) == ["[127.0.0.3]", "[127.0.0.5]"]

    run(main)


def test_dial_last_failure_is_told(port: int) -> None:
    async def main() -> None:
        dial = dialer().dial((("127.0.0.2", port), ("127.0.0.3", port)))
        assert not await connected(dial)
        assert dial.failure is not None
        assert dial.failure.reason == f"cannot connect to [127.0.0.3]:{port}: Connection refused"
        # Nothing is left, and nothing was tried.
        assert not await connected(dial)
        assert dial.failure is None

    run(main)


def test_dial_own_listener_is_never_connected_to_by_address_or_by_name(port: int) -> None:
    def script(query: bytes, _: bool) -> list[bytes]:
        is_a = query[12 + len(b"\2us\4test\0") :][:2] == b"\0\1"
        return [answer(query, *("us.test 60 IN A 127.0.0.2", "us.test 60 IN A 127.0.0.3")[: 2 * is_a])]

    async def main() -> None:
        made = dialer(None, Own([("127.0.0.2", port)]), names.server)
        async with listening(port, "127.0.0.2", "127.0.0.3"):
            for hosts in ((("127.0.0.2", port),), (("::ffff:127.0.0.2", port),)):
                dial = made.dial(hosts)
                assert not await connected(dial)
                assert dial.failure is not None
                assert dial.failure.enhanced == "4.4.6"
            assert await reached(made.dial((("us.test", port),))) == ["us.test [127.0.0.3]"]

    with OddServer(script) as names:
        run(main)


def test_dial_connects_from_the_source_address(port: int) -> None:
    async def main() -> None:
        made = dialer(Deliver(source_ipv4="127.0.0.77"))
        async with listening(port, "127.0.0.2") as peers:
            assert await reached(made.dial((("127.0.0.2", port),))) == ["[127.0.0.2]"]
            while not peers:
                await asyncio.sleep(0.01)
        assert peers == ["127.0.0.77"]
        # One that is not ours is said to be so.
        dial = dialer(Deliver(source_ipv4="192.0.2.1")).dial((("127.0.0.2", port),))
        assert not await connected(dial)
        assert dial.failure is not None
        assert "Cannot assign requested address" in dial.failure.reason

    run(main)


def test_dial_of_a_session_tries_so_many_addresses_and_no_more(port: int) -> None:
    async def main() -> None:
        hosts = tuple((f"127.0.1.{n}", port) for n in range(1, 2 * MOST_TARGETS))
        async with listening(port, hosts[MOST_TARGETS - 1][0], hosts[MOST_TARGETS][0]):
            assert await reached(dialer().dial(hosts)) == [f"[{hosts[MOST_TARGETS - 1][0]}]"]

    run(main)


def test_dial_time_out_of_one_family_lets_the_other_go_first(port: int) -> None:
    def script(query: bytes, _: bool) -> list[bytes]:
        is_a = query[12 + len(b"\4both\4test\0") :][:2] == b"\0\1"
        return [answer(query, "both.test 60 IN A 127.0.0.2" if is_a else "both.test 60 IN AAAA ::1")]

    async def main() -> None:
        made = dialer(None, None, names.server)
        async with listening(port, "127.0.0.2"):
            assert await reached(made.dial((("both.test", port),))) == ["both.test [127.0.0.2]"]
            # As if there were no way for IPv6: what waits for a time-out is not asked first a second time.
            made.families.took(6, 30.0, made.loop.time())
            again = made.dial((("both.test", port),))
            assert await connected(again)
            assert again.target.address == "127.0.0.2"
            assert [target.address for target in again._targets] == ["::1"]

    with OddServer(script) as names:
        run(main)
