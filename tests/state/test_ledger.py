"""What the state process decides: limits that hold over all workers, whatever comes in whatever order."""

from collections import Counter, deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mta.state.ledger import RECALL_S, STRESS_LEAST, UNKEPT_S, Holder, Ledger
from mta.state.network import NOBODY
from mta.state.window import FORGET_S, MINUTE_S
from mta.state.words import (
    BEGUN,
    ERRORS,
    MESSAGES,
    N_KINDS,
    NOTHING,
    RECIPIENTS,
    VERSION,
    Answer,
    Ask,
    Hello,
    Refusal,
    Rules,
    Spent,
)

HERE = b"\x7f\0\0\x01"
THERE = b"\x7f\0\0\x02"


def rules(
    connections: int = 1000,
    listeners: dict[str, int] | None = None,
    at_once: int = 0,
    rate: int = 0,
    credit: tuple[int, int, int] = (0, 0, 0),
) -> Rules:
    return Rules(connections, listeners or {}, at_once, (*credit, rate))


class Worker:
    """A worker's bookkeeping, with words on their way in both directions. One thing of each kind is asked at a time."""

    def __init__(self, ledger: Ledger, pid: int, given: Rules, now: float = 0.0) -> None:
        self.ledger = ledger
        self.holder: Holder = ledger.hello(Hello(VERSION, pid, now, given, ()), now)
        self.up: deque[object] = deque()
        self.down: deque[object] = deque()
        self.credit: Counter[tuple[bytes, int]] = Counter()
        self.used: Counter[tuple[bytes, int]] = Counter()
        self.open: Counter[bytes] = Counter()
        self.kept: Counter[bytes] = Counter()
        self.asked: dict[int, Ask] = {}
        self.answers: list[tuple[Ask, int]] = []
        self.n_asked = 0

    def connect(self, network: bytes, listener: str = "mx") -> bool:
        """Come in on a place that was kept, otherwise ask; say whether the former."""
        if self.kept[network] and self.credit[network, BEGUN] > 0:
            self.kept[network] -= 1
            self._begin(network)
            return True
        self._ask(Ask(self.n_asked, network, listener))
        return False

    def _begin(self, network: bytes) -> None:
        self.open[network] += 1
        self.credit[network, BEGUN] -= 1
        self.used[network, BEGUN] += 1

    def use(self, network: bytes, kind: int = MESSAGES) -> bool:
        """Use one if there is credit, otherwise ask; say whether it was used."""
        if self.credit[network, kind] > 0:
            self.credit[network, kind] -= 1
            self.used[network, kind] += 1
            return True
        if not any((ask.network, ask.listener, ask.kind) == (network, "", kind) for ask in self.asked.values()):
            self.tell(network)
            self._ask(Ask(self.n_asked, network, "", kind, 1))
        return False

    def leave(self, network: bytes, *, is_kept: bool = False) -> None:
        self.open[network] -= 1
        if is_kept:
            self.kept[network] += 1
        else:
            self.up.append(("mx", network))

    def tell(self, network: bytes, *, is_recalled: bool = False, is_all: bool = False) -> None:
        used = tuple(self.used.pop((network, kind), 0) for kind in range(N_KINDS))
        back = tuple(self.credit.pop((network, kind), 0) if is_all else 0 for kind in range(N_KINDS))
        self.up.append(Spent(network, used, back, is_recalled))  # type: ignore[arg-type]

    def _ask(self, ask: Ask) -> None:
        self.asked[ask.number] = ask
        self.n_asked += 1
        self.up.append(ask)

    def say_one(self, now: float) -> None:
        """Let one word arrive at the state process."""
        match self.up.popleft():
            case Ask() as ask:
                self.ledger.ask(self.holder, ask, now)
            case Spent() as spent:
                self.ledger.spent(self.holder, spent, now)
            case (str(listener), bytes(network)):
                self.ledger.left(self.holder, listener, network, now)

    def collect(self) -> None:
        """Put what the state process has said on its way."""
        self.down.extend([*self.holder.recalls, *self.holder.answers])
        self.holder.recalls, self.holder.answers = [], []

    def hear_one(self) -> tuple[bytes, int] | None:
        """Let one word arrive here; return what was used on its account."""
        match self.down.popleft():
            case bytes(network):
                self.up.extend([("mx", network)] * self.kept.pop(network, 0))
                self.tell(network, is_recalled=True, is_all=True)
            case Answer() as answer:
                ask = self.asked.pop(answer.number)
                self.answers.append((ask, answer.refusal))
                for kind, n in enumerate(answer.credit):
                    self.credit[ask.network, kind] += n
                if ask.listener and not answer.refusal and self.holder.rules.credit[BEGUN]:
                    self._begin(ask.network)
                    return ask.network, BEGUN
                if ask.listener:
                    self.open[ask.network] += not answer.refusal
                elif not answer.refusal:
                    self.credit[ask.network, ask.kind] -= 1
                    self.used[ask.network, ask.kind] += 1
                    return ask.network, ask.kind
        return None


