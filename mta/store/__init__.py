"""The queue's tables in LMDB: keys, rows, one writer, many readers. The only room that imports lmdb."""

from mta.store.codec import (
    EIGHT_BIT,
    UTF8,
    CounterRow,
    MessageRow,
    PartRow,
    QueueRow,
    RecipientRow,
    decode_message,
    decode_part,
    decode_queue,
    decode_recipient,
    encode,
)
from mta.store.keys import due_key, due_of, message_of, number, number_key, part_name, recipient_key, wake_key
from mta.store.reader import READ_ERRORS, Leased, Queued, Reader
from mta.store.writer import StorageFull, StoreError, Writer

__all__ = [
    "EIGHT_BIT",
    "READ_ERRORS",
    "UTF8",
    "CounterRow",
    "Leased",
    "MessageRow",
    "PartRow",
    "QueueRow",
    "Queued",
    "Reader",
    "RecipientRow",
    "StorageFull",
    "StoreError",
    "Writer",
    "decode_message",
    "decode_part",
    "decode_queue",
    "decode_recipient",
    "due_key",
    "due_of",
    "encode",
    "message_of",
    "number",
    "number_key",
    "part_name",
    "recipient_key",
    "wake_key",
]
