"""Read an SMTP server's replies; the contract is replies.pyi.

Only what belongs to an unfinished reply is kept between reads, with the place where looking goes on: no octet is
searched twice. The text is cut out of the read itself.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.string cimport memchr, memcpy

from mta._fast.buffer cimport begin_bytes, finish_bytes, room_of

cdef enum:
    MAX_OCTETS = 65536  # of one reply with its line ends
    MAX_LINES = 100
    CODE_OCTETS = 3
    MARK_OCTETS = 4  # the code and the space or hyphen behind it


cdef inline Py_ssize_t text_end(const unsigned char* octets, Py_ssize_t at, Py_ssize_t line_feed) noexcept:
    """Return where the line that begins at `at` ends, its CR and LF left out."""
    if line_feed > at and octets[line_feed - 1] == c'\r':
        return line_feed - 1
    return line_feed


cdef inline int code_of(const unsigned char* line, Py_ssize_t size) noexcept:
    """Return the code of a line, or 0 for one that is no reply line. RFC 5321 s4.2."""
    if size < CODE_OCTETS:
        return 0
    if not (c'2' <= line[0] <= c'5' and c'0' <= line[1] <= c'9' and c'0' <= line[2] <= c'9'):
        return 0
    if size > CODE_OCTETS and line[CODE_OCTETS] != c' ' and line[CODE_OCTETS] != c'-':
        return 0
    return (line[0] - c'0') * 100 + (line[1] - c'0') * 10 + (line[2] - c'0')


cdef bytes join_texts(const unsigned char* octets, Py_ssize_t at, Py_ssize_t end):
    """Return the texts of the lines in octets[at:end], which are known to be sound, joined by LF."""
    cdef PyObject* joined = begin_bytes(end - at)
    cdef unsigned char* room = room_of(joined)
    cdef Py_ssize_t n_filled = 0
    cdef Py_ssize_t line_feed, size
    while at < end:
        line_feed = <const unsigned char*> memchr(octets + at, c'\n', <size_t> (end - at)) - octets
        size = text_end(octets, at, line_feed) - at - MARK_OCTETS
        if size > 0:
            memcpy(room + n_filled, octets + at + MARK_OCTETS, <size_t> size)
            n_filled += size
        at = line_feed + 1
        if at < end:
            room[n_filled] = c'\n'
            n_filled += 1
    return finish_bytes(joined, n_filled)


@cython.final
cdef class ReplyReader:
    cdef readonly bint broken
    cdef readonly bint inside
    cdef bytes _held  # what came of an unfinished reply
    cdef Py_ssize_t _line_at  # in it, where its last line begins
    cdef int _code
    cdef int _n_lines

    def __init__(self):
        self.broken = self.inside = False
        self._held = b""
        self._line_at = 0
        self._code = 0
        self._n_lines = 0

    def feed(self, bytes data not None, /):
        cdef list replies = []
        cdef Py_ssize_t looked_at = PyBytes_GET_SIZE(self._held)
        cdef Py_ssize_t begin
        if self.broken:
            return replies
        if looked_at:
            data = self._held + data
        begin = self._read(data, looked_at, replies)
        if PyBytes_GET_SIZE(data) - begin > MAX_OCTETS:
            self.broken = True
        if self.broken:
            self._held = b""
        else:
            self._held = data[begin:]
            self._line_at -= begin
        self.inside = PyBytes_GET_SIZE(self._held) > 0
        return replies

    cdef Py_ssize_t _read(self, bytes data, Py_ssize_t at, list replies) except -1:
        """Read the lines that end at or after `at`; return where the first unfinished reply begins."""
        cdef const unsigned char* octets = data
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef const unsigned char* found
        cdef Py_ssize_t begin = 0
        cdef Py_ssize_t end
        cdef int code
        while True:
            found = <const unsigned char*> memchr(octets + at, c'\n', <size_t> (size - at))
            if found == NULL:
                return begin
            at = found - octets + 1
            end = text_end(octets, self._line_at, at - 1)
            code = code_of(octets + self._line_at, end - self._line_at)
            self._n_lines += 1
            if (
                code == 0
                or (self._n_lines > 1 and code != self._code)
                or self._n_lines > MAX_LINES
                or at - begin > MAX_OCTETS
            ):
                self.broken = True
                return begin
            self._code = code
            if end - self._line_at > CODE_OCTETS and octets[self._line_at + CODE_OCTETS] == c'-':
                self._line_at = at
                continue
            if self._n_lines > 1:
                replies.append((code, join_texts(octets, begin, at)))
            elif end - begin > MARK_OCTETS:
                replies.append((code, PyBytes_FromStringAndSize(
                    <const char*> octets + begin + MARK_OCTETS, end - begin - MARK_OCTETS)))
            else:
                replies.append((code, b""))
            self._n_lines = 0
            self._line_at = begin = at
