/* Shared memory: System V, POSIX, memfd. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

static char address[128];

/* The address of a segment with a key, or of an object with a name, that no other test uses. */
static const char *fresh_key(void) {
    snprintf(address, sizeof address, "sysv-shm:%#x", 0x60000000u | (unsigned)getpid());
    return address;
}

static const char *fresh_shm(void) {
    snprintf(address, sizeof address, "shm:/%s", fresh_name("shm"));
    return address;
}

static ww_memory_options sized(size_t length) {
    ww_memory_options options = WW_MEMORY_OPTIONS_INIT;
    options.length = length;
    return options;
}

TEST(system_v) {
    ww_memory_options options = sized(5000), none = WW_MEMORY_OPTIONS_INIT;
    ww_sysv_shm_status found;
    ww_sysv_shm *first, *second, *third;
    void *data, *other;
    int id = -1;
    int32_t key = -1;
    fresh_key();
    CHECK_ERROR(ww_sysv_shm_open(&first, address, NULL), -ENOENT, "create it first");
    CHECK_ERROR(ww_sysv_shm_create(&first, address, &none), -EINVAL, "needs a size");
    options.mode = 0640;
    OK(ww_sysv_shm_create(&first, address, &options));
    CHECK_ERROR(ww_sysv_shm_create(&second, address, &options), -EEXIST, "exists already");
    OK(ww_sysv_shm_open_or_create(&second, address, &options));
    CHECK_INT(ww_sysv_shm_created(first), 1);
    CHECK_INT(ww_sysv_shm_created(second), 0);
    CHECK_INT(ww_sysv_shm_size(second), 5000);
    OK(ww_sysv_shm_data(first, &data));
    OK(ww_sysv_shm_data(second, &other));
    CHECK(data != other);
    strcpy(data, "shared");
    CHECK(strcmp(other, "shared") == 0);
    id = ww_sysv_shm_id(first);
    CHECK(id >= 0);
    OK(ww_sysv_shm_key(first, &key));
    CHECK_INT(key, 0x60000000 | getpid());
    none.read_only = 1;
    OK(ww_sysv_shm_from_id(&third, id, &none));
    OK(ww_sysv_shm_get_status(third, &found));
    CHECK_INT(found.attached, 3);
    CHECK_INT(found.length, 5000);
    CHECK_INT(found.creator_pid, getpid());
    CHECK_INT(found.last_pid, getpid());
    CHECK_INT(found.mode, 0640);
    CHECK_INT(found.uid, geteuid());
    CHECK_INT(found.removed, 0);
    CHECK_INT(ww_sysv_shm_grow(third, 5000), 5000);
    CHECK_ERROR(ww_sysv_shm_grow(third, 5001), -ENOTSUP, "the size of a System V segment is fixed");
    options.length = 5001;
    CHECK_ERROR(ww_sysv_shm_open(&third, address, &options), -EINVAL, "5000 bytes, and 5001 are asked for");
    OK(ww_sysv_shm_check_name(first));
    OK(ww_sysv_shm_remove(address));
    CHECK_ERROR(ww_sysv_shm_remove(address), -ENOENT, "no segment with this key");
    CHECK_ERROR(ww_sysv_shm_check_name(first), -ENOENT, "was removed");
    ww_sysv_shm_close(second);
    OK(ww_sysv_shm_create(&second, address, &options));
    CHECK_ERROR(ww_sysv_shm_check_name(first), -ESTALE, "made anew");
    OK(ww_sysv_shm_unlink(first));
    OK(ww_sysv_shm_unlink(second));
    ww_sysv_shm_close(first);
    ww_sysv_shm_close(second);
    ww_sysv_shm_close(third);
    CHECK_ERROR(ww_sysv_shm_from_id(&third, id, NULL), -EIDRM, "no segment with the id");
}

