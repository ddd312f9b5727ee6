/* Wait set: descriptors, timers and children in one wait. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>

static ww_waitset *new_set(void) {
    ww_waitset *set;
    OK(ww_waitset_new(&set));
    return set;
}

static ww_waitset_event wait_one(ww_waitset *set) {
    ww_waitset_event event;
    CHECK_INT(ww_waitset_wait(set, &event, 1, GENEROUS), 1);
    return event;
}

TEST(a_mix_is_reported_by_token) {
    ww_waitset *set = new_set();
    ww_eventfd *events;
    ww_pipe *reader, *writer;
    ww_waitset_event found[8];
    int seen_event = 0, seen_pipe = 0, seen_timer = 0, seen_child = 0;
    pid_t pid;
    OK(ww_eventfd_open(&events, NULL));
    OK(ww_pipe_open(&reader, &writer, NULL));
    pid = fork();
    if (pid == 0) _exit(7);
    OK(ww_waitset_add_fd(set, ww_eventfd_fd(events), WW_READABLE, 1));
    OK(ww_waitset_add_fd(set, ww_pipe_fd(reader), WW_READABLE, 2));
    OK(ww_waitset_add_timer(set, 0, 0, UINT64_MAX));
    OK(ww_waitset_add_child(set, pid, 0));
    OK(ww_eventfd_add(events, 1, WW_NOW));
    OK(ww_pipe_write_all(writer, "x", 1, WW_NOW, NULL));
    while (!seen_event || !seen_pipe || !seen_timer || !seen_child) {
        ssize_t n, count = ww_waitset_wait(set, found, 8, GENEROUS);
        CHECK(count > 0);
        for (n = 0; n < count; n++) {
            if (found[n].token == 0) {
                CHECK_INT(found[n].ready, WW_ENDED);
                CHECK(WIFEXITED(found[n].status) && WEXITSTATUS(found[n].status) == 7);
                seen_child = 1;
            } else if (found[n].token == UINT64_MAX) {
                CHECK_INT(found[n].ready, WW_TIMER);
                CHECK_INT(found[n].expirations, 1);
                seen_timer = 1;
            } else {
                CHECK_INT(found[n].ready, WW_READABLE);
                CHECK_INT(found[n].expirations, 0);
                CHECK_INT(found[n].status, -1);
                if (found[n].token == 1) seen_event = 1;
                if (found[n].token == 2) seen_pipe = 1;
            }
        }
    }
    reap(pid, 7); /* the set has not reaped it */
    ww_waitset_close(set);
    ww_pipe_close(reader);
    ww_pipe_close(writer);
    ww_eventfd_close(events);
}

TEST(change_and_remove) {
    ww_waitset *set = new_set();
    ww_eventfd *events;
    ww_waitset_event event;
    OK(ww_eventfd_open(&events, NULL));
    OK(ww_waitset_add_fd(set, ww_eventfd_fd(events), WW_READABLE, 5));
    CHECK_ERROR(ww_waitset_wait(set, &event, 1, WW_NOW), -EAGAIN, "wait waitset: EAGAIN");
    CHECK_ERROR(ww_waitset_wait(set, &event, 1, SHORT), -ETIMEDOUT, "deadline");
    OK(ww_waitset_change(set, 5, WW_READABLE | WW_WRITABLE));
    CHECK_INT(wait_one(set).ready, WW_WRITABLE);
    CHECK_INT(wait_one(set).ready, WW_WRITABLE); /* level-triggered */
    OK(ww_waitset_change(set, 5, 0));
    CHECK_INT(ww_waitset_wait(set, &event, 1, WW_NOW), -EAGAIN);
    OK(ww_waitset_remove(set, 5));
    CHECK_ERROR(ww_waitset_remove(set, 5), -ENOENT, "no entry of the set has the token 5");
    CHECK_ERROR(ww_waitset_change(set, 5, 0), -ENOENT, "token 5");
    ww_waitset_close(set);
    ww_eventfd_close(events);
}

