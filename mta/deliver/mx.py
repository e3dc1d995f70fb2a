"""Mail by MX: which hosts take it, in which order, and when there are none. RFC 5321 s5.1, RFC 7505.

Rule: pure. The records and the addresses come in, a list of hosts or the reason why nobody gets the mail goes out; what
was asked of the name service, and when, is the business of `ways`.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mta.dns import Addresses, Answer, Record
from mta.message import LOCAL_SITE, Outcome

__all__ = ["Host", "candidates", "failure_of", "loop", "site_name", "usable"]

SITE_CHARACTERS = 128
DIGEST_CHARACTERS = 16
# A host name, as lenient as hosts are: underscores exist. One that ends in a number is an address in the wrong place.
HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_-]{1,63}\.)*(?![0-9]+\Z)[a-z0-9_-]{1,63}")


class Host(msgspec.Struct, frozen=True):
    """An exchanger: the lower its rank, the sooner it is tried."""

    name: str
    rank: int


def failure_of(domain: str, answer: Answer) -> Outcome | None:
    """Return why mail for a domain goes nowhere, as far as its MX records say; None if there may be a way."""
    if answer.status == "failed":
        return Outcome("deferred", 451, "4.4.3", f"the name service does not know {domain}: {answer.reason}", "", "")
    if answer.status == "no_name":
        return Outcome("bounced", 550, "5.1.2", f"there is no domain {domain}", "", "")
    if answer.records and all(not record.text for record in answer.records):
        # RFC 7505 s3, s4.
        return Outcome("bounced", 556, "5.1.10", f"{domain} takes no mail (it has a null MX)", "", "")
    return None


def candidates(domain: str, records: Sequence[Record]) -> list[Host]:
    """Return the hosts of a domain by its MX records, the best first; a domain without any is its own host.

    Names that are none, and a null MX beside others, are passed over.
    """
    if not records:
        return [Host(domain, 0)]
    best: dict[str, int] = {}
    for record in sorted(records):
        if HOST.fullmatch(record.text):
            best.setdefault(record.text, record.preference)
    return [Host(name, rank) for name, rank in best.items()]


def usable(
    domain: str,
    hosts: Sequence[Host],
    addresses: Mapping[str, Addresses],
    is_us: Callable[[Host], bool],
    *,
    by_mx: bool,
) -> tuple[Host, ...] | Outcome:
    """Return those of the candidates that mail can be sent to, or why there are none.

    If we are among them, neither we nor what is no better. A host whose addresses nobody knows at the moment stays.
    """
    limit = min((host.rank for host in hosts if is_us(host)), default=None)
    others = [host for host in hosts if limit is None or host.rank < limit]
    if hosts and not others:
        return loop(domain)
    left = tuple(host for host in others if addresses[host.name] or addresses[host.name].failure)
    if any(addresses[host.name] for host in left):
        return left
    if left:
        failure = addresses[left[0].name].failure
        return Outcome("deferred", 451, "4.4.3", f"the name service does not know {left[0].name}: {failure}", "", "")
    if by_mx:
        return Outcome("bounced", 550, "5.4.4", f"no mail host of {domain} has an address", "", "")
    return Outcome("bounced", 550, "5.1.2", f"{domain} has neither a mail host nor an address", "", "")


def loop(domain: str) -> Outcome:
    """Return what becomes of mail that would come back in."""
    return Outcome("bounced", 554, "5.4.6", f"mail for {domain} loops back to this server", "", "")


def site_name(hosts: Sequence[Host]) -> str:
    """Return the name of the site that is these hosts in this order, whatever numbers it was written with.

    Hosts of one rank are in order of the alphabet, with commas between, and slashes between ranks. RFC 5321 s5.1 wants
    the order kept: the same hosts the other way round are another site. A host whose name is LOCAL_SITE, which somebody
    else's zone may name, has its dot: mail for it does not end here.
    """
    ranks = sorted({host.rank for host in hosts})
    name = "/".join(",".join(sorted(host.name for host in hosts if host.rank == rank)) for rank in ranks)
    if len(name) <= SITE_CHARACTERS:
        return f"{name}." if name == LOCAL_SITE else name
    digest = hashlib.blake2b(name.encode(), digest_size=DIGEST_CHARACTERS // 2).hexdigest()
    return f"{name[: SITE_CHARACTERS - DIGEST_CHARACTERS - 1]}#{digest}"
