"""A large message on its way to the link: cut into parts, mended, held back, refused, given up."""

import random

import pytest

from mta.accept.envelope import Builder, Origin
from mta.accept.shared import HELD_OCTETS, Shared
from mta.accept.stream import Stream
from mta.config import Limits
from mta.link import PART_OCTETS, PutHead
from mta.message import IdMaker
from mta.reply import REPLY_451_QUEUE_SILENT, Reply
from mta.smtp import Message
from mta.store import EIGHT_BIT, UTF8

from .test_envelope import open_session

HEADER = b"Subject: large\r\n\r\n"
LINE = b"x" * 62 + b"\r\n"


class Link:
    """A link that keeps what it is given and answers nothing."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.ends: list[tuple[PutHead, bytes, int, int]] = []
        self.aborts: list[bytes] = []

    def part(self, id_: bytes, number: int, octets: memoryview, _waiter: Stream) -> None:
        assert number == len(self.parts)
        self.parts.append(bytes(octets))

    def put(self, head: PutHead, content: tuple[bytes, ...], _waiter: Stream, n_parts: int, octets: int) -> None:
        self.ends.append((head, b"".join(content), n_parts, octets))

    def abort(self, id_: bytes) -> None:
        self.aborts.append(id_)


class Room(Shared):
    """What of Shared a stream needs."""

    def __init__(self, limits: Limits) -> None:
        self._held_octets = 0
        self.limits = limits
        self.max_octets = limits.message_octets
        self.builder = Builder("mx.example.test", limits.received, 1000, self.max_octets)
        self.ids = IdMaker(1, 1)
        self.said = Link()
        self.link = self.said  # type: ignore[assignment]

    @property
    def held(self) -> int:
        return self._held_octets


class Connection:
    """An Owner that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def stored(self) -> None:
        self.heard.append("stored")

    def refused(self, reply: Reply) -> None:
        self.heard.append(reply.code)

    def go_on(self) -> None:
        self.heard.append("go on")


class Case:
    """A stream between both."""

    def __init__(self, first: bytes, limits: Limits | None = None, mail: str = "MAIL FROM:<a@source.test>") -> None:
        self.shared = Room(limits or Limits())
        self.link = self.shared.said
        self.owner = Connection()
        self.session = open_session("b@sink.test", mail=mail)
        self.stream = Stream(self.shared, self.owner, first)

    def finish(self, *, has_8bit: bool = False) -> Reply | None:
        return self.stream.finish(self.session, Origin("192.0.2.7", "mx", "acme"), Message(0, False, has_8bit))


def normalizing(octets: int = 10_000_000) -> Limits:
    return Limits(bare_newline="normalize", message_octets=octets)


