cimport cython

from mta.queue.awake cimport Known as CKnown, Path as CPath, Queue as CQueue, Session as CSession
from mta.queue.granting cimport Granting as CGranting
from mta.queue.leases cimport Leases as CLeases
from mta.queue.reports cimport Reports as CReports
from mta.queue.waiting cimport Waiting as CWaiting

cdef class Schedule:
    cdef object _settings
    cdef CWaiting _waiting
    cdef readonly dict _known
    cdef object _paths
    cdef CLeases _leases
    cdef public CReports reports
    cdef public object resolving
    cdef CGranting _granting
    cdef public object routing
    cdef list _given_back

    cpdef awake(self, number, name)
    cpdef find(self, number)
    cpdef arrived(self, CQueue queue, bytes part, cost)

    @cython.locals(known=CKnown, session=CSession, path=CPath)
    cpdef settling(self, bytes part, worker, now, bint has_spoken)

    @cython.locals(known=CKnown, queue=CQueue)
    cpdef settled(self, bytes part, due, now)
    cpdef list hungry(self)
    cpdef due_again(self, now)
    cpdef list grants(self, now)
    cdef _put_ready(self, bytes part, CKnown known)
    cdef _take_out(self, bytes part, CKnown known)
