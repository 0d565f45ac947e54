# Pretokens as keys, and lines of a table that hold them: what include/key.h gives.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "key.h" nogil:
    enum:
        KEY_SHORT
        KEY_LONGEST
        KEY_HASHED

    ctypedef struct KeyLine:
        uint64_t key[4]
        uint32_t ids[8]

    ctypedef struct KeyAsked:
        uint64_t key[4]
        KeyLine *line

    ctypedef struct KeyBatch:
        KeyAsked asked[64]
        int count
        const uint8_t *base
        const uint8_t *next

    ctypedef struct KeySecret:
        uint64_t words[4]

    ctypedef struct KeyCode:
        uint32_t (*hash)(const uint64_t *key, const KeySecret *secret) noexcept nogil
        int (*prepare)(
            KeyBatch *batch, const uint32_t *ends, int count, const uint8_t *limit, const KeySecret *secret,
            KeyLine *lines, uint32_t mask
        ) noexcept nogil
        int (*emit)(const KeyBatch *batch, int at, KeyLine *lines, uint32_t **out) noexcept nogil

    void key_prefetch(const void *address)
    void key_make(const uint8_t *data, size_t size, uint64_t *key)
    bint key_is_long(const uint64_t *key)
    uint32_t key_hash_plain(const uint64_t *key, const KeySecret *secret)
    const uint8_t *key_data(const KeyBatch *batch, int at)
    size_t key_size(const KeyBatch *batch, int at)
    KeyLine *key_find(const uint64_t *key, KeyLine *line, KeyLine *lines, int *half)
    KeyCode key_code(const char *kind)
