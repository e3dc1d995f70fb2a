"""Kills a child again and again under load, and counts: python -m bench.kill [NAME ...] [--kills 5] [-c 50] [-l 4096].

NAME is a process title without "mta: ", as "worker 1" or "queue"; without one, workers in turn, then the queue process.
Connections send as fast as they are answered and write down each 250; a sink keeps what arrives. Prints for each run
what was acknowledged, what of it never arrived (missing), what arrived more than once (twice: a worker that dies
between the next hop's 250 and its settlement sends again), refusals, and broken connections. Exit 1 if any is missing.
"""

import argparse
import sys
from collections import Counter

from bench.server import Server
from bench.sink import Sink
from tests.harness import Ledger, kill_under_load, relaying, run_async

REST_S = 1.0
RUN_S = 300.0
DEFAULTS = (("worker 1", "worker 2"), ("queue",))


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.kill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("-c", "--connections", type=int, default=50)
    parser.add_argument("-l", "--octets", type=int, default=4096)
    options = parser.parse_args()
    missing = 0
    for turn in [tuple(options.names)] if options.names else DEFAULTS:
        names = [turn[at % len(turn)] for at in range(options.kills)]
        missing += run(names, options.connections, options.octets)
    return 1 if missing else 0


def run(names: list[str], n_connections: int, octets: int) -> int:
    """Kill the named children one after the other under load; return how many acknowledged messages are missing."""
    with Sink() as sink, Server(relaying(sink.via, workers={"count": 2})) as server:
        ledger = Ledger(server.address, octets=octets)
        run_async(kill_under_load(server, ledger, names, n_connections, rest_s=REST_S), timeout_s=RUN_S)
        server.wait_empty()
        arrived = Counter(recipient for message in sink.messages() for recipient in message.recipients)
        missing = len(ledger.acknowledged.keys() - arrived.keys())
        twice = sum(count > 1 for count in arrived.values())
        print(
            f"{len(names)} kills ({', '.join(dict.fromkeys(names))}): {len(ledger.acknowledged)} acknowledged, "
            f"{missing} missing, {twice} twice, {len(ledger.refused)} refused, {ledger.n_broken} connections broken",
            flush=True,
        )
    return missing


if __name__ == "__main__":
    sys.exit(main())
