"""The same rows for people: ages and sizes that read well, nothing from outside unescaped."""

import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mta.reply import printable, visible

__all__ = ["print_count", "print_message", "print_messages", "size_text"]

SIZES = ("KB", "MB", "GB", "TB")
# A diagnostic may have 1,000 octets of the peer's words.
TEXT_CHARACTERS = 400
AGES = ((86_400, "d"), (3_600, "h"), (60, "m"))


def print_messages(rows: list[dict[str, Any]]) -> None:
    """Print two lines for each message: what it is, then from whom to whom and what was answered last."""
    console = Console(highlight=False)
    for row in rows:
        domains = row["domains"]
        to = domains[0] if len(domains) == 1 else _counted(len(domains), "domain")
        to += f" ({_counted(row['n_open'], 'recipient')})" if row["n_open"] > 1 else ""
        age, size = _age(_since(row["received_at"])), size_text(row["octets"])
        # A line is a line, however narrow the terminal: what stands in a pipe is searched and counted.
        when = _until(row)
        head = f"{row['id']}  [bold]{row['state']:<8}[/]  {age:>7} old  {size:>8}{f'  {when:>10}' if when else ''}"
        console.print(head, soft_wrap=True)
        answer = _answer(row["last"])
        said = f"  [dim]{_text(answer)}[/]" if answer else ""
        console.print(f"    {_text(row['sender'] or '<>')} to {_text(to)}{said}", soft_wrap=True)
    console.print(_counted(len(rows), "message"))


def print_message(row: dict[str, Any]) -> None:
    """Print one message and a table of its recipients."""
    console = Console()
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in (
        ("id", row["id"]),
        ("state", row["state"]),
        ("from", row["sender"] or "<>"),
        ("size", size_text(row["octets"])),
        ("received", f"{row['received_at']} ({_age(_since(row['received_at']))} ago)"),
        ("expires", _ending(row["expires_at"])),
        ("tenant", row["tenant"]),
        ("campaign", row.get("campaign", "")),
        ("recipients", f"{row['n_open']:,} open of {row['n_recipients']:,}"),
    ):
        if not value:
            continue
        facts.add_row(name, _text(value))
    console.print(facts)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("Recipient", "State", "Attempts", "Next try", "Last answer"):
        table.add_column(title, overflow="fold", justify="right" if title in ("Attempts", "Next try") else "left")
    for recipient in row["recipients"]:
        table.add_row(
            _text(recipient["address"]),
            recipient["state"],
            str(recipient["attempts"]),
            _until(recipient),
            _text(_answer(recipient["last"])),
        )
    console.print(table)


def print_count(totals: dict[str, int]) -> None:
    """Print the totals."""
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, number in totals.items():
        table.add_row(name, f"{number:,}")
    Console().print(table)


def _text(text: str) -> str:
    """Return text that came from outside fit for a terminal: nothing in it moves the cursor or turns the writing."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return escape(printable(text))
    return escape(visible(text[:TEXT_CHARACTERS]))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _ending(stamp: str) -> str:
    """Return a time that lies ahead with how far it is."""
    if not stamp:
        return ""
    left = -_since(stamp)
    return f"{stamp} (in {_age(left)})" if left > 0 else f"{stamp} ({_age(-left)} ago)"


def _since(stamp: str) -> float:
    """Return how many seconds ago an RFC 3339 time was."""
    return (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()


def _until(row: dict[str, Any]) -> str:
    if row["state"] == "active" or not row["next_at"]:
        return "now" if row["state"] == "active" else ""
    left = -_since(row["next_at"])
    # It may still have to wait: for its turn, or for a path that rests.
    return f"in {_age(left)}" if left > 0 else "due"


def _age(seconds: float) -> str:
    """Return a span in its largest unit and the one below it: 3d 4h, 5m, 12s."""
    left = max(0, round(seconds))
    for at, (unit_s, unit) in enumerate(AGES):
        if left >= unit_s:
            words = f"{left // unit_s}{unit}"
            below = left % unit_s // AGES[at + 1][0] if at + 1 < len(AGES) else 0
            return f"{words} {below}{AGES[at + 1][1]}" if below else words
    return f"{left}s"


def size_text(octets: int) -> str:
    """Return a size in the largest unit that leaves a digit before the point: 512 B, 4.1 KB."""
    if octets < 1000:
        return f"{octets} B"
    size = float(octets)
    for unit in SIZES:
        size /= 1000
        # 999.95 would be shown as 1000.0.
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size:,.1f} {SIZES[-1]}"


def _answer(last: dict[str, Any]) -> str:
    """Return the last outcome in one line: the code, then the peer's words or ours."""
    if not last["status"]:
        return ""
    words = last["diagnostic"] or last["reason"]
    enhanced = "" if words.startswith(last["enhanced"]) else last["enhanced"]
    return " ".join(filter(None, (str(last["code"]), enhanced, words)))