TEST(posix) {
    ww_memory_options options = sized(5000), reading = WW_MEMORY_OPTIONS_INIT;
    ww_sysv_shm_status found;
    ww_shm *first, *second, *third;
    void *data, *other;
    char *grown;
    fresh_shm();
    reading.read_only = 1;
    CHECK_ERROR(ww_shm_open(&first, address, NULL, WW_NOW), -ENOENT, "create it first");
    OK(ww_shm_create(&first, address, &options));
    CHECK_ERROR(ww_shm_create(&second, address, &options), -EEXIST, "exists already");
    OK(ww_shm_open_or_create(&second, address, &options, WW_NOW));
    CHECK_INT(ww_shm_created(first), 1);
    CHECK_INT(ww_shm_created(second), 0);
    CHECK_INT(ww_shm_size(second), 5000);
    OK(ww_shm_data(first, &data));
    OK(ww_shm_data(second, &other));
    strcpy(data, "shared");
    CHECK(strcmp(other, "shared") == 0);
    CHECK_INT(ww_shm_grow(first, 100000), 100000);
    OK(ww_shm_data(first, &data));
    grown = data;
    strcpy(grown + 99990, "grown");
    CHECK_INT(ww_shm_refresh(second), 100000);
    OK(ww_shm_data(second, &other));
    CHECK(strcmp((char *)other + 99990, "grown") == 0);
    OK(ww_shm_reserve(second));
    CHECK_ERROR(ww_shm_get_status(first, &found), -ENOTSUP, "only for System V");
    OK(ww_shm_open(&third, address, &reading, WW_NOW));
    CHECK_ERROR(ww_shm_grow(third, 200000), -EACCES, "read-only");
    CHECK_ERROR(ww_shm_reserve(third), -EBADF, "fallocate shm:/");
    OK(ww_shm_inherit(third));
    CHECK_INT(fcntl(ww_shm_fd(third), F_GETFD), 0);
    ww_shm_close(third);
    OK(ww_shm_from_fd(&third, dup(ww_shm_fd(first)), NULL));
    CHECK_INT(ww_shm_size(third), 100000);
    OK(ww_shm_check_name(third));
    OK(ww_shm_remove(address));
    CHECK_ERROR(ww_shm_remove(address), -ENOENT, "no shared memory of this name");
    CHECK_ERROR(ww_shm_check_name(first), -ENOENT, "was removed");
    CHECK_ERROR(ww_shm_unlink(first), -ENOENT, "was removed");
    ww_shm_close(second);
    OK(ww_shm_create(&second, address, &options));
    CHECK_ERROR(ww_shm_unlink(first), -ESTALE, "made anew");
    OK(ww_shm_unlink(second));
    ww_shm_close(first);
    ww_shm_close(second);
    ww_shm_close(third);
}

TEST(memfd) {
    ww_memory_options options = sized(4096), reading = WW_MEMORY_OPTIONS_INIT;
    ww_sysv_shm_status found;
    ww_memfd *made, *received;
    uint32_t seals = 0;
    void *data, *other;
    int fd;
    reading.read_only = 1;
    OK(ww_memfd_create(&made, "memfd:label", &options));
    OK(ww_memfd_data(made, &data));
    strcpy(data, "sealed");
    CHECK_INT(ww_memfd_grow(made, 10000), 10000);
    fd = dup(ww_memfd_fd(made));
    CHECK_ERROR(ww_memfd_from_fd(&received, fd, WW_SEAL_SHRINK | WW_SEAL_WRITE, &reading), -EPERM,
                "missing are SHRINK, WRITE");
    CHECK_ERROR(ww_memfd_from_fd(&received, fd, 0x1000, &reading), -EINVAL, "WW_SEAL_");
    OK(ww_memfd_from_fd(&received, fd, 0, NULL)); /* takes fd */
    CHECK_ERROR(ww_memfd_seal(made, WW_SEAL_WRITE), -EBUSY, "mapped writable");
    CHECK_INT(ww_memfd_grow(made, 20000), 20000);
    CHECK_INT(ww_memfd_refresh(received), 20000);
    OK(ww_memfd_reserve(received));
    ww_memfd_close(received);
    OK(ww_memfd_data(made, &data));
    OK(ww_memfd_seal(made, WW_SEAL_SHRINK | WW_SEAL_GROW | WW_SEAL_WRITE));
    OK(ww_memfd_data(made, &other));
    CHECK(data == other && strcmp(data, "sealed") == 0);
    OK(ww_memfd_seals(made, &seals));
    CHECK_INT(seals & ~(uint32_t)WW_SEAL_EXEC, WW_SEAL_SHRINK | WW_SEAL_GROW | WW_SEAL_WRITE);
    OK(ww_memfd_from_fd(&received, dup(ww_memfd_fd(made)), WW_SEAL_SHRINK | WW_SEAL_WRITE, &reading));
    OK(ww_memfd_data(received, &other));
    CHECK(strcmp(other, "sealed") == 0);
    CHECK_INT(ww_memfd_size(received), 20000);
    OK(ww_memfd_seal(made, WW_SEAL_SEAL));
    CHECK_ERROR(ww_memfd_seal(made, WW_SEAL_FUTURE_WRITE), -EPERM, "against further seals");
    CHECK_ERROR(ww_memfd_seal(made, 0x1000), -EINVAL, "WW_SEAL_");
    CHECK_ERROR(ww_memfd_get_status(made, &found), -ENOTSUP, "only for System V");
    OK(ww_memfd_inherit(made));
    CHECK_INT(fcntl(ww_memfd_fd(made), F_GETFD), 0);
    ww_memfd_close(made);
    ww_memfd_close(received);
}

