/* Many short pretokens merged at once, one step of each in turn.
 *
 * A step of one pretoken has to wait for two look-ups in a large table.  They are sent for when it ends, and while they
 * are on their way the other pretokens do theirs.  Nothing in a step depends on a branch that cannot be foreseen. */
#ifndef FASTBPE_LOCKSTEP_H
#define FASTBPE_LOCKSTEP_H

#include <stdint.h>
#include <string.h>

#define LOCKSTEP_WORDS 32 /* at once: their state stays in the nearest cache */
#define LOCKSTEP_LANES 32 /* bytes of a pretoken, at most */
#define LOCKSTEP_ASKS 20 /* two for each atom of two bytes, fewer than the symbols: ten atoms, eleven others */
#define LOCKSTEP_BUCKET 4 /* slots of the table of pairs that are looked at together: half a line of the cache */

typedef struct {
    uint32_t best[LOCKSTEP_LANES + 8]; /* product of a symbol and the next one << 5 | lane; all ones: none */
    uint32_t symbols[LOCKSTEP_LANES];
    uint32_t live; /* a bit for each lane in which a symbol begins */
    uint32_t lane[2]; /* of the two look-ups on their way; LOCKSTEP_LANES: there is none */
    uint64_t key[2], slot[2];
} LockstepWord;

/* A character that is its token from the beginning, unless a byte beside it forbids that. */
typedef struct {
    uint64_t before; /* a bit for the low six of each byte from 80 to BF that must not stand before it */
    uint64_t after;  /* a bit for the low six of each byte from C0 that must not stand behind it */
    uint32_t symbol; /* 0: none */
    uint32_t ascii;  /* bit 0: no ASCII may stand before it; bit 1: behind it */
} LockstepAtom;

typedef struct {
    const uint64_t *pairs; /* left << 42 | right << 21 | product; all ones: empty */
    uint64_t mask, seed;   /* the number of slots - 1 */
    const uint64_t *filter; /* a bit for the upper part of the hash of each pair */
    const uint32_t *byte_pair;
    const LockstepAtom *atoms; /* by code point up to U+FFFF */
} LockstepPairs;

/* A pair to be looked up before the first step. */
typedef struct {
    uint64_t key, slot;
    LockstepWord *word;
    uint32_t lane;
} LockstepAsk;

/* Merges words; `keys` are their UTF-8, LOCKSTEP_LANES bytes of which may be read, `sizes` how many count, 1 or more; a
 * byte above F7 follows them. */
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
    uint64_t maybe = 0 - (lockstep_maybe(pairs, hashed) & (lane < LOCKSTEP_LANES));
    uint64_t slot = lockstep_bucket(hashed, pairs->mask) & maybe;
    lockstep_prefetch(pairs->pairs + slot);
    word->key[place] = key | ~maybe; /* all ones, which no pair has */
    word->slot[place] = slot;
    word->lane[place] = lane;
    word->best[lane] = UINT32_MAX;
}

/* Joins the pair that `best` tells, and asks for the two new ones. */
static inline void lockstep_join(LockstepWord *word, const LockstepPairs *pairs, uint32_t best)
{
    uint32_t lane = best & 31, product = best >> 5, next;
    uint32_t higher = word->live & ~(((uint32_t)2 << lane) - 1), lower = word->live & (((uint32_t)1 << lane) - 1);
    uint32_t gone = (uint32_t)lockstep_lowest(higher);
    word->live ^= (uint32_t)1 << gone;
    word->best[gone] = UINT32_MAX;
    word->symbols[lane] = product;
    higher &= higher - 1;
    next = (uint32_t)lockstep_lowest(higher | (uint32_t)1 << 31);
    lockstep_ask(word, pairs, 0, higher ? lane : LOCKSTEP_LANES, product, word->symbols[next]);
    word->best[lane] = UINT32_MAX;
    next = (uint32_t)lockstep_highest(lower | 1);
    lockstep_ask(word, pairs, 1, lower ? next : LOCKSTEP_LANES, word->symbols[next], product);
}

static inline void lockstep_begin(LockstepWord *word, int size)
{
    word->live = (uint32_t)(((uint64_t)1 << size) - 1);
    word->key[0] = word->key[1] = UINT64_MAX;
    word->slot[0] = word->slot[1] = 0;
    word->lane[0] = word->lane[1] = LOCKSTEP_LANES;
}

/* Returns a bit for each character of several bytes. */
static inline uint32_t lockstep_begin_plain(LockstepWord *word, const LockstepPairs *pairs, const uint8_t *data, int size)
{
    uint32_t leads = 0;
    int at;
    lockstep_begin(word, size);
    memset(word->best, 0xFF, sizeof(word->best));
    memset(word->symbols, 0, sizeof(word->symbols));
    for (at = 0; at < size; at++) {
        word->symbols[at] = data[at];
        leads |= (uint32_t)(data[at] >= 0xC0) << at;
    }
    for (at = 0; at + 1 < size; at++) {
        uint32_t product = pairs->byte_pair[(uint32_t)data[at] << 8 | data[at + 1]];
        word->best[at] = product == UINT32_MAX ? UINT32_MAX : product << 5 | (uint32_t)at;
    }
    return leads;
}

#define lockstep_look_plain lockstep_find

