cdef class PutChange:
    cdef public object guest
    cdef public object put
    cdef public object reply
    cdef public object arrived
    cdef public Py_ssize_t n_octets


cdef class SettleChange:
    cdef public object settlement
    cdef public object next_at
    cdef public object off
    cdef public bint keeps_id
    cdef public bint is_failed
    cdef public Py_ssize_t n_octets
