"""The scaling model: what it makes of costs that are known."""

from pathlib import Path

import pytest

from bench.scaling import Costs, Queue, Sample, fit, main, one_queue_rate, rate, read_costs, report

KEPT = Path(__file__).parents[2] / "bench" / "results" / "costs.json"


def costs(message_s: float, commit_s: float) -> Costs:
    """Return costs as such a queue process would show them, with 100 us of workers a message."""
    fills = ((1, 1.0), (16, 7.0), (200, 50.0))
    samples = [Sample(n, 1000.0, fill, message_s + commit_s / fill, 100e-6, 5e-6, 9000.0) for n, fill in fills]
    return Costs(tuple(samples), 200e-6)


def test_fit_finds_what_the_samples_were_made_of() -> None:
    queue = fit(costs(40e-6, 350e-6).samples)
    assert queue.message_s == pytest.approx(40e-6)
    assert queue.commit_s == pytest.approx(350e-6)


def test_one_queue_is_full_when_its_commits_follow_each_other() -> None:
    # 128 messages at 40 us, 350 us for their commit, 200 us of waiting: 5.67 ms.
    assert one_queue_rate(Queue(40e-6, 350e-6), 200e-6) == pytest.approx(128 / 5670e-6)


def test_cores_decide_until_the_queue_process_is_full_and_then_shards_do() -> None:
    measured = costs(40e-6, 350e-6)
    full = one_queue_rate(fit(measured.samples), measured.flush_s)
    assert rate(2, 1, measured) == rate(2, 8, measured) < full
    assert rate(64, 1, measured) == full
    assert rate(64, 2, measured) == 2 * full


def test_kept_costs_are_those_of_the_page() -> None:
    page = (KEPT.parents[1] / "SCALING.md").read_text(encoding="utf-8")
    for line in report(read_costs(KEPT)).splitlines():
        assert line in page, f"SCALING.md lacks: {line}"


def test_missing_or_broken_costs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "costs.json"
    broken.write_text("{")
    for path in (tmp_path / "none.json", broken):
        assert main([str(path)]) == 1
        assert str(path) in capsys.readouterr().err
