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
#define KEY_WHOLE 16

#if defined(__GNUC__) || defined(__clang__)
#define key_prefetch(address) __builtin_prefetch(address)
#define KEY_ALIGNED __attribute__((aligned(32)))
#define KEY_RARE __attribute__((noinline, cold))
#else
#define KEY_ALIGNED
#define KEY_RARE
#define key_prefetch(address) ((void)(address))
#endif

/* A line of a table holds two keys of two words with up to 3 ids each, or one of four words with up to 7. */
typedef struct {
    uint64_t key[4]; /* two halves; one that ends in 0 is empty */
    uint32_t ids[8]; /* ids[3] and ids[7]: how many the key of that half has, or a greater number, of the user's */
} KeyLine;

/* A pretoken that is looked up. */
typedef struct {
    KEY_ALIGNED uint64_t key[4];
    KeyLine *line; /* that may hold it, or the other of the pair */
    uint64_t kind; /* KEY_WHOLE for a key that needs all four words, 0 for others */
} KeyAsked;

typedef struct {
    KeyAsked asked[KEY_BATCH];
    int count;
    const uint8_t *base;  /* the pretokens lie side by side and end at `ends` behind it, */
    const uint32_t *ends;
    const uint8_t *begin; /* the first begins here, */
    const uint8_t *next;  /* and here the first of the next batch */
} KeyBatch;

typedef struct {
    uint64_t words[4]; /* random; the last is odd */
} KeySecret;

