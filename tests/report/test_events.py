"""The JSON of events, as INTERFACES pins it."""

import json
from typing import get_args

import msgspec
import pytest

from mta.report import Deferred, Event, Fault, Received, Rejected, decode, encode, rfc3339, to_json

ID = bytes(range(16))


def test_to_json_received_has_all_keys_in_order() -> None:
    event = Received(1_700_000_000_123, ID, "default", "", 2, 4096, "192.0.2.1", "h", "ESMTP", "mx", b"")
    assert to_json(7, event) == (
        b'{"seq":7,"at":"2023-11-14T22:13:20.123Z","event":"received","id":"000102030405060708090a0b0c0d0e0f",'
        b'"tenant":"default","sender":"","n_recipients":2,"octets":4096,"client":"192.0.2.1","helo":"h",'
        b'"protocol":"ESMTP","listener":"mx","about":""}'
    )


def test_to_json_times_and_ids_inside_are_rendered_too() -> None:
    fate = Deferred(1, ID, "t", "a@b.test", 0, 1, 451, "4.3.0", "", "", "\n\u00fc\u2028", 0.5, 1_700_000_000_000)
    row = json.loads(to_json(1, fate))
    assert row["next_at"] == "2023-11-14T22:13:20.000Z"
    assert row["at"] == "1970-01-01T00:00:00.001Z"
    assert row["diagnostic"] == "\n\u00fc\u2028"
    notice = Received(1, ID, "t", "", 1, 1, "", "", "bounce", "", b"\xff" * 16)
    assert json.loads(to_json(1, notice))["about"] == "ff" * 16


@pytest.mark.parametrize("kind", get_args(Event))
def test_to_json_every_kind_is_its_fields_after_decoding(kind: type[msgspec.Struct]) -> None:
    values = {"int": 5, "str": "x", "bytes": ID, "float": 1.5, "tuple": ("x", "y")}
    fields = msgspec.structs.fields(kind)
    event = kind(*(values[field.type.__name__] for field in fields))
    row = json.loads(to_json(9, decode(encode(event))))
    assert list(row) == ["seq", "at", "event", *(field.name for field in fields[1:])]
    for field in fields:
        value = getattr(event, field.name)
        if isinstance(value, bytes):
            value = value.hex()
        if isinstance(value, tuple):
            value = list(value)
        if field.name == "at" or field.name.endswith("_at"):
            value = rfc3339(value)
        assert row[field.name] == value


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, ""),
        (1, "1970-01-01T00:00:00.001Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1000, "1970-01-01T00:00:01.000Z"),
        (1_709_164_800_050, "2024-02-29T00:00:00.050Z"),
    ],
)
def test_rfc3339_is_utc_with_milliseconds(ms: int, text: str) -> None:
    assert rfc3339(ms) == text


def test_to_json_time_out_of_reach_is_an_error_not_a_wrong_line() -> None:
    with pytest.raises((ValueError, OverflowError, OSError)):
        to_json(1, Fault(10**18, b"", "", "x", "y"))


def test_to_json_holds_no_control_character_and_means_the_same() -> None:
    text = "".join(map(chr, range(0xA1))) + "\u0100\u2028\U0001f4e8\u202egnp\u2066\u200b\ufeff\U000e0041"
    event = Rejected(1, ID, "t", text, text, "rcpt", text, text, 550, "5.1.1", text)
    line = to_json(1, event)
    assert not [c for c in line.decode() if not c.isprintable() and c != "\xa0"]
    # What shows itself stands as it is.
    assert "\u0100" in line.decode()
    assert "\U0001f4e8" in line.decode()
    row = json.loads(line)
    assert (row["client"], row["helo"], row["sender"], row["recipient"], row["reason"]) == (text,) * 5
