cdef class Reader:
    cdef object _env
    cdef dict _table

    cpdef leased(self, bytes part)
    cpdef piece(self, tuple extents, piece)
    cpdef bytes content(self, tuple extents)
    cdef _from(self, txn, str table, bytes start)
    cdef list _recipients(self, txn, bytes part)
