"""Who holds what, and who may have more: all decisions of the state process, without sockets and clock.

Each worker asks once when a client connects, and is answered with credit: so many messages, recipients, errors and
further connections that this network's clients may use up at that worker without asking again. Credit is taken from the
network's minute when it is given. So for each network and kind, at any moment,

    used in the last minute (a Window) + lent to workers <= the limit

and since use only moves from the right to the left, no 60 seconds see more use than the limit, whatever the order of
grants, reports and ends. What a worker that died held counts as used, for it may be.

A grant is what was asked for, and on top of it a share of what is free, so that asking gets rarer the more there is,
and nobody hoards the rest. What is lent and not used is not lost to the others: before anybody is refused, all workers
are asked to say what is left of that network's credit (RECALL), and only then it is decided; RECALL_S is the longest
that takes. So the limit is not only kept but reached, however clients are spread over workers.

Connections at once are asked for by listener and network, and count against the network's number, its listener's, and
the whole machine's. A worker may keep the place of one that ended for a moment; RECALL brings those back, too, and a
worker that was asked keeps none of that network for a while, so that who is refused is not the cause of recalls without
end.

Near the whole machine's maximum we are under stress, until well below it. Then a network that has a connection gets no
second one, and workers have less patience: see `accept`.

The death of the state process forgives everybody the minute before; connections are told again, by HELLO.
"""

from collections import Counter

from mta.state.network import NOBODY
from mta.state.tally import Tallies, Tally
from mta.state.words import (
    BEGUN,
    BY_KIND,
    ERRORS,
    N_KINDS,
    NOTHING,
    Answer,
    Ask,
    Credit,
    Hello,
    Refusal,
    Rules,
    Spent,
)

__all__ = ["Holder", "Ledger"]

RECALL_S = 0.5
# Of what is free, each worker gets this part on top, and as much at most.
SHARE = 2
MOST_LENT = 1000
# Percent of all connections at which stress begins, and at which it is over.
STRESS_FROM = 90
STRESS_TO = 70
# So few that the last one is "near the limit" were given by an operator who means that number.
STRESS_LEAST = 10
# No place of a network is kept for so long after a recall. Less than what `client` has for it.
UNKEPT_S = 2.0


class Holder:
    """A worker, as far as it holds something. `answers` and `recalls` are what it is to be told."""

    __slots__ = ("answers", "born_at", "lent", "open", "pid", "recalls", "rules")

    def __init__(self, hello: Hello) -> None:
        self.pid = hello.pid
        self.born_at = hello.born_at
        self.rules = hello.rules
        self.open: Counter[tuple[str, bytes]] = Counter()
        self.lent: dict[bytes, list[int]] = {}
        self.answers: list[Answer] = []
        self.recalls: list[bytes] = []


class Recall:
    """One network's credit on its way back: who has not answered yet, and who waits for it."""

    __slots__ = ("began_at", "owed", "waiting")

    def __init__(self, owed: set[Holder], now: float) -> None:
        self.owed = owed
        self.began_at = now
        self.waiting: list[tuple[Holder, Ask]] = []


