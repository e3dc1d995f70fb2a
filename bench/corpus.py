"""Read the mails of a corpus, and say what a server should make of them: slow and plain, to judge by.

A folder is read with all folders and tars in it. If it holds files named *.eml, those are its mails; otherwise every
file is one, but for what accompanies a corpus (README, COPYING, *.md, *.json, names that begin with a dot...).
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["normalized", "prepare", "read_mails"]

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
NOT_MAILS = re.compile(r"(\.|README|COPYING|LICEN[CS]E|cmds$).*|.*\.(md|json|xml|py)", re.IGNORECASE)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.is_file():
                yield from _files(inner)
    elif path.name.endswith(TARS):
        with tarfile.open(path) as tar:
            for member in tar:
                if (file := tar.extractfile(member)) is not None:
                    yield f"{path}/{member.name}", file.read()
    else:
        yield str(path), path.read_bytes()


def read_mails(path: Path) -> list[bytes]:
    """Return the mails below `path`, as stored, in order of their names."""
    files = sorted(_files(path))
    emls = [(name, data) for name, data in files if name.endswith(".eml")]
    return [data for name, data in emls or files if emls or not NOT_MAILS.fullmatch(Path(name).name)]


def prepare(mail: bytes) -> bytes:
    """Return a stored mail as it can be sent: no leading mbox From line, CRLF for a LF alone, a line end at the end."""
    if mail.startswith(b"From "):
        mail = mail.partition(b"\n")[2]
    mail = re.sub(rb"(?<!\r)\n", b"\r\n", mail)
    return mail if not mail or mail.endswith(b"\r\n") else mail + b"\r\n"


def normalized(content: bytes) -> bytes:
    """Return what `limits.bare_newline = "normalize"` makes of `content`: a bare LF a CRLF, a bare CR a space."""
    made = {b"\r\n": b"\r\n", b"\n": b"\r\n", b"\r": b" "}
    return re.sub(rb"\r\n|\n|\r", lambda match: made[match.group()], content)
