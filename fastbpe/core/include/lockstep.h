/* Many short pretokens merged at once, one step of each in turn.
 *
 * A step of one pretoken has to wait for two look-ups in a large table.  They are sent for when it ends, and while they
 * are on their way the other pretokens do theirs.  Of what a step does only whether it is the last is a branch that cannot
 * be foreseen. */
#ifndef FASTBPE_LOCKSTEP_H
#define FASTBPE_LOCKSTEP_H

#include <stdint.h>
#include <string.h>

#define LOCKSTEP_WORDS 32 /* at once: their state stays in the nearest cache */
#define LOCKSTEP_LANES 32 /* from 1 on, for the bytes of a pretoken; 0 and 32 are before and behind them */
#define LOCKSTEP_NONE 0x80000000u /* `best` from here on: no pair */
#define LOCKSTEP_NO_SYMBOL 0x1FFFFFu /* no pair has it */
#define LOCKSTEP_ASKS 20 /* two for each symbol of two bytes, fewer than the symbols: ten of these, eleven others */
#define LOCKSTEP_BUCKET 4 /* slots of the table of pairs that are looked at together: half a line of the cache */

typedef struct {
    uint32_t best[LOCKSTEP_LANES + 8]; /* product of a symbol and the next one << 5 | lane, or none */
    uint32_t symbols[LOCKSTEP_LANES + 8];
    uint32_t live; /* a bit for each lane in which a symbol begins */
    uint32_t lane[2]; /* of the two look-ups on their way */
    uint64_t key[2], slot[2];
} LockstepWord;

/* A character that is its token from the beginning, unless a byte beside it forbids that. */
typedef struct {
    uint64_t before; /* a bit for the low six of each byte from 80 to BF that must not stand before it */
    uint64_t after;  /* a bit for the low six of each byte from C0 that must not stand behind it */
    uint32_t symbol; /* 0: none */
    uint32_t ascii;  /* bit 0: no ASCII may stand before it; bit 1: behind it */
} LockstepAtom;

/* Whether the byte before an atom's character forbids it, and the one behind. */
static inline uint32_t lockstep_not_behind(const LockstepAtom *atom, uint8_t before)
{
    return (before < 0x80 ? atom->ascii : (uint32_t)(atom->before >> (before & 63))) & 1;
}

static inline uint32_t lockstep_not_before(const LockstepAtom *atom, uint8_t after)
{
    return (after < 0x80 ? atom->ascii >> 1 : (uint32_t)(atom->after >> (after & 63))) & 1;
}

/* Two bytes: the symbol that they make, and the first that any two symbols make between which they meet. */
typedef struct {
    uint32_t product, first;
} LockstepBytes;

typedef struct {
    const uint64_t *pairs; /* left << 42 | right << 21 | product; all ones: empty */
    uint64_t mask, seed;   /* the number of slots - 1 */
    const uint64_t *filter; /* a bit for the upper part of the hash of each pair */
    const LockstepBytes *bytes;
    const LockstepAtom *atoms; /* by code point up to U+FFFF */
} LockstepPairs;

/* A pair to be looked up before the first step. */
typedef struct {
    uint64_t key, slot;
    LockstepWord *word;
    uint32_t lane;
} LockstepAsk;

/* Merges words; `keys` are their UTF-8, LOCKSTEP_LANES bytes of which may be read, `sizes` how many count, 1 or more but
 * fewer than that; a byte above F7 follows them. */
typedef void LockstepRun(
    LockstepWord *words, const uint8_t *const *keys, const int *sizes, int count, const LockstepPairs *pairs);

static inline uint64_t lockstep_hash(uint64_t key, uint64_t seed)
{
    key = (key ^ seed) * 0x9E3779B97F4A7C15u;
    key ^= key >> 29;
    return key * 0xBF58476D1CE4E5B9u;
}

/* A pair stands in the first bucket from here on that had room. */
static inline uint64_t lockstep_bucket(uint64_t hashed, uint64_t mask) { return hashed & mask & ~(uint64_t)(LOCKSTEP_BUCKET - 1); }

/* The product of a pair, or all ones. */
static inline uint32_t lockstep_find(const LockstepPairs *pairs, uint64_t key, uint64_t slot)
{
    while (pairs->pairs[slot] != UINT64_MAX) {
        if (pairs->pairs[slot] >> 21 == key)
            return (uint32_t)(pairs->pairs[slot] & 0x1FFFFF);
        slot = (slot + 1) & pairs->mask;
    }
    return UINT32_MAX;
}

#if defined(__GNUC__) || defined(__clang__)
#define lockstep_prefetch(address) __builtin_prefetch(address)
#define lockstep_lowest(bits) __builtin_ctzll(bits)
#define lockstep_highest(bits) (31 - __builtin_clz(bits))
#else
#define lockstep_prefetch(address) ((void)(address))
static inline int lockstep_lowest(uint64_t bits)
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

