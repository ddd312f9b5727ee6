/* Cell: the latest value in shared memory. */
#include "test.h"

#include <poll.h>
#include <signal.h>

static ww_cell *make(void) {
    ww_cell_options options = WW_CELL_OPTIONS_INIT;
    ww_cell *cell;
    options.largest = 64;
    options.participants = 4;
    OK(ww_cell_anonymous(&cell, &options));
    return cell;
}

static void expect(const ww_cell *cell, const char *text, uint64_t sequence) {
    char buffer[64];
    uint64_t found = 0;
    CHECK_INT(ww_cell_read(cell, buffer, sizeof buffer, &found, NULL), strlen(text));
    CHECK(memcmp(buffer, text, strlen(text)) == 0);
    CHECK_INT(found, sequence);
}

TEST(holds_the_latest) {
    ww_cell *cell = make();
    char buffer[65] = "";
    uint64_t sequence = 0;
    size_t true_size = 0;
    CHECK_ERROR(ww_cell_read(cell, buffer, 64, NULL, NULL), -ENODATA, "read cell:");
    OK(ww_cell_write(cell, "first", 5, &sequence));
    CHECK_INT(sequence, 1);
    OK(ww_cell_write(cell, "latest", 6, NULL));
    expect(cell, "latest", 2);
    expect(cell, "latest", 2);
    CHECK_INT(ww_cell_read(cell, buffer, 5, NULL, &true_size), -EMSGSIZE);
    CHECK_INT(true_size, 6);
    CHECK_INT(ww_cell_write(cell, buffer, 65, NULL), -EMSGSIZE);
    ww_cell_close(cell);
}

static void *read_for_ever(void *cell) {
    char buffer[8];
    return (void *)(intptr_t)ww_cell_wait_read(cell, 0, buffer, sizeof buffer, WW_FOREVER, NULL, NULL);
}

TEST(closing_ends_waits) {
    ww_cell *cell;
    pthread_t thread;
    void *result;
    OK(ww_cell_anonymous(&cell, NULL));
    OK(pthread_create(&thread, NULL, read_for_ever, cell));
    until_blocked(1);
    ww_cell_close(cell);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
}

TEST(waits_for_a_change) {
    ww_cell *cell = make();
    char buffer[8];
    uint64_t sequence = 0;
    pid_t pid;
    CHECK_INT(ww_cell_wait(cell, 0, WW_NOW, NULL), -EAGAIN);
    CHECK_ERROR(ww_cell_wait(cell, 0, SHORT, NULL), -ETIMEDOUT, "deadline");
    pid = fork();
    if (pid == 0) _exit(ww_cell_write(cell, "new", 3, NULL) != 0);
    CHECK_INT(ww_cell_wait_read(cell, 0, buffer, sizeof buffer, GENEROUS, &sequence, NULL), 3);
    CHECK_INT(sequence, 1);
    reap(pid, 0);
    OK(ww_cell_wait(cell, 0, WW_NOW, &sequence));
    CHECK_INT(sequence, 1);
    ww_cell_close(cell);
}

TEST(can_be_polled) {
    ww_cell *cell = make();
    struct pollfd bell = {0, POLLIN, 0};
    bell.fd = ww_cell_fd(cell);
    CHECK(bell.fd >= 0);
    CHECK_INT(poll(&bell, 1, 0), 0);
    OK(ww_cell_write(cell, "x", 1, NULL));
    CHECK_INT(poll(&bell, 1, 30000), 1);
    expect(cell, "x", 1);
    ww_cell_close(cell);
}

TEST(writes_in_place) {
    ww_cell *cell = make();
    ww_cell_statistics seen;
    ww_cell_participant who;
    uint64_t sequence;
    ww_loan loan;
    OK(ww_cell_reserve(cell, &loan, 7));
    CHECK_INT(loan.size, 7);
    memcpy(loan.data, "inplace", 7);
    CHECK_INT(ww_cell_read(cell, NULL, 0, NULL, NULL), -ENODATA);
    OK(ww_cell_get_statistics(cell, &seen, &who, 1));
    CHECK_INT(seen.writing, 1);
    CHECK_INT(who.writing, 1);
    CHECK_INT(who.pid, getpid());
    OK(ww_cell_publish(cell, loan.token, &sequence));
    CHECK_INT(sequence, 1);
    CHECK_INT(ww_cell_publish(cell, loan.token, NULL), -EINVAL);
    OK(ww_cell_reserve(cell, &loan, 1));
    OK(ww_cell_abort(cell, loan.token));
    expect(cell, "inplace", 1);
    ww_cell_close(cell);
}

TEST(a_writer_killed_half_way_changes_nothing) {
    ww_cell *cell = make();
    int ready[2];
    char byte;
    pid_t pid;
    OK(pipe(ready));
    OK(ww_cell_write(cell, "whole", 5, NULL));
    pid = fork();
    if (pid == 0) {
        ww_loan loan;
        if (ww_cell_reserve(cell, &loan, 5) != 0) _exit(1);
        memcpy(loan.data, "ha", 2);
        if (write(ready[1], "x", 1) != 1) _exit(2);
        for (;;) pause();
    }
    CHECK_INT(read(ready[0], &byte, 1), 1);
    OK(kill(pid, SIGKILL));
    reap_killed(pid);
    expect(cell, "whole", 1);
    OK(ww_cell_write(cell, "next", 4, NULL));
    expect(cell, "next", 2);
    close(ready[0]);
    close(ready[1]);
    ww_cell_close(cell);
}

TEST(by_name) {
    char address[100];
    ww_cell *cell, *other;
    snprintf(address, sizeof address, "cell:%s", fresh_name("cell"));
    OK(ww_cell_open(&cell, address, NULL));
    OK(ww_cell_open(&other, address, NULL));
    OK(ww_cell_write(cell, "named", 5, NULL));
    expect(other, "named", 1);
    ww_cell_close(other);
    OK(ww_cell_from_fd(&other, dup(ww_cell_segment_fd(cell)), NULL));
    expect(other, "named", 1);
    OK(ww_cell_remove(address));
    CHECK_INT(ww_cell_check(cell), -ESTALE);
    ww_cell_close(other);
    ww_cell_close(cell);
}

TEST(bad_input) {
    ww_cell_options options = WW_CELL_OPTIONS_INIT;
    ww_cell *cell = make(), *untouched = (ww_cell *)1;
    ww_cell_statistics seen;
    options.wait = 9;
    CHECK_ERROR(ww_cell_anonymous(&untouched, &options), -EINVAL, "WW_WAIT_");
    options.wait = 0;
    options.reserved = 1;
    CHECK_ERROR(ww_cell_anonymous(&untouched, &options), -EINVAL, "reserved");
    options.reserved = 0;
    CHECK_INT(ww_cell_open(&untouched, "ring:x", NULL), -EINVAL);
    CHECK_INT(ww_cell_anonymous(NULL, NULL), -EFAULT);
    CHECK(untouched == (ww_cell *)1);
    CHECK_INT(ww_cell_write(cell, NULL, 1, NULL), -EFAULT);
    CHECK_INT(ww_cell_read(NULL, NULL, 0, NULL, NULL), -EFAULT);
    CHECK_INT(ww_cell_wait(cell, 0, -2, NULL), -EINVAL);
    CHECK_INT(ww_cell_reserve(cell, NULL, 1), -EFAULT);
    options.largest = 64;
    options.participants = 4;
    OK(ww_cell_get_statistics(cell, &seen, NULL, 0));
    CHECK_INT(ww_cell_size_for(&options), seen.bytes);
    ww_cell_close(cell);
    ww_cell_close(NULL);
}
