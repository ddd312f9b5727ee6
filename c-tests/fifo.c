/* Named pipe. Each test works in a directory of its own, which it removes. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

static char place[4096];

static void enter(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(place, sizeof place, "%s/%s", tmp != NULL ? tmp : "/tmp", fresh_name("fifo"));
    OK(mkdir(place, 0700));
    OK(chdir(place));
}

static void leave(void) {
    OK(ww_fifo_remove("fifo:f"));
    OK(chdir("/"));
    OK(rmdir(place));
}

/* A reader that is open at once and stays so. */
static ww_fifo *keeper(void) {
    ww_fifo_options options = WW_FIFO_OPTIONS_INIT;
    ww_fifo *fifo;
    options.create = 1;
    options.keep_open = 1;
    OK(ww_fifo_open_reader(&fifo, "fifo:f", &options, WW_NOW));
    return fifo;
}

TEST(opening_alone_is_bounded) {
    ww_fifo *fifo;
    ww_cancel *cancel;
    enter();
    OK(ww_fifo_create("fifo:f", NULL));
    CHECK_ERROR(ww_fifo_open_reader(&fifo, "fifo:f", NULL, WW_NOW), -EAGAIN, "open for reading fifo:f: EAGAIN");
    CHECK_ERROR(ww_fifo_open_reader(&fifo, "fifo:f", NULL, SHORT), -ETIMEDOUT, "open for reading fifo:f: ETIMEDOUT");
    CHECK_ERROR(ww_fifo_open_writer(&fifo, "fifo:f", NULL, WW_NOW), -EAGAIN, "open for writing fifo:f: EAGAIN");
    CHECK_ERROR(ww_fifo_open_writer(&fifo, "fifo:f", NULL, SHORT), -ETIMEDOUT, "open for writing fifo:f: ETIMEDOUT");
    OK(ww_cancel_new(&cancel));
    ww_cancel_fire(cancel);
    OK(ww_cancel_enter(cancel));
    CHECK_ERROR(ww_fifo_open_reader(&fifo, "fifo:f", NULL, GENEROUS), -ECANCELED, "cancelled");
    CHECK_ERROR(ww_fifo_open_writer(&fifo, "fifo:f", NULL, GENEROUS), -ECANCELED, "cancelled");
    OK(ww_cancel_leave(cancel));
    ww_cancel_close(cancel);
    leave();
}

TEST(between_strangers) {
    ww_fifo_options options = WW_FIFO_OPTIONS_INIT;
    ww_fifo *fifo;
    char buffer[100];
    size_t done = 99;
    pid_t pid;
    enter();
    options.create = 1;
    pid = fork();
    if (pid == 0) {
        if (ww_fifo_open_writer(&fifo, "fifo:f", &options, GENEROUS) != 0) _exit(1);
        if (ww_fifo_is_reader(fifo) != 0) _exit(2);
        if (ww_fifo_write_all(fifo, "Hello FIFO", 10, GENEROUS, &done) != 0 || done != 10) _exit(3);
        ww_fifo_close(fifo);
        _exit(0);
    }
    OK(ww_fifo_open_reader(&fifo, "fifo:f", &options, GENEROUS));
    CHECK_INT(ww_fifo_is_reader(fifo), 1);
    OK(ww_fifo_read_exact(fifo, buffer, 10, GENEROUS, &done));
    CHECK_INT(done, 10);
    CHECK(memcmp(buffer, "Hello FIFO", 10) == 0);
    CHECK_INT(ww_fifo_read(fifo, buffer, sizeof buffer, GENEROUS), 0);
    CHECK_ERROR(ww_fifo_read_exact(fifo, buffer, 1, GENEROUS, &done), -EPIPE, "ended before");
    CHECK_INT(done, 0);
    reap(pid, 0);
    ww_fifo_close(fifo);
    leave();
}

