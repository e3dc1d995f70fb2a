"""Questions and answers as octets, by dnspython.

Rule: whatever octets come in, what goes out is an Answer, or None for what is no answer to this question. A name that
cannot be asked for is `Unaskable`; nothing else is raised.
"""

import heapq
import struct

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import msgspec
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from mta.dns.answer import Answer, Kind, Record

__all__ = ["NO_EDNS", "RETRY_TTL_S", "TRUNCATED", "Question", "Unaskable", "make_question", "read_answer"]

# What passes any network in one piece: the EDNS buffer size of DNS Flag Day 2020. RFC 6891 s6.2.5.
PAYLOAD_OCTETS = 1232
MOST_RECORDS = 100
# More than this of a section is not read: 4,000 records, which is what 64 KiB hold, would stop a worker for 0.3 s.
# Twice MOST_RECORDS, for there may be aliases among them.
READ_RECORDS = 200
# RFC 9520 s3.2: at least a second. The queues that wait for an answer have pauses of their own.
RETRY_TTL_S = 1.0

TRUNCATED = Answer("failed", (), 0.0, "the answer was truncated")
NO_EDNS = Answer("failed", (), RETRY_TTL_S, "the name server did not understand the question")

_counts = struct.Struct(">HHHH")
COUNTS_AT = 4
HEADER_OCTETS = 12
# Behind a question's name: kind and class; behind a record's: those, its TTL, and how long its data is. RFC 1035 s4.1.
ASKED_OCTETS = 4
_fixed = struct.Struct(">HHIH")
_preference = struct.Struct(">H")
# The two upper bits of a length octet: both make it the first of a pointer's two. RFC 1035 s4.1.4.
POINTER = 0xC0
QR_BIT = 0x80
TC_BIT = 0x02
PROBLEMS = (dns.exception.DNSException, ValueError, LookupError, struct.error, AttributeError, TypeError)


class Unaskable(Exception):
    """A name that does not fit into a question: a label of more than 63 octets, a name of more than 255."""


class Question(msgspec.Struct, frozen=True):
    """One question as it is sent, with an id of its own."""

    name: str
    kind: Kind
    message: dns.message.Message
    wire: bytes


def make_question(name: str, kind: Kind, *, edns: bool = True) -> Question:
    """Return the question for a domain, without a dot at its end; labels beyond ASCII go as A-labels. RFC 5891 s4.4.

    Raises Unaskable.
    """
    try:
        labels = [
            label.encode() if label.isascii() else b"xn--" + label.encode("punycode") for label in name.split(".")
        ]
        absolute = dns.name.Name([*labels, b""])
        message = dns.message.make_query(absolute, kind, use_edns=0 if edns else False, payload=PAYLOAD_OCTETS)
        return Question(name, kind, message, message.to_wire())
    except (*PROBLEMS, UnicodeError) as problem:
        raise Unaskable(f"{type(problem).__name__}") from problem


def read_answer(question: Question, wire: bytes) -> Answer | None:
    """Return what a server says to a question: TRUNCATED when it has to be asked over TCP, NO_EDNS when it has to be
    asked without EDNS; None for what is no answer to it."""
    if wire[:2] != question.wire[:2] or len(wire) < HEADER_OCTETS:
        return None
    if wire[2] & TC_BIT and wire[2] & QR_BIT:
        return TRUNCATED
    try:
        message = _parse(wire)
        return _meaning(message, question.kind) if question.message.is_response(message) else None
    except PROBLEMS:
        return None


def _parse(wire: bytes) -> dns.message.Message:
    """Read a message, but no more records of a section than READ_RECORDS: of too many answers the best, and nothing
    behind a section that is too long."""
    n_questions, *counts = _counts.unpack_from(wire, COUNTS_AT)
    long = next((n for n, count in enumerate(counts) if count > READ_RECORDS), None)
    if long is None:
        return dns.message.from_wire(wire)
    if not long:
        return dns.message.from_wire(_with_best(wire, n_questions, counts[0]))
    counts[long:] = [READ_RECORDS] + [0] * (len(counts) - long - 1)
    short = wire[:COUNTS_AT] + _counts.pack(n_questions, *counts) + wire[HEADER_OCTETS:]
    return dns.message.from_wire(short, ignore_trailing=True)


