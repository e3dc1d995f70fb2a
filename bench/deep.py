"""A deep queue: what a server with very many deferred messages costs, beside one with an empty queue.

    python -m bench.deep [--depths 100000,1000000] [--runs 5] [--json FILE] [--keep DIR]

For each depth: as many messages over 100,000 domains go through a server to a sink that answers RCPT with 451, until
all are deferred. Then, for this server and one with an empty queue in turn: from exec to the 250 of a first new mail,
and the rate and the CPU of a load that is relayed to another sink. RssAnon of the queue process is looked at all the
time. At last the destination comes back: `mta queue retry --all`, and how fast what was deferred arrives; what is left
in the queue, lost, doubled or changed then is told, and is nothing.

Filling a million takes minutes, and 10 GB; --keep keeps each filled queue in a folder, for the next time.
"""

import argparse
import contextlib
import shutil
import smtplib
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from bench.beside import Figures, compare, told
from bench.load import Load, Rule, Sent, Sink, send
from bench.memory import Peaks
from bench.peers import Posthaste
from bench.server import MTA
from bench.summary import Summary
from bench.wait import wait_until

__all__ = ["Deep", "Drain", "measure"]

DOMAINS = 100_000
DEEP = "deep.test"
FILL_S = 7200.0
SAY_S = 10.0
LOAD = Load(messages=20_000)
MAIL = "Subject: first\r\n\r\nhello\r\n"
# Nothing of what is deferred becomes due while it is measured, kept queues included; within a month, that is.
RETRY = {"first_s": 2_592_000, "max_s": 2_592_000, "give_up_s": 31_536_000}
SENT = "sent.msgpack"


class Drain(msgspec.Struct, frozen=True):
    """How the deep queue became empty."""

    rate: float
    """Messages a second, from the order to the last arrival."""
    cpu_us: float
    """CPU microseconds of the server a message."""
    order_s: float
    """How long the command took, in which `mta queue retry --all` names each message."""
    left: int
    lost: int
    doubled: int
    changed: int


class Deep(msgspec.Struct, frozen=True):
    """What was measured at one depth; rows by "deep" and "empty"."""

    messages: int
    domains: int
    file_mb: float
    """The queue's file on the disk."""
    count_s: float
    """How long `mta queue count` takes."""
    first_ms: dict[str, Summary]
    """From exec to the 250 of a first mail."""
    relayed: dict[str, Figures]
    rss_anon_mb: dict[str, float]
    """The most that the queue process had while the loads were relayed; that of "deep" also while it was filled, unless
    it was kept, and while it drained, as "fill" and "drain"."""
    drain: Drain


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def fill(server: Posthaste, later: Sink, depth: int) -> list[Sent]:
    """Have so many messages deferred; return what was sent. Raises RuntimeError or TimeoutError."""
    domains = min(DOMAINS, depth)
    done: list[Sent] = []
    began_at = time.monotonic()
    for taken in range(0, depth, domains):
        load = Load(messages=min(domains, depth - taken), domains=domains, domain=DEEP)
        sent = send(server.address, load, timeout_s=FILL_S)
        if sent.accepted < load.messages:
            raise RuntimeError(f"{sent.accepted} of {sent.offered} accepted, refused {sent.refused}")
        done.append(sent)
        say(f"{taken + sent.accepted} of {depth} taken after {time.monotonic() - began_at:.0f} s")
    said_at = began_at
    while (tried := later.n_ruled()) < depth:
        now = time.monotonic()
        if now - began_at > FILL_S:
            raise TimeoutError(f"only {tried} of {depth} were tried")
        if now - said_at > SAY_S:
            say(f"{tried} of {depth} tried after {now - began_at:.0f} s")
            said_at = now
        time.sleep(0.2)
    wait_until(lambda: server.server.count()["deferred"] == depth, f"{depth} deferred", 120, step_s=0.5)
    return done


