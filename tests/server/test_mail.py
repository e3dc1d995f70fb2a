"""Mail in, mail out: relayed and delivered here, from several clients, octet by octet."""

import smtplib
import subprocess
from email.message import EmailMessage
from pathlib import Path

import pytest

from bench.client import Client
from bench.corpus import prepare
from bench.roundtrip import compare, is_received, round_trip
from bench.sink import Sink
from bench.wait import wait_until
from tests.harness import Ledger, awkward_mails, relaying, require_tool, run_async
from tests.server.conftest import Serve

MAILS = [prepare(mail) for mail in awkward_mails().values()]


def test_relay_first_mail_arrives_unchanged_below_one_received(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    ledger = Ledger(server.address)
    run_async(ledger.send(1, 1))
    sink.wait_count(1)
    (message,) = sink.messages()
    ((recipient, message_id),) = ledger.acknowledged.items()
    assert message.sender == "ledger@source.test"
    assert message.recipients == [recipient]
    sent = ledger.content(0)
    assert message.content.endswith(sent)
    assert is_received(message.content.removesuffix(sent), message_id)
    (received,) = server.wait_events(1, "received")
    (delivered,) = server.wait_events(1, "delivered")
    assert received["id"] == delivered["id"] == message_id
    assert (received["sender"], received["n_recipients"], received["client"]) == ("ledger@source.test", 1, "127.0.0.1")
    assert (delivered["recipient"], delivered["code"], delivered["attempts"]) == (recipient, 250, 1)


@pytest.mark.parametrize("is_maildir", [False, True], ids=["relay", "maildir"])
@pytest.mark.parametrize(("bare_newline", "refused"), [("reject", {"550 5.6.0": 1}), ("normalize", {})])
def test_round_trip_awkward_mails_come_out_as_they_went_in(
    bare_newline: str, refused: dict[str, int], is_maildir: bool
) -> None:
    report, changed = round_trip(MAILS, n_clients=4, bare_newline=bare_newline, is_maildir=is_maildir)
    names = list(awkward_mails())
    assert [names[number] for number in changed] == [], report
    assert report.refused == refused
    assert report.is_good, report


def test_maildir_mail_for_a_local_domain_is_written_with_return_path(sink: Sink, serve: Serve, tmp_path: Path) -> None:
    local = {"domains": ["here.test"], "maildir": f"{tmp_path}/{{domain}}/{{local}}", "create": True}
    server = serve(relaying(sink.via, local=local))
    sent = MAILS[0]

    async def scenario() -> str:
        client = Client(*server.address)
        await client.connect()
        answer = await client.send("sender@roundtrip.test", ["ann@HERE.test"], sent)
        await client.close()
        return answer.queued_id

    message_id = run_async(scenario())
    folder = tmp_path / "here.test" / "ann"
    wait_until(lambda: bool(list(folder.glob("new/*"))), "a mail in the Maildir")
    (file,) = folder.glob("new/*")
    assert compare(file.read_bytes(), sent, message_id, is_maildir=True)
    assert list(folder.glob("tmp/*")) == []
    assert sink.count() == 0


def test_data_with_bare_newlines_is_refused_at_its_true_end(sink: Sink, serve: Serve) -> None:
    """Smuggling: what follows a false end of data must never be read as commands."""
    server = serve(relaying(sink.via))
    smuggled = b"MAIL FROM:<x@evil.test>\r\nRCPT TO:<y@sink.test>\r\nDATA\r\nevil\r\n"

    async def scenario() -> None:
        client = Client(*server.address)
        await client.connect()
        for false_end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"):
            answer = await client.send("a@source.test", ["b@sink.test"], b"Subject: x\r\n\r\na" + false_end + smuggled)
            assert (answer.code, answer.enhanced) == (550, "5.6.0"), false_end
            assert (await client.command("NOOP")).code == 250
        await client.close()

    run_async(scenario())
    assert server.n_queued() == 0
    assert sink.count() == 0


def test_smtplib_sends_to_several_recipients(sink: Sink, serve: Serve) -> None:
    server = serve(relaying(sink.via))
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@source.test", "b@sink.test, c@other.test", "Größe"
    mail.set_content("Hello\n.\nWorld\n")
    with smtplib.SMTP(*server.address, timeout=20) as client:
        assert client.send_message(mail) == {}
    wait_until(lambda: sum(len(message.recipients) for message in sink.messages()) == 2, "both recipients")
    assert {to for message in sink.messages() for to in message.recipients} == {"b@sink.test", "c@other.test"}


def test_swaks_mail_is_relayed(sink: Sink, serve: Serve) -> None:
    swaks = require_tool("swaks", "swaks")
    server = serve(relaying(sink.via))
    host, port = server.address
    words = ["--server", host, "--port", str(port), "--helo", "client.test", "--suppress-data"]
    mail = ["--from", "a@source.test", "--to", "b@sink.test", "--body", "from swaks"]
    done = subprocess.run([swaks, *words, *mail], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sink.wait_count(1)
    assert b"from swaks" in sink.messages()[0].content


def test_relay_sessions_that_end_while_leases_come_deliver_once(sink: Sink, serve: Serve) -> None:
    # A lease for a session crosses the word that the session is closed: its parts must go out, and once.
    server = serve(relaying(sink.via, path={"messages_per_connection": 3, "idle_s": 0.05}))
    ledger = Ledger(server.address)
    run_async(ledger.send(2000, 32))
    server.wait_empty()
    arrived = [recipient for message in sink.messages() for recipient in message.recipients]
    assert sorted(arrived) == sorted(ledger.acknowledged)
    assert len(arrived) == 2000
