"""The SMTP client and odd peers: what becomes of a letter whatever is said, however it is cut into reads.

A dialog is a list of turns: what the peer says once it has everything that the client has written so far. Its end are
the events in words, so that a row of the table can be read at a glance.
"""

from collections.abc import Sequence

import pytest

from mta.smtp import POSSIBLE_REPEAT, Client, Done, Over, Ready, TryNext
from tests.cuts import CUT_IDS, CUTS, Cut, in_two, whole
from tests.smtp.test_client import LIMITS, PEER, PIPELINING, PLAIN, TWO, Post, fates, ready, say

HI = b"220 hi\r\n"
ASKED = [HI, PIPELINING]
TAKEN = [*ASKED, b"250 a\r\n", b"250 b\r\n", b"354 c\r\n"]
LONG_LINE = b"250-" + b"x" * 65_000 + b"\r\n"


def play(turns: Sequence[bytes], cut: Cut = whole, letters: Sequence[Post] = (Post(),)) -> list[str]:
    """Let a client with these letters hear each turn; return what it told, in words."""
    client: Client = Client("h.example", PEER, LIMITS)
    for letter in letters:
        client.deliver(letter)
    for turn in turns:
        for piece in cut(turn):
            if not client.is_over:
                client.receive(piece)
    return told(client)


def told(client: Client) -> list[str]:
    words: list[str] = []
    for event in client.events():
        if isinstance(event, Over):
            fault = "fault " if event.is_hosts_fault else ""
            words.append(f"over {fault}{event.outcome.code} {event.outcome.enhanced} left {len(event.left)}")
        elif isinstance(event, Done):
            kind = "next" if isinstance(event, TryNext) else "done"
            for _, o in event.outcomes:
                maybe = "maybe " if o.reason.startswith(POSSIBLE_REPEAT) else ""
                words.append(f"{kind} {maybe}{o.status} {o.code} {o.enhanced}")
        elif isinstance(event, Ready):
            words.append("ready")
    return words


