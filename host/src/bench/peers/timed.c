// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Runs in a client: how long a program takes. Usage: timed NAME PROGRAM [ARGUMENT ...]
//
// Runs the program with its standard output dropped, and prints the name and the nanoseconds that passed. Fails if the program does.

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: timed NAME PROGRAM [ARGUMENT ...]\n");
        return 2;
    }
    long long start = now();
    pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
        execvp(arguments[2], arguments + 2);
        perror(arguments[2]);
        _exit(127);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "timed: %s failed\n", arguments[1]);
        return 1;
    }
    printf("%s %lld\n", arguments[1], now() - start);
    return 0;
}
