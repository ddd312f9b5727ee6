/* System V semaphore set. */
#include "test.h"

#include <signal.h>

static ww_sysv_sem *open_set(const uint16_t *values, size_t count) {
    ww_sysv_sem_options options = WW_SYSV_SEM_OPTIONS_INIT;
    ww_sysv_sem *set;
    options.values = values;
    options.count = count;
    OK(ww_sysv_sem_create(&set, "sysv-sem:private", &options));
    return set;
}

static ww_sysv_sem *open_one(uint16_t value) { return open_set(&value, 1); }

static void remove_set(ww_sysv_sem *set) {
    OK(ww_sysv_sem_unlink(set));
    ww_sysv_sem_close(set);
}

/* A file of its own to derive a key from. */
struct key {
    char path[64], address[100];
};

static void make_key(struct key *key) {
    int fd;
    strcpy(key->path, "/tmp/wwctest-semkey-XXXXXX");
    fd = mkstemp(key->path);
    CHECK(fd >= 0);
    close(fd);
    snprintf(key->address, sizeof key->address, "sysv-sem:%s#65", key->path);
    (void)!ww_sysv_sem_remove(key->address); /* another file may have given the same key, and left a set behind */
}

static ww_sysv_sem_op op(uint16_t number, int16_t change, uint16_t flags) {
    ww_sysv_sem_op made;
    made.number = number;
    made.change = change;
    made.flags = flags;
    return made;
}

TEST(acquires_and_releases) {
    ww_sysv_sem *set = open_one(1);
    CHECK_INT(ww_sysv_sem_count(set), 1);
    OK(ww_sysv_sem_acquire(set, 0, WW_NOW));
    CHECK_INT(ww_sysv_sem_value(set, 0), 0);
    CHECK_ERROR(ww_sysv_sem_acquire(set, 0, WW_NOW), -EAGAIN, "acquire sysv-sem:private: EAGAIN");
    CHECK_ERROR(ww_sysv_sem_acquire(set, 0, SHORT), -ETIMEDOUT, "deadline");
    CHECK_ERROR(ww_sysv_sem_acquire(set, 0, -7), -EINVAL, "WW_FOREVER");
    OK(ww_sysv_sem_wait_zero(set, 0, WW_NOW));
    OK(ww_sysv_sem_release(set, 0));
    CHECK_ERROR(ww_sysv_sem_wait_zero(set, 0, SHORT), -ETIMEDOUT, "deadline");
    OK(ww_sysv_sem_add(set, 0, 9, WW_NOW));
    OK(ww_sysv_sem_add(set, 0, -10, WW_NOW));
    CHECK_ERROR(ww_sysv_sem_add(set, 0, -1, WW_NOW), -EAGAIN, "timeout is zero");
    CHECK_INT(ww_sysv_sem_last_pid(set, 0), getpid());
    remove_set(set);
}

TEST(several_at_once) {
    uint16_t values[3] = {3, 0, 5};
    ww_sysv_sem *set = open_set(values, 3);
    ww_sysv_sem_op ops[3], many[20];
    int n;
    ops[0] = op(0, -1, 0);
    ops[1] = op(1, -1, 0);
    ops[2] = op(2, 1, WW_SYSV_SEM_UNDO);
    CHECK_ERROR(ww_sysv_sem_operate(set, ops, 3, WW_NOW), -EAGAIN, "operate sysv-sem:private");
    CHECK_INT(ww_sysv_sem_values(set, values, 3), 3);
    CHECK(values[0] == 3 && values[1] == 0 && values[2] == 5);
    OK(ww_sysv_sem_set_value(set, 1, 1));
    OK(ww_sysv_sem_operate(set, ops, 3, WW_NOW));
    for (n = 0; n < 20; n++) many[n] = op((uint16_t)(n % 3), 1, 0);
    OK(ww_sysv_sem_operate(set, many, 20, WW_NOW));
    CHECK_INT(ww_sysv_sem_values(set, values, 3), 3);
    CHECK(values[0] == 9 && values[1] == 7 && values[2] == 12);
    values[0] = values[1] = values[2] = 4;
    OK(ww_sysv_sem_set_values(set, values, 3));
    CHECK_INT(ww_sysv_sem_value(set, 2), 4);
    CHECK_ERROR(ww_sysv_sem_set_values(set, values, 2), -EINVAL, "2 values for a set of 3");
    values[0] = 77;
    CHECK_ERROR(ww_sysv_sem_values(set, values, 2), -EMSGSIZE, "ww_sysv_sem_count()");
    CHECK_INT(values[0], 77);
    ops[0].flags = 2;
    CHECK_ERROR(ww_sysv_sem_operate(set, ops, 3, WW_NOW), -EINVAL, "0 or WW_SYSV_SEM_UNDO");
    CHECK_ERROR(ww_sysv_sem_operate(set, ops, 0, WW_NOW), -EINVAL, "no operation was given");
    CHECK_ERROR(ww_sysv_sem_operate(set, NULL, 3, WW_NOW), -EFAULT, "array");
    CHECK_ERROR(ww_sysv_sem_operate(set, ops, (size_t)-1, WW_NOW), -EINVAL, "negative number");
    remove_set(set);
}

