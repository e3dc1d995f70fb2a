"""A writer on a real environment, closed after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.store import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Give an open writer; its data_dir is `tmp_path`."""
    opened = Writer(str(tmp_path), 1 << 26)
    yield opened
    opened.close()
