"""`mta queue verify`, `--repair` and `compact`: what they say and how they exit."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from mta.store import due_key
from tests.cli.test_queue import mta, sentence
from tests.store.damage import MAP_OCTETS, id_of, make_queue, part_of, raw


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mta.toml"
    path.write_text(
        f'hostname = "mx.test"\ndata_dir = "data"\n[[listener]]\nbind = ["127.0.0.1:0"]\n'
        f"[queue]\nmap_octets = {MAP_OCTETS}\n"
    )
    (tmp_path / "data").mkdir()
    return path


@pytest.fixture
def queue(config: Path) -> Path:
    """Make a good queue; return its data_dir."""
    data_dir = config.parent / "data"
    make_queue(data_dir)
    return data_dir


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("words", [("verify",), ("verify", "--repair")])
def test_queue_verify_good_queue_is_ok_and_exit_0(config: Path, words: tuple[str, ...]) -> None:
    done = mta(config, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_queue_verify_damage_is_a_line_each_and_exit_1(config: Path, queue: Path) -> None:
    stray = due_key(77, 5, part_of(99))
    with raw(queue) as tables:
        tables.put("message", id_of(2), b"\xc1")
        tables.put("due", stray, b"")
    done = mta(config, "verify")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert f"message {id_of(2).hex()}: the row cannot be decoded" in lines
    assert f"due {stray.hex()}: part {part_of(99).hex()} is not there" in lines
    assert len(lines) == 3
    assert done.stderr == f"mta: 3 things are wrong with the queue in {queue}\n"
    # It only looks.
    assert mta(config, "verify").stdout == done.stdout


def test_queue_verify_repair_says_what_it_did_and_leaves_ok(config: Path, queue: Path) -> None:
    with raw(queue) as tables:
        for key, _ in tables.rows("timer"):
            tables.delete("timer", key)
    done = mta(config, "verify", "--repair")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 7
    assert all(line.startswith("timer ") and line.endswith("; made again") for line in lines[:-1])
    assert lines[-1] == "ok"
    assert mta(config, "verify").stdout == "ok\n"


def test_queue_verify_repair_says_what_is_left_and_exits_1(config: Path, queue: Path) -> None:
    with raw(queue) as tables:
        tables.put("meta", b"node", b"x")
    done = mta(config, "verify", "--repair")
    assert done.returncode == 1
    assert done.stdout == "meta node: it is not a number; left as it is\n"
    assert done.stderr == f"mta: one thing is left that cannot be mended in the queue in {queue}\n"


@pytest.mark.parametrize("words", [("verify", "--repair"), ("compact",)])
def test_queue_commands_that_write_need_the_lock(config: Path, queue: Path, words: tuple[str, ...]) -> None:
    before = (queue / "queue" / "data.mdb").read_bytes()
    fd = os.open(queue / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        assert sentence(mta(config, *words)) == f"mta: a server is running on data_dir {queue}: stop it first\n"
        # Looking does not.
        assert mta(config, "verify").returncode == 0
    finally:
        os.close(fd)
    assert (queue / "queue" / "data.mdb").read_bytes() == before


@pytest.mark.parametrize("words", [("verify",), ("verify", "--repair"), ("compact",)])
def test_queue_that_is_not_there_is_a_sentence_and_stays_so(config: Path, words: tuple[str, ...]) -> None:
    assert "there is no queue yet" in sentence(mta(config, *words))
    assert list((config.parent / "data").iterdir()) == []


@pytest.mark.parametrize("words", [("verify",), ("verify", "--repair"), ("compact",)])
def test_queue_that_is_no_lmdb_file_is_a_sentence(config: Path, queue: Path, words: tuple[str, ...]) -> None:
    (queue / "queue" / "data.mdb").write_bytes(b"x" * 8192)
    assert str(queue) in sentence(mta(config, *words))
    assert (queue / "queue" / "data.mdb").read_bytes() == b"x" * 8192


def test_queue_compact_says_octets_before_and_after(config: Path, queue: Path) -> None:
    with raw(queue) as tables:
        for n in range(2000):
            tables.put("gone", b"%016d" % n, bytes(500))
    with raw(queue) as tables:
        for n in range(2000):
            tables.delete("gone", b"%016d" % n)
    before = (queue / "queue" / "data.mdb").stat().st_size
    done = mta(config, "compact")
    assert done.returncode == 0, done.stderr
    after = (queue / "queue" / "data.mdb").stat().st_size
    assert after < before // 2
    assert done.stdout.startswith(f"before {before:,} octets (1.")
    assert f"after {after:,} octets (" in done.stdout
    assert mta(config, "verify").stdout == "ok\n"


@pytest.mark.usefixtures("queue")
def test_queue_message_set_aside_is_shown_without_a_next_time(config: Path) -> None:
    rows = [json.loads(line) for line in mta(config, "list", "--json", "--state", "aside").stdout.splitlines()]
    assert [(row["id"], row["next_at"]) for row in rows] == [(id_of(4).hex(), "")]
    (shown,) = (json.loads(line) for line in mta(config, "show", id_of(4).hex(), "--json").stdout.splitlines())
    assert [recipient["next_at"] for recipient in shown["recipients"]] == [""]
    for words in (("list",), ("show", id_of(4).hex())):
        done = mta(config, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert "aside" in done.stdout
