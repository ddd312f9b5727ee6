/* Worker processes count primes, each task a range; one task kills its worker, and is the only one that is lost. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wigwag.h>

#define TASKS 10
#define EACH 10000

static void check(int result) {
    if (result >= 0) return;
    fprintf(stderr, "%s\n", ww_last_error());
    exit(1);
}

static int is_prime(unsigned n) {
    unsigned d;
    for (d = 2; d * d <= n; d++)
        if (n % d == 0) return 0;
    return n > 1;
}

/* In a worker: the task is a number, from which on it counts. */
static int count_primes(const void *task, size_t length, ww_answer *answer, void *user) {
    unsigned from, n, count = 0;
    (void)user;
    if (length != sizeof from) return -EINVAL;
    memcpy(&from, task, sizeof from);
    for (n = from; n < from + EACH; n++) count += is_prime(n);
    return ww_answer_put(answer, &count, sizeof count);
}

static int die(const void *task, size_t length, ww_answer *answer, void *user) {
    (void)task, (void)length, (void)answer, (void)user;
    return raise(SIGKILL);
}

int main(int argc, char **argv) {
    const ww_pool_function functions[] = {{"count", count_primes, NULL}, {"die", die, NULL}};
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    ww_pool_task *tasks[TASKS], *lost;
    unsigned primes = 0, count, from, i;
    ww_verdict verdict;
    ww_pool *pool;
    options.workers = 2;
    options.address = argc > 1 ? argv[1] : "pipe:";
    check(ww_pool_start(&pool, &options, functions, 2));
    for (i = 0; i < TASKS; i++) {
        from = i * EACH;
        check(ww_pool_submit(pool, &tasks[i], "count", &from, sizeof from, NULL, WW_FOREVER));
        if (i == TASKS / 2) check(ww_pool_submit(pool, &lost, "die", NULL, 0, NULL, WW_FOREVER));
    }
    for (i = 0; i < TASKS; i++) {
        check(ww_pool_task_wait(tasks[i], &verdict, WW_FOREVER));
        if (verdict.state != WW_TASK_DONE || verdict.length != sizeof count) {
            fprintf(stderr, "%s\n", verdict.text);
            return 1;
        }
        memcpy(&count, verdict.data, sizeof count);
        primes += count;
        ww_pool_task_close(tasks[i]);
    }
    check(ww_pool_task_wait(lost, &verdict, WW_FOREVER));
    printf("%u primes below %d; 1 task lost by signal %d\n", primes, TASKS * EACH, verdict.signal);
    ww_pool_task_close(lost);
    check(ww_pool_shutdown(pool, 0, WW_FOREVER));
    ww_pool_close(pool);
    return 0;
}
