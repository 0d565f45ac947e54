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

    ctypedef struct KeyBatch:
        uint64_t key[64][4]
        const uint8_t *data[64]
        size_t size[64]
        uint32_t line[64]
        int count
        const uint8_t *begin

    ctypedef struct KeySecret:
        uint64_t words[4]

    ctypedef struct KeyCode:
        uint32_t (*hash)(const uint64_t *key, const KeySecret *secret) noexcept nogil
        int (*prepare)(
            KeyBatch *batch, const uint8_t *base, const uint32_t *ends, int at, int count, const uint8_t *limit,
            const KeySecret *secret, const KeyLine *lines, uint32_t mask
        ) noexcept nogil
        int (*emit)(const KeyBatch *batch, int at, KeyLine *lines, uint32_t **out) noexcept nogil

    void key_prefetch(const void *address)
    void key_make(const uint8_t *data, size_t size, uint64_t *key)
    bint key_is_long(const uint64_t *key)
    uint32_t key_hash_plain(const uint64_t *key, const KeySecret *secret)
    KeyLine *key_find(const uint64_t *key, uint32_t at, KeyLine *lines, int *half)
    KeyCode key_code(const char *kind)
