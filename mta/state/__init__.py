"""Limits for the whole machine: how much of it the clients of one network may take, and how full it is.

`StateLink` is the worker's end, for `accept`; the process `mta: state` (`main`) counts. Nothing here is on a disk.
"""

from mta.state.client import StateLink
from mta.state.visit import Asker, Visit
from mta.state.words import ERRORS, MESSAGES, RECIPIENTS, Stress

__all__ = ["ERRORS", "MESSAGES", "RECIPIENTS", "Asker", "StateLink", "Stress", "Visit"]
