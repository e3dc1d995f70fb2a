"""Parameters of MAIL and RCPT."""

import pytest

from mta.reply import Reply
from mta.smtp.params import MailParams, mail_params, parse_mail_params, parse_rcpt_params


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("", MailParams()),
        ("SIZE=0", MailParams(0)),
        ("size=00012 ", MailParams(12)),
        ("SIZE=99999999999999999999", MailParams(99_999_999_999_999_999_999)),
        ("BODY=7BIT", MailParams()),
        ("body=8bitMIME  SIZE=5 smtputf8", MailParams(5, True, True)),
    ],
)
def test_parse_mail_params_offered_are_understood(text: str, params: MailParams) -> None:
    assert parse_mail_params(text) == params


@pytest.mark.parametrize(
    ("text", "code"),
    [
        # Bad values.
        ("SIZE", 501),
        ("SIZE=", 501),
        ("SIZE=-1", 501),
        ("SIZE=1x", 501),
        ("SIZE=\u0661", 501),
        ("SIZE=999999999999999999999", 501),
        ("BODY", 501),
        ("BODY=9BIT", 501),
        ("SMTPUTF8=YES", 501),
        # Given twice.
        ("SIZE=1 SIZE=1", 501),
        ("SMTPUTF8 smtputf8", 501),
        # No parameters at all.
        ("=", 501),
        ("-A=1", 501),
        ("A==1", 501),
        ("SIZE=1\tBODY=7BIT", 501),
        ("\x00", 501),
        # Not offered.
        ("AUTH=<>", 555),
        ("RET=FULL", 555),
        ("ENVID=1", 555),
        ("X", 555),
        ("SIZE=1 FROB", 555),
    ],
)
def test_parse_mail_params_others_are_refused(text: str, code: int) -> None:
    refusal = parse_mail_params(text)
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (code, "5.5.4")


@pytest.mark.parametrize(("text", "code"), [("NOTIFY=NEVER", 555), ("ORCPT=rfc822;a@b", 555), ("=x", 501)])
def test_parse_rcpt_params_none_is_offered(text: str, code: int) -> None:
    refusal = parse_rcpt_params(text)
    assert refusal is not None
    assert (refusal.code, refusal.enhanced) == (code, "5.5.4")


def test_parse_rcpt_params_no_parameters_are_fine() -> None:
    assert parse_rcpt_params("") is None


@pytest.mark.parametrize("utf8", [False, True])
@pytest.mark.parametrize("body_8bit", [False, True])
@pytest.mark.parametrize("size", [-1, 0, 1, 10**12])
def test_mail_params_are_read_as_they_were_written(size: int, body_8bit: bool, utf8: bool) -> None:
    text = mail_params(size, body_8bit=body_8bit, utf8=utf8)
    assert not text or text.startswith(" ")
    assert parse_mail_params(text.strip()) == MailParams(max(0, size), body_8bit, utf8)
