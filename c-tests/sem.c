/* POSIX semaphore. */
#include "test.h"

#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>

static const char *fresh_address(void) {
    static char address[100];
    snprintf(address, sizeof address, "sem:/%s", fresh_name("sem"));
    return address;
}

/* A semaphore without a name any more. */
static ww_sem *open_sem(uint32_t initial) {
    ww_sem_options options = WW_SEM_OPTIONS_INIT;
    const char *address = fresh_address();
    ww_sem *sem;
    options.initial = initial;
    OK(ww_sem_create(&sem, address, &options));
    OK(ww_sem_remove(address));
    return sem;
}

TEST(acquires_and_releases) {
    ww_sem *sem = open_sem(1);
    size_t done = 99;
    CHECK_INT(ww_sem_value(sem), 1);
    OK(ww_sem_acquire(sem, WW_NOW));
    CHECK_ERROR(ww_sem_acquire(sem, WW_NOW), -EAGAIN, "acquire sem:/");
    CHECK_ERROR(ww_sem_acquire(sem, SHORT), -ETIMEDOUT, "deadline");
    CHECK_ERROR(ww_sem_acquire(sem, -7), -EINVAL, "WW_FOREVER");
    OK(ww_sem_release(sem));
    OK(ww_sem_release_many(sem, 3, &done));
    CHECK_INT(done, 3);
    OK(ww_sem_release_many(sem, 0, NULL));
    CHECK_INT(ww_sem_value(sem), 4);
    ww_sem_close(sem);
}

TEST(overflow) {
    ww_sem *sem = open_sem(2147483646);
    size_t done = 99;
    CHECK_ERROR(ww_sem_release_many(sem, 5, &done), -EOVERFLOW, "more is released than acquired");
    CHECK_INT(done, 1);
    CHECK_ERROR(ww_sem_release(sem), -EOVERFLOW, "2147483647");
    CHECK_INT(ww_sem_value(sem), 2147483647);
    ww_sem_close(sem);
}

TEST(names) {
    ww_sem_options options = WW_SEM_OPTIONS_INIT;
    char address[100], with_options[120];
    ww_sem *sem, *other = (ww_sem *)1;
    strcpy(address, fresh_address());
    CHECK_ERROR(ww_sem_open(&other, address), -ENOENT, "no semaphore of this name");
    CHECK(other == (ww_sem *)1);
    snprintf(with_options, sizeof with_options, "%s?initial=3", address);
    OK(ww_sem_open_or_create(&sem, with_options, NULL));
    options.initial = 8;
    CHECK_ERROR(ww_sem_create(&other, address, &options), -EEXIST, "there is a semaphore of this name");
    OK(ww_sem_open_or_create(&other, address, &options));
    CHECK_INT(ww_sem_value(other), 3);
    OK(ww_sem_release(other));
    CHECK_INT(ww_sem_value(sem), 4);
    ww_sem_close(other);
    OK(ww_sem_remove(address));
    CHECK_ERROR(ww_sem_remove(address), -ENOENT, "no semaphore of this name");
    OK(ww_sem_acquire(sem, WW_NOW));
    ww_sem_close(sem);
}

TEST(in_shared_memory) {
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ww_sem *sem;
    pid_t pid;
    CHECK(page != MAP_FAILED);
    OK(ww_sem_init_at(&sem, page, 0));
    pid = fork();
    if (pid == 0) {
        ww_sem *same;
        if (ww_sem_at(&same, page) != 0 || ww_sem_release(same) != 0) _exit(1);
        ww_sem_close(same);
        _exit(0);
    }
    OK(ww_sem_acquire(sem, GENEROUS));
    reap(pid, 0);
    CHECK(sizeof(sem_t) <= WW_SEM_SIZE);
    ww_sem_close(sem);
    memset(page, 0x5a, WW_SEM_SIZE);
    CHECK_ERROR(ww_sem_at(&sem, page), -EBADMSG, "hold no semaphore");
    CHECK_ERROR(ww_sem_init_at(&sem, page + 1, 0), -EINVAL, "must be a multiple of 8");
    CHECK_ERROR(ww_sem_at(&sem, page + 1), -EINVAL, "must be a multiple of 8");
    CHECK_ERROR(ww_sem_init_at(&sem, page, UINT32_MAX), -EINVAL, "past the largest");
    CHECK_ERROR(ww_sem_init_at(&sem, NULL, 0), -EFAULT, "sem_init");
    CHECK_ERROR(ww_sem_at(&sem, NULL), -EFAULT, "sem_at");
    munmap(page, 4096);
}