static void *fire_soon(void *cancel) {
    sleep_ms(20);
    ww_cancel_fire(cancel);
    return NULL;
}

TEST(waits_for_a_size) {
    ww_cancel *cancel;
    pthread_t thread;
    ww_shm *shm;
    pid_t pid;
    int fd;
    fresh_shm();
    fd = shm_open(strchr(address, '/'), O_CREAT | O_EXCL | O_RDWR, 0600);
    CHECK(fd >= 0);
    CHECK_ERROR(ww_shm_open(&shm, address, NULL, WW_NOW), -EAGAIN, "shm_open shm:/");
    CHECK_ERROR(ww_shm_open(&shm, address, NULL, SHORT), -ETIMEDOUT, "still has the size 0");
    CHECK_ERROR(ww_shm_open(&shm, address, NULL, -5), -EINVAL, "WW_FOREVER");
    OK(ww_cancel_new(&cancel));
    OK(pthread_create(&thread, NULL, fire_soon, cancel));
    OK(ww_cancel_enter(cancel));
    CHECK_ERROR(ww_shm_open(&shm, address, NULL, WW_FOREVER), -ECANCELED, "cancelled");
    OK(ww_cancel_leave(cancel));
    OK(pthread_join(thread, NULL));
    ww_cancel_close(cancel);
    pid = fork();
    if (pid == 0) {
        sleep_ms(20);
        _exit(ftruncate(fd, 100) != 0);
    }
    close(fd);
    OK(ww_shm_open(&shm, address, NULL, GENEROUS));
    CHECK_INT(ww_shm_size(shm), 100);
    reap(pid, 0);
    OK(ww_shm_unlink(shm));
    ww_shm_close(shm);
}

TEST(outlives_a_killed_peer) {
    ww_memory_options options = sized(4096);
    ww_shm *shm;
    volatile char *memory;
    void *data;
    pid_t pid;
    OK(ww_shm_create(&shm, fresh_shm(), &options));
    OK(ww_shm_data(shm, &data));
    memory = data;
    pid = fork();
    if (pid == 0) {
        ww_shm *own;
        if (ww_shm_open(&own, address, NULL, GENEROUS) != 0 || ww_shm_data(own, &data) != 0) _exit(1);
        strcpy(data, "written before the end");
        for (;;) pause();
    }
    while (memory[21] == 0) sleep_ms(1);
    kill(pid, 9);
    reap_killed(pid);
    CHECK(strcmp(data, "written before the end") == 0);
    OK(ww_shm_unlink(shm));
    ww_shm_close(shm);
}

static void peer(const char *kind, const char *verb, const char *where, const char *text) {
    const char *args[] = {kind, verb, where, text, NULL};
    reap(spawn_peer("shm", args), 0);
}

