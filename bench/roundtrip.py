"""Send every mail of a corpus through a private server, and compare what comes out, octet by octet.

    python -m bench.roundtrip PATH [-c 20] [--bare-newline reject|normalize] [--maildir] [--json]

PATH is a folder or a tar. Each mail goes to a recipient of its own, m000123@corpus.test; every second connection
pipelines. Relayed mail must be what was sent with one Received field on top; in a Maildir, Return-Path and Received
on top and LF line ends. Exits 1 unless nothing is missing, twice or changed, and every mail was accepted or refused.
"""

import argparse
import asyncio
import json
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

import msgspec
import uvloop

from bench.client import Client
from bench.corpus import normalized, prepare, read_mails
from bench.server import Server, StartFailed
from bench.sink import Message, Sink
from bench.wait import wait_until

__all__ = ["Report", "compare", "round_trip"]

DOMAIN = "corpus.test"
SENDER = "sender@roundtrip.test"
# The queue is given up as stuck when nothing has moved for this long.
STALL_S = 60.0
# RFC 5321 s4.4: "Received:" From-domain By-domain Opt-info [CFWS] ";" FWS date-time. Ours names the id, and stands on
# as many lines as it likes, all but the first beginning with a blank.
RECEIVED = re.compile(
    r"Received: from \S+\s+\([^()]*(?:\([^()]*\)[^()]*)*\)\s+by mx\.example\.test\s.*?"
    r"\bwith (?:UTF8)?E?SMTPS?A?\b.*?\s+id (?P<id>[0-9a-f]{32})\b.*?;\s+(?P<date>[^;]+?)\s*\Z",
    re.DOTALL,
)


class Report(msgspec.Struct):
    """What became of the corpus; numbers of mails."""

    mails: int
    accepted: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    """By code and enhanced code, "550 5.6.0"."""
    arrived: int = 0
    missing: int = 0
    twice: int = 0
    changed: int = 0

    @property
    def is_good(self) -> bool:
        """Whether every mail is accounted for and none was hurt."""
        is_complete = self.accepted + sum(self.refused.values()) == self.mails
        return is_complete and not (self.missing or self.twice or self.changed)


def recipient(number: int) -> str:
    """Return the address of mail `number`."""
    return f"m{number:06d}@{DOMAIN}"


def is_received(field: bytes, message_id: str) -> bool:
    """Tell whether `field`, with all its line ends, is exactly one well-formed Received field with this id."""
    line_end = "\r\n" if field.endswith(b"\r\n") else "\n"
    lines = field.decode("utf-8", "replace").split(line_end)
    # The last line end leaves an empty piece behind; every line but the first is folded, and none is blank.
    if lines.pop() != "" or any(line[:1] not in " \t" or not line.strip() for line in lines[1:]):
        return False
    match = RECEIVED.fullmatch("\n".join(lines))
    if match is None or match["id"] != message_id:
        return False
    try:
        date = parsedate_to_datetime(match["date"])
    except ValueError:
        return False
    return date.tzinfo is not None and abs(time.time() - date.timestamp()) < 86_400


def compare(content: bytes, sent: bytes, message_id: str, *, is_maildir: bool = False) -> bool:
    """Tell whether `content` is `sent` with what the server has to put on top, and nothing else."""
    if is_maildir:
        sent = sent.replace(b"\r\n", b"\n")
        mark = f"Return-Path: <{SENDER}>\n".encode()
        if not content.startswith(mark):
            return False
        content = content[len(mark) :]
    # Cut from the end, not at the end of the first field: a mail may begin with a blank, and would seem to go on it.
    if not content.endswith(sent):
        return False
    return is_received(content[: len(content) - len(sent)], message_id)


async def send_all(address: tuple[str, int], mails: Sequence[bytes], n_clients: int) -> tuple[dict[int, str], Report]:
    """Send every mail; return the ids of those taken by number, and the report so far."""
    report = Report(len(mails))
    refused: Counter[str] = Counter()
    ids: dict[int, str] = {}
    todo = iter(enumerate(mails))

    async def work(pipelined: bool) -> None:
        client = Client(*address)
        await client.connect()
        for number, mail in todo:
            params = "" if mail.isascii() else "BODY=8BITMIME"
            try:
                answer = await client.send(SENDER, [recipient(number)], mail, params=params, pipelined=pipelined)
            except (OSError, EOFError) as error:
                # Neither accepted nor refused: the report will not add up, which is what it is for.
                print(f"bench.roundtrip: {recipient(number)}: {error!r}", file=sys.stderr)
                await client.connect()
                continue
            if answer.code == 250:
                ids[number] = answer.queued_id
            else:
                refused[f"{answer.code} {answer.enhanced}".strip()] += 1
            if answer.code == 421:
                await client.connect()
        await client.close()

    async with asyncio.TaskGroup() as group:
        for number in range(n_clients):
            group.create_task(work(pipelined=number % 2 == 0))
    report.accepted = len(ids)
    report.refused = dict(sorted(refused.items()))
    return ids, report


