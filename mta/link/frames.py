"""The frames between a worker and the queue process. DESIGN section 4.

    frame    u32 length of what follows (little endian) · u8 kind · payload
    PUT      payload is u32 length of the head · u64 confirmed · u8 repeat · head (msgpack) · content
    others   payload is one msgpack array, the Struct of that kind; STORED is the ids, 16 octets each, WITHDRAW one id,
             STORAGE one octet; the frames of large messages are in `parts`

A worker holds two connections, each opened by HELLO and answered by WELCOME: *in* carries PUT and its answers, *out*
everything else. Answers to PUT, PUT_END and WITHDRAW come in the order of what they answer.

    worker                 queue process        meaning
    HELLO            in/out                     who I am; on out also my credit, and the leases and sessions I hold
                     in/out   WELCOME           my incarnation and the node's number
    PUT              in                         a message; 250 may be said once it is answered
                     in       STORED, REFUSED   it is committed; it is not, and this is what to tell the client
    PUT_PART         in                         a part of a message too large for one PUT; see `parts`
                     in       PART_STORED, PART_REFUSED
    PUT_END          in                         its head and what goes in front; answered like PUT
    PUT_ABORT        in                         it does not come to its end after all
                     in       ABORTED           nothing of it is left but trash
    WITHDRAW         in                         take a message back: its client waited too long, and was told so
    READY            in/out                     everything unanswered has been said again: leases may come
                     in       STORAGE           whether there is room for new mail
                     out      LEASE             deliver these parts over this session
                     out      REPORT            time is up for these parts: tell their senders
    GREETED          out                        a host of this session's site greeted us
    SETTLE           out                        what became of leased parts
                     out      SETTLED           so many SETTLE frames more are committed
    CLOSED           out                        a session is over; what it has not settled comes back untried.
                                                If its host failed, how: that rests the path, and no message counts it
    LEAVE            out                        no new sessions: this worker is about to end
                     out      RESOLVE           where does mail for this domain go?
    RESOLVED         out                        the site, its hosts, and until when to believe it; or why there is none
    NOTE             out                        events that nobody waits for

`confirmed` counts the answers to PUTs and WITHDRAWs that the worker has had over this connection: the queue process may
forget those ids. `repeat` says that the frame was sent before, over a link that was lost.

The queue process speaks LINK_VERSION and the one before: over an upgrade it is the first to be renewed, and workers of
the version before live on for a while.

A worker has `credit` for so many leased parts at once. A command line tool opens one connection with ASK instead and
gets LEASES, the parts that are leased now; or it gives ORDERs, each answered by ORDERED once it is committed.
"""

import enum
import struct
from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from mta.message import ID_OCTETS, Outcome, QueueName

__all__ = [
    "LINK_VERSION",
    "MAX_FRAME_OCTETS",
    "MAX_HEAD_OCTETS",
    "PART_OCTETS",
    "PUT_OCTETS",
    "Closed",
    "Greeted",
    "Hello",
    "Kind",
    "Lease",
    "Leases",
    "Note",
    "Notice",
    "Order",
    "OrderName",
    "Ordered",
    "Put",
    "PutHead",
    "PutPart",
    "Refused",
    "Report",
    "Resolve",
    "Resolved",
    "Settle",
    "Settled",
    "Settlement",
    "Welcome",
    "decoder",
    "encode",
    "frame",
    "put_pieces",
    "read_put",
]

LINK_VERSION = 1
# A message whose content is larger than this comes in parts.
PUT_OCTETS = 262_144
# Each part becomes one extent, and all extents of a message have to fit its row.
PART_OCTETS = 1024 * 1024
# Sender, recipients, event: what a message is besides its content.
MAX_HEAD_OCTETS = 1024 * 1024
# A part, a PUT with the largest head, a HELLO that names 200,000 leases.
MAX_FRAME_OCTETS = 5 * 1024 * 1024


