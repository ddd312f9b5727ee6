/* Pools of worker processes. */
#include "test.h"

#include <ctype.h>
#include <signal.h>

static int upper(const void *task, size_t length, ww_answer *answer, void *user) {
    const unsigned char *text = task;
    char letter;
    size_t i;
    for (i = 0; i < length; i++) {
        letter = (char)toupper(text[i]);
        if (ww_answer_put(answer, &letter, 1) != 0) return -EIO;
    }
    return user ? ww_answer_put(answer, user, strlen(user)) : 0;
}

static int die(const void *task, size_t length, ww_answer *answer, void *user) {
    (void)answer, (void)user;
    fprintf(stderr, "about to go: %.*s\n", (int)length, (const char *)task);
    return raise(SIGKILL);
}

static int refuse(const void *task, size_t length, ww_answer *answer, void *user) {
    (void)user;
    ww_answer_put(answer, task, length);
    return -EINVAL;
}

static int nap(const void *task, size_t length, ww_answer *answer, void *user) {
    (void)task, (void)length, (void)answer, (void)user;
    return usleep(60000000);
}

static const ww_pool_function functions[] = {
    {"upper", upper, "!"}, {"die", die, NULL}, {"refuse", refuse, NULL}, {"nap", nap, NULL}};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

/* This program as a pool's worker. */
__attribute__((constructor)) static void serve(void) {
    int code;
    if (getenv("WIGWAG_WORKER") == NULL) return;
    code = ww_worker_serve(functions, FUNCTIONS);
    if (code != 0) fprintf(stderr, "%s\n", ww_last_error());
    _exit(code == 0 ? 0 : 1);
}

static ww_pool *start(const ww_pool_options *options) {
    ww_pool *pool;
    OK(ww_pool_start(&pool, options, functions, FUNCTIONS));
    return pool;
}

static ww_pool_task *submit(ww_pool *pool, const char *function, const char *text) {
    ww_pool_task *task;
    OK(ww_pool_submit(pool, &task, function, text, strlen(text), NULL, GENEROUS));
    return task;
}

TEST(each_task_has_a_verdict) {
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    ww_pool_statistics seen;
    ww_pool_worker workers[4];
    ww_pool_task *tasks[100], *task;
    ww_verdict verdict;
    ww_pool *pool;
    int i;
    options.workers = 2;
    pool = start(&options);
    for (i = 0; i < 100; i++) tasks[i] = submit(pool, i == 50 ? "die" : i == 60 ? "refuse" : "upper", "text");
    for (i = 0; i < 100; i++) {
        OK(ww_pool_task_wait(tasks[i], &verdict, GENEROUS));
        if (i == 50) {
            CHECK(verdict.state == WW_TASK_LOST && verdict.reason == WW_DEATH_OWN && verdict.signal == SIGKILL);
            CHECK(verdict.pid > 0 && verdict.deaths == 1 && verdict.exit_code == -1 && verdict.peak_memory > 0);
            CHECK(strstr(verdict.text, "about to go: text") != NULL);
        } else if (i == 60) {
            CHECK(verdict.state == WW_TASK_FAILED && strstr(verdict.text, "text") != NULL);
            CHECK(verdict.length == 4 && memcmp(verdict.data, "text", 4) == 0);
        } else {
            CHECK(verdict.state == WW_TASK_DONE && verdict.length == 5 && memcmp(verdict.data, "TEXT!", 5) == 0);
        }
        ww_pool_task_close(tasks[i]);
    }
    OK(ww_pool_get_statistics(pool, &seen, workers, 4));
    CHECK(seen.submitted == 100 && seen.done == 98 && seen.lost == 1 && seen.failed == 1 && seen.deaths == 1);
    while (seen.started < 3) { /* the dead worker's verdict comes before its successor */
        sleep_ms(1);
        OK(ww_pool_get_statistics(pool, &seen, workers, 4));
    }
    CHECK(seen.workers >= 1 && workers[0].pid > 0);
    CHECK_ERROR(ww_pool_submit(pool, &task, "nothing", "", 0, NULL, WW_NOW), -EINVAL, "upper, die, refuse, nap");
    OK(ww_pool_shutdown(pool, 0, GENEROUS));
    CHECK_ERROR(ww_pool_submit(pool, &task, "upper", "", 0, NULL, WW_NOW), -EPIPE, "shut down");
    ww_pool_close(pool);
}