def wait_settled(server: Server) -> None:
    """Wait until the queue is empty, or nothing has moved in it for a minute."""
    seen, seen_at = -1, time.monotonic()

    def is_settled() -> bool:
        nonlocal seen, seen_at
        left = server.n_queued()
        if left != seen:
            seen, seen_at = left, time.monotonic()
        return left == 0 or time.monotonic() - seen_at > STALL_S

    wait_until(is_settled, "an empty queue", timeout_s=3600, step_s=0.2)


def judge(
    arrived: dict[int, list[bytes]], ids: dict[int, str], expected: Sequence[bytes], report: Report, *, is_maildir: bool
) -> list[int]:
    """Compare what arrived with what was accepted, fill in the report; return the numbers of mails that changed."""
    changed = [
        number
        for number, contents in arrived.items()
        # A mail that was refused and came all the same is as wrong as one that was altered.
        if number not in ids
        or not all(compare(content, expected[number], ids[number], is_maildir=is_maildir) for content in contents)
    ]
    report.arrived = len(arrived)
    report.missing = len(ids.keys() - arrived.keys())
    report.twice = sum(len(contents) > 1 for contents in arrived.values())
    report.changed = len(changed)
    return sorted(changed)


def _from_sink(messages: Sequence[Message]) -> dict[int, list[bytes]]:
    arrived: dict[int, list[bytes]] = defaultdict(list)
    for message in messages:
        for address in message.recipients:
            arrived[int(address[1:7])].append(message.content)
    return arrived


def _from_maildirs(directory: Path) -> dict[int, list[bytes]]:
    arrived: dict[int, list[bytes]] = defaultdict(list)
    for file in directory.glob("*/new/*"):
        arrived[int(file.parts[-3][1:7])].append(file.read_bytes())
    return arrived


def round_trip(
    mails: Sequence[bytes], *, n_clients: int = 20, bare_newline: str = "reject", is_maildir: bool = False
) -> tuple[Report, list[int]]:
    """Send `mails`, ready to be sent, through a private server; return the report and the numbers of changed ones."""
    directory = Path(tempfile.mkdtemp(prefix="roundtrip-"))
    try:
        with Sink() as sink:
            config = {
                "limits": {"bare_newline": bare_newline},
                "retry": {"first_s": 1},
                "local": {
                    "domains": [DOMAIN] if is_maildir else [],
                    "maildir": f"{directory}/{{local}}",
                    "create": True,
                },
                "route": [{"match": "*", "via": sink.via}],
            }
            with Server(config) as server:
                ids, report = uvloop.run(send_all(server.address, mails, n_clients))
                wait_settled(server)
                arrived = _from_maildirs(directory) if is_maildir else _from_sink(sink.take())
        expected = [normalized(mail) for mail in mails] if bare_newline == "normalize" else mails
        return report, judge(arrived, ids, expected, report, is_maildir=is_maildir)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    """Run the tool from the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="bench.roundtrip", description="Compare mails before and after the server.")
    parser.add_argument("path", type=Path, help="a folder of mails, or a tar")
    parser.add_argument("-c", "--connections", type=int, default=20, help="connections at once (20)")
    parser.add_argument(
        "--bare-newline", choices=["reject", "normalize"], default="reject", help="as limits.bare_newline"
    )
    parser.add_argument("--maildir", action="store_true", help="deliver into Maildirs instead of relaying")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    if not options.path.exists():
        print(f"bench.roundtrip: there is no {options.path}", file=sys.stderr)
        return 2
    mails = [prepare(mail) for mail in read_mails(options.path)]
    try:
        report, changed = round_trip(
            mails, n_clients=options.connections, bare_newline=options.bare_newline, is_maildir=options.maildir
        )
    except StartFailed as error:
        print(f"bench.roundtrip: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(msgspec.structs.asdict(report)))
    else:
        for name, value in msgspec.structs.asdict(report).items():
            print(f"{name:10}{value}")
    if changed:
        print(f"bench.roundtrip: changed: {', '.join(recipient(number) for number in changed[:20])}", file=sys.stderr)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
