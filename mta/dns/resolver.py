"""The resolver: many questions at once, each asked once, answers kept as long as they are good.

Rule: nothing is raised. What no name server answers in time, twice round, is `failed`, and is not asked again for a
moment. Names are absolute: no search list, no /etc/hosts; `localhost` is this machine (RFC 6761 s6.3).

Made once a worker; called by `mta.deliver`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from mta.dns.answer import Addresses, Answer, Kind, Record
from mta.dns.cache import Cache
from mta.dns.exchange import Server, exchange
from mta.dns.wire import NO_EDNS, RETRY_TTL_S, Unaskable, make_question

__all__ = ["Resolver"]

MOST_ENTRIES = 20_000
MOST_AT_ONCE = 500
"""Questions, and so sockets, on their way at once, those left out that are on their way for long."""
MOST_SLOW = 5000
# Name servers that answer at all do so sooner, nearly always.
SLOW_S = 1.0
ROUNDS = 2
# A resolver chases aliases by itself; this is for those that lead to what it knows no more of.
MOST_ALIASES = 8
NEVER_TTL_S = 86_400.0
LOCALHOST: dict[Kind, tuple[Record, ...]] = {"A": (Record(0, "127.0.0.1"),), "AAAA": (Record(0, "::1"),)}

Key = tuple[str, Kind]


class Resolver:
    """Asks name servers, in their order, the one that answered last first."""

    def __init__(self, nameservers: Sequence[Server], timeout_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """`timeout_s` is how long one name server is waited for, each time."""
        self._servers = tuple(nameservers)
        self._timeout_s = timeout_s
        self._loop = loop
        self._cache = Cache(MOST_ENTRIES)
        self._asking: dict[Key, asyncio.Task[Answer]] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._n_slow = 0
        self._first = 0
        self.n_asked = 0
        """How many questions were sent to name servers."""

    async def look_up(self, name: str, kind: Kind) -> Answer:
        """Return the records of a name, a domain without a dot at its end; `ttl_s` is the time they are good still."""
        key = (name.lower(), kind)
        known = self._cache.find(key, self._loop.time())
        if known is not None:
            return known
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = self._loop.create_task(self._find(key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        # Whoever is tired of waiting must not take the answer from the others.
        return await asyncio.shield(task)

    async def addresses(self, host: str) -> Addresses:
        """Return the addresses of a host, of both families."""
        ipv4, ipv6 = await asyncio.gather(self.look_up(host, "A"), self.look_up(host, "AAAA"))
        both = (ipv4, ipv6)
        failure = next((answer.reason for answer in both if answer.status == "failed"), "")
        return Addresses(
            tuple(record.text for record in ipv4.records),
            tuple(record.text for record in ipv6.records),
            min(answer.ttl_s for answer in both),
            failure,
        )

    async def _find(self, key: Key) -> Answer:
        """Ask, follow aliases to their end, and keep the answer."""
        name, kind = key
        if name == "localhost" and kind in LOCALHOST:
            return Answer("found", LOCALHOST[kind], NEVER_TTL_S)
        answer = await self._ask(name, kind)
        seen = {name}
        ttl_s = answer.ttl_s
        while answer.status == "no_data" and answer.canonical:
            if answer.canonical in seen or len(seen) > MOST_ALIASES:
                answer = Answer("failed", (), RETRY_TTL_S, "there are too many aliases in a row")
                break
            seen.add(answer.canonical)
            answer = await self._ask(answer.canonical, kind)
            ttl_s = min(ttl_s, answer.ttl_s)
        else:
            answer = msgspec.structs.replace(answer, ttl_s=ttl_s)
        return self._cache.keep(key, answer, self._loop.time())

    async def _ask(self, name: str, kind: Kind) -> Answer:
        """Ask one name server after the other until one knows."""
        answer = Answer("failed", (), RETRY_TTL_S, "there is no name server")
        first = self._first
        order = [(first + turn) % len(self._servers) for turn in range(len(self._servers))]
        async with self._place():
            for number in order * ROUNDS:
                try:
                    answer = await self._ask_one(name, kind, self._servers[number])
                except Unaskable:
                    return Answer("no_name", (), NEVER_TTL_S, "it is no name that could be asked for")
                except TimeoutError:
                    answer = Answer("failed", (), RETRY_TTL_S, "the name server did not answer in time")
                except OSError as problem:
                    said = problem.strerror or str(problem)
                    answer = Answer("failed", (), RETRY_TTL_S, f"the name server cannot be reached: {said}")
                if answer.status != "failed":
                    self._first = number
                    break
        return answer

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for a place, and have it; what takes long gives it up, as long as not too much does."""
        await self._places.acquire()
        is_slow = False

        def make_room() -> None:
            nonlocal is_slow
            if self._n_slow < MOST_SLOW:
                is_slow = True
                self._n_slow += 1
                self._places.release()

        timer = self._loop.call_later(SLOW_S, make_room)
        try:
            yield
        finally:
            timer.cancel()
            if is_slow:
                self._n_slow -= 1
            else:
                self._places.release()

    async def _ask_one(self, name: str, kind: Kind, server: Server) -> Answer:
        self.n_asked += 1
        answer = await exchange(make_question(name, kind), server, self._timeout_s)
        if answer is NO_EDNS:
            answer = await exchange(make_question(name, kind, edns=False), server, self._timeout_s)
        return answer
