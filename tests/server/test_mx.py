"""Mail by MX through a running server, a real authoritative name server, and hosts at many addresses of one port."""

import contextlib
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from bench.client import Client
from bench.nameserver import Nameserver
from bench.reload import order
from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from tests.harness import require_tool, run_async
from tests.harness.oddserver import OddServer, error
from tests.server.conftest import Serve

ALIVE, ALSO_ALIVE, DEAD, OURS = "127.0.0.2", "127.0.0.3", "127.0.0.9", "127.0.0.5"
US = "mx.example.test"
ZONES = {
    "good.test": f"""
@ MX 10 mx
@ MX 20 mx2
mx A {ALIVE}
mx2 A {ALSO_ALIVE}
dead A {DEAD}
six AAAA ::1
h A {OURS}
alias CNAME @
mxalias MX 10 other
other CNAME mx
bare A {ALIVE}
bare6 AAAA ::1
xn--bcher-kva MX 10 mx
next MX 10 dead
next MX 20 mx2
sixth MX 10 six
both MX 10 two
two A {DEAD}
two AAAA ::1
""",
    "null.test": "@ MX 0 .",
    "empty.test": "@ TXT nothing",
    "noaddress.test": "@ MX 10 nowhere\n@ MX 20 nobody",
    "self.test": f"@ MX 10 {US}.\n@ MX 10 mx.good.test.\n@ MX 20 mx2.good.test.",
    "worse.test": f"@ MX 10 dead.good.test.\n@ MX 20 {US}.\n@ MX 20 mx.good.test.\n@ MX 30 mx2.good.test.",
    "better.test": f"@ MX 10 mx2.good.test.\n@ MX 20 {US}.\n@ MX 30 mx.good.test.",
    "listener.test": "@ MX 10 h.good.test.\n@ MX 20 mx.good.test.",
    "any.test": "@ A 0.0.0.0",
    "equal.test": "@ MX 10 mx.good.test.\n@ MX 10 mx2.good.test.",
    "many.test": "\n".join(f"@ MX {n} {'mx2.good.test.' if n == 99 else 'nobody'}" for n in range(150)),
    "toomany.test": "\n".join(f"@ MX {n} {'mx2.good.test.' if n == 100 else 'nobody'}" for n in range(150)),
    "first.test": "@ MX 10 dead.good.test.",
    "second.test": "@ MX 77 DEAD.good.test.",
    "later.test": "@ MX 10 mx.good.test.",
}


class World(NamedTuple):
    """A server, and where its mail can go."""

    server: Server
    sinks: dict[str, Sink]
    port: int


def config(nameservers: Sequence[str], port: int, **more: object) -> dict[str, object]:
    return {
        "workers": {"count": 2},
        "dns": {"nameservers": list(nameservers), "timeout_s": 1},
        "deliver": {"port": port},
        "path": {"pause_s": 0.3, "idle_s": 0.05},
        "retry": {"first_s": 1},
        **more,
    }


@pytest.fixture(scope="module")
def nameserver() -> Iterator[Nameserver]:
    """A name server with all the zones."""
    require_tool("nsd", "nsd")
    with Nameserver(ZONES) as nameserver:
        yield nameserver


