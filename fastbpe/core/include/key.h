/* Pretokens of up to 31 bytes as keys of four words, made and compared without a branch on the length.
 *
 * Behind the text, the first 16 bytes are filled up with FF and the others with FE, which never occur in UTF-8: the key
 * tells the length.  A short pretoken, of up to 15 bytes, is told by its first half alone, which ends in FF. */
#ifndef FASTBPE_KEY_H
#define FASTBPE_KEY_H

#include "hash.h"

#define KEY_LONGEST 31
#define KEY_SHORT 15

#if defined(__GNUC__) || defined(__clang__)
#define key_prefetch(address) __builtin_prefetch(address)
#else
#define key_prefetch(address) ((void)(address))
#endif

static inline uint64_t key_load(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, 8);
    return word;
}

/* 32 bytes are read, whatever the size. */
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
    key[2] = (key_load(data + 16) | third) ^ (third & 0x0101010101010101u);
    key[3] = (key_load(data + 24) | fourth) ^ (fourth & 0x0101010101010101u);
}

/* `secret` is odd. */
static inline uint64_t key_hash(const uint64_t key[4], uint64_t seed, uint64_t secret)
{
    return hash_fold(key[0] ^ seed, key[1] ^ secret) ^ hash_fold(key[2] ^ secret, key[3] ^ seed);
}

/* A line of a table holds two short keys with up to 3 ids each, or one key of any length with up to 7. */
typedef struct {
    uint64_t key[4]; /* two halves: two short keys, or one key; a half that ends in 0 is empty */
    uint32_t ids[8]; /* ids[3] and ids[7]: how many the key of that half has, or a mark of the user's */
} KeyLine;

/* Whether the line has the key, and in which half. */
static inline int key_in_line(const KeyLine *line, const uint64_t key[4], size_t size, int *half)
{
    int is_long = size > KEY_SHORT;
    uint64_t low = is_long ? key[2] : key[0], high = is_long ? key[3] : key[1];
    int first = ((line->key[0] ^ key[0]) | (line->key[1] ^ key[1])) == 0;
    int second = ((line->key[2] ^ low) | (line->key[3] ^ high)) == 0;
    *half = !first;
    return is_long ? first & second : first | second;
}

#endif