class Kind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    WELCOME = 2
    PUT = 3
    STORED = 4
    REFUSED = 5
    READY = 6
    LEASE = 7
    SETTLE = 8
    SETTLED = 9
    CLOSED = 10
    RESOLVE = 11
    RESOLVED = 12
    NOTE = 13
    LEAVE = 14
    ASK = 15
    LEASES = 16
    WITHDRAW = 17
    STORAGE = 18
    GREETED = 19
    PUT_PART = 20
    PUT_END = 21
    PUT_ABORT = 22
    PART_STORED = 23
    PART_REFUSED = 24
    ABORTED = 25
    REPORT = 28
    ORDER = 29
    ORDERED = 30


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """`role` is in or out; `incarnation` 0 asks for a new one. `credit` is how many parts this worker takes at once.

    `sessions` are (number, site, whether it was greeted), `held` are (session, part): what this worker had from the
    queue process before the link was lost.
    """

    version: int
    role: Literal["in", "out"]
    worker: int
    pid: int
    incarnation: int
    credit: int
    sessions: tuple[tuple[int, str, bool], ...]
    held: tuple[tuple[int, bytes], ...]


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """Both are durable: ids made with them are never made again."""

    node: int
    incarnation: int


class PutPart(msgspec.Struct, frozen=True, array_like=True):
    """Recipients of one message that wait in one queue; `first` is the number of the first of them."""

    queue: QueueName
    first: int
    recipients: tuple[str, ...]


class PutHead(msgspec.Struct, frozen=True, array_like=True):
    """Everything of a message but its content. Times are ms since 1970; `event` is its encoded `received` event.

    It expires `lifetime_ms` after it was stored, by the queue process's clock, which never jumps.
    """

    id: bytes
    sender: str
    received_at: int
    lifetime_ms: int
    tenant: str
    campaign: str
    flags: int
    parts: tuple[PutPart, ...]
    event: bytes


class Put(msgspec.Struct, frozen=True):
    """A PUT taken apart; or a PUT_END, where `content` goes in front of `n_parts` parts and `octets` is all of it."""

    head: PutHead
    content: bytes | memoryview
    confirmed: int
    repeat: bool
    n_parts: int = 0
    octets: int = 0


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """The queue process will not have a message: the reply for the client."""

    id: bytes
    code: int
    enhanced: str
    text: str


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """Parts to deliver over a session, by name; `opens` with the first lease of a session.

    `hosts` and `ranks` are as in RESOLVED. `new` has an octet for each part, 1 for one that was never leased since it
    was put: it stands as it was put.

    A lease for a session that the worker does not have and shall not open has crossed the word that it is closed: it
    must be ignored, because the queue process takes its parts back when it reads that word.
    """

    session: int
    opens: bool
    site: str
    hosts: tuple[tuple[str, int], ...]
    parts: tuple[bytes, ...]
    ranks: tuple[int, ...] = ()
    new: bytes = b""


class Report(msgspec.Struct, frozen=True, array_like=True):
    """Write to the senders of these parts that time is up for all of their recipients.

    `status` is expired: then `failure` is why their hosts could not be reached, for recipients that were never tried.
    Or it is bounced: because of `failure` if there is one, otherwise because an operator wants it so.
    """

    status: Literal["expired", "bounced"]
    failure: Outcome | None
    parts: tuple[bytes, ...]


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """A message of our own to a sender, to be stored with the settlement that it tells of."""

    head: PutHead
    content: bytes


class Settlement(msgspec.Struct, frozen=True, array_like=True):
    """What became of one part: (recipient number, address, outcome) for each of its recipients.

    None at all means that the worker could not read the part: it is gone already, or shall be set aside.

    `received_at` and `tenant` are those of the message, which never change: they save the queue process a read.
    `notice` tells the sender of the recipients that failed for good. `is_report` when this was no attempt.
    """

    part: bytes
    attempt: int
    received_at: int
    tenant: str
    results: tuple[tuple[int, str, Outcome], ...]
    notice: Notice | None = None
    is_report: bool = False


