"""A small corpus of our own: one mail for each way in which mail is awkward, as it would lie in a file."""

__all__ = ["awkward_mails"]

HEADER = "From: a@source.test\nSubject: {}\n\n"


def awkward_mails() -> dict[str, bytes]:
    """Return mails by what is special about them, in the order of the dict; "bare CR" is the only kind refused."""
    text: dict[str, str] = {
        "plain": "Hello\n\nWorld\n",
        "no final line end": "the end",
        "blank lines at the end": "the end\n\n\n\n",
        "dots": ".\n..\n...\n.a\na.\n. \n\n.\n",
        "blanks at line ends": "a \nb\t\n \n\t\n",
        "quoted From lines": "From here\n>From there\n",
        # Longer than RFC 5322 allows, shorter than what limits.line_octets refuses.
        "long line": "x" * 60_000 + "\n" + "y" * 998 + "\n",
        # More than one frame can carry between worker and queue.
        "300 KB": "".join(f"line {number:06d} of a long mail\n" for number in range(10_500)),
        "looks like SMTP": "QUIT\nRSET\nMAIL FROM:<a@b.test>\n250 Ok\n",
        "line like a dot line": ".\t\n. \n",
    }
    mails = {name: (HEADER.format(name) + body).encode() for name, body in text.items()}
    header = HEADER.format("octets").encode()
    return mails | {
        "mbox From line": b"From a@source.test  Thu Aug 22 12:36:23 2002\n" + mails["plain"],
        "CRLF in the file": mails["dots"].replace(b"\n", b"\r\n"),
        "8-bit": header + bytes(octet for octet in range(128, 256)) + b"\n",
        "UTF-8": header + "Größe, 大きさ, размер\n".encode(),
        "NUL and controls": header + bytes(octet for octet in range(32) if octet not in b"\r\n") + b"\n",
        "empty": b"",
        "one blank line": b"\n",
        "no header": b"\nonly a body\n",
        "no body": b"Subject: no body\n",
        "begins with a blank": b" folded from nowhere\nSubject: x\n\nbody\n",
        "twenty Received": b"Received: from a.test by b.test; Mon, 1 Jan 2024 00:00:00 +0000\n" * 20 + mails["plain"],
        "bare CR": header + b"one\rtwo\r\r\nthree\n",
    }
