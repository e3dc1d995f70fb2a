"""How far our reading of command lines agrees with a table of them: `python -m bench.smtp_proto PATH [--server H:P]`.

PATH is a JSON file (or a folder with `requests.json`): objects with `input`, one command line, and `ok`, whether its
authors accept it. Each line is said in a session of its own, after EHLO, and after MAIL if it is a RCPT; without
--server to a `Session` in this process. Lines whose verb or parameters we do not offer are left out.
Prints the share that agrees, then each line that does not, with our reply.
"""

import argparse
import json
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from mta.config import Limits
from mta.reply import REPLY_250_OK
from mta.smtp import Pause, Session

__all__ = ["Ask", "ask_server", "ask_session", "choose"]

Ask = Callable[[list[bytes]], list[tuple[int, str]]]
"""Says lines, each with its CRLF, one after the other in a new session; returns the (code, text) of each answer."""

OFFERED = {"EHLO", "HELO", "MAIL", "RCPT", "VRFY", "RSET", "NOOP", "HELP", "QUIT"}
PARAMETERS = {"MAIL": {"SIZE", "BODY", "SMTPUTF8"}}
WAIT_S = 10.0


class Line(msgspec.Struct, frozen=True):
    """One row of the table."""

    input: str
    ok: bool


def ask_session(said: list[bytes]) -> list[tuple[int, str]]:
    """Ask a session in this process that accepts whatever is well formed."""
    session = Session("mx.example.test", Limits(), 50_000_000)
    session.greet()
    session.output()
    heard = []
    for line in said:
        session.receive(line)
        while (event := session.next_event()) is not Pause.NEED_DATA:
            if event is Pause.VERDICT:
                session.answer(REPLY_250_OK)
            elif event is Pause.DELAY:
                session.resume()
        heard.append(_first_reply(session.output()))
    return heard


def ask_server(host: str, port: int) -> Ask:
    """Return what asks a server that listens there, over a new connection each time."""

    def ask(said: list[bytes]) -> list[tuple[int, str]]:
        heard = []
        with socket.create_connection((host, port), WAIT_S) as connection, connection.makefile("rb") as replies:
            _read_reply(replies.readline)
            for line in said:
                connection.sendall(line)
                heard.append(_first_reply(_read_reply(replies.readline)))
        return heard

    return ask


def choose(server: str) -> Ask:
    """Return what asks `server`, "host:port", or a session in this process for ""."""
    if not server:
        return ask_session
    host, _, port = server.rpartition(":")
    return ask_server(host, int(port))


def _read_reply(read_line: Callable[[], bytes]) -> bytes:
    rows = [read_line()]
    while rows[-1][3:4] == b"-":
        rows.append(read_line())
    return b"".join(rows)


def _first_reply(wire: bytes) -> tuple[int, str]:
    rows = [row for row in wire.decode("utf-8", "replace").split("\r\n") if row]
    last = next((row for row in rows if row[3:4] != "-"), "000 no reply")
    return int(last[:3]), last


def is_offered(line: str) -> bool:
    """True when EHLO offers everything the line uses: its verb, and the parameters behind its path."""
    verb = line.split(" ")[0].upper()
    words = line.partition("> ")[2].upper().split()
    # BODY=BINARYMIME belongs to an extension of its own. RFC 3030 s2.2.
    return (
        verb in OFFERED
        and "BODY=BINARYMIME" not in words
        and {word.partition("=")[0] for word in words} <= PARAMETERS.get(verb, set())
    )


def compare(lines: list[Line], ask: Ask) -> tuple[int, list[tuple[Line, str]]]:
    """Return how many of the lines that we offer agree, and those that do not with our reply."""
    agree, others = 0, []
    for line in filter(lambda line: is_offered(line.input), lines):
        said = [b"EHLO bench.example.test\r\n", line.input.encode() + b"\r\n"]
        if line.input.upper().startswith("RCPT"):
            said.insert(1, b"MAIL FROM:<bench@example.org>" + (b"" if line.input.isascii() else b" SMTPUTF8") + b"\r\n")
        code, text = ask(said)[-1]
        if (code < 400) == line.ok:
            agree += 1
        else:
            others.append((line, text))
    return agree, others


def main() -> None:
    """Read the arguments, compare, print."""
    parser = argparse.ArgumentParser(description="Compare command lines with a table.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--server", default="", help="host:port; without it a session in this process is asked")
    arguments = parser.parse_args()
    path = arguments.path / "requests.json" if arguments.path.is_dir() else arguments.path
    lines = msgspec.convert(json.loads(path.read_text()), list[Line])
    agree, others = compare(lines, choose(arguments.server))
    n_compared = agree + len(others)
    print(f"{agree} of {n_compared} agree ({agree / max(n_compared, 1):.1%}); {len(lines) - n_compared} not offered")
    for line, text in others:
        print(f"{line.input!r}: the table says {'yes' if line.ok else 'no'}, we say {text}")


if __name__ == "__main__":
    main()