TEST(bad_input) {
    ww_sem_options options = WW_SEM_OPTIONS_INIT;
    ww_sem *sem = (ww_sem *)1;
    size_t done = 9;
    char page[64];
    CHECK_ERROR(ww_sem_open(NULL, "sem:/x"), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sem_open(&sem, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_sem_open(&sem, ""), -EINVAL, "expected a scheme");
    CHECK_ERROR(ww_sem_open(&sem, "pipe:"), -EINVAL, "expected sem:");
    CHECK_ERROR(ww_sem_open(&sem, "sem:noslash"), -EINVAL, "at byte 4");
    CHECK_ERROR(ww_sem_open(&sem, "sem:/a/b"), -EINVAL, "no further slash");
    CHECK_ERROR(ww_sem_open(&sem, "sem:/.."), -EINVAL, "other than . and ..");
    CHECK_ERROR(ww_sem_open(&sem, "sem:/x?depth=3"), -EINVAL, "an option of this scheme");
    CHECK_ERROR(ww_sem_create(NULL, "sem:/x", NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sem_create(&sem, NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_sem_open_or_create(NULL, "sem:/x", NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sem_init_at(NULL, page, 0), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sem_at(NULL, page), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sem_acquire(NULL, WW_NOW), -EFAULT, "sem");
    CHECK_ERROR(ww_sem_release(NULL), -EFAULT, "sem");
    CHECK_ERROR(ww_sem_release_many(NULL, 3, &done), -EFAULT, "sem");
    CHECK_INT(done, 0);
    CHECK_ERROR(ww_sem_value(NULL), -EFAULT, "sem");
    CHECK_ERROR(ww_sem_remove(NULL), -EFAULT, "address");
    CHECK(ww_sem_pointer(NULL) == NULL);
    options.size = 1;
    CHECK_ERROR(ww_sem_create(&sem, "sem:/x", &options), -EINVAL, "WW_..._INIT");
    options.size = sizeof options;
    options.initial = 2147483648u;
    CHECK_ERROR(ww_sem_create(&sem, "sem:/x", &options), -EINVAL, "initial value 2147483648");
    options.initial = 0;
    options.mode = 01777;
    CHECK_ERROR(ww_sem_open_or_create(&sem, "sem:/x", &options), -EINVAL, "from 0 to 0777");
    CHECK(sem == (ww_sem *)1);
    ww_sem_close(NULL);
}

TEST(name_taken_by_something_else) {
    char path[100], address[100];
    ww_sem *sem;
    FILE *file;
    const char *name = fresh_name("sem");
    snprintf(path, sizeof path, "/dev/shm/sem.%s", name);
    snprintf(address, sizeof address, "sem:/%s", name);
    file = fopen(path, "w");
    fputs("too short", file);
    fclose(file);
    CHECK_ERROR(ww_sem_open(&sem, address), -EBADMSG, "is not a semaphore");
    CHECK_ERROR(ww_sem_open_or_create(&sem, address, NULL), -EBADMSG, "is not a semaphore");
    OK(ww_sem_remove(address));
}

static void *acquire_for_ever(void *sem) { return (void *)(intptr_t)ww_sem_acquire(sem, WW_FOREVER); }

TEST(close_during_a_wait) {
    ww_sem *sem = open_sem(0);
    pthread_t thread;
    void *result;
    OK(pthread_create(&thread, NULL, acquire_for_ever, sem));
    until_blocked(1);
    ww_sem_close(sem);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
}

TEST(cancel_during_a_wait) {
    ww_sem *sem = open_sem(0);
    ww_cancel *cancel;
    OK(ww_cancel_new(&cancel));
    OK(ww_cancel_enter(cancel));
    OK(ww_cancel_fire(cancel));
    CHECK_ERROR(ww_sem_acquire(sem, WW_FOREVER), -ECANCELED, "cancelled");
    OK(ww_cancel_leave(cancel));
    ww_cancel_close(cancel);
    ww_sem_close(sem);
}

TEST(killed_holder_takes_its_permit_along) {
    ww_sem *sem = open_sem(1);
    pid_t pid = fork();
    if (pid == 0) {
        ww_sem_acquire(sem, WW_NOW);
        for (;;) pause();
    }
    while (ww_sem_value(sem) != 0) sleep_ms(1);
    kill(pid, SIGKILL);
    reap_killed(pid);
    CHECK_ERROR(ww_sem_acquire(sem, SHORT), -ETIMEDOUT, "deadline");
    ww_sem_close(sem);
}

TEST(libc_on_the_other_side) {
    char ping_address[100], pong_address[100];
    ww_sem *ping, *pong;
    pid_t pid;
    int n;
    const char *args[] = {"echo", ping_address + 4, pong_address + 4, "1000", NULL};
    strcpy(ping_address, fresh_address());
    strcpy(pong_address, fresh_address());
    OK(ww_sem_create(&ping, ping_address, NULL));
    OK(ww_sem_create(&pong, pong_address, NULL));
    pid = spawn_peer("sem", args);
    for (n = 0; n < 1000; n++) {
        OK(ww_sem_release(ping));
        OK(ww_sem_acquire(pong, GENEROUS));
    }
    reap(pid, 0);
    OK(ww_sem_remove(ping_address));
    OK(ww_sem_remove(pong_address));
    OK(sem_post(ww_sem_pointer(ping)));
    CHECK_INT(ww_sem_value(ping), 1);
    ww_sem_close(ping);
    ww_sem_close(pong);
}

TEST(made_by_libc) {
    char address[100];
    ww_sem *sem;
    const char *args[] = {"create", address + 4, "7", NULL};
    strcpy(address, fresh_address());
    reap(spawn_peer("sem", args), 0);
    OK(ww_sem_open(&sem, address));
    CHECK_INT(ww_sem_value(sem), 7);
    OK(ww_sem_remove(address));
    ww_sem_close(sem);
}
