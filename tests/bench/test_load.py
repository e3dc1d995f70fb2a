"""The load generator and its sink: what is sent, that nothing which happens to it stays unseen, and what is counted."""

import os
import random
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest

from bench.client import stuff
from bench.load import Load, LoadFailed, Rule, Sent, Sink, histogram, percentiles, send
from bench.load.latency import encode
from bench.peers import Posthaste
from bench.sink import Message
from bench.sink import Sink as KeepingSink
from bench.wait import wait_until

DOMAIN_1 = "@d1.sink.test"
LATIN = "Sm\xf8rrebr\xf8d".encode("latin-1")
MAILS = {
    "plain.eml": b"From: a@b.test\nSubject: of a Unix\n\nhello\n.\n..\n.leading\n\nbye\n",
    "eight.eml": b"From: <a@b.test>\r\nSubject: 8-bit\r\nContent-Type: text/plain; charset=latin-1\r\n\r\n"
    + LATIN
    + b"\r\n",
    "mbox.eml": b"From a@b.test Thu Jan  1 00:00:00 2026\nSubject: without its end\n\nFrom here\nno newline",
    "long.eml": b"Subject: left out\n\n" + b"x" * 1200 + b"\n",
}


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as started:
        yield started


@pytest.fixture(scope="module")
def relay() -> Iterator[tuple[Posthaste, Sink]]:
    """A real server, and the sink behind it."""
    with Sink() as behind, Posthaste(behind.via) as server:
        yield server, behind


def address(sink: Sink | KeepingSink) -> tuple[str, int]:
    return "127.0.0.1", sink.port


def slower_than(encoded: str, limit_us: int) -> int:
    """Return how many values of a histogram are at least so large, to three digits."""
    rows = histogram(encoded).get_recorded_iterator()
    return sum(row.count_at_value_iterated_to for row in rows if row.value_iterated_to >= limit_us)


def run_beside(load: Load, target: tuple[str, int]) -> tuple[threading.Thread, list[Sent]]:
    """Send in a thread; the outcome will be in the list."""
    outcome: list[Sent] = []
    thread = threading.Thread(target=lambda: outcome.append(send(target, load, timeout_s=60)))
    thread.start()
    return thread, outcome


@pytest.mark.parametrize(
    "load",
    [
        Load(messages=1000, connections=20),
        Load(messages=300, connections=20, pipelining=False, octets=1000),
        Load(messages=300, connections=20, fresh=True, domains=7),
        Load(messages=20, connections=4, octets=1_000_000),
        Load(seconds=0.5, connections=5, domains=100),
        Load(seconds=1, rate=200, connections=5),
        Load(messages=100, rate=200, connections=5, fresh=True),
    ],
    ids=["kept", "plain", "fresh", "large", "seconds", "open", "open_fresh"],
)
def test_load_through_a_server_arrives_whole_and_once(relay: tuple[Posthaste, Sink], load: Load) -> None:
    server, sink = relay
    sent = send(server.address, load)
    sink.wait(sent)
    assert sent.accepted == sent.offered == (load.messages or int(load.rate * load.seconds) or sent.offered)
    assert sent.accepted > 0
    assert (sent.refused, sent.broken) == ({}, 0)
    tally = sink.tally(sent.run)
    assert (tally.messages, tally.doubled, tally.changed, tally.unknown) == (sent.accepted, 0, 0, 0)
    reply, whole, delivery = (percentiles(each) for each in (sent.reply_us, sent.whole_us, tally.deliveries_us))
    assert reply.count == whole.count == delivery.count == sent.accepted
    assert 0 < reply.p50 <= whole.p50 <= whole.p999 <= whole.most
    assert sent.cpu_s > 0
    assert sink.cpu_s() > 0


def keep(load: Load) -> list[Message]:
    """Send to a sink that keeps every octet; return what it has."""
    with KeepingSink() as kept:
        sent = send(address(kept), load)
        assert sent.accepted == load.messages
        return kept.messages()


def test_send_makes_messages_as_large_as_asked_with_their_id() -> None:
    messages = keep(Load(messages=200, connections=3, octets=2000, domains=3, domain="many.test"))
    assert {len(message.content) for message in messages} == {2000}
    numbers = []
    for message in messages:
        field, _, rest = message.content.partition(b"\r\n")
        name, _, number, checksum, _ = field.decode().split()
        assert name == "X-Load:"
        assert int(checksum, 16) == crc32(rest)
        assert message.recipients == [f"r{int(number)}@d{int(number) % 3}.many.test"]
        assert all(len(line) <= 76 for line in rest.split(b"\r\n"))
        numbers.append(int(number))
    assert sorted(numbers) == list(range(200))
    assert any(b"\r\n." in message.content for message in messages)


