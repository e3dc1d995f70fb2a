"""The queue process: the one writer of the queue, and the scheduler."""

from mta.queue.main import main

__all__ = ["main"]
