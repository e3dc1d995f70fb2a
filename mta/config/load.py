"""Reads a configuration file and checks all of it.

Rule: one wrong key hides no other. The file is walked along the Structs of `model`, each problem becomes a line
`FILE: key.path: expected X, got Y`, and only a file without problems becomes a Config.

Called by every command that takes `-c FILE`. Raises ConfigError.
"""

import difflib
import ipaddress
import json
import os
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mta.address import canonical_domain
from mta.config.model import Config
from mta.config.rules import RULES, Rule, split_bind
from mta.errors import ConfigError

__all__ = ["load"]

GOT_LETTERS = 60
NOT_EMPTY = {"listener": "at least one [[listener]] table", "listener.bind": "a list of at least one address"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NOUNS = {str: "text in quotes", int: "an integer", float: "a number", bool: "true or false"}
Table = dict[str, typing.Any]


def load(path: str | os.PathLike[str]) -> Config:
    """Return the configuration that `path` holds; paths in it are made absolute, relative ones from its directory.

    Raises:
        ConfigError: with a line for each problem; for a file that cannot be read or is not TOML, with that alone.
    """
    tree = _read(path)
    problems = [*_walk(Config, tree, ""), *_across(tree)]
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    _settle(tree, Path(path).absolute().parent)
    return msgspec.convert(tree, Config)


def _read(path: str | os.PathLike[str]) -> Table:
    try:
        octets = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode()
        raise ConfigError(
            [f"{path}: {_place(before)}: expected UTF-8, got octet 0x{octets[error.start]:02x}"]
        ) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Python 3.14 gives the place as numbers, older ones only in the sentence.
        sentence, _, place = str(error).rpartition(" (at ")
        numbers = re.fullmatch(r"line (\d+), column (\d+)\)", place)
        where = f"line {numbers[1]} column {numbers[2]}" if numbers else _place(text)
        raise ConfigError([f"{path}: {where}: {sentence or error}"]) from error
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits and brackets nested by the thousand are valid TOML that Python will not read.
        raise ConfigError([f"{path}: cannot be read as TOML: {error}"]) from error


def _place(before: str) -> str:
    """Return where the text that begins with `before` goes on, lines and columns counted from 1."""
    return f"line {before.count(chr(10)) + 1} column {len(before) - before.rfind(chr(10))}"


def _walk(kind: type[msgspec.Struct], table: object, at: str) -> Iterator[str]:
    """Yield the problems of one table; `at` is its key path and a dot, "" for the file itself."""
    if not isinstance(table, dict):
        yield f"{at[:-1]}: expected a table, got {_got(table)}"
        return
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            yield f"{at}{_key(key)}: expected no such key{hint}, got {_got(table[key])}"
    for name, field in fields.items():
        if name in table:
            yield from _judge(field.type, table[name], at + name)
        elif field.required:
            wanted = _rule(at + name).expected if field.type is str else _wanted(field.type, at + name)
            yield f"{at}{name}: expected {wanted}, got nothing"
        elif isinstance(field.default, str) and not _rule(at + name).fits(field.default):
            # A default that will not do (the next hop of a route) means that the key has to be given.
            yield f"{at}{name}: expected {_rule(at + name).expected}, got nothing"


def _judge(kind: typing.Any, value: object, at: str) -> Iterator[str]:
    """Yield the problems of the value at key path `at`, which shall be a `kind`."""
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(value, list) or (not value and _setting(at) in NOT_EMPTY):
            yield f"{at}: expected {_wanted(kind, at)}, got {_got(value)}"
            return
        for number, part in enumerate(value):
            yield from _judge(item, part, f"{at}[{number}]")
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from _walk(kind, value, at + ".")
    elif not _is_kind(kind, value):
        yield f"{at}: expected {_wanted(kind, at)}, got {_got(value)}"
    elif not _rule(at).fits(value):
        yield f"{at}: expected {_rule(at).expected}, got {_got(value)}"


def _is_kind(kind: typing.Any, value: object) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    # A NaN passes every comparison that is asked the wrong way round, and no setting means infinity.
    return not isinstance(value, float) or value - value == 0


def _wanted(kind: typing.Any, at: str) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(_got(value) for value in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return NOT_EMPTY.get(_setting(at), "a list")
    return _NOUNS.get(kind, "a table")


def _setting(at: str) -> str:
    """Return the setting a key path is about: the path without the places in lists."""
    return re.sub(r"\[\d+\]", "", at)


def _rule(at: str) -> Rule:
    return RULES[_setting(at)]


def _across(tree: Table) -> Iterator[str]:
    """Yield what single values cannot show. Skips what is ill-typed."""
    yield from _across_listeners(tree.get("listener"))
    yield from _across_mailboxes(tree.get("local"))


def _across_listeners(listeners: object) -> Iterator[str]:
    """Yield listeners of one name or on one address."""
    names: dict[str, str] = {}
    binds: dict[tuple[object, int], str] = {}
    for number, listener in enumerate(listeners if isinstance(listeners, list) else []):
        if not isinstance(listener, dict):
            continue
        at = f"listener[{number}]"
        name = listener.get("name", "mx")
        if isinstance(name, str):
            first = names.setdefault(name, at)
            if first != at:
                yield f"{at}.name: expected a name of its own, got {_got(name)} as {first}.name"
        bound = listener.get("bind", ["0.0.0.0:25", "[::]:25"])
        for place, text in enumerate(bound if isinstance(bound, list) else []):
            bind = split_bind(text) if isinstance(text, str) else None
            if bind is None or bind[1] == 0:
                continue
            # The same IPv6 address has many spellings.
            first = binds.setdefault((ipaddress.ip_address(bind[0]), bind[1]), f"{at}.bind[{place}]")
            if first != f"{at}.bind[{place}]":
                yield f"{at}.bind[{place}]: expected an address of its own, got {_got(text)} as {first}"


def _across_mailboxes(local: object) -> Iterator[str]:
    """Yield a `maildir` that would give the same folder to alice in one domain and alice in another."""
    if not isinstance(local, dict):
        return
    domains, maildir = local.get("domains"), local.get("maildir", "{domain}")
    n_domains = len(set(map(canonical_domain, filter(_is_text, domains)))) if isinstance(domains, list) else 0
    if n_domains > 1 and isinstance(maildir, str) and "{domain}" not in maildir:
        yield f"local.maildir: expected {{domain}} in it, for there are {n_domains} local domains, got {_got(maildir)}"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _settle(tree: Table, here: Path) -> None:
    """Make the paths in a good file absolute, and domains canonical, as the rest of the program compares them."""
    tree["data_dir"] = os.path.normpath(here / tree["data_dir"])
    events = tree.setdefault("events", {})
    events["directory"] = os.path.normpath(here / (events.get("directory") or f"{tree['data_dir']}/events"))
    local = tree.setdefault("local", {})
    if "maildir" in local:
        # What the operator called a directory is no field.
        above = str(here).replace("{", "{{").replace("}", "}}")
        local["maildir"] = os.path.normpath(os.path.join(above, local["maildir"]))
    local["domains"] = [canonical_domain(domain) for domain in local.get("domains", [])]
    for route in tree.get("route", []):
        match = route.get("match", "*")
        dot = "." if match.startswith(".") else ""
        route["match"] = match if match == "*" else f"{dot}{canonical_domain(match.removeprefix('.'))}"


def _got(value: object) -> str:
    """Return a value as the file would show it, on one printable line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, str | bool):
        text = json.dumps(value, ensure_ascii=False)
        text = text if text.isprintable() else json.dumps(value)
    else:
        text = str(value)
    return text if len(text) <= GOT_LETTERS else f"{text[:GOT_LETTERS]}..."


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _got(key)
