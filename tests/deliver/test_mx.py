"""Which hosts take the mail of a domain, by records and addresses of the test's own."""

import random
import string

import pytest

from mta.deliver.mx import Host, candidates, failure_of, site_name, usable
from mta.dns import Addresses, Answer, Record
from mta.message import LOCAL_SITE, Outcome

NONE = Addresses((), (), 60.0)
UNKNOWN = Addresses((), (), 1.0, "the name server said SERVFAIL")
US = "us.example"
OURS = "192.0.2.99"


def at(*addresses: str) -> Addresses:
    return Addresses(tuple(a for a in addresses if ":" not in a), tuple(a for a in addresses if ":" in a), 60.0)


def found(*records: tuple[int, str]) -> Answer:
    return Answer("found", tuple(Record(*record) for record in records), 60.0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (found((10, "mx.a.test")), None),
        (Answer("no_data", (), 60.0), None),
        # A null MX beside others is none. RFC 7505 s3.
        (found((0, ""), (10, "mx.a.test")), None),
        (found((0, "")), ("bounced", 556, "5.1.10")),
        (found((0, ""), (10, "")), ("bounced", 556, "5.1.10")),
        (Answer("no_name", (), 60.0), ("bounced", 550, "5.1.2")),
        (Answer("failed", (), 1.0, "no answer"), ("deferred", 451, "4.4.3")),
    ],
)
def test_failure_of_what_the_mx_records_say(answer: Answer, expected: tuple[str, int, str] | None) -> None:
    failure = failure_of("a.test", answer)
    assert (failure and (failure.status, failure.code, failure.enhanced)) == expected


@pytest.mark.parametrize(
    ("records", "hosts"),
    [
        # No MX: the domain itself.
        ((), (("a.test", 0),)),
        # The best first; the same host twice is as good as its best.
        (((20, "b.test"), (10, "c.test"), (5, "b.test")), (("b.test", 5), ("c.test", 10))),
        # What is no host name is passed over, an address in its place among it.
        (((1, ""), (2, "192.0.2.1"), (3, "a b.test"), (4, r"\000.test"), (5, "ok_1.test")), (("ok_1.test", 5),)),
        (((1, "x" * 64), (2, "a..b"), (3, "[192.0.2.1]"), (4, "-")), (("-", 4),)),
        (((1, ""), (2, "127.1")), ()),
    ],
)
def test_candidates_best_first(records: tuple[tuple[int, str], ...], hosts: tuple[tuple[str, int], ...]) -> None:
    assert candidates("a.test", [Record(*record) for record in records]) == [Host(*host) for host in hosts]


def is_us(addresses: dict[str, Addresses], host: Host) -> bool:
    return host.name == US or OURS in addresses[host.name].ipv4


@pytest.mark.parametrize(
    ("hosts", "addresses", "by_mx", "expected"),
    [
        # All that have an address, or may have one.
        ("a1 b2 c3", {"a": at("192.0.2.1"), "b": NONE, "c": at("2001:db8::1")}, True, "a c"),
        ("a1 b2", {"a": UNKNOWN, "b": at("192.0.2.1")}, True, "a b"),
        # Ourselves by name or address: neither we nor what is as good or worse.
        ("a1 us.example2 c3", {"a": at("192.0.2.1"), US: UNKNOWN, "c": at("192.0.2.3")}, True, "a"),
        ("a1 b2 c2 d3", {n: at(OURS if n == "c" else "192.0.2.1") for n in "abcd"}, True, "a"),
        ("a1 b2", {"a": at("192.0.2.1"), "b": at("192.0.2.2", OURS)}, True, "a"),
        ("us.example1 b2", {US: NONE, "b": at("192.0.2.1")}, True, "554 5.4.6"),
        ("a1 b1", {"a": at("192.0.2.1"), "b": at(OURS)}, True, "554 5.4.6"),
        ("us.example0", {US: at("192.0.2.1")}, False, "554 5.4.6"),
        # What is better than we are has no address.
        ("a1 us.example2", {"a": NONE, US: at(OURS)}, True, "550 5.4.4"),
        # Nobody has an address; nobody may have one.
        ("a1 b2", {"a": NONE, "b": NONE}, True, "550 5.4.4"),
        ("", {}, True, "550 5.4.4"),
        ("a.test0", {"a.test": NONE}, False, "550 5.1.2"),
        ("a1 b2", {"a": NONE, "b": UNKNOWN}, True, "451 4.4.3"),
        ("a.test0", {"a.test": UNKNOWN}, False, "451 4.4.3"),
    ],
)
def test_usable_hosts(hosts: str, addresses: dict[str, Addresses], by_mx: bool, expected: str) -> None:
    named = [Host(text[:-1], int(text[-1])) for text in hosts.split()]
    left = usable("a.test", named, addresses, lambda host: is_us(addresses, host), by_mx=by_mx)
    if isinstance(left, Outcome):
        assert f"{left.code} {left.enhanced}" == expected
        assert left.status == ("deferred" if left.code < 500 else "bounced")
    else:
        assert " ".join(host.name for host in left) == expected


def hosts_of(text: str) -> list[Host]:
    return [Host(name, rank) for rank, group in enumerate(text.split("/")) for name in group.split(",")]


def test_site_name_is_the_hosts_in_their_order_whatever_the_numbers() -> None:
    assert site_name([Host("b.test", 10), Host("a.test", 10), Host("c.test", 20)]) == "a.test,b.test/c.test"
    assert site_name([Host("c.test", 7), Host("b.test", 3), Host("a.test", 3)]) == "a.test,b.test/c.test"
    # RFC 5321 s5.1: the order must be kept, so the other way round is another site.
    assert site_name([Host("a.test", 1), Host("b.test", 2)]) != site_name([Host("a.test", 2), Host("b.test", 1)])
    assert site_name([Host("a.test", 1), Host("b.test", 1)]) != site_name([Host("a.test", 1), Host("b.test", 2)])


def test_site_name_is_never_that_of_the_mailboxes_here() -> None:
    assert site_name([Host(LOCAL_SITE, 10)]) == "local."
    assert site_name([Host(LOCAL_SITE, 10), Host("a.test", 20)]) == "local/a.test"


def test_site_name_of_many_hosts_is_short_and_still_tells_them_apart() -> None:
    chance = random.Random(7)
    seen = {}
    for number in range(200):
        names = ["".join(chance.choices(string.ascii_lowercase, k=40)) + ".test" for _ in range(3)]
        hosts = [Host("same.test", 1), Host("also-the-same.test", 1), *(Host(name, 2) for name in names)]
        name = site_name(hosts)
        assert len(name) <= 128
        assert name == site_name(hosts[::-1])
        seen[name] = number
    assert len(seen) == 200
    assert site_name(hosts_of("a,b/c")) == "a,b/c"
