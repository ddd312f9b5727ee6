/* Anonymous pipe. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>

static void open_pipe(ww_pipe **reader, ww_pipe **writer) { OK(ww_pipe_open(reader, writer, NULL)); }

TEST(child_to_parent) {
    ww_pipe *reader, *writer;
    char buffer[100];
    size_t done = 99;
    pid_t pid;
    open_pipe(&reader, &writer);
    CHECK_INT(ww_pipe_is_reader(reader), 1);
    CHECK_INT(ww_pipe_is_reader(writer), 0);
    pid = fork();
    if (pid == 0) {
        ww_pipe_close(reader);
        if (ww_pipe_write_all(writer, "Hello from child", 16, GENEROUS, &done) != 0 || done != 16) _exit(1);
        ww_pipe_close(writer);
        _exit(0);
    }
    ww_pipe_close(writer);
    CHECK_INT(ww_pipe_read(reader, buffer, sizeof buffer, GENEROUS), 16);
    CHECK(memcmp(buffer, "Hello from child", 16) == 0);
    CHECK_INT(ww_pipe_read(reader, buffer, sizeof buffer, GENEROUS), 0);
    done = 99;
    CHECK_ERROR(ww_pipe_read_exact(reader, buffer, 4, GENEROUS, &done), -EPIPE, "ended before");
    CHECK_INT(done, 0);
    reap(pid, 0);
    ww_pipe_close(reader);
}

TEST(broken_pipe) {
    ww_pipe *reader, *writer;
    size_t done = 99;
    open_pipe(&reader, &writer);
    ww_pipe_close(reader);
    CHECK_ERROR(ww_pipe_write(writer, "x", 1, GENEROUS), -EPIPE, "write pipe:: EPIPE: no reader is left");
    CHECK_ERROR(ww_pipe_write_all(writer, "x", 1, GENEROUS, &done), -EPIPE, "no reader is left");
    CHECK_INT(done, 0);
    ww_pipe_close(writer);
}

TEST(partial_progress) {
    ww_pipe *reader, *writer;
    static char data[100000];
    size_t done = 0;
    open_pipe(&reader, &writer);
    CHECK_INT(ww_pipe_capacity(reader), 65536);
    CHECK_ERROR(ww_pipe_write_all(writer, data, sizeof data, SHORT, &done), -ETIMEDOUT, "deadline");
    CHECK_INT(done, 65536);
    CHECK_ERROR(ww_pipe_write(writer, data, 1, WW_NOW), -EAGAIN, "timeout is zero");
    CHECK_ERROR(ww_pipe_set_capacity(writer, 4096), -EBUSY, "read them first");
    CHECK_ERROR(ww_pipe_read_exact(reader, data, sizeof data, SHORT, &done), -ETIMEDOUT, "deadline");
    CHECK_INT(done, 65536);
    CHECK_INT(ww_pipe_set_capacity(writer, 5000), 8192);
    OK(ww_pipe_write_all(writer, data, 10, WW_NOW, NULL));
    OK(ww_pipe_read_exact(reader, data, 10, WW_NOW, &done));
    CHECK_INT(done, 10);
    ww_pipe_close(reader);
    ww_pipe_close(writer);
}

TEST(packets) {
    ww_pipe_options options = WW_PIPE_OPTIONS_INIT;
    ww_pipe *reader, *writer;
    char buffer[WW_PIPE_ATOMIC];
    options.packet = 1;
    options.capacity = 16384;
    OK(ww_pipe_open(&reader, &writer, &options));
    CHECK_INT(ww_pipe_write(writer, "one", 3, WW_NOW), 3);
    CHECK_INT(ww_pipe_write(writer, "three", 5, WW_NOW), 5);
    CHECK_ERROR(ww_pipe_read(reader, buffer, 100, WW_NOW), -EMSGSIZE, "give a buffer of 4096");
    CHECK_INT(ww_pipe_read(reader, buffer, sizeof buffer, WW_NOW), 3);
    CHECK_INT(ww_pipe_read(reader, buffer, sizeof buffer, WW_NOW), 5);
    CHECK_ERROR(ww_pipe_write(writer, buffer, 5000, WW_NOW), -EMSGSIZE, "here are 5000");
    CHECK_ERROR(ww_pipe_write(writer, NULL, 0, WW_NOW), -EINVAL, "empty packet");
    CHECK_ERROR(ww_pipe_read_exact(reader, buffer, 3, WW_NOW, NULL), -ENOTSUP, "packet mode");
    ww_pipe_close(reader);
    ww_pipe_close(writer);
}

TEST(splice_and_tee) {
    ww_pipe *a, *a_in, *b, *b_in;
    char buffer[16];
    open_pipe(&a, &a_in);
    open_pipe(&b, &b_in);
    OK(ww_pipe_write_all(a_in, "abcdef", 6, WW_NOW, NULL));
    CHECK_INT(ww_pipe_tee(a, b_in, 3, WW_NOW), 3);
    CHECK_INT(ww_pipe_splice_to(a, ww_pipe_fd(b_in), 100, WW_NOW), 6);
    CHECK_INT(ww_pipe_splice_from(a_in, ww_pipe_fd(b), 4, WW_NOW), 4);
    OK(ww_pipe_read_exact(a, buffer, 4, WW_NOW, NULL));
    CHECK(memcmp(buffer, "abca", 4) == 0);
    CHECK_ERROR(ww_pipe_splice_to(a, ww_pipe_fd(b_in), 1, SHORT), -ETIMEDOUT, "splice pipe:");
    CHECK_ERROR(ww_pipe_splice_to(a, -1, 1, SHORT), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_pipe_splice_from(a_in, -1, 1, SHORT), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_pipe_splice_from(a, ww_pipe_fd(b), 1, SHORT), -EBADF, "read end");
    CHECK_ERROR(ww_pipe_tee(a, b, 1, SHORT), -EBADF, "the target is a read end");
    ww_pipe_close(a);
    ww_pipe_close(a_in);
    ww_pipe_close(b);
    ww_pipe_close(b_in);
}

TEST(bad_input) {
    ww_pipe *reader, *writer, *none = NULL;
    ww_pipe_options options = WW_PIPE_OPTIONS_INIT;
    char buffer[4];
    size_t done = 9;
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    open_pipe(&reader, &writer);
    CHECK_ERROR(ww_pipe_open(NULL, &none, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_pipe_open(&none, NULL, NULL), -EFAULT, "output pointer");
    options.packet = -1;
    CHECK_ERROR(ww_pipe_open(&none, &none, &options), -EINVAL, "0 or 1");
    options.packet = 0;
    options.capacity = SIZE_MAX;
    CHECK_ERROR(ww_pipe_open(&none, &none, &options), -EINVAL, "2 GiB");
    CHECK(none == NULL);
    CHECK_ERROR(ww_pipe_read(writer, buffer, 4, WW_NOW), -EBADF, "this is the write end");
    CHECK_ERROR(ww_pipe_write(reader, buffer, 4, WW_NOW), -EBADF, "this is the read end");
    CHECK_ERROR(ww_pipe_read(reader, NULL, 4, WW_NOW), -EFAULT, "buffer");
    CHECK_ERROR(ww_pipe_read(reader, NULL, 0, WW_NOW), -EINVAL, "zero bytes");
    CHECK_INT(ww_pipe_write(writer, NULL, 0, WW_NOW), 0);
    CHECK_ERROR(ww_pipe_write(writer, NULL, 1, WW_NOW), -EFAULT, "buffer");
    CHECK_ERROR(ww_pipe_write(writer, buffer, (size_t)-1, WW_NOW), -EINVAL, "negative");
    CHECK_ERROR(ww_pipe_read(NULL, buffer, 4, WW_NOW), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_write(NULL, buffer, 4, WW_NOW), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_read_exact(NULL, buffer, 4, WW_NOW, &done), -EFAULT, "pipe");
    CHECK_INT(done, 0);
    CHECK_ERROR(ww_pipe_write_all(NULL, buffer, 4, WW_NOW, NULL), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_splice_to(NULL, 0, 1, WW_NOW), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_splice_from(NULL, 0, 1, WW_NOW), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_tee(NULL, writer, 1, WW_NOW), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_tee(reader, NULL, 1, WW_NOW), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_capacity(NULL), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_set_capacity(NULL, 1), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_is_reader(NULL), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_inherit(NULL), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_fd(NULL), -EFAULT, "pipe");
    CHECK_ERROR(ww_pipe_from_fd(&none, file), -EINVAL, "not a pipe's");
    CHECK_INT(fcntl(file, F_GETFD), FD_CLOEXEC); /* still the caller's */
    CHECK_ERROR(ww_pipe_from_fd(&none, -1), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_pipe_from_fd(NULL, file), -EFAULT, "output pointer");
    close(file);
    ww_pipe_close(reader);
    ww_pipe_close(writer);
    ww_pipe_close(NULL);
}

