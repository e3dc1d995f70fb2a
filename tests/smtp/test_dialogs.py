"""The dialogs in the folder `dialogs`: what the client says and what it hears, word for word, however it was cut.

A line `C:` goes out with CRLF, `C|` exactly as it stands (\\r \\n \\x00 are escapes), `S:` is what must come back to
the `C` lines before it. `LIMITS:` and `MAX:` set the server up; `END:` is the reason of the end, `MAIL:` a message that
was accepted: sender, recipients, body.
"""

import codecs
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from mta.config import Limits
from tests.smtp.driver import CUTS, MAX_OCTETS, Driver, all_of, whole

DIALOGS = sorted((Path(__file__).parent / "dialogs").glob("*.txt"))


class Dialog:
    """One file, read."""

    def __init__(self, text: str) -> None:
        self.limits = Limits(soft_errors=1000)
        self.max_octets = MAX_OCTETS
        self.end = ""
        self.mails: list[tuple[str, tuple[str, ...], bytes]] = []
        self.greeting = b""
        self.groups: list[tuple[bytes, bytes]] = []
        sent, heard = b"", b""
        for line in [*text.splitlines(), "C:"]:
            word, rest = line[:2], line[3:]
            if word in ("C:", "C|"):
                if heard:
                    self.groups.append((sent, heard))
                    sent, heard = b"", b""
                sent += rest.encode() + b"\r\n" if word == "C:" else _unescape(rest)
            elif word == "S:":
                heard += rest.encode() + b"\r\n"
            elif line.startswith("LIMITS: "):
                pairs = (pair.split("=") for pair in line.split()[1:])
                self.limits = msgspec.structs.replace(self.limits, **{key: int(value) for key, value in pairs})
            elif line.startswith("MAX: "):
                self.max_octets = int(line[5:])
            elif line.startswith("END: "):
                self.end = line[5:]
            elif line.startswith("MAIL: "):
                sender, recipients, *body = line[6:].split(" ", 2)
                self.mails.append((sender, tuple(recipients.split(",")), _unescape("".join(body))))
            elif line and not line.startswith("#"):
                raise ValueError(f"cannot read {line!r}")
        # What the server says first answers nothing.
        self.greeting = self.groups.pop(0)[1]


def _unescape(text: str) -> bytes:
    return codecs.escape_decode(text.encode())[0]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
def test_session_dialog_any_cut_gives_same_replies(path: Path, cut: Callable[[bytes], Iterable[bytes]]) -> None:
    dialog = Dialog(path.read_text())
    driver = Driver(dialog.limits, dialog.max_octets)
    assert driver.sent == dialog.greeting
    for sent, heard in dialog.groups:
        assert driver.feed(*cut(sent)).decode() == heard.decode()
    assert driver.reason == dialog.end
    assert driver.mails == dialog.mails


@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
def test_session_dialog_sent_at_once_gives_same_replies(path: Path) -> None:
    dialog = Dialog(path.read_text())
    driver = Driver(dialog.limits, dialog.max_octets)
    everything = all_of(sent for sent, _ in dialog.groups)
    assert driver.feed(*whole(everything)).decode() == all_of(heard for _, heard in dialog.groups).decode()
    assert driver.mails == dialog.mails