@pytest.mark.parametrize("n_octets", [300_000, PART_OCTETS - 1, PART_OCTETS, PART_OCTETS + 1, 2_500_000])
def test_stream_cuts_the_body_into_parts_of_the_largest_size(n_octets: int) -> None:
    body = random.Random(n_octets).randbytes(n_octets)
    case = Case(body[:262_145])
    for at in range(262_145, n_octets, 9_999):
        case.stream.add(body[at : at + 9_999])
    assert case.finish() is None
    assert [len(part) for part in case.link.parts[:-1]] == [PART_OCTETS] * ((n_octets - 1) // PART_OCTETS)
    assert b"".join(case.link.parts) == body
    ((head, received, n_parts, octets),) = case.link.ends
    assert received.startswith(b"Received: from c.test")
    assert head.id == case.stream.id
    assert head.id.hex().encode() in received
    assert (n_parts, octets) == (len(case.link.parts), len(received) + n_octets)


def test_stream_holds_the_client_back_until_a_part_is_stored() -> None:
    case = Case(HEADER)
    case.stream.add(bytes(PART_OCTETS))
    assert not case.stream.is_full
    case.stream.add(bytes(PART_OCTETS))
    assert case.stream.is_full
    # Two that have no answer, and the one that is being filled.
    assert case.shared.held == 3 * PART_OCTETS
    case.stream.part_stored()
    assert not case.stream.is_full
    assert case.owner.heard == ["go on"]
    assert case.finish() is None
    case.stream.part_stored()
    case.stream.part_stored()
    case.stream.stored()
    assert case.owner.heard[-1] == "stored"
    assert case.shared.held == 0
    case.stream.abort()
    assert case.link.aborts == []


@pytest.mark.parametrize("is_sent", [False, True])
def test_stream_aborted_says_so_if_anything_was_said_and_holds_nothing(is_sent: bool) -> None:
    case = Case(HEADER)
    case.stream.add(bytes(PART_OCTETS if is_sent else 1000))
    case.stream.abort()
    case.stream.abort()
    assert case.link.aborts == ([case.stream.id] if is_sent else [])
    assert case.shared.held == 0
    # Answers that were under way.
    case.stream.part_stored()
    case.stream.refused(REPLY_451_QUEUE_SILENT)
    assert case.owner.heard == []


def test_stream_part_refused_takes_the_rest_and_keeps_none_of_it() -> None:
    case = Case(HEADER)
    case.stream.add(bytes(2 * PART_OCTETS))
    case.stream.refused(REPLY_451_QUEUE_SILENT)
    assert case.owner.heard == ["go on"]
    assert not case.stream.is_full
    assert case.shared.held == 0
    case.stream.add(bytes(5 * PART_OCTETS))
    assert len(case.link.parts) == 2
    assert case.finish() == REPLY_451_QUEUE_SILENT
    assert case.link.aborts == [case.stream.id]
    assert case.link.ends == []


def test_stream_end_refused_is_told_once_and_aborted() -> None:
    case = Case(HEADER + LINE * 5000)
    assert case.finish() is None
    case.stream.refused(REPLY_451_QUEUE_SILENT)
    case.stream.refused(REPLY_451_QUEUE_SILENT)
    assert case.owner.heard == [451]
    assert case.link.aborts == [case.stream.id]
    assert case.shared.held == 0


def test_stream_past_the_workers_room_is_refused() -> None:
    case = Case(HEADER)
    case.shared.hold(2 * HELD_OCTETS - 2 * PART_OCTETS)
    held = case.shared.held
    case.stream.add(bytes(5 * PART_OCTETS))
    reply = case.finish()
    assert reply is not None
    assert (reply.code, reply.enhanced) == (452, "4.3.1")
    assert case.shared.held == held - PART_OCTETS


# Line ends


@pytest.mark.parametrize("at", range(12))
def test_stream_mends_line_ends_across_any_cut(at: int) -> None:
    tail = b"a\r\nb\nc\rd\r\r\n\n"
    case = Case(HEADER + tail[:at], normalizing())
    case.stream.add(tail[at:] + b"end\r\n")
    assert case.finish() is None
    assert b"".join(case.link.parts) == HEADER + b"a\r\nb\r\nc d \r\n\r\nend\r\n"


def test_stream_mends_octet_by_octet() -> None:
    case = Case(HEADER, normalizing())
    for octet in b"a\r\r\n\n\rb\n\r\n":
        case.stream.add(bytes([octet]))
    assert case.finish() is None
    assert b"".join(case.link.parts) == HEADER + b"a \r\n\r\n b\r\n\r\n"
    assert case.link.ends[0][3] == len(case.link.ends[0][1]) + len(b"".join(case.link.parts))


def test_stream_grown_too_large_by_mending_is_refused() -> None:
    case = Case(b"\n" * 300_000, normalizing(1_200_000))
    case.stream.add(b"\n" * 300_000)
    assert case.stream.failure is None
    case.stream.add(b"\n")
    reply = case.finish()
    assert reply is not None
    assert (reply.code, reply.enhanced) == (552, "5.3.4")
    assert case.link.aborts == [case.stream.id]


# The header section


def test_stream_with_too_many_received_is_a_loop() -> None:
    case = Case(b"Received: x\r\n" * 3 + HEADER, Limits(received=2))
    case.stream.add(bytes(PART_OCTETS))
    reply = case.finish()
    assert reply is not None
    assert (reply.code, reply.enhanced) == (554, "5.4.6")
    assert case.link.parts == []


@pytest.mark.parametrize(
    ("first", "has_8bit", "flags"),
    [
        # Octets above 127 in the body do not need SMTPUTF8, those in the header section do.
        (HEADER + LINE, True, EIGHT_BIT),
        (b"Subject: \xc3\xa4\r\n\r\n" + LINE, True, EIGHT_BIT | UTF8),
        (HEADER + LINE, False, 0),
        (b"\r\n" + LINE, True, EIGHT_BIT),
        # A header section that goes on beyond what is looked at may have them further on.
        (b"X: y\r\n" * 50_000, True, EIGHT_BIT | UTF8),
        (b"X: y\r\n" * 50_000, False, 0),
    ],
)
def test_stream_flags_say_what_a_next_hop_must_offer(first: bytes, has_8bit: bool, flags: int) -> None:
    case = Case(first, mail="MAIL FROM:<a@source.test> BODY=8BITMIME SMTPUTF8")
    case.stream.add(LINE * 5000)
    assert case.finish(has_8bit=has_8bit) is None
    assert case.link.ends[0][0].flags == flags