static void *read_for_ever(void *reader) {
    char byte;
    return (void *)(intptr_t)ww_pipe_read(reader, &byte, 1, WW_FOREVER);
}

TEST(close_during_a_wait) {
    ww_pipe *reader, *writer;
    pthread_t thread;
    void *result;
    open_pipe(&reader, &writer);
    OK(pthread_create(&thread, NULL, read_for_ever, reader));
    until_blocked(1);
    ww_pipe_close(reader);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    ww_pipe_close(writer);
}

TEST(killed_writer_ends_the_stream) {
    ww_pipe *reader, *writer;
    char byte;
    pid_t pid;
    open_pipe(&reader, &writer);
    pid = fork();
    if (pid == 0) {
        if (ww_pipe_write_all(writer, "x", 1, GENEROUS, NULL) != 0) _exit(1);
        for (;;) pause();
    }
    ww_pipe_close(writer);
    OK(ww_pipe_read_exact(reader, &byte, 1, GENEROUS, NULL));
    CHECK_INT(ww_pipe_read(reader, &byte, 1, WW_NOW), -EAGAIN);
    kill(pid, 9);
    reap_killed(pid);
    CHECK_INT(ww_pipe_read(reader, &byte, 1, GENEROUS), 0);
    ww_pipe_close(reader);
}

