"""Find the end of a command line; the contract is lines.pyi."""

from cpython.bytes cimport PyBytes_GET_SIZE
from libc.string cimport memchr


def find_line(bytes data not None, Py_ssize_t start, /):
    cdef const unsigned char* octets = data
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef const unsigned char* line_feed
    if start < 0 or start > size:
        raise IndexError("start is outside the data")
    line_feed = <const unsigned char*> memchr(octets + start, c'\n', <size_t> (size - start))
    if line_feed == NULL:
        return -1
    return line_feed - octets + 1
