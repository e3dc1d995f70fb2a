"""The source's loop: many SMTP clients in one thread; the contract is _source.pyi.

A message is taken by a free slot (`_pool.pyx`), goes through MAIL, RCPT, DATA and the body, and ends when its reply is
there or its connection is gone; then the slot is free again.
Rule: in an open loop latencies are counted from when a message was due, never from when there was time for it.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_PROCESS_CPUTIME_ID, clock_gettime, timespec

from bench.load._pool cimport (
    BODY, ENVELOPE, FREE, GREETING, HELLO, OUT_OCTETS, QUIT, RESET, STORED, Pool, slot_t)
from bench.load._wire cimport N_BUCKETS, count_latency, counts_of, now_ns

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef enum:
    # All connections have so long to become ready, before the clock starts without them; and to end in peace.
    READY_NS = 30000000000
    QUIT_NS = 1000000000
    LATE_NS = 1000000

cdef struct variant_t:
    const char* body
    Py_ssize_t octets
    uint32_t crc
    bint is_8bit


cdef class Source(Pool):
    cdef variant_t* _variants
    cdef int _n_variants
    cdef list _bodies
    cdef int64_t* _reply_buckets
    cdef int64_t* _whole_buckets
    cdef unsigned char* _accepted
    cdef Py_ssize_t _accepted_octets
    cdef int64_t _refused[1000]
    cdef bytes _run
    cdef bytes _domain
    cdef int _n_domains
    cdef bint _pipelining
    cdef int _n_greeted
    cdef int _n_under_way
    cdef int64_t _began_ns
    cdef int64_t _last_ns
    cdef int64_t _most
    cdef double _spacing_ns
    cdef int64_t _until_ns
    cdef readonly int64_t offered
    cdef readonly int64_t accepted
    cdef readonly int64_t late
    cdef readonly double lasted_s
    cdef readonly double cpu_s

    def __init__(
        self, str host, int port, list variants, *, bytes run, bytes domain, int domains, int connections,
        bint pipelining, bint fresh,
    ):
        cdef int at
        cdef bytes body
        super().__init__(host, port, connections, fresh)
        self._bodies = [body for body, _, _ in variants]
        self._run, self._domain, self._n_domains, self._pipelining = run, domain, domains, pipelining
        self._n_variants = len(variants)
        self._variants = <variant_t*> calloc(self._n_variants, sizeof(variant_t))
        self._reply_buckets = <int64_t*> calloc(N_BUCKETS, sizeof(int64_t))
        self._whole_buckets = <int64_t*> calloc(N_BUCKETS, sizeof(int64_t))
        if self._variants == NULL or self._reply_buckets == NULL or self._whole_buckets == NULL:
            raise MemoryError
        for at in range(self._n_variants):
            body = self._bodies[at]
            self._variants[at].body = PyBytes_AS_STRING(body)
            self._variants[at].octets = PyBytes_GET_SIZE(body)
            self._variants[at].crc = variants[at][1]
            self._variants[at].is_8bit = variants[at][2]

    def __dealloc__(self):
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
        return {f"{code:03d}": self._refused[code] for code in range(1000) if self._refused[code]}

    @property
    def numbers(self):
        return (<char*> self._accepted)[:min(self._accepted_octets, (self.offered + 7) // 8)]

    def run(self, int64_t messages, double seconds, double rate):
        cdef double cpu_before_s
        if rate:
            messages = messages or max(1, <int64_t> (rate * seconds))
            seconds = 0
        self._most = messages or (<int64_t> 1 << 62)
        self._make_ready()
        if not self._n_greeted and not self.is_fresh:
            raise ConnectionError(
                f"no connection becomes ready: {os.strerror(self.error) if self.error else 'the server ends them'}")
        cpu_before_s = cpu_s()
        self._began_ns = self._last_ns = self.now = now_ns()
        self._spacing_ns = 1e9 / rate if rate else 0
        self._until_ns = self._began_ns + <int64_t> (seconds * 1e9) if seconds else 0
        while True:
            self._dispatch()
            if self._n_under_way == 0 and self._has_ended():
                break
            self.turn(1000)
            PyErr_CheckSignals()
        self.cpu_s = cpu_s() - cpu_before_s
        self.lasted_s = (self._last_ns - self._began_ns) / 1e9
        self._part()

    cdef int _make_ready(self) except -1:
        """Make the kept connections, and wait until each has been greeted or has failed once."""
        cdef int at
        cdef int64_t until = self.now + READY_NS
        for at in range(self.n_slots):
            if self.is_fresh:
                self.slots[at].is_settled = True
                self.make_free(&self.slots[at])
            else:
                self.n_unsettled += 1
                self.connect(&self.slots[at])
        while self.n_unsettled and self.now < until:
            self.turn(100)
            PyErr_CheckSignals()
        return 0

    cdef void _part(self) noexcept:
        """Say QUIT on every connection, and wait a moment for the others to end it."""
        cdef int at, n_left = 1
        cdef int64_t until = now_ns() + QUIT_NS
        cdef slot_t* slot
        self.is_over = True
        for at in range(self.n_slots):
            slot = &self.slots[at]
            if slot.state == FREE and slot.fd >= 0:
                self._quit(slot)
            elif slot.state != QUIT:
                self.drop(slot)
        while n_left and self.now < until:
            self.turn(10)
            n_left = 0
            for at in range(self.n_slots):
                n_left += self.slots[at].fd >= 0

    cdef bint _has_ended(self) noexcept:
        return self.offered >= self._most or (self._until_ns and self.now >= self._until_ns)

    cdef void _dispatch(self) noexcept:
        """Give free slots the messages that are due."""
        cdef slot_t* slot
        cdef int64_t due
        while not self._has_ended():
            due = self.now
            if self._spacing_ns:
                due = self._began_ns + <int64_t> (self.offered * self._spacing_ns)
                if due > self.now:
                    self.now = now_ns()
                if due > self.now:
                    self.wake_at(due)
                    return
            slot = self.take_free()
            if slot == NULL:
                return
            if self._spacing_ns and self.now - due > LATE_NS:
                self.late += 1
            self._begin(slot, due)

    cdef void _begin(self, slot_t* slot, int64_t due) noexcept:
        slot.number = self.offered
        slot.variant = <int> (slot.number % self._n_variants)
        slot.due_ns = due
        slot.has_message = True
        self.offered += 1
        self._n_under_way += 1
        if slot.fd < 0:
            self.connect(slot)
        else:
            self._say_mail(slot)

    cdef void end_message(self, slot_t* slot) noexcept:
        if slot.has_message:
            slot.has_message = False
            self._n_under_way -= 1
            self._last_ns = self.now

    cdef void _quit(self, slot_t* slot) noexcept:
        slot.state = QUIT
        self.say(slot, b"QUIT\r\n", 6)

    cdef void _say_mail(self, slot_t* slot) noexcept:
        slot.state, slot.step, slot.refusal = ENVELOPE, 0, 0
        if not self._spacing_ns:
            slot.due_ns = self.now
        slot.n_out = self._put_mail(slot, slot.out)
        if self._pipelining and slot.has_pipelining:
            slot.n_out += self._put_rcpt(slot, slot.out + slot.n_out)
            memcpy(slot.out + slot.n_out, <const char*> b"DATA\r\n", 6)
            slot.n_out += 6
        slot.out_at = 0
        self.write(slot)

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
        cdef variant_t* variant = &self._variants[slot.variant]
        slot.state = BODY
        slot.out_at = 0
        slot.n_out = snprintf(
            slot.out, OUT_OCTETS, b"X-Load: %s %010lld %08x %016llx\r\n", PyBytes_AS_STRING(self._run),
            <long long> slot.number, variant.crc, <long long> slot.due_ns)
        slot.body, slot.n_body, slot.body_at = variant.body, variant.octets, 0
        self.write(slot)

    cdef void body_is_sent(self, slot_t* slot) noexcept:
        slot.state = STORED

    cdef void take_reply(self, slot_t* slot, int code) noexcept:
        if code == 421 and slot.state != QUIT:
            self._refuse(slot, code)
            self.lose(slot, 0)
        elif slot.state == GREETING:
            if code == 220:
                slot.state = HELLO
                slot.has_pipelining = slot.has_8bitmime = False
                self.say(slot, b"EHLO source.test\r\n", 18)
            else:
                self._refuse(slot, code)
                self.lose(slot, 0)
        elif slot.state == HELLO:
            if code == 250:
                self._hello(slot)
            else:
                self._refuse(slot, code)
                self.lose(slot, 0)
        elif slot.state == ENVELOPE:
            self._step(slot, code)
        elif slot.state == STORED:
            if slot.refusal or code // 100 != 2:
                self._refuse(slot, slot.refusal or code)
            else:
                self._accept(slot)
            self._go_on(slot)
        elif slot.state == RESET:
            self._go_on(slot)
        elif slot.state == QUIT:
            self.drop(slot)
            if self.is_fresh and not self.is_over:
                self.make_free(slot)
        else:
            # An answer to what was not said, or not to its end: nobody knows where this connection is.
            if slot.state == BODY:
                self._refuse(slot, code)
            self.lose(slot, 0)

    cdef void _hello(self, slot_t* slot) noexcept:
        self._n_greeted += 1
        self.settle(slot)
        if slot.has_message:
            self._say_mail(slot)
        else:
            self.make_free(slot)

    cdef void _step(self, slot_t* slot, int code) noexcept:
        """The reply to MAIL, RCPT or DATA: the next command, if it is not said yet; then the body, or the way out."""
        if code // 100 != (3 if slot.step == 2 else 2) and not slot.refusal:
            slot.refusal = code
        slot.step += 1
        if slot.step == 3 or (slot.refusal and not (self._pipelining and slot.has_pipelining)):
            if not slot.refusal:
                self._send_body(slot)
            elif code == 354:
                # Only a dot leads out of there. Nobody is left to keep it for.
                slot.state = STORED
                self.say(slot, b".\r\n", 3)
            else:
                self._refuse(slot, slot.refusal)
                slot.state = RESET
                self.say(slot, b"RSET\r\n", 6)
        elif not (self._pipelining and slot.has_pipelining):
            if slot.step == 1:
                slot.n_out, slot.out_at = self._put_rcpt(slot, slot.out), 0
                self.write(slot)
            else:
                self.say(slot, b"DATA\r\n", 6)

    cdef void _refuse(self, slot_t* slot, int code) noexcept:
        if slot.has_message:
            self._refused[code] += 1
        self.end_message(slot)

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
        count_latency(self._reply_buckets, self.now - slot.body_sent_ns)
        count_latency(self._whole_buckets, self.now - slot.due_ns)
        self.end_message(slot)

    cdef void _go_on(self, slot_t* slot) noexcept:
        if self.is_fresh:
            self._quit(slot)
        else:
            self.make_free(slot)


cdef double cpu_s() noexcept:
    cdef timespec spent
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent)
    return spent.tv_sec + spent.tv_nsec / 1e9
