"""A server among odd peers: each fault once, and every mail ends where it belongs; hostile words reach nobody."""

import email
import email.policy
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.client import Client
from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from mta.smtp import POSSIBLE_REPEAT
from tests.harness import (
    BODY,
    CLOSE,
    DEAF,
    HELLO,
    MAIL,
    RESET,
    SILENCE,
    C,
    Peer,
    Read,
    Step,
    relaying,
    run_async,
)
from tests.server.conftest import Serve

CONTENT = b"From: a@source.test\r\nSubject: x\r\n\r\nbody\r\n"
LARGE = CONTENT + (b"x" * 62 + b"\r\n") * 200_000
UP_TO_354: list[Step] = [*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "354 go"]
GOOD: list[Step] = [*HELLO, *MAIL]

# What a peer does to its first connection; the second is a good one. Whether the mail had an attempt counted.
FAULTS: dict[str, tuple[list[Step], bool]] = {
    "closed": ([CLOSE], False),
    "greeting5": (["554 5.7.1 not you", SILENCE], False),
    "greeting4": (["450 4.3.2 not now", SILENCE], False),
    "greeting421": (["421 4.3.2 not now", CLOSE], False),
    "chatter": ([b"220-x\r\n" * 200, SILENCE], False),
    "noise": ([b"HTTP/1.1 400 Bad Request\r\n\r\n", SILENCE], False),
    "early": ([b"220 x\r\n250 x\r\n250 x\r\n", SILENCE], False),
    "ehlo": (["220 x", C("EHLO"), RESET], False),
    "helo": (["220 x", C("EHLO"), "502 what", C("HELO"), "502 what", SILENCE], False),
    "mail421": ([*HELLO, C("MAIL"), "421 4.3.2 not now", CLOSE], False),
    "mail": ([*HELLO, C("MAIL"), RESET], True),
    "rcpt421": ([*HELLO, C("MAIL"), "250 ok", C("RCPT"), "421 4.3.2 not now", CLOSE], False),
    "rcpt": ([*HELLO, C("MAIL"), "250 ok", C("RCPT"), RESET], True),
    "data2": ([*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), "250 what", SILENCE], True),
    "data": ([*HELLO, C("MAIL"), "250 ok", C("RCPT"), "250 ok", C("DATA"), RESET], True),
    "body": ([*UP_TO_354, Read(10), RESET], True),
    "dot": ([*UP_TO_354, BODY, RESET], True),
    "dot421": ([*UP_TO_354, BODY, "421 4.3.2 not now", CLOSE], True),
    "dot3": ([*UP_TO_354, BODY, "354 what", SILENCE], True),
}


def _send(server: Server, *mails: tuple[str, bytes]) -> list[str]:
    """Send one mail to each recipient; return their ids."""

    async def scenario() -> list[str]:
        client = Client(*server.address)
        await client.connect()
        ids = []
        for recipient, content in mails:
            answer = await client.send("a@source.test", [recipient], content)
            assert answer.code == 250, answer
            ids.append(answer.queued_id)
        await client.close()
        return ids

    return run_async(scenario())


def _routes(home: str, peers: dict[str, Peer]) -> list[dict[str, str]]:
    ways = [{"match": f"{name}.test", "via": peer.via} for name, peer in peers.items()]
    return [*ways, {"match": "source.test", "via": home}]


@pytest.fixture
def peers() -> Iterator[dict[str, Peer]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(Peer(script, GOOD)) for name, (script, _) in FAULTS.items()}