/* Whether there may be a pair with this hash.  Three quarters of the pairs that are asked for join to nothing; the filter
 * says so from a nearer cache than the table. */
static inline uint64_t lockstep_maybe(const LockstepPairs *pairs, uint64_t hashed)
{
    return pairs->filter[hashed >> 50] >> (hashed >> 44 & 63) & 1;
}

static inline void lockstep_ask(
    LockstepWord *word, const LockstepPairs *pairs, int place, uint32_t lane, uint32_t left, uint32_t right)
{
    uint64_t key = (uint64_t)left << 21 | right, hashed = lockstep_hash(key, pairs->seed);
    uint64_t maybe = 0 - lockstep_maybe(pairs, hashed);
    uint64_t slot = lockstep_bucket(hashed, pairs->mask) & maybe;
    lockstep_prefetch(pairs->pairs + slot);
    word->key[place] = key | ~maybe; /* all ones, which no pair has */
    word->slot[place] = slot;
    word->lane[place] = lane;
    word->best[lane] = UINT32_MAX;
}

/* Joins the pair that `best` tells, and asks for the two new ones.  Nothing of it is a branch: where there is no symbol
 * before or behind the new one, a pair with none is asked for. */
static inline void lockstep_join(LockstepWord *word, const LockstepPairs *pairs, uint32_t best)
{
    const uint32_t lane = best & 31, product = best >> 5;
    const uint64_t higher = (uint64_t)(word->live & ((uint32_t)-2 << lane)) | (uint64_t)1 << LOCKSTEP_LANES;
    const uint64_t behind = higher & (higher - 1); /* there is a symbol that goes */
    const uint32_t gone = (uint32_t)lockstep_lowest(higher), next = (uint32_t)lockstep_lowest(behind);
    const uint32_t before = (uint32_t)lockstep_highest((word->live & (((uint32_t)1 << lane) - 1)) | 1);
    word->live ^= (uint32_t)1 << gone;
    word->best[gone] = UINT32_MAX;
    word->symbols[lane] = product;
    lockstep_ask(word, pairs, 0, lane, product, word->symbols[next]);
    lockstep_ask(word, pairs, 1, before, word->symbols[before], product);
}

/* Lays a word out; returns the lanes that can be joined to the next ones at once.
 *
 * `first` of two bytes is the first that any two symbols make between which they meet, so nothing is joined there before
 * it is its turn.  Two bytes whose product comes before the `first` of either side will be joined, whatever happens
 * around them until then, and nothing else can happen to them: when it is done makes no difference.  Half of all joins of
 * a word are such. */
static inline uint32_t lockstep_begin(LockstepWord *word, const LockstepPairs *pairs, const uint8_t *data, int size)
{
    uint32_t before = UINT32_MAX, first = UINT32_MAX, product = UINT32_MAX, sure = 0;
    int lane;
    memset(word->best, 0xFF, sizeof(word->best));
    word->live = (uint32_t)((((uint64_t)1 << size) - 1) << 1);
    word->key[0] = word->key[1] = UINT64_MAX;
    word->slot[0] = word->slot[1] = 0;
    word->lane[0] = word->lane[1] = 0;
    word->symbols[0] = word->symbols[LOCKSTEP_LANES] = LOCKSTEP_NO_SYMBOL;
    for (lane = 1; lane < size; lane++) {
        const LockstepBytes *bytes = pairs->bytes + ((uint32_t)data[lane - 1] << 8 | data[lane]);
        word->symbols[lane] = data[lane - 1];
        word->best[lane] = bytes->product << 5 | (uint32_t)lane;
        sure |= (uint32_t)(product < (before < bytes->first ? before : bytes->first)) << (lane - 1);
        before = first;
        first = bytes->first;
        product = bytes->product;
    }
    word->symbols[size] = data[size - 1];
    return sure | (uint32_t)(product < before) << (size - 1);
}

/* Sends for the pairs that begin in some lanes; returns the end of what was asked for. */
static inline LockstepAsk *lockstep_ask_all(
    LockstepWord *word, const LockstepPairs *pairs, uint32_t lanes, LockstepAsk *asks)
{
    for (; lanes; lanes &= lanes - 1) {
        const uint32_t lane = (uint32_t)lockstep_lowest(lanes);
        const uint32_t next = (uint32_t)lockstep_lowest(word->live & ((uint32_t)-2 << lane));
        uint64_t hashed;
        word->best[lane] = UINT32_MAX;
        asks->key = (uint64_t)word->symbols[lane] << 21 | word->symbols[next];
        hashed = lockstep_hash(asks->key, pairs->seed);
        asks->slot = lockstep_bucket(hashed, pairs->mask);
        asks->word = word;
        asks->lane = lane;
        lockstep_prefetch(pairs->pairs + asks->slot);
        asks += lockstep_maybe(pairs, hashed); /* or the next one is written over it */
    }
    return asks;
}