def settle(workers: list[Worker], now: float) -> None:
    """Let everything that is on its way arrive."""
    while any(worker.up or worker.down or worker.holder.answers or worker.holder.recalls for worker in workers):
        for worker in workers:
            while worker.up:
                worker.say_one(now)
            worker.collect()
            while worker.down:
                worker.hear_one()
    workers[0].ledger.tick(now)


LIMIT = 7
AT_ONCE = 3
TOTAL = 6


class AnyOrder(RuleBasedStateMachine):
    """Grants, reports, ends and deaths in any order, with words that arrive late: no limit is ever broken."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.ledger = Ledger()
        self.given = rules(TOTAL, at_once=AT_ONCE, rate=LIMIT, credit=(LIMIT, LIMIT, 0))
        self.workers = [Worker(self.ledger, pid, self.given, self.now) for pid in range(3)]
        self.uses: list[tuple[float, bytes, int]] = []

    which = st.integers(0, 2)
    networks = st.sampled_from([HERE, THERE])
    kinds = st.sampled_from([MESSAGES, RECIPIENTS])

    @rule(which=which, network=networks)
    def connect(self, which: int, network: bytes) -> None:
        if self.workers[which].connect(network):
            self.uses.append((self.now, network, BEGUN))

    @rule(which=which, network=networks, kind=kinds, times=st.integers(1, 4))
    def use(self, which: int, network: bytes, kind: int, times: int) -> None:
        for _ in range(times):
            if self.workers[which].use(network, kind):
                self.uses.append((self.now, network, kind))

    @rule(which=which, network=networks, is_kept=st.booleans())
    def leave(self, which: int, network: bytes, is_kept: bool) -> None:
        if self.workers[which].open[network] > 0:
            self.workers[which].leave(network, is_kept=is_kept)

    @rule(which=which, network=networks, is_all=st.booleans())
    def tell(self, which: int, network: bytes, is_all: bool) -> None:
        self.workers[which].tell(network, is_all=is_all)

    @rule(which=which, n=st.integers(1, 5))
    def say(self, which: int, n: int) -> None:
        worker = self.workers[which]
        for _ in range(min(n, len(worker.up))):
            worker.say_one(self.now)

    @rule(which=which, n=st.integers(1, 5))
    def hear(self, which: int, n: int) -> None:
        worker = self.workers[which]
        worker.collect()
        for _ in range(min(n, len(worker.down))):
            used = worker.hear_one()
            if used is not None:
                self.uses.append((self.now, *used))

    @rule()
    def hear_all(self) -> None:
        for which in range(3):
            self.say(which, 1000)
        for which in range(3):
            self.hear(which, 1000)

    @rule(pause_s=st.one_of(st.floats(0, 1), st.floats(1, 70)))
    def wait(self, pause_s: float) -> None:
        self.now += pause_s
        self.ledger.tick(self.now)

    @rule(which=which)
    def die(self, which: int) -> None:
        self.ledger.gone(self.workers[which].holder, self.now)
        self.workers[which] = Worker(self.ledger, 100 + which, self.given, self.now)

    @precondition(lambda self: self.uses)
    @invariant()
    def no_minute_sees_more_than_the_limit(self) -> None:
        last_at = self.uses[-1][0]
        seen = Counter((network, kind) for at, network, kind in self.uses if at > last_at - MINUTE_S)
        assert max(seen.values()) <= LIMIT

    @invariant()
    def connections_are_within_their_limits(self) -> None:
        by_network: Counter[bytes] = Counter()
        for worker in self.workers:
            by_network.update(worker.open)
        assert max(by_network.values(), default=0) <= AT_ONCE
        assert by_network.total() <= TOTAL

    @invariant()
    def the_ledger_adds_up(self) -> None:
        assert self.ledger.n_open == sum(sum(holder.open.values()) for holder in self.ledger.holders)
        for network in (HERE, THERE):
            tally = self.ledger._tallies.get(network)
            for kind in (MESSAGES, RECIPIENTS, BEGUN):
                lent = sum(holder.lent.get(network, [0] * N_KINDS)[kind] for holder in self.ledger.holders)
                assert tally.lent[kind] == lent


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
test_any_order = pytest.mark.filterwarnings("default")(AnyOrder.TestCase)


@pytest.mark.parametrize("order", [(0,) * 30, (0, 1, 2) * 10, (0, 0, 0, 1, 0, 2, 2) * 5], ids=["one", "turns", "mixed"])
@pytest.mark.parametrize("kind", [MESSAGES, RECIPIENTS, ERRORS])
def test_ledger_limit_is_reached_and_not_passed_however_clients_are_spread(order: tuple[int, ...], kind: int) -> None:
    credit = (10, 10, 10)
    ledger = Ledger()
    workers = [Worker(ledger, pid, rules(credit=credit)) for pid in range(3)]
    for worker in workers:
        worker.connect(HERE)
    settle(workers, 100.0)
    for which in order:
        workers[which].use(HERE, kind)
        settle(workers, 100.0)
    n_used = sum(n for worker in workers for (_, of), n in worker.used.items() if of == kind)
    n_told = ledger._tallies.get(HERE).used[kind]
    assert n_used + (n_told.count(100.0) if n_told else 0) == 10
    assert {refusal for worker in workers for _, refusal in worker.answers} == {0, Refusal.MESSAGES + kind}
    # A minute later, and a bit, all of it is there again.
    for worker in workers:
        worker.tell(HERE, is_all=True)
        worker.answers.clear()
    settle(workers, 100.0)
    for _ in range(10):
        workers[1].use(HERE, kind)
        settle(workers, 100.0 + FORGET_S + 1)
    assert {refusal for _, refusal in workers[1].answers} == {0}


def test_ledger_asking_is_rare_while_there_is_much() -> None:
    ledger = Ledger()
    workers = [Worker(ledger, pid, rules(credit=(10_000, 0, 0))) for pid in range(2)]
    workers[0].connect(HERE)
    settle(workers, 0.0)
    for number in range(5000):
        workers[0].use(HERE)
        settle(workers, number / 1000)
    assert workers[0].n_asked < 15


def test_ledger_death_of_a_worker_gives_its_connections_back_and_keeps_its_credit_as_used() -> None:
    ledger = Ledger()
    given = rules(at_once=2, credit=(8, 0, 0))
    workers = [Worker(ledger, pid, given) for pid in range(2)]
    workers[0].connect(HERE)
    workers[0].connect(HERE)
    settle(workers, 0.0)
    workers[1].connect(HERE)
    settle(workers, 0.0)
    assert workers[1].answers[-1][1] == Refusal.CONNECTIONS
    workers[0].use(HERE)
    settle(workers, 0.0)
    held = workers[0].holder.lent[HERE][MESSAGES]
    assert held == 2
    ledger.gone(workers[0].holder, 1.0)
    workers[1].connect(HERE)
    settle(workers[1:], 1.0)
    assert workers[1].answers[-1][1] == Refusal.NONE
    n_used = 0
    for _ in range(20):
        n_used += workers[1].use(HERE)
        settle(workers[1:], 1.0)
    n_used += sum(not refusal for ask, refusal in workers[1].answers if not ask.listener)
    assert n_used == 8 - held


def test_ledger_places_that_are_kept_are_had_by_who_needs_them() -> None:
    ledger = Ledger()
    workers = [Worker(ledger, pid, rules(at_once=3)) for pid in range(2)]
    for _ in range(3):
        workers[0].connect(HERE)
    settle(workers, 0.0)
    workers[0].leave(HERE, is_kept=True)
    workers[0].leave(HERE, is_kept=True)
    for _ in range(3):
        workers[1].connect(HERE)
        settle(workers, 0.1)
    assert [refusal for _, refusal in workers[1].answers] == [0, 0, Refusal.CONNECTIONS]
    # Whoever goes on asking has nobody asked again.
    workers[1].connect(HERE)
    workers[1].say_one(0.2)
    assert not workers[0].holder.recalls


def test_ledger_network_that_has_too_many_keeps_no_places() -> None:
    ledger = Ledger()
    given = rules(at_once=2)
    holder = ledger.hello(Hello(VERSION, 1, 0.0, given, (("mx", HERE, 3),)), 0.0)
    for now, recalls in ((0.0, [HERE]), (1.0, []), (UNKEPT_S, [HERE])):
        holder.recalls.clear()
        ledger.tick(now)
        assert holder.recalls == recalls
    ledger.left(holder, "mx", HERE, UNKEPT_S)
    holder.recalls.clear()
    ledger.tick(3 * UNKEPT_S)
    assert not holder.recalls


def test_ledger_worker_that_does_not_answer_a_recall_keeps_nobody_waiting() -> None:
    ledger = Ledger()
    workers = [Worker(ledger, pid, rules(credit=(1, 0, 0))) for pid in range(2)]
    workers[0].use(HERE)
    settle(workers, 0.0)
    workers[0].used.clear()
    workers[1].use(HERE)
    workers[1].say_one(1.0)
    workers[1].say_one(1.0)
    assert ledger.is_recalling
    ledger.tick(1.0 + RECALL_S / 2)
    assert not workers[1].holder.answers
    ledger.tick(1.0 + RECALL_S)
    (answer,) = workers[1].holder.answers
    assert answer.refusal == Refusal.MESSAGES
    assert not ledger.is_recalling


def test_ledger_worker_that_comes_back_is_counted_once() -> None:
    ledger = Ledger()
    held = (("mx", HERE, 2), ("mx", NOBODY, 3))
    former = ledger.hello(Hello(VERSION, 1, 0.0, rules(at_once=2), held), 0.0)
    again = ledger.hello(Hello(VERSION, 1, 0.0, rules(at_once=2), held), 1.0)
    assert ledger.n_open == 5
    ledger.ask(again, Ask(1, HERE, "mx"), 1.0)
    assert again.recalls == [HERE]
    ledger.spent(again, Spent(HERE, NOTHING, NOTHING, True), 1.0)
    assert again.answers[-1].refusal == Refusal.CONNECTIONS
    # What its former connection still had to say counts for nothing.
    ledger.ask(former, Ask(9, THERE, "mx"), 1.0)
    ledger.left(former, "mx", HERE, 1.0)
    assert ledger.n_open == 5
    ledger.gone(again, 2.0)
    assert ledger.n_open == ledger.n_networks == 0


def test_ledger_rules_are_those_of_the_youngest_worker() -> None:
    ledger = Ledger()
    old = Worker(ledger, 1, rules(at_once=5), 10.0)
    new = Worker(ledger, 2, rules(at_once=1), 20.0)
    for _ in range(2):
        old.connect(HERE)
        settle([old, new], 20.0)
    assert old.answers[-1][1] == Refusal.CONNECTIONS
    ledger.gone(new.holder, 21.0)
    old.connect(HERE)
    settle([old], 21.0)
    assert old.answers[-1][1] == Refusal.NONE


def test_ledger_totals_hold_for_everybody_and_a_listener_has_its_own() -> None:
    ledger = Ledger()
    worker = Worker(ledger, 1, rules(4, {"small": 2}))
    for listener in ("small", "small", "small", "mx", "mx", "mx"):
        worker.connect(NOBODY, listener)
    settle([worker], 0.0)
    none = Refusal.NONE
    assert [refusal for _, refusal in worker.answers] == [none, none, Refusal.LISTENER, none, none, Refusal.TOTAL]


def test_ledger_connection_rate_counts_who_was_let_in() -> None:
    ledger = Ledger()
    worker = Worker(ledger, 1, rules(rate=3))
    for at in range(5):
        worker.connect(HERE)
        settle([worker], float(at))
        if worker.open[HERE]:
            worker.leave(HERE)
    assert [refusal for _, refusal in worker.answers] == [0, 0, 0, Refusal.CONNECTION_RATE, Refusal.CONNECTION_RATE]
    worker.connect(THERE)
    worker.connect(HERE)
    settle([worker], FORGET_S + 5.0)
    assert [refusal for _, refusal in worker.answers[-2:]] == [0, 0]


def test_ledger_errors_of_a_network_close_the_door() -> None:
    ledger = Ledger()
    workers = [Worker(ledger, pid, rules(credit=(0, 0, 3))) for pid in range(2)]
    workers[0].connect(HERE)
    settle(workers, 0.0)
    for _ in range(3):
        workers[0].use(HERE, ERRORS)
        settle(workers, 0.0)
    workers[1].connect(HERE)
    workers[1].connect(THERE)
    settle(workers, 0.0)
    assert [refusal for _, refusal in workers[1].answers] == [Refusal.NONE, Refusal.ERRORS]


def test_ledger_stress_begins_near_the_limit_and_ends_well_below() -> None:
    ledger = Ledger()
    worker = Worker(ledger, 1, rules(20))
    seen = []
    for number in range(18):
        worker.connect(bytes([number] * 4))
        settle([worker], 0.0)
        seen.append(ledger.is_stressed)
    assert seen == [False] * 17 + [True]
    # A network that has one gets no second; another one does, and so does whom nobody counts.
    for network in (bytes(4), b"\xff" * 4, NOBODY):
        worker.connect(network)
    settle([worker], 0.0)
    assert [refusal for _, refusal in worker.answers[-3:]] == [Refusal.STRESS, 0, 0]
    for number in range(6):
        assert ledger.is_stressed
        worker.leave(bytes([number] * 4))
        settle([worker], 0.0)
    assert (ledger.n_open, ledger.is_stressed) == (14, False)


def test_ledger_of_few_connections_knows_no_stress() -> None:
    ledger = Ledger()
    worker = Worker(ledger, 1, rules(STRESS_LEAST - 1))
    for _ in range(STRESS_LEAST - 1):
        worker.connect(NOBODY)
    settle([worker], 0.0)
    assert ledger.n_open == STRESS_LEAST - 1
    assert not ledger.is_stressed
