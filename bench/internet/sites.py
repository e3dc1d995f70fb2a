"""The table of a small internet: who lives where, how they behave, and how mail to them has to end.

Rule: what is expected stands here and nowhere else, and follows from what the hosts say and the zone holds; nothing is
taken from the server under test. Zone lines are relative to `test.`; addresses are of the loopback network.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import msgspec

from bench.internet.behaviours import (
    Behaviour,
    Closed,
    Crowded,
    Greylisting,
    Mailbox,
    Mixed,
    Old,
    Picky,
    Plain,
    Silent,
    Slow,
    Stalled,
    Throttled,
)

__all__ = ["GREY", "HOME", "LAME", "OURSELVES", "SITES", "STALLED", "THROTTLED", "ZONE", "End", "Site", "site_of"]

ZONE = "test"
OURSELVES = "mx.example.test"
"""The server under test."""
LAME = "lame"
"""A zone that the nameserver should serve and cannot: SERVFAIL."""


class End(msgspec.Struct, frozen=True):
    """How mail to a recipient has to end, or stand when all else has ended."""

    kind: Literal["delivered", "bounced", "waiting"]
    code: int = 0
    enhanced: str = ""
    said: str = ""
    """The peer's words, all of them, as an operator and the sender get to see them."""
    because: str = ""
    """Where no peer spoke: what our own words have to contain."""
    is_hosts: bool = False
    """It is the host that keeps the mail from going: the path rests, and no attempt is counted."""


DELIVERED = End("delivered")


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts that stand together, and the domains whose mail leads to them."""

    name: str
    make: Callable[[], Behaviour] = Plain
    listens: tuple[str, ...] = ()
    """The addresses at which somebody answers."""
    hosts: tuple[str, ...] = ()
    """Zone lines of the hosts."""
    mx: tuple[str, ...] = ()
    """Zone lines of each domain, without its name."""
    n_domains: int = 1
    share: float = 0.5
    """Of all recipients, per cent."""
    end: End = DELIVERED
    mailboxes: dict[str, End] = {}
    """Ends by what stands before the first dot of a recipient, where it is not `end`."""
    later: str = ""
    """What its hosts say to whom they ask to come again, before they take the mail."""
    tld: str = ZONE
    paths: int = 1
    """How many paths lead to its addresses, those of other sites included; 0: it has hosts of a site above it."""
    is_shared: bool = False
    """Its hosts are equal: each has to get some of the mail."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(f"{self.name}-{number:02d}.{self.tld}" for number in range(1, self.n_domains + 1))


# What the odd octets come to: no control character may reach a log, a terminal or a notice.
ODD = "554 5.7.1 Looks like spam: caf\udce9 \x1b[2J \udcff\x07 na\u00efve"
ODD_SEEN = "5.7.1 Looks like spam: caf\ufffd \ufffd[2J \ufffd\ufffd na\u00efve"
MAILBOXES = {
    "gone": Mailbox("rcpt", "550 5.1.1 No mailbox here by that name; she left in May"),
    "moved": Mailbox("rcpt", "551 5.1.6 This person has moved.\nAsk the office where to.\n5.1.6 Good bye"),
    "over": Mailbox("rcpt", "552 5.2.2 Over quota, and nobody reads it"),
    "full": Mailbox("rcpt", "452 4.2.2 Mailbox full, he is on holiday"),
    "spam": Mailbox("message", ODD),
    "later": Mailbox("message", "451 4.3.0 The scanner is out of breath"),
}
PICKY_ENDS = {
    "gone": End("bounced", 550, "5.1.1", "5.1.1 No mailbox here by that name; she left in May"),
    "moved": End("bounced", 551, "5.1.6", "5.1.6 This person has moved.\nAsk the office where to.\n5.1.6 Good bye"),
    "over": End("bounced", 552, "5.2.2", "5.2.2 Over quota, and nobody reads it"),
    "full": End("waiting", 452, "4.2.2", "4.2.2 Mailbox full, he is on holiday"),
    "spam": End("bounced", 554, "5.7.1", ODD_SEEN),
    "later": End("waiting", 451, "4.3.0", "4.3.0 The scanner is out of breath"),
}
NO_8BIT = End("bounced", 554, "5.6.3", because="8-bit")

