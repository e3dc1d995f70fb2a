"""The SMTP client without sockets: what it writes, and what it makes of replies."""

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config import Deliver
from mta.message import Outcome
from mta.smtp import POSSIBLE_REPEAT, Client, Done, Over, Ready

PEER = "mx.example [192.0.2.1]"
LIMITS = Deliver(command_timeout_s=7, data_done_timeout_s=9)
PIPELINING = b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 10000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
PLAIN = b"250 mx.example\r\n"


class Post(msgspec.Struct, frozen=True):
    """A letter for tests."""

    sender: str = "a@x.example"
    recipients: tuple[tuple[int, str], ...] = ((0, "b@y.example"),)
    octets: int = 6
    has_8bit: bool = False
    utf8: bool = False
    n_pieces: int = 1
    read: Callable[[int], bytes] = lambda _: b".hi\r\n"


TWO = Post(recipients=((3, "b@y.example"), (5, "c@y.example")))


def ready(ehlo: bytes = PIPELINING) -> Client:
    """Return a client that was greeted and got this reply to EHLO."""
    client: Client = Client("h.example", PEER, LIMITS)
    client.receive(b"220 mx.example ESMTP\r\n")
    assert client.output() == [b"EHLO h.example\r\n"]
    client.receive(ehlo)
    assert client.events() == [Ready()]
    return client


def say(client: Client, *replies: bytes) -> bytes:
    """Give the client these replies in one read; return what it writes."""
    client.receive(b"".join(reply + b"\r\n" for reply in replies))
    return b"".join(client.output())


def fates(client: Client) -> list[list[tuple[int, str, int, str]]]:
    """Return number, status, code and enhanced code of each recipient of each letter that was worked off."""
    return [
        [(number, outcome.status, outcome.code, outcome.enhanced) for number, outcome in event.outcomes]
        for event in client.events()
        if isinstance(event, Done)
    ]


def test_client_pipelining_writes_groups_and_next_letter_behind_the_dot() -> None:
    client = ready()
    for _ in range(3):
        client.deliver(Post())
    group = b"MAIL FROM:<a@x.example> SIZE=6\r\nRCPT TO:<b@y.example>\r\nDATA\r\n"
    assert b"".join(client.output()) == group
    assert say(client, b"250 2.1.0 ok", b"250 2.1.5 ok") == b""
    assert say(client, b"354 go") == b"..hi\r\n.\r\n" + group
    assert client.timeout_s == 9
    assert say(client, b"250 2.0.0 queued as 1") == b""
    assert client.timeout_s == 7
    assert fates(client) == [[(0, "delivered", 250, "2.0.0")]]
    assert say(client, b"250 ok", b"250 ok", b"354 go") == b"..hi\r\n.\r\n" + group
    assert say(client, b"250 ok", b"250 ok", b"250 ok", b"354 go") == b"..hi\r\n.\r\n"
    assert not client.is_idle
    assert say(client, b"250 ok") == b""
    assert fates(client) == [[(0, "delivered", 250, "2.0.0")]] * 2
    assert client.is_idle
    assert client.timeout_s == 0
    client.quit()
    assert client.output() == [b"QUIT\r\n"]
    assert client.is_over


def test_client_without_pipelining_writes_one_command_at_a_time() -> None:
    client = ready(PLAIN)
    client.deliver(TWO)
    assert b"".join(client.output()) == b"MAIL FROM:<a@x.example>\r\n"
    assert say(client, b"250 ok") == b"RCPT TO:<b@y.example>\r\n"
    assert say(client, b"550 5.1.1 no") == b"RCPT TO:<c@y.example>\r\n"
    assert say(client, b"250 ok") == b"DATA\r\n"
    assert say(client, b"354 go") == b"..hi\r\n.\r\n"
    assert say(client, b"250 ok") == b""
    assert fates(client) == [[(3, "bounced", 550, "5.1.1"), (5, "delivered", 250, "2.0.0")]]


def test_client_refused_ehlo_says_helo_and_sends_plainly() -> None:
    client: Client = Client("h.example", PEER, LIMITS)
    client.deliver(Post())
    say(client, b"220 hello")
    assert say(client, b"502 what?") == b"HELO h.example\r\n"
    assert say(client, b"250 hello") == b"MAIL FROM:<a@x.example>\r\n"


