cdef class Account:
    cdef public list credit
    cdef public list used
    cdef public bint is_dirty
    cdef public list dry_until
    cdef public object n_users


cdef class Visit:
    cdef public object visits
    cdef public object asker
    cdef public str listener
    cdef public bytes network
    cdef public Account account
    cdef public bint is_in
    cdef public bint is_over

    cpdef bint take(self, kind, n=*) except -1
