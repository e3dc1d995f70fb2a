cdef class Queue:
    cdef public object number
    cdef public object name
    cdef public Path path
    cdef public object refusal
    cdef public object until
    cdef public list ready
    cdef public Py_ssize_t n_out
    cdef public bint unread
    cdef public bytes read_from
    cdef public object next_due
    cdef public object resting_since
    cdef public object sleeps_until
    cdef public str sleeps_for
    cdef public object deficit
    cdef public bint is_listed
    cdef public bint is_urgent


cdef class Path:
    cdef public str source
    cdef public str site
    cdef public tuple hosts
    cdef public tuple ranks
    cdef public dict queues
    cdef public dict sessions
    cdef public Queue turn
    cdef public object fresh
    cdef public object turns
    cdef public bint was_fresh
    cdef public bint may_yield
    cdef public object window
    cdef public double n_succeeded
    cdef public double n_failed
    cdef public double n_cohorts
    cdef public object ceiling
    cdef public object ceiling_until
    cdef public object paused_until
    cdef public object failure
    cdef public object greeted_at
    cdef public bint is_changed
    cdef public bint is_lost
    cdef public object n_lost


cdef class Worker:
    cdef public object incarnation
    cdef public object credit
    cdef public Py_ssize_t n_sessions
    cdef public Py_ssize_t n_parts
    cdef public bint is_reserved


cdef class Session:
    cdef public object number
    cdef public Path path
    cdef public object worker
    cdef public dict parts
    cdef public Py_ssize_t depth
    cdef public bint is_open
    cdef public bint is_greeted
    cdef public bint is_unproven


cdef class Known:
    cdef public Queue queue
    cdef public object cost
    cdef public bint is_suspect
    cdef public bint is_new
    cdef public bint is_settling
    cdef public Session session
