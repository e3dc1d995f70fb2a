from mta.queue.asleep cimport Asleep as CAsleep
from mta.queue.schedule cimport Schedule as CSchedule
from mta.store.writer cimport Writer as CWriter

cdef class Plans:
    cdef CSchedule _schedule
    cdef CWriter _writer
    cdef object _workers
    cdef object _batch
    cdef CAsleep _asleep
    cdef bytes _timer_from
    cdef object _next_timer
    cdef object _remember_at
    cdef Py_ssize_t _remembered_in
    cdef bytes _swept
    cdef Py_ssize_t _asked

    cpdef arrived(self, arrived)
    cpdef off(self, off, now)
    cpdef slept(self, list wakes)
    cpdef wait_ms(self, now)
    cdef _carry_out_pending(self, now)
    cdef _tell(self, incarnation, bytes wire)
    cdef _ask(self, now)
    cdef _wake(self, number_, name)
    cdef _read(self, queue, now)
