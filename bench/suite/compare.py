"""Two result files side by side: which figures got worse by more than the noise.

Noise is how far apart the runs of one figure are, from the least to the most, in the file where that is more; what is
within a fiftieth is nobody's concern even if few runs agree by chance. The medians are what is compared.
"""

from typing import NamedTuple

from bench.suite.results import Figure, Measurement, Results
from bench.summary import Summary

__all__ = ["Change", "compare", "told"]

LEAST_NOISE = 0.02


class Change(NamedTuple):
    """One figure in both files."""

    measurement: str
    figure: Figure
    old: Summary
    new: Summary

    @property
    def noise(self) -> float:
        """What the medians may differ by for no reason, in the figure's unit."""
        return max(*(each.max - each.min for each in (self.old, self.new)), LEAST_NOISE * self.old.median)

    @property
    def gain(self) -> float:
        """How much better the new one is, in the figure's unit; below 0 it is worse."""
        more = self.new.median - self.old.median
        return more if self.figure.is_better_high else -more

    @property
    def is_worse(self) -> bool:
        """Whether it is worse by more than the noise."""
        return self.gain < -self.noise

    @property
    def is_better(self) -> bool:
        """Whether it is better by more than that."""
        return self.gain > self.noise


def compare(old: Results, new: Results) -> tuple[list[Change], list[str]]:
    """Return every figure that both files have, and what went wrong with measurements that the old one has: those that
    fail in the new one, and, if both are of one plan, those that are gone from it."""
    changes: list[Change] = []
    broken: list[str] = []
    for before in old.measurements:
        after = new.find(before.server, before.shape)
        if not before.runs or before.failed:
            continue
        if after is not None and after.failed:
            broken.append(f"{after.name}: {after.failed}")
        elif after is not None and after.runs:
            changes += _changes(before, after)
        elif old.plan == new.plan:
            broken.append(f"{before.name}: is gone")
    return changes, broken


def _changes(before: Measurement, after: Measurement) -> list[Change]:
    return [Change(before.name, each, before.sum_up(each), after.sum_up(each)) for each in before.figures]


def told(changes: list[Change]) -> str:
    """Return a line for each change, the worst first."""
    lines = []
    for change in sorted(changes, key=lambda change: change.gain / max(change.noise, 1e-9)):
        verdict = "WORSE" if change.is_worse else "better" if change.is_better else "same"
        medians = f"{change.old.median:.5g} -> {change.new.median:.5g}"
        lines.append(f"{verdict:6} {change.measurement}: {change.figure.name} {medians} (noise {change.noise:.3g})")
    return "\n".join(lines)
