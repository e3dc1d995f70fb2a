"""Delivering: the courier contract, couriers for what lies outside and inside, and which of them a domain needs."""

from mta.deliver.contract import Courier, Job, Report
from mta.deliver.maildir import MaildirCourier, MaildirWriter
from mta.deliver.remote import RemoteCourier, RemoteSettings
from mta.deliver.route import Router, Site

__all__ = [
    "Courier",
    "Job",
    "MaildirCourier",
    "MaildirWriter",
    "RemoteCourier",
    "RemoteSettings",
    "Report",
    "Router",
    "Site",
]