/* The lanes of live symbols that are new, or have a new one behind them; but the last one, behind which there is none. */
static inline uint32_t lockstep_beside(uint32_t live, uint32_t found)
{
    uint32_t beside = found, rest;
    for (rest = found; rest; rest &= rest - 1)
        beside |= (uint32_t)1 << lockstep_highest((live & ((rest & (0 - rest)) - 1)) | 1);
    return beside & ~(uint32_t)1 & ~((uint32_t)1 << lockstep_highest(live));
}

/* Joins the lanes that begin() told. */
static inline LockstepAsk *lockstep_sure(LockstepWord *word, const LockstepPairs *pairs, uint32_t sure, LockstepAsk *asks)
{
    uint32_t rest;
    word->live &= ~(sure << 1);
    for (rest = sure; rest; rest &= rest - 1) {
        const int lane = lockstep_lowest(rest);
        word->symbols[lane] = word->best[lane] >> 5;
        word->best[lane] = word->best[lane + 1] = UINT32_MAX;
    }
    return lockstep_ask_all(word, pairs, lockstep_beside(word->live, sure), asks);
}

#define lockstep_look_plain lockstep_find

/* The lanes in which characters of several bytes begin, and what is behind the word. */
static inline uint32_t lockstep_wide_plain(const uint8_t *data, uint8_t least)
{
    uint32_t wide = 0;
    int lane;
    for (lane = 1; lane < LOCKSTEP_LANES; lane++)
        wide |= (uint32_t)(data[lane - 1] >= least) << lane;
    return wide;
}

/* Puts atoms in the place of their bytes, and sends for the pairs they are in; returns the end of these. */
static inline LockstepAsk *lockstep_atoms(
    LockstepWord *word, const LockstepPairs *pairs, const uint8_t *data, uint32_t leads, LockstepAsk *asks)
{
    uint32_t found = 0, gone = 0, rest;
    for (; leads; leads &= leads - 1) {
        const uint32_t lane = (uint32_t)lockstep_lowest(leads), at = lane - 1;
        uint32_t code = data[at], size = 2, none;
        const LockstepAtom *atom;
        if (code < 0xE0) {
            code = (code & 31) << 6 | (data[at + 1] & 63);
        } else if (code < 0xF0) {
            code = (code & 15) << 12 | (uint32_t)(data[at + 1] & 63) << 6 | (data[at + 2] & 63);
            size = 3;
        } else {
            continue;
        }
        /* No branches: which characters are atoms in their place cannot be foreseen. */
        atom = pairs->atoms + code;
        none = lockstep_not_behind(atom, data[at - (at > 0)]) & (at > 0);
        none |= lockstep_not_before(atom, data[at + size]) | (atom->symbol == 0);
        none = 0 - none;
        found |= ~none & (uint32_t)1 << lane;
        gone |= ~none & (size == 2 ? (uint32_t)2 : (uint32_t)6) << lane;
        word->symbols[lane] = none ? word->symbols[lane] : atom->symbol;
    }
    word->live &= ~gone;
    for (rest = gone | found; rest; rest &= rest - 1)
        word->best[lockstep_lowest(rest)] = UINT32_MAX;
    return lockstep_ask_all(word, pairs, lockstep_beside(word->live, found), asks);
}

/* Returns 0 when there is nothing left to join. */
static inline int lockstep_step_plain(LockstepWord *word, const LockstepPairs *pairs)
{
    uint32_t best = UINT32_MAX;
    int at;
    for (at = 0; at < 2; at++) {
        uint32_t product = UINT32_MAX;
        if (word->key[at] != UINT64_MAX)
            product = lockstep_find(pairs, word->key[at], word->slot[at]);
        word->best[word->lane[at]] = product == UINT32_MAX ? UINT32_MAX : product << 5 | word->lane[at];
    }
    for (at = 1; at < LOCKSTEP_LANES; at++)
        best = word->best[at] < best ? word->best[at] : best;
    if (best >= LOCKSTEP_NONE)
        return 0;
    lockstep_join(word, pairs, best);
    return 1;
}

