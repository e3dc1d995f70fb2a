"""Reloads and upgrades under load, counted: python -m bench.reload [--rate 500] [--kept 20] [--hups 10] [--upgrades 3].

New connections at a rate that waits for nobody, one message each, beside some kept ones; meanwhile the master is sent
SIGHUP and SIGUSR2, the next one a second after the last is done, each SIGHUP with another configuration. A sink keeps
what arrives. Prints how many connections were refused, reset, lost or answered what they should not have been, what got
a 250 and never arrived (lost), and what arrived more than once (twice); the longest wait for a 250; and the memory and
open files of each process before and after. Exit 1 unless all of those counts are 0.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop

from bench.openload import OpenLoad
from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from tests.harness import relaying

__all__ = ["order", "reload_under_load"]

REST_S = 1.0
DONE_S = 60.0


def order(server: Server, number: int) -> None:
    """Send the master SIGHUP or SIGUSR2 and wait until that has been done. Raises TimeoutError with its stderr."""
    word = "mta: reloaded " if number == signal.SIGHUP else "mta: upgraded "
    n_before = server.stderr().count(word)
    server.send_signal(number)
    try:
        wait_until(lambda: server.stderr().count(word) > n_before, word, DONE_S)
    except TimeoutError as error:
        raise TimeoutError(f"{error}\n{server.stderr()}") from error


async def reload_under_load(
    server: Server,
    load: OpenLoad,
    orders: Sequence[int],
    config: Mapping[str, object],
    *,
    n_kept: int,
    rest_s: float = REST_S,
) -> None:
    """Load a server, and meanwhile give it each of the orders, `rest_s` apart; `config` is what it was started with."""
    is_over = asyncio.Event()

    async def disturb() -> None:
        try:
            for number, each in enumerate(orders):
                await asyncio.sleep(rest_s)
                server.configure({**config, "limits": {"recipients": 1000 + number}})
                await asyncio.to_thread(order, server, each)
            await asyncio.sleep(rest_s)
        finally:
            is_over.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(is_over, n_kept))
        group.create_task(disturb())


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.reload", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=500.0, help="new connections a second (500)")
    parser.add_argument("--kept", type=int, default=20, help="kept connections beside them (20)")
    parser.add_argument("--hups", type=int, default=10)
    parser.add_argument("--upgrades", type=int, default=3)
    options = parser.parse_args()
    kinds = {signal.SIGHUP: options.hups, signal.SIGUSR2: options.upgrades}
    # Spread over each other.
    places = [(at / count, number) for number, count in kinds.items() for at in range(1, count + 1)]
    orders = [number for _, number in sorted(places)]
    with Sink() as sink:
        config = relaying(sink.via)
        with Server(config) as server:
            before = _sizes(server)
            load = OpenLoad(server.address, options.rate)
            uvloop.run(reload_under_load(server, load, orders, config, n_kept=options.kept))
            server.wait_empty(120)
            wait_until(
                lambda: len(_sizes(server)) == len(before) and _n_workers(server) == 2, "the old workers' end", 60
            )
            after = _sizes(server)
            arrived = Counter(to for message in sink.messages() for to in message.recipients)
            died = server.events("child_died", "fault")
            told = Counter(event["event"] for event in server.events("reloaded", "reload_failed"))
    lost = load.acknowledged - arrived.keys()
    twice = [to for to, count in arrived.items() if count > 1]
    wrong = {fate: count for fate, count in load.fates.items() if fate != "ok"}
    kept = {fate: count for fate, count in load.kept_fates.items() if fate not in ("ok", "421 4.3.2")}
    print(f"{options.hups} SIGHUP, {options.upgrades} SIGUSR2: {dict(told)}")
    print(
        f"{load.n_begun} connections at {options.rate:g}/s: {load.fates['ok']} ok, "
        f"{wrong or 'none refused, reset, lost or turned away'}; longest wait for a 250 {load.longest_s:.2f} s"
    )
    n_told = load.kept_fates["421 4.3.2"]
    print(f"{options.kept} kept ones: {n_told} times 421 4.3.2 between messages, {kept or 'nothing else'}")
    print(f"{len(load.acknowledged)} acknowledged, {len(lost)} lost, {len(twice)} twice; {len(died)} deaths or faults")
    for name in before:
        print(f"  {name}: {before[name]} -> {after.get(name)}")
    return int(bool(wrong or kept or lost or twice or died))


def _n_workers(server: Server) -> int:
    return sum(name.startswith("worker ") for name in server.children())


def _sizes(server: Server) -> dict[str, str]:
    """Return RssAnon and open files of each process."""
    sizes = {}
    for name, pid in {"master": server.pid, **server.children()}.items():
        status = Path(f"/proc/{pid}/status").read_text()
        rss = next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))
        sizes[name] = f"{int(rss) // 1024} MB, {len(os.listdir(f'/proc/{pid}/fd'))} files"
    return sizes


if __name__ == "__main__":
    sys.exit(main())
