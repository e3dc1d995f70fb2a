/* Find the dots that begin a line, and look at everything on the way there, in one pass. RFC 5321 s4.5.2.
 *
 * A scan reads data[at:end] and stops at the first dot that begins a line; it returns that dot's index, or `end`. The
 * state then speaks of every octet before that index and of none behind it, so that a scan may be taken up anywhere
 * and the octets may come in any pieces. Only CRLF makes the next octet begin a line: a dot after a bare LF does not.
 *
 * There are two scans with one meaning: scan_portable for every machine, scan_avx2 where the processor has AVX2,
 * which is asked at run time; so one binary serves all of x86-64.
 */
#ifndef MTA_FAST_DOTS_H
#define MTA_FAST_DOTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct line_state {
    int after_cr;      /* the last octet was CR */
    int at_line_start; /* the last two were CRLF, or there was none yet */
    int bare;          /* a CR without LF or a LF without CR was passed */
    int high;          /* an octet >= 0x80 was passed */
    ptrdiff_t line;    /* octets of the unfinished line, a CR at its end among them; here every LF ends a line */
    ptrdiff_t longest; /* octets of the longest finished line, without its line end */
};

typedef ptrdiff_t (*scan_dots)(const unsigned char *data, ptrdiff_t at, ptrdiff_t end, struct line_state *state);

static int has_high(const unsigned char *octets, ptrdiff_t size)
{
    unsigned char seen = 0;
    /* Without an early exit the compiler makes vector code of this, on every machine. */
    for (ptrdiff_t i = 0; i < size; i++)
        seen |= octets[i];
    return seen >> 7;
}

static ptrdiff_t scan_portable(const unsigned char *data, ptrdiff_t at, ptrdiff_t end, struct line_state *state)
{
    while (at < end) {
        if (state->at_line_start && data[at] == '.')
            return at;
        const unsigned char *found = memchr(data + at, '\n', (size_t) (end - at));
        ptrdiff_t stop = found ? found - data : end;
        ptrdiff_t size = stop - at;
        if (size > 0) {
            /* A CR is at its place only as the last octet before LF, or before what the next piece brings. */
            const unsigned char *cr = state->bare ? NULL : memchr(data + at, '\r', (size_t) size);
            if (state->after_cr || (cr && cr != data + stop - 1))
                state->bare = 1;
            if (!state->high)
                state->high = has_high(data + at, size);
            state->after_cr = data[stop - 1] == '\r';
            state->at_line_start = 0;
            state->line += size;
        }
        if (!found)
            return end;
        if (!state->after_cr)
            state->bare = 1;
        if (state->line - state->after_cr > state->longest)
            state->longest = state->line - state->after_cr;
        state->at_line_start = state->after_cr;
        state->after_cr = 0;
        state->line = 0;
        at = stop + 1;
    }
    return end;
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define BLOCK 64

static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

/* One bit for each octet of the block that equals the wanted one; the first octet is the lowest bit. */
__attribute__((target("avx2"))) static inline uint64_t equal_bits(__m256i low, __m256i high, __m256i wanted)
{
    uint32_t low_bits = (uint32_t) _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, wanted));
    uint32_t high_bits = (uint32_t) _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, wanted));
    return (uint64_t) high_bits << 32 | low_bits;
}

__attribute__((target("avx2"))) static ptrdiff_t scan_avx2(const unsigned char *data, ptrdiff_t at, ptrdiff_t end,
                                                           struct line_state *state)
{
    if (end < BLOCK)
        return scan_portable(data, at, end, state);

    const __m256i all_lf = _mm256_set1_epi8('\n');
    const __m256i all_cr = _mm256_set1_epi8('\r');
    const __m256i all_dot = _mm256_set1_epi8('.');
    uint64_t after_cr = (uint64_t) state->after_cr;
    uint64_t at_line_start = (uint64_t) state->at_line_start;
    uint64_t bare = 0, high = 0;
    ptrdiff_t line_at = at - state->line; /* may lie before the data: the line began in an earlier piece */
    ptrdiff_t longest = state->longest;

    while (at < end) {
        /* The last block reaches back over octets already read, so that nothing behind the end is touched;
         * shifting takes them out again. */
        int n_old = end - at < BLOCK ? (int) (BLOCK - (end - at)) : 0;
        int n_new = BLOCK - n_old;
        const __m256i *block = (const __m256i *) (const void *) (data + at - n_old);
        __m256i first_half = _mm256_loadu_si256(block);
        __m256i second_half = _mm256_loadu_si256(block + 1);
        uint64_t lf = equal_bits(first_half, second_half, all_lf) >> n_old;
        uint64_t cr = equal_bits(first_half, second_half, all_cr) >> n_old;
        uint64_t dot = equal_bits(first_half, second_half, all_dot) >> n_old;
        uint32_t low_high = (uint32_t) _mm256_movemask_epi8(first_half);
        uint32_t high_high = (uint32_t) _mm256_movemask_epi8(second_half);
        uint64_t eighth = ((uint64_t) high_high << 32 | low_high) >> n_old;

        uint64_t behind_cr = cr << 1 | after_cr;
        uint64_t crlf = behind_cr & lf;
        uint64_t dots = (crlf << 1 | at_line_start) & dot;
        uint64_t passed = ~UINT64_C(0) >> n_old;
        if (dots) {
            n_new = __builtin_ctzll(dots);
            passed = (UINT64_C(1) << n_new) - 1;
        }
        uint64_t bad = (behind_cr ^ lf) & passed; /* behind a CR but no LF, or a LF behind no CR */
        bare |= bad;
        high |= eighth & passed;
        lf &= passed;
        if (lf) {
            uint64_t left = lf;
            ptrdiff_t begin = line_at;
            do {
                int i = __builtin_ctzll(left);
                ptrdiff_t size = at + i - begin - (ptrdiff_t) (behind_cr >> i & 1);
                if (size > longest)
                    longest = size;
                begin = at + i + 1;
                left &= left - 1;
                /* A line inside one block cannot be longer than the block: mostly the first one alone matters. */
            } while (left && longest < BLOCK);
            line_at = at + BLOCK - __builtin_clzll(lf);
        }
        at += n_new;
        if (dots) {
            after_cr = 0;
            at_line_start = 1;
            break;
        }
        after_cr = cr >> (n_new - 1);
        at_line_start = crlf >> (n_new - 1);
    }
    state->after_cr = (int) after_cr;
    state->at_line_start = (int) at_line_start;
    state->bare |= bare != 0;
    state->high |= high != 0;
    state->line = at - line_at;
    state->longest = longest;
    return at;
}

#undef BLOCK
#else

static int has_avx2(void)
{
    return 0;
}

/* Never chosen: has_avx2() says so. It stands here so that the choice reads the same on every machine. */
static ptrdiff_t scan_avx2(const unsigned char *data, ptrdiff_t at, ptrdiff_t end, struct line_state *state)
{
    return scan_portable(data, at, end, state);
}

#endif
#endif
