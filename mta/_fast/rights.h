/* Changing who one thread is. glibc's setresuid(3) and the like change every thread of the process; the system calls
   below change the thread that makes them, which is why they are made by number. See credentials(7), nptl(7). */
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Where the first calls of this kind had 16 bits for an id. */
#ifdef SYS_setresuid32
#define RIGHTS_SETRESUID SYS_setresuid32
#define RIGHTS_SETRESGID SYS_setresgid32
#define RIGHTS_SETGROUPS SYS_setgroups32
#else
#define RIGHTS_SETRESUID SYS_setresuid
#define RIGHTS_SETRESGID SYS_setresgid
#define RIGHTS_SETGROUPS SYS_setgroups
#endif

/* Set the thread's effective ids, and no other groups; the real and saved ones stay root's. Return 0, or -1 and errno.
   Only root may set a gid, so first we are root again, and last we are who we shall be. */
static int rights_become(uid_t uid, gid_t gid)
{
    if (syscall(RIGHTS_SETRESUID, (uid_t) -1, (uid_t) 0, (uid_t) -1) != 0)
        return -1;
    if (syscall(RIGHTS_SETGROUPS, 0, NULL) != 0)
        return -1;
    if (syscall(RIGHTS_SETRESGID, (gid_t) -1, gid, (gid_t) -1) != 0)
        return -1;
    return (int) syscall(RIGHTS_SETRESUID, (uid_t) -1, uid, (uid_t) -1);
}
