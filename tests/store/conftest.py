"""A writer on a real environment in a directory of the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.store import Writer

MAP_OCTETS = 1 << 26


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Give an open writer; its data_dir is `tmp_path`."""
    opened = Writer(str(tmp_path), MAP_OCTETS)
    yield opened
    opened.close()