#define LOCKSTEP_RUN(KIND, TARGET) \
    TARGET static void lockstep_run_##KIND( \
        LockstepWord *words, const uint8_t *const *keys, const int *sizes, int count, const LockstepPairs *pairs) \
    { \
        LockstepAsk asks[LOCKSTEP_WORDS * LOCKSTEP_ASKS + 1], *ask, *end = asks; \
        int active[LOCKSTEP_WORDS], at, kept; \
        for (at = 0; at < count; at++) { \
            uint32_t sure = lockstep_begin(words + at, pairs, keys[at], sizes[at]); \
            active[at] = at; \
            if (lockstep_wide_##KIND(keys[at], 0xE0) & words[at].live) \
                end = lockstep_atoms( \
                    words + at, pairs, keys[at], lockstep_wide_##KIND(keys[at], 0xC0) & words[at].live, end); \
            else \
                end = lockstep_sure(words + at, pairs, sure, end); \
        } \
        for (ask = asks; ask < end; ask++) { \
            uint32_t product = lockstep_look_##KIND(pairs, ask->key, ask->slot); \
            if (product != UINT32_MAX) \
                ask->word->best[ask->lane] = product << 5 | ask->lane; \
        } \
        while (count) { \
            for (at = kept = 0; at < count; at++) { \
                active[kept] = active[at]; \
                kept += lockstep_step_##KIND(words + active[at], pairs); \
            } \
            count = kept; \
        } \
    }

#define LOCKSTEP_PLAIN
LOCKSTEP_RUN(plain, LOCKSTEP_PLAIN)

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>
#define LOCKSTEP_AVX2 __attribute__((target("avx2,bmi,bmi2,lzcnt")))

/* The lanes in which characters of several bytes begin, and what is behind the word. */
LOCKSTEP_AVX2 static inline uint32_t lockstep_wide_avx2(const uint8_t *data, uint8_t least)
{
    const __m256i bytes = _mm256_loadu_si256((const __m256i *)data);
    const __m256i leads = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, _mm256_set1_epi8((char)least)), bytes);
    return (uint32_t)_mm256_movemask_epi8(leads) << 1;
}

/* The product of a pair, or all ones. */
LOCKSTEP_AVX2 static inline uint32_t lockstep_look_avx2(const LockstepPairs *pairs, uint64_t key, uint64_t at)
{
    const uint64_t *slot = pairs->pairs + at;
    __m256i bucket = _mm256_loadu_si256((const __m256i *)slot);
    __m256i same = _mm256_cmpeq_epi64(_mm256_srli_epi64(bucket, 21), _mm256_set1_epi64x((long long)key));
    uint32_t found = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(same));
    /* Only pairs begin with a zero bit: an empty slot is negative. */
    uint32_t known = found | (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(bucket)) | (key == UINT64_MAX);
    if (!known)
        return lockstep_find(pairs, key, at);
    return (uint32_t)(slot[_tzcnt_u32(found | 8)] & 0x1FFFFF) | (0 - (uint32_t)!found);
}

LOCKSTEP_AVX2 static inline uint32_t lockstep_answer_avx2(const LockstepWord *word, const LockstepPairs *pairs, int place)
{
    return lockstep_look_avx2(pairs, word->key[place], word->slot[place]) << 5 | word->lane[place];
}

LOCKSTEP_AVX2 static inline int lockstep_step_avx2(LockstepWord *word, const LockstepPairs *pairs)
{
    /* Read before the answers are written, for what was just written cannot be read at once in another width. */
    __m256i least = _mm256_min_epu32(
        _mm256_min_epu32(
            _mm256_loadu_si256((const __m256i *)word->best), _mm256_loadu_si256((const __m256i *)(word->best + 8))),
        _mm256_min_epu32(
            _mm256_loadu_si256((const __m256i *)(word->best + 16)), _mm256_loadu_si256((const __m256i *)(word->best + 24))));
    __m128i half = _mm_min_epu32(_mm256_castsi256_si128(least), _mm256_extracti128_si256(least, 1));
    uint32_t first = lockstep_answer_avx2(word, pairs, 0), second = lockstep_answer_avx2(word, pairs, 1), best;
    half = _mm_min_epu32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_min_epu32(half, _mm_shuffle_epi32(half, 0xB1));
    best = (uint32_t)_mm_cvtsi128_si32(half);
    word->best[word->lane[0]] = first;
    word->best[word->lane[1]] = second;
    best = first < best ? first : best;
    best = second < best ? second : best;
    if (best >= LOCKSTEP_NONE)
        return 0;
    lockstep_join(word, pairs, best);
    return 1;
}

LOCKSTEP_RUN(avx2, LOCKSTEP_AVX2)

static inline LockstepRun *lockstep_choose(const char *kind)
{
    __builtin_cpu_init();
    return strcmp(kind, "plain") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") ? lockstep_run_avx2 : lockstep_run_plain;
}
#else
static inline LockstepRun *lockstep_choose(const char *kind)
{
    (void)kind;
    return lockstep_run_plain;
}
#endif
#endif