TEST(timers_count_what_was_missed) {
    ww_waitset *set = new_set();
    ww_waitset_event event;
    OK(ww_waitset_add_timer(set, WW_MS(2), WW_MS(2), 1));
    sleep_ms(30);
    event = wait_one(set);
    CHECK_INT(event.ready, WW_TIMER);
    CHECK(event.expirations >= 10);
    OK(ww_waitset_change_timer(set, 1, WW_SEC(3600), 0));
    CHECK_INT(ww_waitset_wait(set, &event, 1, SHORT), -ETIMEDOUT);
    OK(ww_waitset_change_timer(set, 1, WW_MS(1), 0));
    CHECK_INT(wait_one(set).expirations, 1);
    CHECK_INT(ww_waitset_wait(set, &event, 1, SHORT), -ETIMEDOUT);
    CHECK_ERROR(ww_waitset_change_timer(set, 2, 0, 0), -ENOENT, "token 2");
    CHECK_ERROR(ww_waitset_change_timer(set, 1, -1, 0), -EINVAL, "nanoseconds from 0");
    CHECK_ERROR(ww_waitset_add_timer(set, 0, -1, 2), -EINVAL, "nanoseconds from 0");
    CHECK_ERROR(ww_waitset_change(set, 1, WW_READABLE), -EINVAL, "token 1 is a timer");
    ww_waitset_close(set);
}

TEST(killed_child) {
    ww_waitset *set = new_set();
    ww_waitset_event event;
    pid_t pid = fork();
    if (pid == 0) {
        sleep(60);
        _exit(0);
    }
    OK(ww_waitset_add_child(set, pid, 9));
    CHECK(strstr(ww_paths(), "end of a child: ") != NULL);
    CHECK_INT(ww_waitset_wait(set, &event, 1, SHORT), -ETIMEDOUT);
    kill(pid, 9);
    event = wait_one(set);
    CHECK_INT(event.token, 9);
    CHECK_INT(event.ready, WW_ENDED);
    CHECK(WIFSIGNALED(event.status) && WTERMSIG(event.status) == 9);
    reap_killed(pid);
    OK(ww_waitset_remove(set, 9));
    CHECK_ERROR(ww_waitset_add_child(set, 0, 9), -EINVAL, "0 is not the pid of a process");
    CHECK(ww_waitset_add_child(set, pid, 9) < 0);
    ww_waitset_close(set);
}

TEST(bad_input) {
    ww_waitset *set = new_set();
    ww_waitset_event event;
    int fd = eventfd(0, EFD_CLOEXEC), file = open("/proc/self/exe", O_RDONLY);
    CHECK_ERROR(ww_waitset_new(NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_waitset_add_fd(NULL, fd, WW_READABLE, 1), -EFAULT, "waitset");
    CHECK_ERROR(ww_waitset_add_timer(NULL, 0, 0, 1), -EFAULT, "waitset");
    CHECK_ERROR(ww_waitset_add_child(NULL, 1, 1), -EFAULT, "waitset");
    CHECK_ERROR(ww_waitset_change(NULL, 1, 0), -EFAULT, "waitset");
    CHECK_ERROR(ww_waitset_change_timer(NULL, 1, 0, 0), -EFAULT, "waitset");
    CHECK_ERROR(ww_waitset_remove(NULL, 1), -EFAULT, "waitset");
    CHECK_ERROR(ww_waitset_wait(NULL, &event, 1, WW_NOW), -EFAULT, "waitset");
    CHECK_ERROR(ww_waitset_fd(NULL), -EFAULT, "waitset");
    CHECK_ERROR(ww_waitset_wait(set, NULL, 1, WW_NOW), -EFAULT, "output pointer");
    CHECK_ERROR(ww_waitset_wait(set, NULL, 0, WW_NOW), -EINVAL, "no room");
    CHECK_ERROR(ww_waitset_wait(set, &event, 0, WW_NOW), -EINVAL, "no room");
    CHECK_ERROR(ww_waitset_wait(set, &event, 1, -7), -EINVAL, "WW_FOREVER");
    CHECK_ERROR(ww_waitset_add_fd(set, fd, 4, 1), -EINVAL, "WW_READABLE");
    CHECK_ERROR(ww_waitset_change(set, 1, 64), -EINVAL, "WW_READABLE");
    CHECK_ERROR(ww_waitset_add_fd(set, -1, WW_READABLE, 1), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_waitset_add_fd(set, 100000, WW_READABLE, 1), -EBADF, "descriptor 100000 is not open");
    CHECK_ERROR(ww_waitset_add_fd(set, ww_waitset_fd(set), WW_READABLE, 1), -EINVAL, "a set cannot be in itself");
    CHECK_ERROR(ww_waitset_add_fd(set, file, WW_READABLE, 1), -EPERM, "regular files and directories");
    OK(ww_waitset_add_fd(set, fd, WW_READABLE, 1));
    CHECK_ERROR(ww_waitset_add_fd(set, fd, WW_READABLE, 2), -EEXIST, "under token 1");
    CHECK_ERROR(ww_waitset_add_timer(set, 0, 0, 1), -EEXIST, "token 1 is in the set already");
    close(file);
    close(fd);
    CHECK_ERROR(ww_waitset_remove(set, 1), -EBADF, "was closed while it was in the set");
    ww_waitset_close(set);
    ww_waitset_close(NULL);
}

static void *wait_for_ever(void *set) {
    ww_waitset_event event;
    return (void *)(intptr_t)ww_waitset_wait(set, &event, 1, WW_FOREVER);
}

TEST(close_during_a_wait) {
    ww_waitset *set = new_set();
    pthread_t thread;
    void *result;
    OK(pthread_create(&thread, NULL, wait_for_ever, set));
    until_blocked(1);
    ww_waitset_close(set);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
}

TEST(added_while_another_thread_waits) {
    ww_waitset *set = new_set();
    pthread_t thread;
    void *result;
    OK(pthread_create(&thread, NULL, wait_for_ever, set));
    until_blocked(1);
    OK(ww_waitset_add_timer(set, WW_MS(1), 0, 1));
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, 1);
    ww_waitset_close(set);
}