HOME = Site(
    name="home",
    listens=("127.0.0.20",),
    hosts=("mx1.home A 127.0.0.20",),
    mx=("MX 10 mx1.home",),
    share=0,
)
"""Where the senders are, and get their notices."""

GREY = Site(
    name="grey",
    make=partial(Greylisting, 2.0),
    listens=("127.0.0.4",),
    hosts=("mx1.grey A 127.0.0.4",),
    mx=("MX 10 mx1.grey",),
    n_domains=5,
    share=6,
    later=Greylisting.WORDS,
)
CROWDED = Site(
    name="crowded",
    make=partial(Crowded, connections=4, messages=5),
    listens=("127.0.0.5",),
    hosts=("mx1.crowded A 127.0.0.5",),
    mx=("MX 10 mx1.crowded",),
    n_domains=5,
    share=8,
)
THROTTLED = Site(
    name="throttled",
    make=partial(Throttled, recipients=5, window_s=0.1),
    listens=("127.0.0.6",),
    hosts=("mx1.throttled A 127.0.0.6",),
    mx=("MX 10 mx1.throttled",),
    n_domains=3,
    share=4,
    later=Throttled.WORDS,
)
STALLED = Site(
    name="stalled",
    make=Stalled,
    listens=("127.0.0.19",),
    hosts=("mx1.stalled A 127.0.0.19",),
    mx=("MX 10 mx1.stalled",),
    share=1.5,
)

