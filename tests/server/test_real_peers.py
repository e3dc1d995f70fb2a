"""Postfix and Exim as peers: what one of them sends comes through us to another one, and each understands refusals."""

import re
from collections.abc import Iterator

import pytest

from bench.client import Client
from bench.corpus import prepare
from bench.sink import Message
from bench.wait import wait_until
from tests.harness import awkward_mails, run_async
from tests.harness.exim import EximPeer
from tests.harness.peers import FAR_OCTETS, HERE_OCTETS, Chain, PostfixPeer

pytestmark = pytest.mark.skipif("os.getuid() != 0", reason="only root starts Postfix and Exim")

SENDER = "ann@client.test"
MAILS = {name: prepare(mail) for name, mail in awkward_mails().items() if name != "bare CR"} | {
    "1 MB": b"Subject: large\r\n\r\n" + b"".join(b"line %07d of a large mail\r\n" % number for number in range(32_000)),
}
PLAIN = b"Subject: x\r\n\r\nx\r\n"
# RFC 5322 s2.1: fields, then an empty line. Where that is missing, peers put it; we leave mail as it is.
FINISHED = {
    "empty": b"\r\n",
    "no body": MAILS["no body"] + b"\r\n",
    "begins with a blank": b"\r\n" + MAILS["begins with a blank"],
}
RECEIVED = re.compile(rb"Received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


@pytest.fixture(scope="module", params=[PostfixPeer, EximPeer])
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    with Chain(request.param) as chain:
        yield chain


def send(address: tuple[str, int], recipients: list[str], mail: bytes, sender: str = SENDER, params: str = "") -> None:
    """Send one mail, which has to be taken."""

    async def scenario() -> None:
        client = Client(*address)
        await client.connect()
        answer = await client.send(sender, recipients, mail, params=params)
        assert answer.code == 250, answer
        await client.close()

    run_async(scenario())


def notice(chain: Chain, *recipients: str) -> str:
    """Wait for a notice to the sender that names these recipients, and return it; the sink forgets what it has."""
    found: list[str] = []

    def is_there() -> bool:
        for message in chain.sink.take():
            content = message.content.decode("utf-8", "replace")
            if (message.sender, message.recipients) == ("", [SENDER]) and all(to in content for to in recipients):
                found.append(content)
        return bool(found)

    wait_until(is_there, f"a notice about {recipients}", 60)
    # What was folded to fit a line is one sentence again.
    return " ".join(found[0].split())


def rest(message: Message, n_traces: int = 3) -> bytes:
    """Return a message without the trace fields on top that so many servers have left."""
    at = 0
    for _ in range(n_traces):
        found = RECEIVED.match(message.content, at)
        assert found is not None, message.content[:1000]
        at = found.end()
    return message.content[at:]


def test_peers_mails_go_through_both_and_come_out_as_they_were(chain: Chain) -> None:
    chain.sink.take()
    many = [f"many{number}@far.test" for number in range(150)]

    async def scenario() -> None:
        client = Client(*chain.near.address)
        await client.connect()
        assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8"} <= client.extensions
        for number, mail in enumerate(MAILS.values()):
            params = "" if mail.isascii() else "BODY=8BITMIME"
            answer = await client.send(SENDER, [f"m{number}@far.test"], mail, params=params)
            assert answer.code == 250, answer
        for sender, recipients, params in (
            (SENDER, many, ""),
            ("", ["null@far.test"], ""),
            ("jürgen@client.test", ["größe@far.test"], "SMTPUTF8"),
            (SENDER, ["postmaster"], ""),
            (SENDER, ["ann@here.test"], ""),
        ):
            answer = await client.send(sender, recipients, PLAIN, params=params)
            assert answer.code == 250, answer
        await client.close()

    run_async(scenario())
    chain.wait_empty()
    came: dict[str, list[Message]] = {}
    for message in chain.sink.take():
        for recipient in message.recipients:
            came.setdefault(recipient, []).append(message)
    expected = {
        f"m{number}@far.test": {mail, FINISHED.get(name, mail)} for number, (name, mail) in enumerate(MAILS.items())
    } | {recipient: {PLAIN} for recipient in (*many, "null@far.test", "größe@far.test")}
    # What the near one makes of a postmaster without a domain does not go by the far one.
    (message,) = came.pop(f"postmaster@{chain.near.hostname}")
    assert rest(message, 2) == PLAIN
    assert came.keys() == expected.keys()
    assert [recipient for recipient, messages in came.items() if len(messages) > 1] == []
    assert [recipient for recipient, mails in expected.items() if rest(came[recipient][0]) not in mails] == []
    assert came["null@far.test"][0].sender == ""
    assert came["größe@far.test"][0].sender == "jürgen@client.test"
    # What was promised at one end was asked for at the other; Exim just sends eight bits.
    assert "SMTPUTF8" in came["größe@far.test"][0].params
    declared = {name for number, name in enumerate(MAILS) if "BODY=8BITMIME" in came[f"m{number}@far.test"][0].params}
    assert declared == ({"8-bit", "UTF-8"} if isinstance(chain.near, PostfixPeer) else set())
    (mail,) = chain.directory.glob("ann/new/*")
    assert mail.read_bytes().startswith(f"Return-Path: <{SENDER}>\nReceived: from {chain.near.hostname} ".encode())
    assert chain.server.events("bounced", "deferred") == []


def test_peers_far_one_refuses_and_its_words_come_back(chain: Chain) -> None:
    chain.far.access({"nobody@far.test": "550 5.1.1 Nobody of this name"})
    send(chain.near.address, ["nobody@far.test", "somebody@far.test"], PLAIN)
    said = notice(chain, "nobody@far.test")
    assert "Nobody of this name" in said
    assert "Status: 5.1.1" in said
    assert "somebody@far.test" not in said
    # Refused at the end of the data; the near one would do the same.
    send(chain.server.address, ["strict@far.test"], b"Subject: forbidden\r\n\r\nx\r\n")
    assert "Nothing that is forbidden" in notice(chain, "strict@far.test")
    # It said at EHLO how much it takes.
    send(chain.near.address, ["big@far.test"], b"Subject: x\r\n\r\n" + b"x\r\n" * (FAR_OCTETS // 3))
    assert f"takes at most {FAR_OCTETS} octets" in notice(chain, "big@far.test")
    chain.wait_empty()
    assert {row["recipient"] for row in chain.server.wait_events(3, "bounced")} == {
        "nobody@far.test",
        "strict@far.test",
        "big@far.test",
    }


def test_peers_far_one_defers_and_is_tried_again(chain: Chain) -> None:
    chain.sink.take()
    chain.far.access({"later@far.test": "450 4.2.0 Busy now"})
    send(chain.near.address, ["later@far.test", "now@far.test"], PLAIN)
    (row, *_) = chain.server.wait_events(1, "deferred", timeout_s=30)
    assert (row["recipient"], row["code"], row["enhanced"]) == ("later@far.test", 450, "4.2.0")
    assert "Busy now" in row["diagnostic"]
    chain.far.access({})
    chain.wait_empty()
    arrived = sorted(to for message in chain.sink.take() for to in message.recipients)
    assert arrived == ["later@far.test", "now@far.test"]


def test_peers_near_one_tells_senders_in_our_words(chain: Chain) -> None:
    send(chain.near.address, ["nobody@here.test", "ann@here.test"], PLAIN)
    said = notice(chain, "nobody@here.test")
    assert "No such mailbox" in said
    assert "ann@here.test" not in said
    # We said at EHLO how much we take: one of them reads that, the other asks at MAIL.
    send(chain.near.address, ["big@far.test"], b"Subject: x\r\n\r\n" + b"x\r\n" * (HERE_OCTETS // 3))
    said = notice(chain, "big@far.test")
    assert f"exceeds size limit {HERE_OCTETS} of server" in said or "552 5.3.4 The message is larger" in said, said
    chain.wait_empty()