def test_each_fault_of_a_peer_is_got_over(peers: dict[str, Peer], sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, route=_routes(sink.via, peers), path={"pause_s": 0.5}, retry={"first_s": 0.5}))
    # What fits into one write is at the peer, dot and all, before it breaks off.
    mails = [(f"x@{name}.test", LARGE if name == "body" else CONTENT) for name in peers]
    ids = dict(zip(_send(server, *mails), peers, strict=True))
    delivered = server.wait_events(len(peers), "delivered", timeout_s=40)
    assert {ids[row["id"]]: row["attempts"] > 1 for row in delivered} == {name: row[1] for name, row in FAULTS.items()}
    deferred = {ids[row["id"]]: row for row in server.events("deferred")}
    assert set(deferred) == {name for name, (_, is_counted) in FAULTS.items() if is_counted}
    # Where the peer had all of it, and may have kept it, the books say so: nowhere else.
    maybe = {name for name, row in deferred.items() if row["reason"].startswith(POSSIBLE_REPEAT)}
    assert maybe == {"dot", "dot3"}
    assert {name for name, peer in peers.items() if len(peer.mails) == 2} == {"dot", "dot421", "dot3"}
    assert {name for name, peer in peers.items() if len(peer.mails) == 0} == set()
    paused = {row["site"] for row in server.events("path_paused")}
    assert paused == {peers[name].via for name, (_, is_counted) in FAULTS.items() if not is_counted}
    server.wait_empty()
    assert sink.count() == 0


def test_slow_last_word_keeps_nobody_else_waiting(sink: Sink, serve: Serve) -> None:
    at_last = threading.Event()
    with Peer([*UP_TO_354, BODY, at_last, "250 at last"]) as peer:
        limits = {"command_timeout_s": 1, "data_done_timeout_s": 20}
        routes = [{"match": "slow.test", "via": peer.via}, {"match": "*", "via": sink.via}]
        server = serve(relaying(sink.via, route=routes, workers={"count": 1}, deliver=limits))
        (id_,) = _send(server, ("x@slow.test", CONTENT))
        wait_until(lambda: bool(peer.mails), "the slow peer's mail", 10)
        _send(server, *((f"m{n}@sink.test", CONTENT) for n in range(50)))
        sink.wait_count(50)
        wait_until(lambda: server.count()["recipients"] == 1, "all others settled", 10)
        # It has more time for this one than for other replies.
        time.sleep(1.5)
        assert server.count()["active"] == 1
        at_last.set()
        rows = {row["id"]: row for row in server.wait_events(51, "delivered")}
        assert (rows[id_]["attempts"], rows[id_]["diagnostic"]) == (1, "at last")


