"""Every limit, and every reply that INTERFACES pins, as a client sees it; and the events that tell of them."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from tests.accept.wire import Wire
from tests.harness import relaying
from tests.server.conftest import Serve

MESSAGE_OCTETS = 20_000
LINE_OCTETS = 1000
MAIL = "MAIL FROM:<a@source.test>"
RCPT = "RCPT TO:<b@sink.test>"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits that is patient with errors, and one local mailbox, ann@here.test."""
    mail: Path = tmp_path_factory.mktemp("mail")
    for name in ("cur", "new", "tmp"):
        (mail / "here.test" / "ann" / name).mkdir(parents=True)
    limits = {
        "message_octets": MESSAGE_OCTETS,
        "recipients": 3,
        "line_octets": LINE_OCTETS,
        "received": 3,
        "soft_errors": 1000,
        "hard_errors": 1000,
    }
    local = {
        "domains": ["here.test"],
        "maildir": f"{mail}/{{domain}}/{{local}}",
        "postmaster": "ann@here.test",
    }
    with Sink() as sink, Server(relaying(sink.via, workers={"count": 1}, limits=limits, local=local)) as server:
        yield server


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server with little patience: few connections, few errors, short silences, and bare line ends mended."""
    limits = {
        "connections": 3,
        "soft_errors": 3,
        "hard_errors": 5,
        "error_delay_s": 0.3,
        "command_timeout_s": 1,
        "data_timeout_s": 2,
        "bare_newline": "normalize",
    }
    with Sink() as sink, Server(relaying(sink.via, workers={"count": 1}, limits=limits)) as server:
        yield server


@pytest.mark.parametrize(
    ("lines", "code", "enhanced"),
    [
        # Verbs.
        (["XYZZY"], 500, "5.5.1"),
        (["STARTTLS"], 502, "5.5.1"),
        (["AUTH PLAIN"], 502, "5.5.1"),
        (["BDAT 1 LAST"], 502, "5.5.1"),
        (["ETRN x"], 502, "5.5.1"),
        (["EXPN x"], 502, "5.5.1"),
        (["NOOP " + "x" * 3000], 500, "5.5.2"),
        # Arguments.
        (["EHLO"], 501, "5.5.4"),
        (["EHLO a b"], 501, "5.5.4"),
        (["QUIT now"], 501, "5.5.4"),
        (["MAIL FROM:<a@source.test> SIZE=x"], 501, "5.5.4"),
        (["MAIL TO:<a@source.test>"], 501, "5.5.4"),
        (["MAIL FROM:<a@source.test> FOO=1"], 555, "5.5.4"),
        ([MAIL, "RCPT TO:<b@sink.test> NOTIFY=NEVER"], 555, "5.5.4"),
        # Addresses.
        (["MAIL FROM:<a@>"], 501, "5.1.7"),
        ([MAIL, "RCPT TO:<b@sink..test>"], 501, "5.1.3"),
        ([MAIL, "RCPT TO:<>"], 501, "5.1.3"),
        (["MAIL FROM:<\u00e4@source.test>"], 553, "5.6.7"),
        ([MAIL, "RCPT TO:<\u00e4@sink.test>"], 553, "5.6.7"),
        ([MAIL, "RCPT TO:<bob@here.test>"], 550, "5.1.1"),
        # Order.
        ([RCPT], 503, "5.5.1"),
        ([MAIL, MAIL], 503, "5.5.1"),
        (["DATA"], 503, "5.5.1"),
        ([MAIL, "DATA"], 554, "5.5.1"),
        ([MAIL, "RCPT TO:<bob@here.test>", "DATA"], 554, "5.5.1"),
        # Limits that show before DATA.
        ([f"{MAIL} SIZE={MESSAGE_OCTETS + 1}"], 552, "5.3.4"),
        ([MAIL, *(f"RCPT TO:<r{n}@sink.test>" for n in range(4))], 452, "4.5.3"),
    ],
)
def test_command_out_of_bounds_gets_its_reply_and_the_session_goes_on(
    small: Server, lines: list[str], code: int, enhanced: str
) -> None:
    with Wire(small.address).hello() as wire:
        *before, last = lines
        for line in before:
            wire.say(line)
        answer = wire.say(last)
        assert (answer.code, answer.enhanced) == (code, enhanced), answer
        assert wire.say("RSET").code == 250
        assert wire.mail().code == 250


def test_command_before_ehlo_is_out_of_order(small: Server) -> None:
    with Wire(small.address) as wire:
        answer = wire.say(MAIL)
        assert (answer.code, answer.enhanced) == (503, "5.5.1")
        assert wire.say("NOOP").code == 250


FILL = b"x" * 98 + b"\r\n"


@pytest.mark.parametrize(
    ("content", "code", "enhanced"),
    [
        # Size: as much as may be, and one octet more, dots undone.
        (FILL * (MESSAGE_OCTETS // 100), 250, "2.0.0"),
        (FILL * (MESSAGE_OCTETS // 100 - 1) + b"." + FILL[1:] + b"..\r\n", 552, "5.3.4"),
        (b"." + FILL + FILL * (MESSAGE_OCTETS // 100 - 1), 250, "2.0.0"),
        (FILL * (MESSAGE_OCTETS // 100) + b"\r\n", 552, "5.3.4"),
        (FILL * (10 * MESSAGE_OCTETS // 100), 552, "5.3.4"),
        # A line.
        (b"\r\n" + b"x" * LINE_OCTETS + b"\r\n", 250, "2.0.0"),
        (b"\r\n" + b"x" * (LINE_OCTETS + 1) + b"\r\n", 550, "5.6.0"),
        # Line ends.
        (b"Subject: x\r\n\r\none\ntwo\r\n", 550, "5.6.0"),
        (b"Subject: x\r\n\r\none\rtwo\r\n", 550, "5.6.0"),
        # Hops.
        (b"Received: x\r\n" * 3 + b"\r\nx\r\n", 250, "2.0.0"),
        (b"Received: x\r\n" * 4 + b"\r\nx\r\n", 554, "5.4.6"),
        (b"RECEIVED : x\r\n" * 4 + b"\r\nx\r\n", 554, "5.4.6"),
        (b"\r\n" + b"Received: x\r\n" * 4, 250, "2.0.0"),
    ],
)
def test_message_at_a_limit_is_judged_at_its_end_and_the_session_goes_on(
    small: Server, content: bytes, code: int, enhanced: str
) -> None:
    with Wire(small.address).hello() as wire:
        answer = wire.mail(content)
        assert (answer.code, answer.enhanced) == (code, enhanced), answer
        assert wire.mail().code == 250


def test_recipients_over_the_limit_wait_and_the_others_are_taken(small: Server) -> None:
    with Wire(small.address).hello() as wire:
        wire.say(MAIL)
        codes = [wire.say(f"RCPT TO:<r{n}@sink.test>").code for n in range(5)]
        assert codes == [250, 250, 250, 452, 452]
        assert wire.say("DATA").code == 354
        wire.send(b"\r\n.\r\n")
        assert wire.read().code == 250


def test_ehlo_lists_exactly_what_works(small: Server) -> None:
    with Wire(small.address) as wire:
        assert wire.greeting.code == 220
        name, *rows = wire.say("EHLO [127.0.0.1]").text.split("\n")
        assert name == "mx.example.test"
        assert rows == ["PIPELINING", f"SIZE {MESSAGE_OCTETS}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        assert wire.say("HELO c.test").text == "mx.example.test"


def test_postmaster_needs_no_domain_and_reaches_the_configured_mailbox(small: Server) -> None:
    with Wire(small.address).hello() as wire:
        answer = wire.mail(recipient="PostMaster")
        assert answer.code == 250
    delivered = small.wait_events(1, "delivered")
    wait_until(
        lambda: any(
            (row["id"], row["recipient"]) == (answer.queued_id, "ann@here.test") for row in small.events("delivered")
        ),
        f"the postmaster's mail among {len(delivered)}",
    )


def test_received_says_utf8smtp_when_the_transaction_is(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, workers={"count": 1}))
    with Wire(server.address).hello() as wire:
        wire.say("MAIL FROM:<\u00e4@source.test> SMTPUTF8 BODY=8BITMIME")
        wire.say("RCPT TO:<\u00f6@sink.test>")
        wire.say("DATA")
        wire.send("Subject: \u00fc\r\n\r\nx\r\n.\r\n".encode())
        assert wire.read().code == 250
    sink.wait_count(1)
    (message,) = sink.messages()
    assert b"\tby mx.example.test with UTF8SMTP id " in message.content
    assert message.recipients == ["\u00f6@sink.test"]
    assert "SMTPUTF8" in message.params
    (received,) = server.wait_events(1, "received")
    assert (received["protocol"], received["sender"]) == ("UTF8SMTP", "\u00e4@source.test")


def test_rejected_every_refusal_has_an_event_of_its_stage(sink: Sink, serve: Serve) -> None:
    limits = {"connections": 1, "received": 1}
    local = {"domains": ["here.test"], "maildir": "/nonexistent/{local}"}
    server = serve(relaying(sink.via, workers={"count": 1}, limits=limits, local=local))
    with Wire(server.address) as wire:
        with Wire(server.address) as other:
            assert (other.greeting.code, other.greeting.enhanced) == (421, "4.3.2")
            assert other.is_over()
        wire.say("EHLO <b>")
        wire.hello()
        wire.say("MAIL FROM:<\x01@>")
        wire.say(MAIL)
        wire.say("RCPT TO:<bob@here.test>")
        wire.say("DATA")
        wire.say(RCPT)
        wire.say("DATA")
        wire.send(b"Received: x\r\n" * 2 + b"\r\n\r\n.\r\n")
        assert wire.read().code == 554
    rows = server.wait_events(6, "rejected")
    assert [(row["stage"], row["code"], row["enhanced"]) for row in rows] == [
        ("connect", 421, "4.3.2"),
        ("helo", 501, "5.5.4"),
        ("mail", 501, "5.1.7"),
        ("rcpt", 550, "5.1.1"),
        ("data", 554, "5.5.1"),
        ("message", 554, "5.4.6"),
    ]
    assert {row["client"] for row in rows} == {"127.0.0.1"}
    assert [row["helo"] for row in rows] == ["", "<b>", *["client.example.test"] * 4]
    assert (rows[3]["sender"], rows[3]["recipient"]) == ("a@source.test", "bob@here.test")
    assert all(row["reason"] for row in rows)
    (first, last) = server.wait_events(2, "connection_closed")
    assert (first["reason"], last["reason"], last["n_errors"]) == ("refused", "lost", 5)


def test_connections_over_the_limit_get_421_and_room_comes_back(strict: Server) -> None:
    with Wire(strict.address), Wire(strict.address), Wire(strict.address), Wire(strict.address) as fourth:
        assert (fourth.greeting.code, fourth.greeting.enhanced) == (421, "4.3.2")
        assert fourth.is_over()

    def is_welcome() -> bool:
        with Wire(strict.address) as wire:
            return wire.greeting.code == 220

    wait_until(is_welcome, "room for a connection", 2)


def test_errors_from_the_soft_limit_wait_and_at_the_hard_limit_end(strict: Server) -> None:
    with Wire(strict.address).hello() as wire:
        waits: list[float] = []
        for _ in range(5):
            began = time.monotonic()
            assert wire.say("XYZZY").code == 500
            waits.append(time.monotonic() - began)
        assert max(waits[:2]) < 0.25
        assert min(waits[2:]) > 0.25
        answer = wire.read()
        assert (answer.code, answer.enhanced) == (421, "4.7.0")
        assert wire.is_over()


def test_errors_of_recipients_count_and_an_accepted_message_clears_them(strict: Server) -> None:
    with Wire(strict.address).hello() as wire:
        wire.say(MAIL)
        for _ in range(4):
            assert wire.say("RCPT TO:<b@>").code == 501
        wire.say("RSET")
        assert wire.mail().code == 250
        wire.say(MAIL)
        for _ in range(5):
            assert wire.say("RCPT TO:<b@>").code == 501
        assert wire.read().code == 421


@pytest.mark.parametrize(
    ("is_in_data", "least_s"),
    # The sweep comes once a second.
    [(False, 0.9), (True, 1.9)],
    ids=["command", "data"],
)
def test_silence_past_the_limit_gets_421(strict: Server, is_in_data: bool, least_s: float) -> None:
    with Wire(strict.address).hello() as wire:
        if is_in_data:
            wire.begin().send(b"Subject: x\r\n")
        began = time.monotonic()
        answer = wire.read()
        assert (answer.code, answer.enhanced) == (421, "4.4.2")
        assert wire.is_over()
        assert least_s < time.monotonic() - began < least_s + 1.8


def test_silence_while_the_server_is_to_answer_is_not_the_clients(strict: Server) -> None:
    queue = strict.kill_child("queue", signal.SIGSTOP)
    try:
        with Wire(strict.address).hello() as wire:
            wire.begin().send(b"\r\n.\r\n")
            time.sleep(2.5)
            strict.kill_child("queue", signal.SIGCONT)
            assert wire.read().code == 250
    finally:
        if strict.children().get("queue") == queue:
            strict.kill_child("queue", signal.SIGCONT)


def test_bare_newline_normalize_mends_and_passes_on(strict: Server) -> None:
    with Wire(strict.address).hello() as wire:
        answer = wire.mail(b"Subject: x\n\none\n.\ntwo\rthree\r\n")
        assert answer.code == 250
    wait_until(lambda: answer.queued_id in {row["id"] for row in strict.events("delivered")}, "the mail")


def test_queue_that_does_not_answer_costs_451_and_the_session_goes_on(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via, workers={"count": 1}, queue={"grace_s": 1}))
    with Wire(server.address).hello() as wire:
        assert wire.mail().code == 250
        sink.wait_count(1)
        server.kill_child("queue", signal.SIGSTOP)
        try:
            answer = wire.mail(b"Subject: late\r\n\r\nx\r\n")
        finally:
            server.kill_child("queue", signal.SIGCONT)
        assert (answer.code, answer.enhanced) == (451, "4.3.0")
        assert wire.mail().code == 250
    server.wait_empty()
    assert [row["stage"] for row in server.wait_events(1, "rejected")] == ["message"]


def test_full_queue_costs_452_and_service_comes_back(sink: Sink, serve: Serve) -> None:
    queue = {"map_octets": 16 * 1024 * 1024, "reserve_octets": 0}
    server = serve(relaying(sink.via, workers={"count": 1}, queue=queue))
    sink.down()
    content = FILL * 2000
    with Wire(server.address).hello() as wire:
        n_taken = 0
        n_late = 0
        # Before the content is sent, and not behind it but for the one that is just being sent when the room is gone.
        while (answer := wire.say("MAIL FROM:<a@source.test>")).code == 250:
            assert wire.say("RSET").code == 250
            late = wire.mail(content)
            n_taken += late.code == 250
            n_late += late.code == 452
            assert late.code in (250, 452)
            assert n_late < 2
            assert n_taken < 100
        assert (answer.code, answer.enhanced) == (452, "4.3.1")
        assert [row["event"] for row in server.wait_events(1, "storage_low", "storage_ok")] == ["storage_low"]
        sink.up()
        sink.wait_count(n_taken)
        server.wait_empty()
        wait_until(lambda: wire.say("MAIL FROM:<a@source.test>").code == 250, "room in the queue", 10)
        assert wire.say("RSET").code == 250
        assert wire.mail(content).code == 250
    kinds = [row["event"] for row in server.wait_events(2, "storage_low", "storage_ok")]
    assert kinds[:2] == ["storage_low", "storage_ok"]