SITES = (
    Site(
        name="plain",
        listens=("127.0.0.2", "127.0.0.3"),
        hosts=("mx1.plain A 127.0.0.2", "mx2.plain A 127.0.0.3"),
        mx=("MX 10 mx1.plain", "MX 20 mx2.plain"),
        n_domains=8,
        share=42.5,
    ),
    GREY,
    CROWDED,
    THROTTLED,
    Site(
        name="slow",
        make=partial(Slow, 0.2),
        listens=("127.0.0.7",),
        hosts=("mx1.slow A 127.0.0.7",),
        mx=("MX 10 mx1.slow",),
        n_domains=3,
        share=2.5,
    ),
    STALLED,
    # Equal preferences, and nobody at home at two of the four.
    Site(
        name="rotating",
        listens=("127.0.0.8", "127.0.0.10"),
        hosts=(
            "mx1.rotating A 127.0.0.8",
            "mx2.rotating A 127.0.0.14",
            "mx3.rotating A 127.0.0.10",
            "mx4.rotating A 127.0.0.14",
        ),
        mx=("MX 10 mx1.rotating", "MX 10 mx2.rotating", "MX 10 mx3.rotating", "MX 10 mx4.rotating"),
        n_domains=4,
        share=8,
        is_shared=True,
    ),
    # The first choice has closed for good.
    Site(
        name="closed",
        make=partial(Closed, "127.0.0.17"),
        listens=("127.0.0.17", "127.0.0.16"),
        hosts=("mx1.closed A 127.0.0.17", "mx2.closed A 127.0.0.16"),
        mx=("MX 10 mx1.closed", "MX 20 mx2.closed"),
        n_domains=2,
        share=2,
        paths=2,
    ),
    # One name, two addresses: one of them is dead, the other belongs to a host above.
    Site(
        name="half",
        listens=("127.0.0.16",),
        hosts=("mx1.half A 127.0.0.14", "mx1.half A 127.0.0.16"),
        mx=("MX 10 mx1.half",),
        n_domains=2,
        share=2,
        paths=0,
    ),
    Site(
        name="six",
        listens=("::1",),
        hosts=("mx1.six AAAA ::1",),
        mx=("MX 10 mx1.six",),
        n_domains=4,
        share=5,
    ),
    # Names for names: a domain with a home of its own, and one that is another name of a domain above.
    Site(
        name="alias",
        listens=("127.0.0.12",),
        hosts=("real.alias MX 10 mx1.alias", "mx1.alias A 127.0.0.12", "step.alias CNAME real.alias"),
        mx=("CNAME step.alias",),
        n_domains=3,
        share=3,
        paths=3,
    ),
    Site(
        name="nick",
        listens=("127.0.0.2", "127.0.0.3"),
        mx=("CNAME plain-01",),
        n_domains=2,
        share=2,
        paths=0,
    ),
    # No MX at all: the domain is its own host.
    Site(
        name="bare",
        listens=("127.0.0.12",),
        mx=("A 127.0.0.12",),
        n_domains=2,
        share=1.5,
        paths=0,
    ),
    Site(
        name="picky",
        make=partial(Picky, MAILBOXES),
        listens=("127.0.0.13",),
        hosts=("mx1.picky A 127.0.0.13",),
        mx=("MX 10 mx1.picky",),
        n_domains=3,
        share=5,
        mailboxes=PICKY_ENDS,
    ),
    Site(
        name="old",
        make=Old,
        listens=("127.0.0.18",),
        hosts=("mx1.old A 127.0.0.18",),
        mx=("MX 10 mx1.old",),
        share=1,
        mailboxes={"eight": NO_8BIT},
    ),
    # What the first choice cannot take, the second can.
    Site(
        name="mixed",
        make=partial(Mixed, "127.0.0.9"),
        listens=("127.0.0.9", "127.0.0.11"),
        hosts=("mx1.mixed A 127.0.0.9", "mx2.mixed A 127.0.0.11"),
        mx=("MX 10 mx1.mixed", "MX 20 mx2.mixed"),
        share=2,
    ),
    # Nobody to talk to, for now.
    Site(
        name="dead",
        hosts=("mx1.dead A 127.0.0.14",),
        mx=("MX 10 mx1.dead",),
        n_domains=2,
        end=End("waiting", 451, "4.4.1", because="Connection refused", is_hosts=True),
    ),
    Site(
        name="silent",
        make=Silent,
        listens=("127.0.0.15",),
        hosts=("mx1.silent A 127.0.0.15",),
        mx=("MX 10 mx1.silent",),
        end=End("waiting", 451, "4.4.2", because="waiting for the greeting", is_hosts=True),
    ),
    # Nobody to talk to, for good.
    Site(
        name="null",
        mx=("MX 0 .",),
        n_domains=2,
        end=End("bounced", 556, "5.1.10", because="null MX"),
    ),
    Site(
        name="unknown",
        n_domains=2,
        end=End("bounced", 550, "5.1.2", because="there is no domain"),
    ),
    Site(
        name="loop",
        mx=(f"MX 10 {OURSELVES}.",),
        end=End("bounced", 554, "5.4.6", because="loop"),
    ),
    # Its host is called otherwise than we are, and is where we listen.
    Site(
        name="mirror",
        hosts=("mx1.mirror A 127.0.0.1",),
        mx=("MX 10 mx1.mirror",),
        end=End("bounced", 554, "5.4.6", because="loop"),
    ),
    # The nameserver does not know, for now.
    Site(
        name="lame",
        n_domains=1,
        tld=LAME,
        end=End("waiting", 451, "4.4.3", because="SERVFAIL", is_hosts=True),
    ),
    Site(
        name="refused",
        n_domains=1,
        tld="elsewhere",
        end=End("waiting", 451, "4.4.3", because="REFUSED", is_hosts=True),
    ),
)


def site_of(domain: str) -> Site:
    """Return the site that a domain's mail leads to. KeyError for a domain that is none of these."""
    return _BY_DOMAIN[domain]


def _all() -> Iterator[tuple[str, Site]]:
    for site in (*SITES, HOME):
        for domain in site.domains:
            yield domain, site


_BY_DOMAIN = dict(_all())
