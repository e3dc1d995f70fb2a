"""Instruction counts: they repeat, and work that does more is told."""

from pathlib import Path

import msgspec
import pytest

from bench.counts import KEPT, LAYOUTS, CountFailed, build, count, find_kept, judge, keep
from bench.counts.__main__ import main
from bench.work import WORKS
from bench.work.session import SessionWork
from tests.bench.small import More, Wrong
from tests.harness.setup import require_tool


@pytest.fixture(autouse=True)
def _valgrind() -> None:
    require_tool("valgrind", "valgrind")


def test_count_repeats_and_work_that_does_more_is_told() -> None:
    first = count({"session": SessionWork}, LAYOUTS, 100)
    second = count({"session": SessionWork}, LAYOUTS, 100)
    assert second["session"] == pytest.approx(first["session"], rel=0.005)
    assert judge(first, second) == []
    assert judge(first, count({"session": More}, LAYOUTS, 100)) == ["session"]


def test_count_of_work_that_fails_says_how() -> None:
    with pytest.raises(CountFailed, match="the session took no message"):
        count({"session": Wrong})


@pytest.mark.parametrize(
    ("found", "told"),
    [(1000, []), (1020, []), (1021, ["store"]), (500, [])],
    ids=["the same", "two percent", "more", "less"],
)
def test_judge_more_than_two_percent_is_too_much(found: int, told: list[str]) -> None:
    assert judge({"store": 1000, "read": 10}, {"store": found, "queue": 5000}) == told


def test_kept_counts_are_of_one_build_and_beside_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert find_kept(path, {"python": "3.11"}) is None
    keep(path, {"python": "3.11"}, {"store": 1, "read": 2})
    keep(path, {"python": "3.12"}, {"store": 3})
    keep(path, {"python": "3.11"}, {"store": 4})
    assert find_kept(path, {"python": "3.11"}) == {"store": 4, "read": 2}
    assert find_kept(path, {"python": "3.12"}) == {"store": 3}
    assert find_kept(path, {"python": "3.13"}) is None


def test_command_compares_with_the_same_build_or_with_the_one_most_like_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, ours = tmp_path / "kept.json", build()
    found = count({"schedule": WORKS["schedule"]}, LAYOUTS)["schedule"]
    keep(path, ours | {"msgspec": "0", "lmdb": "0"}, {"schedule": 1})
    keep(path, ours | {"msgspec": "0"}, {"schedule": round(found / 1.05)})
    assert main(["schedule"], path) == 0
    said = capsys.readouterr().out
    assert "compared with the one most like it" in said
    assert f"msgspec    {ours['msgspec']}, kept 0" in said
    keep(path, ours | {"msgspec": "0"}, {"schedule": round(found / 1.2)})
    assert main(["schedule"], path) == 1
    assert "TOO MUCH: schedule takes" in capsys.readouterr().out
    keep(path, ours, {"schedule": found})
    assert main(["schedule"], path) == 0
    keep(path, ours, {"schedule": round(found / 1.05)})
    assert main(["schedule"], path) == 1
    assert "102% may be" in capsys.readouterr().out


def test_command_that_can_compare_nothing_fails_in_ci(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.json"
    keep(path, build() | {"python": "2.7.18"}, {"schedule": 1})
    keep(path, build() | {"machine": "another"}, {"schedule": 1})
    monkeypatch.setenv("CI", "true")
    assert main(["schedule"], path) == 1
    assert "NOT COMPARED, nothing is kept for a build like this: schedule" in capsys.readouterr().out
    monkeypatch.delenv("CI")
    assert main(["schedule"], path) == 0


def test_kept_file_names_work_that_there_is() -> None:
    for kept in msgspec.json.decode(KEPT.read_bytes()):
        assert set(kept["counts"]) == set(WORKS)
