"""Write a configuration as TOML: scalars, lists, tables and arrays of tables, which is all that Posthaste reads."""

import json
from collections.abc import Mapping

__all__ = ["to_toml"]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # A JSON string is a TOML basic string, as long as characters stand for themselves and not as surrogates.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"TOML has no form for {type(value).__name__}")


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def to_toml(table: Mapping[str, object], prefix: str = "") -> str:
    """Return `table` as TOML text; `prefix` is the dotted name of the table that it stands in."""
    # Whatever follows a [header] belongs to that header: a table's own values come before the tables inside it.
    plain = {k: v for k, v in table.items() if not isinstance(v, Mapping) and not _is_tables(v)}
    text = "".join(f"{key} = {_value(value)}\n" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, Mapping):
            text += f"\n[{prefix}{key}]\n" + to_toml(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and _is_tables(value):
            for row in value:
                text += f"\n[[{prefix}{key}]]\n" + to_toml(row, f"{prefix}{key}.")
    return text
