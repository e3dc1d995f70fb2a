"""The consumer: every event under its own number, once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.message import now_ms
from mta.report import Fault, GapError, SegmentWriter, encode
from mta.report.consumer import Consumer
from tests.report.samples import read_all, rows, sample


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[Consumer]:
    writer = SegmentWriter(str(tmp_path), 1000, 0)
    yield Consumer(writer)
    writer.close()


def test_consumer_take_skips_what_is_written(consumer: Consumer, tmp_path: Path) -> None:
    consumer.take(rows(1, 10))
    consumer.take(rows(1, 10))
    consumer.take(rows(5, 10))
    consumer.take([])
    assert consumer.last_seq == 14
    assert read_all(tmp_path) == list(range(1, 15))


@pytest.mark.parametrize("bad", [rows(12, 1), rows(11, 2) + rows(14, 1), rows(9, 2) + rows(12, 1)])
def test_consumer_take_gap_is_an_error_and_nothing_is_written(
    consumer: Consumer, tmp_path: Path, bad: list[tuple[int, bytes]]
) -> None:
    consumer.take(rows(1, 10))
    with pytest.raises(GapError):
        consumer.take(bad)
    assert read_all(tmp_path) == list(range(1, 11))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\xa1x\x01\x02",
        encode(["received", 1]),
        sample(2)[:-1],
        encode(Fault(10**18, b"", "", "", "")),
    ],
    ids=["nothing", "no msgpack", "another type", "too few fields", "cut short", "no such year"],
)
def test_consumer_take_unreadable_event_becomes_a_fault_of_its_number(
    consumer: Consumer, tmp_path: Path, data: bytes
) -> None:
    consumer.take([(1, sample(1)), (2, data), (3, sample(3))])
    lines = [json.loads(line) for line in next(tmp_path.iterdir()).read_bytes().splitlines()]
    assert [row["seq"] for row in lines] == [1, 2, 3]
    assert lines[1]["event"] == "fault"
    assert data.hex() in lines[1]["detail"]


def test_consumer_compare_knows_its_own_rows_and_no_others(consumer: Consumer) -> None:
    own = rows(1, 40)
    own[4] = (5, b"broken")
    for at in range(0, 40, 10):
        consumer.take(own[at : at + 10])
    for row in own:
        consumer.compare(row)
    with pytest.raises(GapError, match="belong to another queue"):
        consumer.compare((1, encode(Fault(now_ms(), b"", "", "queue", "x"))))


def test_consumer_compare_row_older_than_the_files_is_another_queues(consumer: Consumer) -> None:
    consumer.take(rows(100, 10))
    with pytest.raises(GapError, match="belong to another queue"):
        consumer.compare((1, sample(1)))