class Settle(msgspec.Struct, frozen=True, array_like=True):
    """`confirmed` as in PUT."""

    confirmed: int
    settlements: tuple[Settlement, ...]


class Settled(msgspec.Struct, frozen=True, array_like=True):
    """That many more SETTLE frames, in their order, need not be said again."""

    n_frames: int


class Closed(msgspec.Struct, frozen=True, array_like=True):
    """A session is over; what was leased to it and is not settled was not started.

    `failure` is what its host did, where that is no message's fault: unreachable, no greeting, 421.
    """

    session: int
    failure: Outcome | None


class Greeted(msgspec.Struct, frozen=True, array_like=True):
    """A host greeted a session."""

    session: int


class Resolve(msgspec.Struct, frozen=True, array_like=True):
    """Ask where mail for a domain goes, given a route chosen at reception ("" for none)."""

    domain: str
    route: str


class Resolved(msgspec.Struct, frozen=True, array_like=True):
    """A site's name and its hosts in order, to be believed for `ttl_s` seconds. Hosts of one rank may change places.

    With a `failure` there is no way: its status is bounced if that concerns all mail of the queues that asked, deferred
    if it is worth asking again later.
    """

    domain: str
    route: str
    site: str
    hosts: tuple[tuple[str, int], ...]
    ttl_s: float
    ranks: tuple[int, ...] = ()
    failure: Outcome | None = None


class Note(msgspec.Struct, frozen=True, array_like=True):
    """Encoded events for the outbox."""

    events: tuple[bytes, ...]


class Leases(msgspec.Struct, frozen=True, array_like=True):
    """The parts that are leased at this moment."""

    parts: tuple[bytes, ...]


OrderName = Literal["retry", "hold", "release", "remove", "bounce"]


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What an operator wants done with messages."""

    name: OrderName
    ids: tuple[bytes, ...]


class Ordered(msgspec.Struct, frozen=True, array_like=True):
    """It is done: so many messages changed; these are not in the queue, and these are damaged and stay as they are."""

    n_changed: int
    unknown: tuple[bytes, ...]
    damaged: tuple[bytes, ...]


T = TypeVar("T")

# Bound once: see ARCHITECTURE, Choices.
PUT = Kind.PUT
_header = struct.Struct("<IB")
_put = struct.Struct("<IBIQ?")
_put_rest = struct.Struct("<IQ?")
encode = msgspec.msgpack.Encoder().encode


def decoder(kind: type[T]) -> "msgspec.msgpack.Decoder[T]":
    """Return a decoder for the payload of one kind."""
    return msgspec.msgpack.Decoder(kind)


_decode_put = msgspec.msgpack.Decoder(PutHead).decode


def frame(kind: int, payload: object = b"") -> bytes:
    """Return a whole frame; `payload` is bytes as they are, or what msgpack can say: a Struct of this module."""
    body = payload if isinstance(payload, bytes) else encode(payload)
    return _header.pack(len(body) + 1, kind) + body


def put_pieces(head: bytes, content: Sequence[bytes], confirmed: int, repeat: bool) -> list[bytes]:
    """Return a PUT frame in pieces; `head` is an encoded PutHead, `content` are the pieces of the message."""
    n_octets = _put.size - 4 + len(head) + sum(map(len, content))
    return [_put.pack(n_octets, PUT, len(head), confirmed, repeat), head, *content]


def read_put(payload: bytes) -> Put:
    """Take a PUT payload apart. Raises msgspec.DecodeError or ValueError for a malformed one."""
    if len(payload) < _put_rest.size:
        raise ValueError("a PUT without a head")
    n_head, confirmed, repeat = _put_rest.unpack_from(payload)
    end = _put_rest.size + n_head
    octets = memoryview(payload)
    head = _decode_put(octets[_put_rest.size : end])
    # A part's name is cut at this length: the parts of such a message could never be settled.
    if len(head.id) != ID_OCTETS:
        raise ValueError(f"a PUT with an id of {len(head.id)} octets")
    return Put(head, octets[end:], confirmed, repeat)
