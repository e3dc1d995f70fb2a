"""What holds for every test run, by its environment.

CI=true: a test that is skipped has failed. MTA_FROM=DIRECTORY: the `mta` under test has to come from there, and not by
accident from the checkout that the tests stand in.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

import mta


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") == "true" and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI=true allows no skips: {report.longrepr}"


def pytest_report_header() -> str:
    """Say which `mta` is tested, and stop if it is not the one that shall be."""
    found = Path(mta.__file__).parent
    wanted = os.environ.get("MTA_FROM")
    if wanted and Path(wanted).resolve() not in found.resolve().parents:
        pytest.exit(f"testing {found}, not the one in {wanted}", returncode=3)
    # What is installed somewhere else has the times of its archive.
    for module in () if wanted else found.rglob("*.so"):
        source = module.with_name(module.name.partition(".")[0] + ".py")
        # Otherwise what was just changed would not be what is tested.
        if source.exists() and source.stat().st_mtime > module.stat().st_mtime:
            pytest.exit(f"{source} is newer than what was compiled from it: make build", returncode=3)
    return f"mta: {found}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into its failure."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that is skipped as a whole."""
    report = yield
    _fail_if_skipped(report)
    return report