typedef struct {
    uint32_t (*hash)(const uint64_t key[4], const KeySecret *secret);
    /* Takes up to `count` stretches that end at `ends` behind the base, the first of which begins at `next`; leaves out
     * those with KEY_DROPPED.  Nothing is read from `limit` on.  Returns how many it took. */
    int (*prepare)(
        KeyBatch *batch, const uint32_t *ends, int count, const uint8_t *limit, const KeySecret *secret,
        KeyLine *lines, uint32_t mask);
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

/* A pretoken of a batch. */
static inline const uint8_t *key_data(const KeyBatch *batch, int at)
{
    return at ? batch->base + batch->ends[at - 1] : batch->begin;
}

static inline size_t key_size(const KeyBatch *batch, int at)
{
    return (size_t)(batch->base + batch->ends[at] - key_data(batch, at));
}

/* Begins a batch of up to `count` stretches; returns how many are left out before its first. */
static inline int key_begin(KeyBatch *batch, const uint32_t *ends, int count)
{
    int left_out = 0;
    for (; left_out < count && ends[left_out] & KEY_DROPPED; left_out++)
        batch->next = batch->base + (ends[left_out] & ~KEY_DROPPED);
    batch->ends = ends + left_out;
    batch->begin = batch->next;
    return left_out;
}

/* A key for any size; `limit` as above.  Above KEY_HASHED it is one that no table has. */
static KEY_RARE void key_make_rare(
    KeyAsked *asked, const uint8_t *data, size_t size, const uint8_t *limit, const KeySecret *secret)
{
    uint64_t *key = asked->key;
    uint8_t copy[KEY_LONGEST + 1];
    asked->kind = 0;
    if (size <= KEY_LONGEST) {
        if (limit - data <= KEY_LONGEST) {
            memcpy(copy, data, size);
            data = copy;
        }
        key_make(data, size, key);
        asked->kind = size > KEY_SHORT ? KEY_WHOLE : 0;
        return;
    }
    key[0] = size <= KEY_HASHED ? hash_of_bytes(data, size, secret->words[0], secret->words[3]) : UINT64_MAX;
    key[1] = (uint64_t)0xFD << 56 | (size <= KEY_HASHED ? size : 0);
    key[2] = key[0];
    key[3] = key[1];
}

/* The other line of a pair. */
static inline KeyLine *key_other(KeyLine *line, KeyLine *lines) { return lines + ((line - lines) ^ 1); }

/* The line, or the other of the pair, that has the key; `half` says where in it. */
static inline KeyLine *key_find(const uint64_t key[4], KeyLine *line, KeyLine *lines, int *half)
{
    int is_long = key_is_long(key), other;
    for (other = 0; other < 2; other++, line = key_other(line, lines)) {
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
    KeyBatch *batch, const uint32_t *ends, int count, const uint8_t *limit, const KeySecret *secret, KeyLine *lines,
    uint32_t mask)
{
    int left_out = key_begin(batch, ends, count), n;
    const uint8_t *begin = batch->begin;
    for (n = 0; left_out + n < count && n < KEY_BATCH && !(batch->ends[n] & KEY_DROPPED); n++) {
        const uint8_t *end = batch->base + batch->ends[n];
        key_make_rare(batch->asked + n, begin, (size_t)(end - begin), limit, secret);
        batch->asked[n].line = lines + (key_hash_plain(batch->asked[n].key, secret) & mask);
        key_prefetch(batch->asked[n].line);
        begin = end;
    }
    batch->next = begin;
    batch->count = n;
    return left_out + n;
}

static int key_emit_plain(const KeyBatch *batch, int at, KeyLine *lines, uint32_t **out)
{
    uint32_t *to = *out;
    for (; at < batch->count; at++) {
        int half;
        const KeyLine *line = key_find(batch->asked[at].key, batch->asked[at].line, lines, &half);
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

/* Nothing in this loop and the next waits for anything, so what they take is the number of their instructions: what is
 * rare is elsewhere, and leaves the registers to them. */
KEY_AVX2 static int key_prepare_avx2(
    KeyBatch *batch, const uint32_t *ends, int count, const uint8_t *limit, const KeySecret *secret, KeyLine *lines,
    uint32_t mask)
{
    static const uint8_t fill_low[48] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    static const uint8_t fill_high[32] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        254, 254, 254, 254, 254, 254, 254, 254, 254, 254, 254, 254, 254, 254, 254, 254};
    const __m128i salt = _mm_loadu_si128((const __m128i *)secret->words);
    const int left_out = key_begin(batch, ends, count);
    const uint8_t *base = batch->base, *begin = batch->begin, *last = limit - (KEY_LONGEST + 1);
    const uint32_t *stop;
    KeyAsked *asked = batch->asked;
    ends += left_out;
    count -= left_out;
    stop = ends + (count < KEY_BATCH ? count : KEY_BATCH);
    for (; ends < stop; ends++, asked++) {
        const uint8_t *end = base + *ends;
        size_t size = (size_t)(end - begin);
        __m128i low, high;
        KeyLine *line;
        if (size <= KEY_LONGEST && begin <= last) { /* with KEY_DROPPED it is larger */
            low = _mm_or_si128(
                _mm_loadu_si128((const __m128i *)begin), _mm_loadu_si128((const __m128i *)(fill_low + 32 - size)));
            high = low;
            asked->kind = 0;
            if (size > KEY_SHORT) {
                asked->kind = KEY_WHOLE;
                high = _mm_max_epu8(
                    _mm_loadu_si128((const __m128i *)(begin + 16)),
                    _mm_loadu_si128((const __m128i *)(fill_high + 32 - size)));
            }
        } else {
            if (*ends & KEY_DROPPED)
                break;
            key_make_rare(asked, begin, size, limit, secret);
            low = _mm_load_si128((const __m128i *)asked->key);
            high = _mm_load_si128((const __m128i *)(asked->key + 2));
        }
        begin = end;
        _mm_store_si128((__m128i *)asked->key, low);
        _mm_store_si128((__m128i *)(asked->key + 2), high);
        line = lines + (key_hash_of(low, high, salt) & mask);
        key_prefetch(line);
        key_prefetch((const void *)((uintptr_t)line ^ sizeof(KeyLine))); /* what is new to the table looks there too */
        asked->line = line;
    }
    batch->next = begin;
    batch->count = (int)(asked - batch->asked);
    return left_out + batch->count;
}

KEY_AVX2 static int key_emit_avx2(const KeyBatch *batch, int at, KeyLine *lines, uint32_t **out)
{
    /* By kind, and which of the four words are equal: where in the line the ids are; 0: the key is not there. */
    static const uint8_t places[2 * KEY_WHOLE] = {
        0, 0, 0, 32, 0, 0, 0, 32, 0, 0, 0, 32, 48, 48, 48, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32};
    uint32_t *to = *out;
    const KeyAsked *asked = batch->asked + at, *stop = batch->asked + batch->count;
    for (; asked < stop; asked++) {
        const __m256i key = _mm256_load_si256((const __m256i *)asked->key);
        KeyLine *line = asked->line;
        const uint8_t *of_kind = places + asked->kind;
        const uint32_t *ids;
        uint64_t place = of_kind[_mm256_movemask_pd(
            _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_load_si256((const __m256i *)line->key), key)))];
        if (!place) {
            line = key_other(line, lines);
            place = of_kind[_mm256_movemask_pd(
                _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_load_si256((const __m256i *)line->key), key)))];
            if (!place)
                break;
        }
        ids = (const uint32_t *)((const uint8_t *)line + place);
        _mm_storeu_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)ids));
        if (ids[3] > 3) {
            if (ids[3] > 7)
                break;
            _mm_storeu_si128((__m128i *)(to + 3), _mm_loadu_si128((const __m128i *)(ids + 4)));
        }
        to += ids[3];
    }
    *out = to;
    return (int)(asked - batch->asked);
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