@pytest.fixture(scope="module")
def world(nameserver: Nameserver) -> Iterator[World]:
    """One server for all that each send to a domain of their own."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Sink(host=ALIVE))
        port = first.port
        sinks = {ALIVE: first}
        for host in (ALSO_ALIVE, "::1"):
            sinks[host] = stack.enter_context(Sink(host=host, port=port))
        routes = [
            {"match": "routed.test", "via": f"[mx2.good.test]:{port}"},
            {"match": "looped.test", "via": f"[{OURS}]:{port}"},
            {"match": "named.test", "via": f"[h.good.test]:{port}"},
        ]
        listeners = [
            {"name": "mx", "bind": ["127.0.0.1:0"]},
            {"name": "ours", "bind": [f"{OURS}:{port}"]},
        ]
        ours = config([nameserver.address], port, route=routes, listener=listeners)
        server = stack.enter_context(Server(ours))
        yield World(server, sinks, port)
        print(server.stderr())


def send(server: Server, *recipients: str, sender: str = "") -> list[str]:
    """Send a mail for each recipient; return their ids."""

    async def scenario() -> list[str]:
        client = Client(*server.address)
        await client.connect()
        ids = []
        for recipient in recipients:
            answer = await client.send(sender, [recipient], b"Subject: x\r\n\r\nbody\r\n")
            assert answer.code == 250, answer
            ids.append(answer.queued_id)
        await client.close()
        return ids

    return run_async(scenario())


def fate(server: Server, id_: str, kinds: Sequence[str] = ("delivered", "bounced", "expired", "deferred")) -> Any:
    """Wait for what becomes of a mail and return the event."""

    def told() -> list[dict[str, Any]]:
        return [event for event in server.events(*kinds) if event["id"] == id_]

    wait_until(lambda: bool(told()), f"the fate of {id_}", 20)
    return told()[0]


def last_of(server: Server, id_: str) -> Any:
    """Wait until `queue show` has a reason for a recipient that was never tried; return that."""

    def shown() -> Any:
        return server.run_json("queue", "show", id_)[0]["recipients"][0]

    wait_until(lambda: bool(shown()["last"]["reason"]), f"a reason for {id_}", 20)
    row = shown()
    assert (row["state"], row["attempts"]) == ("waiting", 0)
    return row["last"]


@pytest.mark.parametrize(
    ("domain", "remote_mta"),
    [
        # The best first, whatever order they come in; the next one if it is dead.
        ("good.test", f"mx.good.test [{ALIVE}]"),
        ("next.good.test", f"mx2.good.test [{ALSO_ALIVE}]"),
        # Aliases, of the domain and of a host.
        ("alias.good.test", f"mx.good.test [{ALIVE}]"),
        ("mxalias.good.test", f"other.good.test [{ALIVE}]"),
        # No MX: the domain's own address.
        ("bare.good.test", f"bare.good.test [{ALIVE}]"),
        ("bare6.good.test", "bare6.good.test [::1]"),
        # IPv6 alone, and the other family when one is dead.
        ("sixth.good.test", "six.good.test [::1]"),
        ("both.good.test", "two.good.test [::1]"),
        # Ourselves, and what is no better, are left out.
        ("better.test", f"mx2.good.test [{ALSO_ALIVE}]"),
        # A hundred records are looked at; the answer needs TCP.
        ("many.test", f"mx2.good.test [{ALSO_ALIVE}]"),
        # Address literals, and a route by name.
        (f"[{ALIVE}]", f"[{ALIVE}]"),
        ("[IPv6:::1]", "[::1]"),
        ("routed.test", f"mx2.good.test [{ALSO_ALIVE}]"),
    ],
)
def test_mail_by_mx_arrives_at(world: World, domain: str, remote_mta: str) -> None:
    [id_] = send(world.server, f"x@{domain}")
    event = fate(world.server, id_)
    assert (event["event"], event["remote_mta"]) == ("delivered", remote_mta)


@pytest.mark.parametrize(
    ("domain", "code", "enhanced"),
    [
        ("null.test", 556, "5.1.10"),
        ("nobody.good.test", 550, "5.1.2"),
        ("empty.test", 550, "5.1.2"),
        ("noaddress.test", 550, "5.4.4"),
        ("toomany.test", 550, "5.4.4"),
        # Loops: our name, an address and port that we listen on, however it is reached.
        ("self.test", 554, "5.4.6"),
        ("listener.test", 554, "5.4.6"),
        (f"[{OURS}]", 554, "5.4.6"),
        ("looped.test", 554, "5.4.6"),
        ("named.test", 554, "5.4.6"),
    ],
)
def test_mail_by_mx_bounces_at_once(world: World, domain: str, code: int, enhanced: str) -> None:
    [id_] = send(world.server, f"x@{domain}", sender="sender@good.test")
    event = fate(world.server, id_)
    assert (event["event"], event["code"], event["enhanced"], event["attempts"]) == ("bounced", code, enhanced, 0)
    assert event["reason"]
    # The sender is told, by mail, and nobody connected to us but the test.
    wait_until(lambda: any(e["about"] == id_ for e in world.server.events("received")), "the notice", 20)
    assert "ours" not in {event["listener"] for event in world.server.events("received")}


def test_mail_by_mx_to_what_is_worse_than_we_are_is_never_sent(world: World) -> None:
    [id_] = send(world.server, "x@worse.test")
    last = last_of(world.server, id_)
    assert (last["enhanced"], last["remote_mta"]) == ("4.4.1", f"dead.good.test [{DEAD}]")
    assert not [event for event in world.server.events("delivered") if event["id"] == id_]


def test_mail_by_mx_equal_hosts_share_it(world: World) -> None:
    peers: set[str] = set()
    for _ in range(30):
        if len(peers) == 2:
            break
        [id_] = send(world.server, "x@equal.test")
        peers.add(fate(world.server, id_)["remote_mta"])
        # The next one is to have a session of its own.
        wait_until(lambda: not any(sink.n_open() for sink in world.sinks.values()), "no session", 20)
    assert peers == {f"mx.good.test [{ALIVE}]", f"mx2.good.test [{ALSO_ALIVE}]"}


def test_mail_by_mx_domains_with_the_same_hosts_are_one_site(world: World) -> None:
    ids = send(world.server, "x@first.test", "x@second.test")
    for id_ in ids:
        assert last_of(world.server, id_)["reason"].startswith("cannot connect to dead.good.test")
    sites = {event["site"] for event in world.server.events("path_paused")}
    assert "dead.good.test" in sites
    assert not any("first" in site or "second" in site for site in sites)


def test_mail_by_mx_no_answer_puts_the_queue_to_sleep_until_there_is_one(serve: Serve, sink: Sink) -> None:
    require_tool("nsd", "nsd")
    nameserver = Nameserver({"later.test": f"@ MX 10 mx\nmx A {sink.host}"})
    try:
        server = serve(config([nameserver.address], sink.port))
        [id_] = send(server, "x@later.test")
        last = last_of(server, id_)
        assert (last["status"], last["code"], last["enhanced"]) == ("deferred", 451, "4.4.3")
        assert "the name service does not know later.test" in last["reason"]
        assert server.count()["waiting"] == 1
        nameserver.start()
        assert fate(server, id_)["event"] == "delivered"
        sites = [event["site"] for event in server.events("path_paused", "path_resumed")]
        assert set(sites) == {"unresolved:later.test"}
        assert server.events("path_resumed")
        wait_until(lambda: server.run("queue", "verify").returncode == 0, "a whole queue", 20)
    finally:
        nameserver.close()


@pytest.mark.parametrize("fault", ["SERVFAIL", "silence", "garbage"])
def test_mail_by_mx_bad_name_server_is_passed_over_and_alone_makes_mail_expire_with_its_reason(
    world: World, nameserver: Nameserver, serve: Serve, fault: str
) -> None:
    def script(query: bytes, _: bool) -> Sequence[bytes]:
        if fault == "garbage":
            return [query[:2] + b"\x81\x80" + bytes(range(200)), b""]
        return [error(query)] if fault == "SERVFAIL" else []

    with OddServer(script) as odd:
        both = serve(config([odd.address, nameserver.address], world.port))
        [id_] = send(both, "x@good.test")
        assert fate(both, id_)["event"] == "delivered"
        alone = serve(
            config(
                [odd.address],
                world.port,
                dns={"nameservers": [odd.address], "timeout_s": 0.2},
                retry={"first_s": 1, "give_up_s": 3},
            )
        )
        [id_] = send(alone, "x@good.test")
        event = fate(alone, id_)
        assert (event["event"], event["enhanced"], event["attempts"]) == ("expired", "4.4.3", 0)
        assert ("SERVFAIL" if fault == "SERVFAIL" else "did not answer in time") in event["reason"]
        # Asked again while it waited, but not without rest.
        pauses = alone.events("path_paused")
        assert {pause["site"] for pause in pauses} == {"unresolved:good.test"}
        assert 1 < len(pauses) < 15


def test_mail_by_mx_wildcard_listener_is_every_address_of_this_machine(nameserver: Nameserver, serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = serve(config([nameserver.address], port, listener=[{"name": "mx", "bind": [f"0.0.0.0:{port}"]}]))
    server.addresses["mx"] = ("127.0.0.1", port)
    for domain in ("good.test", "any.test", "[127.0.0.77]", "[0.0.0.0]"):
        [id_] = send(server, f"x@{domain}")
        assert fate(server, id_)["enhanced"] == "5.4.6", domain
    # IPv6 has no listener there: it is dialled, and nobody answers.
    [id_] = send(server, "x@[IPv6:::1]")
    assert last_of(server, id_)["enhanced"] == "4.4.1"


def test_mail_by_mx_to_an_address_at_which_a_reload_makes_us_listen_is_a_loop(
    nameserver: Nameserver, serve: Serve
) -> None:
    with socket.create_server((DEAD, 0)) as free:
        port = free.getsockname()[1]
    listener = [{"name": "mx", "bind": ["127.0.0.1:0"]}]
    # Workers that leave know nothing of what is new: they are not to dial while they are replaced.
    path = {"pause_s": 6, "idle_s": 0.05}
    server = serve(config([nameserver.address], port, listener=listener, path=path))
    [id_] = send(server, "x@first.test", sender="sender@good.test")
    assert last_of(server, id_)["reason"].startswith("cannot connect to dead.good.test")
    listener.append({"name": "ours", "bind": [f"{DEAD}:{port}"]})
    server.configure(config([nameserver.address], port, listener=listener, path=path))
    order(server, signal.SIGHUP)
    event = fate(server, id_)
    assert (event["event"], event["enhanced"], event["attempts"]) == ("bounced", "5.4.6", 0)
    wait_until(lambda: any(e["about"] == id_ for e in server.events("received")), "the notice", 20)
    assert "ours" not in {event["listener"] for event in server.events("connection_closed")}


EIGHT = "Subject: x\r\n\r\n\u00e4\r\n".encode()
POOR = ("PIPELINING", "SIZE 3000")


@pytest.mark.parametrize(
    ("recipient", "params", "content", "code", "enhanced"),
    [
        ("x", "BODY=8BITMIME", EIGHT, 554, "5.6.3"),
        ("\u00e4", "SMTPUTF8", b"Subject: x\r\n\r\nx\r\n", 553, "5.6.7"),
        ("x", "", b"Subject: x\r\n\r\n" + b"x" * 70 * 50 + b"\r\n", 552, "5.3.4"),
    ],
    ids=["8BITMIME", "SMTPUTF8", "SIZE"],
)
def test_mail_by_mx_that_the_best_host_lacks_something_for_goes_to_the_next_or_bounces(
    serve: Serve, recipient: str, params: str, content: bytes, code: int, enhanced: str
) -> None:
    require_tool("nsd", "nsd")
    zones = {
        "mixed.test": "@ MX 10 mx\n@ MX 20 mx2\nmx A 127.0.0.2\nmx2 A 127.0.0.3",
        "poor.test": "@ MX 10 mx\n@ MX 20 mx2\nmx A 127.0.0.2\nmx2 A 127.0.0.4",
    }
    with contextlib.ExitStack() as stack:
        nameserver = stack.enter_context(Nameserver(zones))
        poor = stack.enter_context(Sink(host="127.0.0.2", extensions=POOR))
        rich = stack.enter_context(Sink(host="127.0.0.3", port=poor.port))
        also_poor = stack.enter_context(Sink(host="127.0.0.4", port=poor.port, extensions=POOR))
        server = serve(config([nameserver.address], poor.port))

        async def scenario() -> list[str]:
            client = Client(*server.address)
            await client.connect()
            ids = []
            for domain in zones:
                answer = await client.send("", [f"{recipient}@{domain}"], content, params=params)
                assert answer.code == 250, answer
                ids.append(answer.queued_id)
            await client.close()
            return ids

        mixed, nobody = run_async(scenario())
        event = fate(server, mixed)
        assert (event["event"], event["remote_mta"]) == ("delivered", "mx2.mixed.test [127.0.0.3]")
        event = fate(server, nobody)
        assert (event["event"], event["code"], event["enhanced"]) == ("bounced", code, enhanced)
        # It was asked last.
        assert event["remote_mta"] == "mx2.poor.test [127.0.0.4]"
        assert (poor.count(), rich.count(), also_poor.count()) == (0, 1, 0)
        assert also_poor.n_sessions() > 0
