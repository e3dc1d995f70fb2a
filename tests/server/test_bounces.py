"""Senders are told what failed, once, in the words of whoever refused it; and nobody is told of a notice."""

import email
import email.policy
from email.message import EmailMessage, MIMEPart

from bench.client import Client
from bench.server import Server
from bench.sink import Message, Rule, Sink
from tests.harness import relaying, run_async
from tests.server.conftest import Serve

MAIL = b"From: a@source.test\r\nSubject: to three\r\nMessage-ID: <1@source.test>\r\n\r\nbody that stays here\r\n"


def _send(server: Server, recipients: list[str], sender: str = "a@source.test", content: bytes = MAIL) -> str:
    async def scenario() -> str:
        client = Client(*server.address)
        await client.connect()
        answer = await client.send(sender, recipients, content)
        assert answer.code == 250, answer
        await client.close()
        return answer.queued_id

    return run_async(scenario())


def _parsed(notice: Message) -> tuple[EmailMessage, list[MIMEPart]]:
    whole = email.message_from_bytes(notice.content, policy=email.policy.default)
    assert isinstance(whole, EmailMessage)
    parts = list(whole.iter_parts())
    assert [part.get_content_type() for part in parts] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    return whole, parts


def test_recipients_that_fail_together_make_one_notice_to_the_sender(sink: Sink, serve: Serve) -> None:
    sink.rule(
        Rule(stage="rcpt", match="one@sink.test", reply="550 5.1.1 Nobody called one"),
        Rule(stage="rcpt", match="two@sink.test", reply="550 5.7.1 Not for two"),
    )
    server = serve(relaying(sink.via))
    id_ = _send(server, ["one@sink.test", "two@sink.test", "three@sink.test"])
    sink.wait_count(2)
    server.wait_empty()
    (notice,) = [message for message in sink.messages() if message.sender == ""]
    assert notice.recipients == ["a@source.test"]
    whole, (text, status, headers) = _parsed(notice)
    assert whole["Auto-Submitted"] == "auto-replied"
    assert "MAILER-DAEMON@mx.example.test" in whole["From"]
    for words in ("Nobody called one", "Not for two"):
        assert words in text.get_content()
        assert words in status.as_string()
    assert "three@sink.test" not in notice.content.decode()
    # Headers only: what stood in the mail is nobody's business but its recipients'.
    assert "Subject: to three" in headers.get_payload()
    assert b"body that stays here" not in notice.content
    # The books agree, and say what the notice is about.
    assert {row["recipient"] for row in server.wait_events(2, "bounced")} == {"one@sink.test", "two@sink.test"}
    (received,) = [row for row in server.events("received") if row["protocol"] == "bounce"]
    assert (received["about"], received["sender"], received["n_recipients"]) == (id_, "", 1)


def test_null_sender_gets_no_notice(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="rcpt", match="", reply="550 5.1.1 Nobody"))
    server = serve(relaying(sink.via))
    _send(server, ["one@sink.test"], sender="")
    server.wait_events(1, "bounced")
    # Nor does a notice that bounces itself.
    _send(server, ["two@sink.test"], sender="a@source.test")
    server.wait_events(3, "bounced")
    server.wait_empty()
    assert len(server.events("bounced")) == 3
    assert [row["protocol"] for row in server.events("received")].count("bounce") == 1
    assert sink.count() == 0


def test_expired_mail_is_told_with_the_last_words_of_the_peer(sink: Sink, serve: Serve) -> None:
    sink.rule(Rule(stage="rcpt", match="@full.test", reply="452 4.2.2 Mailbox is full today"))
    server = serve(relaying(sink.via, retry={"first_s": 0.5, "max_s": 0.5, "give_up_s": 3}))
    _send(server, ["one@full.test", "two@full.test"])
    sink.wait_count(1, 15)
    (notice,) = sink.messages()
    _, (text, status, _) = _parsed(notice)
    assert "Mailbox is full today" in text.get_content()
    assert status.as_string().count("Status: 4.4.7") == 2
    rows = server.wait_events(2, "expired")
    assert all(3.0 <= row["queued_s"] < 5.0 and row["attempts"] >= 3 for row in rows)
    assert all((row["code"], row["enhanced"]) == (452, "4.2.2") for row in rows)
    server.wait_empty()


def test_operator_sends_mail_back_that_waits_and_mail_that_is_on_its_way(sink: Sink, serve: Serve) -> None:
    sink.rule(
        Rule(stage="rcpt", match="@later.test", reply="451 4.2.0 Later"),
        Rule(stage="rcpt", match="@slow.test", delay_s=1.5, reply="451 4.2.0 Later"),
    )
    server = serve(relaying(sink.via, retry={"first_s": 600}))
    waiting = _send(server, ["w@later.test"])
    server.wait_events(1, "deferred")
    leased = _send(server, ["l@slow.test"])
    done = server.run("queue", "bounce", waiting, leased, "--json")
    assert done.stdout == '{"matched":2,"changed":2}\n'
    sink.wait_count(2)
    server.wait_empty()
    told = {row["id"]: (row["code"], row["enhanced"], row["reason"]) for row in server.wait_events(2, "bounced")}
    assert told == dict.fromkeys((waiting, leased), (554, "5.7.1", "sent back by the operator"))
    assert all(message.recipients == ["a@source.test"] for message in sink.messages())
    # Twice is once.
    assert server.run("queue", "bounce", waiting).returncode == 1
