"""One figure of several runs: the median, and beside it the least and the most, which say how much to believe it."""

from collections.abc import Iterable
from statistics import median
from typing import Self

import msgspec

__all__ = ["Summary"]

DIGITS = 3


class Summary(msgspec.Struct, frozen=True):
    """What is told of a figure, rounded to thousandths."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, figures: Iterable[float]) -> Self:
        """Sum up at least one."""
        some = [round(each, DIGITS) for each in figures]
        return cls(round(median(some), DIGITS), min(some), max(some))