def test_send_fresh_has_a_connection_for_each_message() -> None:
    assert len({message.session for message in keep(Load(messages=20, connections=3, fresh=True))}) == 20
    assert len({message.session for message in keep(Load(messages=20, connections=3))}) == 3


def test_folder_of_mails_arrives_as_it_is(relay: tuple[Posthaste, Sink], tmp_path: Path) -> None:
    for name, mail in MAILS.items():
        (tmp_path / name).write_bytes(mail)
    load = Load(messages=30, connections=2, folder=str(tmp_path))
    rests = {message.content.partition(b"\r\n")[2] for message in keep(load)}
    assert rests == {
        MAILS["plain.eml"].replace(b"\n", b"\r\n"),
        MAILS["eight.eml"],
        MAILS["mbox.eml"].partition(b"\n")[2].replace(b"\n", b"\r\n") + b"\r\n",
    }
    server, sink = relay
    sent = send(server.address, load)
    sink.wait(sent)
    assert sent.accepted == 30
    assert sink.tally(sent.run).changed == 0


def test_sink_sees_what_is_lost_doubled_changed_and_of_nobody(sink: Sink) -> None:
    with KeepingSink() as kept:
        sent = send(address(kept), Load(messages=20, connections=1))
        messages = kept.messages()
    assert sink.lost(sent) == 20
    with smtplib.SMTP(*address(sink)) as relay:
        for number, message in enumerate(messages):
            content = b"Received: on its way\r\n" + message.content
            if number == 5:
                # One bit of one octet.
                content = content[:-10] + bytes([content[-10] ^ 1]) + content[-9:]
            elif number == 9:
                relay.sendmail(message.sender, ["r8@sink.test"], content)
                continue
            elif number == 6:
                content = b"Subject: without an id\r\n\r\nhello\r\n"
            if number not in (3, 11):
                relay.sendmail(message.sender, message.recipients, content)
            if number in (7, 8):
                relay.sendmail(message.sender, message.recipients, content)
    tally = sink.tally(sent.run)
    # The changed ones are that with one octet changed, and that for another's recipient.
    assert (tally.messages, tally.doubled, tally.changed, tally.unknown) == (17, 2, 2, 1)
    assert sink.lost(sent) == 3
    assert sink.count() == 20


# Each is what follows the id; the bare ones are not to be taken for the end of a line or of the message.
CONTENTS = [
    b"Subject: x\r\n\r\nhello\r\n",
    b"",
    b"\r\n",
    b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n",
    b"a\n.\nb\n.\r\nc\r.\r\r\n",
    b"\n.\r\n\n..\r\n",
    b".\rx\r\n.\r.\r\n",
    bytes(number for number in range(256) if number not in b"\r\n") + b"\r\n",
]


@pytest.mark.parametrize("cut", ["whole", "by_octet", "random"])
def test_sink_reads_messages_at_any_cut(sink: Sink, cut: str) -> None:
    chance = random.Random(7)
    wire = bytearray(b"EHLO me\r\n")
    for number, rest in enumerate(CONTENTS):
        checksum = crc32(rest)
        field = f"X-Load: 0123abcd {number:010d} {checksum:08x} {time.monotonic_ns():016x}\r\n".encode()
        above = b"Received: x\r\n" + b".dots: " + b"y" * 300 + b"\r\n" if number % 2 else b""
        wire += b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n" + stuff(above + field + rest)
    wire += b"QUIT\r\n"
    with socket.create_connection(address(sink)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while wire:
            n_octets = {"whole": len(wire), "by_octet": 1, "random": chance.randrange(1, 40)}[cut]
            connection.sendall(wire[:n_octets])
            del wire[:n_octets]
        with connection.makefile("rb") as replies:
            said = replies.read()
    assert said.endswith(b"221 2.0.0 Bye\r\n")
    tally = sink.tally("0123abcd")
    assert (tally.messages, tally.doubled, tally.changed, tally.unknown) == (len(CONTENTS), 0, 0, 0)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (Rule(stage="mail", reply="450 4.0.0 Not you"), "450"),
        (Rule(stage="rcpt", match=DOMAIN_1, reply="451 4.2.0 Later"), "451"),
        (Rule(stage="data", match=DOMAIN_1, reply="554 5.0.0 No"), "554"),
        (Rule(stage="message", match="r1@d1.sink.test", reply="552 5.2.2 Full"), "552"),
    ],
    ids=lambda value: value.stage if isinstance(value, Rule) else None,
)
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "plain"])
def test_rule_refuses_whom_it_matches(sink: Sink, rule: Rule, code: str, pipelining: bool) -> None:
    sink.set_rules([rule])
    sent = send(address(sink), Load(messages=40, connections=3, domains=2, pipelining=pipelining))
    n_refused = {"": 40, DOMAIN_1: 20, "r1@d1.sink.test": 1}[rule.match]
    assert sent.refused == {code: n_refused}
    assert (sent.accepted, sent.broken) == (40 - n_refused, 0)
    assert sink.lost(sent) == 0
    assert sink.tally(sent.run).messages == 40 - n_refused


