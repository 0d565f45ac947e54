/* How far bytes are valid UTF-8. */
#ifndef FASTBPE_VALID_H
#define FASTBPE_VALID_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The length of the character that begins here, or 0: none does that is complete and valid. */
static inline int valid_length(const uint8_t *data, size_t rest)
{
    uint8_t first = data[0];
    if (first < 0x80)
        return 1;
    if (first < 0xC2 || first > 0xF4 || rest < 2 || (data[1] & 0xC0) != 0x80)
        return 0;
    if (first < 0xE0)
        return 2;
    if (rest < 3 || (data[2] & 0xC0) != 0x80)
        return 0;
    if (first < 0xF0) /* not longer than it need be, and no surrogate */
        return (first == 0xE0 && data[1] < 0xA0) || (first == 0xED && data[1] > 0x9F) ? 0 : 3;
    if (rest < 4 || (data[3] & 0xC0) != 0x80)
        return 0;
    return (first == 0xF0 && data[1] < 0x90) || (first == 0xF4 && data[1] > 0x8F) ? 0 : 4;
}

/* The first place from `at` on, which begins a character, where no valid one begins. */
static inline size_t valid_end(const uint8_t *data, size_t at, size_t size)
{
    uint64_t words[4];
    int length;
    while (at < size) {
        if (data[at] < 0x80) {
            while (at + 32 <= size) {
                memcpy(words, data + at, 32);
                if ((words[0] | words[1] | words[2] | words[3]) & 0x8080808080808080u)
                    break;
                at += 32;
            }
            while (at < size && data[at] < 0x80)
                at++;
        } else {
            length = valid_length(data + at, size - at);
            if (!length)
                return at;
            at += (size_t)length;
        }
    }
    return size;
}

/* Whether the bytes at the end of what is there may be the beginning of a character. */
static inline int valid_begun(const uint8_t *data, size_t rest)
{
    size_t wanted = data[0] >= 0xF0 ? 4 : data[0] >= 0xE0 ? 3 : 2, at;
    if (data[0] < 0xC2 || data[0] > 0xF4 || rest >= wanted)
        return 0;
    for (at = 1; at < rest; at++)
        if ((data[at] & 0xC0) != 0x80)
            return 0;
    return 1;
}

#endif
