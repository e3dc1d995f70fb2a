"""The DATA stream in both directions; the contract is data.pyi.

The scans in dots.h stop at each dot that begins a line; here is decided what that dot is. Octets are copied only from
one such dot to the next.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.string cimport memcpy

from mta._fast.buffer cimport begin_bytes, finish_bytes, room_of

cdef extern from "dots.h":
    struct line_state:
        int after_cr
        int at_line_start
        int bare
        int high
        Py_ssize_t line
        Py_ssize_t longest
    ctypedef Py_ssize_t (*scan_dots)(
        const unsigned char* data, Py_ssize_t at, Py_ssize_t end, line_state* state) noexcept
    Py_ssize_t scan_portable(
        const unsigned char* data, Py_ssize_t at, Py_ssize_t end, line_state* state) noexcept
    Py_ssize_t scan_avx2(
        const unsigned char* data, Py_ssize_t at, Py_ssize_t end, line_state* state) noexcept
    bint has_avx2() noexcept

with cython.warn.undeclared(False):
    VECTOR_PATHS = ("avx2", "portable") if has_avx2() else ("portable",)

cdef enum:
    # What was withheld at the end of a read, because the next octets decide whether it ends the body.
    HELD_NOTHING = 0
    HELD_DOT = 1
    HELD_DOT_CR = 2


cdef inline scan_dots fastest_scan() noexcept:
    return scan_avx2 if has_avx2() else scan_portable


cdef inline void begin_state(line_state* state) noexcept:
    state.after_cr = 0
    state.at_line_start = 1
    state.bare = 0
    state.high = 0
    state.line = 0
    state.longest = 0


@cython.final
cdef class DotReader:
    cdef readonly Py_ssize_t octets
    cdef readonly bint done
    cdef scan_dots _scan
    cdef line_state _state
    cdef int _held

    def __init__(self, str path=""):
        if path and path not in VECTOR_PATHS:
            raise ValueError(f"scan path: expected one of {', '.join(VECTOR_PATHS)}, got {path!r}")
        self._scan = scan_portable if path == "portable" else fastest_scan()
        begin_state(&self._state)
        self.octets = 0
        self.done = False
        self._held = HELD_NOTHING

    @property
    def bare_line_end(self):
        return self._state.bare != 0

    @property
    def has_8bit(self):
        return self._state.high != 0

    @property
    def longest_line(self):
        # A CR at the end may yet turn out to be half of the line end.
        return max(self._state.longest, self._state.line - self._state.after_cr)

    def feed(self, bytes data not None, Py_ssize_t start=0, /):
        cdef const unsigned char* octets = data
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t at = start
        cdef Py_ssize_t kept_at = start  # from here on nothing has been copied yet
        cdef Py_ssize_t used = size
        cdef PyObject* body = NULL
        cdef Py_ssize_t n_copied = 0
        if self.done:
            raise RuntimeError("feed() after the end of the data was found")
        if start < 0 or start > size:
            raise IndexError("start is outside the data")

        if self._held != HELD_NOTHING and at < size:
            if self._held == HELD_DOT and octets[at] == c'\r' and at + 1 == size:
                self._held = HELD_DOT_CR
                return b"", size
            if self._held == HELD_DOT and octets[at] == c'\r' and octets[at + 1] == c'\n':
                self.done = True
                return b"", at + 2
            if self._held == HELD_DOT_CR and octets[at] == c'\n':
                self.done = True
                return b"", at + 1
            # It was a stuffed dot after all. The CR that was withheld behind it belongs to the body, and is bare.
            if self._held == HELD_DOT_CR:
                body = begin_bytes(size - at + 1)
                room_of(body)[0] = c'\r'
                n_copied = 1
                self._state.after_cr = 1
                self._state.line = 1
            self._held = HELD_NOTHING

        while True:
            at = self._scan(octets, at, size, &self._state)
            if at == size:
                break
            self._state.at_line_start = 0
            if at + 1 == size:
                self._held = HELD_DOT
                break
            if octets[at + 1] == c'\r':
                if at + 2 == size:
                    self._held = HELD_DOT_CR
                    break
                if octets[at + 2] == c'\n':
                    self.done = True
                    used = at + 3
                    break
            # RFC 5321 s4.5.2: the first dot of a line that goes on is left out.
            if body == NULL:
                body = begin_bytes(size - kept_at)
            memcpy(room_of(body) + n_copied, octets + kept_at, <size_t> (at - kept_at))
            n_copied += at - kept_at
            at += 1
            kept_at = at

        self.octets += n_copied + at - kept_at
        if body != NULL:
            memcpy(room_of(body) + n_copied, octets + kept_at, <size_t> (at - kept_at))
            return finish_bytes(body, n_copied + at - kept_at), used
        if kept_at == 0 and at == size:
            return data, used
        return PyBytes_FromStringAndSize(<const char*> octets + kept_at, at - kept_at), used


@cython.final
cdef class DotStuffer:
    cdef scan_dots _scan
    cdef line_state _state

    def __init__(self):
        self._scan = fastest_scan()
        begin_state(&self._state)

    def feed(self, bytes data not None, /):
        cdef const unsigned char* octets = data
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t kept_at = 0
        cdef PyObject* stuffed = NULL
        cdef Py_ssize_t n_copied = 0
        while True:
            at = self._scan(octets, at, size, &self._state)
            if at == size:
                break
            self._state.at_line_start = 0
            self._state.line += 1
            at += 1
            if stuffed == NULL:
                # A line that begins with a dot has at least 3 octets; only the first may have begun earlier.
                stuffed = begin_bytes(size + size // 3 + 1)
            memcpy(room_of(stuffed) + n_copied, octets + kept_at, <size_t> (at - kept_at))
            n_copied += at - kept_at
            room_of(stuffed)[n_copied] = c'.'
            n_copied += 1
            kept_at = at
        if stuffed == NULL:
            return data
        memcpy(room_of(stuffed) + n_copied, octets + kept_at, <size_t> (size - kept_at))
        return finish_bytes(stuffed, n_copied + size - kept_at)

    def end(self):
        return b".\r\n" if self._state.at_line_start else b"\r\n.\r\n"


cdef bint is_normal(const unsigned char* octets, Py_ssize_t size) noexcept:
    """Whether CR and LF stand only together."""
    cdef line_state state
    cdef scan_dots scan = fastest_scan()
    cdef Py_ssize_t at = 0
    begin_state(&state)
    while True:
        at = scan(octets, at, size, &state)
        if at == size:
            return not state.bare and not state.after_cr
        state.at_line_start = 0
        at += 1


def normalize(bytes body not None, /):
    cdef const unsigned char* octets = body
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t n_line_feeds = 0
    cdef Py_ssize_t n_filled = 0
    cdef PyObject* normal
    cdef unsigned char* room
    if is_normal(octets, size):
        return body
    for at in range(size):
        n_line_feeds += octets[at] == c'\n'
    normal = begin_bytes(size + n_line_feeds)
    room = room_of(normal)
    at = 0
    while at < size:
        if octets[at] == c'\n':
            room[n_filled] = c'\r'
            room[n_filled + 1] = c'\n'
            n_filled += 2
        elif octets[at] != c'\r':
            room[n_filled] = octets[at]
            n_filled += 1
        elif at + 1 == size or octets[at + 1] != c'\n':
            room[n_filled] = c' '
            n_filled += 1
        # A CR before LF is written with its LF.
        at += 1
    return finish_bytes(normal, n_filled)
