"""Tables for people: nothing that came from outside can move the cursor, and what is shown reads well."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mta.cli.tables import print_message, print_messages, size_text

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


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        ({"seconds": 0}, "0s"),
        ({"seconds": 59.2}, "59s"),
        ({"seconds": 59.7}, "1m"),
        ({"minutes": 5, "seconds": 20}, "5m"),
        ({"hours": 2, "minutes": 3}, "2h 3m"),
        ({"days": 3, "hours": 4, "minutes": 50}, "3d 4h"),
        # Days and minutes beside each other say nothing.
        ({"days": 3, "minutes": 50}, "3d"),
    ],
)
def test_tables_ages_are_in_the_largest_unit_and_the_next(
    capsys: pytest.CaptureFixture[str], span: dict[str, float], shown: str
) -> None:
    print_messages([ROW | {"received_at": ago(**span)}])
    assert f" {shown} old " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (999_949, "999.9 KB"),
        # Never 1000.0 of anything.
        (999_950, "1.0 MB"),
        (52_428_800, "52.4 MB"),
        (1_099_511_627_776, "1.1 TB"),
        (10**16, "10,000.0 TB"),
    ],
)
def test_tables_sizes_have_a_digit_before_the_point(octets: int, shown: str) -> None:
    assert size_text(octets) == shown


def test_tables_message_without_a_next_time_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    row = ROW | {"state": "aside", "next_at": "", "sender": "", "last": LAST | {"status": ""}}
    print_messages([row])
    head, body, total = capsys.readouterr().out.splitlines()
    assert head.endswith("5 B")
    assert body == "    <> to a.test"
    assert total == "1 message"


def test_tables_a_message_is_two_lines_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    print_messages([ROW | {"sender": "s" * 200 + "@a.test", "domains": [], "n_open": 1200}] * 2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "0 domains (1,200 recipients)" in lines[1]
    assert lines[-1] == "2 messages"


def test_tables_addresses_beyond_ascii_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_messages([ROW | {"sender": "größe@a.test", "domains": ["例え.test\u202e"]}])
    assert "größe@a.test to 例え.test? " in capsys.readouterr().out


def test_tables_show_says_when_it_expires_and_leaves_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    later = (datetime.now(UTC) + timedelta(days=4, hours=23, minutes=30)).isoformat()
    print_message(ROW | {"expires_at": later, "campaign": ""})
    shown = capsys.readouterr().out
    assert "(in 4d 23h)" in shown
    assert "campaign" not in shown
    print_message(ROW | {"campaign": "news"})
    shown = capsys.readouterr().out
    assert "news" in shown
    assert "ago)" in shown
