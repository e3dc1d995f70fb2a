"""Connections of the source in one thread: made, made again, written to, and read from, a reply at a time.

A slot is a connection, or the place of one. Kept connections are made again when they break, after a rest; with fresh
ones a free slot has no connection, and gets one for each message. What is said over them is in `_source.pyx`.
Rule: a slot may lose its connection in any call that writes; whoever goes on with it afterwards looks at its state.
"""

from libc.errno cimport EAGAIN, EINPROGRESS, EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strncasecmp
from posix.time cimport CLOCK_MONOTONIC, itimerspec
from posix.unistd cimport close

from bench.load._wire cimport (
    AF_INET, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLOUT, MSG_NOSIGNAL, SOCK_CLOEXEC,
    SOCK_NONBLOCK, SOCK_STREAM, epoll_create1, epoll_ctl, epoll_event, epoll_wait, htons, iovec, msghdr, now_ns, recv,
    send_at_once, sendmsg, sockaddr, socket)
from bench.load._wire cimport connect as connect_to

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
    N_EVENTS = 512
    TIMER = 0xffffffff
    # A connection that could not be made, or was lost, is made again after so long.
    REST_NS = 50000000


cdef class Pool:
    def __cinit__(self, *args, **words):
        self._epoll = self._timer = -1

    def __init__(self, str host, int port, int connections, bint fresh):
        cdef int at
        self.slots = <slot_t*> calloc(connections, sizeof(slot_t))
        self._ring = <int*> calloc(connections, sizeof(int))
        if self.slots == NULL or self._ring == NULL:
            raise MemoryError
        self.n_slots, self.is_fresh = connections, fresh
        for at in range(connections):
            self.slots[at].fd = -1
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
        self.now = now_ns()

    def __dealloc__(self):
        cdef int at
        if self.slots:
            for at in range(self.n_slots):
                if self.slots[at].fd >= 0:
                    close(self.slots[at].fd)
        for at in (self._epoll, self._timer):
            if at >= 0:
                close(at)
        free(self.slots)
        free(self._ring)

    cdef void take_reply(self, slot_t* slot, int code) noexcept:
        """A reply is there."""

    cdef void body_is_sent(self, slot_t* slot) noexcept:
        """The kernel has taken all of a body."""

    cdef void end_message(self, slot_t* slot) noexcept:
        """The connection is gone, and with it what was under way."""

    cdef slot_t* take_free(self) noexcept:
        """Return the slot that has been free for longest, NULL if none is."""
        cdef slot_t* slot
        while self._n_free:
            slot = &self.slots[self._ring[self._ring_at]]
            self._ring_at = (self._ring_at + 1) % self.n_slots
            self._n_free -= 1
            slot.is_queued = False
            # Its connection may have ended while it was idle.
            if slot.state == FREE:
                return slot
        return NULL

    cdef void make_free(self, slot_t* slot) noexcept:
        slot.state = FREE
        if not slot.is_queued:
            slot.is_queued = True
            self._ring[(self._ring_at + self._n_free) % self.n_slots] = <int> (slot - self.slots)
            self._n_free += 1

    cdef void wake_at(self, int64_t due) noexcept:
        """Have `turn` return at that time at the latest."""
        cdef itimerspec at
        if due == self._wakes_at:
            return
        self._wakes_at = due
        memset(&at, 0, sizeof(at))
        at.it_value.tv_sec = due // 1000000000
        at.it_value.tv_nsec = due % 1000000000
        timerfd_settime(self._timer, TFD_TIMER_ABSTIME, &at, NULL)

    cdef void turn(self, int timeout_ms) noexcept:
        """Wait for something to happen, and have it happen."""
        cdef epoll_event events[N_EVENTS]
        cdef int at, n_events
        cdef slot_t* slot
        n_events = epoll_wait(self._epoll, events, N_EVENTS, 10 if self.n_resting else timeout_ms)
        self.now = now_ns()
        for at in range(n_events):
            if events[at].data.u32 != TIMER:
                slot = &self.slots[events[at].data.u32]
                # What is said of a connection that another has replaced meanwhile does no harm: nothing is read.
                if slot.is_writing and events[at].events & EPOLLOUT:
                    self.write(slot)
                if events[at].events & ~<uint32_t> EPOLLOUT:
                    self._read(slot)
        if self.n_resting:
            for at in range(self.n_slots):
                slot = &self.slots[at]
                if slot.state == RESTING and slot.rest_until_ns <= self.now:
                    self.n_resting -= 1
                    if self.is_fresh:
                        self.make_free(slot)
                    else:
                        self.connect(slot)

    cdef void _watch(self, int fd, uint32_t which, uint32_t what, int how) noexcept:
        cdef epoll_event event
        event.events = what
        event.data.u32 = which
        epoll_ctl(self._epoll, how, fd, &event)

    cdef void connect(self, slot_t* slot) noexcept:
        slot.state = GREETING
        slot.n_out = slot.out_at = slot.n_body = slot.body_at = 0
        slot.n_head = 0
        slot.is_writing = False
        slot.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if slot.fd < 0:
            self.lose(slot, errno)
            return
        send_at_once(slot.fd)
        if connect_to(slot.fd, <sockaddr*> &self._address, sizeof(self._address)) and errno != EINPROGRESS:
            self.lose(slot, errno)
            return
        self._watch(slot.fd, <uint32_t> (slot - self.slots), EPOLLIN, EPOLL_CTL_ADD)

    cdef void settle(self, slot_t* slot) noexcept:
        """Its first try to connect is over, in one way or the other."""
        if not slot.is_settled:
            slot.is_settled = True
            self.n_unsettled -= 1

    cdef void drop(self, slot_t* slot) noexcept:
        """Close the connection, if there is one; it is not made again."""
        if slot.fd >= 0:
            close(slot.fd)
            slot.fd = -1
        slot.state = GONE

    cdef void lose(self, slot_t* slot, int error) noexcept:
        """The connection broke, or was ended (`error` 0), and what was under way with it. Make it again in a moment."""
        self.error = error
        self.settle(slot)
        self.drop(slot)
        if self.is_over:
            return
        self.broken += 1
        self.end_message(slot)
        slot.state = RESTING
        slot.rest_until_ns = self.now + REST_NS
        self.n_resting += 1

    cdef void say(self, slot_t* slot, const char* line, Py_ssize_t octets) noexcept:
        memcpy(slot.out, line, octets)
        slot.n_out, slot.out_at = octets, 0
        self.write(slot)

    cdef void write(self, slot_t* slot) noexcept:
        """Send what is to be sent, as far as there is room; `turn` does the rest."""
        cdef iovec parts[2]
        cdef msghdr message
        cdef ssize_t n_sent
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        while slot.out_at < slot.n_out or slot.body_at < slot.n_body:
            parts[0].iov_base, parts[0].iov_len = slot.out + slot.out_at, slot.n_out - slot.out_at
            parts[1].iov_base, parts[1].iov_len = <void*> (slot.body + slot.body_at), slot.n_body - slot.body_at
            message.msg_iovlen = 2 if slot.n_body else 1
            if slot.n_body:
                # Before, because behind the call the other side may be far ahead of us.
                slot.body_sent_ns = now_ns()
            n_sent = sendmsg(slot.fd, &message, MSG_NOSIGNAL)
            if n_sent < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN:
                    self.lose(slot, errno)
                elif not slot.is_writing:
                    slot.is_writing = True
                    self._watch(slot.fd, <uint32_t> (slot - self.slots), EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD)
                return
            if n_sent > slot.n_out - slot.out_at:
                slot.body_at += n_sent - (slot.n_out - slot.out_at)
                slot.out_at = slot.n_out
            else:
                slot.out_at += n_sent
        if slot.is_writing:
            slot.is_writing = False
            self._watch(slot.fd, <uint32_t> (slot - self.slots), EPOLLIN, EPOLL_CTL_MOD)
        if slot.n_body:
            slot.n_body = slot.body_at = 0
            self.body_is_sent(slot)

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
                # The end of a connection that was to end is as good as the reply.
                if slot.state == QUIT:
                    self.take_reply(slot, 221)
                else:
                    self.lose(slot, errno if n_read else 0)
            return
        for at in range(n_read):
            if room[at] != b"\n":
                if slot.n_head < HEAD_OCTETS:
                    slot.head[slot.n_head] = room[at]
                    slot.n_head += 1
                continue
            self._take_line(slot)
            slot.n_head = 0
            if slot.fd != fd:
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
        if slot.n_head <= 3 or slot.head[3] != b"-":
            self.take_reply(slot, code)
