"""The worker's end: asks the state process for a connection, and for more credit when that is spent.

Rule: nobody waits long for an answer. Once ANSWER_S have gone without one the state process is away, until it welcomes
us again: then each limit lets in or refuses, as `limits.client.shut` says, and of connections in all each worker takes
its equal share. A state process that is restarted is back sooner than that, and clients only see a pause.

The place of a connection that ended is kept a moment for the next one of its network (`places`), which then need not be
asked for; not so under stress, and not where there are few places at all.

After a lost connection HELLO says which connections we hold; so both sides agree, whatever was on the way. Credit and
kept places do not survive it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import cast

from mta.config import Config
from mta.link import decoder
from mta.reply import Reply
from mta.state.fallback import Fallback
from mta.state.network import NOBODY, Networks
from mta.state.places import Place, Places
from mta.state.replies import REFUSALS
from mta.state.visit import CONNECTING, Account, Asker, Question, Visit
from mta.state.wire import Wire
from mta.state.words import (
    BEGUN,
    BY_KIND,
    ERRORS,
    N_KINDS,
    NOTHING,
    VERSION,
    Answer,
    Ask,
    Credit,
    Hello,
    Kind,
    Rules,
    Spent,
    Stress,
)

__all__ = ["StateLink"]

ANSWER_S = 2.0
# Who was refused more credit is not asked for again at once, however often the client tries.
DRY_S = 1.0
# All workers together keep at most one in so many of all connections for who might come.
KEPT_SHARE = 20
# A network whose places were recalled is near its limit: none is kept for so long. See `ledger`, which counts on it.
UNKEPT_S = 3.0


class StateLink:
    """Made once by the worker's composition root, handed to `accept`."""

    def __init__(self, config: Config, pid: int, loop: asyncio.AbstractEventLoop) -> None:
        client = config.limits.client
        credit = (
            client.messages_per_minute,
            client.recipients_per_minute,
            client.errors_per_minute,
            client.connections_per_minute,
        )
        listeners = {listener.name: listener.connections for listener in config.listener if listener.connections}
        self._pid = pid
        self._loop = loop
        self._born_at = time.monotonic()
        self._rules = Rules(config.limits.connections, listeners, client.connections, credit)
        self._fallback = Fallback(config)
        self._networks = Networks(client.prefix_ipv4, client.prefix_ipv6)
        self._counts_networks = any((client.connections, *credit))
        self.is_limited = tuple(limit > 0 for limit in credit)
        """Of each kind of credit, whether it is counted at all."""
        self._wire = Wire(config.data_dir, self, loop)
        self._accounts: dict[bytes, Account] = {}
        self._dirty: set[bytes] = set()
        self._open: dict[Place, int] = {}
        self._n_open = 0
        self._places = Places()
        self._most_kept = config.limits.connections // (KEPT_SHARE * config.workers.n_processes)
        self._unkept_until: dict[bytes, float] = {}
        self._questions: dict[int, Question] = {}
        self._n_asked = 0
        self._away_since = loop.time()
        self._is_stale = False
        self._watch: asyncio.TimerHandle | None = None
        self.is_stressed = False
        """Connections are near their limit."""
        self.on_stress: Callable[[Stress], None] | None = None
        """Who hears when that begins or ends."""
        self._decode_answers = decoder(tuple[Answer, ...]).decode
        self._decode_recalls = decoder(tuple[bytes, ...]).decode
        self._decode_stress = decoder(Stress).decode

    def start(self) -> None:
        """Begin to connect; nobody has to wait for it."""
        self._wire.start()

    def close(self) -> None:
        """Go: what we hold is then nobody's."""
        if self._watch is not None:
            self._watch.cancel()
        self._wire.close()

    # What connections ask

    def open(self, client: str, listener: str, asker: Asker, *, is_exempt: bool) -> Visit:
        """Let a client (its address as text) in, which shows in `is_in`; or ask, and `asker` hears, later.

        `is_exempt` counts it among all connections only.
        """
        network = NOBODY if is_exempt or not self._counts_networks else self._networks.of(client)
        account = None
        if network != NOBODY and any(self.is_limited):
            account = self._accounts.get(network)
            if account is None:
                account = self._accounts[network] = Account()
        visit = Visit(self, asker, listener, network, account)
        place = (listener, network)
        if self._places.has(place) and self._may_begin(account):
            self._places.take(place)
            self._let_in(visit)
            if account is not None and self.is_limited[BEGUN]:
                account.credit[BEGUN] -= 1
                self.use(network, account, BEGUN, 1)
            return visit
        if account is not None:
            account.n_users += 1
        self._ask(Question(visit, CONNECTING, 0, self._loop.time()))
        return visit

    def use(self, network: bytes, account: Account, kind: int, n: int) -> None:
        """Count as used; that is told with the next `tend`, or before."""
        account.used[kind] += n
        if not account.is_dirty:
            account.is_dirty = True
            self._dirty.add(network)

    def ask_more(self, visit: Visit, kind: int, n: int) -> None:
        """Ask for credit, if there may be some."""
        account = cast(Account, visit.account)
        now = self._loop.time()
        if now < account.dry_until[kind]:
            if kind == ERRORS:
                self.use(visit.network, account, kind, n)
            self._loop.call_soon(self._tell, visit, REFUSALS[BY_KIND[kind]])
        else:
            self._ask(Question(visit, kind, n, now))

    def leave(self, visit: Visit) -> None:
        """A connection is over; if it waits for an answer, that is minded when it comes."""
        place = (visit.listener, visit.network)
        if visit.is_in:
            visit.is_in = False
            self._count(place, -1)
            if self._may_keep(place):
                # And what its network has here, with it.
                self._places.keep(place)
                return
            self._tell_left(place)
        if visit.account is not None:
            self._release(visit.network, visit.account)

    def tend(self) -> None:
        """Tell what was used, and give back what was not needed; about once a second."""
        now = self._loop.time()
        self._unkept_until = {network: until for network, until in self._unkept_until.items() if until > now}
        self._give_back(self._places.spare())
        if self._dirty and self._wire.is_up:
            for network in self._dirty:
                account = self._accounts.get(network)
                if account is not None and account.is_dirty:
                    self._settle(network, account)
            self._dirty.clear()

    # Places

    def _may_begin(self, account: Account | None) -> bool:
        """Say whether a client may come in on what is here."""
        if account is None:
            return True
        return all(account.credit[kind] > 0 for kind in (BEGUN, ERRORS) if self.is_limited[kind])

    def _may_keep(self, place: Place) -> bool:
        if not self._wire.is_up or self.is_stressed or len(self._places) >= self._most_kept:
            return False
        return place[0] not in self._rules.listeners and place[1] not in self._unkept_until

    def _give_back(self, places: Iterable[Place]) -> None:
        """Keep these no longer."""
        for place in places:
            self._tell_left(place)
            account = self._accounts.get(place[1])
            if account is not None:
                self._release(place[1], account)

    def _let_in(self, visit: Visit) -> None:
        visit.is_in = True
        self._count((visit.listener, visit.network), 1)

    def _count(self, place: Place, n: int) -> None:
        self._n_open += n
        n += self._open.get(place, 0)
        if n:
            self._open[place] = n
        else:
            del self._open[place]

    def _tell_left(self, place: Place) -> None:
        if self._wire.is_up:
            self._wire.left.append(place)
            self._wire.flush_soon()
        else:
            self._is_stale = True

    # Questions

    def _ask(self, question: Question) -> None:
        self._n_asked += 1
        self._questions[self._n_asked] = question
        if question.visit.account is not None:
            question.visit.account.n_users += 1
        if self._wire.is_up:
            self._say(self._n_asked, question)
        elif self._loop.time() >= self._away_since + ANSWER_S:
            self._loop.call_soon(self._give_up, self._n_asked)
        if self._watch is None:
            self._watch = self._loop.call_later(ANSWER_S, self._look)

    def _say(self, number: int, question: Question) -> None:
        visit = question.visit
        # What is used is not lent any more, and has to be known to whoever decides.
        if visit.account is not None and visit.account.is_dirty:
            self._settle(visit.network, visit.account)
        if question.kind == CONNECTING:
            self._wire.asks.append(Ask(number, visit.network, visit.listener))
        else:
            self._wire.asks.append(Ask(number, visit.network, "", question.kind, question.n))
        self._wire.flush_soon()

    def _look(self) -> None:
        """Give up on what has waited too long, and on who does not answer."""
        self._watch = None
        until = self._loop.time() - ANSWER_S
        late = [number for number, question in self._questions.items() if question.asked_at <= until]
        if late and self._wire.is_up:
            self._wire.lose()
            self._away_since = until
        for number in late:
            self._give_up(number)
        oldest = next(iter(self._questions.values()), None)
        if oldest is not None:
            self._watch = self._loop.call_at(oldest.asked_at + ANSWER_S, self._look)

    def _give_up(self, number: int) -> None:
        """Decide without the state process. Back meanwhile, it has been asked again, and will answer."""
        question = self._questions.pop(number, None) if not self._wire.is_up else None
        if question is not None:
            self._conclude(question, self._decide(question), is_counted=False)

    def _decide(self, question: Question) -> Reply | None:
        visit = question.visit
        if question.kind != CONNECTING:
            return self._fallback.more(question.kind)
        n_at_listener = sum(n for (name, _), n in self._open.items() if name == visit.listener)
        return self._fallback.connect(visit.network, visit.listener, self._n_open, n_at_listener)

    def _conclude(self, question: Question, refusal: Reply | None, *, is_counted: bool) -> None:
        """Carry out an answer, whoever gave it; `is_counted` when the state process has counted the connection."""
        visit, account = question.visit, question.visit.account
        kind, n = (BEGUN, 1) if question.kind == CONNECTING else (question.kind, question.n)
        if question.kind == CONNECTING and refusal is None:
            if not visit.is_over:
                self._let_in(visit)
                # What HELLO said is no longer true.
                self._is_stale |= not is_counted
            elif is_counted:
                self._tell_left((visit.listener, visit.network))
        # An error has been made, whatever is said to it.
        if account is not None and self.is_limited[kind] and (refusal is None or kind == ERRORS):
            account.credit[kind] = max(0, account.credit[kind] - n)
            self.use(visit.network, account, kind, n)
        if account is not None:
            self._release(visit.network, account)
        self._tell(visit, refusal)

    def _tell(self, visit: Visit, refusal: Reply | None) -> None:
        if visit.asker is not None:
            visit.asker.answered(refusal)

    # Credit

    def _release(self, network: bytes, account: Account) -> None:
        """Count one that needs the account off; the last one gives back what is left."""
        account.n_users -= 1
        if not account.n_users:
            del self._accounts[network]
            self._dirty.discard(network)
            if self._wire.is_up and (any(account.credit) or any(account.used)):
                self._settle(network, account, is_all=True)

    def _settle(self, network: bytes, account: Account, *, is_recalled: bool = False, is_all: bool = False) -> None:
        """Say what was used, and with `is_all` give back the rest."""
        back = cast(Credit, tuple(account.credit)) if is_all else NOTHING
        self._wire.spent.append(Spent(network, cast(Credit, tuple(account.used)), back, is_recalled))
        self._wire.flush_soon()
        account.used = [0] * N_KINDS
        account.is_dirty = False
        if is_all:
            account.credit = [0] * N_KINDS

    # What the state process says

    def hello(self) -> Hello:
        """Say who we are and what we hold."""
        self._is_stale = False
        held = tuple((listener, network, n) for (listener, network), n in self._open.items())
        return Hello(VERSION, self._pid, self._born_at, self._rules, held)

    def lost(self) -> None:
        """The credit is gone, and who waits for an answer waits on."""
        self._away_since = self._loop.time()
        self._give_back(self._places.clear())
        for account in self._accounts.values():
            account.credit = [0] * N_KINDS

    def received(self, kind: int, payload: bytes) -> None:
        """Act on what the state process says."""
        if kind == Kind.ANSWER:
            for answer in self._decode_answers(payload):
                self._on_answer(answer)
        elif kind == Kind.RECALL:
            for network in self._decode_recalls(payload):
                self._on_recall(network)
        elif kind == Kind.WELCOME:
            self._on_welcome(self._decode_stress(payload))
        elif kind == Kind.STRESS:
            self._on_stress(self._decode_stress(payload))

    def _on_welcome(self, stress: Stress) -> None:
        if self._is_stale:
            # Clients came and went while it was away, or while it gathered what the others hold.
            self._wire.introduce()
        self._wire.is_up = True
        now = self._loop.time()
        for number, question in list(self._questions.items()):
            if question.visit.is_over:
                del self._questions[number]
                self._conclude(question, None, is_counted=False)
            else:
                self._questions[number] = question._replace(asked_at=now)
                self._say(number, question)
        self._on_stress(stress)

    def _on_stress(self, stress: Stress) -> None:
        if stress.is_on == self.is_stressed:
            return
        self.is_stressed = stress.is_on
        if self.is_stressed:
            self._give_back(self._places.clear())
        if self.on_stress is not None:
            self.on_stress(stress)

    def _on_recall(self, network: bytes) -> None:
        self._unkept_until[network] = self._loop.time() + UNKEPT_S
        self._give_back(self._places.clear(network))
        self._settle(network, self._accounts.get(network) or Account(), is_recalled=True, is_all=True)

    def _on_answer(self, answer: Answer) -> None:
        question = self._questions.pop(answer.number, None)
        if question is None:
            return
        account = question.visit.account
        if account is not None:
            for kind, n in enumerate(answer.credit):
                account.credit[kind] += n
            if answer.refusal and question.kind != CONNECTING:
                account.dry_until[question.kind] = self._loop.time() + DRY_S
        self._conclude(question, REFUSALS[answer.refusal] if answer.refusal else None, is_counted=True)
