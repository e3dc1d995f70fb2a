/* Begin and end the count from within the process that is counted: nothing of its start is. Outside of valgrind they do
   nothing. */
#include <valgrind/callgrind.h>

void begin_count(void)
{
    CALLGRIND_START_INSTRUMENTATION;
}

void end_count(void)
{
    CALLGRIND_STOP_INSTRUMENTATION;
}
