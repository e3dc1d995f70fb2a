"""What a configuration file may say, and what is said about one that says anything else."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mta.config import Config, load
from mta.config.rules import RULES
from mta.errors import ConfigError
from mta.message import Address
from mta.policy import Mailboxes

REQUIRED = 'hostname = "mx1.example.test"\ndata_dir = "/var/lib/posthaste"\n'
LISTENER = "[[listener]]\n"
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a file and gives its path."""

    def put(text: str | bytes) -> Path:
        path = tmp_path / "mx.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return put


def problems(path: Path) -> list[str]:
    """Return the problems of a file, each without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(line.startswith(f"{path}: ") for line in caught.value.problems)
    return [line.removeprefix(f"{path}: ") for line in caught.value.problems]


def test_load_required_keys_alone_gives_the_defaults(write: Write) -> None:
    config = load(write(REQUIRED + LISTENER))
    assert config.listener[0].bind == ("0.0.0.0:25", "[::]:25")
    assert config.limits.recipients == 1000
    assert config.events.directory == "/var/lib/posthaste/events"
    assert config.local.maildir == "/var/mail/{domain}/{local}"


def test_load_relative_paths_become_absolute_from_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    text = REQUIRED.replace("/var/lib/posthaste", "d") + LISTENER
    text += '[events]\ndirectory = "../e"\n[local]\nmaildir = "m/{local}"'
    path = write(text)
    monkeypatch.chdir(path.parent.parent)
    for given in (path, Path(os.path.relpath(path))):
        config = load(given)
        assert config.data_dir == f"{path.parent}/d"
        assert config.events.directory == f"{path.parent.parent}/e"
        assert config.local.maildir == f"{path.parent}/m/{{local}}"


def test_load_domains_become_lowercase(write: Write) -> None:
    text = REQUIRED + LISTENER + '[local]\ndomains = ["A.Test"]\n[[route]]\nmatch = ".B.Test"\nvia = "[::1]:25"\n'
    config = load(write(text))
    assert config.local.domains == ("a.test",)
    assert config.route[0].match == ".b.test"


def test_load_domains_become_what_addresses_carry(write: Write) -> None:
    local = '[local]\ndomains = ["[ipv6:2001:DB8:0::1]", "u\u0308.test"]\n'
    config = load(write(REQUIRED + LISTENER + local + '[[route]]\nmatch = ".U\u0308.test"\nvia = "[::1]:25"\n'))
    assert config.local.domains == ("[IPv6:2001:db8::1]", "\u00fc.test")
    assert config.route[0].match == ".\u00fc.test"


@pytest.mark.parametrize(
    ("domains", "maildir", "n_problems"),
    [
        ('["a.test"]', "/m/{local}", 0),
        ('["a.test", "A.TEST"]', "/m/{local}", 0),
        ('["a.test", "b.test"]', "/m/{domain}/{local}", 0),
        ('["a.test", "b.test"]', "/m/{local}", 1),
    ],
)
def test_load_maildir_of_several_domains_needs_the_domain(
    write: Write, domains: str, maildir: str, n_problems: int
) -> None:
    path = write(f'{REQUIRED}{LISTENER}[local]\ndomains = {domains}\nmaildir = "{maildir}"\n')
    said = "local.maildir: expected {domain} in it, for there are 2 local domains, got " + f'"{maildir}"'
    assert (problems(path) if n_problems else load(path) and []) == [said] * n_problems


def test_load_directory_with_braces_in_its_name_is_no_field(tmp_path: Path) -> None:
    here = tmp_path / "{local}" / "{x"
    here.mkdir(parents=True)
    path = here / "mx.toml"
    path.write_text(f'{REQUIRED}{LISTENER}[local]\nmaildir = "../m/{{local}}"\n')
    mailboxes = Mailboxes(load(path).local)
    assert mailboxes.path(Address("alice", "a.test", "")) == tmp_path / "{local}" / "m" / "alice"
    assert mailboxes.root == tmp_path / "{local}" / "m"


def test_load_integer_where_a_number_is_expected_is_one(write: Write) -> None:
    config = load(write(REQUIRED + LISTENER + "[retry]\nfactor = 3\n"))
    assert config.retry.factor == 3.0


def test_load_many_problems_says_all(write: Write) -> None:
    text = """
        hostname = "not a name"
        colour = "red"
        [[listener]]
        bind = ["nowhere", 7]
        [limits]
        recipients = "many"
        recipents = 5
        [retry]
        factor = 0.5
    """
    assert [line.split(": ")[0] for line in problems(write(text))] == [
        "colour",
        "hostname",
        "data_dir",
        "listener[0].bind[0]",
        "listener[0].bind[1]",
        "limits.recipents",
        "limits.recipients",
        "retry.factor",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # Unknown keys.
        ("[limits]\nrecipents = 5", 'limits.recipents: expected no such key (did you mean "recipients"?), got 5'),
        ("[qqq]", "qqq: expected no such key, got a table"),
        ('[relay]\n"a b" = 1', 'relay."a b": expected no such key, got 1'),
        # Types: true is no integer, 5.0 neither, and no setting is endless.
        ('[limits]\nrecipients = "many"', 'limits.recipients: expected an integer, got "many"'),
        ("[limits]\nrecipients = true", "limits.recipients: expected an integer, got true"),
        ("[limits]\nrecipients = 5.0", "limits.recipients: expected an integer, got 5.0"),
        ("[limits]\nerror_delay_s = true", "limits.error_delay_s: expected a number, got true"),
        ("[limits]\nerror_delay_s = nan", "limits.error_delay_s: expected a number, got nan"),
        ("[limits]\nerror_delay_s = inf", "limits.error_delay_s: expected a number, got inf"),
        ("[local]\ncreate = 1", "local.create: expected true or false, got 1"),
        ("[local]\npostmaster = 2026-01-01", "local.postmaster: expected text in quotes, got 2026-01-01"),
        ('[local]\ndomains = "a.test"', 'local.domains: expected a list, got "a.test"'),
        ("[local]\ndomains = [[]]", "local.domains[0]: expected text in quotes, got an empty list"),
        ("limits = 5", "limits: expected a table, got 5"),
        ("[route]\nmatch = '*'", "route: expected a list, got a table"),
        (
            '[limits]\nbare_newline = "keep"',
            'limits.bare_newline: expected "reject" or "normalize", got "keep"',
        ),
        (
            '[limits.client]\nshut = ["connections", "mail"]',
            'limits.client.shut[1]: expected "connections" or "connections_per_minute" or "messages_per_minute" or '
            '"recipients_per_minute" or "errors_per_minute", got "mail"',
        ),
        # Durations, sizes, counts, shares.
        ("[process]\ndrain_s = -1", "process.drain_s: expected seconds, 0 or more, got -1"),
        ("[process]\nhang_s = 1", "process.hang_s: expected seconds, at least 2, got 1"),
        ("[dns]\ntimeout_s = 0", "dns.timeout_s: expected seconds, more than 0, got 0"),
        ("[limits]\nrecipients = 10001", "limits.recipients: expected an integer, from 1 to 10000, got 10001"),
        (
            "[limits]\nmessage_octets = 134217729",
            "limits.message_octets: expected octets, from 1 to 128 MiB (134217728), got 134217729",
        ),
        ("[limits]\nreceived = 0", "limits.received: expected an integer, at least 1, got 0"),
        ("[workers]\ncount = -1", "workers.count: expected an integer, from 0 to 1024, got -1"),
        ("[retry]\nfactor = 0.9", "retry.factor: expected a number, at least 1, got 0.9"),
        ("[retry]\njitter = 1.1", "retry.jitter: expected a number from 0 to 1, got 1.1"),
        ("[deliver]\nport = 65536", "deliver.port: expected an integer, from 1 to 65535, got 65536"),
        (
            "[queue]\nmap_octets = 1024",
            "queue.map_octets: expected octets, at least 16 MiB (16777216) and below 140737488355328, got 1024",
        ),
        (
            '[local]\npostmaster = "a..b@example.test"',
            'local.postmaster: expected a mail address, or nothing, got "a..b@example.test"',
        ),
        # Routes: via has no default that could work.
        (
            "[[route]]",
            "route[0].via: expected [address or name]:port such as [192.0.2.1]:25, port 1 to 65535, got nothing",
        ),
    ],
)
def test_load_one_problem_says_key_and_value(write: Write, text: str, problem: str) -> None:
    # A key of the file itself has to stand before its tables.
    text = REQUIRED + text + "\n" + LISTENER if text.startswith("limits =") else REQUIRED + LISTENER + text
    assert problems(write(text)) == [problem]


@pytest.mark.parametrize(
    ("setting", "good", "bad"),
    [
        (
            "hostname",
            ["localhost", "mx1.Example.test", "[192.0.2.1]", "[IPv6:2001:db8::1]", "a" * 63 + ".test", "1a.test"],
            [
                "",
                "a b",
                "-a.test",
                "a-.test",
                "a..test",
                "a.test.",
                ".a",
                "192.0.2.1",
                "[2001:db8::1]",
                "[a.test]",
                "a_b.test",
                "a" * 64 + ".test",
                "ä.test",
                "a.test\n",
                "[IPv6:fe80::1%eth0]",
                ".".join(["a" * 60] * 5),
            ],
        ),
        (
            "listener.bind",
            ["127.0.0.1:0", "0.0.0.0:65535", "[::]:25", "[::ffff:1.2.3.4]:25", "[fe80::1%lo]:25"],
            [
                "",
                "25",
                ":25",
                "*:25",
                "127.0.0.1",
                "127.0.0.1:",
                "127.0.0.1:65536",
                "127.0.0.1:-1",
                "::1:25",
                "[::1]",
                "[127.0.0.1]:25",
                "a.test:25",
                "127.1:25",
                "127.0.0.1:25 ",
                "127.0.0.1:٣",
            ],
        ),
        ("listener.name", ["mx", "mx-1.in_2"], ["", "a b", "a=b", "a\n", "x" * 65]),
        (
            "relay.networks",
            ["127.0.0.0/8", "::1/128", "192.0.2.1"],
            ["", "a", "127.0.0.1/8", "127.0.0.0/33", "::/129", "127.0.0.0/", "127/8"],
        ),
        (
            "local.domains",
            ["a.test", "ä.test", "[192.0.2.1]", "[IPv6:2001:db8:0::1]", "a" * 63 + ".test"],
            ["", "a@b", "*.a", ".a", "a_b.test", "192.0.2.1", "a b", "a..b", "[192.0.2.01]", ".".join(["a" * 61] * 4)],
        ),
        (
            "local.maildir",
            ["/m/{local}", "/m/{domain}/{local}/x", "{local}", "../m/{local}", "/m//{local}/./x/"],
            [
                "",
                "/m",
                "/m/{domain}",
                "/m/{local}/{user}",
                "/m/{local}{",
                "/m/{local!r}",
                "/m/{local:>9}",
                "/{local}/{}",
                "/m/{local}\n",
                "/m/{local.x}",
                "/m/{{local}}",
                "/m/{{x}}/{local}",
                # ab@c and a@bc would share a folder.
                "/m/{local}{domain}",
                "/m/{local}@{domain}",
                "/m/u-{local}",
                "/m/{domain}/{local}.d",
                # Nothing would be left of the field.
                "/m/{local}/../x",
                "/m/{domain}/../{local}",
            ],
        ),
        (
            "local.postmaster",
            ["", "p@a.test", '"p q"@a.test', "p@[192.0.2.1]"],
            ["p", "@a.test", "p@", "p q@a.test", "a..b@example.test", ".a@a.test", "a" * 65 + "@a.test", "p@a..test"],
        ),
        ("route.match", ["*", "a.test", ".a.test", "[192.0.2.1]"], ["", ".", "*.a", "..a", "a..b", ".[192.0.2.1]"]),
        (
            "route.via",
            ["[127.0.0.1]:2600", "[::1]:25", "[relay.a.test]:65535"],
            [
                "",
                "127.0.0.1:25",
                "[127.0.0.1]",
                "[127.0.0.1]:",
                "[127.0.0.1]:0",
                "[127.0.0.1]:65536",
                "[]:25",
                "[a b]:25",
            ],
        ),
        ("dns.nameservers", ["192.0.2.1:53", "[::1]:53"], ["", "192.0.2.1", "192.0.2.1:0", "a.test:53"]),
        ("deliver.source_ipv4", ["", "192.0.2.1"], ["::1", "a"]),
        ("deliver.source_ipv6", ["", "::1"], ["192.0.2.1", "a"]),
        ("listener.connections", [0, 1], [-1]),
        ("limits.client.connections", [0, 1], [-1]),
        ("limits.client.prefix_ipv4", [1, 24, 32], [0, 33]),
        ("limits.client.prefix_ipv6", [1, 64, 128], [0, 129]),
        ("process.user", ["", "mail", "_mta"], ["a b", "a:b"]),
    ],
)
def test_rule_takes_good_values_and_refuses_bad_ones(setting: str, good: list[str], bad: list[str]) -> None:
    assert [value for value in good if not RULES[setting].fits(value)] == []
    assert [value for value in bad if RULES[setting].fits(value)] == []


@pytest.mark.parametrize(
    ("listeners", "expected"),
    [
        # Names.
        (
            '[[listener]]\nname = "a"\nbind = ["127.0.0.1:0"]\n[[listener]]\nname = "a"\nbind = ["127.0.0.1:0"]',
            ['listener[1].name: expected a name of its own, got "a" as listener[0].name'],
        ),
        # Addresses, in any spelling, in one listener or two; port 0 is never the same.
        (
            '[[listener]]\nbind = ["[::1]:25", "127.0.0.1:0", "127.0.0.1:0", "[0:0::1]:25"]',
            ['listener[0].bind[3]: expected an address of its own, got "[0:0::1]:25" as listener[0].bind[0]'],
        ),
        (
            '[[listener]]\n[[listener]]\nname = "b"\nbind = ["0.0.0.0:25"]',
            ['listener[1].bind[0]: expected an address of its own, got "0.0.0.0:25" as listener[0].bind[0]'],
        ),
        # None at all.
        ("", ["listener: expected at least one [[listener]] table, got nothing"]),
        ("listener = []", ["listener: expected at least one [[listener]] table, got an empty list"]),
        ("[listener]\nname = 'a'", ["listener: expected at least one [[listener]] table, got a table"]),
        ("[[listener]]\nbind = []", ["listener[0].bind: expected a list of at least one address, got an empty list"]),
        ("listener = [5]", ["listener[0]: expected a table, got 5"]),
    ],
)
def test_load_listeners_that_cannot_be(write: Write, listeners: str, expected: list[str]) -> None:
    assert problems(write(REQUIRED + listeners)) == expected


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"a = 1\nb = \n", r"line 2 column 5: Invalid value"),
        (b"a = [1,\n2", r"line 2 column 2: Unclosed array"),
        (b"a = 1\na = 2\n", r"line 2 column 6: Cannot overwrite a value"),
        (b'a = "\xff"', r"line 1 column 6: expected UTF-8, got octet 0xff"),
        (b"a = " + b"9" * 5000, r"cannot be read as TOML: .*"),
        (b"a = " + b"[" * 9999, r"cannot be read as TOML: .*"),
    ],
)
def test_load_file_that_is_not_toml_says_where(write: Write, octets: bytes, problem: str) -> None:
    (said,) = problems(write(octets))
    assert re.fullmatch(problem, said)


def test_load_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert problems(tmp_path / "none") == ["cannot be read: No such file or directory"]
    assert problems(tmp_path) == ["cannot be read: Is a directory"]


def test_load_huge_number_and_long_text_are_cut(write: Write) -> None:
    said = problems(write(f'{REQUIRED}{LISTENER}tenant = "{"x" * 999}"\n[retry]\nfactor = {"9" * 400}\n'))
    assert [line.split(": ")[0] for line in said] == ["listener[0].tenant", "retry.factor"]
    assert all(len(line) < 200 for line in said)


def test_load_control_characters_are_shown_escaped(write: Write) -> None:
    (said,) = problems(write(f'{REQUIRED}{LISTENER}tenant = "\\u001b[31m\\u009b"\n'))
    assert said.isprintable()


def test_rules_have_a_row_for_every_setting_and_accept_its_default() -> None:
    rows: dict[str, object] = {}
    for field in msgspec.structs.fields(Config):
        inner = msgspec.structs.fields(field.type) if _is_struct(field.type) else ()
        kinds = getattr(field.type, "__args__", ())
        inner = msgspec.structs.fields(kinds[0]) if kinds and _is_struct(kinds[0]) else inner
        leaves = {f"{field.name}.{leaf.name}": leaf.default for leaf in inner if not _is_struct(leaf.type)}
        tables = {f"{field.name}.{leaf.name}": leaf.type for leaf in inner if _is_struct(leaf.type)}
        for name, kind in tables.items():
            leaves |= {f"{name}.{leaf.name}": leaf.default for leaf in msgspec.structs.fields(kind)}
        rows |= leaves or {field.name: field.default}
    assert sorted(rows) == sorted(RULES)
    for setting, default in rows.items():
        if default is not msgspec.NODEFAULT and setting != "route.via":
            values = default if isinstance(default, tuple) else (default,)
            assert all(RULES[setting].fits(value) for value in values), setting


@pytest.mark.parametrize("setting", [name for name in RULES if name.endswith(("_s", "_octets", "factor", "jitter"))])
def test_rule_of_every_quantity_refuses_negative_and_senseless(setting: str) -> None:
    assert not RULES[setting].fits(-1)
    assert not RULES[setting].fits(2**63)
    assert not RULES[setting].fits(math.nan)


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
