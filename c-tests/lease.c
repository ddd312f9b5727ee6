/* Pools of leases. */
#include "test.h"

#include <poll.h>
#include <signal.h>

static ww_lease_pool *pool_of(uint32_t slots, uint64_t expires_ms, const char *groups) {
    ww_lease_pool_options options = WW_LEASE_POOL_OPTIONS_INIT;
    ww_lease_pool *pool;
    options.slots = slots;
    options.expires_ms = expires_ms;
    options.groups = groups;
    OK(ww_lease_pool_anonymous(&pool, &options));
    return pool;
}

TEST(a_slot_has_one_holder_and_its_information) {
    ww_lease_pool *pool = pool_of(1, 0, NULL), *other;
    ww_lease *lease, *second;
    ww_lease_pool_statistics seen;
    ww_lease_holder who[2];
    char information[WW_LEASE_INFORMATION_MAX + 1] = {0};
    size_t length = 99;
    uint64_t number;
    int64_t left;
    OK(ww_lease_pool_from_fd(&other, dup(ww_lease_pool_segment_fd(pool)), NULL));
    OK(ww_lease_pool_acquire(pool, &lease, NULL, "the report", WW_NOW));
    CHECK_INT(ww_lease_pool_acquire(other, &second, NULL, NULL, WW_NOW), -EAGAIN);
    CHECK_ERROR(ww_lease_pool_acquire(other, &second, NULL, NULL, SHORT), -ETIMEDOUT, "acquire lease:");
    CHECK_INT(ww_lease_slot(lease), 0);
    OK(ww_lease_token(lease, &number));
    CHECK_INT(number, 1);
    OK(ww_lease_last_used(lease, &number));
    CHECK_INT(number, 0);
    OK(ww_lease_expires_in(lease, &left));
    CHECK_INT(left, WW_FOREVER);
    CHECK_INT(ww_lease_is_dirty(lease), 0);
    CHECK_INT(ww_lease_is_wanted(lease), 0);
    OK(ww_lease_check(lease));
    OK(ww_lease_renew(lease));
    OK(ww_lease_information(lease, information, sizeof information, &length));
    CHECK_INT(length, 0);
    OK(ww_lease_set_information(lease, "backend 4711", 12));
    CHECK_ERROR(ww_lease_information(lease, information, 5, &length), -EMSGSIZE, "WW_LEASE_INFORMATION_MAX");
    CHECK_INT(length, 12);
    OK(ww_lease_information(lease, information, sizeof information, NULL));
    CHECK(memcmp(information, "backend 4711", 12) == 0);
    CHECK_ERROR(ww_lease_set_information(lease, information, WW_LEASE_INFORMATION_MAX + 1), -EMSGSIZE, "1024");
    OK(ww_lease_pool_get_statistics(other, &seen, who, 2));
    CHECK_INT(seen.slots, 1);
    CHECK_INT(seen.held, 1);
    CHECK_INT(seen.timeouts, 1);
    CHECK_INT(seen.leases, 1);
    CHECK(seen.room >= 64 && seen.bytes >= 64 * 2048 && seen.dirty == 0 && seen.waiting == 0 && seen.refused == 0);
    CHECK(who[0].pid == (uint32_t)getpid() && !who[0].is_self && who[0].since > 0 && who[0].token == 1);
    CHECK(strcmp(who[0].note, "the report") == 0 && who[0].group[0] == 0);
    OK(ww_lease_set_note(lease, "another"));
    CHECK_ERROR(ww_lease_set_note(lease, "\xff"), -EINVAL, "UTF-8");
    OK(ww_lease_pool_get_statistics(pool, &seen, who, 2));
    CHECK(strcmp(who[0].note, "another") == 0 && who[0].is_self);
    ww_lease_pool_close(pool); /* which leaves the lease as it is */
    OK(ww_lease_check(lease));
    CHECK_INT(ww_lease_pool_available(other), 0);
    OK(ww_lease_release(lease));
    CHECK_INT(ww_lease_pool_available(other), 1);
    OK(ww_lease_pool_acquire(other, &lease, NULL, NULL, WW_NOW));
    OK(ww_lease_last_used(lease, &number));
    CHECK(number > UINT64_C(1000000000000000000));
    OK(ww_lease_abandon(lease));
    CHECK_INT(ww_lease_pool_acquire(other, &lease, NULL, NULL, WW_NOW), WW_INHERITED);
    ww_lease_close(lease);
    ww_lease_pool_close(other);
}

