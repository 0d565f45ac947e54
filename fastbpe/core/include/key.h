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
#define KEY_WHOLE 256
#define KEY_BUCKETS 4 /* that may hold a key; the loop that looks them up knows two */

#if defined(__GNUC__) || defined(__clang__)
#define key_prefetch(address) __builtin_prefetch(address)
#define KEY_ALIGNED __attribute__((aligned(64)))
#define KEY_RARE __attribute__((noinline, cold))
#else
#define KEY_ALIGNED
#define KEY_RARE
#define key_prefetch(address) ((void)(address))
#endif

/* Four places of a table: a line of the cache with their keys and one with their ids.  A key of two words has one place
 * and up to 3 ids, one of four words has the first two or the last two places and up to 7.  Others are in the ring. */
typedef struct {
    uint64_t key[8];  /* a place whose second word is 0 is empty */
    uint32_t ids[16]; /* the last of the first four of a key: how many; or one of the two below */
} KeyBucket;

#define KEY_PENDING ((uint32_t)1 << 31) /* the ids are not known yet; the rest is a number of the user's */
#define KEY_IN_RING ((uint32_t)1 << 30) /* the rest is how many; the first two say where, in words since its first use */

/* Ids, and behind them the bytes of a pretoken that is told by a hash.  The oldest are overwritten.  Four words more may
 * be read. */
typedef struct {
    uint32_t *words;
    uint64_t size;    /* a power of two */
    uint64_t written; /* words since the first use */
} KeyRing;

/* A pretoken that is looked up. */
typedef struct {
    KEY_ALIGNED uint64_t key[4];
    KeyBucket *bucket;     /* that may hold it, the first of several */
    const uint8_t *places; /* of its kind: key_places, or KEY_WHOLE behind for a key that needs all four words */
    const uint32_t *ids;   /* where it was found */
} KeyAsked;

typedef struct {
    KeyAsked asked[KEY_BATCH];
    int count;
    const uint8_t *base;  /* the pretokens lie side by side and end at `ends` behind it, */
    const uint32_t *ends;
    const uint8_t *begin; /* the first begins here, */
    const uint8_t *next;  /* and here the first of the next batch */
    const uint64_t *sights; /* bits, told by the upper ones of the hash, which are sent for too where the key is long */
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
        KeyBucket *buckets, uint32_t mask);
    /* Writes the ids of the pretokens from number `at` on, and up to 7 numbers of no meaning behind them.  Returns the
     * number of the first whose ids are not known, or not where they are looked for, or the count. */
    int (*emit)(KeyBatch *batch, int at, KeyBucket *buckets, const KeyRing *ring, uint32_t **out);
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

/* By kind, and by which words are equal: where in the bucket the ids are; 0: the key is not there. */
#define KEY_SHORT_AT(s) (s & 3) == 3 ? 64 : (s & 12) == 12 ? 80 : (s & 48) == 48 ? 96 : (s & 192) == 192 ? 112 : 0
#define KEY_WHOLE_AT(s) (s & 15) == 15 ? 64 : (s & 240) == 240 ? 96 : 0
#define KEY_4(at, s) at((s)), at((s + 1)), at((s + 2)), at((s + 3))
#define KEY_16(at, s) KEY_4(at, s), KEY_4(at, (s + 4)), KEY_4(at, (s + 8)), KEY_4(at, (s + 12))
#define KEY_64(at, s) KEY_16(at, s), KEY_16(at, (s + 16)), KEY_16(at, (s + 32)), KEY_16(at, (s + 48))
#define KEY_256(at) KEY_64(at, 0), KEY_64(at, 64), KEY_64(at, 128), KEY_64(at, 192)
static const uint8_t key_places[2 * KEY_WHOLE] = {KEY_256(KEY_SHORT_AT), KEY_256(KEY_WHOLE_AT)};

/* A key for any size; `limit` as above.  Above KEY_HASHED it is one that no table has. */
static KEY_RARE void key_make_rare(
    KeyAsked *asked, const uint8_t *data, size_t size, const uint8_t *limit, const KeySecret *secret)
{
    uint64_t *key = asked->key;
    uint8_t copy[KEY_LONGEST + 1];
    asked->places = key_places;
    if (size <= KEY_LONGEST) {
        if (limit - data <= KEY_LONGEST) {
            memcpy(copy, data, size);
            data = copy;
        }
        key_make(data, size, key);
        asked->places = key_places + (size > KEY_SHORT ? KEY_WHOLE : 0);
        return;
    }
    key[0] = size <= KEY_HASHED ? hash_of_bytes(data, size, secret->words[0], secret->words[3]) : UINT64_MAX;
    key[1] = (uint64_t)0xFD << 56 | (size <= KEY_HASHED ? size : 0);
    key[2] = key[0];
    key[3] = key[1];
}

