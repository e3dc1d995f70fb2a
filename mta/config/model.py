"""Every setting: what it means, its unit, its default, where it comes from. One frozen tree; rooms get their own part.

Durations are seconds in keys ending `_s`, sizes octets in keys ending `_octets`.
Limits below what RFCs ask for are allowed: tests and special-purpose servers need them.
"""

import os
from typing import Literal

import msgspec

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
]


class Process(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The processes themselves."""

    user: str = ""
    """Every child drops to this user after the sockets are bound; "" stays who we are."""
    drain_s: float = 30.0
    """How long open transactions may take to end after SIGTERM."""
    hang_s: float = 30.0
    """A child that gives no sign of life for this long is killed and replaced."""


class Workers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The processes that speak SMTP."""

    count: int = 0
    """How many; 0 means one a core."""

    @property
    def n_processes(self) -> int:
        """How many there are: `count`, or as many as this process has cores to run on."""
        return self.count or len(os.sched_getaffinity(0))


class Listener(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One service that clients connect to."""

    name: str = "mx"
    """Shown in the ready line and in events."""
    bind: tuple[str, ...] = ("0.0.0.0:25", "[::]:25")
    """Addresses, `host:port`, an IPv6 host in brackets; port 0 takes any free one."""
    tenant: str = "default"
    """On whose account its mail is counted and queued."""
    connections: int = 0
    """Its SMTP connections at once, of those in `limits.connections`; 0 for no maximum of its own."""


class Relay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may send where."""

    networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Clients that may send anywhere; everybody else reaches `local.domains` only."""


class Local(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mail that ends here."""

    domains: tuple[str, ...] = ()
    """Domains whose mailboxes are ours; decided before any route. Canonical once loaded: see `mta.address`."""
    maildir: str = "/var/mail/{domain}/{local}"
    """The Maildir of a mailbox; a component that is `{domain}` or `{local}` is filled in. Several domains need both.

    Where the workers are root, mail is written as the owner of this folder.
    """
    create: bool = False
    """True makes missing Maildirs, for the owner of the folder above; False answers 550 5.1.1 where there is none."""
    postmaster: str = ""
    """Where <Postmaster> and postmaster@ each local domain go; "" means postmaster@ the first local domain."""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where mail for some domains goes instead of to their MX. The first that matches wins."""

    match: str = "*"
    """A domain, ".suffix" for everything below it, or "*". Canonical once loaded."""
    via: str = ""
    """The next hop, "[address or name]:port"; a name has A or AAAA records, and its MX do not count."""


class Dns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name resolution."""

    nameservers: tuple[str, ...] = ()
    """Resolvers, `address:port`, asked in this order; none means those of /etc/resolv.conf."""
    timeout_s: float = 5.0
    """How long to wait for one answer before the next resolver is asked; each is asked twice at most."""


class ClientLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the clients of one network may take of the whole machine; 0 switches a limit off.

    Rates hold for any 60 seconds; what was used is free again 60 to 65 seconds later. Postfix has the same defaults.
    """

    connections: int = 50
    """SMTP connections at once; more are answered 421 4.7.0."""
    connections_per_minute: int = 0
    """Connections begun in a minute; more are answered 421 4.7.0."""
    messages_per_minute: int = 0
    """MAIL commands in a minute, whatever becomes of the message; more are answered 450 4.7.1."""
    recipients_per_minute: int = 0
    """RCPT commands in a minute, refused ones too; more are answered 452 4.7.1."""
    errors_per_minute: int = 0
    """Commands in a minute that are the client's mistake; beyond it 421 4.7.0, at once and for new connections."""
    prefix_ipv4: int = 32
    """Addresses that have so many bits in common are one network. An IPv4 address in IPv6 counts as IPv4."""
    prefix_ipv6: int = 64
    """The same for IPv6: a customer of any provider has a /64 at least."""
    exempt_relay: bool = True
    """True lets clients in `relay.networks` do without all of these: they are the operator's own."""
    shut: tuple[
        Literal[
            "connections",
            "connections_per_minute",
            "messages_per_minute",
            "recipients_per_minute",
            "errors_per_minute",
        ],
        ...,
    ] = ()
    """Limits that refuse (421 4.3.2, 451 4.3.0) while the process that counts is away; the others let in meanwhile."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one client, one session, one message may take."""

    connections: int = 5000
    """SMTP connections at once, of all workers together. From 90 % of them on, until there are less than 70 %, silence
    is allowed for 10 s only, one error ends a session, and nobody may be idle or open a second connection."""
    message_octets: int = 52_428_800
    """Size of a message as sent, dots removed; at most 128 MiB. RFC 1870."""
    recipients: int = 1000
    """Recipients in one transaction, 10,000 at most; RFC 5321 s4.5.3.1.8 asks for at least 100."""
    line_octets: int = 65_536
    """Longest line of a message, its line end not counted; RFC 5321 s4.5.3.1.6 asks for at least 998."""
    received: int = 100
    """More Received fields than this is a loop. RFC 5321 s6.3."""
    soft_errors: int = 10
    """From this many errors on, each error reply waits for `error_delay_s`."""
    hard_errors: int = 20
    """At this many errors the session ends with 421."""
    error_delay_s: float = 1.0
    """How long a client with many errors waits for each further error reply."""
    command_timeout_s: float = 300.0
    """Silence allowed where a command is expected. RFC 5321 s4.5.3.2.7."""
    data_timeout_s: float = 300.0
    """Silence allowed inside DATA."""
    bare_newline: Literal["reject", "normalize"] = "reject"
    """A CR or LF alone in a message: refuse it (550 5.6.0), or make a bare LF a CRLF and a bare CR a space."""
    client: ClientLimits = ClientLimits()


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The queue and its file."""

    grace_s: float = 10.0
    """How long a client is kept waiting for a queue process that does not answer, before 451."""
    map_octets: int = 1_099_511_627_776
    """Address space of the LMDB file, set once for its life: the queue can never grow past it."""
    reserve_octets: int = 268_435_456
    """Room kept free for settlements and bounces: below it new mail is refused. At most a quarter of what there is."""


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a deferred message is tried again. RFC 5321 s4.5.4.1."""

    first_s: float = 300.0
    """Wait after the first failed attempt."""
    factor: float = 2.0
    """Each further wait is this many times longer."""
    max_s: float = 4000.0
    """No wait is longer than this."""
    jitter: float = 0.1
    """Each wait is moved at random by up to this share of itself."""
    give_up_s: float = 432_000.0
    """Age at which a message expires."""
    bounce_give_up_s: float = 86_400.0
    """The same for our own notices of what could not be delivered."""


class Path(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one destination site gets from one source."""

    connections: int = 20
    """Connections at once."""
    window_start: int = 5
    """Connections a new path begins with."""
    window_max: int = 20
    """What the window may grow to, by one with each success."""
    pause_s: float = 60.0
    """How long a path rests after its hosts failed: could not be reached, gave no greeting, or said 421."""
    recipients: int = 100
    """Recipients in one transaction, 100 at most; the others of a message follow on the same connection."""
    idle_s: float = 2.0
    """How long a connection without work is kept."""
    messages_per_connection: int = 1000
    """After this many messages a connection is closed."""


class Deliver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The SMTP client."""

    sessions: int = 2000
    """Connections out at once, to all sites together. Sites that nobody knows to be alive share half of them."""
    port: int = 25
    """Port of hosts found by MX or by an address literal."""
    source_ipv4: str = ""
    """Address to connect from; "" leaves it to the kernel."""
    source_ipv6: str = ""
    """The same for IPv6."""
    connect_timeout_s: float = 30.0
    """Wait for a connection."""
    command_timeout_s: float = 300.0
    """Wait for the greeting and for each reply but the last. RFC 5321 s4.5.3.2."""
    data_done_timeout_s: float = 600.0
    """Wait for the reply to the end of data. RFC 5321 s4.5.3.2.6."""


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The event files."""

    directory: str = ""
    """Where segments are written; "" means `data_dir/events`, and is that once loaded."""
    segment_octets: int = 67_108_864
    """A segment that has grown past this is followed by a new one."""
    keep_s: float = 604_800.0
    """Segments older than this are deleted; 0 keeps them for good."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file. Paths in it are absolute once loaded."""

    hostname: str
    """Our own name: greeting, EHLO, Received."""
    data_dir: str
    """Holds the queue, the events, the lock and the link socket."""
    listener: tuple[Listener, ...]
    """At least one."""
    process: Process = Process()
    workers: Workers = Workers()
    relay: Relay = Relay()
    local: Local = Local()
    route: tuple[Route, ...] = ()
    dns: Dns = Dns()
    limits: Limits = Limits()
    queue: Queue = Queue()
    retry: Retry = Retry()
    path: Path = Path()
    deliver: Deliver = Deliver()
    events: Events = Events()
