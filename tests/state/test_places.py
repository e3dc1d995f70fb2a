"""Places that are kept for a moment, and no longer than somebody may want them."""

from mta.state.places import Places

HERE = ("mx", b"\x7f\0\0\x01")
THERE = ("mx", b"\x7f\0\0\x02")


def test_place_nobody_wanted_from_one_spare_to_the_next_is_given_back() -> None:
    places = Places()
    for _ in range(3):
        places.keep(HERE)
    assert places.spare() == []
    places.take(HERE)
    places.keep(HERE)
    assert places.spare() == [HERE] * 2
    assert places.has(HERE)
    assert places.spare() == [HERE]
    assert not places.has(HERE)
    assert len(places) == 0


def test_places_of_a_network_are_cleared_alone() -> None:
    places = Places()
    for place in (HERE, THERE, HERE):
        places.keep(place)
    assert places.clear(HERE[1]) == [HERE] * 2
    assert len(places) == 1
    assert places.clear() == [THERE]
    assert not places.has(THERE)
    assert len(places) == 0


def test_last_place_is_taken_and_gone() -> None:
    places = Places()
    places.keep(HERE)
    places.take(HERE)
    assert not places.has(HERE)
    assert places.spare() == []