TEST(limits_and_cancelling) {
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    ww_task_options of_task = WW_TASK_OPTIONS_INIT;
    ww_pool_task *slow, *queued, *late;
    ww_verdict verdict;
    ww_pool *pool;
    options.workers = 1;
    options.queue = 1;
    options.least_workers = WW_POOL_NO_WORKERS;
    pool = start(&options);
    of_task.reserved = 1;
    CHECK_ERROR(ww_pool_submit(pool, &slow, "nap", NULL, 0, &of_task, GENEROUS), -EINVAL, "reserved");
    of_task.reserved = 0;
    of_task.timeout_ns = WW_SEC(1) / 20;
    OK(ww_pool_submit(pool, &slow, "nap", NULL, 0, &of_task, GENEROUS));
    OK(ww_pool_task_wait(slow, &verdict, GENEROUS));
    CHECK(verdict.state == WW_TASK_LOST && verdict.reason == WW_DEATH_TIMEOUT);
    CHECK(strstr(verdict.text, "50ms") != NULL);
    ww_pool_task_close(slow);
    OK(ww_pool_submit_to(pool, &slow, 3, NULL, 0, NULL, GENEROUS));
    CHECK_ERROR(ww_pool_task_wait(slow, &verdict, SHORT), -ETIMEDOUT, "wait for task");
    OK(ww_pool_submit(pool, &queued, "upper", "a", 1, NULL, GENEROUS));
    CHECK_INT(ww_pool_task_cancel(queued, 0), 1);
    OK(ww_pool_task_wait(queued, &verdict, GENEROUS));
    CHECK_INT(verdict.state, WW_TASK_CANCELLED);
    CHECK_INT(ww_pool_task_cancel(queued, 1), 0);
    ww_pool_task_close(queued);
    CHECK_INT(ww_pool_task_cancel(slow, 1), 1);
    OK(ww_pool_task_wait(slow, &verdict, GENEROUS));
    CHECK_INT(verdict.state, WW_TASK_CANCELLED);
    ww_pool_task_close(slow);
    late = submit(pool, "upper", "still");
    OK(ww_pool_task_wait(late, &verdict, GENEROUS));
    CHECK(verdict.length == 6 && memcmp(verdict.data, "STILL!", 6) == 0);
    ww_pool_close(pool);
    ww_pool_task_close(late);
}

struct waiter {
    ww_pool_task *task;
    int thread;
};

