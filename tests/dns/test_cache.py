"""How long answers are kept, by a clock of the test's own."""

import pytest

from mta.dns.answer import Answer, Record, Status
from mta.dns.cache import MOST_NEGATIVE_TTL_S, MOST_TTL_S, Cache

FOUND = Answer("found", (Record(0, "192.0.2.1"),), 60.0)


def test_cache_answer_is_good_until_its_time_is_over() -> None:
    cache = Cache(10)
    cache.keep(("a.test", "A"), FOUND, 1000.0)
    found = cache.find(("a.test", "A"), 1059.0)
    assert found is not None
    assert (found.records, found.ttl_s) == (FOUND.records, 1.0)
    assert cache.find(("a.test", "AAAA"), 1000.0) is None
    assert cache.find(("a.test", "A"), 1060.0) is None
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("status", "ttl_s", "kept_s"),
    [
        ("found", 0.0, 0.0),
        ("found", 10.0, 10.0),
        ("found", 1e9, MOST_TTL_S),
        # What is not there is asked again sooner. RFC 2308 s5.
        ("no_name", 1e9, MOST_NEGATIVE_TTL_S),
        ("no_data", 1e9, MOST_NEGATIVE_TTL_S),
        ("failed", 1.0, 1.0),
    ],
)
def test_cache_time_to_live_has_a_limit(status: Status, ttl_s: float, kept_s: float) -> None:
    cache = Cache(10)
    assert cache.keep(("a.test", "MX"), Answer(status, (), ttl_s), 0.0) == Answer(status, (), kept_s)
    assert cache.find(("a.test", "MX"), kept_s) is None
    cache.keep(("a.test", "MX"), Answer(status, (), ttl_s), 0.0)
    assert (cache.find(("a.test", "MX"), kept_s - 0.5) is not None) == (kept_s > 0)


def test_cache_new_answer_takes_the_place_of_the_old_even_if_it_is_not_kept() -> None:
    cache = Cache(10)
    cache.keep(("a.test", "A"), FOUND, 0.0)
    cache.keep(("a.test", "A"), Answer("no_data", (), 0.0), 1.0)
    assert cache.find(("a.test", "A"), 1.0) is None


def test_cache_full_forgets_what_nobody_asked_for_the_longest() -> None:
    cache = Cache(3)
    for name in ("a", "b", "c"):
        cache.keep((name, "A"), FOUND, 0.0)
    cache.find(("a", "A"), 1.0)
    cache.keep(("d", "A"), FOUND, 2.0)
    assert [name for name in "abcd" if cache.find((name, "A"), 3.0)] == ["a", "c", "d"]
