from mta.deliver.workload cimport Workload as CWorkload
from mta.smtp.client cimport Client as CClient

cdef class RemoteCourier:
    cdef CWorkload _load
    cdef CClient _client
    cdef object _settings
    cdef object _loop
    cdef object _dial
    cdef object _over
    cdef object _transport
    cdef object _timer
    cdef object _task
    cdef bint _is_made
    cdef bint _is_ready
    cdef bint _is_closing
    cdef bint _is_closed
    cdef bint _is_turning
    cdef bint _is_full
    cdef bint _feed_is_due
    cdef double _deadline_at
    cdef Py_ssize_t _n_unsent
    cdef Py_ssize_t _n_replies

    cpdef deliver(self, jobs)
    cdef _go_on(self, over)
    cdef _turn(self)
    cdef _feed_soon(self)
    cdef _work(self, CClient client)
    cdef _write(self, list output)
    cdef _hang_up(self, list output)
    cdef _finish(self)
    cdef _arm(self, double timeout_s)
    cdef _note_failure(self)