static void *wait_for_a_closing_task(void *given) {
    struct waiter *waiter = given;
    ww_verdict verdict;
    __atomic_store_n(&waiter->thread, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    return ww_pool_task_wait(waiter->task, &verdict, GENEROUS) == -ECANCELED ? NULL : given;
}

TEST(closing_a_task_ends_its_waits) {
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    struct waiter waiter = {NULL, 0};
    pthread_t thread;
    void *failed;
    ww_pool *pool;
    options.workers = 1;
    pool = start(&options);
    waiter.task = submit(pool, "nap", "");
    OK(pthread_create(&thread, NULL, wait_for_a_closing_task, &waiter));
    while (__atomic_load_n(&waiter.thread, __ATOMIC_SEQ_CST) == 0) sleep_ms(1);
    until_thread_is_blocked(waiter.thread); /* the pool's own threads sleep as well */
    ww_pool_task_close(waiter.task);
    OK(pthread_join(thread, &failed));
    CHECK(failed == NULL);
    ww_pool_close(pool);
}

TEST(what_kills_each_of_its_workers_is_set_aside) {
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    ww_pool_task *task;
    ww_verdict verdict;
    ww_death death;
    ww_pool *pool;
    size_t i;
    pid_t before = 0;
    options.workers = 1;
    options.retries = 2;
    pool = start(&options);
    task = submit(pool, "die", "again");
    OK(ww_pool_task_wait(task, &verdict, GENEROUS));
    CHECK(verdict.state == WW_TASK_POISON && verdict.deaths == 3 && verdict.signal == SIGKILL);
    for (i = 0; i < 3; i++) {
        OK(ww_pool_task_death(task, i, &death));
        CHECK(death.signal == SIGKILL && death.exit_code == -1 && death.reason == WW_DEATH_OWN && death.peak_memory > 0);
        CHECK(strstr(death.last_words, "about to go: again") != NULL && (i == 0 || death.pid != before));
        before = death.pid;
    }
    CHECK_INT(before, verdict.pid);
    CHECK_ERROR(ww_pool_task_death(task, 3, &death), -ENOENT, "3 workers");
    ww_pool_task_close(task);
    task = submit(pool, "nap", "");
    CHECK_INT(ww_pool_task_death(task, 0, &death), -EAGAIN);
    CHECK_INT(ww_pool_task_wait(task, NULL, WW_FOREVER), -EFAULT);
    ww_pool_task_close(task);
    ww_pool_close(pool);
}

TEST(verdicts_come_as_they_are) {
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    ww_task_options as_long_as_it_likes = WW_TASK_OPTIONS_INIT;
    ww_pool_task *ended[8];
    ww_verdict verdict;
    uint64_t number, numbers = 0, seen = 0;
    ssize_t count, at;
    ww_pool *pool;
    int i;
    options.workers = 2;
    options.task_timeout_ns = WW_FOREVER;
    as_long_as_it_likes.timeout_ns = WW_FOREVER;
    pool = start(&options);
    CHECK_INT(ww_pool_collect(pool, ended, 8, WW_NOW), -EAGAIN);
    CHECK_INT(ww_pool_collect(pool, ended, 0, WW_NOW), -EINVAL);
    for (i = 0; i < 20; i++) {
        OK(ww_pool_submit_collected(pool, &number, i == 7, "text", 4, &as_long_as_it_likes, GENEROUS));
        numbers += number;
    }
    for (i = 0; i < 20; i += (int)count) {
        count = ww_pool_collect(pool, ended, 8, GENEROUS);
        CHECK(count > 0 && count <= 8);
        for (at = 0; at < count; at++) {
            OK(ww_pool_task_wait(ended[at], &verdict, WW_NOW));
            CHECK(verdict.state == WW_TASK_LOST || (verdict.state == WW_TASK_DONE && memcmp(verdict.data, "TEXT!", 5) == 0));
            CHECK_INT(ww_pool_task_cancel(ended[at], 1), 0);
            seen += verdict.task;
            ww_pool_task_close(ended[at]);
        }
    }
    CHECK_INT(seen, numbers);
    OK(ww_pool_shutdown(pool, 0, GENEROUS));
    CHECK_INT(ww_pool_collect(pool, ended, 8, GENEROUS), 0);
    ww_pool_close(pool);
}

static void *collects(void *pool) {
    ww_pool_task *ended;
    return ww_pool_collect(pool, &ended, 1, GENEROUS) == -ECANCELED ? NULL : "not ended";
}

static void *awaits(void *task) {
    ww_verdict verdict;
    return ww_pool_task_wait(task, &verdict, GENEROUS) == -ECANCELED ? NULL : "not ended";
}

TEST(waits_in_a_pool_can_be_ended) {
    ww_pool *pool = start(NULL);
    ww_pool_task *task = submit(pool, "nap", "");
    pthread_t thread;
    void *failed;
    CHECK_INT(pthread_create(&thread, NULL, awaits, task), 0);
    OK(ww_pool_task_end_waits(task));
    CHECK_INT(pthread_join(thread, &failed), 0);
    if (failed != NULL) FAIL("%s", (char *)failed);
    ww_pool_task_close(task);
    CHECK_INT(pthread_create(&thread, NULL, collects, pool), 0);
    OK(ww_pool_end_waits(pool));
    CHECK_INT(pthread_join(thread, &failed), 0);
    if (failed != NULL) FAIL("%s", (char *)failed);
    ww_pool_close(pool);
}

TEST(workers_can_be_a_program) {
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    char self[4096] = {0};
    const char *program[] = {self, NULL}, *missing[] = {NULL};
    ww_pool_task *tasks[20], *task;
    ww_verdict verdict;
    ww_pool *pool;
    int i;
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    options.workers = 2;
    OK(ww_pool_start_program(&pool, &options, program));
    for (i = 0; i < 20; i++) OK(ww_pool_submit_to(pool, &tasks[i], i == 10 ? 1 : 0, "text", 4, NULL, GENEROUS));
    for (i = 0; i < 20; i++) {
        OK(ww_pool_task_wait(tasks[i], &verdict, GENEROUS));
        CHECK_INT(verdict.state, i == 10 ? WW_TASK_LOST : WW_TASK_DONE);
        ww_pool_task_close(tasks[i]);
    }
    OK(ww_pool_submit_to(pool, &task, 99, "text", 4, NULL, GENEROUS));
    OK(ww_pool_task_wait(task, &verdict, GENEROUS));
    CHECK(verdict.state == WW_TASK_FAILED && strstr(verdict.text, "no handler 99") != NULL);
    ww_pool_task_close(task);
    ww_pool_close(pool);
    CHECK_ERROR(ww_pool_start_program(&pool, &options, missing), -EINVAL, "no program");
    options.address = "ring:x";
    CHECK_ERROR(ww_pool_start_program(&pool, &options, program), -ENOTSUP, "pipe:");
    CHECK_ERROR(ww_worker_serve(functions, FUNCTIONS), -ENOENT, "a pool starts this program");
}

TEST(a_program_that_does_not_speak_fails_its_task) {
    const char *program[] = {"true", NULL};
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    ww_pool_task *task;
    ww_verdict verdict;
    ww_pool *pool;
    options.workers = 1;
    OK(ww_pool_start_program(&pool, &options, program));
    OK(ww_pool_submit_to(pool, &task, 0, "text", 4, NULL, GENEROUS));
    OK(ww_pool_task_wait(task, &verdict, GENEROUS));
    CHECK(verdict.state == WW_TASK_LOST && verdict.exit_code == 0);
    ww_pool_task_close(task);
    ww_pool_close(pool);
}

TEST(a_program_that_never_asks_for_a_task_is_killed) {
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    const char *program[] = {"sleep", "1000", NULL};
    ww_pool_task *task;
    ww_verdict verdict;
    ww_pool *pool;
    options.workers = 1;
    options.start_timeout_ns = 20 * 1000000;
    OK(ww_pool_start_program(&pool, &options, program));
    OK(ww_pool_submit_to(pool, &task, 0, "text", 4, NULL, GENEROUS));
    OK(ww_pool_task_wait(task, &verdict, GENEROUS));
    CHECK(verdict.state == WW_TASK_LOST && verdict.reason == WW_DEATH_START && verdict.signal == SIGKILL);
    ww_pool_task_close(task);
    ww_pool_close(pool);
}

TEST(what_is_wrong_is_refused) {
    ww_pool_options options = WW_POOL_OPTIONS_INIT;
    ww_pool_function nameless = {NULL, upper, NULL}, empty = {"empty", NULL, NULL};
    ww_verdict verdict;
    ww_pool *pool;
    CHECK_INT(ww_pool_start(NULL, NULL, functions, FUNCTIONS), -EFAULT);
    CHECK_INT(ww_pool_start(&pool, NULL, &nameless, 1), -EFAULT);
    CHECK_INT(ww_pool_start(&pool, NULL, &empty, 1), -EFAULT);
    options.workers = 1;
    options.least_workers = 2;
    CHECK_ERROR(ww_pool_start(&pool, &options, functions, FUNCTIONS), -EINVAL, "least number");
    options.least_workers = 0;
    options.task_timeout_ns = -2;
    CHECK_ERROR(ww_pool_start(&pool, &options, functions, FUNCTIONS), -EINVAL, "task_timeout_ns");
    options.task_timeout_ns = 0;
    options.start_timeout_ns = -2;
    CHECK_INT(ww_pool_start(&pool, &options, functions, FUNCTIONS), -EINVAL);
    options.start_timeout_ns = WW_FOREVER;
    options.reserved = 1;
    CHECK_ERROR(ww_pool_start(&pool, &options, functions, FUNCTIONS), -EINVAL, "reserved");
    CHECK_INT(ww_answer_put(NULL, "", 0), -EFAULT);
    CHECK_INT(ww_pool_task_wait(NULL, &verdict, WW_NOW), -EFAULT);
    CHECK_INT(ww_pool_task_cancel(NULL, 0), -EFAULT);
    CHECK_INT(ww_pool_shutdown(NULL, 0, WW_NOW), -EFAULT);
    CHECK_INT(ww_pool_get_statistics(NULL, NULL, NULL, 0), -EFAULT);
    ww_pool_close(NULL);
    ww_pool_task_close(NULL);
}