NO_SMTP = "over fault 451 4.5.0 left 1"
BROKEN = ["ready", "next deferred 451 4.5.0", "over 451 4.5.0 left 0"]
MAYBE = ["ready", "done maybe deferred 451 4.5.0", "over 451 4.5.0 left 0"]


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
@pytest.mark.parametrize(
    ("turns", "end"),
    [
        # Lines that end in LF alone, and NULs in the text, are sloppy and harm nobody.
        ([turn.replace(b"\r\n", b"\n") for turn in [*TAKEN, b"250 d\r\n"]], ["ready", "done delivered 250 2.0.0"]),
        ([*TAKEN, b"250 2.6.0 a\0b\0\r\n"], ["ready", "done delivered 250 2.6.0"]),
        # A hundred lines are a reply, a hundred and one are not; nor are more than 64 KiB, in one line or in many.
        ([HI, b"250-x\r\n" * 99 + b"250 x\r\n"], ["ready"]),
        ([HI, b"250-x\r\n" * 100 + b"250 x\r\n"], [NO_SMTP]),
        ([HI, b"250-" + b"x" * 70_000], [NO_SMTP]),
        ([HI, LONG_LINE * 2], [NO_SMTP]),
        ([HI, b"250-x\r\n" * 200], [NO_SMTP]),
        ([b"x" * 70_000], [NO_SMTP]),
        ([*TAKEN, b"250-" + b"x" * 70_000], MAYBE),
        # Lines of one reply with different codes.
        ([b"220-a\r\n554 b\r\n"], [NO_SMTP]),
        ([*TAKEN, b"250-a\r\n550 b\r\n"], MAYBE),
        ([*ASKED, b"250-a\r\n550 b\r\n"], BROKEN),
        # What is no SMTP at all.
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], [NO_SMTP]),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], [NO_SMTP]),
        ([b"\x15\x03\x01\x00\x02\x02\x0a\r\n"], [NO_SMTP]),
        ([b"+OK POP3 ready\r\n"], [NO_SMTP]),
        ([b"\r\n"], [NO_SMTP]),
        ([b"2 20 hi\r\n"], [NO_SMTP]),
        ([b"\0220 hi\r\n"], [NO_SMTP]),
        ([b"\xef\xbb\xbf220 hi\r\n"], [NO_SMTP]),
        ([*ASKED, b"nonsense\r\n"], BROKEN),
        ([*TAKEN, b"nonsense\r\n"], MAYBE),
        # Preliminary replies, RFC 5321 s4.2.1: there are none.
        ([b"120 wait\r\n"], [NO_SMTP]),
        ([HI, b"150 wait\r\n"], [NO_SMTP]),
        ([*ASKED, b"150 wait\r\n"], BROKEN),
        ([*TAKEN, b"150 wait\r\n"], MAYBE),
        ([b"620 hi\r\n"], [NO_SMTP]),
        # Classes that make no sense where they stand.
        ([b"354 hi\r\n"], ["over fault 354 4.5.0 left 1"]),
        ([HI, b"354 hi\r\n"], ["over fault 354 4.5.0 left 1"]),
        ([*ASKED, b"354 a\r\n"], ["ready", "next deferred 354 4.5.0", "over 354 4.5.0 left 0"]),
        ([*ASKED, b"250 a\r\n", b"354 b\r\n"], ["ready", "next deferred 354 4.5.0", "over 354 4.5.0 left 0"]),
        (
            [*ASKED, b"250 a\r\n", b"250 b\r\n", b"250 c\r\n"],
            ["ready", "next deferred 250 4.5.0", "over 250 4.5.0 left 0"],
        ),
        ([*TAKEN, b"354 d\r\n"], ["ready", "done maybe deferred 354 4.5.0", "over 354 4.5.0 left 0"]),
        # Greetings that are none, RFC 5321 s3.1, RFC 7504: the host's word about itself, whatever its class.
        ([b"521 5.3.2 no mail here\r\n"], ["over fault 521 5.3.2 left 1"]),
        ([b"554-5.7.1 no\r\n554 mail\r\n"], ["over fault 554 5.7.1 left 1"]),
        ([b"450 4.3.2 later\r\n"], ["over fault 450 4.3.2 left 1"]),
        # EHLO refused: HELO; that refused, too: the next host.
        ([HI, b"502 what?\r\n", b"250 hi\r\n"], ["ready"]),
        ([HI, b"502 what?\r\n", b"550 5.7.1 no\r\n"], ["over fault 550 5.7.1 left 1"]),
        ([HI, b"502 what?\r\n", b"450 no\r\n"], ["over fault 450 4.0.0 left 1"]),
        ([HI, b"451 4.3.0 no\r\n"], ["over fault 451 4.3.0 left 1"]),
        # Unasked words between letters: 421 is a farewell, all others a confusion.
        ([*TAKEN, b"250 d\r\n", b"421 4.4.2 idle\r\n"], ["ready", "done delivered 250 2.0.0", "over 421 4.4.2 left 0"]),
        ([*TAKEN, b"250 d\r\n", b"250 e\r\n"], ["ready", "done delivered 250 2.0.0", "over 250 4.5.0 left 0"]),
        # Enhanced codes, RFC 2034, RFC 3463: missing, of another class, too long, glued to a word.
        ([*TAKEN, b"550 no\r\n"], ["ready", "done bounced 550 5.0.0"]),
        ([*TAKEN, b"550 4.7.1 no\r\n"], ["ready", "done bounced 550 5.0.0"]),
        ([*TAKEN, b"450 2.0.0 ok\r\n"], ["ready", "done deferred 450 4.0.0"]),
        ([*TAKEN, b"550 5.7.1\r\n"], ["ready", "done bounced 550 5.7.1"]),
        ([*TAKEN, b"550-5.7.1\r\n550 5.9.9 x\r\n"], ["ready", "done bounced 550 5.7.1"]),
        ([*TAKEN, b"550 5.7.1000 x\r\n"], ["ready", "done bounced 550 5.0.0"]),
        ([*TAKEN, b"550 5.7.1no\r\n"], ["ready", "done bounced 550 5.0.0"]),
        ([*TAKEN, b"550\r\n"], ["ready", "done bounced 550 5.0.0"]),
        ([*TAKEN, b"550 5.\xd9\xa1.1 no\r\n"], ["ready", "done bounced 550 5.0.0"]),
    ],
)
def test_client_odd_peer_ends_the_same_for_any_cut(turns: list[bytes], end: list[str], cut: Cut) -> None:
    assert play(turns, cut) == end