/* The bucket in which a key with this hash stands first.  Its bits are where they make bytes of them. */
static inline KeyBucket *key_first(uint32_t hashed, KeyBucket *buckets, uint32_t mask)
{
    return (KeyBucket *)((char *)buckets + (hashed & (uint64_t)mask * sizeof(KeyBucket)));
}

/* One of the buckets in which a key may stand: 0 is the first one. */
static inline KeyBucket *key_bucket(KeyBucket *first, KeyBucket *buckets, int number)
{
    return buckets + ((first - buckets) ^ number);
}

/* The number of the lowest of four bits; 4 if there is none. */
static inline int key_lowest(int bits)
{
    static const uint8_t lowest[16] = {4, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0};
    return lowest[bits];
}

/* The first place for a key of a kind that is empty, or 4.  What is full never gets room again, so a key of this kind
 * that is not here is not in a later bucket either. */
static inline int key_room(const KeyBucket *bucket, int is_long)
{
    const uint64_t *key = bucket->key;
    int empty = !key[1] | !key[3] << 1 | !key[5] << 2 | !key[7] << 3;
    return key_lowest(is_long ? empty & 5 : empty);
}

/* The place of a key in a bucket, or 4. */
static inline int key_place(const KeyBucket *bucket, const uint64_t key[4], int is_long)
{
    uint64_t different[4];
    int place;
    for (place = 0; place < 4; place++) {
        const uint64_t *words = key + 2 * (is_long & place);
        different[place] = (bucket->key[2 * place] ^ words[0]) | (bucket->key[2 * place + 1] ^ words[1]);
    }
    if (is_long)
        return key_lowest(!(different[0] | different[1]) | !(different[2] | different[3]) << 2);
    return key_lowest(!different[0] | !different[1] << 1 | !different[2] << 2 | !different[3] << 3);
}

/* The ids of a key, or NULL. */
static inline uint32_t *key_find(const uint64_t key[4], KeyBucket *first, KeyBucket *buckets)
{
    int is_long = key_is_long(key), number;
    for (number = 0; number < KEY_BUCKETS; number++) {
        KeyBucket *bucket = key_bucket(first, buckets, number);
        int place = key_place(bucket, key, is_long);
        if (place < 4)
            return bucket->ids + 4 * place;
        if (key_room(bucket, is_long) < 4)
            break;
    }
    return NULL;
}

/* Writes the ids of an entry that has more than there is room for, and up to 3 numbers of no meaning behind them; returns
 * how many, 0 if they are not known or forgotten. */
static inline uint32_t key_recall(
    const uint32_t *ids, const KeyRing *ring, const uint8_t *data, size_t size, uint32_t *to)
{
    uint32_t count = ids[3] & ~KEY_IN_RING, at;
    uint64_t place;
    const uint32_t *from;
    memcpy(&place, ids, 8);
    if (ids[3] & KEY_PENDING || ring->written - place > ring->size)
        return 0;
    from = ring->words + (place & (ring->size - 1));
    if (size > KEY_LONGEST && memcmp(from + count, data, size))
        return 0;
    for (at = 0; at < count; at += 4)
        memcpy(to + at, from + at, 16);
    return count;
}

/* Writes the ids of an entry, and up to 7 numbers of no meaning behind them; returns how many, 0 as above. */
static inline uint32_t key_give(const uint32_t *ids, const KeyRing *ring, const uint8_t *data, size_t size, uint32_t *to)
{
    if (ids[3] > 7)
        return key_recall(ids, ring, data, size, to);
    memcpy(to, ids, 16); /* most have fewer; the rest is overwritten */
    if (ids[3] > 3)
        memcpy(to + 3, ids + 4, 16);
    return ids[3];
}

static uint32_t key_hash_plain(const uint64_t key[4], const KeySecret *secret)
{
    const uint64_t *w = secret->words;
    return (uint32_t)hash_fold(hash_fold(key[0] ^ w[0], key[1] ^ w[3]) ^ hash_fold(key[2] ^ w[2], key[3] ^ w[1]), w[3]);
}

/* The word of the sights and the bit in it that belong to a hash. */
static inline uint32_t key_sight_word(uint32_t hashed) { return hashed >> 17; }
static inline uint64_t key_sight_bit(uint32_t hashed) { return (uint64_t)1 << (hashed >> 11 & 63); }

