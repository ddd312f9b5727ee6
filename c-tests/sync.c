/* Locks and the like in shared memory. */
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>

/* A child that has done what it should and waits to be killed. */
#define HOLDING_CHILD(action)                                                                                          \
    do {                                                                                                               \
        int ready[2];                                                                                                  \
        char byte;                                                                                                     \
        pid_t pid;                                                                                                     \
        OK(pipe(ready));                                                                                               \
        pid = fork();                                                                                                  \
        if (pid == 0) {                                                                                                \
            if ((action) != 0) _exit(1);                                                                               \
            if (write(ready[1], "x", 1) != 1) _exit(2);                                                                \
            for (;;) pause();                                                                                          \
        }                                                                                                              \
        CHECK_INT(read(ready[0], &byte, 1), 1);                                                                        \
        OK(kill(pid, SIGKILL));                                                                                        \
        reap_killed(pid);                                                                                              \
        close(ready[0]);                                                                                               \
        close(ready[1]);                                                                                               \
    } while (0)

TEST(a_mutex_passes_on_from_the_dead) {
    ww_mutex *mutex, *other;
    ww_mutex_options options = WW_MUTEX_OPTIONS_INIT;
    ww_mutex_statistics seen;
    ww_sync_participant who[2];
    OK(ww_mutex_anonymous(&mutex, NULL));
    options.wait = WW_WAIT_BLOCK; /* one that spins may have no time left to sleep, and to note what it saw */
    OK(ww_mutex_from_fd(&other, dup(ww_mutex_segment_fd(mutex)), &options));
    OK(ww_mutex_lock(mutex, WW_NOW));
    CHECK_ERROR(ww_mutex_lock(mutex, WW_NOW), -EDEADLK, "recursive");
    CHECK_INT(ww_mutex_lock(other, WW_NOW), -EAGAIN);
    CHECK_ERROR(ww_mutex_lock(other, SHORT), -ETIMEDOUT, "lock mutex:");
    OK(ww_mutex_get_statistics(mutex, &seen, who, 2));
    CHECK_INT(seen.state, WW_LOCK_HELD);
    CHECK_INT(seen.participants, 2);
    CHECK_INT(who[0].holding, 1);
    CHECK(who[0].is_self && who[0].pid == (uint32_t)getpid() && who[0].holding_since >= who[0].since);
    CHECK_INT(ww_mutex_unlock(other), -EPERM);
    OK(ww_mutex_unlock(mutex));
    HOLDING_CHILD(ww_mutex_lock(mutex, WW_NOW));
    CHECK_INT(ww_mutex_lock(mutex, GENEROUS), WW_INHERITED);
    OK(ww_mutex_unlock(mutex));
    CHECK_INT(ww_mutex_lock(other, GENEROUS), WW_INHERITED);
    OK(ww_mutex_consistent(other));
    CHECK_INT(ww_mutex_consistent(other), -EINVAL);
    OK(ww_mutex_unlock(other));
    OK(ww_mutex_lock(mutex, GENEROUS));
    OK(ww_mutex_give_up(mutex));
    CHECK_ERROR(ww_mutex_lock(other, GENEROUS), -ENOTRECOVERABLE, "given up");
    ww_mutex_close(other);
    ww_mutex_close(mutex);
}

static void *lock_and_end(void *mutex) {
    return ww_mutex_lock(mutex, WW_NOW) == 0 ? mutex : NULL;
}

TEST(a_thread_that_ends_leaves_its_mutex_to_others) {
    ww_mutex_options options = WW_MUTEX_OPTIONS_INIT;
    ww_mutex *mutex;
    pthread_t thread;
    void *result;
    options.recursive = 1;
    OK(ww_mutex_anonymous(&mutex, &options));
    OK(pthread_create(&thread, NULL, lock_and_end, mutex));
    OK(pthread_join(thread, &result));
    CHECK(result == mutex);
    CHECK_INT(ww_mutex_lock(mutex, WW_NOW), WW_INHERITED);
    OK(ww_mutex_consistent(mutex));
    OK(ww_mutex_lock(mutex, WW_NOW));
    OK(ww_mutex_unlock(mutex));
    OK(ww_mutex_unlock(mutex));
    CHECK_INT(ww_mutex_unlock(mutex), -EPERM);
    ww_mutex_close(mutex);
}

