"""The SMTP client when a mail cannot be read, or a peer says what must not be shown."""

from mta.smtp import Done, Over
from tests.smtp.test_client import TWO, Post, ready, say


def test_client_body_that_cannot_be_read_ends_the_session_without_a_mail() -> None:
    def missing() -> bytes:
        raise LookupError("gone")

    client = ready()
    letter = Post(recipients=TWO.recipients, read=missing)
    client.deliver(letter)
    client.deliver(Post())
    client.output()
    assert say(client, b"250 a", b"550 5.1.1 no", b"250 c", b"354 go") == b""
    done, over = client.events()
    assert isinstance(done, Done)
    assert [(number, outcome.enhanced) for number, outcome in done.outcomes] == [(3, "5.1.1"), (5, "4.3.0")]
    assert isinstance(over, Over)
    assert over.left == [Post()]


def test_client_control_characters_of_a_peer_do_not_reach_the_diagnostic() -> None:
    client = ready()
    client.deliver(Post())
    said = "no \x9b31m \x1b[31m \x7f \x00 \u0080 \u00fc\t!".encode()
    say(client, b"250 ok", b"550-5.1.1 one", b"550 5.1.1 " + said)
    client.lost("gone")
    (done,) = [event for event in client.events() if isinstance(event, Done)]
    diagnostic = done.outcomes[0][1].diagnostic
    assert diagnostic.startswith("5.1.1 one\n")
    assert diagnostic.endswith("\u00fc\t!")
    assert all(c.isprintable() or c in "\t\n" for c in diagnostic)
