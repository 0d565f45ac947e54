/* Many short pretokens merged at once, one step of each in turn.
 *
 * A step of one pretoken has to wait for two look-ups in a large table.  They are sent for when it ends, and while they
 * are on their way the other pretokens do theirs. */
#ifndef FASTBPE_LOCKSTEP_H
#define FASTBPE_LOCKSTEP_H

#include <stdint.h>
#include <string.h>

#define LOCKSTEP_WORDS 32 /* at once: their state stays in the nearest cache */
#define LOCKSTEP_LANES 32 /* bytes of a pretoken, at most */

#if defined(__GNUC__) || defined(__clang__)
#define lockstep_prefetch(address) __builtin_prefetch(address)
#define lockstep_lowest(bits) __builtin_ctz(bits)
#define lockstep_highest(bits) (31 - __builtin_clz(bits))
#else
#define lockstep_prefetch(address) ((void)(address))
static inline int lockstep_lowest(uint32_t bits)
{
    int at = 0;
    while (!(bits >> at & 1))
        at++;
    return at;
}
static inline int lockstep_highest(uint32_t bits)
{
    int at = 31;
    while (!(bits >> at & 1))
        at--;
    return at;
}
#endif

typedef struct {
    uint32_t best[LOCKSTEP_LANES]; /* product of a symbol and the next one << 5 | lane; all ones: none */
    uint32_t symbols[LOCKSTEP_LANES];
    uint32_t live; /* a bit for each lane in which a symbol begins */
    int lanes, waits; /* the number of lanes, a multiple of 8; of look-ups on their way */
    int lane[2];
    uint64_t key[2], slot[2];
} LockstepWord;

typedef struct {
    const uint64_t *pairs; /* left << 42 | right << 21 | product; all ones: empty */
    uint64_t mask, seed;
    const uint32_t *byte_pair;
} LockstepPairs;

static inline uint64_t lockstep_hash(uint64_t key, uint64_t seed)
{
    key = (key ^ seed) * 0x9E3779B97F4A7C15u;
    key ^= key >> 29;
    return key * 0xBF58476D1CE4E5B9u;
}

/* `size` is 1 to LOCKSTEP_LANES. */
static inline void lockstep_begin(LockstepWord *word, const LockstepPairs *pairs, const uint8_t *data, int size)
{
    int at;
    word->lanes = (size + 7) & ~7;
    word->live = (uint32_t)(((uint64_t)1 << size) - 1);
    word->waits = 0;
    memset(word->best, 0xFF, sizeof(word->best));
    for (at = 0; at < size; at++)
        word->symbols[at] = data[at];
    for (at = 0; at + 1 < size; at++) {
        uint32_t product = pairs->byte_pair[(uint32_t)data[at] << 8 | data[at + 1]];
        word->best[at] = product == UINT32_MAX ? UINT32_MAX : product << 5 | (uint32_t)at;
    }
}

static inline void lockstep_ask(LockstepWord *word, const LockstepPairs *pairs, int lane, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 21 | right, slot = lockstep_hash(key, pairs->seed) & pairs->mask;
    lockstep_prefetch(pairs->pairs + slot);
    word->key[word->waits] = key;
    word->slot[word->waits] = slot;
    word->lane[word->waits++] = lane;
}

/* Returns 0 when there is nothing left to join. */
#define LOCKSTEP_STEP(NAME, TARGET) \
    TARGET static int NAME(LockstepWord *word, const LockstepPairs *pairs) \
    { \
        uint32_t best = UINT32_MAX, higher, lower; \
        int at, lane; \
        for (at = 0; at < word->waits; at++) { \
            const uint64_t *slot = pairs->pairs + word->slot[at]; \
            while (*slot != UINT64_MAX && *slot >> 21 != word->key[at]) \
                slot = slot == pairs->pairs + pairs->mask ? pairs->pairs : slot + 1; \
            if (*slot != UINT64_MAX) \
                word->best[word->lane[at]] = (uint32_t)(*slot & 0x1FFFFF) << 5 | (uint32_t)word->lane[at]; \
        } \
        word->waits = 0; \
        for (at = 0; at < word->lanes; at++) \
            best = word->best[at] < best ? word->best[at] : best; \
        if (best == UINT32_MAX) \
            return 0; \
        lane = best & 31; \
        best >>= 5; \
        higher = word->live & ~(((uint32_t)2 << lane) - 1); \
        lower = word->live & (((uint32_t)1 << lane) - 1); \
        at = lockstep_lowest(higher); \
        word->live ^= (uint32_t)1 << at; \
        word->best[at] = word->best[lane] = UINT32_MAX; \
        word->symbols[lane] = best; \
        higher &= higher - 1; \
        if (higher) \
            lockstep_ask(word, pairs, lane, best, word->symbols[lockstep_lowest(higher)]); \
        if (lower) { \
            at = lockstep_highest(lower); \
            word->best[at] = UINT32_MAX; \
            lockstep_ask(word, pairs, at, word->symbols[at], best); \
        } \
        return 1; \
    }

#define LOCKSTEP_RUN(NAME, STEP, TARGET) \
    TARGET static void NAME(LockstepWord *words, int count, const LockstepPairs *pairs) \
    { \
        int active[LOCKSTEP_WORDS], at, kept; \
        for (at = 0; at < count; at++) \
            active[at] = at; \
        while (count) { \
            for (at = kept = 0; at < count; at++) { \
                active[kept] = active[at]; \
                kept += STEP(words + active[at], pairs); \
            } \
            count = kept; \
        } \
    }

typedef void LockstepRun(LockstepWord *words, int count, const LockstepPairs *pairs);

#define LOCKSTEP_PLAIN
LOCKSTEP_STEP(lockstep_step_plain, LOCKSTEP_PLAIN inline)
LOCKSTEP_RUN(lockstep_run_plain, lockstep_step_plain, LOCKSTEP_PLAIN)

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
/* The least of eight lanes in one instruction. */
#define LOCKSTEP_AVX2 __attribute__((target("avx2,bmi,lzcnt")))
LOCKSTEP_STEP(lockstep_step_avx2, LOCKSTEP_AVX2 inline)
LOCKSTEP_RUN(lockstep_run_avx2, lockstep_step_avx2, LOCKSTEP_AVX2)

static inline LockstepRun *lockstep_choose(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? lockstep_run_avx2 : lockstep_run_plain;
}
#else
static inline LockstepRun *lockstep_choose(void) { return lockstep_run_plain; }
#endif
#endif