static int key_prepare_plain(
    KeyBatch *batch, const uint32_t *ends, int count, const uint8_t *limit, const KeySecret *secret, KeyBucket *buckets,
    uint32_t mask)
{
    int left_out = key_begin(batch, ends, count), n;
    const uint8_t *begin = batch->begin;
    for (n = 0; left_out + n < count && n < KEY_BATCH && !(batch->ends[n] & KEY_DROPPED); n++) {
        const uint8_t *end = batch->base + batch->ends[n];
        KeyBucket *bucket;
        key_make_rare(batch->asked + n, begin, (size_t)(end - begin), limit, secret);
        bucket = key_first(key_hash_plain(batch->asked[n].key, secret), buckets, mask);
        key_prefetch(bucket->key);
        key_prefetch(bucket->ids);
        batch->asked[n].bucket = bucket;
        begin = end;
    }
    batch->next = begin;
    batch->count = n;
    return left_out + n;
}

static int key_emit_plain(KeyBatch *batch, int at, KeyBucket *buckets, const KeyRing *ring, uint32_t **out)
{
    uint32_t *to = *out;
    for (; at < batch->count; at++) {
        const uint32_t *ids = key_find(batch->asked[at].key, batch->asked[at].bucket, buckets);
        uint32_t count = ids ? key_give(ids, ring, key_data(batch, at), key_size(batch, at), to) : 0;
        if (!count)
            break;
        to += count;
    }
    *out = to;
    return at;
}

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>
#define KEY_AVX2 __attribute__((target("avx2,aes")))

/* Two rounds of AES bring every byte into each word, but four bytes of a diagonal into one byte of it: so a third follows
 * for the second half, which comes in behind the first. */
KEY_AVX2 static inline uint32_t key_hash_of(__m128i low, __m128i high, __m128i secret)
{
    const __m128i mixed = _mm_aesenc_si128(_mm_aesenc_si128(_mm_xor_si128(low, secret), high), low);
    return (uint32_t)_mm_cvtsi128_si32(_mm_aesenc_si128(_mm_aesenc_si128(mixed, secret), secret));
}

KEY_AVX2 static uint32_t key_hash_avx2(const uint64_t key[4], const KeySecret *secret)
{
    return key_hash_of(
        _mm_loadu_si128((const __m128i *)key), _mm_loadu_si128((const __m128i *)(key + 2)),
        _mm_loadu_si128((const __m128i *)secret->words));
}

/* Nothing in this loop waits for anything, so what it takes is the number of its instructions: what is rare is elsewhere,
 * and leaves the registers to it. */
KEY_AVX2 static int key_prepare_avx2(
    KeyBatch *batch, const uint32_t *ends, int count, const uint8_t *limit, const KeySecret *secret, KeyBucket *buckets,
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
    const int most = count - left_out < KEY_BATCH ? count - left_out : KEY_BATCH;
    const uint8_t *base = batch->base;
    const uint32_t *stop;
    int64_t from = batch->begin - base;
    int64_t least = -KEY_SHORT, quick = -KEY_LONGEST; /* vectors, which read behind them, make keys of these sizes */
    KeyAsked *asked = batch->asked;
    ends += left_out;
    for (stop = ends + most; stop > ends && limit - (base + (stop[-1] & ~KEY_DROPPED)) < KEY_LONGEST; stop--)
        ;
    if (stop == ends) { /* the last few in front of what may not be read */
        stop = ends + most;
        least = quick = 0;
    }
    for (; ends < stop; ends++, asked++) {
        const int64_t to = *ends, less = from - to; /* the size below zero; with KEY_DROPPED less than any */
        const uint8_t *begin = base + from;
        KeyBucket *bucket;
        if (less >= least) {
            const __m128i key = _mm_or_si128(
                _mm_loadu_si128((const __m128i *)begin), _mm_loadu_si128((const __m128i *)(fill_low + 32 + less)));
            _mm256_store_si256((__m256i *)asked->key, _mm256_broadcastsi128_si256(key));
            asked->places = key_places;
            bucket = key_first(key_hash_of(key, key, salt), buckets, mask);
        } else {
            __m128i low, high;
            uint32_t hashed;
            if (less >= quick) {
                asked->places = key_places + KEY_WHOLE;
                low = _mm_loadu_si128((const __m128i *)begin);
                high = _mm_max_epu8(
                    _mm_loadu_si128((const __m128i *)(begin + 16)),
                    _mm_loadu_si128((const __m128i *)(fill_high + 32 + less)));
                _mm_store_si128((__m128i *)asked->key, low);
                _mm_store_si128((__m128i *)(asked->key + 2), high);
            } else {
                if (*ends & KEY_DROPPED)
                    break;
                key_make_rare(asked, begin, (size_t)-less, limit, secret);
                low = _mm_load_si128((const __m128i *)asked->key);
                high = _mm_load_si128((const __m128i *)(asked->key + 2));
            }
            hashed = key_hash_of(low, high, salt);
            key_prefetch(batch->sights + key_sight_word(hashed));
            bucket = key_first(hashed, buckets, mask);
        }
        key_prefetch(bucket->key);
        key_prefetch(bucket->ids);
        asked->bucket = bucket;
        from = to;
    }
    batch->next = base + from;
    batch->count = (int)(asked - batch->asked);
    return left_out + batch->count;
}