TEST(a_slot_of_the_dead_comes_back_dirty) {
    ww_lease_pool *pool = pool_of(1, 0, NULL);
    ww_lease *lease;
    ww_lease_pool_statistics seen;
    char information[WW_LEASE_INFORMATION_MAX], byte;
    size_t length;
    int ready[2];
    pid_t pid;
    OK(pipe(ready));
    pid = fork();
    if (pid == 0) {
        if (ww_lease_pool_acquire(pool, &lease, NULL, NULL, WW_NOW) != 0) _exit(1);
        if (ww_lease_set_information(lease, "the child's", 11) != 0) _exit(2);
        if (write(ready[1], "x", 1) != 1) _exit(3);
        for (;;) pause();
    }
    CHECK_INT(read(ready[0], &byte, 1), 1);
    OK(kill(pid, SIGKILL));
    reap_killed(pid);
    close(ready[0]);
    close(ready[1]);
    CHECK_INT(ww_lease_pool_acquire(pool, &lease, NULL, NULL, GENEROUS), WW_INHERITED);
    CHECK_INT(ww_lease_is_dirty(lease), 1);
    OK(ww_lease_information(lease, information, sizeof information, &length));
    CHECK(length == 11 && memcmp(information, "the child's", 11) == 0);
    OK(ww_lease_make_clean(lease));
    CHECK_INT(ww_lease_is_dirty(lease), 0);
    OK(ww_lease_release(lease));
    OK(ww_lease_pool_acquire(pool, &lease, NULL, NULL, WW_NOW));
    ww_lease_close(lease);
    OK(ww_lease_pool_get_statistics(pool, &seen, NULL, 0));
    CHECK_INT(seen.reclaims, 1);
    ww_lease_pool_close(pool);
}

TEST(who_is_too_late_is_refused) {
    ww_lease_pool *pool = pool_of(1, 30, NULL), *other;
    ww_lease *late, *lease;
    ww_lease_pool_statistics seen;
    int64_t left;
    OK(ww_lease_pool_from_fd(&other, dup(ww_lease_pool_segment_fd(pool)), NULL));
    OK(ww_lease_pool_acquire(pool, &late, NULL, NULL, WW_NOW));
    OK(ww_lease_expires_in(late, &left));
    CHECK(left >= 0 && left <= WW_MS(40));
    CHECK_INT(ww_lease_pool_acquire(other, &lease, NULL, NULL, GENEROUS), WW_INHERITED);
    CHECK_ERROR(ww_lease_renew(late), -ESTALE, "is held by process");
    CHECK_ERROR(ww_lease_set_information(late, "x", 1), -ESTALE, "under lease 2");
    CHECK_ERROR(ww_lease_release(late), -ESTALE, "slot 0");
    OK(ww_lease_release(lease));
    OK(ww_lease_pool_get_statistics(pool, &seen, NULL, 0));
    CHECK(seen.expiries == 1 && seen.refused == 3 && seen.expires_ms == 30 && seen.waits[WW_LEASE_WAITS - 1] == 0);
    ww_lease_pool_close(other);
    ww_lease_pool_close(pool);
}

TEST(a_group_has_its_share) {
    ww_lease_pool *pool = pool_of(2, 0, "web:0,cron:1");
    ww_lease *web, *cron, *none;
    OK(ww_lease_pool_acquire(pool, &web, "web", NULL, WW_NOW));
    CHECK_INT(ww_lease_pool_acquire(pool, &none, "web", NULL, WW_NOW), -EAGAIN);
    CHECK_INT(ww_lease_pool_acquire(pool, &none, NULL, NULL, WW_NOW), -EAGAIN);
    OK(ww_lease_pool_acquire(pool, &cron, "cron", NULL, WW_NOW));
    CHECK_ERROR(ww_lease_pool_acquire(pool, &none, "batch", NULL, WW_NOW), -EINVAL, "web, cron");
    OK(ww_lease_release(web));
    OK(ww_lease_release(cron));
    OK(ww_lease_release(NULL));
    OK(ww_lease_abandon(NULL));
    ww_lease_close(NULL);
    ww_lease_pool_close(pool);
}

