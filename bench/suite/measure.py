"""One load through one server: what it came to, or why it counts for nothing.

    with Sink() as sink, Postfix(sink.via) as peer:
        print(drive(peer, sink, Load(seconds=2)).cpu_us)

Rule: a run has figures only if every message that got its 250 is at the sink once and unchanged, and no queue has any
left.
"""

import resource
import time

from bench.load import Load, Sent, Sink, Tally, percentiles, send
from bench.peers import Peak, Peer, busy_s
from bench.suite.results import Run
from bench.wait import wait_until

__all__ = ["Failed", "drive"]

# So long without a message at the sink, and no more is expected; OpenSMTPD may make one of ten seconds.
EMPTY_S = 120.0
# After such a silence of the sink the queue is asked whether there is anything to wait for.
QUIET_S = 2.0
LOOK_S = 0.05


class Failed(Exception):
    """A load did not come to a good end; the text says why."""


def drive(peer: Peer, sink: Sink, load: Load, *, cores: frozenset[int] | None = None) -> Run:
    """Send one load through a server to the sink, and return its figures; `cores` are the source's.

    Raises Failed when a message is lost, doubled or changed, TimeoutError when a queue does not empty, and what `send`
    does.
    """
    server_s, machine_s, sink_s = peer.cpu_s(), busy_s(), sink.cpu_s()
    looking_s, n_unknown = _own_s(), sink.tally("").unknown
    with Peak(peer) as peak:
        sent = send(peer.address, load, cores=cores)
        n_left = 0
        if peer.is_relaying:
            n_left = sink.lost(sent)
            _await(peer, sink, sent)
        machine_s, sink_s = busy_s() - machine_s, sink.cpu_s() - sink_s
        # To start the source and to look on is no part of it.
        machine_s -= _own_s() - looking_s - sent.cpu_s
        wait_until(lambda: peer.n_queued() == 0, f"an empty queue at {peer.name}", EMPTY_S, LOOK_S)
    server_s = peer.cpu_s() - server_s
    tally = sink.tally(sent.run)
    _check(sent, tally, tally.unknown - n_unknown)
    lasted_s = tally.lasted_s if peer.is_relaying else sent.lasted_s
    server_us, machine_us, source_us, sink_us = (
        round(spent_s / sent.accepted * 1e6, 2) for spent_s in (server_s, machine_s, sent.cpu_s, sink_s)
    )
    return Run(
        messages=sent.accepted,
        others=sent.offered - sent.accepted,
        late=sent.late,
        accepted_rate=round(sent.accepted / sent.lasted_s, 2),
        rate=round(sent.accepted / lasted_s, 2),
        cpu_us=server_us,
        machine_us=machine_us,
        source_us=source_us,
        sink_us=sink_us,
        rss_octets=peak.octets,
        left=n_left,
        reply=percentiles(sent.reply_us),
        whole=percentiles(sent.whole_us),
        histograms={"reply": sent.reply_us, "whole": sent.whole_us, "delivery": tally.deliveries_us},
    )


def _await(peer: Peer, sink: Sink, sent: Sent) -> None:
    """Wait until all is at the sink. Raises Failed when some is neither there nor in the queue, or does not move."""
    n_missing, moved_at = sink.lost(sent), time.monotonic()
    while n_missing:
        time.sleep(LOOK_S)
        n_before, n_missing = n_missing, sink.lost(sent)
        quiet_s = time.monotonic() - moved_at
        if n_missing != n_before:
            moved_at = time.monotonic()
        elif quiet_s > QUIET_S:
            n_queued = peer.n_queued()
            # Looked at once more: what is in no queue any more may have been on its way.
            if (quiet_s > EMPTY_S or not n_queued) and (n_missing := sink.lost(sent)):
                where = f"{n_missing} not at the sink, {n_queued} in the queue"
                raise Failed(f"of {sent.accepted} messages accepted: {where}, {quiet_s:.0f} s after the last")


def _own_s() -> float:
    """Return the CPU seconds of this process and of the children it has waited for, the sources among them."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _check(sent: Sent, tally: Tally, n_unknown: int) -> None:
    if not sent.accepted:
        raise Failed(f"nothing was accepted of {sent.offered}: {sent.refused}, {sent.broken} connections broken")
    wrong = {"doubled": tally.doubled, "changed": tally.changed, "unknown": n_unknown}
    told = ", ".join(f"{number} {what}" for what, number in wrong.items() if number > 0)
    if told:
        raise Failed(f"of {sent.accepted} messages accepted: {told}")
