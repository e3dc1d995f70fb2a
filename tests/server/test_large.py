"""Mails of 50 MB through real processes: unchanged, in little memory, and nothing left of those that break off."""

import asyncio
import contextlib
import hashlib
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lmdb
import pytest

from bench.client import Client, stuff
from bench.memory import Peaks, large_mail, send_all
from bench.server import MTA, Server
from bench.sink import Rule, Sink
from bench.wait import wait_until
from mta.store import number
from tests.accept.wire import Wire
from tests.harness import Ledger, kill_under_load, relaying, run_async
from tests.server.conftest import Serve

OCTETS = 50_000_000
# What one such mail may add to any process.
GROWTH_OCTETS = 8_000_000
CONTENT_TABLES = ("incoming", "trash", "body")


def warm(server: Server) -> None:
    """Send a few small mails: what a process needs once is not what a large mail costs."""
    small = {f"small{n}@sink.test": large_mail(5_000, n) for n in range(20)}
    run_async(send_all(server.address, small))
    server.wait_empty()


def peaks_of(server: Server) -> Peaks:
    return Peaks({"master": server.pid, **server.children()})


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def body_digest(content: bytes) -> str:
    """Return the digest of what arrived, without the Received field that is to be on top of it."""
    assert content.startswith(b"Received: from client.example.test")
    end = content.index(b"\r\nFrom: a@source.test") + 2
    assert content.count(b"\r\n", 0, end) == 3
    return digest(content[end:])


@contextlib.contextmanager
def opened(server: Server) -> Iterator[lmdb.Environment]:
    """The queue's tables; the server may run."""
    path = str(server.data_dir / "queue")
    with lmdb.open(path, max_dbs=32, map_size=1 << 40, readonly=True, readahead=False) as env:
        yield env


def rows_left(server: Server) -> dict[str, int]:
    """Return the rows of the tables that hold content, and the live octets."""
    with opened(server) as env:
        tables = {name: env.open_db(name.encode(), create=False) for name in (*CONTENT_TABLES, "meta")}
        with env.begin() as txn:
            rows = {name: int(txn.stat(tables[name])["entries"]) for name in CONTENT_TABLES}
            live = number(bytes(txn.get(b"live_octets", db=tables["meta"]) or bytes(8)))
    return {**rows, "live_octets": live}


def n_incoming(server: Server) -> int:
    """Return how many messages are coming in, as far as is committed."""
    return rows_left(server)["incoming"]


def nothing_left(server: Server) -> bool:
    return set(rows_left(server).values()) == {0}


