cdef class IdMaker:
    cdef object _node
    cdef object _incarnation
    cdef object _clock_ms
    cdef object _last_ms
    cdef object _count

    cpdef bytes make(self)

cpdef str cut(str text, octets=*)
cpdef now_ms()
cpdef maker_of(bytes id_)
