"""The same rows for people: ages and sizes that read well, nothing from outside unescaped."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mta.reply import printable

__all__ = ["print_count", "print_message", "print_messages"]

SIZES = ("B", "KB", "MB", "GB")
AGES = ((86_400, "d"), (3_600, "h"), (60, "m"))


def print_messages(rows: list[dict[str, Any]]) -> None:
    """Print two lines for each message: what it is, then from whom to whom and what was answered last."""
    console = Console(highlight=False)
    for row in rows:
        domains = row["domains"]
        to = domains[0] if len(domains) == 1 else f"{len(domains)} domains"
        to += f" ({row['n_open']} recipients)" if row["n_open"] > 1 else ""
        age, size = _age(_since(row["received_at"])), _size(row["octets"])
        console.print(f"{row['id']}  [bold]{row['state']:<8}[/]  {age:>7} old  {size:>8}  {_until(row):>10}")
        console.print(f"    {_text(row['sender'] or '<>')} to {_text(to)}  [dim]{_text(_answer(row['last']))}[/]")
    console.print(f"{len(rows):,} message{'' if len(rows) == 1 else 's'}")


def print_message(row: dict[str, Any]) -> None:
    """Print one message and a table of its recipients."""
    console = Console()
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in (
        ("id", row["id"]),
        ("state", row["state"]),
        ("from", row["sender"] or "<>"),
        ("size", _size(row["octets"])),
        ("received", f"{row['received_at']} ({_age(_since(row['received_at']))} ago)"),
        ("expires", row["expires_at"]),
        ("tenant", row["tenant"]),
        ("recipients", f"{row['n_open']} open of {row['n_recipients']}"),
    ):
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
    """Return text that came from outside fit for a terminal."""
    return escape(printable(text))


def _since(stamp: str) -> float:
    """Return how many seconds ago an RFC 3339 time was."""
    return (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()


def _until(row: dict[str, Any]) -> str:
    if row["state"] == "active" or not row["next_at"]:
        return "now" if row["state"] == "active" else ""
    left = -_since(row["next_at"])
    return f"in {_age(left)}" if left > 0 else "now"


def _age(seconds: float) -> str:
    """Return a span in its two largest units: 3d 4h, 5m, 12s."""
    left = max(0, round(seconds))
    words: list[str] = []
    for unit_s, unit in AGES:
        if left >= unit_s:
            words.append(f"{left // unit_s}{unit}")
            left %= unit_s
        if len(words) == 2:
            break
    return " ".join(words) if words else f"{left}s"


def _size(octets: int) -> str:
    size = float(octets)
    for unit in SIZES[:-1]:
        if size < 1000:
            return f"{octets} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {SIZES[-1]}"


def _answer(last: dict[str, Any]) -> str:
    """Return the last outcome in one line: the code, then the peer's words or ours."""
    if not last["status"]:
        return ""
    words = last["diagnostic"] or last["reason"]
    enhanced = "" if words.startswith(last["enhanced"]) else last["enhanced"]
    return " ".join(filter(None, (str(last["code"]), enhanced, words)))
