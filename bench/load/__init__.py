"""A load and its proof: a source that sends mail as fast as it is told, and a sink that counts every single one.

    with Sink() as sink, Posthaste(sink.via) as server:
        sent = send(server.address, Load(seconds=10, rate=2000))
        sink.wait(sent)
        print(percentiles(sent.whole_us), sink.lost(sent), sink.tally(sent.run))

Each is one process with one thread and a loop in Cython. Sending to each other, 4 KB over 50 kept connections with
PIPELINING, the source takes 14 and the sink 16 microseconds of CPU a message (2 cores, shared with others). There are
more system calls, and up to 70, with a connection for each message, a command at a time, or a message at a time on a
schedule. Every message has an id and a checksum; `python -m bench.load` is the same for a human.
"""

from bench.load.latency import Percentiles, histogram, percentiles
from bench.load.model import Load, Rule, Sent, Stage, Tally
from bench.load.sink import Sink
from bench.load.source import LoadFailed, send

__all__ = [
    "Load",
    "LoadFailed",
    "Percentiles",
    "Rule",
    "Sent",
    "Sink",
    "Stage",
    "Tally",
    "histogram",
    "percentiles",
    "send",
]
