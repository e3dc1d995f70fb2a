"""Clients as people have them, unchanged: what they send arrives as it was, what is refused is shown to the user."""

import asyncio
import email.policy
import smtplib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from bench.wait import wait_until
from tests.harness import require_tool, run_async
from tests.harness.house import MESSAGE_OCTETS, House

Client = Callable[..., str]
Refusal = tuple[tuple[str, int], str, bytes, str]
"""(address, recipient, mail, what the client must show)."""

CLIENT = "client.test"
BODY = "Größe\n.\n..\n.dots\n\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 70 * 100 + b"\r\n" + b"y\r\n" * (MESSAGE_OCTETS // 3)

# What everybody is refused; the address is inside or outside.
REFUSALS = {
    "no such mailbox": ("inside", "nobody@here.test", b"Subject: x\r\n\r\nx\r\n", "550 5.1.1"),
    "relaying denied": ("outside", "any@else.test", b"Subject: x\r\n\r\nx\r\n", "554 5.7.1"),
    "too large": ("inside", "any@else.test", LARGE, "552 5.3.4"),
}


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House() as house:
        yield house
        # Of what was refused nothing was taken: it would have gone somewhere.
        house.server.wait_empty()
        went = {row["recipient"] for row in house.server.events("delivered", "bounced", "deferred")}
        assert went.isdisjoint(recipient for _, recipient, _, _ in REFUSALS.values())


@pytest.fixture(params=REFUSALS)
def refusal(request: pytest.FixtureRequest, house: House) -> Refusal:
    where, recipient, mail, words = REFUSALS[request.param]
    return getattr(house, where), recipient, mail, words


def run(command: Sequence[str | Path], stdin: bytes = b"", expected: int | None = 0) -> str:
    """Run a client; return all it said. `expected` None: it has to fail, in whatever way."""
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == expected if expected is not None else done.returncode != 0, said
    return said


def letter(to: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = f"ann@{CLIENT}", to, "Größe"
    mail.set_content(BODY)
    mail.add_attachment(bytes(range(256)) * 100, maintype="application", subtype="octet-stream", filename="octets")
    mail.set_boundary("=_always_the_same")
    return mail


# swaks

PLAIN = ("--body", "from swaks\n.\nlast")
STRANGER = ("--local-interface", "127.0.0.9")


def swaks(address: tuple[str, int], *words: str, expected: int | None = 0) -> str:
    program = require_tool("swaks", "swaks")
    common = ("--server", address[0], "--port", str(address[1]), "--helo", CLIENT, "--from", f"ann@{CLIENT}")
    return run([program, *common, *words], expected=expected)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("esmtp", ("--protocol", "ESMTP")),
        ("helo", ("--protocol", "SMTP")),
        ("pipelined", ("--pipeline",)),
        ("null-sender", ("--from", "<>")),
    ],
)
def test_swaks_mail_arrives(house: House, name: str, words: Sequence[str]) -> None:
    recipients = [f"{name}{number}@swaks.test" for number in range(3)]
    said = swaks(house.inside, *PLAIN, *words, "--to", ",".join(recipients))
    assert "250 2.0.0 Ok: queued as " in said
    messages = house.sunk(*recipients)
    assert messages[0] == messages[-1]
    assert messages[0].sender == ("" if name == "null-sender" else f"ann@{CLIENT}")
    assert messages[0].content.endswith(b"\r\n\r\nfrom swaks\r\n.\r\nlast\r\n\r\n\r\n")
    protocol = b"with SMTP" if name == "helo" else b"with ESMTP"
    assert protocol in messages[0].content.partition(b"Date:")[0]


def test_swaks_attachments_arrive(house: House, tmp_path: Path) -> None:
    (tmp_path / "octets").write_bytes(bytes(range(256)) * 400)
    swaks(house.inside, *PLAIN, "--attach", f"@{tmp_path}/octets", "--to", "attached@swaks.test")
    (message,) = house.sunk("attached@swaks.test")
    assert len(message.content) > 400 * 256 * 4 / 3


