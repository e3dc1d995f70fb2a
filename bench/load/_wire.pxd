"""What source and sink share in C: the system calls that Cython has no names for, a clock, and counts of latencies.

Counts are those of an HDR histogram of three digits, in microseconds: up to 2,047 each value has its own, above that
1,024 share each doubling. `counts_of` gives them to `bench.load.latency`, which makes the histogram.
"""

from libc.stdint cimport int64_t, uint32_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint32_t u32
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLET
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int what, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int most, int timeout_ms)

cdef extern from "sys/socket.h" nogil:
    struct sockaddr:
        pass
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    enum:
        AF_INET
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        MSG_NOSIGNAL
        SHUT_WR
    int socket(int family, int kind, int protocol)
    int connect(int fd, const sockaddr* address, uint32_t octets)
    int accept4(int fd, sockaddr* address, uint32_t* octets, int flags)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int name, const void* value, uint32_t octets)
    ssize_t recv(int fd, void* room, size_t octets, int flags)
    ssize_t send(int fd, const void* data, size_t octets, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)

cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        unsigned short sin_family
        unsigned short sin_port
        in_addr sin_addr
    enum:
        IPPROTO_TCP
    unsigned short htons(unsigned short number)

cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_NODELAY

cdef enum:
    N_BUCKETS = 23 * 1024
    # An hour: what the histogram can hold.
    MOST_US = 3600000000


cdef inline int64_t now_ns() noexcept:
    """Return the monotonic clock."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef inline void count_latency(int64_t* buckets, int64_t lasted_ns) noexcept:
    """Count one latency in its bucket, of N_BUCKETS."""
    cdef int64_t value = lasted_ns // 1000
    cdef int shift = 0
    if value < 0:
        value = 0
    elif value > MOST_US:
        value = MOST_US
    while value >> shift >= 2048:
        shift += 1
    buckets[shift * 1024 + (value >> shift)] += 1


cdef inline dict counts_of(const int64_t* buckets):
    """Return {microseconds: how many}, the least value standing for all of its bucket."""
    cdef dict found = {}
    cdef int at, shift
    for at in range(N_BUCKETS):
        if buckets[at]:
            shift = 0 if at < 2048 else at // 1024 - 1
            found[(<int64_t> at - shift * 1024) << shift] = buckets[at]
    return found


cdef inline void send_at_once(int fd) noexcept:
    """Send small writes without waiting for more."""
    cdef int yes = 1
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes))
