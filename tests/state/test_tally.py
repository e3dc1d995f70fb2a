"""Counting of one network: its minute, its name, and how many networks are remembered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.state.network import NOBODY, Networks
from mta.state.tally import MOST_IDLE, Tallies
from mta.state.window import FORGET_S, MINUTE_S, Window
from mta.state.words import BEGUN, Rules


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(1, 5)), max_size=60), st.floats(0, 80))
def test_window_counts_all_of_the_last_minute_and_nothing_that_is_much_older(
    steps: list[tuple[float, int]], last_s: float
) -> None:
    window, now, added = Window(), 1000.3, list[tuple[float, int]]()
    for pause_s, n in steps:
        now += pause_s
        window.add(n, now)
        added.append((now, n))
    now += last_s
    least = sum(n for at, n in added if at > now - MINUTE_S)
    most = sum(n for at, n in added if at > now - FORGET_S)
    assert least <= window.count(now) <= most


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        # However it comes, it is IPv4.
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        # A customer's network, and the next one.
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("2001:db8:1:2::1", "2001:0DB8:1:2:0::8", True),
        ("fe80::1%eth0", "fe80::2%lo", True),
        # IPv4 and IPv6 have nothing in common.
        ("0.0.0.0", "::", False),
    ],
)
def test_network_of_clients(one: str, other: str, is_same: bool) -> None:
    networks = Networks(32, 64)
    assert (networks.of(one) == networks.of(other)) is is_same


@pytest.mark.parametrize("text", ["", "example.test", "1.2.3.4.5", "::g", "/run/socket"])
def test_network_of_what_is_no_address_is_nobody(text: str) -> None:
    assert Networks(32, 64).of(text) == NOBODY


def test_network_prefixes_are_the_operators() -> None:
    networks = Networks(24, 48)
    assert networks.of("192.0.2.1") == networks.of("192.0.2.200") == networks.of("::ffff:192.0.2.7")
    assert networks.of("192.0.2.1") != networks.of("192.0.3.1")
    assert networks.of("2001:db8:1:2::1") == networks.of("2001:db8:1:3::1")
    assert networks.of("2001:db8:1::1") != networks.of("2001:db8:2::1")
    assert Networks(1, 1).of("1.2.3.4") == bytes(4)


def test_tallies_are_bounded_and_whoever_was_away_longest_is_forgotten_first() -> None:
    tallies = Tallies()
    busy = tallies.get(b"busy")
    busy.n_open = 1
    tallies.file(b"busy", busy, 0.0)
    for number in range(MOST_IDLE + 1000):
        name = number.to_bytes(4)
        tally = tallies.get(name)
        tally.use(BEGUN, 1, 1.0)
        tallies.file(name, tally, 1.0)
    assert len(tallies) == MOST_IDLE + 1
    assert tallies.get(b"busy") is busy
    given = Rules(0, {}, 0, (0, 0, 0, 5))
    assert tallies.get((0).to_bytes(4)).free(BEGUN, given, 1.0) == 5
    assert tallies.get((MOST_IDLE + 999).to_bytes(4)).free(BEGUN, given, 1.0) == 4
    for _ in range(MOST_IDLE // 1000):
        tallies.expire(1.0 + FORGET_S)
    assert len(tallies) == 1


def test_tally_of_which_nothing_is_left_is_not_kept() -> None:
    tallies = Tallies()
    tally = tallies.get(b"once")
    tally.n_open = 1
    tallies.file(b"once", tally, 0.0)
    tally.n_open = 0
    tallies.file(b"once", tally, 0.0)
    assert len(tallies) == 0