TEST(kept_open) {
    ww_fifo_options options = WW_FIFO_OPTIONS_INIT;
    ww_fifo *reader, *writer;
    char buffer[8];
    struct stat of;
    int n;
    enter();
    options.create = options.keep_open = 1;
    options.mode = 0666;
    options.capacity = 5000;
    OK(ww_fifo_open_reader(&reader, "fifo:f", &options, WW_NOW));
    OK(stat("f", &of));
    CHECK_INT(of.st_mode & 0777, 0666);
    CHECK_INT(ww_fifo_capacity(reader), 8192);
    CHECK_INT(ww_fifo_set_capacity(reader, 4096), 4096);
    for (n = 0; n < 3; n++) {
        OK(ww_fifo_open_writer(&writer, "fifo:f", NULL, WW_NOW));
        CHECK_INT(ww_fifo_write(writer, "x", 1, WW_NOW), 1);
        ww_fifo_close(writer);
        CHECK_INT(ww_fifo_read(reader, buffer, sizeof buffer, WW_NOW), 1);
        CHECK_ERROR(ww_fifo_read(reader, buffer, sizeof buffer, WW_NOW), -EAGAIN, "read fifo:f");
    }
    OK(ww_fifo_open_writer(&writer, "fifo:f", NULL, WW_NOW));
    ww_fifo_close(reader);
    CHECK_ERROR(ww_fifo_write(writer, "x", 1, WW_NOW), -EPIPE, "no reader is left");
    CHECK_ERROR(ww_fifo_write_all(writer, "x", 1, WW_NOW, NULL), -EPIPE, "no reader is left");
    ww_fifo_close(writer);
    leave();
}

static void *read_for_ever(void *reader) {
    char byte;
    return (void *)(intptr_t)ww_fifo_read(reader, &byte, 1, WW_FOREVER);
}

TEST(close_during_a_wait) {
    ww_fifo *reader;
    pthread_t thread;
    void *result;
    enter();
    reader = keeper();
    OK(pthread_create(&thread, NULL, read_for_ever, reader));
    until_blocked(1);
    ww_fifo_close(reader);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    leave();
}

TEST(killed_writer_ends_the_stream) {
    ww_fifo *fifo;
    char byte;
    pid_t pid;
    enter();
    OK(ww_fifo_create("fifo:f", NULL));
    pid = fork();
    if (pid == 0) {
        if (ww_fifo_open_writer(&fifo, "fifo:f", NULL, GENEROUS) != 0) _exit(1);
        if (ww_fifo_write_all(fifo, "x", 1, GENEROUS, NULL) != 0) _exit(1);
        for (;;) pause();
    }
    OK(ww_fifo_open_reader(&fifo, "fifo:f", NULL, GENEROUS));
    OK(ww_fifo_read_exact(fifo, &byte, 1, GENEROUS, NULL));
    CHECK_INT(ww_fifo_read(fifo, &byte, 1, WW_NOW), -EAGAIN);
    kill(pid, 9);
    reap_killed(pid);
    CHECK_INT(ww_fifo_read(fifo, &byte, 1, GENEROUS), 0);
    ww_fifo_close(fifo);
    leave();
}

