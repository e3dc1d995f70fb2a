"""`mta queue` when something is wrong with the queue: one sentence and exit 1, and never a traceback."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mta.cli.queue import write_content
from mta.errors import StartError
from mta.link import Kind, Leases, frame
from mta.message import QueueName
from mta.store import (
    MessageRow,
    PartRow,
    Reader,
    RecipientRow,
    Writer,
    due_key,
    encode,
    number_key,
    open_queue,
    part_name,
    recipient_key,
)

MTA = str(Path(sys.executable).parent / "mta")
MAP_OCTETS = 1 << 26
IDS = [bytes([n]) * 16 for n in (1, 2, 3)]
COMMANDS = (("list", "--json"), ("list",), ("count",), ("show", IDS[0].hex()))


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
    """Make a queue of three messages; return its data_dir."""
    data_dir = config.parent / "data"
    writer = Writer(str(data_dir), MAP_OCTETS)
    writer.begin()
    number = open_queue(writer, QueueName("default", "", 0, "[IPv6:2001:db8::1]", ""), 100)
    for id_ in IDS:
        extent = writer.add_extent(b"content")
        row = MessageRow("s@a.test", 7, 90_000, "default", "", ((extent, 7),), 0, 1, 1)
        name = part_name(id_, 0)
        assert writer.add("message", id_, encode(row))
        assert writer.add("part", name, encode(PartRow(number, 100, 900, 0, 0, "", "", 1, 1)))
        assert writer.add("due", due_key(number, 100, name), b"")
        assert writer.add("recipient", recipient_key(name, 0), encode(RecipientRow("x@a.test", "", None, 0)))
    writer.commit()
    writer.close()
    return data_dir


def mta(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [MTA, "queue", *words, "-c", str(config)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command that failed said: one line, and exit code 1."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("mta: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def change(data_dir: Path, table: str, key: bytes, value: bytes | None) -> None:
    """Replace a row of the queue, or remove it."""
    writer = Writer(str(data_dir), MAP_OCTETS)
    writer.begin()
    if value is None:
        writer.remove(table, key)
    else:
        writer.replace(table, key, value)
    writer.commit()
    writer.close()


@pytest.mark.usefixtures("queue")
def test_queue_list_limit_is_counted_in_json_and_in_tables(config: Path) -> None:
    done = mta(config, "list", "--json", "--limit", "2")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [id_.hex() for id_ in IDS[:2]]
    assert mta(config, "list", "--limit", "2").stdout.endswith("2 messages\n")
    assert mta(config, "list", "--limit", "0").stdout.endswith("3 messages\n")


@pytest.mark.usefixtures("queue")
def test_queue_list_domain_is_found_in_any_spelling(config: Path) -> None:
    assert mta(config, "list", "--domain", "[ipv6:2001:DB8:0::1]").stdout.endswith("3 messages\n")
    assert mta(config, "list", "--domain", "other.test").stdout.endswith("0 messages\n")


@pytest.mark.parametrize(
    ("words", "n_messages"),
    [
        (("--sender", "s@a.test"), 3),
        (("--sender", "<>"), 0),
        (("--tenant", "default"), 3),
        (("--tenant", "other"), 0),
        (("--campaign", "other"), 0),
        (("--state", "waiting"), 3),
        (("--state", "held"), 0),
        (("--domain", "[IPv6:2001:db8::1]", "--sender", "s@a.test", "--state", "waiting"), 3),
        (("--domain", "[IPv6:2001:db8::1]", "--sender", "other@a.test"), 0),
    ],
)
@pytest.mark.usefixtures("queue")
def test_queue_list_shows_what_fits_in_everything(config: Path, words: tuple[str, ...], n_messages: int) -> None:
    assert mta(config, "list", *words).stdout.endswith(f"{n_messages} messages\n")


def test_queue_list_domain_says_what_cannot_be_read(config: Path, queue: Path) -> None:
    change(queue, "part", part_name(IDS[0], 0), b"\xc1")
    done = mta(config, "list", "--domain", "[IPv6:2001:db8::1]", "--json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [id_.hex() for id_ in IDS[1:]]
    assert "1 row of the queue cannot be read" in done.stderr
    change(queue, "queue", number_key(1), b"\xc1")
    done = mta(config, "list", "--domain", "[IPv6:2001:db8::1]", "--json")
    assert done.stdout == ""
    assert "1 row of the queue cannot be read" in done.stderr


@pytest.mark.parametrize("words", COMMANDS)
def test_queue_that_is_no_lmdb_file_is_a_sentence(config: Path, queue: Path, words: tuple[str, ...]) -> None:
    (queue / "queue" / "data.mdb").write_bytes(b"x" * 8192)
    assert "cannot be read" in sentence(mta(config, *words))


@pytest.mark.parametrize("words", COMMANDS)
def test_queue_that_is_not_there_is_a_sentence(config: Path, words: tuple[str, ...]) -> None:
    assert "there is no queue yet" in sentence(mta(config, *words))


def test_queue_file_that_the_system_will_not_open_is_a_sentence(config: Path, queue: Path) -> None:
    (queue / "queue" / "data.mdb").unlink()
    (queue / "queue" / "data.mdb").mkdir()
    assert "cannot be read" in sentence(mta(config, "count"))


@pytest.mark.parametrize("words", [("count",), ("list",), ("list", "--json"), ("show", IDS[0].hex())])
def test_queue_row_that_cannot_be_decoded_is_a_sentence(config: Path, queue: Path, words: tuple[str, ...]) -> None:
    change(queue, "part", part_name(IDS[0], 0), b"\xc1")
    done = mta(config, *words)
    assert "cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1
    if words[0] != "show":
        # The others are not kept from anybody by it.
        assert done.stdout


def test_queue_show_content_that_is_not_all_there_is_a_sentence(config: Path, queue: Path) -> None:
    # The first row of the table is the only chunk of the first message.
    writer = Writer(str(queue), MAP_OCTETS)
    ((key, _), *_) = writer.look("body", b"", 1)
    writer.close()
    change(queue, "body", key, None)
    assert "octets are not where they should be" in sentence(mta(config, "show", IDS[0].hex(), "--content"))


def test_queue_content_of_a_message_delivered_meanwhile_is_said_to_have_left(queue: Path) -> None:
    reader = Reader(str(queue), MAP_OCTETS)
    queued = reader.queued(IDS[0])
    reader.close()
    assert queued is not None
    writer = Writer(str(queue), MAP_OCTETS)
    ((body, _), *_) = writer.look("body", b"", 1)
    writer.close()
    change(queue, "body", body, None)
    change(queue, "message", IDS[0], None)
    reader = Reader(str(queue), MAP_OCTETS)
    with pytest.raises(StartError, match="has just left the queue"):
        write_content(reader, queued)
    reader.close()


def test_queue_link_socket_that_cannot_be_reached_is_a_sentence(config: Path, queue: Path) -> None:
    (queue / "link.sock").symlink_to("link.sock")
    assert "cannot be asked: Too many levels" in sentence(mta(config, "count"))


def test_queue_process_that_answers_nonsense_is_a_sentence(config: Path, queue: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(os.path.relpath(queue / "link.sock"))
        listening.listen()
        command = [MTA, "queue", "count", "-c", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            link, _ = listening.accept()
            with link:
                wire = frame(Kind.ASK, Leases(()))
                link.sendall(wire[:-1] + b"\xc1")
                stdout, stderr = process.communicate(timeout=30)
    done = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    assert "cannot be read" in sentence(done)
