"""Asking the domain name system: an asynchronous resolver with a cache, for workers.

This is the only room that knows dnspython. What the answers mean for mail is not decided here: see `mta.deliver`.
"""

from mta.dns.answer import Addresses, Answer, Kind, Record
from mta.dns.resolver import Resolver
from mta.dns.system import system_nameservers

__all__ = ["Addresses", "Answer", "Kind", "Record", "Resolver", "system_nameservers"]