def test_swaks_local_mail_of_a_stranger_arrives(house: House) -> None:
    swaks(house.inside, *STRANGER, *PLAIN, "--to", "ann@here.test")
    wait_until(lambda: any(house.directory.glob("ann/new/*")), "a mail in the Maildir")


def test_swaks_some_recipients_are_refused_and_the_rest_served(house: House) -> None:
    said = swaks(house.inside, *PLAIN, "--pipeline", "--to", "nobody@here.test,some@swaks.test")
    assert "550 5.1.1" in said
    house.sunk("some@swaks.test")


def test_swaks_shows_refusals(house: House, refusal: Refusal, tmp_path: Path) -> None:
    address, recipient, mail, words = refusal
    (tmp_path / "mail").write_bytes(mail)
    # Without a Perl module that it only recommends it has no IPv6.
    whence = STRANGER if address == house.outside else ()
    said = swaks(house.inside, *whence, "--data", f"@{tmp_path}/mail", "--to", recipient, expected=None)
    assert f"<** {words}" in said


# smtplib


def test_smtplib_message_arrives(house: House) -> None:
    with smtplib.SMTP(*house.inside, timeout=20) as client:
        assert client.send_message(letter("a@smtplib.test, b@smtplib.test")) == {}
        # The connection goes on.
        assert client.send_message(letter("c@smtplib.test")) == {}
    for message in house.sunk("a@smtplib.test", "b@smtplib.test", "c@smtplib.test"):
        assert message.content.endswith(body_of(letter("")))


def body_of(mail: EmailMessage) -> bytes:
    """Return a message's body as it is sent: the fields before it clients write as they like."""
    return mail.as_bytes(policy=email.policy.SMTP).partition(b"\r\n\r\n")[2]


def test_smtplib_utf8_addresses_and_8bit_bodies_arrive(house: House) -> None:
    mail = b"From: a\r\nSubject: x\r\n\r\n" + bytes(range(128, 256)) + b"\r\n"
    with smtplib.SMTP(*house.inside, timeout=20) as client:
        client.ehlo()
        assert {"pipelining", "size", "8bitmime", "smtputf8", "enhancedstatuscodes"} <= client.esmtp_features.keys()
        assert client.sendmail("jürgen@client.test", ["größe@smtplib.test"], mail, ["SMTPUTF8", "BODY=8BITMIME"]) == {}
    (message,) = house.sunk("größe@smtplib.test")
    assert message.content.endswith(b"\r\n" + mail)
    assert message.sender == "jürgen@client.test"
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(message.params.split())


def test_smtplib_what_we_do_not_offer_is_refused(house: House) -> None:
    mail = "Subject: x\r\n\r\nx\r\n"
    with smtplib.SMTP(*house.inside, timeout=20) as client:
        with pytest.raises(smtplib.SMTPSenderRefused) as sender:
            client.sendmail("a@client.test", ["dsn@smtplib.test"], mail, ["RET=HDRS"])
        assert sender.value.smtp_code == 555
        with pytest.raises(smtplib.SMTPRecipientsRefused) as recipients:
            client.sendmail("a@client.test", ["dsn@smtplib.test"], mail, rcpt_options=["NOTIFY=NEVER"])
        assert recipients.value.recipients["dsn@smtplib.test"][0] == 555
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.starttls()
        with pytest.raises(smtplib.SMTPNotSupportedError):
            client.login("ann", "secret")
        assert client.verify("ann@here.test")[0] == 252
        assert client.docmd("EXPN", "list")[0] == 502


