"""The frames of a message that is too large for one PUT. DESIGN section 4.

    PUT_PART        id 16 · u32 number · u8 repeat · up to PART_OCTETS of the message as the client sent it
    PUT_END         u32 number of parts · u64 octets of the whole message · the payload of a PUT
    PUT_ABORT       id 16
    PART_STORED     id 16 · u32 number
    PART_REFUSED    a Refused
    ABORTED         id 16

Parts are numbered from 0 and come in order; each becomes one extent and is answered when it is committed. What a
PUT_END holds besides the head is what we put in front, an extent of its own and the first. It is answered like a PUT,
by STORED or REFUSED, and counts as `confirmed` like one; the answers to parts and aborts do not.

Every frame may be said twice: a part that is in `incoming` already, or whose message is stored, is answered and not
stored again; so is a PUT_END whose id is in `message` or `gone`, and a PUT_ABORT of what is not there.
"""

import struct
from collections.abc import Sequence

import msgspec

from mta.link.frames import PART_OCTETS, Kind, Put, put_pieces, read_put
from mta.message import ID_OCTETS

__all__ = ["Part", "end_pieces", "part_head", "read_end", "read_id", "read_part", "read_part_stored"]

_part = struct.Struct("<IB16sI?")
_part_rest = struct.Struct("<16sI?")
_end = struct.Struct("<IBIQ")
_end_rest = struct.Struct("<IQ")
_stored = struct.Struct("<16sI")
_pack_stored = _stored.pack
HEADER_OCTETS = 5


class Part(msgspec.Struct, frozen=True):
    """A PUT_PART taken apart."""

    id: bytes
    number: int
    repeat: bool
    octets: memoryview

    @property
    def stored(self) -> bytes:
        """The payload of PART_STORED."""
        return _pack_stored(self.id, self.number)


def part_head(id_: bytes, number: int, n_octets: int, *, repeat: bool) -> bytes:
    """Return a PUT_PART frame up to its `n_octets`, which follow as they are: they need not be copied."""
    return _part.pack(_part.size - 4 + n_octets, Kind.PUT_PART, id_, number, repeat)


def read_part(payload: bytes) -> Part:
    """Take a PUT_PART payload apart; the octets stay where they are. Raises ValueError for a malformed one."""
    if not _part_rest.size < len(payload) <= _part_rest.size + PART_OCTETS:
        raise ValueError(f"a part of {len(payload) - _part_rest.size} octets")
    id_, number, repeat = _part_rest.unpack_from(payload)
    return Part(id_, number, repeat, memoryview(payload)[_part_rest.size :])


def end_pieces(
    head: bytes, content: Sequence[bytes], confirmed: int, repeat: bool, n_parts: int, octets: int
) -> list[bytes]:
    """Return a PUT_END frame in pieces; `head` and `content` as in `put_pieces`, `octets` are the whole message's."""
    first, *rest = put_pieces(head, content, confirmed, repeat)
    payload = [first[HEADER_OCTETS:], *rest]
    return [_end.pack(_end.size - 4 + sum(map(len, payload)), Kind.PUT_END, n_parts, octets), *payload]


def read_end(payload: bytes) -> Put:
    """Take a PUT_END payload apart. Raises msgspec.DecodeError or ValueError for a malformed one."""
    if len(payload) < _end_rest.size:
        raise ValueError("a PUT_END without a head")
    n_parts, octets = _end_rest.unpack_from(payload)
    if not n_parts:
        raise ValueError("a PUT_END without parts")
    put = read_put(payload[_end_rest.size :])
    if octets <= len(put.content):
        raise ValueError(f"a PUT_END of {octets} octets, {len(put.content)} of them in front")
    return Put(put.head, put.content, put.confirmed, put.repeat, n_parts, octets)


def read_part_stored(payload: bytes) -> tuple[bytes, int]:
    """Return (id, number) of a PART_STORED payload. Raises struct.error for a malformed one."""
    id_, number = _stored.unpack(payload)
    return id_, number


def read_id(payload: bytes) -> bytes:
    """Return the id that is the whole payload. Raises ValueError for a malformed one."""
    if len(payload) != ID_OCTETS:
        raise ValueError(f"an id of {len(payload)} octets")
    return payload
