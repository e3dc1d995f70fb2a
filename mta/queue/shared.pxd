from mta.queue.batch cimport Batch as CBatch
from mta.queue.plans cimport Plans as CPlans
from mta.queue.schedule cimport Schedule as CSchedule
from mta.store.writer cimport Writer as CWriter

cdef class Shared:
    cdef public object config
    cdef public CWriter writer
    cdef public object clock
    cdef public CBatch batch
    cdef public object workers
    cdef public CSchedule schedule
    cdef public CPlans plans
    cdef object _room
    cdef public bint has_room
    cdef public bint is_tight

    cpdef bint look_for_room(self) except -1
