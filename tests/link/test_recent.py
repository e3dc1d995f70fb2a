"""Messages that a worker put lately: what is kept of them, and that it is never much, nor for long."""

from mta.link.frames import encode
from mta.link.recent import HEAD_OCTETS, KEPT_OCTETS, KEPT_S, STRING_OCTETS, Recent
from tests.queue.samples import put


def test_find_gives_what_was_put_until_it_is_dropped() -> None:
    recent = Recent()
    one = put(1, ("a@sink.test", "b@sink.test"), content=b"first\r\n")
    recent.add(one.head, 100, (b"fir", b"st\r\n"), 0.0)
    assert recent.find(one.head.id) == (one.head, 7)
    assert recent.content(one.head.id) == b"first\r\n"
    recent.drop(one.head.id)
    recent.drop(one.head.id)
    assert recent.find(one.head.id) is None
    assert recent.content(one.head.id) is None


def test_add_message_of_several_parts_is_not_kept() -> None:
    recent = Recent()
    two = put(1, ("a@sink.test",), ("c@other.test",))
    recent.add(two.head, 100, (b"",), 0.0)
    assert recent.find(two.head.id) is None


def test_add_past_the_limit_the_oldest_make_room() -> None:
    recent = Recent()
    content, head_octets = bytes(100_000), 200
    most = KEPT_OCTETS // (len(content) + HEAD_OCTETS + STRING_OCTETS * head_octets)
    some = [put(number, ("a@sink.test",)) for number in range(1, most + 3)]
    for each in some:
        recent.add(each.head, head_octets, (content,), 0.0)
        # Said again over a new link, it is one message still.
        recent.add(each.head, head_octets, (content,), 0.0)
    assert [recent.find(each.head.id) is not None for each in some] == [False, False] + [True] * most


def test_add_many_recipients_count_as_much_as_content() -> None:
    recent = Recent()
    recipients = tuple(f"{'r' * 60}{number:03d}@{'d' * 180}.test" for number in range(100))
    n_octets = len(encode(put(1, recipients).head))
    some = [put(number, recipients) for number in range(1, KEPT_OCTETS // n_octets + 1)]
    for each in some:
        recent.add(each.head, n_octets, (b"",), 0.0)
    n_kept = sum(recent.find(each.head.id) is not None for each in some)
    assert 0 < n_kept * n_octets <= KEPT_OCTETS / STRING_OCTETS


def test_expire_forgets_what_nobody_asked_for() -> None:
    recent = Recent()
    old, young = put(1, ("a@sink.test",)), put(2, ("a@sink.test",))
    recent.add(old.head, 100, (b"",), 1.0)
    recent.add(young.head, 100, (b"",), 2.0)
    recent.expire(1.0 + KEPT_S)
    assert (recent.find(old.head.id), recent.find(young.head.id)) == (None, (young.head, 0))
    recent.expire(2.0 + KEPT_S)
    assert recent.find(young.head.id) is None
