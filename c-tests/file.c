/* Disk file. Each test works in a directory of its own, which it removes. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char place[4096];

static void enter(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(place, sizeof place, "%s/%s", tmp != NULL ? tmp : "/tmp", fresh_name("file"));
    OK(mkdir(place, 0700));
    OK(chdir(place));
}

/* Removes these names and the directory, which must then be empty. */
static void leave(const char *const names[]) {
    for (; *names != NULL; names++) CHECK_INT(unlink(*names), 0);
    OK(chdir("/"));
    CHECK_INT(rmdir(place), 0);
}
#define LEAVE(...) leave((const char *const[]){__VA_ARGS__, NULL})

static void replace(const char *address, const char *text) {
    ww_file_replace_options fast = WW_FILE_REPLACE_OPTIONS_INIT;
    fast.durability = WW_FILE_NOT_DURABLE;
    OK(ww_file_replace(address, text, strlen(text), &fast));
}

static ww_file *open_file(const char *address) {
    ww_file_options options = WW_FILE_OPTIONS_INIT;
    ww_file *file;
    options.create = WW_FILE_CREATE;
    OK(ww_file_open(&file, address, &options));
    return file;
}

static int peer(const char *verb, const char *path, const char *text) {
    const char *args[] = {verb, path, text, NULL};
    pid_t pid = spawn_peer("file", args);
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(replace_and_load) {
    ww_file_replace_options options = WW_FILE_REPLACE_OPTIONS_INIT;
    char buffer[10];
    size_t true_size = 77;
    struct stat stat_of;
    enter();
    OK(ww_file_replace("file:x", "0123456789", 10, NULL));
    CHECK_INT(ww_file_load("file:x", buffer, 10, &true_size), 10);
    CHECK_INT(true_size, 77);
    CHECK(memcmp(buffer, "0123456789", 10) == 0);
    CHECK_ERROR(ww_file_load("file:x", buffer, 9, &true_size), -EMSGSIZE, "has 10 bytes, allowed are 9");
    CHECK_INT(true_size, 10);
    CHECK_ERROR(ww_file_load("file:x", NULL, 0, NULL), -EMSGSIZE, "raise the limit");
    options.durability = WW_FILE_DURABLE_CONTENT;
    options.mode = 0644;
    OK(ww_file_replace("file:x", NULL, 0, &options));
    CHECK_INT(ww_file_load("file:x", NULL, 0, NULL), 0);
    OK(stat("x", &stat_of));
    CHECK_INT(stat_of.st_mode & 0777, 0644);
    OK(ww_file_remove("file:x"));
    CHECK_ERROR(ww_file_remove("file:x"), -ENOENT, "remove file:x: ENOENT");
    CHECK_ERROR(ww_file_load("file:x", buffer, 10, NULL), -ENOENT, "load file:x");
    leave((const char *const[]){NULL});
}

TEST(append_and_read) {
    ww_file *file;
    char buffer[32];
    size_t done = 99, true_size = 99;
    uint64_t size;
    enter();
    file = open_file("file:x?mode=600");
    OK(ww_file_append(file, "one\n", 4, &done));
    CHECK_INT(done, 4);
    OK(ww_file_append_locked(file, "two\n", 4, GENEROUS, &done));
    CHECK_INT(done, 4);
    OK(ww_file_append(file, NULL, 0, &done));
    CHECK_INT(done, 0);
    OK(ww_file_sync(file));
    OK(ww_file_size(file, &size));
    CHECK_INT(size, 8);
    CHECK_INT(ww_file_read_all(file, buffer, sizeof buffer, NULL), 8);
    CHECK(memcmp(buffer, "one\ntwo\n", 8) == 0);
    CHECK_ERROR(ww_file_read_all(file, buffer, 3, &true_size), -EMSGSIZE, "has 8 bytes");
    CHECK_INT(true_size, 8);
    CHECK_INT(ww_file_read_at(file, 4, buffer, 3), 3);
    CHECK(memcmp(buffer, "two", 3) == 0);
    CHECK_INT(ww_file_read_at(file, 8, buffer, 3), 0);
    CHECK_ERROR(ww_file_read_at(file, UINT64_MAX, buffer, 3), -EINVAL, "past 2^63");
    ww_file_close(file);
    LEAVE("x");
}

TEST(a_record_that_does_not_fit) {
    struct rlimit limit = {100, 100};
    ww_file *file;
    char record[60] = {0};
    size_t done = 99;
    enter();
    OK(setrlimit(RLIMIT_FSIZE, &limit));
    file = open_file("file:x");
    OK(ww_file_append(file, record, 60, NULL));
    CHECK_ERROR(ww_file_append_locked(file, record, 60, GENEROUS, &done), -EFBIG, "40 of 60 bytes fitted, the part was taken");
    CHECK_INT(done, 0);
    CHECK_ERROR(ww_file_append(file, record, 60, &done), -EFBIG, "the part is left in the file");
    CHECK_INT(done, 40);
    CHECK_ERROR(ww_file_append(file, record, 60, &done), -EFBIG, "100 bytes (RLIMIT_FSIZE)");
    CHECK_INT(done, 0);
    ww_file_close(file);
    LEAVE("x");
}

TEST(locks) {
    ww_file *file;
    ww_filelock *lock, *other;
    enter();
    file = open_file("file:x");
    OK(ww_file_lock(file, &lock, WW_FILE_EXCLUSIVE, 0, 10, WW_NOW));
    CHECK_ERROR(ww_file_lock(file, &other, WW_FILE_SHARED, 9, 1, WW_NOW), -EAGAIN, "lock file:x: EAGAIN");
    OK(ww_file_lock(file, &other, WW_FILE_EXCLUSIVE, 10, 0, WW_NOW));
    ww_filelock_release(lock);
    ww_file_close(file); /* a lock stands on its own */
    file = open_file("file:x");
    CHECK_ERROR(ww_file_append_locked(file, "x", 1, WW_NOW, NULL), -EAGAIN, "append_locked");
    ww_filelock_release(other);
    OK(ww_file_lock(file, &lock, WW_FILE_SHARED, 0, 0, WW_NOW));
    OK(ww_file_lock(file, &other, WW_FILE_SHARED, 0, 0, WW_NOW));
    ww_filelock_release(lock);
    ww_filelock_release(other);
    replace("file:x", "another file of this name");
    CHECK_ERROR(ww_file_lock(file, &lock, WW_FILE_SHARED, 0, 0, WW_NOW), -ESTALE, "open it again");
    ww_file_close(file);
    LEAVE("x");
}

TEST(a_child_has_no_lock_of_its_parent) {
    ww_file *file;
    ww_filelock *lock, *other;
    pid_t pid;
    enter();
    file = open_file("file:x");
    OK(ww_file_lock(file, &lock, WW_FILE_EXCLUSIVE, 0, 0, WW_NOW));
    pid = fork();
    if (pid == 0) {
        ww_filelock_release(lock);
        _exit(ww_file_lock(file, &other, WW_FILE_EXCLUSIVE, 0, 0, WW_NOW) != -EAGAIN);
    }
    reap(pid, 0);
    CHECK_INT(ww_file_lock(file, &other, WW_FILE_EXCLUSIVE, 0, 0, WW_NOW), -EAGAIN);
    ww_filelock_release(lock);
    ww_file_close(file);
    LEAVE("x");
}

static void *lock_for_ever(void *file) {
    ww_filelock *lock;
    return (void *)(intptr_t)ww_file_lock(file, &lock, WW_FILE_SHARED, 0, 0, WW_FOREVER);
}

static void *watch_for_ever(void *watch) { return (void *)(intptr_t)ww_filewatch_wait(watch, WW_FOREVER); }

TEST(a_wait_for_a_lock_is_bounded) {
    ww_file *file;
    ww_filelock *lock, *other;
    int64_t start = now_ns();
    enter();
    file = open_file("file:x");
    OK(ww_file_lock(file, &lock, WW_FILE_EXCLUSIVE, 0, 10, WW_NOW));
    CHECK_ERROR(ww_file_lock(file, &other, WW_FILE_SHARED, 9, 1, SHORT), -ETIMEDOUT, "deadline");
    CHECK(now_ns() - start >= SHORT);
    ww_filelock_release(lock);
    ww_file_close(file);
    LEAVE("x");
}

TEST(close_during_a_wait_for_a_lock) {
    ww_file *file, *holder;
    ww_filelock *lock;
    pthread_t thread;
    void *result;
    enter();
    file = open_file("file:x");
    holder = open_file("file:x");
    OK(ww_file_lock(holder, &lock, WW_FILE_EXCLUSIVE, 0, 0, WW_NOW));
    OK(pthread_create(&thread, NULL, lock_for_ever, file));
    until_blocked(1);
    ww_file_close(file);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    ww_filelock_release(lock);
    ww_file_close(holder);
    LEAVE("x");
}

TEST(close_during_a_watch) {
    ww_filewatch *watch;
    pthread_t thread;
    void *result;
    enter();
    OK(ww_filewatch_open(&watch, "file:x", WW_FILE_REMOVED));
    OK(pthread_create(&thread, NULL, watch_for_ever, watch));
    until_blocked(1);
    ww_filewatch_close(watch);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    leave((const char *const[]){NULL});
}

TEST(watch) {
    ww_filewatch *watch;
    ww_cancel *cancel;
    enter();
    CHECK_ERROR(ww_file_until_exists("file:x", WW_NOW), -EAGAIN, "until_exists file:x");
    CHECK_ERROR(ww_file_until_exists("file:x", SHORT), -ETIMEDOUT, "deadline");
    OK(ww_filewatch_open(&watch, "file:x", WW_FILE_APPEARED | WW_FILE_CLOSED | WW_FILE_REMOVED));
    CHECK(ww_filewatch_fd(watch) >= 0);
    CHECK_ERROR(ww_filewatch_wait(watch, SHORT), -ETIMEDOUT, "wait file:x");
    replace("file:another", "");
    CHECK_INT(ww_filewatch_wait(watch, WW_NOW), -EAGAIN);
    CHECK_INT(peer("rewrite", "x", "text"), 0);
    CHECK_INT(ww_filewatch_wait(watch, GENEROUS), WW_FILE_APPEARED | WW_FILE_CLOSED);
    OK(ww_file_until_exists("file:x", WW_NOW));
    CHECK_INT(ww_file_remove("file:x"), 0);
    CHECK_INT(ww_filewatch_wait(watch, GENEROUS), WW_FILE_REMOVED);
    OK(ww_cancel_new(&cancel));
    ww_cancel_fire(cancel);
    OK(ww_cancel_enter(cancel));
    CHECK_ERROR(ww_filewatch_wait(watch, GENEROUS), -ECANCELED, "cancelled");
    CHECK_ERROR(ww_file_until_exists("file:x", GENEROUS), -ECANCELED, "cancelled");
    OK(ww_cancel_leave(cancel));
    ww_cancel_close(cancel);
    ww_filewatch_close(watch);
    LEAVE("another");
}

TEST(a_watched_directory_that_goes) {
    ww_filewatch *watch;
    enter();
    OK(mkdir("d", 0700));
    OK(ww_filewatch_open(&watch, "file:d/x", WW_FILE_CHANGED));
    OK(rmdir("d"));
    CHECK_ERROR(ww_filewatch_wait(watch, GENEROUS), -ESTALE, "open a new watch");
    CHECK_ERROR(ww_filewatch_wait(watch, GENEROUS), -ESTALE, "the directory d was removed");
    ww_filewatch_close(watch);
    CHECK_ERROR(ww_filewatch_open(&watch, "file:d/x", WW_FILE_CHANGED), -ENOENT, "make the directory first");
    leave((const char *const[]){NULL});
}

TEST(bad_input) {
    ww_file_options options = WW_FILE_OPTIONS_INIT;
    ww_file_replace_options how = WW_FILE_REPLACE_OPTIONS_INIT;
    ww_file *file, *none = NULL;
    ww_filelock *lock = NULL;
    ww_filewatch *watch = NULL;
    char buffer[4];
    size_t done = 9;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    enter();
    CHECK_ERROR(ww_file_open(&none, "file:x", NULL), -ENOENT, "open file:x: ENOENT");
    options.create = WW_FILE_CREATE_NEW;
    OK(ww_file_open(&file, "file:x", &options));
    CHECK_ERROR(ww_file_open(&none, "file:x", &options), -EEXIST, "open file:x: EEXIST");
    options.create = 3;
    CHECK_ERROR(ww_file_open(&none, "file:x", &options), -EINVAL, "WW_FILE_EXISTING");
    options.create = WW_FILE_EXISTING;
    options.access = -1;
    CHECK_ERROR(ww_file_open(&none, "file:x", &options), -EINVAL, "WW_FILE_READ_WRITE");
    options.access = WW_FILE_READ;
    options.mode = 01777;
    CHECK_ERROR(ww_file_open(&none, "file:x", &options), -EINVAL, "permissions from 0 to 0777");
    options.reserved = 1;
    CHECK_ERROR(ww_file_open(&none, "file:x", &options), -EINVAL, "reserved");
    CHECK_ERROR(ww_file_open(NULL, "file:x", NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_file_open(&none, NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_file_open(&none, "fifo:x", NULL), -EINVAL, "expected file:");
    CHECK_ERROR(ww_file_open(&none, "file:.", NULL), -EISDIR, "directory");
    CHECK_ERROR(ww_file_open(&none, "file:/dev/null", NULL), -ENOTSUP, "it is a device");
    CHECK_ERROR(ww_file_from_fd(&none, null), -ENOTSUP, "it is a device");
    CHECK_ERROR(ww_file_from_fd(&none, -1), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_file_from_fd(NULL, null), -EFAULT, "output pointer");
    close(null);
    CHECK(none == NULL);
    OK(ww_file_from_fd(&none, open("x", O_RDONLY | O_CLOEXEC)));
    CHECK_ERROR(ww_file_append(none, "x", 1, &done), -EINVAL, "lacks O_APPEND");
    CHECK_INT(done, 0);
    CHECK_ERROR(ww_file_lock(none, &lock, WW_FILE_EXCLUSIVE, 0, 0, WW_NOW), -EBADF, "open for writing");
    ww_file_close(none);

    how.durability = 9;
    CHECK_ERROR(ww_file_replace("file:x", "", 0, &how), -EINVAL, "durability");
    how.durability = WW_FILE_DURABLE;
    how.mode = 07777;
    CHECK_ERROR(ww_file_replace("file:x", "", 0, &how), -EINVAL, "permissions");
    CHECK_ERROR(ww_file_replace(NULL, "", 0, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_file_replace("file:x", NULL, 1, NULL), -EFAULT, "buffer");
    CHECK_ERROR(ww_file_replace("file:x", "", (size_t)-1, NULL), -EINVAL, "negative");
    CHECK_ERROR(ww_file_replace("file:d/x", "", 0, NULL), -ENOENT, "make the directory first");
    CHECK_ERROR(ww_file_replace("file:.", "", 0, NULL), -EISDIR, "directory");
    OK(symlink("x", "link"));
    CHECK_ERROR(ww_file_replace("file:link", "", 0, NULL), -ELOOP, "symbolic link");
    CHECK_ERROR(ww_file_load(NULL, buffer, 4, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_file_load("file:x", NULL, 4, NULL), -EFAULT, "buffer");
    CHECK_ERROR(ww_file_load("file", buffer, 4, NULL), -EINVAL, "at byte 4");
    CHECK_ERROR(ww_file_remove(NULL), -EFAULT, "address");
    CHECK_ERROR(ww_file_until_exists(NULL, WW_NOW), -EFAULT, "address");
    CHECK_ERROR(ww_file_until_exists("file:x", -2), -EINVAL, "WW_FOREVER");
    CHECK_ERROR(ww_file_append(file, NULL, 1, &done), -EFAULT, "buffer");
    CHECK_ERROR(ww_file_append(NULL, "x", 1, NULL), -EFAULT, "file");
    CHECK_ERROR(ww_file_append_locked(NULL, "x", 1, WW_NOW, NULL), -EFAULT, "file");
    CHECK_ERROR(ww_file_read_all(NULL, buffer, 4, NULL), -EFAULT, "file");
    CHECK_ERROR(ww_file_read_at(NULL, 0, buffer, 4), -EFAULT, "file");
    CHECK_ERROR(ww_file_size(NULL, &(uint64_t){0}), -EFAULT, "file");
    CHECK_ERROR(ww_file_size(file, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_file_sync(NULL), -EFAULT, "file");
    CHECK_ERROR(ww_file_fd(NULL), -EFAULT, "file");
    CHECK(ww_file_fd(file) >= 0);
    CHECK_ERROR(ww_file_lock(NULL, &lock, WW_FILE_SHARED, 0, 0, WW_NOW), -EFAULT, "file");
    CHECK_ERROR(ww_file_lock(file, &lock, 2, 0, 0, WW_NOW), -EINVAL, "WW_FILE_SHARED");
    CHECK_ERROR(ww_file_lock(file, &lock, WW_FILE_SHARED, UINT64_MAX, 0, WW_NOW), -EINVAL, "2^63 - 1");
    CHECK_ERROR(ww_file_lock(file, NULL, WW_FILE_SHARED, 0, 0, WW_NOW), -EFAULT, "output pointer");
    CHECK_ERROR(ww_filewatch_open(NULL, "file:x", WW_FILE_CHANGED), -EFAULT, "output pointer");
    CHECK_ERROR(ww_filewatch_open(&watch, NULL, WW_FILE_CHANGED), -EFAULT, "address");
    CHECK_ERROR(ww_filewatch_open(&watch, "file:x", 0), -EINVAL, "at least one");
    CHECK_ERROR(ww_filewatch_open(&watch, "file:x", -1), -EINVAL, "at least one");
    CHECK_ERROR(ww_filewatch_open(&watch, "file:x", WW_FILE_OVERFLOWED), -EINVAL, "at least one");
    CHECK_ERROR(ww_filewatch_wait(NULL, WW_NOW), -EFAULT, "filewatch");
    CHECK_ERROR(ww_filewatch_fd(NULL), -EFAULT, "filewatch");
    CHECK(lock == NULL && watch == NULL);
    ww_file_close(file);
    ww_file_close(NULL);
    ww_filelock_release(NULL);
    ww_filewatch_close(NULL);
    LEAVE("x", "link");
}

TEST(map) {
    ww_map_options options = WW_MAP_OPTIONS_INIT;
    ww_file *file;
    ww_mapping *mapping, *view, *none = NULL;
    void *data, *seen;
    enter();
    file = open_file("file:x");
    OK(ww_file_grow(file, 5000));
    CHECK_ERROR(ww_file_grow(file, UINT64_MAX), -EFBIG, "grow file:x");
    OK(ww_file_map(file, &mapping, NULL));
    CHECK_INT(ww_mapping_size(mapping), 5000);
    options.read_only = 1;
    options.offset = 4096;
    OK(ww_file_map(file, &view, &options));
    CHECK_INT(ww_mapping_size(view), 904);
    OK(ww_mapping_data(mapping, &data));
    OK(ww_mapping_data(view, &seen));
    memcpy((char *)data + 4096, "shared", 6);
    CHECK(memcmp(seen, "shared", 6) == 0);
    OK(ww_mapping_flush(mapping, 0, 5000));
    CHECK_ERROR(ww_mapping_flush(mapping, 0, 5001), -EINVAL, "pass the end");
    options.offset = 1;
    CHECK_ERROR(ww_file_map(file, &none, &options), -EINVAL, "page size");
    options.populate = 2;
    CHECK_ERROR(ww_file_map(file, &none, &options), -EINVAL, "0 or 1");
    options.reserved = 1;
    CHECK_ERROR(ww_file_map(file, &none, &options), -EINVAL, "reserved");
    CHECK_ERROR(ww_file_map(file, NULL, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_file_map(NULL, &none, NULL), -EFAULT, "file");
    CHECK_ERROR(ww_file_grow(NULL, 1), -EFAULT, "file");
    CHECK_ERROR(ww_mapping_data(NULL, &data), -EFAULT, "mapping");
    CHECK_ERROR(ww_mapping_data(mapping, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_mapping_size(NULL), -EFAULT, "mapping");
    CHECK_ERROR(ww_mapping_flush(NULL, 0, 0), -EFAULT, "mapping");
    ww_file_close(file); /* a mapping stands on its own */
    CHECK(memcmp(seen, "shared", 6) == 0);
    ww_mapping_close(mapping);
    ww_mapping_close(view);
    ww_mapping_close(NULL);
    CHECK(none == NULL);
    LEAVE("x");
}

TEST(removed_by_another_process) {
    ww_file *file;
    ww_filelock *lock;
    pid_t pid;
    char byte;
    enter();
    file = open_file("file:x");
    pid = fork();
    if (pid == 0) _exit(ww_file_remove("file:x") != 0);
    reap(pid, 0);
    OK(ww_file_append(file, "x", 1, NULL)); /* who has it open keeps it */
    CHECK_INT(ww_file_read_all(file, &byte, 1, NULL), 1);
    CHECK_ERROR(ww_file_lock(file, &lock, WW_FILE_SHARED, 0, 0, WW_NOW), -ESTALE, "removed");
    ww_file_close(file);
    leave((const char *const[]){NULL});
}

TEST(a_program_that_knows_only_libc) {
    const char *hold[] = {"hold-lock", "x", "sign", NULL};
    ww_file *file;
    ww_filelock *lock;
    char buffer[32];
    pid_t pid;
    enter();
    replace("file:x", "from wigwag ");
    CHECK_INT(peer("expect", "x", "from wigwag "), 0);
    CHECK_INT(peer("append", "x", "from libc "), 0);
    file = open_file("file:x");
    OK(ww_file_append(file, "and back", 8, NULL));
    CHECK_INT(peer("expect", "x", "from wigwag from libc and back"), 0);
    CHECK_INT(ww_file_load("file:x", buffer, sizeof buffer, NULL), 30);

    OK(ww_file_lock(file, &lock, WW_FILE_SHARED, 5, 1, GENEROUS));
    CHECK_INT(peer("try-lock", "x", NULL), 3);
    ww_filelock_release(lock);
    CHECK_INT(peer("try-lock", "x", NULL), 0);
    pid = spawn_peer("file", hold);
    OK(ww_file_until_exists("file:sign", GENEROUS));
    CHECK_INT(ww_file_lock(file, &lock, WW_FILE_SHARED, 5, 1, WW_NOW), -EAGAIN);
    kill(pid, 9);
    reap_killed(pid);
    OK(ww_file_lock(file, &lock, WW_FILE_SHARED, 5, 1, GENEROUS));
    ww_filelock_release(lock);
    ww_file_close(file);
    LEAVE("x", "sign");
}
