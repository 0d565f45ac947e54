# Pretokens as keys, and a table of them: what include/key.h gives.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "key.h" nogil:
    enum:
        KEY_SHORT
        KEY_LONGEST
        KEY_HASHED
        KEY_BUCKETS

    ctypedef struct KeyBucket:
        uint64_t key[8]
        uint32_t ids[16]

    const uint32_t KEY_PENDING
    const uint32_t KEY_IN_RING

    ctypedef struct KeyRing:
        uint32_t *words
        uint64_t size
        uint64_t written

    ctypedef struct KeyAsked:
        uint64_t key[4]
        KeyBucket *bucket

    ctypedef struct KeyBatch:
        KeyAsked asked[64]
        int count
        const uint8_t *base
        const uint8_t *next
        const uint64_t *sights

    ctypedef struct KeySecret:
        uint64_t words[4]

    ctypedef struct KeyCode:
        uint32_t (*hash)(const uint64_t *key, const KeySecret *secret) noexcept nogil
        int (*prepare)(
            KeyBatch *batch, const uint32_t *ends, int count, const uint8_t *limit, const KeySecret *secret,
            KeyBucket *buckets, uint32_t mask
        ) noexcept nogil
        int (*emit)(
            KeyBatch *batch, int at, KeyBucket *buckets, const KeyRing *ring, uint32_t **out
        ) noexcept nogil

    void key_prefetch(const void *address)
    void key_make(const uint8_t *data, size_t size, uint64_t *key)
    bint key_is_long(const uint64_t *key)
    uint32_t key_sight_word(uint32_t hashed)
    uint64_t key_sight_bit(uint32_t hashed)
    uint32_t key_hash_plain(const uint64_t *key, const KeySecret *secret)
    const uint8_t *key_data(const KeyBatch *batch, int at)
    size_t key_size(const KeyBatch *batch, int at)
    KeyBucket *key_first(uint32_t hashed, KeyBucket *buckets, uint32_t mask)
    KeyBucket *key_bucket(KeyBucket *first, KeyBucket *buckets, int number)
    int key_room(const KeyBucket *bucket, bint is_long)
    uint32_t key_give(const uint32_t *ids, const KeyRing *ring, const uint8_t *data, size_t size, uint32_t *to)
    uint32_t *key_find(const uint64_t *key, KeyBucket *first, KeyBucket *buckets)
    KeyCode key_code(const char *kind)
