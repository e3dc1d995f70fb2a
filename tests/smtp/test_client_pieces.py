"""The SMTP client with letters that go out piece by piece."""

import pytest

from mta.smtp import Client, Done, Over
from tests.smtp.test_client import PLAIN, TWO, Post, fates, ready, say

BODY = b"..a\r\n.\r\nb\r\n..\r\n.c"
GROUP = b"MAIL FROM:<a@x.example> SIZE=6\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"


def cut(*pieces: bytes) -> Post:
    return Post(n_pieces=len(pieces), read=lambda number: pieces[number])


def rest(client: Client) -> bytes:
    """Take what the client has to write, piece by piece."""
    written = b"".join(client.output())
    while client.is_sending:
        client.send_more()
        written += b"".join(client.output())
    return written


def begun(*letters: Post) -> Client:
    """Return a client that has written the first piece of the first letter."""
    client = ready()
    for letter in letters:
        client.deliver(letter)
    client.output()
    assert say(client, b"250 a", b"250 b") == b""
    client.receive(b"354 go\r\n")
    return client


@pytest.mark.parametrize("at", range(len(BODY) + 1))
def test_client_two_pieces_any_cut_go_out_as_one(at: int) -> None:
    client = begun(cut(BODY[:at], BODY[at:]))
    assert client.is_sending
    assert rest(client) == b"...a\r\n..\r\nb\r\n...\r\n..c\r\n.\r\n"
    assert not client.is_sending
    assert say(client, b"250 ok") == b""
    assert fates(client) == [[(0, "delivered", 250, "2.0.0")]]


def test_client_octet_by_octet_is_the_same() -> None:
    client = begun(cut(*(BODY[at : at + 1] for at in range(len(BODY)))))
    assert rest(client) == b"...a\r\n..\r\nb\r\n...\r\n..c\r\n.\r\n"


def test_client_next_letter_is_pipelined_behind_the_last_piece_only() -> None:
    client = begun(cut(b"1\r\n", b"2\r\n", b"3\r\n"), Post())
    assert b"".join(client.output()) == b"1\r\n"
    assert client.timeout_s == 7
    client.deliver(Post())
    client.send_more()
    assert b"".join(client.output()) == b"2\r\n"
    client.send_more()
    assert b"".join(client.output()) == b"3\r\n.\r\n" + GROUP
    assert not client.is_sending
    assert client.timeout_s == 9
    assert say(client, b"250 ok", b"250 ok", b"250 ok", b"354 go") == b"..hi\r\n.\r\n" + GROUP
    assert fates(client)[0] == [(0, "delivered", 250, "2.0.0")]


def test_client_without_pipelining_sends_pieces_too() -> None:
    client = ready(PLAIN)
    client.deliver(cut(b"1\r\n", b"2\r\n"))
    client.output()
    say(client, b"250 a")
    say(client, b"250 b")
    assert say(client, b"354 go") == b"1\r\n"
    assert rest(client) == b"2\r\n.\r\n"


@pytest.mark.parametrize(
    ("reply", "fate"),
    [
        (b"552 5.3.4 too large", ("bounced", 552, "5.3.4")),
        (b"452 4.3.1 full", ("deferred", 452, "4.3.1")),
        # Nobody can have taken what was not sent.
        (b"250 2.0.0 thanks", ("deferred", 250, "4.5.0")),
    ],
)
def test_client_early_reply_settles_the_letter_and_ends_the_session(reply: bytes, fate: tuple[str, int, str]) -> None:
    client = begun(cut(b"1\r\n", b"2\r\n", b"3\r\n"), Post())
    client.output()
    assert say(client, reply) == b""
    done, over = client.events()
    assert isinstance(done, Done)
    assert [(outcome.status, outcome.code, outcome.enhanced) for _, outcome in done.outcomes] == [fate]
    assert isinstance(over, Over)
    assert over.left == [Post()]
    assert client.is_over
    assert not client.is_sending


def test_client_421_before_the_end_of_the_message_is_about_the_host() -> None:
    client = begun(cut(b"1\r\n", b"2\r\n"), Post())
    client.output()
    assert say(client, b"421 4.3.2 bye") == b""
    (over,) = client.events()
    assert isinstance(over, Over)
    assert over.is_hosts_fault
    assert [letter.n_pieces for letter in over.left] == [2, 1]


def test_client_early_reply_leaves_recipients_refused_before_as_they_are() -> None:
    client = ready()
    client.deliver(Post(recipients=TWO.recipients, n_pieces=2, read=lambda _: b"x\r\n"))
    client.output()
    say(client, b"250 a", b"550 5.1.1 no", b"250 c")
    say(client, b"354 go")
    say(client, b"452 4.3.1 full")
    assert fates(client) == [[(3, "bounced", 550, "5.1.1"), (5, "deferred", 452, "4.3.1")]]


def test_client_piece_that_cannot_be_read_ends_the_session_without_a_dot() -> None:
    def read(number: int) -> bytes:
        if number:
            raise LookupError("gone")
        return b"1\r\n"

    client = begun(Post(n_pieces=2, read=read))
    assert client.output() == [b"1\r\n"]
    client.send_more()
    assert client.output() == []
    done, over = client.events()
    assert isinstance(done, Done)
    assert [(outcome.status, outcome.enhanced) for _, outcome in done.outcomes] == [("deferred", "4.3.0")]
    assert isinstance(over, Over)


def test_client_lost_between_pieces_defers_and_abort_leaves_the_letter_over() -> None:
    letter = cut(b"1\r\n", b"2\r\n")
    client = begun(letter)
    client.lost("lost connection")
    done, over = client.events()
    assert isinstance(done, Done)
    assert "while sending the message" in done.outcomes[0][1].reason
    client = begun(letter)
    client.abort()
    (over,) = client.events()
    assert isinstance(over, Over)
    # Without its dot the peer has no mail: nothing was started.
    assert over.left == [letter]