class Ledger:
    """Everything that is counted. `now` is monotonic seconds and never runs back."""

    def __init__(self) -> None:
        self.holders: set[Holder] = set()
        self.rules = Rules(0, {}, 0, NOTHING)
        """Those of the worker that was born last: what changed holds from then on, for everybody."""
        self.n_open = 0
        self.is_stressed = False
        self._by_listener: Counter[str] = Counter()
        self._tallies = Tallies()
        self._recalls: dict[bytes, Recall] = {}
        # Networks that may have more connections than their limit: nobody may keep a place for those.
        self._over: set[bytes] = set()

    @property
    def n_networks(self) -> int:
        """How many networks are remembered."""
        return len(self._tallies)

    @property
    def is_recalling(self) -> bool:
        """Somebody waits for credit to come back: call `tick` soon."""
        return bool(self._recalls)

    # What workers say

    def hello(self, hello: Hello, now: float) -> Holder:
        """A worker came, or came back; what it held before counts no more."""
        for former in [holder for holder in self.holders if holder.pid == hello.pid]:
            self.gone(former, now)
        holder = Holder(hello)
        self.holders.add(holder)
        self._choose_rules()
        for listener, network, n_open in hello.held:
            tally = self._count(holder, listener, network, n_open, now)
            # It may not have heard, and it may have let in more than there should be, for nobody answered.
            tally.recalled_at = float("-inf")
            self._over.add(network)
        return holder

    def gone(self, holder: Holder, now: float) -> None:
        """A worker is no more, and with it its connections. Does nothing the second time."""
        if holder not in self.holders:
            return
        for (listener, network), n_open in list(holder.open.items()):
            self._count(holder, listener, network, -n_open, now)
        for network, lent in list(holder.lent.items()):
            self.spent(holder, Spent(network, _credit(lent), NOTHING, False), now)
        self.holders.discard(holder)
        self._choose_rules()
        for network, recall in list(self._recalls.items()):
            recall.waiting = [(waiter, ask) for waiter, ask in recall.waiting if waiter is not holder]
            recall.owed.discard(holder)
            self._maybe_settle(network, recall, now)

    def ask(self, holder: Holder, ask: Ask, now: float) -> None:
        """Answer a question, now or once credit has come back."""
        if holder not in self.holders:
            # It came back meanwhile, and asks again.
            return
        recall = self._recalls.get(ask.network)
        if recall is None:
            answer = self._judge(holder, ask, now)
            if answer is not None:
                holder.answers.append(answer)
                return
            owed = self._recall(ask.network, self._tallies.get(ask.network), now)
            recall = self._recalls[ask.network] = Recall(owed, now)
        recall.waiting.append((holder, ask))

    def left(self, holder: Holder, listener: str, network: bytes, now: float) -> None:
        """A connection ended."""
        if holder.open[listener, network] > 0:
            self._count(holder, listener, network, -1, now)

    def spent(self, holder: Holder, spent: Spent, now: float) -> None:
        """Credit was used, or came back."""
        if holder not in self.holders:
            return
        tally = self._tallies.get(spent.network)
        lent = holder.lent.setdefault(spent.network, [0] * N_KINDS)
        for kind, (used, back) in enumerate(zip(spent.used, spent.back, strict=True)):
            # Errors happen without credit, too, and so does everything while nobody answers.
            left = min(lent[kind], used + back)
            lent[kind] -= left
            tally.lent[kind] -= left
            if used:
                tally.use(kind, used, now)
        if not any(lent):
            del holder.lent[spent.network]
        self._tallies.file(spent.network, tally, now)
        recall = self._recalls.get(spent.network) if spent.is_recalled else None
        if recall is not None:
            recall.owed.discard(holder)
            self._maybe_settle(spent.network, recall, now)

    def tick(self, now: float) -> None:
        """Do what is due by time."""
        self._tallies.expire(now)
        for network in list(self._over):
            tally = self._tallies.get(network)
            if not self.rules.at_once or tally.n_open <= self.rules.at_once:
                self._over.discard(network)
            elif now >= tally.recalled_at + UNKEPT_S:
                self._recall(network, tally, now)
        for network, recall in list(self._recalls.items()):
            if now >= recall.began_at + RECALL_S:
                recall.owed.clear()
                self._maybe_settle(network, recall, now)

    # Inside

    def _choose_rules(self) -> None:
        youngest = max(self.holders, key=lambda holder: holder.born_at, default=None)
        if youngest is not None:
            self.rules = youngest.rules
        self._mind_stress()

    def _mind_stress(self) -> None:
        limit = self.rules.connections
        share = STRESS_TO if self.is_stressed else STRESS_FROM
        above = self.n_open * 100 - limit * share
        self.is_stressed = limit >= STRESS_LEAST and (above > 0 or (above == 0 and not self.is_stressed))

    def _count(self, holder: Holder, listener: str, network: bytes, n: int, now: float) -> Tally:
        """Count connections on, or off with a negative `n`; return the tally of the network."""
        self.n_open += n
        self._by_listener[listener] += n
        holder.open[listener, network] += n
        if not holder.open[listener, network]:
            del holder.open[listener, network]
        tally = self._tallies.get(network)
        if network != NOBODY:
            tally.n_open += n
            self._tallies.file(network, tally, now)
        self._mind_stress()
        return tally

    def _recall(self, network: bytes, tally: Tally, now: float) -> set[Holder]:
        """Ask for what is kept of a network; return whoever may keep some."""
        tally.recalled_at = now
        places = [(listener, network) for listener in self._by_listener]
        # Not the other way round: a worker has thousands of places open.
        owed = {each for each in self.holders if network in each.lent or any(place in each.open for place in places)}
        for holder in owed:
            holder.recalls.append(network)
        return owed

    def _maybe_settle(self, network: bytes, recall: Recall, now: float) -> None:
        """Decide for those who waited, once everybody has said what is left."""
        if recall.owed:
            return
        del self._recalls[network]
        for holder, ask in recall.waiting:
            answer = self._judge(holder, ask, now, is_last=True)
            if answer is not None:
                holder.answers.append(answer)

    def _judge(self, holder: Holder, ask: Ask, now: float, *, is_last: bool = False) -> Answer | None:
        """Return the answer, and book what it gives; None when credit that others hold has to come back first.

        `is_last` when it has: then everybody gets what was asked for and no more, for others wait behind.
        """
        tally = self._tallies.get(ask.network)
        refusal = self._find_refusal(ask, tally) if ask.listener else Refusal.NONE
        if refusal is Refusal.CONNECTIONS and not is_last and now >= tally.recalled_at + UNKEPT_S:
            return None
        # Whoever has no error left to make has nothing to come in for.
        needs = ((BEGUN, 1), (ERRORS, 1)) if ask.listener else ((ask.kind, ask.n),)
        for kind, n in needs:
            is_limited = ask.network != NOBODY and self.rules.credit[kind] > 0
            if refusal or not is_limited or tally.free(kind, self.rules, now) >= n:
                continue
            if tally.lent[kind] and not is_last:
                return None
            # An error that was just lent to who waited in front of it is left to make.
            if not (ask.listener and kind == ERRORS and tally.lent[kind]):
                refusal = BY_KIND[kind]
        if refusal:
            return Answer(ask.number, refusal, NOTHING)
        if ask.listener:
            tally = self._count(holder, ask.listener, ask.network, 1, now)
        return Answer(ask.number, Refusal.NONE, self._lend(holder, ask, tally, now, is_last=is_last))

    def _find_refusal(self, ask: Ask, tally: Tally) -> Refusal:
        """Return what a connection founders on before any credit is looked at."""
        rules = self.rules
        most = rules.listeners.get(ask.listener, 0)
        if self.n_open >= rules.connections:
            return Refusal.TOTAL
        if most and self._by_listener[ask.listener] >= most:
            return Refusal.LISTENER
        if ask.network == NOBODY:
            return Refusal.NONE
        if self.is_stressed and tally.n_open:
            return Refusal.STRESS
        if rules.at_once and tally.n_open >= rules.at_once:
            return Refusal.CONNECTIONS
        return Refusal.NONE

    def _lend(self, holder: Holder, ask: Ask, tally: Tally, now: float, *, is_last: bool) -> Credit:
        """Book credit, and return it: what was asked for, and a share of what is free."""
        if ask.network == NOBODY or not any(self.rules.credit):
            return NOTHING
        held = holder.lent.get(ask.network, NOTHING)
        given = [0] * N_KINDS
        needed, n = (BEGUN, 1) if ask.listener else (ask.kind, ask.n)
        for kind, limit in enumerate(self.rules.credit):
            wanted = n if kind == needed else 0
            if not limit or not (wanted or ask.listener):
                continue
            # Where there is credit already, who comes in needs no more of it yet.
            has_share = not is_last and not held[kind]
            share = tally.free(kind, self.rules, now) // (SHARE * len(self.holders)) if has_share else 0
            given[kind] = max(wanted, min(share, MOST_LENT))
        if any(given):
            lent = holder.lent.setdefault(ask.network, [0] * N_KINDS)
            for kind, n in enumerate(given):
                lent[kind] += n
                tally.lent[kind] += n
            self._tallies.file(ask.network, tally, now)
        return _credit(given)


def _credit(by_kind: list[int]) -> Credit:
    messages, recipients, errors, begun = by_kind
    return messages, recipients, errors, begun
