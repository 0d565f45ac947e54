/* Pretokens as keys of four words, and a table of them.
 *
 * A pretoken of up to 15 bytes is filled up with FF to two words, which are there twice.  One of up to 31 has its first
 * 16 bytes and then the others, filled up with FE.  FE and FF never occur in UTF-8, so the key tells the length, and
 * without a branch on it keys are made and compared.  One of up to 256 has a hash of its bytes and its length in two
 * words that end in FD, also twice; who finds it compares the bytes. */
#ifndef FASTBPE_KEY_H
#define FASTBPE_KEY_H

#include "hash.h"

#define KEY_SHORT 15
#define KEY_LONGEST 31
#define KEY_HASHED 256
#define KEY_BATCH 64 /* pretokens whose lines are fetched together */
#define KEY_DROPPED ((uint32_t)1 << 31)

#if defined(__GNUC__) || defined(__clang__)
#define key_prefetch(address) __builtin_prefetch(address)
#define KEY_ALIGNED __attribute__((aligned(32)))
#else
#define KEY_ALIGNED
#define key_prefetch(address) ((void)(address))
#endif

/* A line of a table holds two keys of two words with up to 3 ids each, or one of four words with up to 7. */
typedef struct {
    uint64_t key[4]; /* two halves; one that ends in 0 is empty */
    uint32_t ids[8]; /* ids[3] and ids[7]: how many the key of that half has, or a greater number, of the user's */
} KeyLine;

typedef struct {
    KEY_ALIGNED uint64_t key[KEY_BATCH][4];
    const uint8_t *data[KEY_BATCH];
    size_t size[KEY_BATCH];
    uint32_t line[KEY_BATCH]; /* that may hold it, or the other of the pair */
    int count;
    const uint8_t *begin; /* of the next stretch */
} KeyBatch;

typedef struct {
    uint64_t words[4]; /* random; the last is odd */
} KeySecret;

typedef struct {
    uint32_t (*hash)(const uint64_t key[4], const KeySecret *secret);
    /* Takes stretches from number `at` on, up to `count`, that end at `ends` behind `base`; leaves out those with
     * KEY_DROPPED.  Nothing is read from `limit` on.  Returns the number of the first that is not taken. */
    int (*prepare)(
        KeyBatch *batch, const uint8_t *base, const uint32_t *ends, int at, int count, const uint8_t *limit,
        const KeySecret *secret, const KeyLine *lines, uint32_t mask);
    /* Writes the ids of the pretokens from number `at` on, and up to 7 numbers of no meaning behind them.  Returns the
     * number of the first whose ids are not in its lines, or the count. */
    int (*emit)(const KeyBatch *batch, int at, KeyLine *lines, uint32_t **out);
} KeyCode;

/* Whether a key needs all four words. */
static inline int key_is_long(const uint64_t key[4]) { return key[1] >> 56 < 0xFD; }

static inline uint64_t key_load(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, 8);
    return word;
}

/* `size` is 1 to KEY_LONGEST; KEY_LONGEST + 1 bytes are read. */
static inline void key_make(const uint8_t *data, size_t size, uint64_t key[4])
{
    static const uint8_t fill[64] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    const uint8_t *from = fill + 32 - size;
    uint64_t third = key_load(from + 16), fourth = key_load(from + 24);
    key[0] = key_load(data) | key_load(from);
    key[1] = key_load(data + 8) | key_load(from + 8);
    third = (key_load(data + 16) | third) ^ (third & 0x0101010101010101u);
    fourth = (key_load(data + 24) | fourth) ^ (fourth & 0x0101010101010101u);
    key[2] = size > KEY_SHORT ? third : key[0];
    key[3] = size > KEY_SHORT ? fourth : key[1];
}

