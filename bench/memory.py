"""How far large messages raise the anonymous memory of each process: RssAnon, looked at every few milliseconds.

    python -m bench.memory [--octets 50000000] [--mails 1] [--workers 2] [--maildir] [--json]

starts a private server and a sink, sends a small mail first, then the large ones at once, and prints for each process
its level before, its peak, and the difference. RssAnon is what a process has written and nobody else shares; pages of
the queue's file that are mapped are not in it. `Peaks` is the measuring part, for tests.
"""

import argparse
import asyncio
import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from bench.client import Client
from bench.server import Server
from bench.sink import Sink

__all__ = ["Peaks", "large_mail", "rss_anon", "send_all"]

STEP_S = 0.01
SEND_S = 120.0


def rss_anon(pid: int) -> int:
    """Return the octets of anonymous memory a process holds; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    line = next((line for line in text.splitlines() if line.startswith("RssAnon:")), "RssAnon: 0 kB")
    return int(line.split()[1]) * 1024


class Peaks:
    """Looks at processes, by name, for as long as the context lasts."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.before = {name: rss_anon(pid) for name, pid in self._pids.items()}
        """Octets at the beginning."""
        self.peak = dict(self.before)
        """The most that was seen."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(STEP_S):
            for name, pid in self._pids.items():
                self.peak[name] = max(self.peak[name], rss_anon(pid))

    @property
    def growth(self) -> dict[str, int]:
        """Octets from the beginning to the peak."""
        return {name: peak - self.before[name] for name, peak in self.peak.items()}


def large_mail(octets: int, number: int = 0) -> bytes:
    """Return a mail of about that size, in lines as base64 makes them, with a dotted one now and then."""
    head = f"From: a@source.test\r\nSubject: large {number}\r\n\r\n".encode()
    lines = [hashlib.sha256(b"%d.%d" % (number, n)).hexdigest().encode() + b"0123456789ab\r\n" for n in range(997)]
    lines.append(b"..a line that begins with dots\r\n")
    block = b"".join(lines)
    n_blocks = max(1, (octets - len(head)) // len(block))
    # Unlike each other, so that none can be missing or in another's place unseen.
    return head + b"".join(b"block %06d\r\n" % n + block for n in range(n_blocks))


async def send_all(address: tuple[str, int], mails: Mapping[str, bytes]) -> list[str]:
    """Send mails at once, each to its recipient over a connection of its own; return their ids.

    Raises ConnectionError when one is refused.
    """

    async def send(recipient: str, content: bytes) -> str:
        client = Client(*address)
        await client.connect()
        answer = await client.send("a@source.test", [recipient], content, params=f"SIZE={len(content)}")
        await client.close()
        if answer.code != 250:
            raise ConnectionError(f"{answer.code} {answer.text}")
        return answer.queued_id

    async with asyncio.timeout(SEND_S):
        return await asyncio.gather(*(send(recipient, content) for recipient, content in mails.items()))


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--octets", type=int, default=50_000_000)
    parser.add_argument("--mails", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--maildir", action="store_true", help="deliver into Maildirs instead of to the sink")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with Sink() as sink:
        config: dict[str, object] = {"workers": {"count": options.workers}}
        config["route"] = [{"match": "*", "via": sink.via}]
        if options.maildir:
            config["local"] = {"domains": ["sink.test"], "maildir": "mail/{local}", "create": True}
        with Server(config) as server:
            small = {f"small{n}@sink.test": large_mail(5_000, n) for n in range(20)}
            asyncio.run(send_all(server.address, small))
            server.wait_empty()
            mails = {f"large{n}@sink.test": large_mail(options.octets, n) for n in range(options.mails)}
            with Peaks({"master": server.pid, **server.children()}) as peaks:
                asyncio.run(send_all(server.address, mails))
                server.wait_empty(SEND_S)
    if options.json:
        print(json.dumps({"before": peaks.before, "peak": peaks.peak, "growth": peaks.growth}))
        return
    for name in sorted(peaks.before):
        row = (peaks.before[name], peaks.peak[name], peaks.growth[name])
        print(f"{name:10}", *(f"{octets / 1e6:8.2f} MB" for octets in row))


if __name__ == "__main__":
    main()
