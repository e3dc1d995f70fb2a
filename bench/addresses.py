"""How far our address grammar agrees with a table of addresses: `python -m bench.addresses PATH [--server H:P]`.

PATH is an XML file (or a folder of them) in the form of the is_email test sets: `test` elements with `address` and
`category`, control characters written as U+2400 and their number. As seen from SMTP the categories VALID, DNSWARN and
RFC5321 must be accepted and all others refused; DEPREC is counted apart, for its quoted forms can be argued about.
Each address is said as `RCPT TO:<address>`, without --server to a `Session` in this process. Refused means 500, 501,
553 or 555: a relay or a mailbox that is denied has a well-formed address.
Prints the share that agrees, then each address that does not, with our reply.
"""

import argparse
import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from bench.smtp_proto import Ask, choose

ACCEPTED = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
ARGUABLE = {"ISEMAIL_DEPREC"}
SYNTAX_CODES = {500, 501, 553, 555}
PICTURES = re.compile("[\u2400-\u241f]")


class Row(msgspec.Struct, frozen=True):
    """One address of a table."""

    name: str
    address: str
    category: str
    diagnosis: str

    @property
    def is_well_formed(self) -> bool:
        """What the table says, as seen from SMTP."""
        return self.category in ACCEPTED


def read_rows(path: Path) -> list[Row]:
    """Return the addresses of a file, or of all files in a folder."""
    rows = []
    for file in sorted(path.glob("*.xml")) if path.is_dir() else [path]:
        for test in ElementTree.parse(file).getroot().iter("test"):
            address = PICTURES.sub(lambda found: chr(ord(found[0]) - 0x2400), test.findtext("address") or "")
            name = f"{file.name} {test.get('id')}"
            rows.append(Row(name, address, test.findtext("category") or "", test.findtext("diagnosis") or ""))
    return rows


def compare(rows: list[Row], ask: Ask) -> list[tuple[Row, str]]:
    """Return the rows that do not agree, with our reply."""
    others = []
    for row in rows:
        parameter = "" if row.address.isascii() else " SMTPUTF8"
        said = ["EHLO bench.example.test", f"MAIL FROM:<bench@example.org>{parameter}", f"RCPT TO:<{row.address}>"]
        code, text = ask([line.encode() + b"\r\n" for line in said])[-1]
        if (code not in SYNTAX_CODES) != row.is_well_formed:
            others.append((row, text))
    return others


def main() -> None:
    """Read the arguments, compare, print."""
    parser = argparse.ArgumentParser(description="Compare addresses with a table.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--server", default="", help="host:port; without it a session in this process is asked")
    arguments = parser.parse_args()
    rows = read_rows(arguments.path)
    others = compare(rows, choose(arguments.server))
    for title, arguable in (("clear", False), ("deprecated forms", True)):
        n_rows = sum((row.category in ARGUABLE) == arguable for row in rows)
        n_others = sum((row.category in ARGUABLE) == arguable for row, _ in others)
        print(f"{title}: {n_rows - n_others} of {n_rows} agree ({1 - n_others / max(n_rows, 1):.1%})")
    for row, text in others:
        print(f"{row.name} {row.address!r}: the table says {row.diagnosis}, we say {text}")


if __name__ == "__main__":
    main()
