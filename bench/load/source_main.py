"""The process of the source: reads (address, load, cores) as JSON from stdin, writes a `Sent` as msgpack to stdout.

Started by `bench.load.send` alone. Exit 1 with a line on stderr when there is nothing to send, or nowhere.
"""

import os
import sys

import msgspec

from bench.files import allow_files
from bench.load._source import Source
from bench.load.content import variants
from bench.load.latency import encode
from bench.load.model import Load, Sent

Order = tuple[tuple[str, int], Load, list[int] | None]


def run(address: tuple[str, int], load: Load) -> Sent:
    """Send the load. Raises ValueError or OSError."""
    if not load.messages and not load.seconds:
        raise ValueError("a load has a number of messages, or of seconds")
    name = os.urandom(4).hex()
    source = Source(
        *address,
        variants(load, name),
        run=name.encode(),
        domain=load.domain.encode(),
        domains=load.domains,
        connections=load.connections,
        pipelining=load.pipelining,
        fresh=load.fresh,
    )
    source.run(load.messages, load.seconds, load.rate)
    return Sent(
        run=name,
        offered=source.offered,
        accepted=source.accepted,
        refused=source.refused,
        broken=source.broken,
        lasted_s=source.lasted_s,
        cpu_s=source.cpu_s,
        late=source.late,
        reply_us=encode(source.reply_us),
        whole_us=encode(source.whole_us),
        numbers=source.numbers,
    )


def main() -> int:
    """Do what stdin says; return the exit code."""
    address, load, cores = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    if cores:
        os.sched_setaffinity(0, cores)
    allow_files()
    try:
        sent = run(address, load)
    except (ValueError, OSError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.msgpack.encode(sent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
