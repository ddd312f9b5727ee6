/*
 * Knows only libc. sem echo PING PONG TIMES: waits on the POSIX semaphore PING and posts PONG, so many times.
 * sem create NAME VALUE: makes one.
 */
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "echo") == 0) {
        sem_t *ping = sem_open(argv[2], 0), *pong = sem_open(argv[3], 0);
        int times = atoi(argv[4]);
        if (ping == SEM_FAILED || pong == SEM_FAILED) return 1;
        while (times-- > 0)
            if (sem_wait(ping) != 0 || sem_post(pong) != 0) return 1;
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "create") == 0)
        return sem_open(argv[2], O_CREAT | O_EXCL, 0600, (unsigned)atoi(argv[3])) == SEM_FAILED;
    fprintf(stderr, "usage: sem echo PING PONG TIMES | sem create NAME VALUE\n");
    return 2;
}