/* A key for any size; `limit` as above.  Above KEY_HASHED it is one that no table has. */
static inline void key_make_rare(
    const uint8_t *data, size_t size, const uint8_t *limit, const KeySecret *secret, uint64_t key[4])
{
    uint8_t copy[KEY_LONGEST + 1];
    if (size <= KEY_LONGEST) {
        if (limit - data <= KEY_LONGEST) {
            memcpy(copy, data, size);
            data = copy;
        }
        key_make(data, size, key);
        return;
    }
    key[0] = size <= KEY_HASHED ? hash_of_bytes(data, size, secret->words[0], secret->words[3]) : UINT64_MAX;
    key[1] = (uint64_t)0xFD << 56 | (size <= KEY_HASHED ? size : 0);
    key[2] = key[0];
    key[3] = key[1];
}

/* The entry of the key in its line or the other of the pair: its first word is its place, whose half `half` says. */
static inline KeyLine *key_find(const uint64_t key[4], uint32_t at, KeyLine *lines, int *half)
{
    int is_long = key_is_long(key), other;
    for (other = 0; other < 2; other++) {
        KeyLine *line = lines + (at ^ (uint32_t)other);
        int first = ((line->key[0] ^ key[0]) | (line->key[1] ^ key[1])) == 0;
        int second = ((line->key[2] ^ key[2]) | (line->key[3] ^ key[3])) == 0;
        if (is_long ? first & second : first | second) {
            *half = !first;
            return line;
        }
    }
    return NULL;
}

static uint32_t key_hash_plain(const uint64_t key[4], const KeySecret *secret)
{
    const uint64_t *w = secret->words;
    return (uint32_t)(hash_fold(key[0] ^ w[0], key[1] ^ w[3]) ^ hash_fold(key[2] ^ w[2], key[3] ^ w[1]));
}

static int key_prepare_plain(
    KeyBatch *batch, const uint8_t *base, const uint32_t *ends, int at, int count, const uint8_t *limit,
    const KeySecret *secret, const KeyLine *lines, uint32_t mask)
{
    const uint8_t *begin = batch->begin;
    int n = 0;
    for (; at < count && n < KEY_BATCH; at++) {
        const uint8_t *end = base + (ends[at] & ~KEY_DROPPED);
        size_t size = (size_t)(end - begin);
        if (!(ends[at] & KEY_DROPPED)) {
            key_make_rare(begin, size, limit, secret, batch->key[n]);
            batch->data[n] = begin;
            batch->size[n] = size;
            batch->line[n] = key_hash_plain(batch->key[n], secret) & mask;
            key_prefetch(lines + batch->line[n]);
            n++;
        }
        begin = end;
    }
    batch->begin = begin;
    batch->count = n;
    return at;
}