def test_rule_every_and_times_count_those_that_fit(sink: Sink) -> None:
    sink.set_rules([Rule(stage="rcpt", match=DOMAIN_1, reply="450 4.2.0 Later", every=3, times=2)])
    sent = send(address(sink), Load(messages=40, connections=1, domains=2))
    assert sent.refused == {"450": 2}
    assert sink.n_ruled() == 2
    # The third and the sixth of 1, 3, 5, 7...
    missing = {number for number in range(40) if not sent.numbers[number // 8] >> number % 8 & 1}
    assert missing == {5, 11}


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "message"])
@pytest.mark.parametrize("is_drop", [True, False], ids=["drop", "421"])
def test_connection_that_ends_is_made_again_and_its_message_not_accepted(sink: Sink, stage: str, is_drop: bool) -> None:
    reply = "" if is_drop else "421 4.3.2 Going down"
    sink.set_rules([Rule(stage=stage, reply=reply, drop=is_drop, every=10)])  # type: ignore[arg-type]
    sent = send(address(sink), Load(messages=40, connections=2))
    assert (sent.offered, sent.accepted, sent.broken) == (40, 36, 4)
    assert sent.refused == ({} if is_drop else {"421": 4})
    assert sink.tally(sent.run).messages == 36
    assert sink.lost(sent) == 0


def test_connection_refused_by_the_greeting_counts_with_fresh_ones(sink: Sink) -> None:
    sink.set_rules([Rule(stage="connect", reply="421 4.7.0 Too many", every=5)])
    sent = send(address(sink), Load(messages=20, connections=2, fresh=True))
    assert (sent.accepted, sent.refused, sent.broken) == (16, {"421": 4}, 4)


def test_rule_delay_is_in_the_latencies(sink: Sink) -> None:
    sink.set_rules([Rule(stage="message", delay_s=0.2, every=4)])
    sent = send(address(sink), Load(messages=40, connections=5))
    assert slower_than(sent.reply_us, 199_000) >= 10
    assert sink.tally(sent.run).messages == sent.accepted == 40


def test_rules_changed_end_the_wait(sink: Sink) -> None:
    sink.set_rules([Rule(stage="message", match="r0@sink.test", delay_s=3600)])
    thread, outcome = run_beside(Load(messages=10, connections=2), address(sink))
    wait_until(lambda: sink.count() == 9, "all but one")
    sink.set_rules([])
    thread.join()
    assert outcome[0].accepted == 10
    assert sink.lost(outcome[0]) == 0


def test_open_loop_counts_latency_from_the_schedule(sink: Sink) -> None:
    thread, outcome = run_beside(Load(seconds=3, rate=200, connections=2), address(sink))
    wait_until(lambda: sink.count() > 20, "a beginning")
    os.kill(sink.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(sink.pid, signal.SIGCONT)
    thread.join()
    sent = outcome[0]
    assert sent.accepted == sent.offered == 600
    # 80 were due in the first 0.4 s of the stop, and none of them can have taken less than the 0.1 s that were left of
    # it. Each connection has only met one reply that late.
    assert slower_than(sent.whole_us, 100_000) >= 78
    assert sent.late >= 76
    assert slower_than(sink.tally(sent.run).deliveries_us, 99_000) >= 78


def test_send_to_nobody_says_so(sink: Sink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = ("127.0.0.1", free.getsockname()[1])
    with pytest.raises(LoadFailed, match="no connection becomes ready: Connection refused"):
        send(nobody, Load(messages=10))
    sink.set_rules([Rule(stage="connect", reply="554 5.3.2 No")])
    with pytest.raises(LoadFailed, match="the server ends them"):
        send(address(sink), Load(messages=10))


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (Load(), "a number of messages"),
        (Load(messages=1, octets=100), "at least"),
    ],
)
def test_send_of_nothing_says_so(sink: Sink, load: Load, said: str) -> None:
    with pytest.raises(LoadFailed, match=said):
        send(address(sink), load)


def test_send_from_a_folder_without_mails_says_so(sink: Sink, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="there are no mails in"):
        send(address(sink), Load(messages=1, folder=str(tmp_path)))


def test_histogram_keeps_three_digits() -> None:
    counts = dict.fromkeys(range(1, 1000000, 777), 1)
    found = percentiles(encode(counts))
    values = sorted(counts)
    assert found.count == len(values)
    for share, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99), (0.999, found.p999), (1, found.most)):
        assert value == pytest.approx(values[min(len(values) - 1, int(share * len(values)))], rel=0.002)
    assert percentiles(encode({})).count == 0
