"""The source's loop: many SMTP clients in one thread; the contract is _source.pyi.

A slot is a connection, or the place of one. A message is taken by a free slot, goes through MAIL, RCPT, DATA and the
body, and ends when its reply is there or its connection is gone; then the slot is free again. With fresh connections
a free slot has no connection, and makes one when it takes a message.
Rule: latencies are counted from when a message was due, never from when there was time for it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINPROGRESS, EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset, strncasecmp
from posix.time cimport CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, clock_gettime, itimerspec, timespec
from posix.unistd cimport close

from bench.load._wire cimport (
    AF_INET, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLOUT, MSG_NOSIGNAL, N_BUCKETS,
    SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, connect, count_latency, counts_of, epoll_create1, epoll_ctl, epoll_event,
    epoll_wait, htons, iovec, msghdr, now_ns, recv, send_at_once, sendmsg, sockaddr, sockaddr_in, socket)

cdef extern from "arpa/inet.h" nogil:
    int inet_pton(int family, const char* text, void* address)

cdef extern from "sys/timerfd.h" nogil:
    enum:
        TFD_NONBLOCK
        TFD_CLOEXEC
        TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec* at, itimerspec* before)

cdef enum:
    # What a slot waits for.
    FREE = 0        # a message
    RESTING = 1     # its time to connect again
    GREETING = 2
    HELLO = 3
    ENVELOPE = 4    # the reply to MAIL, RCPT or DATA: `step` says which
    BODY = 5        # room to send more of the body
    STORED = 6      # the reply to the message
    RESET = 7
    QUIT = 8
    GONE = 9        # the end: nothing more

    OUT_OCTETS = 512
    HEAD_OCTETS = 20
    N_EVENTS = 512
    TIMER = 0xffffffff
    # A connection that could not be made, or was lost, is made again after so long.
    REST_NS = 50000000
    # All connections have so long to become ready, before the clock starts without them; and to end in peace.
    READY_NS = 30000000000
    QUIT_NS = 1000000000
    LATE_NS = 1000000

cdef struct slot_t:
    int fd
    int state
    int step
    int refusal             # the code of the first refusal in this transaction
    bint is_queued          # among the free ones
    bint is_writing         # the kernel is asked for room
    bint has_message
    bint is_settled         # its first attempt to connect has ended, in one way or the other
    bint has_pipelining
    bint has_8bitmime
    int64_t number
    int64_t due_ns
    int64_t body_sent_ns
    int64_t rest_until_ns
    int variant
    char out[OUT_OCTETS]
    Py_ssize_t n_out
    Py_ssize_t out_at
    Py_ssize_t body_at      # -1 while no body is being sent
    char head[HEAD_OCTETS]  # the beginning of the reply line that comes in
    int n_head

cdef struct variant_t:
    const char* body
    Py_ssize_t octets
    uint32_t crc
    bint is_8bit


cdef class Source:
    cdef slot_t* _slots
    cdef int* _ring
    cdef variant_t* _variants
    cdef int64_t* _reply_buckets
    cdef int64_t* _whole_buckets
    cdef unsigned char* _accepted
    cdef Py_ssize_t _accepted_octets
    cdef int64_t _refused[1000]
    cdef sockaddr_in _address
    cdef list _bodies
    cdef bytes _run
    cdef bytes _domain
    cdef bint _pipelining
    cdef bint _fresh
    cdef int _n_slots
    cdef int _n_variants
    cdef int _n_domains
    cdef int _n_free
    cdef int _ring_at
    cdef int _n_resting
    cdef int _n_unsettled
    cdef int _n_greeted
    cdef int _n_under_way
    cdef bint _is_over
    cdef int _epoll
    cdef int _timer
    cdef int64_t _now
    cdef int64_t _began_ns
    cdef int64_t _last_ns
    cdef int64_t _most
    cdef double _spacing_ns
    cdef int64_t _until_ns
    cdef readonly int64_t offered
    cdef readonly int64_t accepted
    cdef readonly int64_t broken
    cdef readonly int64_t late
    cdef readonly double lasted_s
    cdef readonly double cpu_s
    cdef readonly int error

    def __cinit__(self, *args, **words):
        self._epoll = self._timer = -1

    def __init__(
        self, str host, int port, list variants, *, bytes run, bytes domain, int domains, int connections,
        bint pipelining, bint fresh,
    ):
        cdef int at
        cdef bytes body
        self._bodies = [body for body, _, _ in variants]
        self._run, self._domain = run, domain
        self._pipelining, self._fresh = pipelining, fresh
        self._n_slots, self._n_variants, self._n_domains = connections, len(variants), domains
        self._slots = <slot_t*> calloc(connections, sizeof(slot_t))
        self._ring = <int*> calloc(connections, sizeof(int))
        self._variants = <variant_t*> calloc(self._n_variants, sizeof(variant_t))
        self._reply_buckets = <int64_t*> calloc(N_BUCKETS, sizeof(int64_t))
        self._whole_buckets = <int64_t*> calloc(N_BUCKETS, sizeof(int64_t))
        if not (self._slots and self._ring and self._variants and self._reply_buckets and self._whole_buckets):
            raise MemoryError
        for at in range(connections):
            self._slots[at].fd = -1
        for at in range(self._n_variants):
            body = self._bodies[at]
            self._variants[at].body = PyBytes_AS_STRING(body)
            self._variants[at].octets = PyBytes_GET_SIZE(body)
            self._variants[at].crc = variants[at][1]
            self._variants[at].is_8bit = variants[at][2]
        memset(&self._address, 0, sizeof(self._address))
        self._address.sin_family = AF_INET
        self._address.sin_port = htons(<unsigned short> port)
        if inet_pton(AF_INET, host.encode(), &self._address.sin_addr) != 1:
            raise ValueError(f"an IPv4 address is wanted, not {host!r}")
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        self._timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self._epoll < 0 or self._timer < 0:
            raise OSError(errno, "epoll_create1 or timerfd_create")
        # Edge-triggered, its expiry need not be read.
        self._watch(self._timer, TIMER, EPOLLIN | EPOLLET, EPOLL_CTL_ADD)

    def __dealloc__(self):
        cdef int at
        if self._slots:
            for at in range(self._n_slots):
                if self._slots[at].fd >= 0:
                    close(self._slots[at].fd)
        for at in (self._epoll, self._timer):
            if at >= 0:
                close(at)
        free(self._slots)
        free(self._ring)
        free(self._variants)
        free(self._reply_buckets)
        free(self._whole_buckets)
        free(self._accepted)

    @property
    def reply_us(self):
        return counts_of(self._reply_buckets)

    @property
    def whole_us(self):
        return counts_of(self._whole_buckets)

    @property
    def refused(self):
        return {str(code): self._refused[code] for code in range(1000) if self._refused[code]}

    @property
    def numbers(self):
        return (<char*> self._accepted)[:min(self._accepted_octets, (self.offered + 7) // 8)]

    def run(self, int64_t messages, double seconds, double rate):
        cdef double cpu_before_s
        if rate:
            messages = messages or <int64_t> (rate * seconds)
            seconds = 0
        self._most = messages or (<int64_t> 1 << 62)
        self._make_ready()
        if not self._n_greeted and not self._fresh:
            raise ConnectionError(self.error, "no connection became ready")
        cpu_before_s = cpu_s()
        self._began_ns = self._last_ns = self._now = now_ns()
        self._spacing_ns = 1e9 / rate if rate else 0
        self._until_ns = self._began_ns + <int64_t> (seconds * 1e9) if seconds else 0
        while True:
            self._dispatch()
            if self._n_under_way == 0 and self._has_ended():
                break
            self._turn(10 if self._n_resting else 1000)
            PyErr_CheckSignals()
        self.cpu_s = cpu_s() - cpu_before_s
        self.lasted_s = (self._last_ns - self._began_ns) / 1e9
        self._part()

    cdef int _make_ready(self) except -1:
        """Make the kept connections, and wait until each has been greeted or has failed once."""
        cdef int at
        cdef int64_t until = now_ns() + READY_NS
        self._now = now_ns()
        self._n_unsettled = 0 if self._fresh else self._n_slots
        for at in range(self._n_slots):
            if self._fresh:
                self._make_free(&self._slots[at])
            else:
                self._connect(&self._slots[at])
        while self._n_unsettled and self._now < until:
            self._turn(10 if self._n_resting else 100)
            PyErr_CheckSignals()
        return 0

    cdef void _part(self) noexcept:
        """Say QUIT on every connection, and wait a moment for the others to end it."""
        cdef int at, n_left = 1
        cdef int64_t until = now_ns() + QUIT_NS
        cdef slot_t* slot
        self._is_over = True
        for at in range(self._n_slots):
            slot = &self._slots[at]
            if slot.state == FREE and slot.fd >= 0:
                self._quit(slot)
            elif slot.state != QUIT:
                self._drop(slot)
        while n_left and self._now < until:
            self._turn(10)
            n_left = 0
            for at in range(self._n_slots):
                n_left += self._slots[at].fd >= 0

    cdef bint _has_ended(self) noexcept:
        return self.offered >= self._most or (self._until_ns and self._now >= self._until_ns)

    cdef void _dispatch(self) noexcept:
        """Give free slots the messages that are due."""
        cdef slot_t* slot
        cdef int64_t due
        while not self._has_ended():
            due = self._now
            if self._spacing_ns:
                due = self._began_ns + <int64_t> (self.offered * self._spacing_ns)
                if due > self._now:
                    self._now = now_ns()
                if due > self._now:
                    self._wake_at(due)
                    return
            slot = self._take_free()
            if slot == NULL:
                return
            if self._spacing_ns and self._now - due > LATE_NS:
                self.late += 1
            self._begin(slot, due)

    cdef slot_t* _take_free(self) noexcept:
        cdef slot_t* slot
        while self._n_free:
            slot = &self._slots[self._ring[self._ring_at]]
            self._ring_at = (self._ring_at + 1) % self._n_slots
            self._n_free -= 1
            slot.is_queued = False
            if slot.state == FREE:
                return slot
        return NULL

    cdef void _make_free(self, slot_t* slot) noexcept:
        slot.state = FREE
        if not slot.is_queued:
            slot.is_queued = True
            self._ring[(self._ring_at + self._n_free) % self._n_slots] = <int> (slot - self._slots)
            self._n_free += 1

    cdef void _wake_at(self, int64_t due) noexcept:
        cdef itimerspec at
        memset(&at, 0, sizeof(at))
        at.it_value.tv_sec = due // 1000000000
        at.it_value.tv_nsec = due % 1000000000
        timerfd_settime(self._timer, TFD_TIMER_ABSTIME, &at, NULL)

    cdef void _begin(self, slot_t* slot, int64_t due) noexcept:
        slot.number = self.offered
        slot.variant = <int> (slot.number % self._n_variants)
        slot.due_ns = due
        slot.has_message = True
        self.offered += 1
        self._n_under_way += 1
        if slot.fd < 0:
            self._connect(slot)
        else:
            self._say_mail(slot)

    cdef int _turn(self, int timeout_ms) noexcept:
        """Wait for something to happen, and have it happen."""
        cdef epoll_event events[N_EVENTS]
        cdef int at, n_events
        cdef slot_t* slot
        n_events = epoll_wait(self._epoll, events, N_EVENTS, timeout_ms)
        self._now = now_ns()
        for at in range(n_events):
            if events[at].data.u32 != TIMER:
                slot = &self._slots[events[at].data.u32]
                # What is said of a connection that another has replaced meanwhile does no harm: nothing is read.
                if slot.is_writing and events[at].events & EPOLLOUT:
                    self._write(slot)
                if events[at].events & ~<uint32_t> EPOLLOUT:
                    self._read(slot)
        if self._n_resting:
            for at in range(self._n_slots):
                slot = &self._slots[at]
                if slot.state == RESTING and slot.rest_until_ns <= self._now:
                    self._n_resting -= 1
                    if self._fresh:
                        self._make_free(slot)
                    else:
                        self._connect(slot)
        return n_events

    cdef void _watch(self, int fd, uint32_t which, uint32_t what, int how) noexcept:
        cdef epoll_event event
        event.events = what
        event.data.u32 = which
        epoll_ctl(self._epoll, how, fd, &event)

    cdef void _connect(self, slot_t* slot) noexcept:
        slot.state = GREETING
        slot.n_out = slot.out_at = slot.n_head = 0
        slot.body_at = -1
        slot.is_writing = False
        slot.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if slot.fd < 0:
            self._lose(slot)
            return
        send_at_once(slot.fd)
        if connect(slot.fd, <sockaddr*> &self._address, sizeof(self._address)) and errno != EINPROGRESS:
            self._lose(slot)
            return
        self._watch(slot.fd, <uint32_t> (slot - self._slots), EPOLLIN, EPOLL_CTL_ADD)

    cdef void _settle(self, slot_t* slot) noexcept:
        if not slot.is_settled:
            slot.is_settled = True
            self._n_unsettled -= 1

    cdef void _drop(self, slot_t* slot) noexcept:
        """Close the connection, if there is one, and leave the slot out for good."""
        if slot.fd >= 0:
            close(slot.fd)
            slot.fd = -1
        slot.state = GONE

    cdef void _lose(self, slot_t* slot) noexcept:
        """The connection broke or was ended; what was on its way is not accepted. Make it again in a moment."""
        self.error = errno
        self._settle(slot)
        self._drop(slot)
        if self._is_over:
            return
        self.broken += 1
        self._end_message(slot)
        slot.state = RESTING
        slot.rest_until_ns = self._now + REST_NS
        self._n_resting += 1

    cdef void _end_message(self, slot_t* slot) noexcept:
        if slot.has_message:
            slot.has_message = False
            self._n_under_way -= 1
            self._last_ns = self._now

    cdef void _quit(self, slot_t* slot) noexcept:
        slot.state = QUIT
        self._say(slot, b"QUIT\r\n", 6)

    cdef void _say(self, slot_t* slot, const char* line, Py_ssize_t octets) noexcept:
        memcpy(slot.out, line, octets)
        slot.n_out, slot.out_at = octets, 0
        self._write(slot)

    cdef void _say_mail(self, slot_t* slot) noexcept:
        slot.state, slot.step, slot.refusal = ENVELOPE, 0, 0
        if not self._spacing_ns:
            slot.due_ns = self._now
        if self._pipelining and slot.has_pipelining:
            slot.n_out = self._put_mail(slot, slot.out)
            slot.n_out += self._put_rcpt(slot, slot.out + slot.n_out)
            memcpy(slot.out + slot.n_out, <const char*> b"DATA\r\n", 6)
            slot.n_out += 6
        else:
            slot.n_out = self._put_mail(slot, slot.out)
        slot.out_at = 0
        self._write(slot)

    cdef Py_ssize_t _put_mail(self, slot_t* slot, char* room) noexcept:
        cdef bint says_8bit = slot.has_8bitmime and self._variants[slot.variant].is_8bit
        return snprintf(room, 100, b"MAIL FROM:<sender@source.test>%s\r\n", <char*> (
            b" BODY=8BITMIME" if says_8bit else b""))

    cdef Py_ssize_t _put_rcpt(self, slot_t* slot, char* room) noexcept:
        cdef const char* domain = PyBytes_AS_STRING(self._domain)
        if self._n_domains == 1:
            return snprintf(room, 320, b"RCPT TO:<r%lld@%.200s>\r\n", <long long> slot.number, domain)
        return snprintf(
            room, 320, b"RCPT TO:<r%lld@d%d.%.200s>\r\n", <long long> slot.number,
            <int> (slot.number % self._n_domains), domain)

    cdef void _send_body(self, slot_t* slot) noexcept:
        slot.state = BODY
        slot.out_at = 0
        slot.n_out = snprintf(
            slot.out, OUT_OCTETS, b"X-Load: %s %010lld %08x %016llx\r\n", PyBytes_AS_STRING(self._run),
            <long long> slot.number, self._variants[slot.variant].crc, <long long> slot.due_ns)
        slot.body_at = 0
        self._write(slot)

    cdef void _write(self, slot_t* slot) noexcept:
        """Send what is to be sent, as far as there is room."""
        cdef variant_t* variant = &self._variants[slot.variant]
        cdef iovec parts[2]
        cdef msghdr message
        cdef ssize_t n_sent
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        while True:
            parts[0].iov_base, parts[0].iov_len = slot.out + slot.out_at, slot.n_out - slot.out_at
            message.msg_iovlen = 1
            if slot.body_at >= 0:
                parts[1].iov_base = <void*> (variant.body + slot.body_at)
                parts[1].iov_len = variant.octets - slot.body_at
                message.msg_iovlen = 2
            n_sent = sendmsg(slot.fd, &message, MSG_NOSIGNAL)
            if n_sent < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:
                    self._lose(slot)
                elif not slot.is_writing:
                    slot.is_writing = True
                    self._watch(slot.fd, <uint32_t> (slot - self._slots), EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD)
                return
            if n_sent > slot.n_out - slot.out_at:
                slot.body_at += n_sent - (slot.n_out - slot.out_at)
                slot.out_at = slot.n_out
            else:
                slot.out_at += n_sent
            if slot.out_at == slot.n_out and (slot.body_at < 0 or slot.body_at == variant.octets):
                break
        if slot.is_writing:
            slot.is_writing = False
            self._watch(slot.fd, <uint32_t> (slot - self._slots), EPOLLIN, EPOLL_CTL_MOD)
        if slot.state == BODY:
            slot.body_at = -1
            slot.state = STORED
            slot.body_sent_ns = now_ns()

    cdef void _read(self, slot_t* slot) noexcept:
        """Read replies: of each line the beginning, of each reply the last line."""
        cdef char room[4096]
        cdef ssize_t n_read, at
        cdef int fd = slot.fd
        if fd < 0:
            return
        n_read = recv(fd, room, sizeof(room), 0)
        if n_read <= 0:
            if n_read == 0 or (errno != EAGAIN and errno != EINTR):
                if slot.state == QUIT:
                    self._parted(slot)
                else:
                    self._lose(slot)
            return
        for at in range(n_read):
            if room[at] != b"\n":
                if slot.n_head < HEAD_OCTETS:
                    slot.head[slot.n_head] = room[at]
                    slot.n_head += 1
                continue
            self._take_line(slot)
            slot.n_head = 0
            if slot.fd != fd or slot.state == RESTING:
                return

    cdef void _take_line(self, slot_t* slot) noexcept:
        cdef int code = 0
        cdef int at
        for at in range(min(3, slot.n_head)):
            code = code * 10 + (slot.head[at] - 48 if 48 <= slot.head[at] <= 57 else 0)
        if slot.state == HELLO:
            if slot.n_head >= 14 and strncasecmp(slot.head + 4, b"PIPELINING", 10) == 0:
                slot.has_pipelining = True
            elif slot.n_head >= 12 and strncasecmp(slot.head + 4, b"8BITMIME", 8) == 0:
                slot.has_8bitmime = True
        if slot.n_head > 3 and slot.head[3] == b"-":
            return
        self._take_reply(slot, code)

    cdef void _refuse(self, slot_t* slot, int code) noexcept:
        if slot.has_message:
            self._refused[code] += 1
        self._end_message(slot)

    cdef void _take_reply(self, slot_t* slot, int code) noexcept:
        cdef int wanted = 2
        if code == 421 and slot.state != QUIT:
            self._refuse(slot, code)
            self._lose(slot)
        elif slot.state == GREETING:
            if code == 220:
                slot.state = HELLO
                slot.has_pipelining = slot.has_8bitmime = False
                self._say(slot, b"EHLO source.test\r\n", 18)
            else:
                self._refuse(slot, code)
                self._lose(slot)
        elif slot.state == HELLO:
            if code != 250:
                self._refuse(slot, code)
                self._lose(slot)
                return
            self._n_greeted += 1
            self._settle(slot)
            if slot.has_message:
                self._say_mail(slot)
            else:
                self._make_free(slot)
        elif slot.state == ENVELOPE:
            if slot.step == 2:
                wanted = 3
            if code // 100 != wanted and not slot.refusal:
                slot.refusal = code
            slot.step += 1
            if self._pipelining and slot.has_pipelining:
                if slot.step == 3:
                    self._decide(slot, code)
            elif slot.refusal or slot.step == 3:
                self._decide(slot, code)
            elif slot.step == 1:
                slot.n_out, slot.out_at = self._put_rcpt(slot, slot.out), 0
                self._write(slot)
            else:
                self._say(slot, b"DATA\r\n", 6)
        elif slot.state == STORED:
            if slot.refusal or code // 100 != 2:
                self._refuse(slot, slot.refusal or code)
            else:
                self._accept(slot)
            self._go_on(slot)
        elif slot.state == RESET:
            self._go_on(slot)
        elif slot.state == QUIT:
            self._parted(slot)
        else:
            # An answer to what was not said, or not to its end: nobody knows where this connection is.
            if slot.state == BODY:
                self._refuse(slot, code)
            self._lose(slot)

    cdef void _decide(self, slot_t* slot, int code) noexcept:
        """After the envelope: send the body, or give the transaction up."""
        if not slot.refusal:
            self._send_body(slot)
        elif code == 354:
            # Only a dot leads out of there. Nobody is left to keep it for.
            slot.state = STORED
            self._say(slot, b".\r\n", 3)
        else:
            self._refuse(slot, slot.refusal)
            slot.state = RESET
            self._say(slot, b"RSET\r\n", 6)

    cdef void _accept(self, slot_t* slot) noexcept:
        cdef Py_ssize_t at = <Py_ssize_t> (slot.number // 8)
        cdef Py_ssize_t octets
        cdef void* larger
        if at >= self._accepted_octets:
            octets = max(65536, 2 * at)
            larger = realloc(self._accepted, octets)
            if larger == NULL:
                return
            self._accepted = <unsigned char*> larger
            memset(self._accepted + self._accepted_octets, 0, octets - self._accepted_octets)
            self._accepted_octets = octets
        self._accepted[at] |= <unsigned char> (1 << (slot.number % 8))
        self.accepted += 1
        count_latency(self._reply_buckets, self._now - slot.body_sent_ns)
        count_latency(self._whole_buckets, self._now - slot.due_ns)
        self._end_message(slot)

    cdef void _go_on(self, slot_t* slot) noexcept:
        if self._fresh:
            self._quit(slot)
        else:
            self._make_free(slot)

    cdef void _parted(self, slot_t* slot) noexcept:
        self._drop(slot)
        if self._fresh and not self._is_over:
            self._make_free(slot)


cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1


cdef double cpu_s() noexcept:
    cdef timespec spent
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent)
    return spent.tv_sec + spent.tv_nsec / 1e9
