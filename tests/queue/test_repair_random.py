"""The repair on damage that nobody thought of: rows deleted, cut, flipped and moved at random, several at once.

Seeds are fixed, so that a failure can be looked at again; more of them were run when this was written.
"""

import random
from pathlib import Path

import pytest

from mta.queue import repair
from mta.store.keys import TABLES
from tests.store.damage import MAP_OCTETS, Raw, look, make_queue, raw

from .test_repair import damaged, everything

# What these were cannot be known from anything else.
BEYOND_REPAIR = (b"schema", b"node", b"incarnation")


def flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damage(rng: random.Random, tables: Raw) -> None:
    table = rng.choice(TABLES)
    rows = [(key, value) for key, value in tables.rows(table) if key not in BEYOND_REPAIR]
    if not rows:
        return
    key, value = rng.choice(rows)
    match rng.choice(("delete", "garble", "cut", "flip", "move", "copy")):
        case "delete":
            tables.delete(table, key)
        case "garble":
            tables.put(table, key, rng.randbytes(rng.randint(0, 40)))
        case "cut":
            tables.put(table, key, value[: len(value) // 2])
        case "flip":
            tables.put(table, key, flip(rng, value))
        case "move":
            tables.delete(table, key)
            tables.put(table, flip(rng, key), value)
        case _:
            tables.put(table, flip(rng, key), value)


@pytest.mark.parametrize("seed", range(80))
def test_repair_of_any_damage_ends_in_a_good_queue_and_keeps_content(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    make_queue(tmp_path)
    with raw(tmp_path) as tables:
        for _ in range(rng.randint(1, 8)):
            damage(rng, tables)
    before = everything(tmp_path)["body"]
    assert repair(str(tmp_path), MAP_OCTETS, lambda line: None) == []
    assert look(tmp_path) == []
    kept = b"".join(value for _, value in everything(tmp_path)["body"])
    moved = {value for table, _, value in damaged(tmp_path) if table == "body"}
    assert all(value in moved or value in kept for _, value in before)
