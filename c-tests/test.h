/*
 * A test program is a file with TEST(name) { … } blocks. Each test runs in a process of its own, under a watchdog, and
 * must leave no descriptor open. Exit status: 0 all passed or were skipped, 1 not.
 */
#ifndef WW_TEST_H
#define WW_TEST_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wigwag.h"

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};
static struct test *tests;
static const char *running; /* the name of the test that this process is */

#define TEST(name)                                                                                                     \
    static void test_##name(void);                                                                                     \
    __attribute__((constructor)) static void register_##name(void) {                                                   \
        static struct test test = {#name, test_##name, NULL};                                                          \
        test.next = tests;                                                                                             \
        tests = &test;                                                                                                 \
    }                                                                                                                  \
    static void test_##name(void)

/* Ends the test by a signal: at an exit, reports of what the test had open as leaks would bury the message. */
#define FAIL(...)                                                                                                      \
    do {                                                                                                               \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                                \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fprintf(stderr, "\n");                                                                                         \
        kill(getpid(), SIGKILL);                                                                                       \
        _exit(1); /* for the compiler */                                                                               \
    } while (0)

/* Ends a test that cannot run here; with CI=true the reason must stand in tests/skips.txt. */
#define SKIP(reason)                                                                                                   \
    do {                                                                                                               \
        printf("skip %s: %s\n", running, reason);                                                                      \
        fflush(stdout);                                                                                                \
        _exit(77);                                                                                                     \
    } while (0)

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) FAIL("not so: %s; last error: %s", #condition, ww_last_error());                             \
    } while (0)

/* The value of an expression, which must be this number. */
#define CHECK_INT(actual, expected)                                                                                    \
    do {                                                                                                               \
        long long a_ = (long long)(actual), e_ = (long long)(expected);                                                \
        if (a_ != e_) FAIL("%s is %lld, not %lld; last error: %s", #actual, a_, e_, ww_last_error());                  \
    } while (0)

#define OK(call) CHECK_INT(call, 0)

/* The call must fail with this negated errno, and the error's text must contain the words. */
#define CHECK_ERROR(call, code, words)                                                                                 \
    do {                                                                                                               \
        CHECK_INT(call, code);                                                                                         \
        if (strstr(ww_last_error(), words) == NULL)                                                                    \
            FAIL("the error of %s lacks \"%s\": %s", #call, words, ww_last_error());                                   \
    } while (0)

/* Long enough for anything that should happen. */
#define GENEROUS WW_SEC(30)
/* For waits that are expected to run out. */
#define SHORT WW_MS(20)

static inline void sleep_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Whether a thread of this process is blocked in a system call that a wait of the library sleeps in. */
static inline int is_blocked(int thread) {
    static const long sleeps[] = {SYS_ppoll,      SYS_msgrcv, SYS_msgsnd, SYS_semtimedop, SYS_semop, SYS_openat,
                                  SYS_fcntl,      SYS_futex,  SYS_connect, SYS_rt_sigtimedwait};
    char path[300], line[64] = "";
    FILE *file;
    size_t n;
    int blocked = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
    file = fopen(path, "r");
    if (file == NULL) return 0; /* it has ended meanwhile */
    if (fgets(line, sizeof line, file) != NULL && line[0] >= '0' && line[0] <= '9')
        for (n = 0; n < sizeof sleeps / sizeof *sleeps; n++) blocked |= sleeps[n] == atol(line);
    fclose(file);
    return blocked;
}

/* How many other threads of this process are. */
static inline int blocked_threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    int blocked = 0;
    CHECK(tasks != NULL);
    while ((task = readdir(tasks)) != NULL) {
        int thread = atoi(task->d_name);
        if (thread != 0 && thread != (int)syscall(SYS_gettid)) blocked += is_blocked(thread);
    }
    closedir(tasks);
    return blocked;
}

/* Returns when this many other threads wait: closing an object under a thread that does not yet would be undefined. */
static inline void until_blocked(int threads) {
    int looks, steady = 0;
    for (looks = 0; steady < 3; looks++) {
        steady = blocked_threads() >= threads ? steady + 1 : 0;
        if (looks > 30000) FAIL("%d threads are blocked, not %d", blocked_threads(), threads);
        sleep_ms(1);
    }
}

/* As until_blocked(), for one thread among others that wait. */
static inline void until_thread_is_blocked(int thread) {
    int looks, steady = 0;
    for (looks = 0; steady < 3; looks++) {
        steady = is_blocked(thread) ? steady + 1 : 0;
        if (looks > 30000) FAIL("thread %d is not blocked", thread);
        sleep_ms(1);
    }
}

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A name that no other test and no other run uses; good until the next call. */
static inline const char *fresh_name(const char *prefix) {
    static char name[64];
    static int count;
    snprintf(name, sizeof name, "wwctest-%s-%d-%d", prefix, (int)getpid(), count++);
    return name;
}

/* Reaps a child that must have ended with this status. */
static inline void reap(pid_t pid, int expected) {
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != expected) FAIL("child ended with wait status %#x", (unsigned)status);
}