TEST(permits_come_back_from_the_dead) {
    ww_permits_options options = WW_PERMITS_OPTIONS_INIT;
    ww_permits *permits;
    ww_permits_statistics seen;
    ww_sync_participant who;
    struct pollfd bell = {0, POLLIN, 0};
    options.count = 3;
    options.fair = 1;
    OK(ww_permits_anonymous(&permits, &options));
    OK(ww_permits_acquire(permits, 2, WW_NOW));
    CHECK_INT(ww_permits_acquire(permits, 2, WW_NOW), -EAGAIN);
    CHECK_INT(ww_permits_acquire(permits, 4, WW_NOW), -EINVAL);
    OK(ww_permits_get_statistics(permits, &seen, &who, 1));
    CHECK_INT(seen.total, 3);
    CHECK_INT(seen.available, 1);
    CHECK_INT(seen.fair, 1);
    CHECK_INT(who.holding, 2);
    CHECK_ERROR(ww_permits_release(permits, 3), -EPERM, "handle");
    OK(ww_permits_release(permits, 2));
    HOLDING_CHILD(ww_permits_acquire(permits, 3, WW_NOW));
    CHECK_INT(ww_permits_available(permits), 0);
    bell.fd = ww_permits_fd(permits);
    CHECK(bell.fd >= 0);
    CHECK_INT(poll(&bell, 1, 30000), 1);
    OK(ww_permits_acquire(permits, 3, GENEROUS));
    CHECK_INT(ww_permits_acquire(permits, 1, SHORT), -ETIMEDOUT);
    ww_permits_close(permits);
}

TEST(an_event_lets_through) {
    ww_event_options options = WW_EVENT_OPTIONS_INIT;
    ww_event *event;
    ww_event_statistics seen;
    pid_t pid;
    OK(ww_event_anonymous(&event, NULL));
    CHECK_INT(ww_event_wait(event, WW_NOW), -EAGAIN);
    CHECK_INT(ww_event_set(event), 1);
    CHECK_INT(ww_event_set(event), 0);
    OK(ww_event_wait(event, WW_NOW));
    CHECK_INT(ww_event_is_set(event), 1);
    CHECK_INT(ww_event_clear(event), 1);
    pid = fork();
    if (pid == 0) _exit(ww_event_set(event) != 1);
    OK(ww_event_wait(event, GENEROUS));
    reap(pid, 0);
    OK(ww_event_get_statistics(event, &seen, NULL, 0));
    CHECK_INT(seen.times, 2);
    ww_event_close(event);
    options.auto_reset = 1;
    OK(ww_event_anonymous(&event, &options));
    CHECK_INT(ww_event_set(event), 1);
    OK(ww_event_wait(event, WW_NOW));
    CHECK_INT(ww_event_wait(event, WW_NOW), -EAGAIN);
    ww_event_close(event);
}

TEST(a_condition_is_waited_on_under_a_mutex) {
    ww_condition *condition;
    ww_mutex *mutex;
    ww_condition_statistics seen;
    ww_sync_participant who[4];
    int waiting = 0;
    pid_t pid;
    OK(ww_mutex_anonymous(&mutex, NULL));
    OK(ww_condition_anonymous(&condition, NULL));
    CHECK_INT(ww_condition_wait(condition, mutex, WW_NOW), -EPERM);
    OK(ww_mutex_lock(mutex, WW_NOW));
    CHECK_ERROR(ww_condition_wait(condition, mutex, SHORT), -ETIMEDOUT, "condition:");
    OK(ww_mutex_unlock(mutex));
    pid = fork();
    if (pid == 0) {
        if (ww_mutex_lock(mutex, GENEROUS) != 0) _exit(1);
        if (ww_condition_wait(condition, mutex, GENEROUS) != 0) _exit(2);
        _exit(ww_mutex_unlock(mutex) != 0);
    }
    while (!waiting) {
        size_t at;
        OK(ww_condition_get_statistics(condition, &seen, who, 4));
        for (at = 0; at < seen.participants; at++) waiting |= who[at].waiting == 1;
    }
    OK(ww_condition_notify_one(condition));
    reap(pid, 0);
    OK(ww_condition_notify_all(condition));
    ww_condition_close(condition);
    ww_mutex_close(mutex);
}