/* Which of the eight words of a bucket are equal to those of a key, bit by bit. */
KEY_AVX2 static inline uint32_t key_same_avx2(const KeyBucket *bucket, const uint64_t key[4])
{
    const __m256i words = _mm256_load_si256((const __m256i *)key);
    const __m256i first = _mm256_cmpeq_epi64(_mm256_load_si256((const __m256i *)bucket->key), words);
    const __m256i second = _mm256_cmpeq_epi64(_mm256_load_si256((const __m256i *)(bucket->key + 4)), words);
    return (uint32_t)(_mm256_movemask_pd(_mm256_castsi256_pd(first)) | _mm256_movemask_pd(_mm256_castsi256_pd(second)) << 4);
}

#define KEY_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
KEY_AVX512 static inline uint32_t key_same_avx512(const KeyBucket *bucket, const uint64_t key[4])
{
    const __m512i words = _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)key));
    return _mm512_cmpeq_epi64_mask(words, _mm512_loadu_si512(bucket->key));
}

/* True once in five times.  That the compiler knows it is worth 1.05; one in many would be 0.93 in Arabic. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_expect_with_probability)
#define KEY_SELDOM(condition) __builtin_expect_with_probability(condition, 0, 0.8)
#endif
#endif
#ifndef KEY_SELDOM
#define KEY_SELDOM(condition) (condition)
#endif

/* Where ids are written is known only when the numbers of all those before are, and a look-up behind such a write may have
 * to wait for it: so all of a batch are found first, and written in a second loop.  Behind one that was not given they go
 * one by one: if more are not given, what was found behind them would have to be found again each time. */
#define KEY_EMIT(KIND, TARGET) \
    TARGET static int key_emit_##KIND( \
        KeyBatch *batch, int at, KeyBucket *buckets, const KeyRing *ring, uint32_t **out) \
    { \
        uint32_t *to = *out; \
        KeyAsked *asked = batch->asked + at, *stop = batch->asked + batch->count; \
        while (asked < stop) { \
            KeyAsked *first = asked, *last = at ? asked + 1 : stop; \
            for (; asked < last; asked++) { \
                KeyBucket *bucket = asked->bucket; \
                const uint8_t *places = asked->places; \
                uint64_t place = places[key_same_##KIND(bucket, asked->key)]; \
                if (!place) { \
                    if (!bucket->key[places == key_places ? 7 : 5]) /* there is room, so the key is nowhere */ \
                        break; \
                    bucket = key_bucket(bucket, buckets, 1); \
                    place = places[key_same_##KIND(bucket, asked->key)]; \
                    if (!place) \
                        break; \
                } \
                asked->ids = (const uint32_t *)((const uint8_t *)bucket + place); \
            } \
            for (last = asked, asked = first; asked < last; asked++) { \
                const uint32_t *ids = asked->ids; \
                uint32_t count = ids[3]; \
                _mm_storeu_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)ids)); \
                if (KEY_SELDOM(count > 3)) { \
                    if (count > 7) { \
                        const int number = (int)(asked - batch->asked); \
                        count = key_recall(ids, ring, key_data(batch, number), key_size(batch, number), to); \
                        if (!count) \
                            goto done; \
                    } else { \
                        _mm_storeu_si128((__m128i *)(to + 3), _mm_loadu_si128((const __m128i *)(ids + 4))); \
                    } \
                } \
                to += count; \
            } \
            if (asked == first || !at) \
                break; \
        } \
    done: \
        *out = to; \
        return (int)(asked - batch->asked); \
    }

KEY_EMIT(avx2, KEY_AVX2)
KEY_EMIT(avx512, KEY_AVX512)

/* The code of a kind, or the best for an empty one; without functions where the processor lacks it. */
static inline KeyCode key_code(const char *kind)
{
    KeyCode plain = {key_hash_plain, key_prepare_plain, key_emit_plain}, none = {NULL, NULL, NULL};
    KeyCode avx2 = {key_hash_avx2, key_prepare_avx2, key_emit_avx2};
    KeyCode avx512 = {key_hash_avx2, key_prepare_avx2, key_emit_avx512};
    int vectors;
    __builtin_cpu_init();
    vectors = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("aes");
    if (vectors && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && (!*kind || !strcmp(kind, "avx512")))
        return avx512;
    if (vectors && (!*kind || !strcmp(kind, "avx2")))
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
