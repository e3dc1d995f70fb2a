"""kill -9 under load, counted: python -m bench.kill [KIND ...] [--rounds 50] [-c 20] [-l 4096].

KIND is one of tests.harness.kills: worker, queue, state, all, commit, 250, hello, link. Without any, all of them: first
those that kill the queue or the state process alone or cut a link, where no client may see an error and nothing may
come twice; then the others. Connections send as fast as they are answered and write down each 250; a sink keeps what
arrives. Prints for each run what was acknowledged, what of it never arrived (missing), what arrived more than once
(twice: a worker that dies between the next hop's 250 and its settlement sends again), refusals, and broken connections.
Exit 1 if any is missing, or if anything came twice or went wrong where no worker died.
"""

import argparse
import socket
import sys
from collections import Counter
from collections.abc import Sequence

from bench.server import Server
from bench.sink import Sink
from tests.harness import KILLS, Ledger, kill_under_load, relaying, run_async

REST_S = 0.5
ROUND_S = 30.0
QUEUE_ALONE = ("queue", "state", "commit", "hello", "link")
OTHERS = ("worker", "250", "all")


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.kill", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", choices=[[], *KILLS])
    parser.add_argument("--rounds", type=int, default=50, help="kills a run (50)")
    parser.add_argument("-c", "--connections", type=int, default=20)
    parser.add_argument("-l", "--octets", type=int, default=4096)
    options = parser.parse_args()
    failed = False
    for turn in [tuple(options.kinds)] if options.kinds else (QUEUE_ALONE, OTHERS):
        kinds = [turn[at % len(turn)] for at in range(options.rounds)]
        failed |= not run(kinds, options.connections, options.octets)
    return int(failed)


def run(kinds: Sequence[str], n_connections: int, octets: int) -> bool:
    """Kill under load, once for each of `kinds`; print what came of it, and return whether that is as it must be."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    listener = [{"name": "mx", "bind": [f"127.0.0.1:{port}"]}]
    with Sink() as sink, Server(relaying(sink.via, listener=listener)) as server:
        ledger = Ledger(server.address, octets=octets)
        killing = kill_under_load(server, sink, ledger, kinds, n_sessions=n_connections, rest_s=REST_S, pace_s=0.0)
        run_async(killing, timeout_s=ROUND_S * len(kinds))
        server.wait_empty(120)
        arrived = Counter(recipient for message in sink.messages() for recipient in message.recipients)
        missing = len(ledger.acknowledged.keys() - arrived.keys())
        twice = sum(count > 1 for count in arrived.values())
        print(
            f"{len(kinds)} kills ({', '.join(dict.fromkeys(kinds))}): {len(ledger.acknowledged)} acknowledged, "
            f"{missing} missing, {twice} twice, {len(ledger.refused)} refused, {ledger.n_broken} connections broken",
            flush=True,
        )
        is_clean = not twice and not ledger.refused and not ledger.n_broken
        return not missing and (is_clean or not set(kinds) <= set(QUEUE_ALONE))


if __name__ == "__main__":
    sys.exit(main())