static void *cancel_when_it_waits(void *given) {
    void **both = given;
    ww_condition_statistics seen;
    ww_sync_participant who;
    do {
        if (ww_condition_get_statistics(both[0], &seen, &who, 1) != 0) return NULL;
    } while (who.waiting == 0);
    ww_cancel_fire(both[1]);
    return given;
}

TEST(a_cancelled_wait_on_a_condition_has_the_mutex) {
    ww_condition *condition;
    ww_mutex *mutex;
    ww_cancel *cancel;
    void *both[2];
    pthread_t thread;
    OK(ww_mutex_anonymous(&mutex, NULL));
    OK(ww_condition_anonymous(&condition, NULL));
    OK(ww_cancel_new(&cancel));
    both[0] = condition;
    both[1] = cancel;
    OK(ww_cancel_enter(cancel));
    OK(ww_mutex_lock(mutex, WW_NOW));
    OK(pthread_create(&thread, NULL, cancel_when_it_waits, both));
    CHECK_INT(ww_condition_wait(condition, mutex, GENEROUS), -ECANCELED);
    OK(pthread_join(thread, NULL));
    OK(ww_mutex_unlock(mutex));
    OK(ww_cancel_leave(cancel));
    ww_cancel_close(cancel);
    ww_condition_close(condition);
    ww_mutex_close(mutex);
}

static void *wait_taken(void *given) {
    void **both = given;
    int result;
    if (ww_mutex_lock(both[1], GENEROUS) != 0) return "lock";
    result = ww_condition_wait(both[0], both[1], GENEROUS);
    if (result != -ECANCELED) return "wait";
    return ww_mutex_unlock(both[1]) != 0 ? "unlock" : NULL;
}

TEST(who_closes_a_condition_may_hold_the_mutex) {
    ww_condition *condition;
    ww_mutex *mutex;
    void *both[2], *failed;
    pthread_t thread;
    OK(ww_mutex_anonymous(&mutex, NULL));
    OK(ww_condition_anonymous(&condition, NULL));
    both[0] = condition;
    both[1] = mutex;
    OK(pthread_create(&thread, NULL, wait_taken, both));
    until_blocked(1);
    OK(ww_mutex_lock(mutex, GENEROUS));
    ww_condition_close(condition);
    OK(ww_mutex_unlock(mutex));
    OK(pthread_join(thread, &failed));
    if (failed != NULL) FAIL("%s", (char *)failed);
    ww_mutex_close(mutex);
}

TEST(a_wait_tells_of_a_mutex_taken_over_from_the_dead) {
    ww_condition *condition;
    ww_mutex *mutex;
    int ready[2];
    char byte;
    pid_t pid;
    OK(ww_mutex_anonymous(&mutex, NULL));
    OK(ww_condition_anonymous(&condition, NULL));
    OK(pipe(ready));
    OK(ww_mutex_lock(mutex, GENEROUS));
    pid = fork();
    if (pid == 0) {
        if (ww_mutex_lock(mutex, GENEROUS) != 0 || ww_condition_notify_one(condition) != 0) _exit(1);
        if (write(ready[1], "x", 1) != 1) _exit(2);
        raise(SIGKILL);
    }
    CHECK_INT(ww_condition_wait(condition, mutex, GENEROUS), WW_INHERITED);
    CHECK_INT(read(ready[0], &byte, 1), 1);
    OK(ww_mutex_consistent(mutex));
    OK(ww_mutex_unlock(mutex));
    reap_killed(pid);
    close(ready[0]);
    close(ready[1]);
    ww_condition_close(condition);
    ww_mutex_close(mutex);
}

static void *meet(void *barrier) {
    int last = ww_barrier_wait(barrier, GENEROUS);
    if (last == 1) ww_barrier_close(barrier);
    return last == 0 || last == 1 ? NULL : "wait";
}

TEST(the_last_to_arrive_may_close_a_barrier) {
    int round;
    for (round = 0; round < 200; round++) {
        ww_barrier *barrier;
        pthread_t threads[2];
        int n;
        OK(ww_barrier_anonymous(&barrier, NULL));
        for (n = 0; n < 2; n++) OK(pthread_create(&threads[n], NULL, meet, barrier));
        for (n = 0; n < 2; n++) {
            void *failed;
            OK(pthread_join(threads[n], &failed));
            if (failed != NULL) FAIL("%s", (char *)failed);
        }
    }
}

