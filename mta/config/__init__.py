"""The configuration: `model` says what every setting means, `load` reads and checks a file."""

from mta.config.load import load
from mta.config.model import (
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

__all__ = [
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
]
