"""Tables for people: nothing that came from outside can move the cursor."""

from typing import Any

import pytest

from mta.cli.tables import print_message, print_messages

HOSTILE = "a\x1b[2J\x9b31m\x7f[red]b"
LAST: dict[str, Any] = {
    "status": "deferred",
    "code": 451,
    "enhanced": "4.0.0",
    "reason": "r",
    "remote_mta": "",
    "diagnostic": HOSTILE,
    "at": "",
}
ROW: dict[str, Any] = {
    "id": "0" * 32,
    "state": "deferred",
    "sender": HOSTILE,
    "octets": 5,
    "received_at": "2024-01-01T00:00:00.000Z",
    "expires_at": "2024-01-01T00:00:00.000Z",
    "tenant": "default",
    "domains": ["a.test"],
    "n_recipients": 1,
    "n_open": 1,
    "attempts": 1,
    "next_at": "2024-01-01T00:00:00.000Z",
    "last": LAST,
    "recipients": [
        {"number": 0, "address": HOSTILE, "state": "deferred", "attempts": 1, "next_at": "", "last": LAST},
    ],
}


def test_tables_print_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    print_messages([ROW])
    print_message(ROW)
    shown = capsys.readouterr().out
    assert "?" in shown
    assert all(c.isprintable() or c == "\n" for c in shown)