static inline void reap_killed(pid_t pid) {
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == 9);
}

/* The call, which must give 0, in another process. */
#define ELSEWHERE(call)                                                                                                \
    do {                                                                                                               \
        pid_t pid_ = fork();                                                                                           \
        if (pid_ == 0) _exit((call) != 0);                                                                             \
        CHECK(pid_ > 0);                                                                                               \
        reap(pid_, 0);                                                                                                 \
    } while (0)

static inline int open_descriptors(void) {
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(dir) != NULL) count++;
    closedir(dir);
    return count;
}

/* Runs a peer program that knows only libc (c-tests/peers); its path comes from the runner. */
static inline pid_t spawn_peer(const char *peer, const char *const args[]) {
    char path[4096];
    const char *argv[16] = {peer};
    const char *directory = getenv("WW_PEERS");
    pid_t pid;
    int n;
    if (directory == NULL) FAIL("WW_PEERS is not set: run the tests by c-tests/run.py");
    snprintf(path, sizeof path, "%s/%s", directory, peer);
    for (n = 0; args[n] != NULL && n < 14; n++) argv[n + 1] = args[n];
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execv(path, (char *const *)argv);
        _exit(127);
    }
    return pid;
}

/* Whether the runner left this test out: WW_SKIP holds names, each between blanks. */
static inline int is_left_out(const char *name) {
    const char *list = getenv("WW_SKIP");
    char word[128];
    snprintf(word, sizeof word, " %s ", name);
    return list != NULL && strstr(list, word) != NULL;
}

/* Takes the pages of the stack beforehand: valgrind 3.19 cannot enlarge it while it delivers a signal. */
static inline void use_stack(void) {
    volatile char room[256 * 1024];
    size_t i;
    for (i = 0; i < sizeof room; i += 1024) room[i] = 0;
}

static inline int run_test(const struct test *test) {
    pid_t pid;
    int status;
    if (is_left_out(test->name)) return 0;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int before = open_descriptors();
        running = test->name;
        use_stack();
        alarm(getenv("WW_SLOW") ? 300 : 60);
        test->run();
        if (open_descriptors() != before) FAIL("%s left %d descriptors open", test->name, open_descriptors() - before);
        exit(0); /* runs the leak checkers */
    }
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        printf("ok %s\n", test->name);
        return 0;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) return 0;
    printf("FAILED %s (wait status %#x)\n", test->name, (unsigned)status);
    return 1;
}

int main(int argc, char **argv) {
    int failed = 0;
    const struct test *test;
    for (test = tests; test != NULL; test = test->next)
        if (argc < 2 || strcmp(argv[1], test->name) == 0) failed += run_test(test);
    return failed != 0;
}

#endif
