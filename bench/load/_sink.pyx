"""The sink's loop: an SMTP server in one thread that checks what it takes; the contract is _sink.pyi.

Messages are read in `_message.pyx`, and counted by run in `_run.pyx`.
Rule: what was answered 250 counts, what was not is forgotten.
"""

import heapq
import itertools

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset, strncasecmp
from posix.unistd cimport close

from bench.load._message cimport RUN_OCTETS, begin_message, message_t, take_content
from bench.load._run cimport Run
from bench.load._wire cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN, MSG_NOSIGNAL, SHUT_WR, SOCK_CLOEXEC, SOCK_NONBLOCK, accept4,
    epoll_create1, epoll_ctl, epoll_event, epoll_wait, now_ns, recv, send, send_at_once, shutdown)

cdef enum:
    COMMAND = 0
    DATA = 1
    LEAVING = 2         # was told 421, and has to hang up
    CONNECT_STAGE = 0
    EHLO_STAGE = 1
    MAIL_STAGE = 2
    RCPT_STAGE = 3
    DATA_STAGE = 4
    MESSAGE_STAGE = 5

    LINE_OCTETS = 1024
    OUT_OCTETS = 4096
    READ_OCTETS = 262144
    N_EVENTS = 512
    MOST_DIGITS = 18

STAGES = ("connect", "ehlo", "mail", "rcpt", "data", "message")
USUAL = (
    b"220 sink.test ESMTP\r\n",
    b"250-sink.test\r\n250-PIPELINING\r\n250-SIZE 268435456\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
    b"250 ENHANCEDSTATUSCODES\r\n",
    b"250 2.1.0 Ok\r\n",
    b"250 2.1.5 Ok\r\n",
    b"354 Go on\r\n",
    b"250 2.0.0 Ok: sunk\r\n",
)

cdef struct session_t:
    int fd
    int state
    bint is_waiting         # for the delay of a rule
    bint is_reading         # the kernel is asked for input
    bint has_sender
    int n_recipients
    int64_t recipient       # the number in the last one's name, -1 if there is none
    int64_t serial
    int64_t arrived_ns
    message_t message
    char line[LINE_OCTETS]
    Py_ssize_t n_line
    char out[OUT_OCTETS]
    Py_ssize_t n_out
    unsigned char* rest     # what came in behind that which waits
    Py_ssize_t n_rest