def _with_best(wire: bytes, n_questions: int, n_answers: int) -> bytes:
    """Return a message with the same question, and of its answers MOST_RECORDS aliases at most and as many others, the
    best of them. Raises what is in PROBLEMS.

    Every answer is looked at, wherever a server that rotates them put it, but only those that stay are read.
    """
    at = HEADER_OCTETS
    for _ in range(n_questions):
        at = _behind_name(wire, at) + ASKED_OCTETS
    asked = wire[HEADER_OCTETS:at]
    aliases: list[bytes] = []
    # Preference, and where the record begins.
    others: list[tuple[int, int]] = []
    for _ in range(n_answers):
        begin, fixed = at, _behind_name(wire, at)
        kind, _, _, n_octets = _fixed.unpack_from(wire, fixed)
        data = fixed + _fixed.size
        at = data + n_octets
        if at > len(wire):
            raise ValueError("a record goes on behind the end")
        if kind == dns.rdatatype.CNAME and len(aliases) < MOST_RECORDS:
            aliases.append(_spelled_out(wire, begin))
        elif kind == dns.rdatatype.MX:
            others.append((_preference.unpack_from(wire, data)[0], begin))
        elif kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            others.append((0, begin))
    kept = aliases + [_spelled_out(wire, begin) for _, begin in heapq.nsmallest(MOST_RECORDS, others)]
    header = wire[:COUNTS_AT] + _counts.pack(n_questions, len(kept), 0, 0)
    return header + asked + b"".join(kept)


def _behind_name(wire: bytes, at: int) -> int:
    """Return where a name ends, its pointer included."""
    while 0 < wire[at] < POINTER:
        at += 1 + wire[at]
    return at + 2 if wire[at] else at + 1


def _spelled_out(wire: bytes, at: int) -> bytes:
    """Return a record with its names in full: in another message its pointers would lead elsewhere."""
    owner, n_octets = dns.name.from_wire(wire, at)
    kind, class_, ttl, n_octets = _fixed.unpack_from(wire, at + n_octets)
    at = _behind_name(wire, at) + _fixed.size
    data = wire[at : at + n_octets]
    if kind in (dns.rdatatype.MX, dns.rdatatype.CNAME):
        front = _preference.size if kind == dns.rdatatype.MX else 0
        name, n_name = dns.name.from_wire(wire, at + front)
        if front + n_name != n_octets:
            raise ValueError("a name is not as long as its record")
        data = data[:front] + name.to_digestable()
    return owner.to_digestable() + _fixed.pack(kind, class_, ttl, len(data)) + data


def _meaning(message: dns.message.Message, kind: Kind) -> Answer:
    rcode = message.rcode()
    if rcode in (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS):
        return NO_EDNS
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(message, dns.message.QueryMessage):
        return Answer("failed", (), RETRY_TTL_S, f"the name server said {dns.rcode.to_text(rcode)}")
    try:
        chain = message.resolve_chaining()
    except dns.exception.DNSException as problem:
        # Aliases in a circle, an answer for a name that is not there.
        return Answer("failed", (), RETRY_TTL_S, f"the answer contradicts itself ({type(problem).__name__})")
    canonical = _text(chain.canonical_name) if chain.cnames else ""
    ttl_s = float(chain.minimum_ttl)
    if chain.answer is not None:
        # The best are kept: of addresses, any.
        records = sorted({_record(rdata, kind) for rdata in chain.answer})[:MOST_RECORDS]
        return Answer("found", tuple(records), ttl_s, "", canonical)
    if rcode == dns.rcode.NXDOMAIN:
        return Answer("no_name", (), ttl_s, "there is no such name", canonical)
    kinds = {rrset.rdtype for rrset in message.authority}
    if dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds and not canonical:
        # RFC 2308 s2.2: a resolver has no reason to send us elsewhere.
        return Answer("failed", (), RETRY_TTL_S, "the name server referred us to others")
    return Answer("no_data", (), ttl_s, f"there is no {kind} record", canonical)


def _record(rdata: dns.rdata.Rdata, kind: Kind) -> Record:
    if isinstance(rdata, MX):
        return Record(rdata.preference, _text(rdata.exchange))
    if isinstance(rdata, A | AAAA):
        return Record(0, rdata.address)
    raise TypeError(f"a {kind} record that is none")


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if len(name) > 1 else ""
