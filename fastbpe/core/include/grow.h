/* Zeroed memory that grows in place of being copied where the system can move pages, and goes back when it is freed. */
#ifndef FASTBPE_GROW_H
#define FASTBPE_GROW_H

#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/mman.h>
#ifndef MREMAP_MAYMOVE
#define MREMAP_MAYMOVE 1
#endif
extern void *mremap(void *, size_t, size_t, int, ...);

/* Returns NULL on failure, which leaves the memory as it was.  Both sizes are over 0, but that of no memory. */
static inline void *grow(void *memory, size_t size, size_t wanted)
{
    void *result = memory ? mremap(memory, size, wanted, MREMAP_MAYMOVE)
                          : mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return result == MAP_FAILED ? NULL : result;
}

static inline void grow_free(void *memory, size_t size)
{
    if (memory)
        munmap(memory, size);
}

#else

static inline void *grow(void *memory, size_t size, size_t wanted)
{
    char *result = (char *)realloc(memory, wanted);
    if (result && wanted > size)
        memset(result + size, 0, wanted - size);
    return result;
}

static inline void grow_free(void *memory, size_t size)
{
    (void)size;
    free(memory);
}

#endif
/* What follows knows its size.  From 128 KB on it has pages of its own, which go back when it is freed: the heap would
 * keep them, since malloc takes ever larger pieces from there, and between them are small ones. */
#define SIZED_HEAD 16
#define SIZED_PAGES ((size_t)128 << 10)

static inline void sized_free(void *memory)
{
    char *begin = memory ? (char *)memory - SIZED_HEAD : NULL;
    size_t size = begin ? *(size_t *)begin : 0;
    if (size >= SIZED_PAGES)
        grow_free(begin, size);
    else
        free(begin);
}

/* Returns NULL on failure, which leaves the memory as it was. */
static inline void *sized(void *memory, size_t wanted)
{
    char *begin = memory ? (char *)memory - SIZED_HEAD : NULL, *result;
    size_t size = begin ? *(size_t *)begin : 0;
    wanted += SIZED_HEAD;
    if (size < SIZED_PAGES && wanted < SIZED_PAGES)
        result = (char *)realloc(begin, wanted);
    else if (size >= SIZED_PAGES && wanted >= SIZED_PAGES)
        result = (char *)grow(begin, size, wanted);
    else {
        result = wanted < SIZED_PAGES ? (char *)malloc(wanted) : (char *)grow(NULL, 0, wanted);
        if (result && begin) {
            memcpy(result, begin, size < wanted ? size : wanted);
            sized_free(memory);
        }
    }
    if (!result)
        return NULL;
    *(size_t *)result = wanted;
    return result + SIZED_HEAD;
}

#endif