TEST(too_many_operations) {
    static ww_sysv_sem_op ops[100000];
    ww_sysv_sem *set = open_one(0);
    CHECK_ERROR(ww_sysv_sem_operate(set, ops, 100000, WW_NOW), -E2BIG, "100000 operations in one call, of semopm=");
    remove_set(set);
}

TEST(status) {
    ww_sysv_sem_status status;
    ww_sysv_sem *set = open_one(5), *same;
    OK(ww_sysv_sem_get_status(set, &status));
    CHECK(status.count == 1 && status.key == 0 && status.mode == 0600 && status.uid == geteuid());
    CHECK(status.operated_at > 0 && status.changed_at > 0);
    CHECK(status.creator_uid == geteuid() && status.gid == getegid() && status.creator_gid == getegid());
    OK(ww_sysv_sem_from_id(&same, ww_sysv_sem_id(set)));
    CHECK_INT(ww_sysv_sem_value(same, 0), 5);
    ww_sysv_sem_close(same);
    remove_set(set);
}

TEST(names) {
    ww_sysv_sem_options options = WW_SYSV_SEM_OPTIONS_INIT;
    ww_sysv_sem *set, *other = (ww_sysv_sem *)1;
    struct key key;
    make_key(&key);
    CHECK_ERROR(ww_sysv_sem_open(&other, key.address, 0), -ENOENT, "there is no set of this key");
    options.initial = 3;
    options.mode = 0640;
    OK(ww_sysv_sem_open_or_create(&set, key.address, &options));
    CHECK_ERROR(ww_sysv_sem_create(&other, key.address, &options), -EEXIST, "there is a set of this key");
    options.count = 5;
    CHECK_ERROR(ww_sysv_sem_open_or_create(&other, key.address, &options), -EINVAL, "fewer than the 5 semaphores");
    CHECK(other == (ww_sysv_sem *)1);
    OK(ww_sysv_sem_open(&other, key.address, 0));
    CHECK_INT(ww_sysv_sem_value(other, 0), 3);
    OK(ww_sysv_sem_remove(key.address));
    CHECK_ERROR(ww_sysv_sem_remove(key.address), -ENOENT, "there is no set of this key");
    CHECK_ERROR(ww_sysv_sem_acquire(set, 0, GENEROUS), -EIDRM, "the set was removed");
    CHECK_ERROR(ww_sysv_sem_value(other, 0), -EIDRM, "the set was removed");
    CHECK_ERROR(ww_sysv_sem_unlink(other), -EIDRM, "the set was removed");
    ww_sysv_sem_close(set);
    ww_sysv_sem_close(other);
    unlink(key.path);
    CHECK_ERROR(ww_sysv_sem_open(&other, key.address, 0), -ENOENT, "does not exist; create it");
}

