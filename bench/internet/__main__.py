"""A small internet of 60 domains, and mail for all of it: `python -m bench.internet [-m 20000] [--seed 1] [-c 20]`.

Real hosts at 127.0.0.2 to 127.0.0.20 and ::1, a real nameserver (nsd), and the server under test as it is installed.
Prints a line for each site: how many recipients had to be delivered, bounced and waiting in the end, how many were,
and what was wrong; what the hosts saw of us; then each wrong end, up to 40 of them. Exit 1 if there is any.
"""

import argparse
import sys

from bench.internet.run import Result, run
from bench.internet.sites import site_of
from bench.nameserver import NsdMissing
from bench.server import StartFailed

MOST_TOLD = 40
KINDS = ("delivered", "bounced", "waiting")


def tell(result: Result) -> None:
    """Print a result."""
    titles = "".join(f"{kind:>16}" for kind in KINDS)
    print(f"{'site':10}{titles}{'wrong':>8}  {'sessions':>8} {'at once':>8}  said no")
    for name, tally in result.tallies.items():
        seen = result.traffic[name]
        ends = "".join(f"{tally.found[kind]:>8}{f' of {tally.expected[kind]}':>8}" for kind in KINDS)
        said_no = ", ".join(f"{count} x {code}" for code, count in sorted(seen.refused.items()))
        print(f"{name:10}{ends}{len(tally.wrong):>8}  {seen.n_sessions:>8} {seen.most_open:>8}  {said_no}")
    total = {kind: sum(tally.found[kind] for tally in result.tallies.values()) for kind in KINDS}
    n_wrong = sum(len(tally.wrong) for tally in result.tallies.values())
    print(f"{'all':10}{''.join(f'{total[kind]:>8}{chr(32) * 8}' for kind in KINDS)}{n_wrong:>8}")
    print(f"taken after {result.sent_s:.1f} s, ended after {result.settled_s:.1f} s")
    print("when the last mail for plain arrived, slow had {} of {}".format(*_progress(result, "plain", "slow")))
    wrong = [f"{name}: {words}" for name, tally in result.tallies.items() for words in tally.wrong]
    for words in [*result.problems, *wrong][:MOST_TOLD]:
        print(words)


def _progress(result: Result, fast: str, slow: str) -> tuple[int, int]:
    """Return how much of its mail one site had when another had all of its own, and how much there was."""
    arrived = [site_of(delivery.recipient.partition("@")[2]).name for delivery in result.evidence.deliveries]
    last = max((at for at, name in enumerate(arrived) if name == fast), default=0)
    return arrived[:last].count(slow), arrived.count(slow)


def main() -> int:
    """Run it from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.internet", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("-m", "--messages", type=int, default=20_000, help="how many mails (20000)")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other mails (1)")
    parser.add_argument("-c", "--connections", type=int, default=20, help="over which they are sent (20)")
    options = parser.parse_args()
    try:
        result = run(options.messages, options.seed, n_sessions=options.connections)
    except (NsdMissing, StartFailed, RuntimeError, OSError) as error:
        print(f"bench.internet: {error}", file=sys.stderr)
        return 1
    tell(result)
    return int(not result.is_right)


if __name__ == "__main__":
    sys.exit(main())
