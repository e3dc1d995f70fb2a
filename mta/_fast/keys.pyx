"""Pack the keys of the queue's tables; the contract is keys.pyi, what they mean is in `mta.store.keys`."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

# An enum would make an int of it, and a negative one.
cdef uint32_t SUSPECT_BIT = <uint32_t> 1 << 31

cdef enum:
    MOST_CHUNKS = 1 << 16  # a chunk has 2 octets in its key


cdef inline bytes empty(Py_ssize_t size):
    return PyBytes_FromStringAndSize(NULL, size)


cdef inline unsigned char* octets_of(bytes key) noexcept:
    return <unsigned char*> PyBytes_AS_STRING(key)


cdef inline void put_u16(unsigned char* at, uint16_t value) noexcept:
    at[0] = <unsigned char> (value >> 8)
    at[1] = <unsigned char> (value & 0xff)


cdef inline void put_u64(unsigned char* at, uint64_t value) noexcept:
    cdef int place
    for place in range(8):
        at[place] = <unsigned char> ((value >> (56 - 8 * place)) & 0xff)


def number(bytes key not None, /):
    cdef const unsigned char* octets = octets_of(key)
    cdef Py_ssize_t at, size = min(8, PyBytes_GET_SIZE(key))
    cdef uint64_t found = 0
    for at in range(size):
        found = found << 8 | octets[at]
    return found


def number_key(uint64_t value, /):
    cdef bytes key = empty(8)
    put_u64(octets_of(key), value)
    return key


cdef inline bytes packed_body_key(uint64_t extent, uint16_t chunk):
    cdef bytes key = empty(10)
    put_u64(octets_of(key), extent)
    put_u16(octets_of(key) + 8, chunk)
    return key


def body_key(uint64_t extent, uint16_t chunk, /):
    return packed_body_key(extent, chunk)


def chunk_rows(uint64_t extent, content, Py_ssize_t size, /):
    cdef Py_buffer view
    cdef Py_ssize_t chunk
    cdef const char* octets
    cdef list rows = []
    if size < 1:
        raise ValueError(f"chunks of {size} octets")
    PyObject_GetBuffer(content, &view, PyBUF_SIMPLE)
    try:
        if view.len > size * MOST_CHUNKS:
            raise OverflowError(f"{view.len} octets are more than {MOST_CHUNKS} chunks")
        octets = <const char*> view.buf
        for chunk in range((view.len + size - 1) // size):
            rows.append((
                packed_body_key(extent, <uint16_t> chunk),
                PyBytes_FromStringAndSize(octets + chunk * size, min(size, view.len - chunk * size)),
            ))
    finally:
        PyBuffer_Release(&view)
    return rows


def wake_key(uint64_t due, uint64_t queue, /):
    cdef bytes key = empty(16)
    put_u64(octets_of(key), due)
    put_u64(octets_of(key) + 8, queue)
    return key


def numbered(bytes name not None, uint16_t place, /):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
    cdef bytes key = empty(size + 2)
    memcpy(octets_of(key), octets_of(name), <size_t> size)
    put_u16(octets_of(key) + size, place)
    return key


def due_key(uint64_t queue, uint64_t due, bytes part not None, /):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(part)
    cdef bytes key = empty(16 + size)
    put_u64(octets_of(key), queue)
    put_u64(octets_of(key) + 8, due)
    memcpy(octets_of(key) + 16, octets_of(part), <size_t> size)
    return key


def timer_key(uint64_t when, bytes part not None, uint8_t kind, /):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(part)
    cdef bytes key = empty(9 + size)
    put_u64(octets_of(key), when)
    memcpy(octets_of(key) + 8, octets_of(part), <size_t> size)
    octets_of(key)[8 + size] = kind
    return key


def turn(cost, bint is_suspect=False, /):
    cdef bytes value = empty(4)
    cdef uint32_t packed = SUSPECT_BIT - 1 if cost >= SUSPECT_BIT else <uint32_t> cost
    if is_suspect:
        packed |= SUSPECT_BIT
    put_u16(octets_of(value), <uint16_t> (packed >> 16))
    put_u16(octets_of(value) + 2, <uint16_t> (packed & 0xffff))
    return value
