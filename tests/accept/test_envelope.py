"""What becomes of an accepted transaction: Received, parts, flags, and the last refusals."""

import msgspec
import pytest

from mta.accept.envelope import Builder, Origin
from mta.config import Limits
from mta.link import PutHead
from mta.message import IdMaker
from mta.reply import REPLY_250_OK, REPLY_554_LOOP, Reply
from mta.report.events import Received, decode
from mta.smtp import Data, Hello, Mail, Message, Pause, Rcpt, Session
from mta.store import EIGHT_BIT, UTF8

ORIGIN = Origin("192.0.2.7", "mx", "acme")
BODY = b"Subject: x\r\n\r\nhello\r\n"
IDS = IdMaker(1, 1)
MOST_OCTETS = 100_000


def open_session(*recipients: str, mail: str = "MAIL FROM:<a@source.test>", hello: str = "EHLO c.test") -> Session:
    """Return a session that has got as far as the 354."""
    session = Session("mx.example.test", Limits(recipients=10_000), MOST_OCTETS)
    session.greet()
    lines = [hello, mail, *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"]
    session.receive("".join(f"{line}\r\n" for line in lines).encode())
    while not isinstance(event := session.next_event(), Pause):
        assert isinstance(event, (Hello, Mail, Rcpt, Data, Message)), event
        session.answer(REPLY_250_OK)
    assert session.recipients
    return session


def build(
    session: Session, body: bytes = BODY, *, max_received: int = 100, bare: bool = False, has_8bit: bool = False
) -> tuple[PutHead, bytes, bytes] | Reply:
    """Return (head, Received, body), or the refusal."""
    builder = Builder("mx.example.test", max_received, 1000, MOST_OCTETS)
    built = builder.build(IDS.make(), session, ORIGIN, body, bare=bare, has_8bit=has_8bit)
    if isinstance(built, Reply):
        return built
    head, (received, rest) = built
    return head, received, rest


def head_of(session: Session, body: bytes = BODY, *, has_8bit: bool = False) -> PutHead:
    """Return the head of a message that is taken."""
    built = build(session, body, has_8bit=has_8bit)
    assert not isinstance(built, Reply)
    return built[0]


def test_build_puts_one_received_on_top_and_leaves_the_body_alone() -> None:
    built = build(open_session("b@sink.test"))
    assert not isinstance(built, Reply)
    head, received, body = built
    assert body == BODY
    assert received.startswith(b"Received: from c.test ([192.0.2.7])\r\n\tby mx.example.test with ESMTP id ")
    assert head.id.hex().encode() in received
    assert b"for <b@sink.test>;" in received
    assert received.endswith(b"+0000\r\n")
    assert received.count(b"Received:") == 1
    assert (head.sender, head.tenant, head.campaign, head.flags) == ("a@source.test", "acme", "", 0)
    assert head.lifetime_ms == 1_000_000


def test_build_received_names_no_recipient_when_there_are_several() -> None:
    built = build(open_session("b@sink.test", "c@sink.test"))
    assert not isinstance(built, Reply)
    assert b"for <" not in built[1]


def test_build_event_tells_what_the_head_holds() -> None:
    session = open_session("b@sink.test", "c@other.test", mail="MAIL FROM:<>", hello="HELO c.test")
    built = build(session)
    assert not isinstance(built, Reply)
    head, received, body = built
    event = decode(head.event)
    assert isinstance(event, Received)
    assert (event.id, event.at, event.sender, event.n_recipients) == (head.id, head.received_at, "", 2)
    assert event.octets == len(received) + len(body)
    assert (event.client, event.helo, event.protocol, event.listener) == ("192.0.2.7", "c.test", "SMTP", "mx")


@pytest.mark.parametrize(
    ("recipients", "parts"),
    [
        # One recipient is one part.
        (["b@sink.test"], [("sink.test", 0, 1)]),
        # A part has one domain, whatever the order in which they came.
        (["a@x.test", "b@y.test", "c@x.test"], [("x.test", 0, 2), ("y.test", 2, 1)]),
        # 100 fit, 101 do not.
        ([f"r{n}@x.test" for n in range(100)], [("x.test", 0, 100)]),
        ([f"r{n}@x.test" for n in range(101)], [("x.test", 0, 100), ("x.test", 100, 1)]),
        # The numbers of recipients run on through all parts.
        (
            [f"r{n}@{d}.test" for n in range(150) for d in "xy"],
            [("x.test", 0, 100), ("x.test", 100, 50), ("y.test", 150, 100), ("y.test", 250, 50)],
        ),
        # Given twice is one recipient; a domain has no case and quotes are no letters, but a local part has case.
        (["b@sink.test", "b@sink.test", "b@SINK.test", '"b"@sink.test'], [("sink.test", 0, 1)]),
        (["b@sink.test", "B@sink.test"], [("sink.test", 0, 2)]),
        # An address literal waits in a queue of its own.
        (["b@[127.0.0.1]", "b@sink.test"], [("[127.0.0.1]", 0, 1), ("sink.test", 1, 1)]),
    ],
)
def test_build_parts_are_cut_by_domain_and_at_100_recipients(
    recipients: list[str], parts: list[tuple[str, int, int]]
) -> None:
    head = head_of(open_session(*recipients))
    assert [(part.queue.domain, part.first, len(part.recipients)) for part in head.parts] == parts
    assert {(part.queue.tenant, part.queue.campaign, part.queue.route) for part in head.parts} == {("acme", "", "")}
    event = decode(head.event)
    assert isinstance(event, Received)
    assert event.n_recipients == sum(len(part.recipients) for part in head.parts)


UTF8_MAIL = "MAIL FROM:<a@source.test> BODY=8BITMIME SMTPUTF8"


@pytest.mark.parametrize(
    ("mail", "recipient", "body", "flags"),
    [
        # Declared, and not needed.
        ("MAIL FROM:<a@source.test> BODY=8BITMIME", "b@sink.test", BODY, 0),
        (UTF8_MAIL, "b@sink.test", BODY, 0),
        # Needed, and declared.
        ("MAIL FROM:<a@source.test> BODY=8BITMIME", "b@sink.test", BODY + b"\xe4\r\n", EIGHT_BIT),
        (UTF8_MAIL, "b@sink.test", BODY + b"\xc3\xa4\r\n", EIGHT_BIT),
        (UTF8_MAIL, "b@sink.test", b"Subject: \xc3\xa4\r\n\r\nx\r\n", EIGHT_BIT | UTF8),
        ("MAIL FROM:<a@source.test> SMTPUTF8", "b@sink.test", b"Subject: \xc3\xa4\r\n\r\nx\r\n", UTF8),
        # What a recipient needs is no need of the others: it is seen with its part.
        (UTF8_MAIL, "\u00e4@sink.test", BODY, 0),
        # The sender needs it whatever the body holds.
        ("MAIL FROM:<\u00e4@source.test> SMTPUTF8", "b@sink.test", BODY, UTF8),
        # Never declared: passed on as it came, "just send eight".
        ("MAIL FROM:<a@source.test>", "b@sink.test", BODY + b"\xe4\r\n", 0),
    ],
)
def test_build_flags_say_only_what_is_needed(mail: str, recipient: str, body: bytes, flags: int) -> None:
    assert head_of(open_session(recipient, mail=mail), body, has_8bit=not body.isascii()).flags == flags


def test_build_recipients_beyond_ascii_have_parts_of_their_own() -> None:
    session = open_session("\u00e4@sink.test", "b@sink.test", "\u00f6@sink.test", mail=UTF8_MAIL)
    parts = head_of(session, BODY).parts
    assert [part.recipients for part in parts] == [("\u00e4@sink.test", "\u00f6@sink.test"), ("b@sink.test",)]
    assert [part.first for part in parts] == [0, 2]


def test_build_utf8_transaction_says_so_in_received() -> None:
    built = build(open_session("\u00e4@sink.test", mail=UTF8_MAIL))
    assert not isinstance(built, Reply)
    assert b"with UTF8SMTP id " in built[1]
    assert "for <\u00e4@sink.test>".encode() in built[1]


def test_build_more_received_than_allowed_is_a_loop() -> None:
    body = b"Received: from a by b; now\r\n" * 3 + BODY
    assert build(open_session("b@sink.test"), body, max_received=2) == REPLY_554_LOOP
    assert not isinstance(build(open_session("b@sink.test"), body, max_received=3), Reply)


def test_build_bare_line_ends_are_mended() -> None:
    built = build(open_session("b@sink.test"), b"Subject: x\n\none\rtwo\n", bare=True)
    assert not isinstance(built, Reply)
    assert built[2] == b"Subject: x\r\n\r\none two\r\n"


def test_build_grown_too_large_by_mending_is_refused() -> None:
    reply = build(open_session("b@sink.test"), b"\n" * (MOST_OCTETS // 2 + 1), bare=True)
    assert isinstance(reply, Reply)
    assert (reply.code, reply.enhanced) == (552, "5.3.4")


def test_build_head_survives_its_encoding() -> None:
    head = head_of(open_session(*(f"r{n}@{'xyz'[n % 3]}.test" for n in range(400))))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(head), type=PutHead) == head
