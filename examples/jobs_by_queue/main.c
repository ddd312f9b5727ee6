/*
 * Producers and consumers over a queue, whichever the address names: sysv-mq:.#65, mq:/jobs?depth=8&size=64,
 * ring:jobs?capacity=4096&largest=64.
 *
 * The queue bounds how far producers are ahead. When they have ended, each consumer is told to stop. One job kills the
 * consumer that takes it, with SIGKILL: that job is lost and counted, and nothing else.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

enum { PRODUCERS = 3, CONSUMERS = 3, EACH = 100 };
#define PATIENCE WW_SEC(30)

static ssize_t check(ssize_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
    return code;
}

static void produce(const char *address, int producer) {
    ww_channel *jobs;
    char job[64];
    int number;
    check(ww_channel_open_sender(&jobs, address, PATIENCE));
    for (number = 0; number < EACH; number++) {
        snprintf(job, sizeof job, "job %d of %d", number, producer);
        if (producer == 1 && number == 50) strcpy(job, "fatal");
        check(ww_channel_send(jobs, job, strlen(job) + 1, PATIENCE));
    }
    ww_channel_close(jobs);
}

static void consume(const char *address, const ww_channel *done) {
    ww_channel *jobs;
    char job[64];
    ssize_t size;
    check(ww_channel_open_receiver(&jobs, address, PATIENCE));
    for (;;) {
        size = check(ww_channel_recv(jobs, job, sizeof job, PATIENCE, NULL, NULL, NULL));
        if (strcmp(job, "stop") == 0) break;
        if (strcmp(job, "fatal") == 0) kill(getpid(), SIGKILL);
        check(ww_channel_send(done, job, (size_t)size, PATIENCE));
    }
    ww_channel_close(jobs);
}

/* What came back: how often each job was done. */
static int seen[PRODUCERS][EACH];

/* 0 once every consumer has ended. */
static int take_results(const ww_channel *results) {
    char job[64];
    ssize_t size;
    int number, producer;
    while ((size = ww_channel_recv(results, job, sizeof job, WW_NOW, NULL, NULL, NULL)) >= 0)
        if (sscanf(job, "job %d of %d", &number, &producer) == 2) seen[producer][number]++;
    if (size != -EAGAIN && size != -EPIPE) check(size);
    return size == -EAGAIN;
}

int main(int argc, char **argv) {
    ww_channel *jobs, *results, *done;
    ww_waitset *waitset;
    pid_t children[CONSUMERS + PRODUCERS]; /* consumers first */
    int n, producers = PRODUCERS, running, sent = 0, finished = 0, twice = 0, killed = 0;

    if (argc != 2) return 2;
    check(ww_channel_open_sender(&jobs, argv[1], PATIENCE));
    check(ww_channel_pair(&results, &done, "pipe:"));
    for (n = 0; n < CONSUMERS + PRODUCERS; n++) {
        children[n] = fork();
        if (children[n] == 0) {
            if (n < CONSUMERS) consume(argv[1], done);
            else produce(argv[1], n - CONSUMERS);
            _exit(0);
        }
    }
    ww_channel_close(done);
    check(ww_waitset_new(&waitset));
    check(ww_waitset_add_fd(waitset, (int)check(ww_channel_fd(results, NULL)), WW_READABLE, 100));
    for (n = 0; n < CONSUMERS + PRODUCERS; n++) check(ww_waitset_add_child(waitset, children[n], (uint64_t)n));
    for (running = CONSUMERS + PRODUCERS + 1; running > 0;) {
        ww_waitset_event events[8];
        ssize_t ready = check(ww_waitset_wait(waitset, events, 8, PATIENCE));
        for (n = 0; n < ready; n++) {
            uint64_t token = events[n].token;
            int status;
            if (token == 100 && take_results(results)) continue;
            check(ww_waitset_remove(waitset, token));
            running--;
            if (token == 100) continue;
            waitpid(children[token], &status, 0);
            killed += WIFSIGNALED(status);
            if (token < CONSUMERS) continue;
            if (status == 0) sent += EACH;
            if (--producers == 0) {
                const ww_bytes stop[CONSUMERS] = {{"stop", 5}, {"stop", 5}, {"stop", 5}};
                check(ww_channel_send_batch(jobs, stop, CONSUMERS, PATIENCE, NULL));
            }
        }
    }
    ww_waitset_close(waitset);
    ww_channel_close(results);
    ww_channel_close(jobs);
    check(ww_channel_remove(argv[1]));
    for (n = 0; n < PRODUCERS * EACH; n++) {
        int times = seen[n / EACH][n % EACH];
        finished += times;
        twice += times > 1;
    }
    printf("%d sent, %d done, %d of them twice, %d lost with %d consumer killed\n", sent, finished, twice, sent - finished,
           killed);
    return 0;
}
