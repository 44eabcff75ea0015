// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Runs in a client: how long system calls on one file system take. Usage: latency DIRECTORY COUNT MILLISECONDS
//
// DIRECTORY has a file `data` of DATA bytes or more, which stays open; a file `small`, which is looked up and opened, and which the
// client so does not keep in mind if it keeps nothing; and a directory `many`. Each operation is done COUNT times, or for so many
// milliseconds if those are over first, but ten times at least. Prints a line for each: its name, then the nanoseconds of each time.

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 1024, DATA = BLOCK * BLOCKS, LEAST = 10 };

static int directory, data;
static char *buffer;
static unsigned long random_state = 1;

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static off_t some_block(void) {
    random_state = random_state * 6364136223846793005UL + 1442695040888963407UL;
    return (off_t)(random_state >> 33) % BLOCKS * BLOCK;
}

// Each gives the nanoseconds of the one call that it is about.

static long long getattr(void) {
    struct stat attributes;
    long long start = now();
    int result = fstat(data, &attributes);
    long long end = now();
    check(result == 0, "fstat");
    return end - start;
}

static long long walk(void) {
    long long start = now();
    int result = faccessat(directory, "small", F_OK, 0);
    long long end = now();
    check(result == 0, "faccessat");
    return end - start;
}

static long long open_file(void) {
    long long start = now();
    int file = openat(directory, "small", O_RDONLY);
    long long end = now();
    check(file >= 0, "open");
    close(file);
    return end - start;
}

static long long read_block(void) {
    off_t offset = some_block();
    long long start = now();
    ssize_t count = pread(data, buffer, BLOCK, offset);
    long long end = now();
    check(count == BLOCK, "pread");
    return end - start;
}

static long long write_block(void) {
    off_t offset = some_block();
    long long start = now();
    ssize_t count = pwrite(data, buffer, BLOCK, offset);
    long long end = now();
    check(count == BLOCK, "pwrite");
    return end - start;
}

static long long create(void) {
    long long start = now();
    int file = openat(directory, "new", O_WRONLY | O_CREAT | O_EXCL, 0644);
    long long end = now();
    check(file >= 0, "create");
    close(file);
    check(unlinkat(directory, "new", 0) == 0, "unlink");
    return end - start;
}

static long long unlink_file(void) {
    int file = openat(directory, "new", O_WRONLY | O_CREAT | O_EXCL, 0644);
    check(file >= 0, "create");
    close(file);
    long long start = now();
    int result = unlinkat(directory, "new", 0);
    long long end = now();
    check(result == 0, "unlink");
    return end - start;
}

static long long read_directory(void) {
    static char entries[64 << 10];
    int many = openat(directory, "many", O_RDONLY | O_DIRECTORY);
    check(many >= 0, "many");
    long count;
    long long start = now();
    do {
        count = syscall(SYS_getdents64, many, entries, sizeof entries);
    } while (count > 0);
    long long end = now();
    check(count == 0, "getdents64");
    close(many);
    return end - start;
}

static long long synchronize(void) {
    check(pwrite(data, buffer, BLOCK, some_block()) == BLOCK, "pwrite");
    long long start = now();
    int result = fsync(data);
    long long end = now();
    check(result == 0, "fsync");
    return end - start;
}

static const struct {
    const char *name;
    long long (*once)(void);
} operations[] = {
    {"getattr", getattr}, {"walk", walk},     {"open", open_file},     {"read", read_block}, {"write", write_block},
    {"create", create},   {"unlink", unlink_file}, {"readdir", read_directory}, {"fsync", synchronize},
};

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: latency DIRECTORY COUNT MILLISECONDS\n");
        return 2;
    }
    directory = open(arguments[1], O_RDONLY | O_DIRECTORY);
    check(directory >= 0, arguments[1]);
    // Past the client's pages, where the file system lets it.
    data = openat(directory, "data", O_RDWR | O_DIRECT);
    check(data >= 0, "data");
    long most = atol(arguments[2]);
    long long limit = atoll(arguments[3]) * 1000000;
    long long *times = malloc(sizeof *times * (most > LEAST ? most : LEAST));
    check(times && posix_memalign((void **)&buffer, BLOCK, BLOCK) == 0, "memory");
    memset(buffer, 1, BLOCK);
    for (size_t number = 0; number < sizeof operations / sizeof *operations; ++number) {
        // The first one finds what the others find already there.
        operations[number].once();
        long done = 0;
        long long start = now();
        while (done < LEAST || (done < most && now() - start < limit)) {
            times[done++] = operations[number].once();
        }
        printf("%s", operations[number].name);
        for (long index = 0; index < done; ++index) {
            printf(" %lld", times[index]);
        }
        putchar('\n');
    }
    return 0;
}
