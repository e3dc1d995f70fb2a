"""The configuration that tests begin with, and what they need of the machine."""

import asyncio
import os
import shutil
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import pytest

__all__ = ["relaying", "require_tool", "run_async"]

T = TypeVar("T")
# The last is where `make peers` puts what Debian will not install beside Postfix.
PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/lib/mta-peers/usr/sbin"


def relaying(via: str, **tables: Mapping[str, object] | Sequence[object]) -> dict[str, object]:
    """Return a configuration with two workers that relays everything to `via`; `tables` replace or add tables.

    Times are short, so that a test that waits for one need not wait long.
    """
    ours: dict[str, object] = {
        "workers": {"count": 2},
        "route": [{"match": "*", "via": via}],
        "process": {"drain_s": 5},
        "retry": {"first_s": 1},
        "path": {"pause_s": 1},
    }
    return {**ours, **tables}


def require_tool(name: str, package: str) -> str:
    """Return the path of a program; without it skip the test, or fail it where tests must not be skipped (CI)."""
    path = shutil.which(name, path=PATH)
    if path is not None:
        return path
    said = f"{name} is missing: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


def run_async(scenario: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
    """Run a scenario to its end in a loop of its own. Raises TimeoutError."""

    async def limited() -> T:
        async with asyncio.timeout(timeout_s):
            return await scenario

    return asyncio.run(limited())
