"""A real IMAP server reads what we wrote: nothing is missing, flags stay, and a mailbox may be open meanwhile."""

import imaplib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.client import Client
from bench.corpus import prepare
from bench.roundtrip import compare
from bench.server import Server
from bench.wait import wait_until
from tests.harness import awkward_mails, run_async
from tests.harness.dovecot import Dovecot
from tests.server.conftest import Serve

pytestmark = pytest.mark.skipif("os.getuid() != 0", reason="only root starts Dovecot")

SENDER = "sender@roundtrip.test"
USER, GROUP = 61_001, 61_002
ANN, ODD = "ann@here.test", "box+größe@here.test"
MAILS = [prepare(mail) for name, mail in awkward_mails().items() if name != "bare CR"]


@pytest.fixture
def mail_path() -> Iterator[Path]:
    """A folder for mailboxes that users can reach."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


def send(server: Server, recipient: str, mails: list[bytes]) -> list[str]:
    """Send mails over one connection; return their ids."""

    async def scenario() -> list[str]:
        client = Client(*server.address)
        await client.connect()
        ids = []
        for mail in mails:
            params = "SMTPUTF8 BODY=8BITMIME" if not recipient.isascii() else "" if mail.isascii() else "BODY=8BITMIME"
            answer = await client.send(SENDER, [recipient], mail, params=params)
            assert answer.code == 250, answer
            ids.append(answer.queued_id)
        await client.close()
        return ids

    return run_async(scenario())


def count(imap: imaplib.IMAP4) -> int:
    """Look anew, and return how many mails are in the mailbox that is open."""
    imap.noop()
    found = imap.search(None, "ALL")[1][0]
    return len(found.split())


def fetch(imap: imaplib.IMAP4, number: int) -> bytes:
    """Return a mail with the line ends it has on the disk."""
    _, data = imap.fetch(str(number), "(BODY.PEEK[])")
    assert isinstance(data[0], tuple)
    return data[0][1].replace(b"\r\n", b"\n")


def test_dovecot_shows_what_was_delivered_while_the_mailbox_is_open(serve: Serve, mail_path: Path) -> None:
    local = {"domains": ["here.test"], "maildir": f"{mail_path}/{{domain}}/{{local}}"}
    ann, odd = (mail_path / "here.test" / name for name in ("ann", "box+gr%C3%B6%C3%9Fe"))
    for mailbox in (ann, odd):
        mailbox.mkdir(parents=True)
        os.chown(mailbox, USER, GROUP)
    server = serve({"local": local})
    ids = send(server, ANN, MAILS)
    send(server, ODD, MAILS[:1])
    server.wait_empty()
    with Dovecot({ANN: ann, ODD: odd}) as dovecot:
        with dovecot.login(ODD) as imap:
            imap.select()
            assert count(imap) == 1
        with dovecot.login(ANN) as imap:
            imap.select()
            assert count(imap) == len(MAILS)
            shown = [fetch(imap, number + 1) for number in range(len(MAILS))]
            for id_, sent in zip(ids, MAILS, strict=True):
                # Two deliveries of one second are in no order: each is found by its id.
                (mail,) = [mail for mail in shown if id_.encode() in mail]
                # IMAP has no NUL. RFC 3501 s4.3.1: Dovecot shows another octet.
                assert compare(mail.replace(b"\x80", b"\0") if b"\0" in sent else mail, sent, id_, is_maildir=True)
            # Flags are in the name of the file, which Dovecot has moved into cur/.
            imap.store("1:3", "+FLAGS", r"(\Seen \Flagged)")
            assert len(list((ann / "cur").glob("*:2,FS"))) == 3
            # More comes while the mailbox is open, and is seen without opening it again.
            send(server, ANN, [MAILS[0]] * 5)
            wait_until(lambda: count(imap) == len(MAILS) + 5, "the new mails in the open mailbox")
            imap.store("1", "+FLAGS", r"(\Deleted)")
            imap.expunge()
            assert count(imap) == len(MAILS) + 4
        with dovecot.login(ANN) as imap:
            imap.select(readonly=True)
            assert len(imap.search(None, "SEEN", "FLAGGED")[1][0].split()) == 2
        assert "Error" not in dovecot.log(), dovecot.log()
    server.wait_empty()
    assert len(server.events("delivered")) == len(MAILS) + 6
    assert list(ann.glob("tmp/*")) == []
