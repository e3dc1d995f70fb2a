"""The queue process: the one writer of the queue, and the scheduler. `repair` writes while no queue process runs."""

from mta.queue.main import main
from mta.queue.repair import repair

__all__ = ["main", "repair"]
