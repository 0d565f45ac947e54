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
#endif
