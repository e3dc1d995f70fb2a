"""Which queue of a path is served next: deficit round robin, with new queues first.

Rule: a queue's turn lasts until the parts it gave have cost QUANTUM times its weight; what it overdrew is taken off its
next turn. A queue that comes to a path with nothing waiting gets its first turn at once, even in the middle of another
one's, so that a few messages are not buried behind a bulk one; between two such turns an old queue gets a whole one, so
that a stream of new queues does not starve the old ones.

Pure: queues and paths come in, queues come out. Called by `schedule` and `granting`.
"""

from mta.queue.awake import Path, Queue

__all__ = ["enlist", "spend", "strike", "turn"]

QUANTUM = 10
"""About ten small messages to one recipient each."""
# Each step of priority doubles a queue's share, or halves it.
MOST_STEPS = 3


def enlist(path: Path, queue: Queue) -> None:
    """Let a queue with ready parts take turns on its path; it may be listed already."""
    if not queue.is_listed:
        queue.is_listed = True
        queue.deficit = 0
        path.fresh[queue.number] = queue


def strike(path: Path, queue: Queue) -> None:
    """Take a queue off its path."""
    if queue.is_listed:
        queue.is_listed = False
        if path.turn is queue:
            path.turn = None
        else:
            path.fresh.pop(queue.number, None)
            path.turns.pop(queue.number, None)


def turn(path: Path) -> Queue | None:
    """Return the queue whose turn it is, one that has ready parts; None when there is none."""
    queue = path.turn
    if queue is not None and queue.ready and queue.deficit > 0 and not (path.fresh and path.may_yield):
        return queue
    while True:
        if queue is not None:
            _put_back(path, queue)
        queue = _next(path)
        if queue is None or (queue.ready and queue.deficit > 0):
            return queue


def spend(queue: Queue, cost: int) -> None:
    """Note that a queue gave a part of that cost."""
    queue.deficit -= cost


def _put_back(path: Path, queue: Queue) -> None:
    path.turn = None
    if not queue.ready:
        queue.is_listed = False
    elif queue.deficit > 0:
        # A new one came in between: the rest of the turn is not lost.
        path.turns[queue.number] = queue
        path.turns.move_to_end(queue.number, last=False)
    else:
        path.turns[queue.number] = queue


def _next(path: Path) -> Queue | None:
    if path.fresh and not (path.was_fresh and path.turns):
        (_, path.turn), is_fresh = path.fresh.popitem(last=False), True
    elif path.turns:
        (_, path.turn), is_fresh = path.turns.popitem(last=False), False
    else:
        return None
    # The turn after a new queue's is an old one's, whole.
    path.may_yield = not is_fresh and not path.was_fresh
    path.was_fresh = is_fresh
    queue = path.turn
    if queue.deficit <= 0:
        queue.deficit += _quantum(queue)
    return queue


def _quantum(queue: Queue) -> int:
    steps = max(-MOST_STEPS, min(queue.name.priority, MOST_STEPS))
    return QUANTUM << steps if steps >= 0 else max(1, QUANTUM >> -steps)
