"""Latencies as HDR histograms: three digits, microseconds, up to an hour. They travel, and are kept, as text."""

from collections.abc import Mapping

import msgspec
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

__all__ = ["Percentiles", "encode", "histogram", "percentiles"]

MOST_US = 3_600_000_000
DIGITS = 3


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """What is usually asked of a histogram, in microseconds; all 0 of an empty one."""

    count: int
    p50: int
    p90: int
    p99: int
    p999: int
    most: int


def encode(counts: Mapping[int, int]) -> str:
    """Return the histogram of {microseconds: how many}."""
    made = HdrHistogram(1, MOST_US, DIGITS)
    for value, count in counts.items():
        made.record_value(value, count)
    return str(made.encode().decode("ascii"))


def histogram(encoded: str) -> HdrHistogram:
    """Return the histogram itself, as of the package hdrhistogram."""
    return HdrHistogram.decode(encoded.encode("ascii"))


def percentiles(encoded: str) -> Percentiles:
    """Return the percentiles of an encoded histogram."""
    read = histogram(encoded)
    if not read.get_total_count():
        return Percentiles(count=0, p50=0, p90=0, p99=0, p999=0, most=0)
    p50, p90, p99, p999 = (read.get_value_at_percentile(share) for share in (50, 90, 99, 99.9))
    return Percentiles(count=read.get_total_count(), p50=p50, p90=p90, p99=p99, p999=p999, most=read.get_max_value())