TEST(a_program_that_knows_only_libc) {
    ww_pipe *reader, *writer, *back, *back_in;
    char fds[2][16];
    const char *args[] = {"echo", fds[0], fds[1], NULL};
    char buffer[6];
    pid_t pid;
    open_pipe(&reader, &writer);
    open_pipe(&back, &back_in);
    OK(ww_pipe_inherit(reader));
    OK(ww_pipe_inherit(back_in));
    snprintf(fds[0], sizeof fds[0], "%d", ww_pipe_fd(reader));
    snprintf(fds[1], sizeof fds[1], "%d", ww_pipe_fd(back_in));
    pid = spawn_peer("pipe", args);
    ww_pipe_close(reader);
    ww_pipe_close(back_in);
    OK(ww_pipe_write_all(writer, "libc?!", 6, GENEROUS, NULL));
    ww_pipe_close(writer);
    OK(ww_pipe_read_exact(back, buffer, 6, GENEROUS, NULL));
    CHECK(memcmp(buffer, "libc?!", 6) == 0);
    CHECK_INT(ww_pipe_read(back, buffer, 1, GENEROUS), 0);
    reap(pid, 0);
    ww_pipe_close(back);
}

TEST(adopted) {
    int fds[2];
    ww_pipe *reader;
    char byte;
    OK(pipe(fds));
    OK(ww_pipe_from_fd(&reader, fds[0]));
    CHECK_INT(ww_pipe_read(reader, &byte, 1, SHORT), -ETIMEDOUT);
    CHECK_INT(write(fds[1], "y", 1), 1);
    CHECK_INT(ww_pipe_read(reader, &byte, 1, GENEROUS), 1);
    close(fds[1]);
    CHECK_INT(ww_pipe_read(reader, &byte, 1, GENEROUS), 0);
    ww_pipe_close(reader);
}
