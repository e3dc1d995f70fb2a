"""A program beside the server, for the length of a `with`: a private Postfix, a name server, the server itself.

Rule: whoever begins to start one also ends it, even if it did not come so far as to serve.
"""

from abc import ABC, abstractmethod
from typing import Self

__all__ = ["Program"]


class Program(ABC):
    """What a test or a benchmark starts and ends."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until it serves."""

    @abstractmethod
    def close(self) -> None:
        """End it, if it runs, and leave nothing behind."""