@pytest.mark.parametrize(
    ("replies", "fate"),
    [
        # A letter that arrives.
        ([b"250 a", b"250 b", b"250 c", b"354 go", b"250 2.6.0 ok"], [("delivered", 250, "2.6.0")] * 2),
        # MAIL refused: everybody, whatever is said behind it.
        ([b"451 4.7.1 later", b"503 x", b"503 x", b"503 x"], [("deferred", 451, "4.7.1")] * 2),
        ([b"550 5.7.1 never", b"250 x", b"503 x", b"503 x"], [("bounced", 550, "5.7.1")] * 2),
        # RCPT refused: that one; the final reply counts for the other.
        (
            [b"250 a", b"450 full", b"250 b", b"354 go", b"250 ok"],
            [("deferred", 450, "4.0.0"), ("delivered", 250, "2.0.0")],
        ),
        (
            [b"250 a", b"550 5.1.1 no", b"251 b", b"354 go", b"452 4.3.1 full"],
            [("bounced", 550, "5.1.1"), ("deferred", 452, "4.3.1")],
        ),
        # RFC 5321 s4.5.3.1.10: 552 behind an accepted recipient is "too many"; a full mailbox stays for good.
        (
            [b"250 a", b"250 b", b"552 many", b"354 go", b"250 ok"],
            [("delivered", 250, "2.0.0"), ("deferred", 552, "5.0.0")],
        ),
        (
            [b"250 a", b"250 b", b"552 5.2.2 full", b"354 go", b"250 ok"],
            [("delivered", 250, "2.0.0"), ("bounced", 552, "5.2.2")],
        ),
        # All refused, DATA too.
        ([b"250 a", b"550 x", b"450 y", b"554 none"], [("bounced", 550, "5.0.0"), ("deferred", 450, "4.0.0")]),
        # DATA refused.
        ([b"250 a", b"250 b", b"250 c", b"451 4.3.0 x"], [("deferred", 451, "4.3.0")] * 2),
        # The message refused; an enhanced code of another class is not believed.
        ([b"250 a", b"250 b", b"250 c", b"354 go", b"554 5.6.0 spam"], [("bounced", 554, "5.6.0")] * 2),
        ([b"250 a", b"250 b", b"250 c", b"354 go", b"554 4.6.0 spam"], [("bounced", 554, "5.0.0")] * 2),
    ],
)
def test_client_replies_become_outcomes(replies: list[bytes], fate: list[tuple[str, int, str]]) -> None:
    client = ready()
    client.deliver(TWO)
    client.output()
    for reply in replies:
        say(client, reply)
    assert fates(client) == [[(number, *row) for (number, _), row in zip(TWO.recipients, fate, strict=True)]]
    assert client.is_idle


def test_client_all_recipients_refused_but_data_accepted_sends_lone_dot() -> None:
    client = ready()
    client.deliver(Post())
    client.deliver(TWO)
    client.output()
    out = say(client, b"250 ok", b"550 5.1.1 no", b"354 go")
    assert out.startswith(b".\r\nMAIL FROM")
    assert fates(client) == [[(0, "bounced", 550, "5.1.1")]]
    assert say(client, b"554 no valid recipients", b"250 ok", b"250 ok", b"250 ok") == b""
    assert say(client, b"354 go") == b"..hi\r\n.\r\n"


@pytest.mark.parametrize("ehlo", [PIPELINING, PLAIN], ids=["pipelining", "plain"])
def test_client_transaction_that_failed_before_the_dot_is_reset_before_the_next(ehlo: bytes) -> None:
    client = ready(ehlo)
    client.deliver(Post())
    client.output()
    for reply in (b"250 ok", b"550 no", b"503 no")[: 3 if ehlo == PIPELINING else 2]:
        say(client, reply)
    assert fates(client) == [[(0, "bounced", 550, "5.0.0")]]
    client.deliver(Post())
    written = b"".join(client.output())
    assert written.startswith(b"RSET\r\n")
    if ehlo == PLAIN:
        written = say(client, b"250 ok")
        assert written == b"MAIL FROM:<a@x.example>\r\n"
        for reply in (b"250 ok", b"250 ok", b"354 go"):
            say(client, reply)
    else:
        say(client, b"250 ok", b"250 ok", b"250 ok", b"354 go")
    say(client, b"250 ok")
    assert fates(client) == [[(0, "delivered", 250, "2.0.0")]]


