// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Runs in a client: POSIX record locks (fcntl(2)), for which no shell has a command. Usage: range_lock FILE, and on standard input
// lines of
//
//   try START LENGTH    takes the range for writing: says "locked", or "busy" if another has some of it
//   wait START LENGTH   as try, but waits until it is free
//   give START LENGTH   gives the range back: says "free"
//   who START LENGTH    what would be in the way: says "nobody", or "read" or "write", start and length

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
    int file = count == 2 ? open(arguments[1], O_RDWR | O_CREAT, 0666) : -1;
    if (file < 0) {
        perror("range_lock");
        return 1;
    }
    char what[8];
    long long start, length;
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (scanf("%7s %lld %lld", what, &start, &length) == 3) {
        int is_give = !strcmp(what, "give");
        struct flock range = {is_give ? F_UNLCK : F_WRLCK, SEEK_SET, start, length, 0};
        int command = !strcmp(what, "wait") ? F_SETLKW : !strcmp(what, "who") ? F_GETLK : F_SETLK;
        int result = fcntl(file, command, &range);
        if (result < 0 && errno != EAGAIN && errno != EACCES) {
            printf("error: %s\n", strerror(errno));
        } else if (result < 0) {
            printf("busy\n");
        } else if (command != F_GETLK) {
            printf("%s\n", is_give ? "free" : "locked");
        } else if (range.l_type == F_UNLCK) {
            printf("nobody\n");
        } else {
            const char *type = range.l_type == F_RDLCK ? "read" : "write";
            printf("%s %lld %lld\n", type, (long long)range.l_start, (long long)range.l_len);
        }
    }
    return 0;
}