/* Puts atoms in the place of their bytes, and sends for the pairs they are in; returns the end of these. */
static inline LockstepAsk *lockstep_atoms(
    LockstepWord *word, const LockstepPairs *pairs, const uint8_t *data, uint32_t leads, LockstepAsk *asks)
{
    uint32_t found = 0, gone = 0, rest;
    for (; leads; leads &= leads - 1) {
        uint32_t lane = (uint32_t)lockstep_lowest(leads), code = data[lane], size = 2, before, after, none;
        const LockstepAtom *atom;
        if (code < 0xE0) {
            code = (code & 31) << 6 | (data[lane + 1] & 63);
        } else if (code < 0xF0) {
            code = (code & 15) << 12 | (uint32_t)(data[lane + 1] & 63) << 6 | (data[lane + 2] & 63);
            size = 3;
        } else {
            continue;
        }
        /* No branches: which characters are atoms in their place cannot be foreseen. */
        atom = pairs->atoms + code;
        before = data[lane - (lane > 0)];
        after = data[lane + size];
        none = (before < 0x80 ? atom->ascii : (uint32_t)(atom->before >> (before & 63))) & (lane > 0);
        none |= after < 0x80 ? atom->ascii >> 1 : (uint32_t)(atom->after >> (after & 63));
        none |= atom->symbol == 0;
        none = 0 - (none & 1);
        found |= ~none & (uint32_t)1 << lane;
        gone |= ~none & (size == 2 ? (uint32_t)2 : (uint32_t)6) << lane;
        word->symbols[lane] = none ? word->symbols[lane] : atom->symbol;
    }
    word->live &= ~gone;
    for (rest = gone | found; rest; rest &= rest - 1)
        word->best[lockstep_lowest(rest)] = UINT32_MAX;
    /* The pairs of which one at least is an atom. */
    for (rest = found ? word->live : 0; rest & (rest - 1); rest &= rest - 1) {
        uint32_t lane = (uint32_t)lockstep_lowest(rest), next = (uint32_t)lockstep_lowest(rest & (rest - 1));
        uint64_t hashed;
        if (!((found >> lane | found >> next) & 1))
            continue;
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
    for (at = 0; at < LOCKSTEP_LANES; at++)
        best = word->best[at] < best ? word->best[at] : best;
    if (best == UINT32_MAX)
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
            uint32_t leads = lockstep_begin_##KIND(words + at, pairs, keys[at], sizes[at]); \
            active[at] = at; \
            if (leads) \
                end = lockstep_atoms(words + at, pairs, keys[at], leads, end); \
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

LOCKSTEP_AVX2 static inline uint32_t lockstep_begin_avx2(
    LockstepWord *word, const LockstepPairs *pairs, const uint8_t *data, int size)
{
    const __m256i none = _mm256_set1_epi32(-1);
    __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), last = _mm256_set1_epi32(size - 1);
    int at;
    lockstep_begin(word, size);
    for (at = 0; at < LOCKSTEP_LANES; at += 8) {
        __m256i bytes, after, pair, product, outside = none;
        if (at < size) {
            bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(data + at)));
            _mm256_storeu_si256((__m256i *)(word->symbols + at), bytes);
            after = _mm256_alignr_epi8(_mm256_permute2x128_si256(bytes, bytes, 0x81), bytes, 4);
            after = _mm256_insert_epi32(after, at + 8 < LOCKSTEP_LANES ? data[at + 8] : 0, 7);
            pair = _mm256_or_si256(_mm256_slli_epi32(bytes, 8), after);
            product = _mm256_i32gather_epi32((const int *)pairs->byte_pair, pair, 4);
            outside = _mm256_cmpgt_epi32(last, lanes);
            outside = _mm256_or_si256(_mm256_xor_si256(outside, none), _mm256_cmpeq_epi32(product, none));
            outside = _mm256_or_si256(outside, _mm256_or_si256(_mm256_slli_epi32(product, 5), lanes));
        }
        _mm256_storeu_si256((__m256i *)(word->best + at), outside);
        lanes = _mm256_add_epi32(lanes, _mm256_set1_epi32(8));
    }
    return word->live & (uint32_t)_mm256_movemask_epi8(
        _mm256_cmpeq_epi8(_mm256_max_epu8(_mm256_loadu_si256((const __m256i *)data), _mm256_set1_epi8((char)0xC0)),
                          _mm256_loadu_si256((const __m256i *)data)));
}

/* The product of a pair, or all ones. */
LOCKSTEP_AVX2 static inline uint32_t lockstep_look_avx2(const LockstepPairs *pairs, uint64_t key, uint64_t at)
{
    const uint64_t *slot = pairs->pairs + at;
    __m256i bucket = _mm256_loadu_si256((const __m256i *)slot);
    __m256i same = _mm256_cmpeq_epi64(_mm256_srli_epi64(bucket, 21), _mm256_set1_epi64x((long long)key));
    uint32_t found = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(same));
    /* Only pairs begin with a zero bit: an empty slot is negative. */
    if (!found && !_mm256_movemask_pd(_mm256_castsi256_pd(bucket)) && key != UINT64_MAX)
        return lockstep_find(pairs, key, at);
    return found ? (uint32_t)(slot[_tzcnt_u32(found | 8)] & 0x1FFFFF) : UINT32_MAX;
}

LOCKSTEP_AVX2 static inline uint32_t lockstep_answer_avx2(const LockstepWord *word, const LockstepPairs *pairs, int place)
{
    uint32_t product = lockstep_look_avx2(pairs, word->key[place], word->slot[place]);
    return product == UINT32_MAX ? product : product << 5 | word->lane[place];
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
    if (best == UINT32_MAX)
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