TEST(bad_input) {
    ww_fifo_options options = WW_FIFO_OPTIONS_INIT;
    ww_fifo *reader, *writer, *none = NULL;
    char buffer[4];
    size_t done = 9;
    int file;
    enter();
    CHECK_ERROR(ww_fifo_open_reader(&none, "fifo:f", NULL, WW_NOW), -ENOENT, "no such FIFO");
    CHECK_ERROR(ww_fifo_open_writer(&none, "fifo:f", NULL, WW_NOW), -ENOENT, "no such FIFO");
    CHECK_ERROR(ww_fifo_remove("fifo:f"), -ENOENT, "remove fifo:f");
    file = open("plain", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_ERROR(ww_fifo_open_reader(&none, "fifo:plain", NULL, GENEROUS), -ENOTSUP, "it is a regular file, not a FIFO");
    CHECK_ERROR(ww_fifo_open_writer(&none, "fifo:.", NULL, GENEROUS), -ENOTSUP, "it is a directory, not a FIFO");
    CHECK_ERROR(ww_fifo_open_writer(&none, "fifo:/dev/null", NULL, GENEROUS), -ENOTSUP, "it is a device, not a FIFO");
    CHECK_ERROR(ww_fifo_remove("fifo:plain"), -ENOTSUP, "it was left alone");
    CHECK_ERROR(ww_fifo_create("fifo:plain", NULL), -EEXIST, "taken already");
    CHECK_ERROR(ww_fifo_create("fifo:", NULL), -EINVAL, "a path");
    CHECK_ERROR(ww_fifo_create("file:f", NULL), -EINVAL, "expected fifo:");
    CHECK_ERROR(ww_fifo_create(NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_fifo_remove(NULL), -EFAULT, "address");
    options.create = 2;
    CHECK_ERROR(ww_fifo_open_reader(&none, "fifo:f", &options, WW_NOW), -EINVAL, "0 or 1");
    options.create = 1;
    options.keep_open = -1;
    CHECK_ERROR(ww_fifo_open_reader(&none, "fifo:f", &options, WW_NOW), -EINVAL, "0 or 1");
    options.keep_open = 0;
    options.mode = 01000;
    CHECK_ERROR(ww_fifo_create("fifo:f", &options), -EINVAL, "permissions from 0 to 0777");
    options.mode = 0;
    options.reserved = 1;
    CHECK_ERROR(ww_fifo_create("fifo:f", &options), -EINVAL, "reserved");
    reader = keeper();
    OK(ww_fifo_open_writer(&writer, "fifo:f", NULL, WW_NOW));
    CHECK_ERROR(ww_fifo_open_reader(NULL, "fifo:f", NULL, WW_NOW), -EFAULT, "output pointer");
    CHECK_ERROR(ww_fifo_open_writer(NULL, "fifo:f", NULL, WW_NOW), -EFAULT, "output pointer");
    CHECK_ERROR(ww_fifo_open_reader(&none, NULL, NULL, WW_NOW), -EFAULT, "address");
    CHECK_ERROR(ww_fifo_open_writer(&none, "fifo:f", NULL, -5), -EINVAL, "WW_FOREVER");
    CHECK_ERROR(ww_fifo_read(writer, buffer, 4, WW_NOW), -EBADF, "this is the write end");
    CHECK_ERROR(ww_fifo_write(reader, buffer, 4, WW_NOW), -EBADF, "this is the read end");
    CHECK_ERROR(ww_fifo_read(reader, NULL, 4, WW_NOW), -EFAULT, "buffer");
    CHECK_ERROR(ww_fifo_read(reader, NULL, 0, WW_NOW), -EINVAL, "zero bytes");
    CHECK_INT(ww_fifo_write(writer, NULL, 0, WW_NOW), 0);
    CHECK_ERROR(ww_fifo_write(writer, NULL, 1, WW_NOW), -EFAULT, "buffer");
    CHECK_ERROR(ww_fifo_read(NULL, buffer, 4, WW_NOW), -EFAULT, "fifo");
    CHECK_ERROR(ww_fifo_write(NULL, buffer, 4, WW_NOW), -EFAULT, "fifo");
    CHECK_ERROR(ww_fifo_read_exact(NULL, buffer, 4, WW_NOW, &done), -EFAULT, "fifo");
    CHECK_INT(done, 0);
    CHECK_ERROR(ww_fifo_write_all(NULL, buffer, 4, WW_NOW, NULL), -EFAULT, "fifo");
    CHECK_ERROR(ww_fifo_capacity(NULL), -EFAULT, "fifo");
    CHECK_ERROR(ww_fifo_set_capacity(NULL, 1), -EFAULT, "fifo");
    CHECK_ERROR(ww_fifo_is_reader(NULL), -EFAULT, "fifo");
    CHECK_ERROR(ww_fifo_fd(NULL), -EFAULT, "fifo");
    CHECK_ERROR(ww_fifo_from_fd(&none, file), -EINVAL, "not a pipe's");
    CHECK_ERROR(ww_fifo_from_fd(&none, -1), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_fifo_from_fd(NULL, file), -EFAULT, "output pointer");
    CHECK(none == NULL);
    close(file);
    OK(ww_fifo_from_fd(&none, dup(ww_fifo_fd(writer))));
    CHECK_INT(ww_fifo_write(none, "x", 1, GENEROUS), 1);
    ww_fifo_close(none);
    ww_fifo_close(reader);
    ww_fifo_close(writer);
    ww_fifo_close(NULL);
    OK(unlink("plain"));
    leave();
}

TEST(a_program_that_knows_only_libc) {
    const char *make[] = {"make", "f", NULL}, *write[] = {"write", "f", "from libc", NULL};
    const char *expect[] = {"expect", "f", "from wigwag", NULL};
    ww_fifo *fifo;
    char buffer[100];
    pid_t pid;
    enter();
    reap(spawn_peer("fifo", make), 0);
    pid = spawn_peer("fifo", write);
    OK(ww_fifo_open_reader(&fifo, "fifo:f", NULL, GENEROUS));
    CHECK_INT(ww_fifo_read(fifo, buffer, sizeof buffer, GENEROUS), 9);
    CHECK(memcmp(buffer, "from libc", 9) == 0);
    reap(pid, 0);
    ww_fifo_close(fifo);
    pid = spawn_peer("fifo", expect);
    OK(ww_fifo_open_writer(&fifo, "fifo:f", NULL, GENEROUS));
    OK(ww_fifo_write_all(fifo, "from wigwag", 11, GENEROUS, NULL));
    ww_fifo_close(fifo);
    reap(pid, 0);
    leave();
}
