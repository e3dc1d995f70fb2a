"""States of the server side of one SMTP connection. RFC 5321 s4.1.4.

Rule 1: which command may come when, and where it leads, is in this file; session.py only looks it up.
Rule 2: nothing here knows about sockets, policy or clocks; `wait` says which time-out the transport applies.

A command is first *legal* (this table), then *well formed* (address, params), then *allowed* (the driver's answer).
Only a command that was accepted moves the state: a refused RCPT, DATA or EHLO leaves everything as it was.

    START --EHLO--> READY --MAIL--> MAIL --RCPT--> RCPT --DATA--> DATA --end of data, answered--> READY
                      ^               |              |
                      +--RSET, EHLO---+--------------+

RFC 2920 s3.1 wants EHLO, DATA, VRFY, NOOP and QUIT last in a pipelined group. Nothing here depends on it: whatever
follows in the buffer is looked at when the verdict on the command before it has been given.
"""

import enum
from typing import Literal

import msgspec

from mta.reply import Reply
from mta.smtp.replies import (
    REPLY_503_HELLO_FIRST,
    REPLY_503_MAIL_FIRST,
    REPLY_503_MAIL_OPEN,
    REPLY_554_NO_RECIPIENTS,
)

__all__ = ["ROWS", "Row", "State", "Verb", "explain"]


class Verb(enum.IntEnum):
    """The verbs we offer; a value is the verb's place in `mta._fast.VERBS`. The others there are answered 502 5.5.1."""

    EHLO = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    RSET = 5
    NOOP = 6
    VRFY = 7
    HELP = 8
    QUIT = 9


class State(enum.IntEnum):
    """Where a connection stands between two commands."""

    START = 0
    """Greeted, no EHLO or HELO yet."""
    READY = 1
    """Between transactions."""
    MAIL = 2
    """A sender was accepted, no recipient yet."""
    RCPT = 3
    """At least one recipient was accepted."""
    DATA = 4
    """354 was given: everything up to the dot line is the message, then its verdict is awaited."""
    CLOSED = 5
    """The last reply was given; nothing more is read."""


class Row(msgspec.Struct, frozen=True):
    """What one state means."""

    wait: Literal["command", "data"]
    """Which of the limits `command_timeout_s` and `data_timeout_s` ends a silence. RFC 5321 s4.5.3.2.7."""
    moves: dict[int, State]
    """Where each verb leads once it was accepted; a verb that is absent is answered 503 5.5.1."""


# RFC 5321 s4.1.4: these may come at any time and change nothing, except that EHLO and HELO begin anew.
ANYWHERE = (Verb.NOOP, Verb.HELP, Verb.VRFY)
BEGIN: dict[int, State] = {Verb.EHLO: State.READY, Verb.HELO: State.READY, Verb.QUIT: State.CLOSED}


def _row(state: State, moves: dict[int, State]) -> Row:
    """Return the row of a state in which commands are read."""
    return Row("command", {**dict.fromkeys(ANYWHERE, state), **BEGIN, **moves})


ROWS: dict[State, Row] = {
    State.START: _row(State.START, {Verb.RSET: State.START}),
    State.READY: _row(State.READY, {Verb.RSET: State.READY, Verb.MAIL: State.MAIL}),
    State.MAIL: _row(State.MAIL, {Verb.RSET: State.READY, Verb.RCPT: State.RCPT}),
    State.RCPT: _row(State.RCPT, {Verb.RSET: State.READY, Verb.RCPT: State.RCPT, Verb.DATA: State.DATA}),
    # No command is read here; the end of data leads to READY, whatever its verdict.
    State.DATA: Row("data", {}),
    State.CLOSED: Row("command", {}),
}


def explain(state: State, code: int) -> Reply:
    """Return the reply to a verb that is not among the moves of `state`."""
    if state is State.START:
        return REPLY_503_HELLO_FIRST
    if state is State.READY:
        return REPLY_503_MAIL_FIRST
    # RFC 5321 s3.3: DATA when every RCPT was refused is answered 554; without any RCPT it may be.
    return REPLY_554_NO_RECIPIENTS if code == Verb.DATA else REPLY_503_MAIL_OPEN
