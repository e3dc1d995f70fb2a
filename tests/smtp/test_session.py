"""What a Session tells its driver, holds, and limits; the words of its replies are in the dialogs."""

from collections.abc import Callable, Iterable

import pytest

from mta.config import Limits
from mta.message import Address
from mta.reply import REPLY_250_OK, Reply
from mta.smtp import (
    NULL_PATH,
    REPLY_354_GO_AHEAD,
    REPLY_421_TIMEOUT,
    Chunk,
    Data,
    Hello,
    Mail,
    Message,
    Pause,
    Quit,
    Rcpt,
    Refused,
    Session,
    State,
)
from tests.smtp.driver import CUTS, Driver, codes, lines

REPLY_421 = Reply(421, "4.3.2", "Shutting down")
ENVELOPE = lines("MAIL FROM:<a@b.c>", "RCPT TO:<x@y.z>", "DATA")


def greeted(limits: Limits | None = None) -> Session:
    session = Session("mx.example.test", limits or Limits(), 1000)
    session.greet()
    session.output()
    return session


def test_session_events_carry_what_the_client_said() -> None:
    session = greeted()
    session.receive(
        lines("EHLO Client.Example", "MAIL FROM:<> SIZE=7 BODY=8BITMIME SMTPUTF8", "RCPT TO:<X@Y.z>", "DATA")
    )
    assert session.next_event() == Hello("Client.Example", True)
    session.answer(REPLY_250_OK)
    assert session.next_event() == Mail(NULL_PATH, 7, True, True)
    assert session.sender is None
    session.answer(REPLY_250_OK)
    assert session.sender is not None
    assert session.next_event() == Rcpt(Address("X", "y.z", "X@Y.z"))
    session.answer(REPLY_250_OK, Address("other", "y.z", "other@y.z"))
    assert session.next_event() == Data()
    session.answer(REPLY_354_GO_AHEAD)
    assert session.next_event() is Pause.NEED_DATA
    session.receive("grün\r\n.\r\n".encode())
    assert session.next_event() == Chunk("grün\r\n".encode())
    assert session.next_event() == Message(7, False, True)
    assert session.next_event() is Pause.VERDICT
    assert (session.helo, session.esmtp, session.protocol) == ("Client.Example", True, "UTF8SMTP")
    assert session.sender is NULL_PATH
    assert [recipient.text for recipient in session.recipients] == ["other@y.z"]
    assert session.body_8bit
    session.answer(REPLY_250_OK)
    assert (session.sender, session.recipients, session.utf8, session.body_8bit) == (None, [], False, False)
    assert (session.n_messages, session.state, session.protocol) == (1, State.READY, "ESMTP")


def test_session_verdict_pending_reads_no_further() -> None:
    session = greeted()
    session.receive(lines("HELO a", "NOOP"))
    session.next_event()
    assert session.next_event() is Pause.VERDICT
    assert session.output() == b""
    assert session.n_buffered == 6
    session.receive(b"NO")
    assert session.n_buffered == 8
    session.answer(REPLY_250_OK)
    assert session.next_event() is Pause.NEED_DATA
    assert codes(session.output()) == [250, 250]
    assert session.n_buffered == 2


def test_session_nothing_is_read_before_the_greeting() -> None:
    session = Session("mx.example.test", Limits(), 1000)
    session.receive(lines("HELO a"))
    assert session.next_event() is Pause.VERDICT
    session.greet()
    assert session.next_event() == Hello("a", False)


def test_session_refused_greeting_is_the_end() -> None:
    session = Session("mx.example.test", Limits(), 1000)
    session.greet(Reply(554, "5.7.1", "Not you"))
    assert session.output() == b"554 5.7.1 Not you\r\n"
    session.receive(lines("HELO a"))
    assert session.next_event() == Quit("refused")
    assert session.next_event() is Pause.NEED_DATA
    assert session.output() == b""


def test_session_answer_nothing_asked_is_a_bug() -> None:
    session = greeted()
    with pytest.raises(RuntimeError):
        session.answer(REPLY_250_OK)


def test_session_answer_after_the_end_is_dropped() -> None:
    session = greeted()
    session.receive(lines("HELO a"))
    session.next_event()
    session.end(REPLY_421_TIMEOUT, "timeout")
    session.answer(REPLY_250_OK)
    assert session.next_event() == Quit("timeout")
    assert session.output() == b"421 4.4.2 Nothing heard for too long, closing the connection\r\n"


def test_session_timeout_is_longer_or_shorter_inside_data() -> None:
    session = greeted(Limits(command_timeout_s=7, data_timeout_s=9))
    assert session.timeout_s == 7
    session.receive(lines("HELO a") + ENVELOPE)
    for reply in (REPLY_250_OK, REPLY_250_OK, REPLY_250_OK, REPLY_354_GO_AHEAD):
        session.next_event()
        session.answer(reply)
    assert session.timeout_s == 9


def test_session_refused_hello_leaves_everything_as_it_was() -> None:
    session = greeted()
    session.receive(lines("HELO a", "MAIL FROM:<a@b.c>", "EHLO b"))
    for reply in (REPLY_250_OK, REPLY_250_OK, Reply(550, "5.7.1", "No")):
        session.next_event()
        session.answer(reply)
    assert (session.state, session.helo, session.esmtp, session.sender is None) == (State.MAIL, "a", False, False)


def test_session_refused_is_told_with_stage_and_escaped_argument() -> None:
    driver = Driver()
    driver.feed(b"HELO a\r\nMAIL FROM:<\x1b[2J\xff>\r\nRCPT TO:<x>\r\nNONE\r\n")
    refused = [event for event in driver.told if isinstance(event, Refused)]
    assert [(event.stage, event.reply.code, event.argument) for event in refused] == [
        ("mail", 501, "FROM:<?[2J?>"),
        ("rcpt", 503, "TO:<x>"),
    ]


