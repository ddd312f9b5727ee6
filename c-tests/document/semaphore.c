/*
 * The document's semaphore program on wigwag: a System V semaphore as a lock round a critical section.
 *
 *     semaphore [SECONDS [remove]]     how long to work inside, 2 by default; "remove" removes the set at the end
 *
 * What changed: the file that the key comes from is made if it is missing (the document's ftok fails without it, and goes
 * on with key -1); only the first process gives the semaphore its value (the document's sets it to 1 in every process,
 * and so opens the lock while another is inside); the kernel releases the lock of a process that dies inside; the wait is
 * bounded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <wigwag.h>

static void check(int code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    ww_sysv_sem_options options = WW_SYSV_SEM_OPTIONS_INIT;
    struct timespec work;
    ww_sysv_sem *lock;
    FILE *file = fopen("semfile", "a");

    if (file == NULL) {
        perror("semfile");
        return 1;
    }
    fclose(file);
    options.mode = 0666;
    options.initial = 1; /* binary */
    check(ww_sysv_sem_open_or_create(&lock, "sysv-sem:semfile#65", &options));

    check(ww_sysv_sem_acquire(lock, 0, WW_SEC(60)));
    printf("In critical section\n");
    work.tv_sec = (time_t)seconds;
    work.tv_nsec = (long)((seconds - (double)work.tv_sec) * 1e9);
    nanosleep(&work, NULL);
    check(ww_sysv_sem_release(lock, 0));

    if (argc > 2 && strcmp(argv[2], "remove") == 0) check(ww_sysv_sem_unlink(lock));
    ww_sysv_sem_close(lock);
    return 0;
}
