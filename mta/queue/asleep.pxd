from mta.store.writer cimport Writer as CWriter

cdef class Asleep:
    cdef CWriter _writer
    cdef bytes _from
    cdef public object next_at
    cdef set _hurried

    cpdef until(self, wake)
    cpdef bint is_hurried(self, queue) except -1
