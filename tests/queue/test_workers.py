"""Which workers are known, and which ids they may still put again."""

import socket
from collections.abc import Iterator
from typing import Literal

import pytest

from mta.link import Connection, Hello
from mta.queue.workers import Worker, Workers


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Give a connection that nothing is said over."""
    ours, theirs = socket.socketpair()
    made = Connection(ours, memoryview(bytearray(10)))
    yield made
    made.close()
    theirs.close()


def join(workers: Workers, connection: Connection, pid: int = 10) -> Worker:
    """Let a worker say HELLO and READY over both connections."""
    roles: tuple[Literal["in", "out"], ...] = ("out", "in")
    for role in roles:
        worker = workers.connected(pid, Hello(1, role, 1, pid, pid, 2000, (), ()), connection)
    for role in roles:
        assert not worker.is_ready
        workers.ready(worker, role)
    assert worker.is_ready
    return worker


def ids(n: int) -> list[bytes]:
    return [bytes([at]) * 16 for at in range(n)]


def test_workers_check_in_only_when_everyone_on_the_first_list_is_ready_or_dead(connection: Connection) -> None:
    workers = Workers(set())
    assert not workers.have_checked_in
    workers.listed({10, 11, 12})
    assert workers.silent == {10, 11, 12}
    join(workers, connection, 10)
    join(workers, connection, 11)
    assert not workers.have_checked_in
    # The last one died; another was born, and nobody waits for it.
    workers.listed({10, 11, 13})
    assert workers.have_checked_in


def test_workers_bury_only_who_has_no_connection_and_is_not_listed(connection: Connection) -> None:
    workers = Workers(set())
    worker = join(workers, connection)
    workers.listed(set())
    assert workers.bury() == []
    worker.ends.clear()
    workers.listed({10})
    assert workers.bury() == []
    workers.listed(set())
    assert workers.bury() == [worker]
    assert workers.find(10) is None


def test_workers_confirmed_ids_may_be_forgotten_in_their_order(connection: Connection) -> None:
    first, second, third = ids(3)
    workers = Workers(set())
    worker = join(workers, connection)
    for id_ in (first, second, third):
        workers.answered(worker, id_)
    workers.gone.update((first, third))
    assert workers.confirmed(worker, 2) == [first]
    assert workers.confirmed(worker, 2) == []
    assert workers.repeatable == {third}
    assert workers.unrepeatable() == []
    assert workers.confirmed(worker, 99) == [third]
    assert workers.gone == set()


def test_workers_new_connection_counts_from_the_start(connection: Connection) -> None:
    first, second = ids(2)
    workers = Workers(set())
    worker = join(workers, connection)
    workers.answered(worker, first)
    workers.gone.add(first)
    again = workers.connected(10, Hello(1, "in", 1, 10, 10, 2000, (), ()), connection)
    assert again is worker
    # Until READY the worker may put the first again.
    assert workers.unrepeatable() == []
    workers.ready(worker, "in")
    assert workers.unrepeatable() == [first]
    workers.answered(worker, second)
    workers.gone.add(second)
    assert workers.confirmed(worker, 1) == [second]


def test_workers_dead_worker_repeats_nothing(connection: Connection) -> None:
    workers = Workers(set())
    worker = join(workers, connection)
    workers.answered(worker, ids(1)[0])
    workers.gone.update(ids(1))
    worker.ends.clear()
    workers.listed(set())
    workers.bury()
    assert workers.unrepeatable() == ids(1)


def test_workers_hello_that_claims_anothers_incarnation_is_refused(connection: Connection) -> None:
    workers = Workers(set())
    worker = join(workers, connection)
    with pytest.raises(ValueError, match="pid 99"):
        workers.connected(worker.incarnation, Hello(1, "out", 1, 99, worker.incarnation, 2000, (), ()), connection)
    assert worker.is_ready
