"""What the domain name system says about one name and one kind of record.

Rule: every question ends in one of these values, whatever a server sent; nothing is raised.
"""

from typing import Literal, NamedTuple

import msgspec

__all__ = ["Addresses", "Answer", "Kind", "Record", "Status"]

Kind = Literal["MX", "A", "AAAA"]
"""The kinds of records that can be asked for."""

Status = Literal["found", "no_data", "no_name", "failed"]
"""There are records; the name has none of this kind; there is no such name (NXDOMAIN); nobody knows right now."""


class Record(NamedTuple):
    """One record: an address, or a host with its preference; the root, as in a null MX, is the host "".

    Host names are lowercase and without the dot at their end; an octet that is no printable ASCII is escaped.
    """

    preference: int
    text: str


class Answer(msgspec.Struct, frozen=True):
    """`records` are in no order and 100 at most, good for `ttl_s` seconds; `reason` says why there are none.

    `canonical` is the name that they belong to, if the one asked for is an alias; "" otherwise.
    """

    status: Status
    records: tuple[Record, ...]
    ttl_s: float
    reason: str = ""
    canonical: str = ""


class Addresses(msgspec.Struct, frozen=True):
    """The addresses of a host, good for `ttl_s` seconds. If there are none, `failure` says whether nobody knows right
    now; "" means that there are none."""

    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    ttl_s: float
    failure: str = ""

    def __bool__(self) -> bool:
        return bool(self.ipv4 or self.ipv6)