def test_smtplib_shows_refusals(refusal: Refusal) -> None:
    address, recipient, mail, words = refusal
    with smtplib.SMTP(*address, timeout=20) as client, pytest.raises(smtplib.SMTPException) as caught:
        client.sendmail(f"ann@{CLIENT}", [recipient], mail)
    error = caught.value
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        said = error.recipients[recipient]
    else:
        assert isinstance(error, smtplib.SMTPResponseException)
        assert isinstance(error.smtp_error, bytes)
        said = error.smtp_code, error.smtp_error
    assert f"{said[0]} {said[1].decode()}".startswith(words)


# aiosmtplib


def test_aiosmtplib_many_messages_at_once_arrive(house: House) -> None:
    host, port = house.inside
    recipients = [f"größe{number}@aiosmtplib.test" for number in range(20)]

    async def scenario() -> None:
        sends = [aiosmtplib.send(letter(to), hostname=host, port=port, timeout=20) for to in recipients]
        for refused, words in await asyncio.gather(*sends):
            assert refused == {}
            assert "queued as" in words

    run_async(scenario())
    for message, recipient in zip(house.sunk(*recipients), recipients, strict=True):
        assert message.recipients == [recipient]
        assert "SMTPUTF8" in message.params
        assert message.content.endswith(body_of(letter("")))


def test_aiosmtplib_shows_refusals(refusal: Refusal) -> None:
    (host, port), recipient, mail, words = refusal

    async def scenario() -> None:
        async with aiosmtplib.SMTP(hostname=host, port=port, timeout=20) as client:
            await client.sendmail(f"ann@{CLIENT}", [recipient], mail)

    with pytest.raises(aiosmtplib.SMTPException) as caught:
        run_async(scenario())
    error = caught.value
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        (error,) = error.recipients
    assert isinstance(error, aiosmtplib.SMTPResponseException)
    assert f"{error.code} {error.message}".startswith(words)


# msmtp and curl take a mail from a file.

MAIL = b"From: ann@client.test\r\nSubject: x\r\n\r\n" + BODY.encode().replace(b"\n", b"\r\n")


def msmtp(address: tuple[str, int], mail: bytes, *recipients: str, expected: int | None = 0) -> str:
    host, port = address
    words = ["--file=/dev/null", f"--host={host}", f"--port={port}", f"--domain={CLIENT}", "--tls=off", "--auth=off"]
    command = [require_tool("msmtp", "msmtp"), *words, f"--from=ann@{CLIENT}", "--", *recipients]
    return run(command, mail.replace(b"\r\n", b"\n"), expected)


def curl(address: tuple[str, int], mail: bytes, *recipients: str, expected: int | None = 0) -> str:
    host, port = address
    url = f"smtp://[{host}]:{port}/{CLIENT}" if ":" in host else f"smtp://{host}:{port}/{CLIENT}"
    to = [word for recipient in recipients for word in ("--mail-rcpt", recipient)]
    command = [require_tool("curl", "curl"), "-sSv", url, "--mail-from", f"ann@{CLIENT}", *to, "--upload-file", "-"]
    return run(command, mail, expected)


@pytest.mark.parametrize("client", [msmtp, curl])
def test_command_line_mail_arrives(house: House, client: Client) -> None:
    recipients = [f"{client.__name__}{number}@cli.test" for number in range(3)]
    client(house.inside, MAIL, *recipients)
    messages = house.sunk(*recipients)
    for message in messages:
        assert message.content.endswith(b"\r\n" + MAIL)
        assert message.content.count(b"Received:") == 1
        assert message.sender == f"ann@{CLIENT}"


@pytest.mark.parametrize("client", [msmtp, curl])
def test_command_line_shows_refusals(client: Client, refusal: Refusal) -> None:
    address, recipient, mail, words = refusal
    assert words in client(address, mail, recipient, expected=None)


def test_curl_utf8_address_arrives(house: House) -> None:
    curl(house.inside, MAIL, "größe@curl.test")
    (message,) = house.sunk("größe@curl.test")
    assert message.content.endswith(b"\r\n" + MAIL)
    assert "SMTPUTF8" in message.params
