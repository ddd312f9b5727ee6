/* Three workers log into one file, through what the address names; the process that writes is killed, and one of the workers.
 *
 * log:./asynchronous_log?file=asynchronous.log is through shared memory; with &through=mq or &through=sysv-mq it is through a
 * message queue. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

#define WORKERS 3
#define EACH 1000
#define FILE_NAME "asynchronous.log"

static const char *address = "log:./asynchronous_log?file=" FILE_NAME;

static void check(int result) {
    if (result >= 0) return;
    fprintf(stderr, "%s\n", ww_last_error());
    exit(1);
}

static void write_for_all(void) {
    ww_log *log;
    check(ww_log_open(&log, address, NULL));
    check(ww_log_serve(log, WW_FOREVER));
}

static void work(int worker) {
    ww_log *log;
    int number;
    check(ww_log_open(&log, address, NULL));
    for (number = 0; number < EACH; number++) {
        if (worker == 2 && number == EACH / 2) raise(SIGKILL);
        check(ww_log_info(log, "worker %d did %d", worker, number));
    }
    ww_log_close(log);
}

int main(int argc, char **argv) {
    ww_log_options options = WW_LOG_OPTIONS_INIT;
    ww_log_statistics seen;
    ww_log *log;
    pid_t children[WORKERS + 1];
    int worker, number, done[WORKERS] = {0};
    char line[400], *record;
    FILE *file;

    if (argc > 1) address = argv[1]; /* with the same file */
    options.no_writer = 1;
    check(ww_log_open(&log, address, &options));
    children[WORKERS] = fork();
    if (children[WORKERS] == 0) {
        write_for_all();
        return 0;
    }
    do {
        usleep(1000);
        check(ww_log_get_statistics(log, &seen));
    } while (seen.writer != (uint32_t)children[WORKERS]);
    for (worker = 0; worker < WORKERS; worker++) {
        children[worker] = fork();
        if (children[worker] == 0) {
            work(worker);
            return 0;
        }
    }
    do {
        usleep(1000);
        check(ww_log_get_statistics(log, &seen));
    } while (seen.written < 100);
    kill(children[WORKERS], SIGKILL); /* one of the workers takes over, at the exact record */
    for (worker = 0; worker <= WORKERS; worker++) waitpid(children[worker], NULL, 0);
    check(ww_log_drain(log, WW_SEC(30)));
    ww_log_close(log);

    file = fopen(FILE_NAME, "r");
    if (file == NULL) return 1;
    while (fgets(line, sizeof line, file) != NULL) {
        record = strstr(line, ": worker ");
        if (record == NULL || sscanf(record, ": worker %d did %d", &worker, &number) != 2 || worker < 0 ||
            worker >= WORKERS || number != done[worker]++) {
            fprintf(stderr, "each record once, and in order: %s", line);
            return 1;
        }
    }
    fclose(file);
    printf("Records of each worker: %d %d %d\n", done[0], done[1], done[2]);
    check(ww_log_remove(address));
    return remove(FILE_NAME);
}
