"""Send a load and prove what came of it.

    python -m bench.load [--to HOST:PORT] [-m 20000 | -s SECONDS] [-c 50] [-l 4096] [--rate R] [--fresh] [--plain]
        [--folder D] [--domains N]

Without --to, through a private Posthaste to a sink, where every message is looked for; with it, to that server, which
may have a sink of its own behind it. Prints the rate, CPU microseconds a message of all parts, latencies, and what was
lost, doubled or changed. Exit 1 if anything was.
"""

import argparse
import sys

from bench.load import Load, LoadFailed, Sent, Sink, percentiles, send
from bench.peers import Posthaste
from bench.server import StartFailed


def told(sent: Sent) -> str:
    """Return a load's outcome in words."""
    lines = [
        f"{sent.accepted} of {sent.offered} messages accepted in {sent.lasted_s:.2f} s: "
        f"{sent.accepted / sent.lasted_s if sent.lasted_s else 0:.0f} messages/s, "
        f"source {sent.cpu_s / max(1, sent.accepted) * 1e6:.1f} us CPU a message",
        f"refused {sent.refused or 0}, connections broken {sent.broken}, begun late {sent.late}",
    ]
    for name, encoded in (("end of data to 250", sent.reply_us), ("whole", sent.whole_us)):
        found = percentiles(encoded)
        lines.append(f"{name:18} us: p50 {found.p50}, p99 {found.p99}, p99.9 {found.p999}, most {found.most}")
    return "\n".join(lines)


def through_posthaste(load: Load) -> bool:
    """Send through a private Posthaste; return whether everything arrived as it was sent, and once."""
    with Sink() as sink, Posthaste(sink.via) as server:
        server_before_s, sink_before_s = server.cpu_s(), sink.cpu_s()
        sent = send(server.address, load)
        sink.wait(sent)
        print(told(sent))
        tally, lost = sink.tally(sent.run), sink.lost(sent)
        server_us, sink_us = (
            (after - before) / max(1, sent.accepted) * 1e6
            for after, before in ((server.cpu_s(), server_before_s), (sink.cpu_s(), sink_before_s))
        )
    print(f"server {server_us:.1f} us CPU a message, sink {sink_us:.1f}")
    print(f"arrived {tally.messages}, lost {lost}, doubled {tally.doubled}, changed {tally.changed}")
    return not (lost or tally.doubled or tally.changed or tally.unknown)


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.load", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", metavar="HOST:PORT", help="the server (a private Posthaste)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("-m", "--messages", type=int, default=0, help="how many (20000)")
    length.add_argument("-s", "--seconds", type=float, default=0.0, help="or for how long")
    parser.add_argument("-c", "--connections", type=int, default=50, help="connections at once (50)")
    parser.add_argument("-l", "--octets", type=int, default=4096, help="octets of a message (4096)")
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second, on a schedule (as fast as can be)")
    parser.add_argument("--fresh", action="store_true", help="a connection for each message")
    parser.add_argument("--plain", action="store_true", help="no PIPELINING")
    parser.add_argument("--folder", default="", help="send the mails in this folder")
    parser.add_argument("--domains", type=int, default=1, help="domains of recipients (1)")
    options = parser.parse_args()
    load = Load(
        messages=options.messages or (0 if options.seconds else 20_000),
        seconds=options.seconds,
        connections=options.connections,
        rate=options.rate,
        pipelining=not options.plain,
        fresh=options.fresh,
        octets=options.octets,
        folder=options.folder,
        domains=options.domains,
    )
    try:
        if not options.to:
            return 0 if through_posthaste(load) else 1
        host, _, port = options.to.rpartition(":")
        print(told(send((host.strip("[]"), int(port)), load)))
    except (LoadFailed, StartFailed, TimeoutError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
