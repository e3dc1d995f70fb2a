cimport cython

from mta.queue.awake cimport Known as CKnown, Queue as CQueue

cdef class Waiting:
    cdef public dict known
    cdef dict _queues
    cdef dict _hungry
    cdef dict _resting
    cdef list _dues

    cpdef find(self, number)
    cpdef Py_ssize_t piece(self) except -1

    @cython.locals(known=CKnown)
    cpdef bint arrived(self, CQueue queue, bytes part, cost) except -1
    cpdef spent(self, CQueue queue)
    cpdef list hungry(self)
    cpdef due_again(self, now)
    cpdef next_due(self)
    cpdef stir(self, CQueue queue)
    cpdef settle_down(self, CQueue queue, now)
    cpdef step_back(self, CQueue queue)
    cpdef list sleepers(self, now)
