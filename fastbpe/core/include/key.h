/* Pretokens as keys of four words, made and compared without a branch on the length.
 *
 * Behind the text, the first 16 bytes are filled up with FF and the others with FE, which never occur in UTF-8: the key
 * tells the length.  A pretoken of up to 15 bytes is told by its first half alone, which ends in FF.  One of more than
 * 31 has a hash of its bytes and its length in a first half that ends in FD; who finds it compares the bytes. */
#ifndef FASTBPE_KEY_H
#define FASTBPE_KEY_H

#include "hash.h"

#define KEY_LONGEST 31
#define KEY_SHORT 15
#define KEY_HASHED 256 /* bytes, at most, of a pretoken that is told by a hash */

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

static inline void key_make_hashed(const uint8_t *data, size_t size, uint64_t seed, uint64_t secret, uint64_t key[4])
{
    key[0] = hash_of_bytes(data, size, seed, secret);
    key[1] = (uint64_t)0xFD << 56 | size;
    key[2] = key[3] = 0xFEFEFEFEFEFEFEFEu;
}

/* Whether a key needs all four words. */
static inline int key_is_long(const uint64_t key[4]) { return key[1] >> 56 < 0xFD; }

/* `secret` is odd. */
static inline uint64_t key_hash(const uint64_t key[4], uint64_t seed, uint64_t secret)
{
    return hash_fold(key[0] ^ seed, key[1] ^ secret) ^ hash_fold(key[2] ^ secret, key[3] ^ seed);
}

/* A line of a table holds two keys of one half with up to 3 ids each, or one long key with up to 7. */
typedef struct {
    uint64_t key[4]; /* two halves; one that ends in 0 is empty */
    uint32_t ids[8]; /* ids[3] and ids[7]: how many the key of that half has, or a mark of the user's */
} KeyLine;

/* Whether the line has the key, and in which half. */
static inline int key_in_line(const KeyLine *line, const uint64_t key[4], int *half)
{
    int is_long = key_is_long(key);
    uint64_t low = is_long ? key[2] : key[0], high = is_long ? key[3] : key[1];
    int first = ((line->key[0] ^ key[0]) | (line->key[1] ^ key[1])) == 0;
    int second = ((line->key[2] ^ low) | (line->key[3] ^ high)) == 0;
    *half = !first;
    return is_long ? first & second : first | second;
}

#endif
