"""Waiting for something that another process does, with a limit."""

import time
from collections.abc import Callable

__all__ = ["wait_until"]

STEP_S = 0.02


def wait_until(is_true: Callable[[], bool], what: str, timeout_s: float = 20.0, step_s: float = STEP_S) -> None:
    """Ask `is_true` every `step_s` seconds until it says yes. Raises TimeoutError, which names `what`."""
    end_at = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() >= end_at:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(step_s)