cdef class Sink:
    cdef int _listener
    cdef int _control
    cdef object _on_control
    cdef int _epoll
    cdef session_t** _sessions
    cdef int _n_sessions
    cdef int64_t _serial
    cdef int64_t _now
    cdef unsigned char* _room
    cdef bytes _last_name
    cdef Run _last_run
    cdef dict _addresses
    cdef list _delays
    cdef object _order
    cdef list _rules
    cdef list _fitted
    cdef list _used
    cdef int _ruled_stages
    cdef readonly dict runs
    cdef readonly int64_t unknown

    def __init__(self, int listener, int control, on_control):
        """`on_control` is called when there is something to read at `control`; False ends the loop."""
        self._listener, self._control, self._on_control = listener, control, on_control
        self.runs = {}
        self._addresses = {}
        self._delays = []
        self._order = itertools.count()
        self.set_rules([])
        self._room = <unsigned char*> malloc(READ_OCTETS)
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._room == NULL or self._epoll < 0:
            raise MemoryError
        self._watch(listener, EPOLLIN, EPOLL_CTL_ADD)
        self._watch(control, EPOLLIN, EPOLL_CTL_ADD)

    def __dealloc__(self):
        # Whose end it is: the process ends with it.
        free(self._room)

    @property
    def n_ruled(self):
        return sum(self._used)

    def set_rules(self, list rules):
        cdef object rule
        for rule in rules:
            if len(rule.reply.encode()) > OUT_OCTETS - 2:
                raise ValueError(f"a reply of more than {OUT_OCTETS - 2} octets")
        self._rules = rules
        self._fitted = [0] * len(rules)
        self._used = [0] * len(rules)
        self._ruled_stages = 0
        for rule in rules:
            self._ruled_stages |= 1 << STAGES.index(rule.stage)
        # Whoever waits because of an old one goes on.
        self._delays = [(0, *delay[1:]) for delay in self._delays]
        heapq.heapify(self._delays)

    def run(self):
        cdef epoll_event events[N_EVENTS]
        cdef int at, n_events, fd
        cdef int timeout_ms = -1
        cdef session_t* session
        while True:
            timeout_ms = -1
            if self._delays:
                timeout_ms = <int> min(60000, max(0, (self._delays[0][0] - now_ns()) // 1000000 + 1))
            n_events = epoll_wait(self._epoll, events, N_EVENTS, timeout_ms)
            self._now = now_ns()
            for at in range(n_events):
                fd = <int> events[at].data.u32
                if fd == self._listener:
                    self._accept()
                elif fd == self._control:
                    if not self._on_control():
                        return
                elif fd < self._n_sessions and self._sessions[fd] != NULL:
                    session = self._sessions[fd]
                    self._read(session)
            while self._delays and self._delays[0][0] <= self._now:
                self._resume(heapq.heappop(self._delays))

    cdef void _watch(self, int fd, uint32_t what, int how) noexcept:
        cdef epoll_event event
        event.events = what
        event.data.u32 = <uint32_t> fd
        epoll_ctl(self._epoll, how, fd, &event)

    cdef int _accept(self) except -1:
        cdef int fd
        cdef session_t* session
        cdef void* larger
        while True:
            fd = accept4(self._listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                return 0
            if fd >= self._n_sessions:
                larger = realloc(self._sessions, 2 * (fd + 32) * sizeof(session_t*))
                if larger == NULL:
                    raise MemoryError
                self._sessions = <session_t**> larger
                memset(self._sessions + self._n_sessions, 0, (2 * (fd + 32) - self._n_sessions) * sizeof(session_t*))
                self._n_sessions = 2 * (fd + 32)
            session = <session_t*> calloc(1, sizeof(session_t))
            if session == NULL:
                raise MemoryError
            self._serial += 1
            session.fd, session.serial, session.is_reading = fd, self._serial, True
            self._sessions[fd] = session
            send_at_once(fd)
            self._watch(fd, EPOLLIN, EPOLL_CTL_ADD)
            self._answer(session, CONNECT_STAGE)
            if self._sessions[fd] == session:
                self._flush(session)

    cdef void _close(self, session_t* session) noexcept:
        """End it; the session is no more afterwards."""
        self._sessions[session.fd] = NULL
        close(session.fd)
        self._addresses.pop(session.fd, None)
        free(session.rest)
        free(session)

    cdef int _read(self, session_t* session) except -1:
        cdef ssize_t n_read
        if session.is_waiting:
            # Nothing was asked for, so what there is to tell is that the other side is gone.
            self._close(session)
            return 0
        n_read = recv(session.fd, self._room, READ_OCTETS, 0)
        if n_read <= 0:
            if n_read == 0 or (errno != EAGAIN and errno != EINTR):
                self._close(session)
            return 0
        return self._take(session, self._room, n_read)

    cdef int _take(self, session_t* session, const unsigned char* data, Py_ssize_t octets) except -1:
        """Take what came in, and answer it; what lies behind something that waits is kept."""
        cdef int fd = session.fd
        cdef Py_ssize_t at = 0
        cdef bint is_over = False
        while at < octets and not session.is_waiting and session.state != LEAVING:
            if session.state == DATA:
                at += take_content(&session.message, data + at, octets - at, &is_over)
                if is_over:
                    session.state = COMMAND
                    session.arrived_ns = now_ns()
                    self._answer(session, MESSAGE_STAGE)
            else:
                at += self._take_command(session, data + at, octets - at)
            if self._sessions[fd] != session:
                return 0
        if at < octets and session.is_waiting:
            session.rest = <unsigned char*> malloc(octets - at)
            if session.rest == NULL:
                raise MemoryError
            memcpy(session.rest, data + at, octets - at)
            session.n_rest = octets - at
        self._flush(session)
        return 0

    cdef void _flush(self, session_t* session) noexcept:
        cdef ssize_t n_sent
        cdef bint is_wanted = not session.is_waiting
        if session.n_out:
            n_sent = send(session.fd, session.out, session.n_out, MSG_NOSIGNAL)
            # Whoever takes no replies, of which the kernel holds thousands, is no mail server.
            if n_sent != session.n_out:
                shutdown(session.fd, SHUT_WR)
            session.n_out = 0
            if session.state == LEAVING:
                shutdown(session.fd, SHUT_WR)
        if is_wanted != session.is_reading:
            session.is_reading = is_wanted
            self._watch(session.fd, EPOLLIN if is_wanted else 0, EPOLL_CTL_MOD)

    cdef void _say(self, session_t* session, const char* reply, Py_ssize_t octets) noexcept:
        if session.n_out + octets > OUT_OCTETS:
            self._flush(session)
        memcpy(session.out + session.n_out, reply, octets)
        session.n_out += octets

    cdef Py_ssize_t _take_command(self, session_t* session, const unsigned char* data, Py_ssize_t octets) except -1:
        """Take a command, or the part of it that is there; return how many octets that is."""
        cdef const unsigned char* end = <const unsigned char*> memchr(data, b"\n", octets)
        cdef Py_ssize_t n_taken = octets if end == NULL else end - data + 1
        cdef Py_ssize_t n_kept = min(n_taken, LINE_OCTETS - session.n_line)
        memcpy(session.line + session.n_line, data, n_kept)
        session.n_line += n_kept
        if end != NULL:
            n_kept = session.n_line
            session.n_line = 0
            while n_kept and session.line[n_kept - 1] in b"\r\n":
                n_kept -= 1
            self._command(session, session.line, n_kept)
        return n_taken

    cdef int _command(self, session_t* session, const char* line, Py_ssize_t octets) except -1:
        if octets >= 4 and (strncasecmp(line, b"EHLO", 4) == 0 or strncasecmp(line, b"HELO", 4) == 0):
            self._forget(session)
            self._answer(session, EHLO_STAGE)
        elif octets > 11 and strncasecmp(line, b"MAIL FROM:<", 11) == 0:
            self._forget(session)
            if self._ruled_stages:
                self._addresses[session.fd] = [path_of(line + 11, octets - 11)]
            self._answer(session, MAIL_STAGE)
        elif octets > 9 and strncasecmp(line, b"RCPT TO:<", 9) == 0:
            if not session.has_sender:
                self._say(session, b"503 5.5.1 MAIL first\r\n", 22)
                return 0
            if session.fd in self._addresses:
                self._addresses[session.fd].append(path_of(line + 9, octets - 9))
            session.recipient = number_of(line + 9, octets - 9)
            self._answer(session, RCPT_STAGE)
        elif octets == 4 and strncasecmp(line, b"DATA", 4) == 0:
            if not session.n_recipients:
                self._say(session, b"554 5.5.1 No valid recipients\r\n", 31)
                return 0
            self._answer(session, DATA_STAGE)
        elif octets == 4 and strncasecmp(line, b"RSET", 4) == 0:
            self._forget(session)
            self._say(session, b"250 2.0.0 Ok\r\n", 14)
        elif octets == 4 and strncasecmp(line, b"NOOP", 4) == 0:
            self._say(session, b"250 2.0.0 Ok\r\n", 14)
        elif octets == 4 and strncasecmp(line, b"QUIT", 4) == 0:
            self._say(session, b"221 2.0.0 Bye\r\n", 15)
            self._flush(session)
            self._close(session)
        else:
            self._say(session, b"500 5.5.1 What?\r\n", 17)
        return 0

    cdef void _forget(self, session_t* session) noexcept:
        session.has_sender, session.n_recipients = False, 0
        self._addresses.pop(session.fd, None)

    cdef int _answer(self, session_t* session, int stage) except -1:
        """Answer as the rules say, at once or later."""
        cdef object rule = None
        cdef int64_t until
        if self._ruled_stages & (1 << stage):
            rule = self._decide(session, stage)
            if rule is not None and rule.delay_s:
                session.is_waiting = True
                until = now_ns() + <int64_t> (<double> rule.delay_s * 1e9)
                heapq.heappush(self._delays, (until, next(self._order), session.fd, session.serial, stage, rule))
                return 0
        return self._finish(session, stage, rule)

    cdef object _decide(self, session_t* session, int stage):
        """Return the rule that is to be used here, or None."""
        cdef list addresses = self._addresses.get(session.fd, [])
        cdef Py_ssize_t number
        cdef object rule
        if stage == MAIL_STAGE:
            addresses = addresses[:1]
        elif stage == RCPT_STAGE:
            addresses = addresses[-1:]
        else:
            addresses = addresses[1:]
        for number, rule in enumerate(self._rules):
            if rule.stage != STAGES[stage] or not rule.fits(addresses):
                continue
            if rule.times and self._used[number] >= rule.times:
                continue
            self._fitted[number] += 1
            if self._fitted[number] % rule.every == 0:
                self._used[number] += 1
                return rule
        return None

    cdef int _finish(self, session_t* session, int stage, object rule) except -1:
        """Do what an answer means, and say it. The session may be no more afterwards."""
        cdef bytes reply = b""
        if rule is not None:
            if rule.drop:
                self._close(session)
                return 0
            reply = rule.reply.encode()
        if reply[:3] == b"421":
            session.state = LEAVING
        elif reply and reply[:1] not in b"23":
            if stage == RCPT_STAGE and session.fd in self._addresses:
                self._addresses[session.fd].pop()
            elif stage == MESSAGE_STAGE:
                self._forget(session)
        elif stage == MAIL_STAGE:
            session.has_sender = True
        elif stage == RCPT_STAGE:
            session.n_recipients += 1
        elif stage == DATA_STAGE:
            session.state = DATA
            begin_message(&session.message)
        elif stage == MESSAGE_STAGE:
            self._count(session)
            self._forget(session)
        reply = reply + b"\r\n" if reply else <bytes> USUAL[stage]
        self._say(session, reply, len(reply))
        return 0

    cdef int _resume(self, tuple delay) except -1:
        """Answer what a rule has made wait, and take what came in meanwhile."""
        cdef int fd = delay[2]
        cdef session_t* session = self._sessions[fd]
        cdef unsigned char* rest
        if session == NULL or session.serial != delay[3]:
            return 0
        session.is_waiting = False
        self._finish(session, delay[4], delay[5])
        if self._sessions[fd] != session:
            return 0
        rest, session.rest = session.rest, NULL
        try:
            self._take(session, rest, session.n_rest if rest != NULL else 0)
        finally:
            free(rest)
        return 0

    cdef int _count(self, session_t* session) except -1:
        """Count a message that is answered 250."""
        cdef message_t* message = &session.message
        cdef bint is_changed = message.found != message.wanted
        cdef bytes name
        if not message.has_id:
            self.unknown += 1
            return 0
        if self._last_run is None or memcmp(message.run, <const char*> self._last_name, RUN_OCTETS) != 0:
            name = message.run[:RUN_OCTETS]
            self._last_run = self.runs.setdefault(name.decode("latin-1"), Run())
            self._last_name = name
        # The source names each recipient after its message: one that got another's mail is as bad as a changed one.
        is_changed |= session.recipient >= 0 and session.recipient != message.number
        self._last_run.add(message.number, is_changed, message.due_ns, session.arrived_ns)
        return 0


cdef int64_t number_of(const char* rest, Py_ssize_t octets) noexcept:
    """Return the number in a recipient `r7@sink.test>`, -1 for any other."""
    cdef int64_t number = 0
    cdef Py_ssize_t at = 1
    if octets < 3 or rest[0] not in b"rR":
        return -1
    while at < octets and at < MOST_DIGITS and c'0' <= rest[at] <= c'9':
        number = 10 * number + rest[at] - c'0'
        at += 1
    return number if 1 < at < octets and rest[at] == c'@' else -1


cdef str path_of(const char* rest, Py_ssize_t octets):
    """Return the address of MAIL or RCPT, in lower case."""
    return rest[:octets].partition(b">")[0].decode("latin-1").lower()
