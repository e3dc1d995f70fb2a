"""Who may send where: a client outside `relay.networks` reaches local mailboxes, however it spells an address."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.client import Answer, Client
from bench.server import Server
from bench.sink import Sink
from tests.harness import relaying, run_async

DENIED = (554, "5.7.1")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Sink]]:
    """A server to which 127.0.0.1 is a stranger, with one mailbox, ann@here.test."""
    mail: Path = tmp_path_factory.mktemp("mail")
    for name in ("cur", "new", "tmp"):
        (mail / "here.test" / "ann" / name).mkdir(parents=True)
    with Sink() as sink:
        local = {"domains": ["here.test"], "maildir": f"{mail}/{{domain}}/{{local}}"}
        limits = {"hard_errors": 100, "soft_errors": 100}
        config = relaying(sink.via, local=local, relay={"networks": ["192.0.2.0/24"]}, limits=limits)
        with Server(config) as server:
            yield server, sink


def ask(server: Server, path: str, sender: str = "<a@source.test>") -> Answer:
    """Return the reply to one RCPT."""

    async def scenario() -> Answer:
        client = Client(*server.address)
        await client.connect()
        assert (await client.command(f"MAIL FROM:{sender}")).code == 250
        answer = await client.command(f"RCPT TO:{path}")
        await client.close()
        return answer

    return run_async(scenario())


@pytest.mark.parametrize(
    "path",
    [
        # Plain, and whatever the case.
        "<b@elsewhere.test>",
        "<b@ELSEWHERE.Test>",
        # Neighbours of a local domain are not local.
        "<ann@sub.here.test>",
        "<ann@nothere.test>",
        "<ann@here.test.elsewhere.test>",
        "<ann@xn--hre-epa.test>",
        # A quoted local part that looks like a local address.
        '<"ann@here.test"@elsewhere.test>',
        # Address literals, our own too, are not local domains.
        "<ann@[127.0.0.1]>",
        "<ann@[192.0.2.1]>",
        "<ann@[IPv6:::1]>",
        # RFC 5321 s4.1.2: a source route is ignored; what counts is where it ends.
        "<@here.test:b@elsewhere.test>",
    ],
)
def test_rcpt_from_stranger_to_foreign_domain_is_denied(outside: tuple[Server, Sink], path: str) -> None:
    answer = ask(outside[0], path)
    assert (answer.code, answer.enhanced) == DENIED, answer


@pytest.mark.parametrize(
    "path",
    [
        # The old ways to say "send it on from there": here they are mailboxes that do not exist.
        "<b%elsewhere.test@here.test>",
        "<elsewhere.test!b@here.test>",
        '<"b@elsewhere.test"@here.test>',
        '<"b%elsewhere.test"@here.test>',
        # No address at all.
        "<b@elsewhere.test@here.test>",
        "<b@here.test@elsewhere.test>",
        "<b>",
        "<>",
        "<@here.test>",
        # A way out of the Maildir's folder.
        "<../../etc/passwd@here.test>",
        '<"../ann"@here.test>',
        '<".."@here.test>',
    ],
)
def test_rcpt_from_stranger_in_a_devious_spelling_is_refused(outside: tuple[Server, Sink], path: str) -> None:
    answer = ask(outside[0], path)
    assert answer.code // 100 == 5, answer


@pytest.mark.parametrize("sender", ["<a@here.test>", "<>", "<ann@here.test>"])
def test_rcpt_from_stranger_with_local_sender_is_denied(outside: tuple[Server, Sink], sender: str) -> None:
    answer = ask(outside[0], "<b@elsewhere.test>", sender)
    assert (answer.code, answer.enhanced) == DENIED, answer


@pytest.mark.parametrize("path", ["<ann@here.test>", "<ann@HERE.TEST>", '<"ann"@here.test>', "<@x.test:ann@here.test>"])
def test_rcpt_from_stranger_to_local_mailbox_is_taken(outside: tuple[Server, Sink], path: str) -> None:
    assert ask(outside[0], path).code == 250


def test_rcpt_to_missing_mailbox_is_550_and_nothing_was_relayed(outside: tuple[Server, Sink]) -> None:
    server, sink = outside
    answer = ask(server, "<bob@here.test>")
    assert (answer.code, answer.enhanced) == (550, "5.1.1")
    assert server.n_queued() == 0
    assert sink.n_sessions() == 0
    denied = server.wait_events(1, "rejected")
    assert {row["stage"] for row in denied} == {"rcpt"}
