"""Idle connections: what they cost in memory, and what a server does beside them that another does without.

    python -m bench.idle [-c 10000] [--runs 5] [--json FILE]

Two servers. To one, at rest after a hundred mails, so many connections are opened, which say EHLO and then nothing.
Prints how far RssAnon of all its processes grows by each (buffers of the kernel are not in it), then the rate and the
CPU of a load through either in turn, and how many of the connections are still open at the end: all.
"""

import argparse
import contextlib
import socket
import sys
import time
from pathlib import Path

import msgspec

from bench.beside import Figures, compare, told
from bench.files import allow_files
from bench.load import Load, Sink, send
from bench.peers import Posthaste

__all__ = ["Idle", "connect", "count_open", "measure"]

LOAD = Load(messages=20_000)
WARM_UP = Load(messages=100, connections=4)
# One address has 28,000 ports to connect from, as a rule.
PORTS = 20_000
REST_S = 1.0


class Idle(msgspec.Struct, frozen=True):
    """What was measured; rows by "beside" idle connections and "without"."""

    connections: int
    octets_each: float
    """Anonymous memory of the server for each of them, beyond what it had at rest."""
    rest_mb: float
    """What it had at rest, all processes."""
    relayed: dict[str, Figures]
    still_open: int


def connect(address: tuple[str, int], number: int) -> socket.socket:
    """Return the connection of that number, greeted. Raises OSError."""
    connection = socket.create_connection(address, 30, (f"127.0.0.{1 + number // PORTS}", 0))
    heard = b""
    connection.sendall(b"EHLO idle.test\r\n")
    # Greeting and the lines of the reply to EHLO: the last has a blank behind its code.
    while not (heard.endswith(b"\r\n") and heard.rpartition(b"\r\n250 ")[1]):
        piece = connection.recv(4096)
        if not piece or not heard.startswith(b"220"[: len(heard)]):
            raise ConnectionError(f"connection {number}: {heard.decode(errors='replace')}")
        heard += piece
    connection.setblocking(False)
    return connection


def count_open(connections: list[socket.socket]) -> int:
    """Return how many of these the server has not ended."""

    def is_open(connection: socket.socket) -> bool:
        try:
            connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    return sum(map(is_open, connections))


def measure(n_connections: int, runs: int, load: Load = LOAD) -> Idle:
    """Measure with so many connections. Raises RuntimeError, TimeoutError, StartFailed or OSError."""
    allow_files()
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(Sink())
        # Twice as many may come: with nine tenths of them taken, whoever is idle is let go.
        config = {"limits": {"connections": 2 * n_connections + load.connections}}
        servers = {name: stack.enter_context(Posthaste(sink.via, config=config)) for name in ("beside", "without")}
        beside = servers["beside"]
        # Each worker has done everything once, and has no room left over from more than that.
        sink.wait(send(beside.address, WARM_UP))
        time.sleep(REST_S)
        rest_octets = beside.rss_anon_octets()
        connections = [stack.enter_context(connect(beside.address, number)) for number in range(n_connections)]
        time.sleep(REST_S)
        octets_each = (beside.rss_anon_octets() - rest_octets) / n_connections
        relayed = compare(servers, sink, load, runs)
        still_open = count_open(connections)
    return Idle(n_connections, round(octets_each, 1), round(rest_octets / 1e6, 1), relayed, still_open)


def main() -> int:
    """Run what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.idle", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-c", "--connections", type=int, default=10_000, help="idle connections (10000)")
    parser.add_argument("--runs", type=int, default=5, help="loads through each server (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    found = measure(options.connections, options.runs)
    octets = f"{found.octets_each:.0f} octets each beyond {found.rest_mb:.1f} MB at rest"
    print(f"{found.connections} idle connections: {octets}")
    print(told(found.relayed))
    print(f"still open: {found.still_open}")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return int(found.still_open < found.connections)


if __name__ == "__main__":
    sys.exit(main())
