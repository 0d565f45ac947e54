/* A hash of bytes whose seed no stranger knows: each 8 bytes are multiplied by a secret and the halves of the product
 * folded together, so that no difference between two texts cancels for every seed. */
#ifndef FASTBPE_HASH_H
#define FASTBPE_HASH_H

#include <stdint.h>
#include <string.h>

static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
#if defined(__SIZEOF_INT128__)
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t low = (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu), high = (a >> 32) * (b >> 32);
    uint64_t cross = (a & 0xFFFFFFFFu) * (b >> 32) + (low >> 32), other = (a >> 32) * (b & 0xFFFFFFFFu);
    uint64_t middle = (cross & 0xFFFFFFFFu) + (other & 0xFFFFFFFFu);
    high += (cross >> 32) + (other >> 32) + (middle >> 32);
    return (middle << 32 | (low & 0xFFFFFFFFu)) ^ high;
#endif
}

/* The first bytes of eight, fewer than all, as they lie in memory; zeros for the others. */
static inline uint64_t hash_lowest(uint64_t word, size_t size)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return size ? word >> (64 - 8 * size) << (64 - 8 * size) : 0;
#else
    return word & (((uint64_t)1 << 8 * size) - 1);
#endif
}

/* `secret` is odd. */
static inline uint64_t hash_of_bytes(const uint8_t *data, size_t size, uint64_t seed, uint64_t secret)
{
    uint64_t value = seed ^ size, word;
    while (size >= 8) {
        memcpy(&word, data, 8);
        value = hash_fold(value ^ word, secret) + seed;
        data += 8;
        size -= 8;
    }
    word = 0;
    memcpy(&word, data, size);
    return hash_fold(hash_fold(value ^ word, secret) + seed, secret);
}

/* The same hash, where up to seven bytes behind the data may be read. */
static inline uint64_t hash_of_padded(const uint8_t *data, size_t size, uint64_t seed, uint64_t secret)
{
    uint64_t value = seed ^ size, word;
    for (; size >= 8; data += 8, size -= 8) {
        memcpy(&word, data, 8);
        value = hash_fold(value ^ word, secret) + seed;
    }
    memcpy(&word, data, 8);
    word = hash_lowest(word, size);
    return hash_fold(hash_fold(value ^ word, secret) + seed, secret);
}

/* Whether some bytes are the same, up to seven bytes behind which may be read too. */
static inline int hash_same(const uint8_t *one, const uint8_t *other, size_t size)
{
    uint64_t a, b;
    for (; size >= 8; one += 8, other += 8, size -= 8) {
        memcpy(&a, one, 8);
        memcpy(&b, other, 8);
        if (a != b)
            return 0;
    }
    memcpy(&a, one, 8);
    memcpy(&b, other, 8);
    return !hash_lowest(a ^ b, size);
}

#endif
