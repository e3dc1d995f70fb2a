"""The process of the sink: listens on a free port of 127.0.0.1, and does what its parent says (`bench.child`).

Started by `bench.load.Sink` alone; goes when its parent does.
"""

import argparse
import os
import signal
import socket
import time

import msgspec

from bench.child import answer
from bench.files import allow_files
from bench.load._sink import Sink
from bench.load.latency import encode
from bench.load.model import Rule, Tally

BACKLOG = 4096


class Obedient:
    """The sink's loop, and what its parent may ask of it."""

    def __init__(self, control: int) -> None:
        self._control = socket.socket(fileno=control)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self._loop = Sink(self._listener.fileno(), control, self._obey)

    def run(self) -> None:
        """Serve until the parent hangs up."""
        self._loop.run()

    def _obey(self) -> bool:
        return answer(self._control, self._do)

    def _do(self, word: str, argument: object) -> object:
        match word:
            case "port":
                return self._listener.getsockname()[1]
            case "rules":
                self._loop.set_rules(msgspec.convert(argument, list[Rule]))
                return True
            case "ruled":
                return self._loop.n_ruled
            case "count":
                return self._loop.unknown + sum(run.messages + run.doubled for run in self._loop.runs.values())
            case "tally":
                return self._tally(msgspec.convert(argument, str))
            case "numbers":
                run = self._loop.runs.get(msgspec.convert(argument, str))
                return run.numbers if run else b""
            case "cpu":
                return time.process_time()
            case _:
                raise ValueError(f"unknown word {word}")

    def _tally(self, name: str) -> Tally:
        run = self._loop.runs.get(name)
        return Tally(
            messages=run.messages if run else 0,
            doubled=run.doubled if run else 0,
            changed=run.changed if run else 0,
            unknown=self._loop.unknown,
            lasted_s=run.lasted_s if run else 0.0,
            deliveries_us=encode(run.deliveries_us if run else {}),
        )


def main() -> None:
    """Run the sink."""
    parser = argparse.ArgumentParser(prog="bench.load.sink_main")
    parser.add_argument("--cores", default="")
    parser.add_argument("--control", type=int, required=True)
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, map(int, options.cores.split(",")))
    allow_files()
    # Ctrl-C is for the parent, with whom this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Obedient(options.control).run()


if __name__ == "__main__":
    main()
