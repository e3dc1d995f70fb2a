"""A deep queue: what a server with many deferred messages costs at its start and while it runs.

    python -m bench.deep [-m 100000] [-d 1000] [--runs 5]

Puts messages over that many domains through a server to a sink that answers RCPT with 451, until all are deferred.
Then, for this queue and for an empty one in turn: from exec to the 250 of a first new mail, the wall time of `mta queue
count`, and the anonymous memory of the queue process (RssAnon, peak over its first seconds). Prints medians.
"""

import argparse
import asyncio
import contextlib
import re
import smtplib
import sys
import time
from pathlib import Path
from statistics import median

from bench.client import Client
from bench.server import Server
from bench.sink import Rule, Sink

MAIL = b"Subject: deep\r\n\r\n" + b"x" * 70 + b"\r\n"
SESSIONS = 50
FILL_S = 3600.0
LOOK_S = 5.0
SETTINGS = {"queue": {"map_octets": 1 << 36}, "workers": {"count": 2}, "retry": {"first_s": 36_000, "max_s": 36_000}}


async def fill(server: Server, n_messages: int, n_domains: int) -> None:
    """Send the messages, recipients spread over the domains."""
    numbers = iter(range(n_messages))

    async def work() -> None:
        client = Client(*server.address)
        await client.connect()
        for number in numbers:
            answer = await client.send("a@source.test", [f"m{number}@d{number % n_domains}.test"], MAIL)
            if answer.code != 250:
                raise RuntimeError(f"message {number}: {answer}")
        await client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(SESSIONS):
            group.create_task(work())


def rss_anon(pid: int) -> int:
    """Return the anonymous memory of a process, octets."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def first_mail_s(server: Server, recipient: str) -> float:
    """Start a server; return the seconds from exec to the 250 of a mail."""
    began = time.monotonic()
    server.start()
    with smtplib.SMTP(*server.address) as client:
        client.sendmail("a@source.test", recipient, MAIL)
        return time.monotonic() - began


def measure(server: Server, recipient: str) -> tuple[float, float, float]:
    """Return (seconds to the first 250, seconds of `queue count`, peak RssAnon of the queue process in MB)."""
    first_s = first_mail_s(server, recipient)
    peak = 0
    pid = server.children()["queue"]
    until = time.monotonic() + LOOK_S
    while time.monotonic() < until:
        peak = max(peak, rss_anon(pid))
        time.sleep(0.02)
    began = time.monotonic()
    server.count()
    count_s = time.monotonic() - began
    server.stop()
    return first_s, count_s, peak / 1e6


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="bench.deep", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-m", "--messages", type=int, default=100_000)
    parser.add_argument("-d", "--domains", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink())
        sink.rule(Rule(stage="rcpt", match="", reply="451 4.2.0 Not now"))
        config = {**SETTINGS, "route": [{"match": "*", "via": sink.via}]}
        deep, empty = Server(config), Server(config)
        stack.callback(deep.close)
        stack.callback(empty.close)
        deep.start()
        began = time.monotonic()
        asyncio.run(fill(deep, options.messages, options.domains))
        print(f"{options.messages} messages over {options.domains} domains taken in {time.monotonic() - began:.0f} s")
        until = time.monotonic() + FILL_S
        while (count := deep.count())["deferred"] < options.messages:
            if time.monotonic() > until:
                raise TimeoutError(f"only {count['deferred']} are deferred")
            time.sleep(1)
        size = (deep.data_dir / "queue" / "data.mdb").stat().st_blocks * 512
        print(f"all deferred after {time.monotonic() - began:.0f} s, file {size / 1e6:.0f} MB on disk")
        print(
            f"queue process while that happened: RssAnon {rss_anon(deep.children()['queue']) / 1e6:.0f} MB at the end"
        )
        deep.stop()
        rows: dict[str, list[tuple[float, float, float]]] = {"deep": [], "empty": []}
        for run in range(options.runs):
            rows["deep"].append(measure(deep, f"first{run}@new{run}.test"))
            rows["empty"].append(measure(empty, f"first{run}@new{run}.test"))
        for name, some in rows.items():
            first, count_s, rss = (median(row[at] for row in some) for at in range(3))
            print(f"{name:6} first 250 after {first:.3f} s, queue count {count_s:.2f} s, queue RssAnon {rss:.0f} MB")
        ratio = median(row[0] for row in rows["deep"]) / median(row[0] for row in rows["empty"])
        print(f"deep / empty, first 250: {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