TEST(a_program_that_knows_only_libc) {
    ww_memory_options options = sized(4096);
    ww_sysv_shm *segment;
    ww_memfd *memory;
    ww_shm *shm;
    void *data;
    char fd[16];

    peer("sysv", "create", strchr(fresh_key(), '0'), "made by libc");
    OK(ww_sysv_shm_open(&segment, address, NULL));
    CHECK_INT(ww_sysv_shm_size(segment), 4096);
    OK(ww_sysv_shm_data(segment, &data));
    CHECK(strcmp(data, "made by libc") == 0);
    strcpy(data, "by wigwag");
    peer("sysv", "read", strchr(address, '0'), "by wigwag");
    peer("sysv", "write", strchr(address, '0'), "By libc");
    CHECK(strncmp(data, "By libc", 7) == 0);
    OK(ww_sysv_shm_unlink(segment));
    ww_sysv_shm_close(segment);
    OK(ww_sysv_shm_create(&segment, address, &options));
    peer("sysv", "write", strchr(address, '0'), "in wigwag's");
    OK(ww_sysv_shm_data(segment, &data));
    CHECK(strcmp(data, "in wigwag's") == 0);
    OK(ww_sysv_shm_unlink(segment));
    ww_sysv_shm_close(segment);

    peer("posix", "create", strchr(fresh_shm(), '/'), "made by libc");
    OK(ww_shm_open(&shm, address, NULL, WW_NOW));
    OK(ww_shm_data(shm, &data));
    CHECK(strcmp(data, "made by libc") == 0);
    strcpy(data, "by wigwag");
    peer("posix", "read", strchr(address, '/'), "by wigwag");
    OK(ww_shm_unlink(shm));
    ww_shm_close(shm);
    OK(ww_shm_create(&shm, address, &options));
    peer("posix", "write", strchr(address, '/'), "in wigwag's");
    OK(ww_shm_data(shm, &data));
    CHECK(strcmp(data, "in wigwag's") == 0);
    OK(ww_shm_unlink(shm));
    ww_shm_close(shm);

    OK(ww_memfd_create(&memory, "memfd:", &options));
    OK(ww_memfd_inherit(memory));
    OK(ww_memfd_data(memory, &data));
    strcpy(data, "by wigwag");
    snprintf(fd, sizeof fd, "%d", ww_memfd_fd(memory));
    peer("memfd", "read", fd, "by wigwag");
    peer("memfd", "write", fd, "By libc");
    CHECK(strncmp(data, "By libc", 7) == 0);
    ww_memfd_close(memory);
}

TEST(lock_populate_and_huge_pages) {
    ww_memory_options options = sized(1 << 20);
    struct rlimit limit = {65536, 65536};
    ww_memfd *memory;
    ww_shm *shm;
    if (geteuid() == 0) CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    OK(setrlimit(RLIMIT_MEMLOCK, &limit));
    options.populate = 1;
    OK(ww_memfd_create(&memory, "memfd:", &options));
    ww_memfd_close(memory);
    options.lock = 1;
    CHECK_ERROR(ww_memfd_create(&memory, "memfd:", &options), -ENOMEM, "RLIMIT_MEMLOCK allows 65536 bytes");
    options.lock = 0;
    options.huge_pages = 1;
    CHECK_ERROR(ww_shm_create(&shm, fresh_shm(), &options), -ENOTSUP, "use memfd:");
    options.huge_page_size = 3;
    CHECK_ERROR(ww_memfd_create(&memory, "memfd:", &options), -EINVAL, "power of two");
    options.huge_pages = 0;
    options.huge_page_size = 0;
    options.sparse = 1;
    OK(ww_memfd_create(&memory, "memfd:", &options));
    OK(ww_memfd_reserve(memory));
    ww_memfd_close(memory);
}