@contextlib.contextmanager
def half_sent(server: Server, content: bytes) -> Iterator[Wire]:
    """Send the first half of a mail; some of it is committed then."""
    with Wire(server.address, 60).hello() as wire:
        wire.begin()
        wire.send(stuff(content)[: len(content) // 2])
        wait_until(lambda: n_incoming(server) == 1, "parts in the queue")
        yield wire


# In and out


def test_large_mail_arrives_unchanged_and_takes_little_memory_of_any_process(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    warm(server)
    sink.take()
    content = large_mail(OCTETS)
    with peaks_of(server) as peaks:
        run_async(send_all(server.address, {"b@sink.test": content}))
        sink.wait_count(21, 60)
        wait_until(lambda: nothing_left(server), "nothing left")
    (message,) = sink.take()
    assert body_digest(message.content) == digest(content)
    assert message.params.startswith(f"SIZE={len(message.content)}")
    assert max(peaks.growth.values()) < GROWTH_OCTETS, peaks.growth
    (row,) = [row for row in server.wait_events(21, "received") if row["octets"] > OCTETS // 2]
    assert row["octets"] == len(message.content)
    assert server.events("fault") == []
    assert server.stop() == 0


def test_large_mails_at_once_take_little_more(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    warm(server)
    sink.take()
    mails = {f"m{n}@sink.test": large_mail(OCTETS, n) for n in range(3)}
    with peaks_of(server) as peaks:
        run_async(send_all(server.address, mails), 120)
        sink.wait_count(23, 60)
        wait_until(lambda: nothing_left(server), "nothing left", 30)
    arrived = {message.recipients[0]: body_digest(message.content) for message in sink.take()}
    assert arrived == {recipient: digest(content) for recipient, content in mails.items()}
    assert max(peaks.growth.values()) < 3 * GROWTH_OCTETS, peaks.growth


def test_large_mail_to_a_slow_start_waits_in_the_queue_and_can_be_shown(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    sink.rule(Rule(stage="mail", reply="451 4.2.0 Later", times=1))
    content = large_mail(3_000_000)
    (id_,) = run_async(send_all(server.address, {"b@sink.test": content}))
    server.wait_events(1, "deferred")
    file = server.directory / "shown"
    with file.open("wb") as shown:
        command = [str(MTA), "queue", "show", id_, "--content", "-c", str(server.config_file)]
        assert subprocess.run(command, stdout=shown, check=False).returncode == 0
    assert body_digest(file.read_bytes()) == digest(content)
    sink.wait_count(1)
    assert body_digest(sink.take()[0].content) == digest(content)


def test_large_mail_into_a_maildir_takes_little_memory(serve: Serve, tmp_path: Path) -> None:
    local = {"domains": ["sink.test"], "maildir": f"{tmp_path}/mail/{{local}}", "create": True}
    server = serve({"workers": {"count": 2}, "local": local})
    warm(server)
    content = large_mail(OCTETS)
    with peaks_of(server) as peaks:
        run_async(send_all(server.address, {"b@sink.test": content}))
        server.wait_empty()
        wait_until(lambda: nothing_left(server), "nothing left")
    (file,) = (tmp_path / "mail" / "b" / "new").iterdir()
    mail = file.read_bytes()
    assert mail.startswith(b"Return-Path: <a@source.test>\nReceived: from client.example.test")
    assert digest(mail[mail.index(b"\nFrom: a@source.test") + 1 :]) == digest(content.replace(b"\r\n", b"\n"))
    assert max(peaks.growth.values()) < GROWTH_OCTETS, peaks.growth


def test_large_mail_is_mended_across_all_its_parts(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, limits={"bare_newline": "normalize"}))
    content = large_mail(3_000_000)
    with Wire(server.address, 60).hello() as wire:
        wire.begin().send(stuff(content)[:-3].replace(b"01\r\n", b"01\n") + b"one\rtwo\r\n.\r\n")
        assert wire.read().code == 250
    sink.wait_count(1)
    assert body_digest(sink.take()[0].content) == digest(content + b"one two\r\n")


# Refused, broken off


def test_large_mail_over_the_limit_is_refused_at_mail_or_after_its_true_end(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, limits={"message_octets": 5_000_000}))
    content = large_mail(6_000_000)
    with Wire(server.address, 60).hello() as wire:
        answer = wire.say(f"MAIL FROM:<a@source.test> SIZE={len(content)}")
        assert (answer.code, answer.enhanced) == (552, "5.3.4")
        answer = wire.mail(stuff(content)[:-3])
        assert (answer.code, answer.enhanced) == (552, "5.3.4")
        # It was read to its end: nothing of it was taken for commands.
        assert wire.say("NOOP").code == 250
        wait_until(lambda: nothing_left(server), "nothing left")
        assert wire.mail().code == 250
    sink.wait_count(1)


@pytest.mark.parametrize(
    ("spoiled", "limits"),
    [
        (b"a bare\nline end\r\n", {}),
        (b"x" * 3000 + b"\r\n", {"line_octets": 2000}),
    ],
    ids=["bare", "long"],
)
def test_large_mail_spoiled_in_the_middle_is_refused_after_its_end(
    sink: Sink, serve: Serve, spoiled: bytes, limits: dict[str, object]
) -> None:
    server = serve(relaying(sink.via, limits=limits))
    content = large_mail(4_000_000)
    with half_sent(server, content) as wire:
        wire.send(b"\r\n" + spoiled + b"x\r\n")
        # Nothing of it is kept from here on, although its end is far away.
        wait_until(lambda: nothing_left(server), "nothing left")
        wire.send(stuff(content)[len(content) // 2 :])
        answer = wire.read()
        assert (answer.code, answer.enhanced) == (550, "5.6.0")
        wait_until(lambda: nothing_left(server), "nothing left")
        assert wire.mail().code == 250
    sink.wait_count(1)


def test_large_mail_of_a_client_that_is_gone_leaves_nothing(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    with half_sent(server, large_mail(8_000_000)):
        pass
    wait_until(lambda: nothing_left(server), "nothing left")
    assert server.events("fault") == []


def test_large_mail_of_a_client_that_falls_silent_gets_421_and_leaves_nothing(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, limits={"data_timeout_s": 1}))
    with half_sent(server, large_mail(8_000_000)) as wire:
        assert wire.read().code == 421
        wait_until(lambda: nothing_left(server), "nothing left")


def test_kill_worker_in_the_middle_of_a_large_mail_leaves_nothing(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, workers={"count": 1}))
    with half_sent(server, large_mail(OCTETS)):
        assert rows_left(server)["live_octets"] > 10_000_000
        pid = server.kill_child("worker 1")
        server.wait_replaced("worker 1", pid)
        wait_until(lambda: nothing_left(server), "nothing left", 30)
    run_async(send_all(server.address, {"b@sink.test": large_mail(1_000_000)}))
    sink.wait_count(1)
    assert server.events("fault") == []


def test_kill_queue_in_the_middle_of_a_large_mail_is_not_seen(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    content = large_mail(OCTETS)

    def has_live(least: int) -> bool:
        return rows_left(server)["live_octets"] > least

    async def kill() -> None:
        for least in (5_000_000, 20_000_000):
            await asyncio.to_thread(wait_until, partial(has_live, least), "parts in the queue")
            pid = server.kill_child("queue")
            await asyncio.to_thread(server.wait_replaced, "queue", pid)

    async def send() -> int:
        client = Client(*server.address)
        await client.connect()
        for line in ("MAIL FROM:<a@source.test>", "RCPT TO:<b@sink.test>", "DATA"):
            await client.command(line)
        wire = stuff(content)
        # At a pace that lets both kills fall into the middle.
        for at in range(0, len(wire), 1_000_000):
            await client.write(wire[at : at + 1_000_000])
            await asyncio.sleep(0.05)
        answer = await client.read_answer()
        await client.close()
        return answer.code

    async def both() -> int:
        code, _ = await asyncio.gather(send(), kill())
        return code

    assert run_async(both()) == 250
    sink.wait_count(1, 60)
    (message,) = sink.take()
    assert body_digest(message.content) == digest(content)
    wait_until(lambda: nothing_left(server), "nothing left", 30)
    assert sink.count() == 1
    assert len(server.wait_events(2, "child_died")) == 2
    assert server.events("fault") == []


def test_kills_under_a_load_of_large_mails_lose_nothing_and_leave_nothing(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address, octets=2_500_000)
    kills = ["queue", "worker", "queue", "worker"]
    run_async(kill_under_load(server, sink, ledger, kills, n_sessions=4, rest_s=0.5, pace_s=0.0), 120)
    server.wait_empty(60)
    wait_until(lambda: nothing_left(server), "nothing left", 30)
    arrived = {message.recipients[0]: message.content for message in sink.take()}
    assert len(ledger.acknowledged) > 5
    assert sorted(ledger.acknowledged.keys() - arrived.keys()) == []
    for recipient, content in arrived.items():
        assert content.endswith(ledger.content(int(recipient[1:7]))), recipient
    assert ledger.refused == []
    assert server.events("fault") == []


def test_restart_with_half_a_large_mail_leaves_nothing(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, process={"drain_s": 1}))
    with half_sent(server, large_mail(8_000_000)):
        # Nobody is left to say that it broke off.
        server.kill_all()
    assert rows_left(server)["incoming"] == 1
    server.start()
    wait_until(lambda: nothing_left(server), "nothing left")


def test_large_mail_into_a_full_queue_gets_452_after_its_end_and_room_comes_back(sink: Sink, serve: Serve) -> None:
    queue = {"map_octets": 16 * 1024 * 1024, "reserve_octets": 0}
    server = serve(relaying(sink.via, workers={"count": 1}, queue=queue))
    with Wire(server.address, 60).hello() as wire:
        wire.begin().send(stuff(large_mail(20_000_000)))
        answer = wire.read()
        assert (answer.code, answer.enhanced) == (452, "4.3.1")
        wait_until(lambda: nothing_left(server), "nothing left")
        wait_until(lambda: wire.mail(large_mail(2_000_000)).code == 250, "room in the queue", 10)
    sink.wait_count(1)
    assert server.events("fault") == []


def test_large_mail_while_the_queue_is_silent_gets_451_after_its_end_and_leaves_nothing(
    sink: Sink, serve: Serve
) -> None:
    server = serve(relaying(sink.via, workers={"count": 1}, queue={"grace_s": 1}))
    content = large_mail(20_000_000)
    with half_sent(server, content) as wire:
        server.kill_child("queue", signal.SIGSTOP)
        try:
            wire.send(stuff(content)[len(content) // 2 :])
            answer = wire.read()
        finally:
            server.kill_child("queue", signal.SIGCONT)
        assert (answer.code, answer.enhanced) == (451, "4.3.0")
        wait_until(lambda: nothing_left(server), "nothing left")
        assert wire.mail().code == 250
    sink.wait_count(1)
    assert sink.count() == 1
    assert server.events("fault") == []
