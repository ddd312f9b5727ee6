/* Event counter. */
#include "test.h"

#include <sys/eventfd.h>

static ww_eventfd *open_eventfd(void) {
    ww_eventfd *events;
    OK(ww_eventfd_open(&events, NULL));
    return events;
}

TEST(adds_and_takes) {
    ww_eventfd_options options = WW_EVENTFD_OPTIONS_INIT;
    ww_eventfd *events;
    uint64_t value = 0;
    options.initial = 2;
    OK(ww_eventfd_open(&events, &options));
    OK(ww_eventfd_add(events, 3, WW_NOW));
    OK(ww_eventfd_take(events, &value, WW_NOW));
    CHECK_INT(value, 5);
    value = 77;
    CHECK_ERROR(ww_eventfd_take(events, &value, WW_NOW), -EAGAIN, "take eventfd:: EAGAIN");
    CHECK_INT(value, 77);
    CHECK_ERROR(ww_eventfd_take(events, &value, SHORT), -ETIMEDOUT, "deadline");
    CHECK_ERROR(ww_eventfd_take(events, &value, -7), -EINVAL, "WW_FOREVER");
    CHECK_ERROR(ww_eventfd_add(events, UINT64_MAX, WW_NOW), -EINVAL, "2^64 - 2");
    OK(ww_eventfd_add(events, UINT64_MAX - 1, WW_NOW));
    CHECK_ERROR(ww_eventfd_add(events, 1, SHORT), -ETIMEDOUT, "deadline");
    ww_eventfd_close(events);
}

TEST(semaphore_mode) {
    ww_eventfd_options options = WW_EVENTFD_OPTIONS_INIT;
    ww_eventfd *events;
    uint64_t value;
    options.initial = 2;
    options.semaphore = 1;
    OK(ww_eventfd_open(&events, &options));
    OK(ww_eventfd_take(events, &value, WW_NOW));
    CHECK_INT(value, 1);
    OK(ww_eventfd_take(events, &value, WW_NOW));
    CHECK_INT(ww_eventfd_take(events, &value, WW_NOW), -EAGAIN);
    ww_eventfd_close(events);
}

TEST(between_processes) {
    ww_eventfd *events = open_eventfd();
    uint64_t value;
    pid_t pid = fork();
    if (pid == 0) _exit(ww_eventfd_add(events, 1, GENEROUS) == 0 ? 0 : 1);
    OK(ww_eventfd_take(events, &value, GENEROUS));
    CHECK_INT(value, 1);
    reap(pid, 0);
    ww_eventfd_close(events);
}

TEST(bad_input) {
    ww_eventfd *events = open_eventfd(), *other = (ww_eventfd *)1;
    ww_eventfd_options options = WW_EVENTFD_OPTIONS_INIT;
    uint64_t value;
    CHECK_ERROR(ww_eventfd_open(NULL, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_eventfd_add(NULL, 1, WW_NOW), -EFAULT, "eventfd");
    CHECK_ERROR(ww_eventfd_take(NULL, &value, WW_NOW), -EFAULT, "eventfd");
    CHECK_ERROR(ww_eventfd_take(events, NULL, WW_NOW), -EFAULT, "output pointer");
    CHECK_ERROR(ww_eventfd_fd(NULL), -EFAULT, "eventfd");
    CHECK_ERROR(ww_eventfd_from_fd(NULL, 0), -EFAULT, "output pointer");
    CHECK_ERROR(ww_eventfd_from_fd(&other, -1), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_eventfd_from_fd(&other, 100000), -EBADF, "eventfd");
    options.size = 0;
    CHECK_ERROR(ww_eventfd_open(&other, &options), -EINVAL, "WW_..._INIT");
    options.size = sizeof options;
    options.semaphore = 2;
    CHECK_ERROR(ww_eventfd_open(&other, &options), -EINVAL, "0 or 1");
    options.semaphore = 0;
    options.reserved = 1;
    CHECK_ERROR(ww_eventfd_open(&other, &options), -EINVAL, "reserved");
    options.reserved = 0;
    options.initial = UINT64_MAX;
    CHECK_ERROR(ww_eventfd_open(&other, &options), -EINVAL, "start lower");
    CHECK(other == (ww_eventfd *)1);
    ww_eventfd_close(events);
    ww_eventfd_close(NULL);
}

TEST(options_of_other_versions) {
    struct {
        ww_eventfd_options known;
        uint64_t unknown;
    } newer = {WW_EVENTFD_OPTIONS_INIT, 0};
    struct {
        size_t size;
        uint64_t initial;
    } older = {sizeof older, 4};
    ww_eventfd *events;
    uint64_t value;
    newer.known.size = sizeof newer;
    OK(ww_eventfd_open(&events, &newer.known));
    ww_eventfd_close(events);
    newer.unknown = 1;
    CHECK_ERROR(ww_eventfd_open(&events, &newer.known), -EINVAL, "does not know");
    OK(ww_eventfd_open(&events, (ww_eventfd_options *)(void *)&older));
    OK(ww_eventfd_take(events, &value, WW_NOW));
    CHECK_INT(value, 4);
    ww_eventfd_close(events);
}

static void *take_for_ever(void *events) {
    uint64_t value;
    return (void *)(intptr_t)ww_eventfd_take(events, &value, WW_FOREVER);
}

TEST(close_during_a_wait) {
    ww_eventfd *events = open_eventfd();
    pthread_t thread;
    void *result;
    OK(pthread_create(&thread, NULL, take_for_ever, events));
    until_blocked(1);
    ww_eventfd_close(events);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
}

TEST(adopted_with_libc_on_the_other_side) {
    int fd = eventfd(0, 0);
    int other = dup(fd);
    ww_eventfd *events;
    uint64_t value = 5;
    OK(ww_eventfd_from_fd(&events, fd));
    CHECK_INT(write(other, &value, sizeof value), 8);
    value = 0;
    OK(ww_eventfd_take(events, &value, GENEROUS));
    CHECK_INT(value, 5);
    OK(ww_eventfd_add(events, 6, GENEROUS));
    CHECK_INT(read(other, &value, sizeof value), 8);
    CHECK_INT(value, 6);
    CHECK(ww_eventfd_fd(events) >= 0);
    close(other);
    ww_eventfd_close(events);
}
