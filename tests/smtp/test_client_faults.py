"""The SMTP client when a mail cannot be read, or a peer says what must not be shown."""

import pytest

from mta.smtp import Client, Done, Over
from tests.smtp.test_client import LIMITS, PEER, PIPELINING, PLAIN, TWO, Post, fates, ready, say


def test_client_body_that_cannot_be_read_ends_the_session_without_a_mail() -> None:
    def missing(_: int) -> bytes:
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


# 421 is the host's word about itself. RFC 5321 s3.8, s4.2.5.

BUSY = b"421 4.3.2 closing"


def over_of(client: Client) -> tuple[list[Done[Post]], Over[Post]]:
    *done, over = client.events()
    assert isinstance(over, Over)
    assert client.is_over
    return [event for event in done if isinstance(event, Done)], over


@pytest.mark.parametrize("before", [[], [b"220 hi"], [b"220 hi", b"502 what"]], ids=["greeting", "ehlo", "helo"])
def test_client_421_before_it_is_ready_is_the_hosts_fault(before: list[bytes]) -> None:
    client: Client = Client("h.example", PEER, LIMITS)
    client.deliver(Post())
    for reply in before:
        say(client, reply)
    assert say(client, BUSY) == b""
    done, over = over_of(client)
    assert (done, over.left, over.is_hosts_fault) == ([], [Post()], True)
    assert (over.outcome.status, over.outcome.code, over.outcome.enhanced) == ("deferred", 421, "4.3.2")


@pytest.mark.parametrize("ehlo", [PIPELINING, PLAIN], ids=["pipelining", "plain"])
@pytest.mark.parametrize("n_before", range(4), ids=["mail", "rcpt", "rcpt2", "data"])
def test_client_421_before_the_data_leaves_every_letter_and_is_the_hosts_fault(n_before: int, ehlo: bytes) -> None:
    client = ready(ehlo)
    client.deliver(TWO)
    client.deliver(Post())
    client.output()
    # Not even what was said of a recipient counts: the letter comes back whole.
    for good in [b"250 a", b"550 5.1.1 b", b"250 c"][:n_before]:
        say(client, good)
    say(client, BUSY)
    done, over = over_of(client)
    assert (done, over.left, over.is_hosts_fault) == ([], [TWO, Post()], True)


@pytest.mark.parametrize("ehlo", [PIPELINING, PLAIN], ids=["pipelining", "plain"])
def test_client_421_after_the_dot_defers_that_letter(ehlo: bytes) -> None:
    client = ready(ehlo)
    client.deliver(Post())
    client.deliver(TWO)
    for good in (b"250 a", b"250 b", b"354 c"):
        say(client, good)
    say(client, BUSY)
    done, over = over_of(client)
    assert [event.letter for event in done] == [Post()]
    assert [(o.status, o.code) for _, o in done[0].outcomes] == [("deferred", 421)]
    assert over.left == [TWO]


def test_client_421_after_the_dot_is_about_that_letter_and_not_the_hosts_fault() -> None:
    client = ready()
    client.deliver(Post())
    for good in (b"250 a", b"250 b", b"354 c"):
        say(client, good)
    say(client, BUSY)
    _, over = over_of(client)
    assert not over.is_hosts_fault


def test_client_421_while_idle_is_nobodys_fault() -> None:
    client = ready()
    say(client, BUSY)
    done, over = over_of(client)
    assert (done, over.left, over.is_hosts_fault) == ([], [], False)


def test_client_421_after_a_letter_was_settled_is_no_failure_of_the_host() -> None:
    client = ready()
    client.deliver(Post())
    for good in (b"250 a", b"250 b", b"354 c", b"250 d"):
        say(client, good)
    assert fates(client) == [[(0, "delivered", 250, "2.0.0")]]
    client.deliver(TWO)
    say(client, b"250 a")
    say(client, BUSY)
    done, over = over_of(client)
    assert (done, over.left, over.is_hosts_fault) == ([], [TWO], False)


@pytest.mark.parametrize("n_before", range(3))
def test_client_connection_lost_in_a_transaction_defers_that_letter_and_is_not_the_hosts_fault(n_before: int) -> None:
    client = ready()
    client.deliver(Post())
    client.deliver(TWO)
    client.output()
    for good in [b"250 a", b"250 b"][:n_before]:
        say(client, good)
    client.lost("lost connection")
    done, over = over_of(client)
    assert [event.letter for event in done] == [Post()]
    assert (over.left, over.is_hosts_fault) == ([TWO], False)


def test_client_that_is_ended_by_us_blames_nobody() -> None:
    client = ready()
    client.deliver(Post())
    client.abort()
    _, over = over_of(client)
    assert (over.left, over.is_hosts_fault) == ([Post()], False)
