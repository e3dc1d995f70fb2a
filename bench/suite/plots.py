"""Pictures of a result file, each as PNG and as SVG: throughput against connections, and latency against load."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from bench.suite.plan import Shape
from bench.suite.results import RATE, WHOLE, Measurement, Results

__all__ = ["plot"]

COLOURS = {"posthaste": "tab:blue", "postfix": "tab:orange"}
OTHERS = ("tab:green", "tab:red", "tab:purple", "tab:brown", "tab:gray")
STYLES = {"p50": "o:", "p99": "s-", "p99.9": "^--"}


def plot(results: Results, stem: Path) -> list[Path]:
    """Draw what there are figures for, into STEM-throughput and STEM-latency; return the paths."""
    whole = [each for each in results.measurements if each.runs and not each.failed and each.server in results.peers]
    return [*_throughput(whole, stem), *_latency(whole, stem)]


def _save(picture: Picture, stem: Path, name: str) -> list[Path]:
    paths = [stem.with_name(f"{stem.name}-{name}.{kind}") for kind in ("png", "svg")]
    for path in paths:
        picture.savefig(path, dpi=150)
    return paths


def _servers(measurements: Iterable[Measurement]) -> dict[str, str]:
    """Return a colour for each server."""
    others = iter(OTHERS)
    names = dict.fromkeys(each.server for each in measurements)
    return {name: COLOURS.get(name) or next(others, "black") for name in names}


def _throughput(measurements: list[Measurement], stem: Path) -> list[Path]:
    """One panel for servers that share all cores with the load, one for those that have a core to themselves."""

    def belongs(each: Measurement, *, is_pinned: bool) -> bool:
        usual = Shape(connections=each.shape.connections, fresh=each.shape.fresh, is_pinned=is_pinned)
        return each.shape == usual

    panels = {False: "all cores for all", True: "server on one core, load on another"}
    shown = {key: [each for each in measurements if belongs(each, is_pinned=key)] for key in panels}
    shown = {key: some for key, some in shown.items() if some}
    if not shown:
        return []
    picture = Picture(figsize=(6.4 * len(shown), 4.8), layout="constrained")
    axes = picture.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for panel, (key, some) in zip(axes, shown.items(), strict=True):
        for server, colour in _servers(some).items():
            for fresh in (False, True):
                of_it = [each for each in some if each.server == server and each.shape.fresh == fresh]
                _line(panel, of_it, f"{server}, {'one a message' if fresh else 'kept'}", colour, "--" if fresh else "-")
        panel.set(title=f"4 KB, {panels[key]}", xlabel="connections", xscale="log")
        ticks = sorted({each.shape.connections for each in some})
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        panel.xaxis.set_minor_locator(NullLocator())
        _finish(panel)
    axes[0].set_ylabel("messages/s end to end")
    return _save(picture, stem, "throughput")


def _finish(panel: Axes) -> None:
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    panel.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    panel.yaxis.set_minor_formatter(StrMethodFormatter("{x:,g}"))
    panel.grid(visible=True, alpha=0.3, which="both", axis="y")
    panel.grid(visible=True, alpha=0.3, axis="x")
    panel.legend(fontsize="small")


def _line(panel: Axes, measurements: list[Measurement], label: str, colour: str, style: str) -> None:
    if not measurements:
        return
    some = sorted(measurements, key=lambda each: each.shape.connections)
    rates = [each.sum_up(RATE) for each in some]
    spread = [[rate.median - rate.min for rate in rates], [rate.max - rate.median for rate in rates]]
    at = [each.shape.connections for each in some]
    medians = [rate.median for rate in rates]
    panel.errorbar(at, medians, yerr=spread, label=label, color=colour, linestyle=style, marker="o", capsize=3)


def _latency(measurements: list[Measurement], stem: Path) -> list[Path]:
    some = sorted((each for each in measurements if each.shape.share), key=lambda each: each.shape.share)
    if not some:
        return []
    picture = Picture(figsize=(6.4, 4.8), layout="constrained")
    panel = picture.subplots()
    for server, colour in _servers(some).items():
        of_it = [each for each in some if each.server == server]
        shares = [each.shape.share * 100 for each in of_it]
        for figure, (name, form) in zip(WHOLE, STYLES.items(), strict=True):
            medians = [each.sum_up(figure).median for each in of_it]
            panel.plot(shares, medians, form, label=f"{server} {name}", color=colour)
    panel.set(title="from the scheduled time to the 250", xlabel="load, % of the server's own maximum", ylabel="ms")
    panel.set_xlim(0, 100)
    panel.set_xticks(sorted({each.shape.share * 100 for each in some}))
    _finish(panel)
    return _save(picture, stem, "latency")