TEST(many_events_in_one_wait) {
    enum { COUNT = 300 };
    static ww_waitset_event found[COUNT];
    static int seen[COUNT], fds[COUNT];
    ww_waitset *set = new_set();
    int n, total = 0, first = eventfd(0, EFD_CLOEXEC);
    for (n = 0; n < COUNT; n++) {
        fds[n] = dup(first);
        OK(ww_waitset_add_fd(set, fds[n], WW_WRITABLE, (uint64_t)n));
    }
    CHECK_INT(ww_waitset_wait(set, found, COUNT, WW_NOW), WW_WAITSET_BATCH);
    for (n = 0; n < WW_WAITSET_BATCH; n++) seen[found[n].token] = 1;
    CHECK_INT(ww_waitset_wait(set, found, COUNT - WW_WAITSET_BATCH, WW_NOW), COUNT - WW_WAITSET_BATCH);
    for (n = 0; n < COUNT - WW_WAITSET_BATCH; n++) seen[found[n].token] = 1;
    for (n = 0; n < COUNT; n++) total += seen[n];
    CHECK_INT(total, COUNT);
    for (n = 0; n < COUNT; n++) {
        OK(ww_waitset_remove(set, (uint64_t)n));
        close(fds[n]);
    }
    close(first);
    ww_waitset_close(set);
}

TEST(a_child_needs_a_set_of_its_own) {
    ww_waitset *set = new_set();
    pid_t pid = fork();
    if (pid == 0) {
        ww_waitset_event event;
        CHECK_ERROR(ww_waitset_wait(set, &event, 1, WW_NOW), -ENOTSUP, "made before a fork");
        CHECK_ERROR(ww_waitset_add_timer(set, 0, 0, 1), -ENOTSUP, "made before a fork");
        ww_waitset_close(set);
        _exit(0);
    }
    reap(pid, 0);
    OK(ww_waitset_add_timer(set, 0, 0, 1));
    CHECK_INT(wait_one(set).token, 1);
    ww_waitset_close(set);
}

TEST(libc_on_the_other_side) {
    const char *const args[] = {"echo", "0", "1", NULL};
    ww_waitset *set = new_set();
    int to[2], from[2], in = dup(0), out = dup(1);
    char buffer[8];
    pid_t pid;
    CHECK_INT(pipe2(to, O_CLOEXEC), 0);
    CHECK_INT(pipe2(from, O_CLOEXEC), 0);
    dup2(to[0], 0);
    dup2(from[1], 1);
    pid = spawn_peer("pipe", args);
    dup2(in, 0);
    dup2(out, 1);
    close(in);
    close(out);
    close(to[0]);
    close(from[1]);
    OK(ww_waitset_add_fd(set, from[0], WW_READABLE, 1));
    OK(ww_waitset_add_child(set, pid, 2));
    CHECK_INT(write(to[1], "hello", 5), 5);
    CHECK_INT(wait_one(set).token, 1);
    CHECK_INT(read(from[0], buffer, sizeof buffer), 5);
    close(to[1]);
    for (;;) {
        ww_waitset_event event = wait_one(set);
        if (event.token == 2) break;
        CHECK(event.ready & WW_HANGUP);
        OK(ww_waitset_remove(set, 1));
    }
    reap(pid, 0);
    close(from[0]);
    ww_waitset_close(set);
}