static int key_emit_plain(const KeyBatch *batch, int at, KeyLine *lines, uint32_t **out)
{
    uint32_t *to = *out;
    for (; at < batch->count; at++) {
        int half;
        const KeyLine *line = key_find(batch->key[at], batch->line[at], lines, &half);
        const uint32_t *ids;
        if (!line)
            break;
        ids = line->ids + 4 * half;
        if (ids[3] > 7)
            break;
        memcpy(to, ids, 16); /* most have fewer; the rest is overwritten */
        if (ids[3] > 3)
            memcpy(to + 3, ids + 4, 16);
        to += ids[3];
    }
    *out = to;
    return at;
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>
#define KEY_AVX2 __attribute__((target("avx2,aes")))

/* Two rounds of AES bring every byte into each word. */
KEY_AVX2 static inline uint32_t key_hash_of(__m128i low, __m128i high, __m128i secret)
{
    return (uint32_t)_mm_cvtsi128_si32(_mm_aesenc_si128(_mm_aesenc_si128(_mm_xor_si128(low, secret), high), low));
}

KEY_AVX2 static uint32_t key_hash_avx2(const uint64_t key[4], const KeySecret *secret)
{
    return key_hash_of(
        _mm_loadu_si128((const __m128i *)key), _mm_loadu_si128((const __m128i *)(key + 2)),
        _mm_loadu_si128((const __m128i *)secret->words));
}

KEY_AVX2 static int key_prepare_avx2(
    KeyBatch *batch, const uint8_t *base, const uint32_t *ends, int at, int count, const uint8_t *limit,
    const KeySecret *secret, const KeyLine *lines, uint32_t mask)
{
    static const uint8_t fill[96] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    const __m128i salt = _mm_loadu_si128((const __m128i *)secret->words), even = _mm_set1_epi8((char)0xFE);
    const uint8_t *begin = batch->begin;
    int n = 0;
    for (; at < count && n < KEY_BATCH; at++) {
        const uint8_t *end = base + (ends[at] & ~KEY_DROPPED), *from;
        size_t size = (size_t)(end - begin);
        __m128i low, high;
        if (ends[at] & KEY_DROPPED) {
            begin = end;
            continue;
        }
        if (size <= KEY_LONGEST && limit - begin > KEY_LONGEST) {
            from = fill + 32 - size;
            low = _mm_or_si128(_mm_loadu_si128((const __m128i *)begin), _mm_loadu_si128((const __m128i *)from));
            high = _mm_and_si128(_mm_loadu_si128((const __m128i *)(from + 16)), even);
            high = _mm_max_epu8(_mm_loadu_si128((const __m128i *)(begin + 16)), high);
            high = size > KEY_SHORT ? high : low;
        } else {
            key_make_rare(begin, size, limit, secret, batch->key[n]);
            low = _mm_loadu_si128((const __m128i *)batch->key[n]);
            high = _mm_loadu_si128((const __m128i *)(batch->key[n] + 2));
        }
        _mm_storeu_si128((__m128i *)batch->key[n], low);
        _mm_storeu_si128((__m128i *)(batch->key[n] + 2), high);
        batch->data[n] = begin;
        batch->size[n] = size;
        batch->line[n] = key_hash_of(low, high, salt) & mask;
        key_prefetch(lines + batch->line[n]);
        n++;
        begin = end;
    }
    batch->begin = begin;
    batch->count = n;
    return at;
}

KEY_AVX2 static int key_emit_avx2(const KeyBatch *batch, int at, KeyLine *lines, uint32_t **out)
{
    uint32_t *to = *out;
    for (; at < batch->count; at++) {
        __m256i key = _mm256_loadu_si256((const __m256i *)batch->key[at]);
        int is_long = batch->size[at] - (KEY_SHORT + 1) < KEY_LONGEST - KEY_SHORT;
        /* By which of the four words are equal: the key is there; it is in the second half. */
        uint32_t found = is_long ? 0x8000 : 0xF888, words, place = batch->line[at];
        const uint32_t *ids;
        words = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(
            _mm256_cmpeq_epi64(_mm256_loadu_si256((const __m256i *)lines[place].key), key)));
        if (!(found >> words & 1)) {
            place ^= 1;
            words = (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(
                _mm256_cmpeq_epi64(_mm256_loadu_si256((const __m256i *)lines[place].key), key)));
            if (!(found >> words & 1))
                break;
        }
        ids = lines[place].ids + 4 * (0x7000u >> words & 1);
        _mm_storeu_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)ids));
        if (ids[3] > 3) {
            if (ids[3] > 7)
                break;
            _mm_storeu_si128((__m128i *)(to + 3), _mm_loadu_si128((const __m128i *)(ids + 4)));
        }
        to += ids[3];
    }
    *out = to;
    return at;
}

/* The code of a kind, or the best for an empty one; without functions where the processor lacks it. */
static inline KeyCode key_code(const char *kind)
{
    KeyCode plain = {key_hash_plain, key_prepare_plain, key_emit_plain}, none = {NULL, NULL, NULL};
    KeyCode avx2 = {key_hash_avx2, key_prepare_avx2, key_emit_avx2};
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("aes") && (!*kind || !strcmp(kind, "avx2")))
        return avx2;
    return !*kind || !strcmp(kind, "plain") ? plain : none;
}

#else

static inline KeyCode key_code(const char *kind)
{
    KeyCode plain = {key_hash_plain, key_prepare_plain, key_emit_plain}, none = {NULL, NULL, NULL};
    return !*kind || !strcmp(kind, "plain") ? plain : none;
}

#endif
#endif
