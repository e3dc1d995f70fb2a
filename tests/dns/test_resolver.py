"""Asking real and odd name servers: many at once, each once, one server after the other, and whatever they say."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import uvloop

from bench.nameserver import Nameserver
from mta.dns import Record, Resolver
from mta.dns.resolver import MOST_ALIASES
from tests.harness.oddserver import OddServer, answer, error, truncated
from tests.harness.setup import require_tool

TIMEOUT_S = 0.3


def resolving(*servers: tuple[str, int], timeout_s: float = 5.0) -> Resolver:
    return Resolver(servers, timeout_s, asyncio.get_running_loop())


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await scenario()

    uvloop.run(limited())


def one_address(query: bytes, is_tcp: bool) -> Sequence[bytes]:
    name = ".".join(label.decode() for label in labels(query))
    return [answer(query, f"{name} 60 IN A 192.0.2.1")]


def labels(query: bytes) -> list[bytes]:
    found, at = [], 12
    while query[at]:
        found.append(query[at + 1 : at + 1 + query[at]])
        at += 1 + query[at]
    return found


def test_resolver_real_server_answers_each_kind() -> None:
    require_tool("nsd", "nsd")
    zone = "@ MX 10 mx\n@ MX 20 .\nmx A 127.0.0.2\nmx AAAA ::1\nwww CNAME @\nfar CNAME mx.b.test.\nonly6 AAAA ::1"
    many = "\n".join(f"many MX {n} h{n}" for n in range(300))

    async def main() -> None:
        resolver = resolving(nameserver.server)
        best = (Record(10, "mx.a.test"), Record(20, ""))
        assert (await resolver.look_up("A.test", "MX")).records == best
        assert (await resolver.look_up("www.a.test", "MX")).records == best
        assert (await resolver.look_up("mx.a.test", "MX")).status == "no_data"
        assert (await resolver.look_up("nobody.a.test", "MX")).status == "no_name"
        # It serves other zones only, and says so.
        assert (await resolver.look_up("elsewhere.test", "MX")).reason == "the name server said REFUSED"
        found = await resolver.addresses("mx.a.test")
        assert (found.ipv4, found.ipv6, found.failure) == (("127.0.0.2",), ("::1",), "")
        # An alias into a zone that this server does not follow by itself.
        assert (await resolver.addresses("far.a.test")).ipv4 == ("127.0.0.7",)
        assert not await resolver.addresses("nobody.a.test")
        assert (await resolver.addresses("only6.a.test")).ipv6 == ("::1",)
        # Too long for a datagram: TCP, and the best hundred of it.
        long = await resolver.look_up("many.a.test", "MX")
        assert [record.preference for record in long.records] == list(range(100))

    with Nameserver({"a.test": f"{zone}\n{many}", "b.test": "mx A 127.0.0.7"}) as nameserver:
        run(main)


def test_resolver_many_questions_are_in_flight_at_once_each_from_its_own_port_with_its_own_id() -> None:
    async def main() -> None:
        resolver = resolving(server.server)
        found = await asyncio.gather(*(resolver.look_up(f"n{n}.test", "A") for n in range(150)))
        assert {answer.status for answer in found} == {"found"}

    with OddServer(one_address) as server:
        run(main)
    assert len(server.asked) == 150
    assert len({asked.port for asked in server.asked}) > 100
    ids = [asked.id for asked in server.asked]
    assert len(set(ids)) > 140
    assert ids != sorted(ids)


def test_resolver_same_question_is_asked_once_and_kept() -> None:
    async def main() -> None:
        resolver = resolving(server.server)
        first = asyncio.create_task(resolver.look_up("a.test", "A"))
        others = [asyncio.create_task(resolver.look_up("A.Test", "A")) for _ in range(10)]
        await asyncio.sleep(0)
        # Whoever gives up does not take the answer from the others.
        first.cancel()
        for other in others:
            assert (await other).status == "found"
        later = await resolver.look_up("a.test", "A")
        assert 59 < later.ttl_s <= 60
        assert (await resolver.look_up("gone.test", "A")).status == "no_name"
        assert (await resolver.look_up("gone.test", "A")).status == "no_name"

    def script(query: bytes, is_tcp: bool) -> Sequence[bytes]:
        return [error(query, "NXDOMAIN")] if b"gone" in query else one_address(query, is_tcp)

    with OddServer(script) as server:
        run(main)
    assert [asked.name for asked in server.asked] == ["a.test", "gone.test"]


def test_resolver_time_to_live_without_end_is_cut_in_the_first_answer_too() -> None:
    async def main() -> None:
        resolver = resolving(server.server)
        for _ in range(2):
            assert 86_399 < (await resolver.look_up("a.test", "A")).ttl_s <= 86_400

    with OddServer(lambda query, _: [answer(query, "a.test 2147483647 IN A 192.0.2.1")]) as server:
        run(main)


def test_resolver_time_to_live_of_nothing_is_asked_each_time() -> None:
    async def main() -> None:
        resolver = resolving(server.server)
        for _ in range(3):
            assert (await resolver.look_up("a.test", "A")).status == "found"

    with OddServer(lambda query, _: [answer(query, "a.test 0 IN A 192.0.2.1")]) as server:
        run(main)
    assert len(server.asked) == 3


@pytest.mark.parametrize("fault", ["silent", "refusing", "SERVFAIL", "REFUSED", "garbage"])
def test_resolver_next_server_is_asked_when_one_fails_and_stays_the_first(fault: str) -> None:
    def script(query: bytes, _: bool) -> Sequence[bytes]:
        if fault == "garbage":
            return [b"\0" * 40, query[:2] + b"\x81\x80" + b"\xff" * 30, query]
        return [] if fault == "silent" else [error(query, fault)]

    async def main() -> None:
        first = ("127.0.0.1", 1) if fault == "refusing" else bad.server
        resolver = resolving(first, good.server, timeout_s=TIMEOUT_S)
        assert (await resolver.look_up("a.test", "A")).status == "found"
        assert (await resolver.look_up("b.test", "A")).status == "found"

    with OddServer(script) as bad, OddServer(one_address) as good:
        run(main)
    assert [asked.name for asked in good.asked] == ["a.test", "b.test"]
    assert [asked.name for asked in bad.asked] == ([] if fault == "refusing" else ["a.test"])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("silent", "the name server did not answer in time"),
        ("refusing", "the name server cannot be reached: Connection refused"),
        ("SERVFAIL", "the name server said SERVFAIL"),
        ("hangs up", "the name server hung up"),
        ("endless aliases", "there are too many aliases in a row"),
        ("aliases in a circle", "there are too many aliases in a row"),
    ],
)
def test_resolver_no_server_knows_is_a_failure_with_its_reason_and_not_asked_again_at_once(
    fault: str, reason: str
) -> None:
    def script(query: bytes, is_tcp: bool) -> Sequence[bytes]:
        match fault:
            case "SERVFAIL":
                return [error(query)]
            case "hangs up":
                return [] if is_tcp else [truncated(query)]
            case "endless aliases":
                name = ".".join(label.decode() for label in labels(query))
                return [answer(query, f"{name} 60 IN CNAME x{name}.")]
            case "aliases in a circle":
                other = b"b" if b"\1a" in query else b"a"
                name = ".".join(label.decode() for label in labels(query))
                return [answer(query, f"{name} 60 IN CNAME {other.decode()}.test.")]
        return []

    async def main() -> None:
        servers = [("127.0.0.1", 1)] if fault == "refusing" else [server.server]
        resolver = resolving(*servers, timeout_s=TIMEOUT_S)
        failed = await resolver.look_up("a.test", "A")
        assert (failed.status, failed.records) == ("failed", ())
        assert reason in failed.reason
        n_asked = resolver.n_asked
        assert n_asked <= MOST_ALIASES + 1
        assert (await resolver.look_up("a.test", "A")).status == "failed"
        assert resolver.n_asked == n_asked
        addresses = await resolver.addresses("a.test")
        assert not addresses
        assert reason in addresses.failure

    with OddServer(script) as server:
        run(main)


def test_resolver_forged_datagrams_do_not_end_the_wait_for_the_true_answer() -> None:
    def script(query: bytes, _: bool) -> Sequence[bytes]:
        true = answer(query, "a.test 60 IN A 192.0.2.1")
        forged = answer(query, "a.test 60 IN A 203.0.113.1")
        other = bytes((forged[0] ^ 0x55, forged[1])) + forged[2:]
        return [other, forged[:14] + b"z" + forged[15:], b"", b"x", true]

    async def main() -> None:
        found = await resolving(server.server).look_up("a.test", "A")
        assert found.records == (Record(0, "192.0.2.1"),)

    with OddServer(script) as server:
        run(main)


def test_resolver_server_that_knows_no_edns_is_asked_without() -> None:
    def script(query: bytes, is_tcp: bool) -> Sequence[bytes]:
        # The last number of a query's header counts its additional records.
        return [error(query, "FORMERR")] if query[11] else one_address(query, is_tcp)

    async def main() -> None:
        assert (await resolving(server.server).look_up("a.test", "A")).status == "found"

    with OddServer(script) as server:
        run(main)
    assert len(server.asked) == 2


def test_resolver_ten_thousand_records_over_tcp_are_cut() -> None:
    lines = [f"a.test 60 IN A 10.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(4000)]
    wires: list[bytes] = []

    def script(query: bytes, is_tcp: bool) -> Sequence[bytes]:
        if not is_tcp:
            return [truncated(query)]
        if not wires:
            wires.append(answer(query, *lines))
        return [query[:2] + wires[0][2:]]

    async def main() -> None:
        found = await resolving(server.server).look_up("a.test", "A")
        assert len(found.records) == 100

    with OddServer(script) as server:
        run(main)


def test_resolver_localhost_is_this_machine_and_nobody_is_asked() -> None:
    async def main() -> None:
        resolver = resolving()
        found = await resolver.addresses("localhost")
        assert (found.ipv4, found.ipv6) == (("127.0.0.1",), ("::1",))
        assert (await resolver.look_up("a.test", "A")).reason == "there is no name server"
        assert (await resolver.look_up("x" * 64, "A")).status == "failed"

    run(main)


def test_resolver_silent_questions_do_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.dns.resolver.MOST_AT_ONCE", 2)
    monkeypatch.setattr("mta.dns.resolver.MOST_SLOW", 5)
    monkeypatch.setattr("mta.dns.resolver.SLOW_S", 0.05)

    async def main() -> None:
        resolver = resolving(server.server)
        silent = [asyncio.create_task(resolver.look_up(f"silent{n}.test", "A")) for n in range(6)]
        await asyncio.sleep(0)
        assert (await resolver.look_up("healthy.test", "A")).status == "found"
        # Each of them is waited for as long as ever: twice five seconds.
        assert not any(task.done() for task in silent)
        # Places for the slow have an end: the sixth keeps its own, and there is one left.
        assert (await resolver.look_up("other.test", "A")).status == "found"
        assert not any(task.done() for task in silent)
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)

    def script(query: bytes, is_tcp: bool) -> Sequence[bytes]:
        return [] if b"silent" in query else one_address(query, is_tcp)

    with OddServer(script) as server:
        run(main)
