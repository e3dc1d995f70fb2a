from mta.link.client cimport QueueLink as CQueueLink
from mta.store.reader cimport Reader as CReader
from mta.worker.notices cimport Notices as CNotices

cdef class Dispatch:
    cdef CQueueLink _link
    cdef CReader _reader
    cdef object _make_courier
    cdef object _ways
    cdef CNotices _notices
    cdef dict _couriers
    cdef dict _sites
    cdef set _greeted
    cdef dict _held
    cdef set _resolving
    cdef bint _is_draining
    cdef object _loop
    cdef object _thread

    cpdef lease(self, lease)
    cpdef done(self, job, outcomes)
    cdef _settle(self, job, outcomes, bint is_report)
    cdef _job(self, session, bytes part)
    cdef _unreadable(self, bytes part, problem)