TEST(bad_input) {
    ww_sysv_sem_options options = WW_SYSV_SEM_OPTIONS_INIT;
    ww_sysv_sem *set = open_one(1), *other = (ww_sysv_sem *)1;
    ww_sysv_sem_status status;
    uint16_t values[2] = {1, 40000};
    ww_sysv_sem_op none = op(0, 0, 0);
    CHECK_ERROR(ww_sysv_sem_open(NULL, "sysv-sem:0x1", 0), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_sem_open(&other, NULL, 0), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_sem_open(&other, "sysv-sem:0x1", -1), -EINVAL, "settle_ns is nanoseconds");
    CHECK_ERROR(ww_sysv_sem_open(&other, "sysv-mq:0x1", 0), -EINVAL, "expected sysv-sem:");
    CHECK_ERROR(ww_sysv_sem_open(&other, "sysv-sem:private", 0), -EINVAL, "a private set cannot be found");
    CHECK_ERROR(ww_sysv_sem_open(&other, "sysv-sem:file", 0), -EINVAL, "a project number from 1 to 255");
    CHECK_ERROR(ww_sysv_sem_create(NULL, "sysv-sem:private", NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_sem_create(&other, NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_sem_open_or_create(&other, NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_sem_from_id(NULL, 0), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_sem_from_id(&other, -1), -EIDRM, "the set was removed");
    CHECK_ERROR(ww_sysv_sem_acquire(NULL, 0, WW_NOW), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_release(NULL, 0), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_add(NULL, 0, 1, WW_NOW), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_wait_zero(NULL, 0, WW_NOW), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_operate(NULL, &none, 1, WW_NOW), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_value(NULL, 0), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_set_value(NULL, 0, 0), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_values(NULL, values, 2), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_values(set, NULL, 2), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_sem_set_values(NULL, values, 1), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_set_values(set, NULL, 1), -EFAULT, "array");
    CHECK_ERROR(ww_sysv_sem_waiting(NULL, 0), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_waiting_for_zero(NULL, 0), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_last_pid(NULL, 0), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_get_status(NULL, &status), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_get_status(set, NULL), -EFAULT, "status");
    CHECK_ERROR(ww_sysv_sem_count(NULL), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_id(NULL), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_unlink(NULL), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_remove(NULL), -EFAULT, "address");

    CHECK_ERROR(ww_sysv_sem_acquire(set, 1, WW_NOW), -EFBIG, "the set has 1, from 0");
    CHECK_ERROR(ww_sysv_sem_acquire(set, 65536, WW_NOW), -EFBIG, "past the last semaphore");
    CHECK_ERROR(ww_sysv_sem_value(set, (uint32_t)-1), -EFBIG, "past the last semaphore");
    CHECK_ERROR(ww_sysv_sem_last_pid(set, 1), -EFBIG, "the set has 1, from 0");
    CHECK_ERROR(ww_sysv_sem_add(set, 0, 0, WW_NOW), -EINVAL, "wait_zero");
    CHECK_ERROR(ww_sysv_sem_add(set, 0, 32767, WW_NOW), -ERANGE, "semvmx=32767");
    CHECK_ERROR(ww_sysv_sem_add(set, 0, 40000, WW_NOW), -ERANGE, "semvmx=32767");
    CHECK_ERROR(ww_sysv_sem_set_value(set, 0, 32768), -ERANGE, "semvmx=32767");
    CHECK_ERROR(ww_sysv_sem_set_value(set, 0, 65536), -ERANGE, "semvmx=32767");

    options.size = 0;
    CHECK_ERROR(ww_sysv_sem_create(&other, "sysv-sem:private", &options), -EINVAL, "WW_..._INIT");
    options.size = sizeof options;
    options.values = values;
    CHECK_ERROR(ww_sysv_sem_create(&other, "sysv-sem:private", &options), -EINVAL, "values need their count");
    options.count = 2;
    CHECK_ERROR(ww_sysv_sem_create(&other, "sysv-sem:private", &options), -ERANGE, "semvmx=32767");
    options.values = NULL;
    options.initial = 65536;
    CHECK_ERROR(ww_sysv_sem_create(&other, "sysv-sem:private", &options), -ERANGE, "semvmx=32767");
    options.initial = 0;
    options.count = SIZE_MAX;
    CHECK_ERROR(ww_sysv_sem_create(&other, "sysv-sem:private", &options), -EINVAL, "more than semmsl=");
    options.count = 0;
    options.settle_ns = -1;
    CHECK_ERROR(ww_sysv_sem_create(&other, "sysv-sem:private", &options), -EINVAL, "settle_ns");
    CHECK(other == (ww_sysv_sem *)1);
    ww_sysv_sem_close(NULL);
    remove_set(set);
}

static void *acquire_for_ever(void *set) { return (void *)(intptr_t)ww_sysv_sem_acquire(set, 0, WW_FOREVER); }

TEST(close_during_a_wait) {
    ww_sysv_sem *set = open_one(0), *same;
    pthread_t thread;
    void *result;
    OK(ww_sysv_sem_from_id(&same, ww_sysv_sem_id(set)));
    OK(pthread_create(&thread, NULL, acquire_for_ever, same));
    until_blocked(1);
    CHECK(ww_sysv_sem_waiting(set, 0) <= 1);
    CHECK_INT(ww_sysv_sem_waiting_for_zero(set, 0), 0);
    ww_sysv_sem_close(same);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    CHECK_INT(ww_sysv_sem_waiting(set, 0), 0);
    remove_set(set);
}

TEST(removed_by_another_process_during_a_wait) {
    ww_sysv_sem *set = open_one(0);
    pid_t pid = fork();
    if (pid == 0) {
        sleep_ms(20); /* most probably the other waits by now; right either way */
        _exit(ww_sysv_sem_unlink(set) == 0 ? 0 : 1);
    }
    CHECK_ERROR(ww_sysv_sem_acquire(set, 0, GENEROUS), -EIDRM, "the set was removed");
    reap(pid, 0);
    ww_sysv_sem_close(set);
}

TEST(killed_holder_gives_back) {
    ww_sysv_sem *set = open_one(1);
    pid_t pid = fork();
    if (pid == 0) {
        ww_sysv_sem_acquire(set, 0, WW_NOW);
        for (;;) pause();
    }
    while (ww_sysv_sem_value(set, 0) != 0) sleep_ms(1);
    kill(pid, SIGKILL);
    OK(ww_sysv_sem_acquire(set, 0, GENEROUS));
    reap_killed(pid);
    remove_set(set);
}

TEST(libc_on_the_other_side) {
    ww_sysv_sem_options options = WW_SYSV_SEM_OPTIONS_INIT;
    ww_sysv_sem *set;
    struct key key;
    pid_t pid;
    int n;
    const char *args[] = {"echo", key.path, "500", NULL};
    make_key(&key);
    options.count = 2;
    OK(ww_sysv_sem_open_or_create(&set, key.address, &options));
    pid = spawn_peer("sysv_sem", args);
    for (n = 0; n < 500; n++) {
        OK(ww_sysv_sem_add(set, 0, 1, GENEROUS));
        OK(ww_sysv_sem_add(set, 1, -1, GENEROUS));
    }
    reap(pid, 0);
    remove_set(set);
    unlink(key.path);
}

TEST(made_by_libc_the_old_way) {
    ww_sysv_sem_options options = WW_SYSV_SEM_OPTIONS_INIT;
    ww_sysv_sem *set;
    struct key key;
    const char *args[] = {"create", key.path, "7", NULL};
    make_key(&key);
    reap(spawn_peer("sysv_sem", args), 0);
    options.initial = 1;
    options.settle_ns = WW_MS(20);
    OK(ww_sysv_sem_open_or_create(&set, key.address, &options));
    CHECK_INT(ww_sysv_sem_value(set, 0), 7);
    remove_set(set);
    unlink(key.path);
}

TEST(a_descriptor_for_permits) {
    ww_sysv_sem *set = open_one(0);
    ww_waitset *waits;
    ww_waitset_event event;
    int fd, go[2];
    pid_t pid;
    CHECK_INT(pipe(go), 0);
    pid = fork(); /* first: the memory of a helper thread would count as lost in a child that has no such thread */
    if (pid == 0) {
        char byte;
        _exit(read(go[0], &byte, 1) == 1 && ww_sysv_sem_add(set, 0, 1, WW_NOW) == 0 ? 0 : 1);
    }
    fd = ww_sysv_sem_doorbell(set, 0, -1);
    CHECK(fd >= 0);
    CHECK_INT(ww_sysv_sem_doorbell(set, 0, -1), fd);
    OK(ww_waitset_new(&waits));
    OK(ww_waitset_add_fd(waits, fd, WW_READABLE, 3));
    CHECK_INT(ww_waitset_wait(waits, &event, 1, SHORT), -ETIMEDOUT);
    CHECK_INT(write(go[1], "", 1), 1);
    CHECK_INT(ww_waitset_wait(waits, &event, 1, GENEROUS), 1);
    CHECK_INT(event.token, 3);
    reap(pid, 0);
    CHECK_INT(ww_sysv_sem_value(set, 0), 1);
    OK(ww_sysv_sem_acquire(set, 0, WW_NOW));
    CHECK_INT(ww_sysv_sem_acquire(set, 0, WW_NOW), -EAGAIN);
    CHECK_INT(ww_waitset_wait(waits, &event, 1, SHORT), -ETIMEDOUT);
    CHECK_ERROR(ww_sysv_sem_doorbell(NULL, 0, -1), -EFAULT, "sysv_sem");
    CHECK_ERROR(ww_sysv_sem_doorbell(set, 0, 1), -EINVAL, "-1 is for a permit");
    CHECK_ERROR(ww_sysv_sem_doorbell(set, 0, -70000), -ERANGE, "32767");
    CHECK_ERROR(ww_sysv_sem_doorbell(set, 9, -1), -EFBIG, "");
    ww_waitset_close(waits);
    close(go[0]);
    close(go[1]);
    remove_set(set);
}
