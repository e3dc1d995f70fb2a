"""Messages that a worker put lately: what is kept of them, and that it is never much."""

from mta.link.recent import HEAD_OCTETS, KEPT_OCTETS, Recent
from tests.queue.samples import put


def test_find_gives_what_was_put_until_it_is_dropped() -> None:
    recent = Recent()
    one = put(1, ("a@sink.test", "b@sink.test"), content=b"first\r\n")
    recent.add(one.head, (b"fir", b"st\r\n"))
    assert recent.find(one.head.id) == (one.head, 7)
    assert recent.content(one.head.id) == b"first\r\n"
    recent.drop(one.head.id)
    recent.drop(one.head.id)
    assert recent.find(one.head.id) is None
    assert recent.content(one.head.id) is None


def test_add_message_of_several_parts_is_not_kept() -> None:
    recent = Recent()
    two = put(1, ("a@sink.test",), ("c@other.test",))
    recent.add(two.head, (b"",))
    assert recent.find(two.head.id) is None


def test_add_past_the_limit_the_oldest_make_room() -> None:
    recent = Recent()
    content = bytes(100_000)
    most = KEPT_OCTETS // (len(content) + HEAD_OCTETS)
    some = [put(number, ("a@sink.test",)) for number in range(1, most + 3)]
    for each in some:
        recent.add(each.head, (content,))
        # Said again over a new link, it is one message still.
        recent.add(each.head, (content,))
    assert [recent.find(each.head.id) is not None for each in some] == [False, False] + [True] * most