def copy(queue: Path, target: Path) -> None:
    """Copy a queue's folder, with the holes of its file, in the place of a copy that was cut off."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-r", "--sparse=always", "--reflink=auto", queue, target], check=True)


def filled(server: Posthaste, later: Sink, depth: int, keep: Path | None) -> tuple[list[Sent], dict[str, int]]:
    """Start the server with a queue of that depth, kept or made now.

    Return what was sent, and how much memory that has taken, as "fill".
    """
    kept = keep / str(depth) if keep else None
    queue = server.server.data_dir / "queue"
    if kept and (kept / SENT).exists():
        say(f"{depth} messages from {kept}")
        copy(kept / "queue", queue)
        server.start()
        return msgspec.msgpack.decode((kept / SENT).read_bytes(), type=list[Sent]), {}
    server.start()
    with Peaks({"fill": server.server.children()["queue"]}) as peaks:
        done = fill(server, later, depth)
    if kept:
        server.server.stop()
        copy(queue, kept / "queue")
        (kept / SENT).write_bytes(msgspec.msgpack.encode(done))
        restart(server)
    return done, peaks.peak


def restart(server: Posthaste) -> None:
    """Start it again; it has another port then."""
    server.server.start()
    server.pid, server.address = server.server.pid, server.server.address


def first_mail_s(server: Posthaste) -> float:
    """Stop and start the server; return the seconds from exec to the 250 of a mail."""
    server.server.stop()
    began_at = time.monotonic()
    restart(server)
    with smtplib.SMTP(*server.address) as client:
        client.sendmail("a@source.test", "first@sink.test", MAIL)
        return time.monotonic() - began_at


def drain(server: Posthaste, later: Sink, done: list[Sent]) -> Drain:
    """Let the destination come back, and wait until all is there. Raises TimeoutError, RuntimeError."""
    n_messages = sum(sent.accepted for sent in done)
    later.set_rules([])
    cpu_before_s, began_at = server.cpu_s(), time.monotonic()
    command = [str(MTA), "queue", "retry", "--all", "-c", str(server.server.config_file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as order:
        order_s = 0.0
        while (arrived := later.count()) < n_messages:
            if not order_s and order.poll() is not None:
                if order.returncode:
                    raise RuntimeError(f"mta queue retry failed with {order.returncode}")
                order_s = time.monotonic() - began_at
            if time.monotonic() - began_at > FILL_S:
                raise TimeoutError(f"{arrived} of {n_messages} have arrived")
            time.sleep(0.1)
        lasted_s = time.monotonic() - began_at
        order.wait()
        order_s = order_s or time.monotonic() - began_at
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: server.n_queued() == 0, "an empty queue", 30, step_s=1)
    cpu_us = (server.cpu_s() - cpu_before_s) / n_messages * 1e6
    tallies = [later.tally(sent.run) for sent in done]
    return Drain(
        rate=round(n_messages / lasted_s, 1),
        cpu_us=round(cpu_us, 1),
        order_s=round(order_s, 1),
        left=server.n_queued(),
        lost=sum(later.lost(sent) for sent in done),
        doubled=sum(tally.doubled for tally in tallies),
        changed=sum(tally.changed for tally in tallies),
    )


def measure(depth: int, runs: int, keep: Path | None = None, load: Load = LOAD) -> Deep:
    """Measure one depth. Raises RuntimeError, TimeoutError or StartFailed."""
    with contextlib.ExitStack() as stack:
        later = stack.enter_context(Sink(rules=[Rule(stage="rcpt", reply="451 4.2.0 Not now")]))
        sink = stack.enter_context(Sink())
        route = [{"match": f".{DEEP}", "via": later.via}, {"match": "*", "via": sink.via}]
        config = {"route": route, "retry": RETRY}
        servers = {name: Posthaste(sink.via, config=config) for name in ("deep", "empty")}
        deep, empty = servers.values()
        stack.callback(deep.close)
        done, filling = filled(deep, later, depth, keep)
        stack.enter_context(empty)
        file_mb = (deep.server.data_dir / "queue" / "data.mdb").stat().st_blocks * 512 / 1e6
        firsts: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(runs):
            for name, server in servers.items():
                firsts[name].append(first_mail_s(server) * 1000)
        began_at = time.monotonic()
        deep.server.count()
        count_s = time.monotonic() - began_at
        queues = {name: server.server.children()["queue"] for name, server in servers.items()}
        with Peaks(queues) as peaks:
            relayed = compare(servers, sink, load, runs)
        with Peaks({"drain": queues["deep"]}) as draining:
            drained = drain(deep, later, done)
    return Deep(
        messages=depth,
        domains=min(DOMAINS, depth),
        file_mb=round(file_mb, 1),
        count_s=round(count_s, 2),
        first_ms={name: Summary.of(some) for name, some in firsts.items()},
        relayed=relayed,
        rss_anon_mb={name: round(octets / 1e6, 1) for name, octets in (filling | peaks.peak | draining.peak).items()},
        drain=drained,
    )


def show(found: Deep) -> None:
    """Print one depth for a human."""
    print(f"{found.messages} deferred over {found.domains} domains, {found.file_mb:.0f} MB on the disk")
    print(told(found.relayed))
    for name, first in found.first_ms.items():
        print(f"{name:8} first 250 {first.median:.0f} ms after exec ({first.min:.0f} to {first.max:.0f})")
    sizes = ", ".join(f"{name} {octets:.1f} MB" for name, octets in found.rss_anon_mb.items())
    print(f"queue process, peak of RssAnon: {sizes}; mta queue count: {found.count_s:.2f} s")
    gone = found.drain
    print(
        f"drained at {gone.rate:.0f} messages/s, {gone.cpu_us:.1f} us a message; mta queue retry: {gone.order_s:.1f} s"
    )
    print(
        f"left in the queue {gone.left}, lost {gone.lost}, doubled {gone.doubled}, changed {gone.changed}", flush=True
    )


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.deep", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--depths", default="100000", help="messages deferred, with commas between (100000)")
    parser.add_argument("--runs", type=int, default=5, help="starts of each server, and loads through it (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where filled queues are kept for the next time")
    options = parser.parse_args()
    found: list[Deep] = []
    for depth in map(int, options.depths.split(",")):
        found.append(measure(depth, options.runs, options.keep))
        show(found[-1])
        if options.json:
            options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    drains = [each.drain for each in found]
    return int(any(each.left or each.lost or each.doubled or each.changed for each in drains))


if __name__ == "__main__":
    sys.exit(main())
