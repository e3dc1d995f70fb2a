"""The configuration: `model` says what every setting means, `load` reads and checks a file."""

from mta.config.load import load
from mta.config.model import (
    ClientLimits,
    Config,
    Deliver,
    Dns,
    Events,
    Limits,
    Listener,
    Local,
    Path,
    Process,
    Queue,
    Relay,
    Retry,
    Route,
    Workers,
)
from mta.config.rules import split_bind

__all__ = [
    "ClientLimits",
    "Config",
    "Deliver",
    "Dns",
    "Events",
    "Limits",
    "Listener",
    "Local",
    "Path",
    "Process",
    "Queue",
    "Relay",
    "Retry",
    "Route",
    "Workers",
    "load",
    "split_bind",
]
