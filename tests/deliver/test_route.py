"""Which next hop a domain gets."""

from pathlib import Path

import pytest

from mta.address import parse_mailbox
from mta.config import Route, load
from mta.deliver import Router, Site
from mta.message import LOCAL_SITE, Address
from mta.policy import Policy

ROUTES = (
    Route("exact.example", "[127.0.0.1]:2600"),
    Route(".example", "[::1]:25"),
    Route("late.example", "[127.0.0.9]:9"),
    Route(".deep.test", "[Smart.Test]:587"),
    Route("deep.test", "[127.0.0.2]:2"),
)
EVERYTHING = Route("*", "[127.0.0.3]:3")


@pytest.mark.parametrize(
    ("domain", "route", "site"),
    [
        # Local domains come before everything.
        ("home.example", "", Site("local", ())),
        ("home.example", "[127.0.0.1]:1", Site("local", ())),
        # Then the next hop chosen at reception.
        ("exact.example", "[Relay.Test]:26", Site("[relay.test]:26", (("relay.test", 26),))),
        ("exact.example", "nonsense", Site("", ())),
        # Then the first route that matches.
        ("exact.example", "", Site("[127.0.0.1]:2600", (("127.0.0.1", 2600),))),
        ("other.example", "", Site("[::1]:25", (("::1", 25),))),
        ("a.b.example", "", Site("[::1]:25", (("::1", 25),))),
        ("late.example", "", Site("[::1]:25", (("::1", 25),))),
        ("a.deep.test", "", Site("[smart.test]:587", (("smart.test", 587),))),
        # A suffix is not itself below itself, and not every end of a name is a suffix.
        ("deep.test", "", Site("[127.0.0.2]:2", (("127.0.0.2", 2),))),
        ("example", "", None),
        ("badexample", "", None),
        # Nothing matches: MX decides.
        ("elsewhere.test", "", None),
        ("", "", None),
        ("[192.0.2.1]", "", None),
    ],
)
def test_router_resolve_local_then_route_of_queue_then_first_match(domain: str, route: str, site: Site | None) -> None:
    assert Router(["home.example"], ROUTES).resolve(domain, route) == site


@pytest.mark.parametrize(
    ("routes", "hosts"),
    [
        # The order of the file decides, not how exact a match is.
        ((*ROUTES, EVERYTHING), (("127.0.0.1", 2600),)),
        ((EVERYTHING, *ROUTES), (("127.0.0.3", 3),)),
        ((ROUTES[1], *ROUTES), (("::1", 25),)),
        ((Route("exact.example", "[127.0.0.4]:4"), *ROUTES), (("127.0.0.4", 4),)),
    ],
)
def test_router_several_matches_first_wins(routes: tuple[Route, ...], hosts: tuple[tuple[str, int], ...]) -> None:
    site = Router([], routes).resolve("exact.example", "")
    assert site is not None
    assert site.hosts == hosts


@pytest.mark.parametrize("via", ["", "127.0.0.1:25", "[127.0.0.1]", "[a b]:25", "[a]:0", "[a]:65536", "[a]:25\n"])
def test_router_malformed_next_hop_is_refused_when_built(via: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Router([], [Route("*", via)])


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        # Case, in either place.
        ("Home.Example", "a@hOME.example"),
        # Address literals have many spellings.
        ("[IPv6:2001:db8:0::1]", "a@[ipv6:2001:DB8::0:1]"),
        ("[192.0.2.1]", "a@[192.0.2.1]"),
        # An umlaut is one character or two, and small or large.
        ("u\u0308ber.test", "a@\u00fcber.test"),
        ("\u00dcber.test", "a@u\u0308BER.test"),
    ],
)
def test_router_what_policy_takes_as_local_never_leaves(listed: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "mta.toml"
    path.write_text(
        f'hostname = "mx.test"\ndata_dir = "d"\n[[listener]]\n[local]\ndomains = ["{listed}"]\ncreate = true\n'
        'maildir = "m/{local}"\n[[route]]\nvia = "[127.0.0.1]:25"\n'
    )
    config = load(path)
    recipient = parse_mailbox(text)
    assert isinstance(recipient, Address)
    assert Policy(config.relay, config.local).rcpt(recipient, False) == recipient
    assert Router(config.local.domains, config.route).resolve(recipient.domain, "") == Site(LOCAL_SITE, ())


def test_router_route_for_a_domain_matches_any_spelling_of_it(tmp_path: Path) -> None:
    path = tmp_path / "mta.toml"
    routes = [("[IPv6:2001:db8:0::1]", 1), (".u\u0308ber.test", 2), ("Exact.Test", 3)]
    path.write_text(
        'hostname = "mx.test"\ndata_dir = "d"\n[[listener]]\n'
        + "".join(f'[[route]]\nmatch = "{match}"\nvia = "[127.0.0.1]:{port}"\n' for match, port in routes)
    )
    router = Router([], load(path).route)
    for text, port in (("a@[IPv6:2001:DB8::1]", 1), ("a@x.\u00dcBER.test", 2), ("a@EXACT.test", 3)):
        recipient = parse_mailbox(text)
        assert isinstance(recipient, Address)
        assert router.resolve(recipient.domain, "") == Site(f"[127.0.0.1]:{port}", (("127.0.0.1", port),))
