"""One run: nameserver, hosts and server are started, the load is sent, and what has settled is judged.

First everything has to end but the mail to the site that is stalled: its hosts hold back their word until the others
are done, and if one of those had to wait for it, the run would not go on. No clock decides that.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from bench.internet.behaviours import Traffic
from bench.internet.judge import FATES, Evidence, Tally, judge
from bench.internet.load import Mail, inject, make_load
from bench.internet.peers import Peers
from bench.internet.sites import CROWDED, GREY, LAME, OURSELVES, SITES, STALLED, THROTTLED, ZONE, site_of
from bench.internet.zones import TTL_S, records
from bench.nameserver import Nameserver
from bench.server import Server
from bench.wait import wait_until

__all__ = ["Result", "run"]

CONNECTIONS = 20
# Longer than a queue stays awake whose path rests: then its rows say what it waits for.
PAUSE_S = 8
REASONS_S = 60.0
POLL_S = 1.0
# A greylisted mail comes again after at least 0.5, 1.5 and 3.5 s, and the wait is 2 s.
GREY_TRIES = 3
# How often hosts that are asked for too much may have to say no, for each mail that they take.
REFUSALS_A_MAIL = {CROWDED.name: 0.3, THROTTLED.name: 6.0}
SPARE_REFUSALS = 20


class Result(msgspec.Struct, frozen=True):
    """What came of a run."""

    mails: list[Mail]
    evidence: Evidence
    tallies: dict[str, Tally]
    """By site."""
    traffic: dict[str, Traffic]
    problems: list[str]
    """What is wrong with sites or the whole; what is wrong with single recipients is in the tallies."""
    sent_s: float
    settled_s: float
    """Seconds from the first connection until all was taken, and until all had ended."""

    @property
    def is_right(self) -> bool:
        """Nothing was wrong."""
        return not self.problems and not any(tally.wrong for tally in self.tallies.values())


def configuration(port: int, nameserver: str) -> dict[str, object]:
    """Return what the server under test is told; all hosts are at one port, and so is it."""
    return {
        "hostname": OURSELVES,
        "workers": {"count": 2},
        "listener": [{"name": "mx", "bind": [f"127.0.0.1:{port}"]}],
        "process": {"drain_s": 5},
        "dns": {"nameservers": [nameserver], "timeout_s": 2},
        "retry": {"first_s": 1, "factor": 2, "max_s": 4, "jitter": 0.5},
        # Many short sessions: each chooses among equal hosts anew.
        "path": {"connections": CONNECTIONS, "pause_s": PAUSE_S, "messages_per_connection": 10},
        "deliver": {"port": port, "command_timeout_s": 5, "connect_timeout_s": 5},
    }


def run(n_mails: int, seed: int, *, n_sessions: int = 20, limit_s: float = 600.0) -> Result:
    """Send so many mails and return what came of them; what has not ended within `limit_s` is judged as it stands."""
    mails = make_load(n_mails, seed)
    with (
        Peers() as peers,
        Nameserver({ZONE: records()}, TTL_S, broken=[LAME], rotates=True) as nameserver,
        Server(configuration(peers.port, nameserver.address)) as server,
    ):
        began_at = time.monotonic()
        ids = asyncio.run(inject(server.address, mails, n_sessions))
        sent_s = time.monotonic() - began_at
        problems = []
        n_waiting, n_stalled = _count(mails, "waiting"), _count(mails, "delivered", STALLED.name)
        if not _settled(server, n_waiting + n_stalled, limit_s):
            problems.append("while one site was stalled, others did not come to an end")
        if peers.traffic()[STALLED.name].n_kept:
            problems.append("the stalled site was not stalled")
        peers.release()
        if not _settled(server, n_waiting, limit_s):
            problems.append(f"not all has ended within {limit_s:g} s")
        settled_s = time.monotonic() - began_at
        # What waits may not have been tried yet, and events are written behind what they tell of.
        end_at = time.monotonic() + REASONS_S
        while True:
            evidence = _gather(server, peers, mails, ids)
            tallies, rest = judge(mails, evidence), list(_balance(evidence.events, server.count()))
            is_right = not rest and not any(tally.wrong for tally in tallies.values())
            if is_right or time.monotonic() > end_at:
                break
            time.sleep(POLL_S)
        traffic = peers.traffic()
        problems += [*rest, *_manners(traffic), *_faults(evidence.events)]
        return Result(mails, evidence, tallies, traffic, problems, sent_s, settled_s)


def _count(mails: Sequence[Mail], kind: str, site: str = "") -> int:
    return sum(to.end.kind == kind and site in ("", to.site) for mail in mails for to in mail.recipients)


def _settled(server: Server, n_recipients: int, limit_s: float) -> bool:
    """Wait until no more recipients than these are queued; False when that takes too long."""
    try:
        wait_until(lambda: server.count()["recipients"] <= n_recipients, "the end", limit_s, step_s=POLL_S)
    except TimeoutError:
        return False
    return True


def _gather(server: Server, peers: Peers, mails: Sequence[Mail], ids: Mapping[int, str]) -> Evidence:
    queued = {row["id"]: row for row in server.run_json("queue", "list")}
    # `queue list` names no recipients: it is enough where one is left. Of each site one is looked at closer.
    closer = {site_of(row["domains"][0]).name: row["id"] for row in queued.values()}
    wanted = {row["id"] for row in queued.values() if row["n_open"] > 1} | set(closer.values())
    shown = {id_: server.run_json("queue", "show", id_)[0] for id_ in wanted}
    return Evidence(ids, peers.deliveries(), server.events(), queued, shown)


def _balance(events: Sequence[Mapping[str, Any]], count: Mapping[str, int]) -> Iterator[str]:
    """What was received has ended, or is queued: nothing is lost between the two."""
    received = sum(event["n_recipients"] for event in events if event["event"] == "received")
    ended = Counter(event["event"] for event in events if event["event"] in FATES)
    if received != ended.total() + count["recipients"]:
        yield f"{received} recipients were received, {dict(ended)} ended, {count['recipients']} are queued"


def _manners(traffic: Mapping[str, Traffic]) -> Iterator[str]:
    """How we have behaved towards the sites."""
    for site in SITES:
        seen = traffic[site.name]
        if seen.most_open > CONNECTIONS * site.paths:
            yield f"{site.name} had {seen.most_open} connections at once"
        most = REFUSALS_A_MAIL.get(site.name, 0.0) * seen.n_kept + SPARE_REFUSALS
        if site.name in REFUSALS_A_MAIL and sum(seen.refused.values()) > most:
            yield f"{site.name} had to say no {seen.refused} times to have {seen.n_kept} mails"
        if site.is_shared and len(seen.kept_by) < len(site.listens):
            yield f"of {site.name}'s hosts only {', '.join(seen.kept_by)} got any mail"
    tries = traffic[GREY.name].turned_away.values()
    if tries and max(tries) > GREY_TRIES:
        yield f"a greylisted mail was tried {max(tries)} times in vain"


def _faults(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for event in events:
        if event["event"] in ("fault", "child_died", "set_aside"):
            yield f"{event}"
