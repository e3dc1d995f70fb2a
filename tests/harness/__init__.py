"""What the process-level tests share: clients that keep a ledger, a system call trace, tools that may be missing."""

from tests.harness.corpus import awkward_mails
from tests.harness.kills import KILLS, kill_under_load
from tests.harness.ledger import Ledger
from tests.harness.setup import relaying, require_tool, run_async
from tests.harness.trace import Call, Trace, parse

__all__ = [
    "KILLS",
    "Call",
    "Ledger",
    "Trace",
    "awkward_mails",
    "kill_under_load",
    "parse",
    "relaying",
    "require_tool",
    "run_async",
]