def test_session_refused_message_ends_chunks_and_keeps_the_envelope_until_told() -> None:
    session = greeted()
    session.receive(lines("HELO a") + ENVELOPE)
    for reply in (REPLY_250_OK, REPLY_250_OK, REPLY_250_OK, REPLY_354_GO_AHEAD):
        session.next_event()
        session.answer(reply)
    session.receive(b"x" * 900)
    assert session.next_event() == Chunk(b"x" * 900)
    session.receive(b"x" * 900)
    assert session.next_event() is Pause.NEED_DATA
    session.receive(b"\r\n.\r\n")
    refused = session.next_event()
    assert isinstance(refused, Refused)
    assert (refused.stage, refused.reply.code) == ("message", 552)
    assert session.sender is not None
    assert len(session.recipients) == 1
    assert session.next_event() is Pause.NEED_DATA
    assert session.sender is None
    assert session.state is State.READY


def test_session_normalize_passes_bare_line_ends_on() -> None:
    driver = Driver(Limits(bare_newline="normalize"))
    replies = driver.feed(lines("HELO a") + ENVELOPE + b"one\ntwo\rthree\r\n.\r\n")
    assert codes(replies)[-1] == 250
    assert Message(15, True, False) in driver.told
    assert driver.mails[0][2] == b"one\ntwo\rthree\r\n"


def test_session_many_errors_are_slowed_down_and_then_ended() -> None:
    driver = Driver(Limits(soft_errors=2, hard_errors=4))
    driver.feed(lines("HELO a", "X"))
    assert driver.n_delays == 0
    driver.feed(lines("X", "NOOP"))
    assert driver.n_delays == 1
    assert codes(driver.feed(lines("X", "X", "NOOP"))) == [500, 500, 421]
    assert driver.n_delays == 3
    assert driver.reason == "errors"
    assert driver.feed(lines("NOOP")) == b""


def test_session_delay_holds_until_resumed() -> None:
    session = greeted(Limits(soft_errors=1))
    session.receive(lines("MAIL FROM:<a@b.c>", "NOOP"))
    assert isinstance(session.next_event(), Refused)
    assert session.next_event() is Pause.DELAY
    assert session.next_event() is Pause.DELAY
    session.resume()
    assert session.next_event() is Pause.NEED_DATA
    assert codes(session.output()) == [503, 250]


def test_session_server_trouble_is_no_error_of_the_client() -> None:
    driver = Driver(Limits(recipients=0))
    driver.feed(lines("HELO a", "MAIL FROM:<a@b.c>", *["RCPT TO:<x@later.test>"] * 50))
    assert driver.session.n_errors == 0
    assert driver.reason == ""


def test_session_accepted_message_clears_the_errors() -> None:
    driver = Driver()
    driver.feed(lines("HELO a", "X", "X"))
    assert driver.session.n_errors == 2
    driver.feed(ENVELOPE + b".\r\n")
    assert driver.session.n_errors == 0


def test_session_shutdown_idle_quits_at_once() -> None:
    driver = Driver()
    driver.feed(lines("HELO a"))
    driver.session.shutdown(REPLY_421)
    assert driver.feed(b"") == b"421 4.3.2 Shutting down\r\n"
    assert driver.reason == "shutdown"


def test_session_shutdown_waits_for_the_end_of_the_transaction() -> None:
    driver = Driver()
    driver.feed(lines("HELO a", "MAIL FROM:<a@b.c>"))
    driver.session.shutdown(REPLY_421)
    assert codes(driver.feed(lines("RCPT TO:<x@y.z>", "DATA") + b"hi\r\n")) == [250, 354]
    assert codes(driver.feed(b".\r\nMAIL FROM:<b@b.c>\r\n")) == [250, 421]
    assert (driver.reason, len(driver.mails)) == ("shutdown", 1)


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        # 2,048 octets with the line end are one command, one more is none; what is beyond is not kept.
        (2048, [250, 250]),
        (2049, [500, 250]),
        (2050, [500, 250]),
        (5000, [500, 250]),
    ],
)
def test_session_command_line_at_the_limit(
    size: int, wanted: list[int], cut: Callable[[bytes], Iterable[bytes]]
) -> None:
    driver = Driver()
    line = b"NOOP " + b"x" * (size - 7) + b"\r\n"
    assert codes(driver.feed(*cut(line + b"NOOP\r\n"))) == wanted
    assert driver.session.n_errors == wanted.count(500)


def test_session_endless_line_is_not_kept() -> None:
    driver = Driver()
    for _ in range(10):
        assert driver.feed(b"x" * 3000) == b""
        assert driver.session.n_buffered == 0
    assert driver.feed(b"\r\n") == b"500 5.5.2 Command line too long\r\n"


def test_session_recipients_of_an_earlier_transaction_may_be_kept() -> None:
    driver = Driver()
    driver.feed(lines("HELO a", "MAIL FROM:<a@b.c>", "RCPT TO:<x@y.z>"))
    kept = driver.session.recipients
    driver.feed(lines("RSET", "MAIL FROM:<a@b.c>", "RCPT TO:<other@y.z>"))
    assert [recipient.text for recipient in kept] == ["x@y.z"]


def test_session_limits_that_are_replaced_hold_from_then_on() -> None:
    session = greeted(Limits(hard_errors=5))
    session.receive(lines("XYZZY", "XYZZY"))
    assert session.next_event() is Pause.NEED_DATA
    session.limits = Limits(hard_errors=1, command_timeout_s=10)
    assert session.timeout_s == 10
    session.receive(lines("XYZZY"))
    assert session.next_event() == Quit("errors")
    assert session.n_errors_ever == 3
