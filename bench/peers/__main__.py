"""List the peers: versions, what they flush before they say 250, and what strace counted.

python -m bench.peers [NAME...] [--messages 1000] [--list]
"""

import argparse
import sys

from bench.peers import PEERS, PeerMissing, flushes


def main() -> int:
    """Print one line a peer; return 1 if one is not installed."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Peers, labels, flushes a message.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)} (all)")
    parser.add_argument("--messages", type=int, default=1000, help="messages to count flushes with (1000)")
    parser.add_argument("--list", action="store_true", help="count nothing")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    n_missing = 0
    for name in options.names or PEERS:
        kind = PEERS[name]
        try:
            version = kind.require()
            counted = None if options.list else flushes(kind, options.messages)
        except PeerMissing as error:
            n_missing += 1
            print(f"{name:10} {'missing':9} {error}", flush=True)
            continue
        line = f"{name:10} {version:9} {kind.label}"
        if counted:
            calls = ", ".join(f"{number} {call}" for call, number in counted.calls.items())
            line = f"{name:10} {version:9} {counted.a_message:6.3f} flushes a message  {kind.label}"
            line += f" [{calls}]" if calls else ""
        print(line, flush=True)
    return 1 if n_missing else 0


if __name__ == "__main__":
    sys.exit(main())
