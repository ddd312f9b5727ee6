/* Questions and answers over channels. */
#include "test.h"

#include <signal.h>

static int twice(const void *asked, size_t length, ww_answer *answer, void *user) {
    if (user) ++*(int *)user;
    if (length == 0) return -EDOM;
    if (*(const char *)asked == '!') {
        ww_answer_put(answer, "not that", 8);
        return -EINVAL;
    }
    return ww_answer_put(answer, asked, length) | ww_answer_put(answer, asked, length);
}

static void *serve(void *server) {
    int served = 0;
    CHECK_INT(ww_server_serve(server, twice, &served, GENEROUS), -ECANCELED);
    CHECK(served > 0);
    return NULL;
}

/* A process that serves at this address until it is killed. */
static pid_t server_at(const char *address) {
    ww_server *server;
    int ready[2];
    char byte;
    pid_t pid;
    OK(pipe(ready));
    pid = fork();
    if (pid == 0) {
        OK(ww_server_open(&server, address, GENEROUS));
        CHECK(write(ready[1], "x", 1) == 1);
        ww_server_serve(server, twice, NULL, WW_FOREVER);
        _exit(1);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void ask(ww_caller *caller, const char *question, const char *expected) {
    ww_answer *answer;
    const void *data;
    size_t length;
    OK(ww_caller_call(caller, &answer, question, strlen(question), GENEROUS));
    OK(ww_answer_data(answer, &data, &length));
    CHECK(length == strlen(expected) && memcmp(data, expected, length) == 0);
    ww_answer_close(answer);
}

static void questions_are_answered(const char *address) {
    pid_t pid = server_at(address);
    ww_caller *caller;
    ww_answer *answer;
    OK(ww_caller_open(&caller, address, GENEROUS));
    ask(caller, "ab", "abab");
    ask(caller, "c", "cc");
    CHECK_ERROR(ww_caller_call(caller, &answer, "!", 1, GENEROUS), -EREMOTEIO, "not that");
    CHECK_ERROR(ww_caller_call(caller, &answer, "", 0, GENEROUS), -EREMOTEIO, strerror(EDOM));
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, NULL, 0) == pid);
    CHECK(ww_caller_call(caller, &answer, "ab", 2, SHORT) < 0);
    ww_caller_close(caller);
}

TEST(over_a_socket) {
    char address[100];
    snprintf(address, sizeof address, "unix:@%s", fresh_name("call"));
    questions_are_answered(address);
}

TEST(over_a_queue) {
    char address[100];
    snprintf(address, sizeof address, "mq:/%s", fresh_name("call"));
    questions_are_answered(address);
    OK(ww_channel_remove(address));
}

TEST(over_a_system_v_queue) {
    char address[100];
    snprintf(address, sizeof address, "sysv-mq:0x%08x", 0x77000000 | (getpid() & 0xffffff));
    questions_are_answered(address);
    OK(ww_channel_remove(address));
}

TEST(late_answers_are_dropped_and_counted) {
    ww_server_statistics seen;
    ww_server *server;
    ww_caller *caller;
    ww_answer *answer;
    char address[100];
    uint64_t late = 99;
    snprintf(address, sizeof address, "unix:@%s", fresh_name("late"));
    OK(ww_server_open(&server, address, GENEROUS));
    OK(ww_caller_open(&caller, address, GENEROUS));
    CHECK_ERROR(ww_caller_call(caller, &answer, "ab", 2, SHORT), -ETIMEDOUT, "deadline");
    CHECK_INT(ww_server_serve_one(server, twice, NULL, GENEROUS), 1);
    CHECK_INT(ww_server_serve_one(server, twice, NULL, WW_NOW), -EAGAIN);
    CHECK_INT(ww_caller_call(caller, &answer, "cd", 2, SHORT), -ETIMEDOUT);
    OK(ww_caller_late(caller, &late));
    CHECK_INT(late, 1);
    ww_caller_close(caller);
    CHECK_INT(ww_server_serve_one(server, twice, NULL, GENEROUS), 0);
    OK(ww_server_get_statistics(server, &seen));
    CHECK(seen.dropped == 1 && seen.foreign == 0);
    ww_server_close(server);
}

/* The server is closed as soon as the answer is there: its thread waits for the next question, or does not yet. */
TEST(closing_ends_serving) {
    for (int round = 0; round < 50; round++) {
        ww_server *server;
        ww_caller *caller;
        pthread_t thread;
        char address[100];
        snprintf(address, sizeof address, "unix:@%s", fresh_name("close"));
        OK(ww_server_open(&server, address, GENEROUS));
        OK(pthread_create(&thread, NULL, serve, server));
        OK(ww_caller_open(&caller, address, GENEROUS));
        ask(caller, "ab", "abab");
        ww_server_close(server);
        OK(pthread_join(thread, NULL));
        ww_caller_close(caller);
    }
}

TEST(what_is_wrong_is_refused) {
    ww_server *server;
    ww_caller *caller;
    ww_answer *answer;
    const void *data;
    size_t length;
    char address[100];
    snprintf(address, sizeof address, "unix:@%s", fresh_name("wrong"));
    CHECK_ERROR(ww_caller_open(&caller, "topic:x", WW_NOW), -ENOTSUP, "no way leads back");
    CHECK_INT(ww_caller_open(NULL, address, WW_NOW), -EFAULT);
    CHECK_INT(ww_server_open(&server, "cell:x", WW_NOW), -EINVAL);
    OK(ww_server_open(&server, address, WW_NOW));
    CHECK_INT(ww_server_serve_one(server, NULL, NULL, WW_NOW), -EFAULT);
    CHECK_INT(ww_server_serve(server, NULL, NULL, WW_NOW), -EFAULT);
    ww_server_close(server);
    CHECK_INT(ww_caller_call(NULL, &answer, "", 0, WW_NOW), -EFAULT);
    CHECK_INT(ww_caller_late(NULL, NULL), -EFAULT);
    CHECK_INT(ww_server_get_statistics(NULL, NULL), -EFAULT);
    CHECK_INT(ww_answer_data(NULL, &data, &length), -EFAULT);
    CHECK_INT(ww_answer_put(NULL, "", 0), -EFAULT);
    ww_answer_close(NULL);
    ww_caller_close(NULL);
    ww_server_close(NULL);
}

TEST(a_server_tells_where_it_is) {
    ww_server *server;
    ww_caller *caller;
    char address[64];
    pthread_t thread;
    OK(ww_server_open(&server, "tcp://127.0.0.1:0", GENEROUS));
    CHECK(ww_server_local_address(server, address, sizeof address, NULL) > 16);
    CHECK(strncmp(address, "tcp://127.0.0.1:", 16) == 0 && strcmp(address + 16, "0") != 0);
    OK(pthread_create(&thread, NULL, serve, server));
    OK(ww_caller_open(&caller, address, GENEROUS));
    ask(caller, "ab", "abab");
    ww_caller_close(caller);
    OK(ww_server_end_waits(server));
    OK(pthread_join(thread, NULL));
    ww_server_close(server);
    snprintf(address, sizeof address, "ring:%s", fresh_name("where"));
    OK(ww_server_open(&server, address, GENEROUS));
    CHECK_ERROR(ww_server_local_address(server, address, sizeof address, NULL), -ENOTSUP, "sockets");
    ww_server_close(server);
    OK(ww_channel_remove(address));
}