def _rss_anon(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024


def test_peer_that_stops_reading_costs_little_and_is_left(sink: Sink, serve: Serve) -> None:
    with Peer([*UP_TO_354, Read(100_000), DEAF], GOOD) as peer:
        routes = [{"match": "deaf.test", "via": peer.via}, {"match": "*", "via": sink.via}]
        config = relaying(sink.via, route=routes, workers={"count": 1}, deliver={"command_timeout_s": 1})
        server = serve(config)
        _send(server, ("m@sink.test", CONTENT))
        sink.wait_count(1)
        before = _rss_anon(server.children()["worker 1"])
        _send(server, ("x@deaf.test", LARGE))
        (row,) = server.wait_events(1, "deferred")
        # The mail has 12.8 MB: what is held of it are a few of its parts.
        assert _rss_anon(server.children()["worker 1"]) - before < 9_000_000
        assert row["reason"].startswith("time-out in the conversation")
        server.wait_empty()
        assert len(peer.mails) == 1


# Nothing of these may come out at the other end as it came in. RFC 5321 s4.2; OpenSMTPD's CVE-2020-8794 was a reply.
NASTY = [
    b"\x1b[2J\x1b]0;owned\x07\x9b31m",
    b"\x00\x08\x0b\x0c\x7f",
    b"a\rb\r\r\x85",
    "\u009b31m\u0085\u2028\u2029".encode(),
    b"\xff\xfe\xc0\x80\xed\xa0\x80",
    "\u202egnp.exe\u2066\u200f\u061c\u200b\ufeff\U000e0041".encode(),
    b'", "event": "delivered", "x": "',
    b"--=_00000000000000000000000000000000--",
    b"Content-Type: text/html",
    b"Final-Recipient: rfc822; innocent@victim.test",
    b".",
    b"250 2.0.0 Ok",
    b"[red]rich[/red] %s%n {0}",
    b"x" * 5000,
    "\u00e4\u4f8b".encode() * 900,
]
UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
# A long line leaves no room for others.
SAID = [NASTY[:6], NASTY[6:-2], NASTY[-2:-1], NASTY[-1:]]


def _reply(code: int, words: Sequence[bytes]) -> bytes:
    lines = [b"%d-%d.7.1 " % (code, code // 100) + line for line in words]
    return b"\r\n".join([*lines, b"%d end" % code]) + b"\r\n"


def _refusing(code: int, words: Sequence[bytes]) -> list[Step]:
    return [*HELLO, C("MAIL"), "250 ok", C("RCPT"), _reply(code, words), C("DATA"), "503 x"]


def _unseen(octets: bytes) -> list[str]:
    """Return what in some output is not to be seen; it must be UTF-8."""
    return UNSEEN.findall(octets.decode("utf-8"))


def test_hostile_words_reach_no_event_notice_or_terminal(sink: Sink, serve: Serve) -> None:
    with ExitStack() as stack:
        hostile: dict[str, Peer] = {}
        for n, words in enumerate(SAID):
            hostile[f"no{n}"] = stack.enter_context(Peer(_refusing(550, words)))
            hostile[f"later{n}"] = stack.enter_context(Peer(_refusing(450, words)))
            hostile[f"greeting{n}"] = stack.enter_context(Peer([_reply(554, words), SILENCE]))
        config = relaying(sink.via, route=_routes(sink.via, hostile), path={"pause_s": 60}, retry={"first_s": 600})
        server = serve(config)
        ids = _send(server, *((f"x@{name}.test", CONTENT) for name in hostile))
        n = len(SAID)
        server.wait_events(n, "bounced")
        server.wait_events(n, "deferred")
        server.wait_events(n, "path_paused")
        sink.wait_count(n)
        _look_at_files(server)
        _look_at_commands(server, ids)
        for message in sink.messages():
            _look_at_notice(message.content)


def _look_at_files(server: Server) -> None:
    (paths, text) = list((server.data_dir / "events").glob("*")), server.stderr()
    assert paths
    for path in paths:
        assert _unseen(path.read_bytes()) == []
    for row in server.events("bounced", "deferred", "path_paused"):
        assert len(row["diagnostic"].encode()) <= 1000
    assert text.count("\n") == 1
    assert text.startswith("mta: ready ")


def _look_at_commands(server: Server, ids: Sequence[str]) -> None:
    rows = [server.run("queue", "list"), server.run("queue", "list", "--json"), server.run("events")]
    # One with all kinds of words, one with a long line.
    rows += [server.run("queue", "show", id_) for id_ in (ids[1], ids[10])]
    rows.append(server.run("queue", "show", ids[1], "--json"))
    for done in rows:
        assert (done.returncode, done.stderr) == (0, "")
        assert _unseen(done.stdout.encode()) == []


def _look_at_notice(content: bytes) -> None:
    assert _unseen(content.replace(b"\r\n", b"\n").replace(b"\n\t", b"\n ")) == []
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert max(len(line) for line in content.split(b"\r\n")) <= 998
    whole: Any = email.message_from_bytes(content, policy=email.policy.default)
    assert not whole.defects
    kinds = [part.get_content_type() for part in whole.iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    _, status, _ = whole.iter_parts()
    # A group for the message, one for the recipient, and none that the peer made up.
    groups = status.get_payload()
    assert len(groups) == 2
    assert groups[1].get_all("Final-Recipient")[0].startswith("rfc822; x@no")
    assert len(groups[1].get_all("Final-Recipient")) == 1


def test_recipients_beyond_what_the_peer_takes_follow_at_once(sink: Sink, serve: Serve) -> None:
    script: list[Step] = [*HELLO]
    for n_left in (5, 3, 1):
        script += [C("MAIL"), "250 ok"]
        for n in range(n_left):
            script += [C("RCPT"), "250 ok" if n < 2 else "452 4.5.3 too many"]
        script += [C("DATA"), "354 go", BODY, "250 2.0.0 taken"]
    with Peer(script) as peer:
        server = serve(relaying(peer.via))

        async def scenario() -> None:
            client = Client(*server.address)
            await client.connect()
            answer = await client.send("a@source.test", [f"m{n}@many.test" for n in range(5)], CONTENT)
            assert answer.code == 250
            await client.close()

        run_async(scenario())
        rows = server.wait_events(5, "delivered")
        assert {row["attempts"] for row in rows} == {1}
        assert (len(peer.mails), peer.n_connections, server.events("deferred")) == (3, 1, [])