@pytest.mark.parametrize(
    ("said", "enhanced"), [(b"250 ok", "4.5.0"), (b"25", "4.5.0"), (b"354", "4.5.0"), (b"250-a\r\n250", "4.5.0")]
)
@pytest.mark.parametrize("turns", [[], TAKEN[1:]], ids=["greeting", "data"])
def test_client_reply_begun_before_its_command_is_not_taken_for_its_answer(
    turns: list[bytes], said: bytes, enhanced: str
) -> None:
    """Whatever it is, the session is over and no letter counts as delivered."""
    client = Client("h.example", PEER, LIMITS)
    client.deliver(Post())
    client.deliver(Post())
    before = [HI, *turns]
    for turn in before[:-1]:
        client.receive(turn)
    # In one read with the last thing that was asked for; its end comes when the next command is out.
    client.receive(before[-1] + said)
    client.output()
    if not client.is_over:
        client.receive(b"0 ok\r\n" if said == b"25" else b" ok\r\n")
    assert client.is_over
    words = told(client)
    assert not any("delivered" in word for word in words)
    assert enhanced in words[-1]


def test_client_farewell_that_comes_in_two_reads_is_a_farewell() -> None:
    for first, second in in_two(b"421 4.4.2 idle\r\n"):
        client = ready()
        client.receive(first)
        if not client.is_over:
            client.receive(second)
        assert told(client) == ["over 421 4.4.2 left 0"]


STAGES = ["greeting", "ehlo", "mail", "rcpt", "data", "dot"]
LOST = "451 4.4.2"
LEFT = [f"over fault {LOST} left 1"]
NEXT = ["ready", f"next deferred {LOST}", f"over {LOST} left 0"]


@pytest.mark.parametrize("ehlo", [PIPELINING, PLAIN], ids=["pipelining", "plain"])
@pytest.mark.parametrize(
    ("n_turns", "end"),
    [(0, LEFT), (1, LEFT), (2, NEXT), (3, NEXT), (4, NEXT), (5, ["ready", f"done maybe deferred {LOST}", NEXT[-1]])],
    ids=STAGES,
)
def test_client_lost_at_each_stage_of_its_first_letter(n_turns: int, end: list[str], ehlo: bytes) -> None:
    client: Client = Client("h.example", PEER, LIMITS)
    client.deliver(Post())
    for turn in [HI, ehlo, *TAKEN[2:]][:n_turns]:
        client.receive(turn)
    client.lost("lost connection")
    assert told(client) == end


@pytest.mark.parametrize(
    ("n_turns", "end"),
    [
        # Nothing of it was answered: it is not the letter's affair.
        (0, [f"over {LOST} left 1"]),
        (1, [f"done deferred {LOST}", f"over {LOST} left 0"]),
        (2, [f"done deferred {LOST}", f"over {LOST} left 0"]),
        (3, [f"done maybe deferred {LOST}", f"over {LOST} left 0"]),
    ],
    ids=STAGES[2:],
)
def test_client_lost_at_each_stage_of_its_second_letter_asks_no_other_host(n_turns: int, end: list[str]) -> None:
    client = ready()
    client.deliver(Post())
    for turn in [*TAKEN[2:], b"250 d\r\n"]:
        client.receive(turn)
    assert told(client) == ["done delivered 250 2.0.0"]
    client.deliver(Post())
    for turn in TAKEN[2:][:n_turns]:
        client.receive(turn)
    client.lost("lost connection")
    assert told(client) == end