static void *wait_under_a_closing_mutex(void *given) {
    void **both = given;
    int taken;
    for (taken = 0; taken < 2; taken++)
        if (ww_mutex_lock(both[1], WW_NOW) != 0) return "lock";
    if (ww_condition_wait(both[0], both[1], GENEROUS) != -ENOLCK) return "wait";
    return strstr(ww_last_error(), "closed meanwhile") == NULL ? "text" : NULL;
}

TEST(closing_a_mutex_ends_waits_on_conditions_under_it) {
    ww_condition *condition;
    ww_mutex_options options = WW_MUTEX_OPTIONS_INIT;
    ww_mutex *mutex, *other;
    void *both[2], *failed;
    pthread_t thread;
    options.recursive = 1;
    OK(ww_mutex_anonymous(&mutex, &options));
    OK(ww_mutex_from_fd(&other, dup(ww_mutex_segment_fd(mutex)), NULL));
    OK(ww_condition_anonymous(&condition, NULL));
    both[0] = condition;
    both[1] = mutex;
    OK(pthread_create(&thread, NULL, wait_under_a_closing_mutex, both));
    until_blocked(1);
    ww_mutex_close(mutex);
    OK(pthread_join(thread, &failed));
    if (failed != NULL) FAIL("failed: %s", (const char *)failed);
    OK(ww_mutex_lock(other, WW_NOW)); /* released, and not left behind as by the dead */
    OK(ww_mutex_unlock(other));
    ww_condition_close(condition);
    ww_mutex_close(other);
}

TEST(a_read_write_lock_survives_both) {
    ww_rwlock *lock;
    ww_rwlock_statistics seen;
    OK(ww_rwlock_anonymous(&lock, NULL));
    OK(ww_rwlock_lock_read(lock, WW_NOW));
    OK(ww_rwlock_lock_read(lock, WW_NOW));
    CHECK_INT(ww_rwlock_lock_write(lock, WW_NOW), -EAGAIN);
    OK(ww_rwlock_get_statistics(lock, &seen, NULL, 0));
    CHECK_INT(seen.readers, 2);
    OK(ww_rwlock_unlock_read(lock));
    OK(ww_rwlock_unlock_read(lock));
    CHECK_INT(ww_rwlock_unlock_read(lock), -EPERM);
    HOLDING_CHILD(ww_rwlock_lock_read(lock, WW_NOW));
    OK(ww_rwlock_lock_write(lock, GENEROUS));
    CHECK_INT(ww_rwlock_lock_read(lock, WW_NOW), -EDEADLK);
    OK(ww_rwlock_unlock_write(lock));
    HOLDING_CHILD(ww_rwlock_lock_write(lock, WW_NOW));
    CHECK_INT(ww_rwlock_lock_read(lock, GENEROUS), WW_INHERITED);
    OK(ww_rwlock_unlock_read(lock));
    CHECK_INT(ww_rwlock_lock_write(lock, GENEROUS), WW_INHERITED);
    OK(ww_rwlock_consistent(lock));
    OK(ww_rwlock_unlock_write(lock));
    OK(ww_rwlock_lock_read(lock, WW_NOW));
    OK(ww_rwlock_unlock_read(lock));
    OK(ww_rwlock_lock_write(lock, WW_NOW));
    OK(ww_rwlock_give_up(lock));
    CHECK_INT(ww_rwlock_lock_read(lock, GENEROUS), -ENOTRECOVERABLE);
    ww_rwlock_close(lock);
}

TEST(a_barrier_breaks_with_the_dead) {
    ww_barrier *barrier;
    ww_barrier_statistics seen;
    pid_t pid;
    int last;
    OK(ww_barrier_anonymous(&barrier, NULL));
    CHECK_INT(ww_barrier_wait(barrier, WW_NOW), -EAGAIN);
    pid = fork();
    if (pid == 0) {
        last = ww_barrier_wait(barrier, GENEROUS);
        ww_barrier_close(barrier);
        _exit(last < 0);
    }
    last = ww_barrier_wait(barrier, GENEROUS);
    CHECK(last == 0 || last == 1);
    reap(pid, 0);
    HOLDING_CHILD(ww_barrier_reset(barrier));
    CHECK_ERROR(ww_barrier_wait(barrier, GENEROUS), -EOWNERDEAD, "reset");
    OK(ww_barrier_get_statistics(barrier, &seen, NULL, 0));
    CHECK_INT(seen.is_broken, 1);
    OK(ww_barrier_reset(barrier));
    OK(ww_barrier_break(barrier));
    CHECK_INT(ww_barrier_wait(barrier, WW_NOW), -EOWNERDEAD);
    ww_barrier_close(barrier);
}

