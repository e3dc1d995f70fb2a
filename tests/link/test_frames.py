"""Every frame goes through the link and comes out as it went in, however the reads are cut."""

import msgspec
import pytest

from mta._fast import FrameReader
from mta.link import (
    Closed,
    Greeted,
    Hello,
    Kind,
    Lease,
    Leases,
    Note,
    Notice,
    Order,
    Ordered,
    PutHead,
    PutPart,
    Refused,
    Report,
    Resolve,
    Resolved,
    Settle,
    Settled,
    Settlement,
    Welcome,
    decoder,
    frame,
    read_put,
)
from mta.link.frames import MAX_FRAME_OCTETS, encode, put_pieces
from mta.message import Outcome, QueueName
from tests.cuts import CUT_IDS, CUTS, Cut

PART = bytes(range(18))
OUTCOME = Outcome("deferred", 450, "4.2.0", "later", "mx [127.0.0.1]", "schön")
HEAD = PutHead(
    bytes(16), "s@a.test", 1, 2, "t", "c", 3, (PutPart(QueueName("t", "c", 0, "b.test", ""), 0, ("x@b.test",)),), b"e"
)
FRAMES: list[tuple[Kind, msgspec.Struct]] = [
    (Kind.HELLO, Hello(1, "out", 2, 3, 4, 2000, ((5, "site", True),), ((5, PART),))),
    (Kind.WELCOME, Welcome(1, 2)),
    (Kind.REFUSED, Refused(bytes(16), 452, "4.3.1", "full")),
    (Kind.PART_REFUSED, Refused(bytes(16), 452, "4.3.1", "full")),
    (Kind.LEASE, Lease(5, True, "site", (("127.0.0.1", 25),), (PART,))),
    (Kind.SETTLE, Settle(7, (Settlement(PART, 1, 2, "t", ((0, "x@b.test", OUTCOME),)),))),
    (Kind.SETTLE, Settle(7, (Settlement(PART, 1, 2, "t", ((0, "x@b.test", OUTCOME),), Notice(HEAD, b"\0c"), True),))),
    (Kind.SETTLED, Settled(3)),
    (Kind.CLOSED, Closed(5, None)),
    (Kind.CLOSED, Closed(5, OUTCOME)),
    (Kind.GREETED, Greeted(5)),
    (Kind.REPORT, Report("expired", None, (PART,))),
    (Kind.REPORT, Report("bounced", OUTCOME, (PART, PART))),
    (Kind.ORDER, Order("release", (bytes(16),))),
    (Kind.ORDERED, Ordered(3, (bytes(16),), ())),
    (Kind.RESOLVE, Resolve("b.test", "")),
    (Kind.RESOLVED, Resolved("b.test", "", "site", (("127.0.0.1", 25),), 1.5)),
    (Kind.NOTE, Note((b"a", b"b"))),
    (Kind.LEASES, Leases((PART, PART))),
]
# What carries octets as they are, or nothing.
BARE = [
    (Kind.STORED, bytes(32)),
    (Kind.READY, b""),
    (Kind.LEAVE, b""),
    (Kind.ASK, b""),
    (Kind.WITHDRAW, bytes(16)),
    (Kind.STORAGE, b"\1"),
    (Kind.PUT_PART, bytes(21) + b"octets"),
    (Kind.PUT_END, bytes(12)),
    (Kind.PUT_ABORT, bytes(16)),
    (Kind.PART_STORED, bytes(20)),
    (Kind.ABORTED, bytes(16)),
]


def read(wire: bytes, cut: Cut) -> list[tuple[int, bytes]]:
    reader = FrameReader(MAX_FRAME_OCTETS)
    return [found for piece in cut(wire) for found in reader.feed(piece)]


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
def test_frame_of_every_kind_any_cut_is_the_same(cut: Cut) -> None:
    assert {kind for kind, _ in FRAMES} | {kind for kind, _ in BARE} | {Kind.PUT} == set(Kind)
    wire = b"".join(frame(kind, payload) for kind, payload in [*FRAMES, *BARE])
    found = read(wire, cut)
    assert [kind for kind, _ in found] == [kind for kind, _ in [*FRAMES, *BARE]]
    for (_, sent), (_, payload) in zip(FRAMES, found, strict=False):
        assert decoder(type(sent)).decode(payload) == sent
    assert [payload for _, payload in found[len(FRAMES) :]] == [payload for _, payload in BARE]


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
@pytest.mark.parametrize("content", [(), (b"",), (b"a",), (b"a\r\n", b"", b"\0" * 3000)])
@pytest.mark.parametrize("repeat", [False, True])
def test_put_any_cut_is_the_same(cut: Cut, content: tuple[bytes, ...], repeat: bool) -> None:
    wire = b"".join(put_pieces(encode(HEAD), content, 4_000_000_000, repeat))
    found = read(wire + frame(Kind.READY), cut)
    assert [kind for kind, _ in found] == [Kind.PUT, Kind.READY]
    put = read_put(found[0][1])
    assert (put.head, put.content, put.confirmed, put.repeat) == (HEAD, b"".join(content), 4_000_000_000, repeat)


HEAD_OCTETS = encode(HEAD)


@pytest.mark.parametrize(
    "payload",
    [
        # No head, half a head, a head longer than the frame, one with something behind it, one of another kind.
        b"",
        bytes(8),
        b"".join(put_pieces(HEAD_OCTETS[:-1], (), 0, False))[5:],
        b"".join(put_pieces(HEAD_OCTETS, (), 0, False))[5:-1],
        b"".join(put_pieces(HEAD_OCTETS + b"\0", (), 0, False))[5:],
        b"".join(put_pieces(encode(Welcome(1, 2)), (b"content",), 0, False))[5:],
    ],
)
def test_put_malformed_is_refused(payload: bytes) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        read_put(payload)