@pytest.mark.parametrize(
    ("letter", "ehlo", "outcome"),
    [
        # RFC 6152 s3, RFC 6531 s3.2, RFC 1870 s5: what the peer does not take is not asked for.
        (Post(has_8bit=True), PLAIN, ("bounced", "5.6.3")),
        (Post(utf8=True), PLAIN, ("bounced", "5.6.7")),
        (Post(sender="\u00e4@x.example"), PLAIN, ("bounced", "5.6.7")),
        (Post(octets=10_001), PIPELINING, ("bounced", "5.3.4")),
        # An address can be no command.
        (Post(sender="a@x>\r\nRSET\r\nNOOP <"), PLAIN, ("bounced", "5.1.3")),
        (Post(recipients=((0, "a\n@x"),)), PIPELINING, ("bounced", "5.1.3")),
        (Post(sender="\ud800@x.example"), PIPELINING, ("bounced", "5.1.3")),
    ],
)
def test_client_letter_the_peer_cannot_take_bounces_without_asking(
    letter: Post, ehlo: bytes, outcome: tuple[str, str]
) -> None:
    client = ready(ehlo)
    client.deliver(letter)
    assert client.output() == []
    (done,) = client.events()
    assert isinstance(done, Done)
    assert [(o.status, o.enhanced) for _, o in done.outcomes] == [outcome]
    assert client.is_idle


@pytest.mark.parametrize(
    ("letter", "ehlo", "mail"),
    [
        (Post(octets=10_000), PIPELINING, b"MAIL FROM:<a@x.example> SIZE=10000"),
        (Post(sender=""), PIPELINING, b"MAIL FROM:<> SIZE=6"),
        (Post(has_8bit=True), PIPELINING, b"MAIL FROM:<a@x.example> SIZE=6 BODY=8BITMIME"),
        (Post(sender="\u00e4@x"), PIPELINING, b"MAIL FROM:<\xc3\xa4@x> SIZE=6 SMTPUTF8"),
        # A size that is 0, missing or nonsense is no limit.
        (Post(octets=10**9), b"250-x\r\n250 size 0\r\n", b"MAIL FROM:<a@x.example> SIZE=1000000000"),
        (Post(octets=10**9), b"250-x\r\n250 Size\r\n", b"MAIL FROM:<a@x.example> SIZE=1000000000"),
        (Post(), b"250-x\r\n250 SIZE " + b"9" * 5000 + b"\r\n", b"MAIL FROM:<a@x.example> SIZE=6"),
    ],
)
def test_client_mail_parameters_follow_what_the_peer_offers(letter: Post, ehlo: bytes, mail: bytes) -> None:
    client = ready(ehlo)
    client.deliver(letter)
    assert b"".join(client.output()).split(b"\r\n")[0] == mail


@pytest.mark.parametrize(
    "replies",
    [
        [b"554 go away"],
        [b"450 busy"],
        [b"421 busy"],
        [b"220 hi", b"421 busy"],
        [b"220 hi", b"450 busy"],
        [b"220 hi", b"502 what", b"502 what"],
        [b"hello"],
        [b"220 hi", b"250-a\r\n251 b"],
        [b"220 hi\r\n250 too early"],
    ],
)
def test_client_host_that_does_not_welcome_us_ends_session_and_leaves_letters(replies: list[bytes]) -> None:
    client: Client = Client("h.example", PEER, LIMITS)
    client.deliver(Post())
    for reply in replies:
        say(client, reply)
    (over,) = client.events()
    assert isinstance(over, Over)
    assert over.outcome.status == "deferred"
    assert over.left == [Post()]
    assert over.is_hosts_fault
    assert client.output() == []


@pytest.mark.parametrize("reply", [b"354 what", b"999 what", b"nonsense"])
@pytest.mark.parametrize("n_before", range(5))
def test_client_peer_that_breaks_the_protocol_defers_the_letter_under_way(n_before: int, reply: bytes) -> None:
    client = ready()
    client.deliver(TWO)
    client.deliver(Post())
    client.output()
    for good in [b"250 a", b"550 5.1.1 b", b"250 c", b"354 d"][:n_before]:
        say(client, good)
    if reply.startswith(b"354") and n_before == 3:
        reply = b"250 no 354"
    say(client, reply)
    done, over = client.events()
    assert isinstance(done, Done)
    assert isinstance(over, Over)
    assert not over.is_hosts_fault
    first = ("bounced", "5.1.1") if n_before >= 2 else ("deferred", over.outcome.enhanced)
    assert [(o.status, o.enhanced) for _, o in done.outcomes] == [first, ("deferred", over.outcome.enhanced)]
    assert over.left == [Post()]


def test_client_lost_after_the_dot_defers_that_letter_and_leaves_the_next() -> None:
    client = ready()
    client.deliver(Post())
    client.deliver(TWO)
    say(client, b"250 a", b"250 b", b"354 c")
    client.lost("lost connection")
    done, over = client.events()
    assert isinstance(done, Done)
    assert isinstance(over, Over)
    reason = f"{POSSIBLE_REPEAT}lost connection with {PEER} while sending the end of data"
    assert done.outcomes == [(0, Outcome("deferred", 451, "4.4.2", reason, PEER, ""))]
    assert over.left == [TWO]