#define BY_NAME(kind)                                                                                                  \
    do {                                                                                                               \
        char address[100];                                                                                             \
        ww_##kind *one, *two;                                                                                          \
        snprintf(address, sizeof address, #kind ":%s", fresh_name(#kind));                                             \
        OK(ww_##kind##_open(&one, address, NULL));                                                                     \
        OK(ww_##kind##_open(&two, address, NULL));                                                                     \
        OK(ww_##kind##_check(one));                                                                                    \
        CHECK(ww_##kind##_size_for(NULL) >= 4096);                                                                     \
        OK(ww_##kind##_remove(address));                                                                               \
        CHECK_INT(ww_##kind##_check(two), -ESTALE);                                                                    \
        CHECK_INT(ww_##kind##_remove(address), -ENOENT);                                                               \
        CHECK_INT(ww_##kind##_open(&two, "cell:x", NULL), -EINVAL);                                                    \
        CHECK_INT(ww_##kind##_open(NULL, address, NULL), -EFAULT);                                                     \
        CHECK_INT(ww_##kind##_from_fd(&two, -1, NULL), -EBADF);                                                        \
        CHECK_INT(ww_##kind##_check(NULL), -EFAULT);                                                                   \
        ww_##kind##_close(two);                                                                                        \
        OK(ww_##kind##_from_fd(&two, dup(ww_##kind##_segment_fd(one)), NULL));                                         \
        ww_##kind##_close(two);                                                                                        \
        ww_##kind##_close(one);                                                                                        \
        ww_##kind##_close(NULL);                                                                                       \
    } while (0)

TEST(by_name) {
    BY_NAME(mutex);
    BY_NAME(permits);
    BY_NAME(event);
    BY_NAME(condition);
    BY_NAME(rwlock);
    BY_NAME(barrier);
}

TEST(descriptors_to_poll) {
    ww_mutex *mutex;
    ww_event *event;
    ww_rwlock *lock;
    struct pollfd bells[3];
    int at;
    OK(ww_mutex_anonymous(&mutex, NULL));
    OK(ww_event_anonymous(&event, NULL));
    OK(ww_rwlock_anonymous(&lock, NULL));
    OK(ww_mutex_lock(mutex, WW_NOW));
    OK(ww_rwlock_lock_write(lock, WW_NOW));
    bells[0].fd = ww_mutex_fd(mutex);
    bells[1].fd = ww_event_fd(event);
    bells[2].fd = ww_rwlock_fd(lock);
    for (at = 0; at < 3; at++) bells[at].events = POLLIN;
    CHECK_INT(poll(bells, 3, 0), 0);
    OK(ww_mutex_unlock(mutex));
    CHECK_INT(poll(bells, 1, 30000), 1);
    CHECK_INT(ww_event_set(event), 1);
    CHECK_INT(poll(bells + 1, 1, 30000), 1);
    OK(ww_rwlock_unlock_write(lock));
    CHECK_INT(poll(bells + 2, 1, 30000), 1);
    ww_rwlock_close(lock);
    ww_event_close(event);
    ww_mutex_close(mutex);
}

/* One after the other in the caller's memory, each at a multiple of 128. */
static uint64_t next_place(uint64_t *end, ssize_t size) {
    uint64_t start = (*end + 127) / 128 * 128;
    CHECK(size > 128);
    *end = start + (uint64_t)size;
    return start;
}

TEST(placed_in_the_callers_memory) {
    ww_memfd *memory;
    ww_memory_options of_memory = WW_MEMORY_OPTIONS_INIT;
    ww_mutex *mutex, *again;
    ww_event *event;
    ww_permits *permits;
    ww_permits_options of_permits = WW_PERMITS_OPTIONS_INIT;
    ww_condition *condition;
    ww_rwlock *lock;
    ww_barrier *barrier;
    ww_barrier_options of_barrier = WW_BARRIER_OPTIONS_INIT;
    uint64_t end = 5, at, first;
    size_t size;
    int fd;
    of_permits.count = of_barrier.parties = 1;
    of_memory.length = 1 << 17;
    OK(ww_memfd_create(&memory, "memfd:", &of_memory));
    fd = ww_memfd_fd(memory);
    first = at = next_place(&end, ww_mutex_placed_size_for(NULL));
    size = (size_t)(end - at);
    OK(ww_mutex_place(&mutex, fd, at, size, NULL));
    CHECK_ERROR(ww_event_place(&event, fd, at, size, NULL), -EBADMSG, "a mutex");
    CHECK_ERROR(ww_event_place(&event, fd, 8, size, NULL), -EINVAL, "multiples of 128");
    CHECK_ERROR(ww_event_place(&event, fd, 8192, 256, NULL), -EINVAL, "the range has 256");
    CHECK_ERROR(ww_event_place(&event, fd, 1 << 16, SIZE_MAX, NULL), -EINVAL, "make the memory larger");
    CHECK_INT(ww_event_place(&event, -1, 8192, size, NULL), -EBADF);
    at = next_place(&end, ww_event_placed_size_for(NULL));
    OK(ww_event_place(&event, fd, at, (size_t)(end - at), NULL));
    at = next_place(&end, ww_permits_placed_size_for(&of_permits));
    OK(ww_permits_place(&permits, fd, at, (size_t)(end - at), &of_permits));
    at = next_place(&end, ww_condition_placed_size_for(NULL));
    OK(ww_condition_place(&condition, fd, at, (size_t)(end - at), NULL));
    at = next_place(&end, ww_rwlock_placed_size_for(NULL));
    OK(ww_rwlock_place(&lock, fd, at, (size_t)(end - at), NULL));
    at = next_place(&end, ww_barrier_placed_size_for(&of_barrier));
    OK(ww_barrier_place(&barrier, fd, at, (size_t)(end - at), &of_barrier));
    CHECK(end <= 1 << 17);
    CHECK_INT(ww_event_set(event), 1);
    OK(ww_event_wait(event, WW_NOW));
    OK(ww_permits_acquire(permits, 1, WW_NOW));
    OK(ww_condition_notify_all(condition));
    OK(ww_rwlock_lock_write(lock, WW_NOW));
    OK(ww_rwlock_unlock_write(lock));
    CHECK(ww_barrier_wait(barrier, WW_NOW) >= 0);
    HOLDING_CHILD(ww_mutex_place(&again, fd, first, size, NULL) || ww_mutex_lock(again, WW_NOW));
    CHECK_INT(ww_mutex_lock(mutex, GENEROUS), WW_INHERITED);
    OK(ww_mutex_consistent(mutex));
    OK(ww_mutex_unlock(mutex));
    OK(ww_mutex_check(mutex));
    ww_memfd_close(memory); /* which the objects do not need */
    OK(ww_mutex_lock(mutex, WW_NOW));
    ww_barrier_close(barrier);
    ww_rwlock_close(lock);
    ww_condition_close(condition);
    ww_permits_close(permits);
    ww_event_close(event);
    ww_mutex_close(mutex);
}

TEST(bad_options) {
    ww_mutex_options of_mutex = WW_MUTEX_OPTIONS_INIT;
    ww_permits_options of_permits = WW_PERMITS_OPTIONS_INIT;
    ww_barrier_options of_barrier = WW_BARRIER_OPTIONS_INIT;
    ww_mutex *mutex;
    ww_permits *permits;
    ww_barrier *barrier;
    of_mutex.recursive = 2;
    CHECK_ERROR(ww_mutex_anonymous(&mutex, &of_mutex), -EINVAL, "flag");
    of_mutex.recursive = 0;
    of_mutex.wait = 9;
    CHECK_ERROR(ww_mutex_anonymous(&mutex, &of_mutex), -EINVAL, "WW_WAIT_");
    of_permits.count = 20000;
    CHECK_ERROR(ww_permits_anonymous(&permits, &of_permits), -EINVAL, "16383");
    of_barrier.parties = 40000;
    CHECK_ERROR(ww_barrier_anonymous(&barrier, &of_barrier), -EINVAL, "32767");
}
