from mta.queue.desk cimport Desk as CDesk
from mta.queue.shared cimport Shared as CShared

cdef class QueueProcess:
    cdef object _child
    cdef object _link
    cdef object _outbox
    cdef object _wakeup
    cdef CShared _shared
    cdef object _epoll
    cdef object _buffer
    cdef CDesk _desk
    cdef double _work_since
    cdef double _beat_at
    cdef double _awaited_since
    cdef double _stop_at
    cdef double _turned_at
    cdef double _hears_until
    cdef bint _is_stopping
    cdef bint _is_followed

    cdef _mind_stall(self, bint has_puts)
    cdef bint _is_over(self) except -1
    cdef double _timeout_s(self) except -1.0
    cdef double _wait_s(self) except -1.0
    cdef _beat(self)
    cdef _commit_if_due(self)
