"""What an image of the master leaves to the next, and what it does not take."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from typing import cast

import msgspec
import pytest

from mta.child import Bound
from mta.config import Config, Listener
from mta.errors import StartError
from mta.master.children import Kid, Nursery
from mta.master.family import Family
from mta.master.handover import HANDOVER_VERSION, VARIABLE, Handover, KidRecord, read, take_over, write
from mta.master.hush import hush
from mta.master.sockets import Plan

from .test_master import PATIENCE_S

CONFIG = Config(hostname="mx.example.test", data_dir="/nowhere", listener=(Listener(bind=("127.0.0.1:0",)),))
KIDS = [KidRecord("worker", 1, 77, -1, 5.0, True, False, False, float("inf"), ["leave", [0]], True)]


def record(**changes: object) -> Handover:
    """Return a record of a server that does not exist."""
    config = msgspec.Raw(msgspec.msgpack.encode(CONFIG))
    whole = Handover(
        HANDOVER_VERSION, os.getpid(), config, 0, 0, 0, (0, 0), [], KIDS, [["died", "queue", 7, "exit 1"]], [10]
    )
    return msgspec.structs.replace(whole, **changes)


def written(octets: bytes) -> int:
    """Return the descriptor of a memory file."""
    fd = os.memfd_create("test")
    os.write(fd, octets)
    return fd


def test_handover_is_read_as_it_was_written() -> None:
    fd = write(record())
    try:
        again = read(fd)
        assert msgspec.structs.replace(again, config=record().config) == record()
        assert again.read_config() == CONFIG
        kid = again.family(Plan(CONFIG, ((),)), 9.0)[0]
        assert (kid.name, kid.pid, kid.control, kid.heard_at, kid.farewell) == (
            "worker 1",
            77,
            None,
            9.0,
            ["leave", [0]],
        )
    finally:
        os.close(fd)


def test_handover_with_fields_of_a_later_version_is_read() -> None:
    raw = msgspec.msgpack.decode(msgspec.msgpack.encode(record()))
    fd = written(msgspec.msgpack.encode({**raw, "more": 1}))
    try:
        assert read(fd).kids == KIDS
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "no record of a running server"),
        (b"\xc1", "no record of a running server"),
        (b"\x81\xa7version\x01", "no record of a running server"),
        (msgspec.msgpack.encode(record(version=HANDOVER_VERSION + 1)), "stop it and start the new one"),
    ],
)
def test_handover_that_is_none_is_refused(octets: bytes, words: str) -> None:
    fd = written(octets)
    try:
        with pytest.raises(StartError, match=words):
            read(fd)
    finally:
        os.close(fd)


def test_handover_configuration_that_means_nothing_here_is_refused() -> None:
    strange = msgspec.Raw(msgspec.msgpack.encode({"hostname": "mx", "no_such_key": 1}))
    with pytest.raises(StartError, match="means nothing to this version"):
        record(config=strange).read_config()


def test_take_over_without_a_record_is_a_start() -> None:
    assert take_over({}) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lambda: "x", "expected the number of a descriptor"),
        (lambda: "9" * 5000, "expected the number of a descriptor"),
        (lambda: "999999", "no record"),
        (lambda: str(write(record(pid=1))), "the record is for process 1"),
    ],
)
def test_take_over_from_somebody_else_is_refused(text: Callable[[], str], words: str) -> None:
    environ = {VARIABLE: text()}
    with pytest.raises(StartError, match=words):
        take_over(environ)
    assert environ == {}


def test_family_one_that_does_not_leave_in_time_is_killed() -> None:
    plan = Plan(CONFIG, ((Bound(CONFIG.listener[0], socket.socket()),),))
    with plan.bounds[0][0].sock, subprocess.Popen(["sleep", "60"]) as sleeper:
        kid = Kid("worker", 1, plan, pid=sleeper.pid, is_ready=True, heard_at=time.monotonic())
        # Nobody is born here.
        family = Family([kid], cast(Nursery, None))
        family.dismiss(kid, 0.0)
        assert family.living("worker") == []
        family.kill_late(time.monotonic() + 0.1, 30.0)
        assert sleeper.wait(PATIENCE_S) == -9
        assert family.bury(sleeper.pid, "signal 9")
        assert family.kids == []
        # It hung: what it held is looked at with suspicion.
        assert family.news == [["died", "worker 1", sleeper.pid, "signal 9"]]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_hush_nobody_new_comes_and_who_is_at_the_door_is_served(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        where = server.getsockname()[:2]
        with socket.create_connection(where, PATIENCE_S) as early:
            hush(server)
            with pytest.raises(TimeoutError):
                socket.create_connection(where, 0.3)
            early.sendall(b"hello")
            with server.accept()[0] as client:
                assert client.recv(10) == b"hello"
                client.sendall(b"bye")
            assert early.recv(10) == b"bye"
