"""What has come of one run: a bit for each message, and counts. The contract is in _sink.pyi."""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from bench.load._wire cimport N_BUCKETS, count_latency, counts_of


cdef class Run:
    def __cinit__(self):
        self._buckets = <int64_t*> calloc(N_BUCKETS, sizeof(int64_t))
        if self._buckets == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._seen)
        free(self._buckets)

    @property
    def deliveries_us(self):
        return counts_of(self._buckets)

    @property
    def lasted_s(self):
        return (self._last_ns - self._first_due_ns) / 1e9

    @property
    def numbers(self):
        return (<char*> self._seen)[:self._octets]

    cdef int add(self, int64_t number, bint is_changed, int64_t due_ns, int64_t arrived_ns) except -1:
        cdef Py_ssize_t at = <Py_ssize_t> (number // 8)
        cdef unsigned char bit = <unsigned char> (1 << (number % 8))
        cdef Py_ssize_t octets
        cdef void* larger
        if at >= self._octets:
            octets = max(65536, 2 * at)
            larger = realloc(self._seen, octets)
            if larger == NULL:
                raise MemoryError
            self._seen = <unsigned char*> larger
            memset(self._seen + self._octets, 0, octets - self._octets)
            self._octets = octets
        if self._seen[at] & bit:
            self.doubled += 1
        else:
            self._seen[at] |= bit
            self.messages += 1
            self._last_ns = arrived_ns
            if self._first_due_ns == 0 or due_ns < self._first_due_ns:
                self._first_due_ns = due_ns
        self.changed += is_changed
        count_latency(self._buckets, arrived_ns - due_ns)
        return 0