@pytest.mark.parametrize("end", [b"421 enough", None])
def test_client_kept_connection_that_ends_between_letters_leaves_the_next(end: bytes | None) -> None:
    client = ready()
    client.deliver(Post())
    say(client, b"250 a", b"250 b", b"354 c")
    say(client, b"250 d")
    client.deliver(TWO)
    client.events()
    if end is None:
        client.lost("lost connection")
    else:
        say(client, end)
    (over,) = client.events()
    assert isinstance(over, Over)
    assert over.left == [TWO]


def test_client_fresh_connection_lost_at_first_mail_defers() -> None:
    client = ready()
    client.deliver(Post())
    client.lost("lost connection")
    assert fates(client) == [[(0, "deferred", 451, "4.4.2")]]


def test_client_abort_leaves_what_is_not_past_its_dot() -> None:
    client = ready()
    client.deliver(Post())
    say(client, b"250 a", b"250 b")
    client.abort()
    (over,) = client.events()
    assert isinstance(over, Over)
    assert over.left == [Post()]


def test_client_reply_to_what_was_not_written_ends_the_session() -> None:
    client = ready()
    client.deliver(Post())
    client.output()
    # The final reply in the same read as 354 cannot be about a body that is not written yet.
    say(client, b"250 a", b"250 b", b"354 c", b"250 d")
    assert fates(client) == [[(0, "deferred", 250, "4.5.0")]]


def test_client_diagnostic_is_the_peers_text_cut_at_a_character() -> None:
    client = ready()
    client.deliver(Post())
    client.output()
    text = b"\xff" + "\u20ac".encode() * 400
    say(client, b"250 a", b"250 b", b"554-5.6.0 one", b"554 " + text)
    (done,) = client.events()
    assert isinstance(done, Done)
    ((_, outcome),) = done.outcomes
    assert outcome.diagnostic.startswith("5.6.0 one\n\ufffd\u20ac")
    assert 996 < len(outcome.diagnostic.encode()) <= 1000
    assert (outcome.reason, outcome.remote_mta) == ("refused at DATA", PEER)


REPLIES = st.sampled_from(
    [
        *[b"220 x", b"250 x", b"251 x", b"354 x", b"421 x", b"450 x", b"552 x", b"554 5.1.1 x", b"600 x"],
        *[b"250-PIPELINING\r\n250 x", b"250-x\r\n250-PIPELINING\r\n250 SIZE 99999999999999999999999"],
        *[b"", b"xyz", b"250-a\r\n550 b", b"\xff"],
    ]
)
MOVES = st.one_of(st.lists(REPLIES, min_size=1, max_size=6), st.sampled_from(["deliver", "withdraw"]))
GOOD = [[b"220 x"], [b"250-x\r\n250 PIPELINING"]]


@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.lists(MOVES, max_size=30), st.sampled_from(["lost", "abort"]), st.randoms())
def test_client_hostile_peer_each_letter_is_reported_once(
    is_welcome: bool, moves: list[list[bytes] | str], end: str, chance: random.Random
) -> None:
    client: Client = Client("h.example", PEER, LIMITS)
    given_out: list[Post] = []
    back: list[Post] = []
    events: list[Ready | Done[Post] | Over[Post]] = []
    script: list[list[bytes] | str] = [*GOOD, "deliver", "deliver"] if is_welcome else []
    for move in script + moves:
        if client.is_over:
            break
        if move == "deliver":
            given_out.append(Post(recipients=((0, "b@y"), (1, "c@y")), octets=len(given_out)))
            client.deliver(given_out[-1])
        elif move == "withdraw":
            back += client.withdraw()
        else:
            wire = b"".join(bytes(reply) + b"\r\n" for reply in move if isinstance(reply, bytes))
            cut = chance.randrange(len(wire) + 1)
            client.receive(wire[:cut])
            client.receive(wire[cut:])
        events += client.events()
        client.output()
    if end == "lost":
        client.lost("lost connection")
    else:
        client.abort()
    events += client.events()
    assert sum(isinstance(event, Over) for event in events) == 1
    over = events[-1]
    assert isinstance(over, Over)
    for event in events:
        if isinstance(event, Done):
            back.append(event.letter)
            assert [number for number, _ in event.outcomes] == [0, 1]
    assert sorted(letter.octets for letter in back + over.left) == list(range(len(given_out)))
