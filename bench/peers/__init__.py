"""Posthaste and the mail servers it is measured against, each as a private instance that relays to one next hop.

`python -m bench.peers` lists them: versions, labels, flushes a message. What is missing says how it is installed.
"""

from bench.peers.account import busy_s
from bench.peers.aiosmtpd import Aiosmtpd
from bench.peers.exim import Exim
from bench.peers.flush import Flushes, flushes
from bench.peers.haraka import Haraka
from bench.peers.opensmtpd import OpenSMTPD
from bench.peers.peak import Peak
from bench.peers.peer import Peer, PeerMissing, find_program
from bench.peers.postfix import Postfix
from bench.peers.posthaste import Posthaste

__all__ = [
    "PEERS",
    "Aiosmtpd",
    "Exim",
    "Flushes",
    "Haraka",
    "OpenSMTPD",
    "Peak",
    "Peer",
    "PeerMissing",
    "Postfix",
    "Posthaste",
    "busy_s",
    "find_program",
    "flushes",
]

PEERS: dict[str, type[Peer]] = {kind.name: kind for kind in (Posthaste, Postfix, Exim, OpenSMTPD, Haraka, Aiosmtpd)}
