"""Which next hop a domain gets."""

import pytest

from mta.config import Route
from mta.deliver import Router, Site

ROUTES = (
    Route("exact.example", "[127.0.0.1]:2600"),
    Route(".example", "[::1]:25"),
    Route("late.example", "[127.0.0.9]:9"),
    Route(".Deep.Test", "[Smart.Test]:587"),
    Route("deep.test", "[127.0.0.2]:2"),
)
EVERYTHING = Route("*", "[127.0.0.3]:3")


@pytest.mark.parametrize(
    ("domain", "route", "site"),
    [
        # Local domains come before everything.
        ("home.example", "", Site("local", ())),
        ("HOME.Example", "[127.0.0.1]:1", Site("local", ())),
        # Then the next hop chosen at reception.
        ("exact.example", "[Relay.Test]:26", Site("[relay.test]:26", (("relay.test", 26),))),
        ("exact.example", "nonsense", Site("", ())),
        # Then the first route that matches, whatever the case.
        ("exact.example", "", Site("[127.0.0.1]:2600", (("127.0.0.1", 2600),))),
        ("EXACT.EXAMPLE", "", Site("[127.0.0.1]:2600", (("127.0.0.1", 2600),))),
        ("other.example", "", Site("[::1]:25", (("::1", 25),))),
        ("a.b.example", "", Site("[::1]:25", (("::1", 25),))),
        ("late.example", "", Site("[::1]:25", (("::1", 25),))),
        ("a.deep.test", "", Site("[smart.test]:587", (("smart.test", 587),))),
        # A suffix is not itself below itself, and not every end of a name is a suffix.
        ("deep.test", "", Site("[127.0.0.2]:2", (("127.0.0.2", 2),))),
        ("example", "", Site("", ())),
        ("badexample", "", Site("", ())),
        # Nothing matches.
        ("elsewhere.test", "", Site("", ())),
        ("", "", Site("", ())),
        ("[192.0.2.1]", "", Site("", ())),
    ],
)
def test_router_resolve_local_then_route_of_queue_then_first_match(domain: str, route: str, site: Site) -> None:
    assert Router(["Home.example"], ROUTES).resolve(domain, route) == site


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
    assert Router([], routes).resolve("exact.example", "").hosts == hosts


@pytest.mark.parametrize("via", ["", "127.0.0.1:25", "[127.0.0.1]", "[a b]:25", "[a]:0", "[a]:65536", "[a]:25\n"])
def test_router_malformed_next_hop_is_refused_when_built(via: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Router([], [Route("*", via)])