static void *acquire_one(void *pool) {
    ww_lease *lease;
    return ww_lease_pool_acquire(pool, &lease, NULL, NULL, GENEROUS) == 0 ? lease : NULL;
}

TEST(it_grows_while_somebody_waits) {
    ww_lease_pool *pool = pool_of(1, 0, NULL);
    ww_lease *first;
    void *second;
    pthread_t thread;
    struct pollfd bell;
    CHECK_INT(ww_lease_pool_wait_wanted(pool, WW_NOW), -EAGAIN);
    OK(ww_lease_pool_acquire(pool, &first, NULL, NULL, WW_NOW));
    OK(pthread_create(&thread, NULL, acquire_one, pool));
    OK(ww_lease_pool_wait_wanted(pool, GENEROUS));
    CHECK_INT(ww_lease_pool_waiting(pool), 1);
    CHECK_INT(ww_lease_is_wanted(first), 1);
    OK(ww_lease_pool_resize(pool, 2));
    OK(pthread_join(thread, &second));
    CHECK(second != NULL);
    CHECK_INT(ww_lease_pool_slots(pool), 2);
    CHECK_ERROR(ww_lease_pool_resize(pool, 0), -EINVAL, "room for 64");
    bell.fd = ww_lease_pool_fd(pool);
    bell.events = POLLIN;
    CHECK_INT(poll(&bell, 1, 0), 0);
    OK(ww_lease_release(first));
    CHECK_INT(poll(&bell, 1, 30000), 1);
    OK(ww_lease_release(second));
    ww_lease_pool_close(pool);
}

TEST(by_name) {
    ww_lease_pool_options options = WW_LEASE_POOL_OPTIONS_INIT;
    ww_lease_pool *one, *two;
    char address[100], with[140];
    snprintf(address, sizeof address, "lease:%s", fresh_name("lease"));
    snprintf(with, sizeof with, "%s?slots=3", address);
    OK(ww_lease_pool_open(&one, with, NULL));
    OK(ww_lease_pool_open(&two, address, NULL));
    CHECK_INT(ww_lease_pool_slots(two), 3);
    ww_lease_pool_close(two);
    options.slots = 4;
    CHECK_ERROR(ww_lease_pool_open(&two, address, &options), -EINVAL, "slots=3, and not slots=4");
    options.slots = 0;
    options.groups = "web";
    CHECK_ERROR(ww_lease_pool_open(&two, address, &options), -EINVAL, "names with numbers");
    options.groups = "web:9";
    options.slots = 8;
    CHECK_INT(ww_lease_pool_size_for(&options), -EINVAL);
    CHECK(ww_lease_pool_size_for(NULL) >= 4096);
    OK(ww_lease_pool_check(one));
    OK(ww_lease_pool_remove(address));
    CHECK_INT(ww_lease_pool_check(one), -ESTALE);
    CHECK_INT(ww_lease_pool_remove(address), -ENOENT);
    CHECK_INT(ww_lease_pool_open(&two, "cell:x", NULL), -EINVAL);
    CHECK_INT(ww_lease_pool_open(NULL, address, NULL), -EFAULT);
    CHECK_INT(ww_lease_pool_from_fd(&two, -1, NULL), -EBADF);
    CHECK_INT(ww_lease_pool_check(NULL), -EFAULT);
    CHECK_INT(ww_lease_check(NULL), -EFAULT);
    CHECK_INT(ww_lease_pool_acquire(one, NULL, NULL, NULL, WW_NOW), -EFAULT);
    ww_lease_pool_close(one);
    ww_lease_pool_close(NULL);
}
