"""Delivering: the courier contract, couriers for what lies outside and inside, and which of them a domain needs."""

from mta.deliver.contract import Courier, Job, Report
from mta.deliver.dial import Dial, Dialer
from mta.deliver.maildir import MaildirCourier, MaildirWriter
from mta.deliver.own import Own
from mta.deliver.remote import RemoteCourier, RemoteSettings
from mta.deliver.route import Router, Site
from mta.deliver.ways import Way, Ways

__all__ = [
    "Courier",
    "Dial",
    "Dialer",
    "Job",
    "MaildirCourier",
    "MaildirWriter",
    "Own",
    "RemoteCourier",
    "RemoteSettings",
    "Report",
    "Router",
    "Site",
    "Way",
    "Ways",
]