def test_client_lost_in_the_body_of_the_first_letter_is_tried_elsewhere() -> None:
    client = ready()
    client.deliver(Post(octets=30, n_pieces=5))
    for turn in TAKEN[2:]:
        client.receive(turn)
    client.send_more()
    assert client.is_sending
    client.lost("lost connection")
    assert told(client) == [f"next deferred {LOST}", f"over {LOST} left 0"]


@pytest.mark.parametrize("ehlo", [PIPELINING, PLAIN], ids=["pipelining", "plain"])
def test_client_abort_past_the_dot_is_a_possible_repeat(ehlo: bytes) -> None:
    client = ready(ehlo)
    client.deliver(Post())
    client.deliver(Post())
    for turn in TAKEN[2:]:
        client.receive(turn)
    client.abort()
    assert told(client) == [f"done maybe deferred {LOST}", f"over {LOST} left 1"]


def test_client_peer_that_takes_mail_from_a_sender_it_refused_gets_none() -> None:
    client = ready()
    client.deliver(Post())
    client.output()
    # An empty mail would go to somebody.
    assert say(client, b"550 5.7.1 not you", b"250 ok", b"354 go") == b""
    assert told(client) == ["done bounced 550 5.7.1", "over 354 4.5.0 left 0"]


@pytest.mark.parametrize(
    ("said", "fate"),
    [
        # RFC 5321 s4.5.3.1.10, and what servers make of it.
        (b"452 4.5.3 enough", ("deferred", 452, "4.5.3")),
        (b"452 too many recipients", ("deferred", 452, "4.0.0")),
        (b"552 too many recipients", ("deferred", 552, "5.0.0")),
        (b"552 5.5.3 too many recipients", ("deferred", 552, "5.5.3")),
        (b"552 5.2.2 mailbox full", ("bounced", 552, "5.2.2")),
    ],
)
def test_client_too_many_recipients_puts_them_off(said: bytes, fate: tuple[str, int, str]) -> None:
    client = ready()
    client.deliver(TWO)
    client.output()
    say(client, b"250 ok", b"250 ok", said)
    say(client, b"354 go")
    say(client, b"250 ok")
    assert fates(client) == [[(3, "delivered", 250, "2.0.0"), (5, *fate)]]


HOSTILE = [
    b"\x1b[2J\x1b]0;owned\x07",
    b"\x9b31m",
    "\u009b31m\u0085".encode(),
    b"\x00\x08\x0b\x0c\x7f",
    b"a\rb\r\r",
    b"\xff\xfe\xc0\x80\xed\xa0\x80",
    "\u202egnp.exe\u2066\u200f\u061c".encode(),
    "zero\u200bwidth\u2060\ufeff".encode(),
    "tag\U000e0041\U000e007f".encode(),
    "lines\u2028and\u2029paragraphs".encode(),
]


@pytest.mark.parametrize("cut", CUTS, ids=CUT_IDS)
@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_client_hostile_words_show_themselves_and_do_nothing(said: bytes, cut: Cut) -> None:
    client = ready()
    client.deliver(Post())
    for piece in cut(b"550-5.7.1 one " + said + b"\r\n550 two " + said + b"\r\n"):
        client.receive(piece)
    client.receive(b"503 x\r\n503 x\r\n")
    (done,) = client.events()
    assert isinstance(done, Done)
    diagnostic = done.outcomes[0][1].diagnostic
    assert diagnostic.startswith("5.7.1 one ")
    first, second = diagnostic.split("\n")
    assert first.isprintable()
    assert second.startswith("two ")
    assert second.isprintable()
