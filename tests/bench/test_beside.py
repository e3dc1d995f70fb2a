"""The deep queue and the idle connections, small: what is measured is there, and counts hold."""

import contextlib
from pathlib import Path

import pytest

from bench import deep, idle
from bench.beside import compare
from bench.load import Load, Sink
from bench.peers import Posthaste

LOAD = Load(messages=100, connections=5)
DEPTH = 300


def test_deep_fills_keeps_and_drains_a_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not a multiple of the domains: the last part of the load is a smaller one.
    monkeypatch.setattr(deep, "DOMAINS", 110)
    found = deep.measure(DEPTH, 1, tmp_path, LOAD)
    drained = found.drain
    assert (drained.left, drained.lost, drained.doubled, drained.changed) == (0, 0, 0, 0)
    assert (found.messages, found.domains) == (DEPTH, 110)
    assert set(found.relayed) == set(found.first_ms) == {"deep", "empty"}
    assert all(each.rate.median > 0 and each.cpu_us.median > 0 for each in found.relayed.values())
    assert set(found.rss_anon_mb) == {"fill", "deep", "empty", "drain"}
    assert min(found.rss_anon_mb.values()) > 5
    # The kept one is as it was before it was drained, and nobody need fill it again.
    with Sink() as later, contextlib.closing(Posthaste(later.via)) as server:
        done, filling = deep.filled(server, later, DEPTH, tmp_path)
        assert not filling
        assert server.server.count()["deferred"] == sum(sent.accepted for sent in done) == DEPTH
        drained = deep.drain(server, later, done)
    assert (drained.left, drained.lost, drained.doubled, drained.changed) == (0, 0, 0, 0)


def test_idle_connections_stay_open_beside_a_load() -> None:
    found = idle.measure(60, 1, LOAD)
    assert found.still_open == found.connections == 60
    assert found.rest_mb > 20
    assert set(found.relayed) == {"beside", "without"}


def test_idle_connections_that_the_server_ends_are_not_open() -> None:
    with Sink() as sink, Posthaste(sink.via) as server:
        connections = [idle.connect(server.address, number) for number in range(3)]
        assert idle.count_open(connections) == 3
        connections[1].sendall(b"QUIT\r\n")
        connections[1].setblocking(True)
        while connections[1].recv(4096):
            pass
        connections[1].setblocking(False)
        assert idle.count_open(connections) == 2
        for connection in connections:
            connection.close()


def test_compare_raises_when_a_message_is_not_accepted() -> None:
    config = {"limits": {"message_octets": 1000}}
    load = Load(messages=20, connections=5)
    said = pytest.raises(RuntimeError, match=r"0 of 20 accepted, refused \{'552': 20}")
    with Sink() as sink, Posthaste(sink.via, config=config) as server, said:
        compare({"small": server}, sink, load, 1)
