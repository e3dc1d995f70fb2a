cdef class Writer:
    cdef object _env
    cdef dict _table
    cdef object _txn
    cdef list _chunks
    cdef list _events
    cdef set _dirty
    cdef public object node
    cdef object _incarnation
    cdef public object live_octets
    cdef bint _has_shared
    cdef public Py_ssize_t n_messages
    cdef object _next_extent
    cdef object _next_queue
    cdef object _next_event
    cdef dict _counters
    cdef tuple _before
    cdef Py_ssize_t _n_messages_before

    cdef _open(self)
    cdef _put_run(self, str table, list rows)
    cdef _put_numbers(self, txn)
    cpdef get(self, str table, bytes key)
    cpdef bint add(self, str table, bytes key, bytes value) except -1
    cpdef replace(self, str table, bytes key, bytes value)
    cpdef remove(self, str table, bytes key)
    cpdef bint discard(self, str table, bytes key) except -1
    cpdef scan(self, str table, bytes start, Py_ssize_t limit, bytes prefix=*)
    cpdef remove_extent(self, extent, octets)
    cpdef bint unshare_extent(self, extent) except -1
    cpdef add_event(self, bytes event)
    cpdef count(self, str tenant, str fate, recipients)