TEST(bad_input) {
    ww_memory_options options = sized(4096), wrong = sized(1);
    ww_sysv_shm_status found;
    ww_sysv_shm *segment = NULL;
    ww_memfd *memory = NULL;
    ww_shm *shm = NULL;
    void *data;
    uint32_t seals;
    int32_t key;
    int pipe_ends[2];
    OK(pipe(pipe_ends));

    CHECK_ERROR(ww_sysv_shm_create(NULL, "sysv-shm:private", &options), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_shm_create(&segment, NULL, &options), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_shm_create(&segment, "sysv-shm:", &options), -EINVAL, "at byte 9");
    CHECK_ERROR(ww_sysv_shm_create(&segment, "shm:/x", &options), -EINVAL, "expected sysv-shm:");
    CHECK_ERROR(ww_sysv_shm_create(&segment, "sysv-shm:/no/such/file#65", &options), -ENOENT, "derived from");
    CHECK_ERROR(ww_sysv_shm_open(NULL, "sysv-shm:0x1", NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_shm_open(&segment, NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_shm_open(&segment, "sysv-shm:private", NULL), -EINVAL, "pass its id on");
    CHECK_ERROR(ww_sysv_shm_open_or_create(NULL, "sysv-shm:0x1", &options), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_shm_open_or_create(&segment, NULL, &options), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_shm_from_id(NULL, 0, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_shm_from_id(&segment, -7, NULL), -EIDRM, "the id -7");
    CHECK_ERROR(ww_sysv_shm_data(NULL, &data), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_size(NULL), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_grow(NULL, 1), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_get_status(NULL, &found), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_id(NULL), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_key(NULL, &key), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_created(NULL), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_check_name(NULL), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_unlink(NULL), -EFAULT, "sysv_shm");
    CHECK_ERROR(ww_sysv_shm_remove(NULL), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_shm_remove("sysv-shm:private"), -EINVAL, "private");
    ww_sysv_shm_close(NULL);

    CHECK_ERROR(ww_shm_create(NULL, fresh_shm(), &options), -EFAULT, "output pointer");
    CHECK_ERROR(ww_shm_create(&shm, NULL, &options), -EFAULT, "address");
    CHECK_ERROR(ww_shm_create(&shm, address, NULL), -EINVAL, "needs a size");
    CHECK_ERROR(ww_shm_create(&shm, "shm:/a/b", &options), -EINVAL, "no further slash");
    CHECK_ERROR(ww_shm_open(NULL, address, NULL, WW_NOW), -EFAULT, "output pointer");
    CHECK_ERROR(ww_shm_open(&shm, NULL, NULL, WW_NOW), -EFAULT, "address");
    CHECK_ERROR(ww_shm_open_or_create(NULL, address, &options, WW_NOW), -EFAULT, "output pointer");
    CHECK_ERROR(ww_shm_open_or_create(&shm, NULL, &options, WW_NOW), -EFAULT, "address");
    CHECK_ERROR(ww_shm_from_fd(NULL, 0, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_shm_from_fd(&shm, -1, NULL), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_shm_from_fd(&shm, pipe_ends[0], NULL), -EINVAL, "not shared memory");
    CHECK_ERROR(ww_shm_data(NULL, &data), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_size(NULL), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_grow(NULL, 1), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_refresh(NULL), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_reserve(NULL), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_get_status(NULL, &found), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_inherit(NULL), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_fd(NULL), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_created(NULL), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_check_name(NULL), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_unlink(NULL), -EFAULT, "shm");
    CHECK_ERROR(ww_shm_remove(NULL), -EFAULT, "address");
    ww_shm_close(NULL);

    CHECK_ERROR(ww_memfd_create(NULL, "memfd:", &options), -EFAULT, "output pointer");
    CHECK_ERROR(ww_memfd_create(&memory, NULL, &options), -EFAULT, "address");
    wrong.length = (size_t)-1;
    CHECK_ERROR(ww_memfd_create(&memory, "memfd:", &wrong), -EINVAL, "negative");
    wrong.length = SIZE_MAX / 2;
    CHECK_ERROR(ww_memfd_create(&memory, "memfd:", &wrong), -ENOMEM, "memory and swap are available");
    wrong = sized(1);
    wrong.lock = 2;
    CHECK_ERROR(ww_memfd_create(&memory, "memfd:", &wrong), -EINVAL, "0 or 1");
    wrong = sized(1);
    wrong.mode = 01000;
    CHECK_ERROR(ww_memfd_create(&memory, "memfd:", &wrong), -EINVAL, "0777");
    wrong = sized(1);
    wrong.read_only = 1;
    CHECK_ERROR(ww_memfd_create(&memory, "memfd:", &wrong), -EINVAL, "cannot be read-only");
    wrong.size = 0;
    CHECK_ERROR(ww_memfd_create(&memory, "memfd:", &wrong), -EINVAL, "_INIT");
    CHECK_ERROR(ww_memfd_from_fd(NULL, 0, 0, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_memfd_from_fd(&memory, -1, 0, NULL), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_memfd_from_fd(&memory, pipe_ends[0], 0, NULL), -EINVAL, "not shared memory");
    CHECK_ERROR(ww_memfd_data(NULL, &data), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_size(NULL), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_grow(NULL, 1), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_refresh(NULL), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_reserve(NULL), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_get_status(NULL, &found), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_inherit(NULL), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_fd(NULL), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_seals(NULL, &seals), -EFAULT, "memfd");
    CHECK_ERROR(ww_memfd_seal(NULL, 0), -EFAULT, "memfd");
    ww_memfd_close(NULL);

    OK(ww_memfd_create(&memory, "memfd:", &options));
    CHECK_ERROR(ww_memfd_data(memory, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_memfd_get_status(memory, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_memfd_seals(memory, NULL), -EFAULT, "output pointer");
    ww_memfd_close(memory);
    OK(ww_sysv_shm_create(&segment, "sysv-shm:private", &options));
    OK(ww_sysv_shm_unlink(segment));
    CHECK_ERROR(ww_sysv_shm_data(segment, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_shm_get_status(segment, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_shm_key(segment, NULL), -EFAULT, "output pointer");
    ww_sysv_shm_close(segment);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}
