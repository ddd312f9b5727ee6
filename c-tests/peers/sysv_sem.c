/*
 * Knows only libc. sysv_sem echo FILE TIMES: takes from semaphore 0 of the set of ftok(FILE, 65) and adds to semaphore 1,
 * so many times. sysv_sem create FILE VALUE: makes a set of two the old way, with SETVAL and no operation.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>

union semun {
    int val;
};

static int change(int id, unsigned short number, short by) {
    struct sembuf op;
    op.sem_num = number;
    op.sem_op = by;
    op.sem_flg = 0;
    return semop(id, &op, 1);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "echo") == 0) {
        int id = semget(ftok(argv[2], 65), 2, 0), times = atoi(argv[3]);
        if (id == -1) return 1;
        while (times-- > 0)
            if (change(id, 0, -1) != 0 || change(id, 1, 1) != 0) return 1;
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "create") == 0) {
        int id = semget(ftok(argv[2], 65), 2, IPC_CREAT | IPC_EXCL | 0600);
        union semun to;
        to.val = atoi(argv[3]);
        return id == -1 || semctl(id, 0, SETVAL, to) != 0;
    }
    fprintf(stderr, "usage: sysv_sem echo FILE TIMES | sysv_sem create FILE VALUE\n");
    return 2;
}
