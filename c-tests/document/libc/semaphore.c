/* The document's semaphore program with plain system calls, to compare with: semaphore [SECONDS [remove]]. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <time.h>

union semun {
    int val;
    struct semid_ds *buf;
};

static int change(int id, short by, int flags) {
    struct sembuf op;
    op.sem_num = 0;
    op.sem_op = by;
    op.sem_flg = (short)flags;
    return semop(id, &op, 1);
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    struct timespec work;
    FILE *file = fopen("semfile", "a");
    key_t key;
    int id;

    if (file == NULL || fclose(file) != 0) return 1;
    key = ftok("semfile", 65);
    if (key == -1) return 1;
    id = semget(key, 1, 0666 | IPC_CREAT | IPC_EXCL);
    if (id != -1) {
        if (change(id, 1, 0) != 0) return 1; /* one operation: others see it without a value, or with it */
    } else {
        if (errno != EEXIST || (id = semget(key, 1, 0)) == -1) return 1;
    }

    if (change(id, -1, SEM_UNDO) != 0) return 1;
    printf("In critical section\n");
    work.tv_sec = (time_t)seconds;
    work.tv_nsec = (long)((seconds - (double)work.tv_sec) * 1e9);
    nanosleep(&work, NULL);
    if (change(id, 1, SEM_UNDO) != 0) return 1;

    if (argc > 2 && strcmp(argv[2], "remove") == 0) return semctl(id, 0, IPC_RMID) != 0;
    return 0;
}
