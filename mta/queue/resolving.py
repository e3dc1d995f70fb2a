"""The line of queues that wait to hear where their mail goes.

Rule: each domain is asked once, and again when no answer came; so many questions are asked at once, and no tenant has
more than its share of them while others wait. One that stays without an answer for a moment gives its place up and goes
on beside the others: domains of which the name servers are silent must not hold up those that answer.

Pure: no clock. Called by `schedule`, `granting` and the plans.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from mta.queue.awake import Queue

__all__ = ["RESOLVE_AGAIN_MS", "Question", "Resolving"]

RESOLVE_AGAIN_MS = 60_000
"""How long a worker may take to answer where a domain goes: name servers may be slow, and may be several."""
MOST_QUESTIONS = 500
MOST_SLOW = 5000
"""The resolvers of the workers bear as many: each is a socket for as long as it is open."""
SLOW_MS = 1000


class Question(msgspec.Struct, frozen=True):
    """An order: ask some worker where a domain goes."""

    domain: str
    route: str


class Resolving:
    """All queues without a fresh route."""

    def __init__(self) -> None:
        self._asking: dict[Question, dict[int, Queue]] = {}
        # The questions that are not open, by tenant, in the order in which they came; and those that are.
        self._lines: dict[str, dict[Question, None]] = {}
        self._open: dict[Question, tuple[int, str]] = {}
        # Open for so long that they have given up their places, with when they were asked and the tenant, too.
        self._slow: dict[Question, tuple[int, str]] = {}
        self._n_open: Counter[str] = Counter()

    def ask(self, queue: Queue) -> None:
        """Put a queue into the line; it may be there already."""
        question = Question(queue.name.domain, queue.name.route)
        waiting = self._asking.get(question)
        if waiting is None:
            waiting = self._asking[question] = {}
            self._lines.setdefault(queue.name.tenant, {})[question] = None
        waiting[queue.number] = queue

    def forget(self, queue: Queue) -> None:
        """A queue went to sleep: nobody waits for its answer any more."""
        question = Question(queue.name.domain, queue.name.route)
        waiting = self._asking.get(question)
        if waiting is not None and waiting.pop(queue.number, None) is not None and not waiting:
            self.answered(question)

    def answered(self, question: Question) -> list[Queue]:
        """Return the queues that waited for this answer; they are off the line."""
        self._close(question)
        for tenant, line in list(self._lines.items()):
            if question in line:
                del line[question]
                if not line:
                    del self._lines[tenant]
        return list(self._asking.pop(question, {}).values())

    def ask_again(self, queues: Iterable[Queue] = ()) -> None:
        """Ask for these, and put every question again that is open: who was asked is gone, or knows what is no more."""
        for question, (_, tenant) in [*self._slow.items(), *self._open.items()]:
            self._put_back(question, tenant)
        for queue in queues:
            self.ask(queue)

    def questions(self, now: int) -> list[Question]:
        """Return what a worker should be asked now."""
        for questions_open in (self._slow, self._open):
            while questions_open:
                question, (asked_at, tenant) = next(iter(questions_open.items()))
                if asked_at + RESOLVE_AGAIN_MS >= now:
                    break
                self._put_back(question, tenant)
        self._make_room(now)
        questions: list[Question] = []
        if not self._lines:
            return questions
        share = max(1, MOST_QUESTIONS // len(self._lines.keys() | self._n_open.keys()))
        for tenant, line in list(self._lines.items()):
            while line and len(self._open) < MOST_QUESTIONS and self._n_open[tenant] < share:
                question = next(iter(line))
                del line[question]
                self._open[question] = (now, tenant)
                self._n_open[tenant] += 1
                questions.append(question)
            if not line:
                del self._lines[tenant]
        return questions

    def _make_room(self, now: int) -> None:
        """Take their places from questions that have had time for an ordinary answer."""
        while self._open and len(self._slow) < MOST_SLOW:
            question, asked = next(iter(self._open.items()))
            if asked[0] + SLOW_MS > now:
                break
            self._close(question)
            self._slow[question] = asked

    def _put_back(self, question: Question, tenant: str) -> None:
        self._close(question)
        self._lines.setdefault(tenant, {})[question] = None

    def _close(self, question: Question) -> None:
        if self._slow.pop(question, None) is not None:
            return
        _, tenant = self._open.pop(question, (0, ""))
        if tenant in self._n_open:
            self._n_open[tenant] -= 1
            if not self._n_open[tenant]:
                del self._n_open[tenant]
