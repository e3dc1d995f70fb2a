"""Cut a byte stream into frames; the contract is frames.pyi.

Every payload octet is copied once: out of the read that holds the whole frame, or into a payload that was made at its
full length when the frame's head was known.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

cdef enum:
    LENGTH_OCTETS = 4
    HEAD_OCTETS = 5  # the length, then the kind


cdef inline Py_ssize_t length_of(const unsigned char* head) noexcept:
    return <uint32_t> head[0] | <uint32_t> head[1] << 8 | <uint32_t> head[2] << 16 | <uint32_t> head[3] << 24


@cython.final
cdef class FrameReader:
    cdef Py_ssize_t _max_octets
    cdef unsigned char[HEAD_OCTETS] _head  # of the frame that is not complete
    cdef Py_ssize_t _n_head
    cdef bytes _payload  # of that frame, at its full length; None until the head is whole
    cdef Py_ssize_t _n_filled

    def __init__(self, Py_ssize_t max_octets):
        self._max_octets = max_octets
        self._n_head = 0
        self._payload = None
        self._n_filled = 0

    @property
    def n_buffered(self):
        return self._n_head + self._n_filled

    def feed(self, data, /):
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self._cut(<const unsigned char*> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef list _cut(self, const unsigned char* octets, Py_ssize_t size):
        """Return the frames that these octets complete."""
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t length
        cdef list frames = []
        while at < size:
            if self._n_head:
                at = self._fill(octets, at, size, frames)
                continue
            # The ordinary case: the whole frame lies in this read.
            if size - at >= HEAD_OCTETS:
                length = length_of(octets + at)
                if 0 < length <= self._max_octets and length <= size - at - LENGTH_OCTETS:
                    frames.append((
                        octets[at + LENGTH_OCTETS],
                        PyBytes_FromStringAndSize(<const char*> octets + at + HEAD_OCTETS, length - 1),
                    ))
                    at += LENGTH_OCTETS + length
                    continue
            at = self._fill(octets, at, size, frames)
        return frames

    cdef Py_ssize_t _fill(self, const unsigned char* octets, Py_ssize_t at, Py_ssize_t size, list frames) except -1:
        """Add octets to the frame that is not complete; return the index behind those that were taken."""
        cdef Py_ssize_t length, n
        while self._n_head < HEAD_OCTETS:
            if self._n_head == LENGTH_OCTETS:
                length = length_of(self._head)
                if length < 1 or length > self._max_octets:
                    raise ValueError(f"a frame of {length} octets, expected 1 to {self._max_octets}")
            if at == size:
                return at
            self._head[self._n_head] = octets[at]
            self._n_head += 1
            at += 1
        if self._payload is None:
            self._payload = PyBytes_FromStringAndSize(NULL, length_of(self._head) - 1)
        n = min(size - at, PyBytes_GET_SIZE(self._payload) - self._n_filled)
        memcpy(PyBytes_AS_STRING(self._payload) + self._n_filled, octets + at, <size_t> n)
        self._n_filled += n
        if self._n_filled == PyBytes_GET_SIZE(self._payload):
            frames.append((self._head[LENGTH_OCTETS], self._payload))
            self._n_head = 0
            self._payload = None
            self._n_filled = 0
        return at + n
