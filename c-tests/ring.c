/* Ring: messages through shared memory, each to one consumer. */
#include "test.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

static ww_ring_options small(void) {
    ww_ring_options options = WW_RING_OPTIONS_INIT;
    options.capacity = 1024;
    options.largest = 64;
    return options;
}

static ww_ring *make(void) {
    ww_ring_options options = small();
    ww_ring *ring;
    OK(ww_ring_anonymous(&ring, &options));
    return ring;
}

/* Another handle on the same ring. */
static ww_ring *join(const ww_ring *ring, const ww_ring_options *options) {
    ww_ring *other;
    OK(ww_ring_from_fd(&other, dup(ww_ring_segment_fd(ring)), options));
    return other;
}

static ww_ring_statistics books(const ww_ring *ring) {
    ww_ring_statistics seen;
    OK(ww_ring_get_statistics(ring, &seen, NULL, 0));
    CHECK_INT(seen.sent, seen.released + seen.borrowed + seen.queued + seen.dropped + seen.dead_lettered);
    return seen;
}

static void expect(const ww_ring *ring, const char *text) {
    char buffer[64];
    uint32_t deliveries = 0;
    CHECK_INT(ww_ring_recv(ring, buffer, sizeof buffer, GENEROUS, &deliveries, NULL), strlen(text));
    CHECK(memcmp(buffer, text, strlen(text)) == 0);
    CHECK_INT(deliveries, 1);
}

TEST(copies_messages) {
    ww_ring *ring = make();
    char buffer[64];
    uint32_t deliveries;
    size_t true_size = 0;
    OK(ww_ring_send(ring, "one", 3, WW_NOW));
    OK(ww_ring_send(ring, NULL, 0, WW_NOW));
    CHECK_ERROR(ww_ring_send(ring, buffer, 65, WW_NOW), -EMSGSIZE, "larger");
    CHECK_ERROR(ww_ring_recv(ring, buffer, 2, WW_NOW, NULL, &true_size), -EMSGSIZE, "too small");
    CHECK_INT(true_size, 3);
    expect(ring, "one");
    CHECK_INT(ww_ring_recv(ring, NULL, 0, WW_NOW, &deliveries, &true_size), 0);
    CHECK_INT(true_size, 0);
    true_size = 77;
    CHECK_ERROR(ww_ring_recv(ring, buffer, sizeof buffer, WW_NOW, NULL, &true_size), -EAGAIN, "recv ring:");
    CHECK_INT(true_size, 77);
    CHECK_ERROR(ww_ring_recv(ring, buffer, sizeof buffer, SHORT, NULL, NULL), -ETIMEDOUT, "deadline");
    CHECK_INT(books(ring).released, 2);
    ww_ring_close(ring);
}

TEST(sends_and_receives_batches) {
    ww_ring *ring = make();
    ww_bytes messages[100], odd[2] = {{"a", 1}, {NULL, 1}};
    ww_ring_received received[100];
    char texts[100], buffer[256], large[65] = {0};
    size_t true_size = 0;
    ssize_t sent, taken;
    int i;
    for (i = 0; i < 100; i++) {
        texts[i] = (char)i;
        messages[i].data = &texts[i];
        messages[i].size = 1;
    }
    CHECK_INT(ww_ring_send_batch(ring, NULL, 0, WW_NOW), 0);
    CHECK_INT(ww_ring_send_batch(ring, messages, 3, WW_NOW), 3);
    CHECK_INT(ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 2, WW_NOW, NULL), 2);
    CHECK_INT(received[1].size, 1);
    CHECK_INT(received[1].deliveries, 1);
    CHECK_INT(buffer[1], 1);
    messages[1].data = large;
    messages[1].size = sizeof large;
    CHECK_INT(ww_ring_send_batch(ring, messages, 3, WW_NOW), 1);
    CHECK_ERROR(ww_ring_send_batch(ring, messages + 1, 2, WW_NOW), -EMSGSIZE, "larger");
    CHECK_INT(ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 100, GENEROUS, NULL), 2);
    CHECK_INT(buffer[0], 2);
    CHECK_ERROR(ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 100, WW_NOW, NULL), -EAGAIN, "recv_batch");
    sent = ww_ring_send_batch(ring, messages + 2, 98, WW_NOW);
    CHECK(sent > 1 && sent < 98);
    CHECK_ERROR(ww_ring_send_batch(ring, messages + 2, 98, SHORT), -ETIMEDOUT, "send_batch");
    CHECK_ERROR(ww_ring_recv_batch(ring, buffer, 0, received, 100, WW_NOW, &true_size), -EMSGSIZE, "too small");
    CHECK_INT(true_size, 1);
    taken = ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 100, WW_NOW, NULL);
    CHECK_INT(taken, sent);
    for (i = 0; i < taken; i++) CHECK_INT(buffer[i], i + 2);
    CHECK_INT(ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 0, WW_NOW, NULL), -EINVAL);
    CHECK_INT(ww_ring_recv_batch(ring, buffer, sizeof buffer, NULL, 1, WW_NOW, NULL), -EFAULT);
    CHECK_INT(ww_ring_recv_batch(NULL, buffer, sizeof buffer, received, 1, WW_NOW, NULL), -EFAULT);
    CHECK_INT(ww_ring_send_batch(ring, NULL, 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_send_batch(ring, odd, 2, WW_NOW), -EFAULT);
    CHECK_INT(books(ring).queued, 0);
    ww_ring_close(ring);
}

/* More than one chunk of messages. */
TEST(sends_long_batches) {
    ww_ring_options options = WW_RING_OPTIONS_INIT;
    ww_ring *ring;
    ww_bytes messages[150];
    ww_ring_received received[150];
    char buffer[150];
    int i;
    options.capacity = 1 << 16;
    options.largest = 64;
    OK(ww_ring_anonymous(&ring, &options));
    for (i = 0; i < 150; i++) {
        messages[i].data = "x";
        messages[i].size = 1;
    }
    CHECK_INT(ww_ring_send_batch(ring, messages, 150, WW_NOW), 150);
    CHECK_INT(ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 150, WW_NOW, NULL), 64);
    CHECK_INT(ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 150, WW_NOW, NULL), 64);
    CHECK_INT(ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 150, WW_NOW, NULL), 22);
    ww_ring_close(ring);
}

/* Short messages take what they need, whatever the largest; there is room for as many of the largest as was asked. */
TEST(stores_by_length) {
    static char large[1 << 16];
    ww_ring_options options = WW_RING_OPTIONS_INIT;
    ww_ring *ring;
    ww_loan loan;
    int i;
    options.depth = 8;
    options.largest = sizeof large;
    OK(ww_ring_anonymous(&ring, &options));
    for (i = 0; i < 8; i++) {
        OK(ww_ring_send(ring, large, sizeof large, WW_NOW));
    }
    CHECK_INT(ww_ring_send(ring, large, 0, WW_NOW), -EAGAIN);
    ww_ring_close(ring);
    options.depth = 1024;
    options.capacity = 1 << 20;
    OK(ww_ring_anonymous(&ring, &options));
    for (i = 0; i < 1024; i++) {
        OK(ww_ring_send(ring, large, 300, WW_NOW));
    }
    CHECK_INT(ww_ring_send(ring, large, 300, WW_NOW), -EAGAIN);
    OK(ww_ring_borrow(ring, &loan, WW_NOW, NULL));
    CHECK_INT(loan.size, 300);
    OK(ww_ring_release(ring, loan.token));
    ww_ring_close(ring);
    options.capacity = 1 << 16;
    CHECK_INT(ww_ring_anonymous(&ring, &options), -EINVAL);
}

TEST(descriptors_to_poll) {
    ww_ring *ring = make();
    struct pollfd bells[2];
    char buffer[64] = {0};
    bells[0].fd = ww_ring_fd(ring);
    bells[1].fd = ww_ring_room_fd(ring, 0);
    bells[0].events = bells[1].events = POLLIN;
    CHECK(bells[0].fd >= 0 && bells[1].fd >= 0);
    CHECK_INT(ww_ring_fd(ring), bells[0].fd);
    CHECK_INT(poll(&bells[0], 1, 20), 0);
    OK(ww_ring_send(ring, "ring", 4, WW_NOW));
    CHECK_INT(poll(&bells[0], 1, 30000), 1);
    CHECK_INT(poll(&bells[1], 1, 30000), 1);
    while (ww_ring_send(ring, buffer, 64, WW_NOW) == 0) {}
    CHECK_INT(poll(&bells[1], 1, 20), 0);
    while (ww_ring_recv(ring, buffer, sizeof buffer, WW_NOW, NULL, NULL) >= 0) {}
    CHECK_INT(poll(&bells[1], 1, 30000), 1);
    CHECK_INT(poll(&bells[0], 1, 20), 0);
    CHECK(books(ring).high_water > 1);
    ww_ring_close(ring);
    CHECK_INT(ww_ring_fd(NULL), -EFAULT);
    CHECK_INT(ww_ring_room_fd(NULL, 0), -EFAULT);
}

TEST(a_higher_lane_goes_first) {
    ww_ring_options options = small();
    ww_ring *ring, *untouched = (ww_ring *)1;
    ww_bytes batch[2] = {{"b", 1}, {"c", 1}};
    ww_ring_received received[5];
    ww_loan loan;
    char buffer[8];
    options.capacity = 4096;
    options.lanes = 3;
    options.lane = 1;
    OK(ww_ring_anonymous(&ring, &options));
    OK(ww_ring_send_in_lane(ring, 0, "e", 1, WW_NOW));
    OK(ww_ring_send(ring, "d", 1, WW_NOW));
    OK(ww_ring_reserve_in_lane(ring, 2, &loan, 1, WW_NOW));
    memcpy(loan.data, "a", 1);
    OK(ww_ring_commit(ring, loan.token));
    CHECK_INT(ww_ring_send_batch_in_lane(ring, 2, batch, 2, WW_NOW), 2);
    CHECK_INT(ww_ring_recv_batch(ring, buffer, sizeof buffer, received, 5, WW_NOW, NULL), 5);
    CHECK(memcmp(buffer, "abcde", 5) == 0);
    CHECK_INT(received[2].lane, 2);
    CHECK_INT(received[3].lane, 1);
    CHECK_INT(received[4].lane, 0);
    CHECK_INT(books(ring).lanes, 3);
    CHECK_ERROR(ww_ring_send_in_lane(ring, 3, "x", 1, WW_NOW), -EINVAL, "no such lane");
    CHECK_ERROR(ww_ring_send_batch_in_lane(ring, 3, batch, 2, WW_NOW), -EINVAL, "no such lane");
    CHECK_ERROR(ww_ring_reserve_in_lane(ring, 3, &loan, 1, WW_NOW), -EINVAL, "no such lane");
    CHECK_ERROR(ww_ring_room_fd(ring, 3), -EINVAL, "no such lane");
    CHECK_INT(ww_ring_reserve_in_lane(ring, 0, NULL, 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_send_in_lane(NULL, 0, "x", 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_send_batch_in_lane(NULL, 0, batch, 1, WW_NOW), -EFAULT);
    ww_ring_close(ring);
    options.lane = 3;
    CHECK_ERROR(ww_ring_anonymous(&untouched, &options), -EINVAL, "no such lane");
    options.lanes = 9;
    CHECK_ERROR(ww_ring_anonymous(&untouched, &options), -EINVAL, "1 to 8 lanes");
}

TEST(messages_that_come_back_too_often) {
    ww_ring_options options = small();
    ww_ring *ring, *letters;
    ww_loan loan;
    uint32_t deliveries;
    int i;
    options.redeliveries = 1;
    OK(ww_ring_anonymous(&ring, &options));
    options.dead_letters = 1;
    letters = join(ring, &options);
    OK(ww_ring_send(ring, "poison", 6, WW_NOW));
    CHECK_INT(ww_ring_borrow(letters, &loan, WW_NOW, NULL), -EAGAIN);
    for (i = 0; i < 2; i++) {
        OK(ww_ring_borrow(ring, &loan, WW_NOW, NULL));
        OK(ww_ring_give_back(ring, loan.token));
    }
    CHECK_INT(books(ring).dead_lettered, 1);
    CHECK_INT(ww_ring_borrow(ring, &loan, WW_NOW, NULL), -EAGAIN);
    OK(ww_ring_borrow(letters, &loan, GENEROUS, &deliveries));
    CHECK_INT(deliveries, 3);
    CHECK_INT(loan.size, 6);
    OK(ww_ring_release(letters, loan.token));
    CHECK_INT(books(ring).dead_lettered, 0);
    CHECK_INT(books(ring).released, 1);
    ww_ring_close(letters);
    ww_ring_close(ring);
}

TEST(writes_and_reads_in_place) {
    ww_ring *ring = make();
    ww_loan first, second, read;
    uint32_t deliveries;
    OK(ww_ring_reserve(ring, &first, 5, WW_NOW));
    OK(ww_ring_reserve(ring, &second, 6, WW_NOW));
    CHECK_INT(first.size, 5);
    memcpy(first.data, "first", 5);
    memcpy(second.data, "second", 6);
    OK(ww_ring_commit(ring, second.token));
    OK(ww_ring_commit(ring, first.token));
    CHECK_ERROR(ww_ring_commit(ring, first.token), -EINVAL, "given back already");
    CHECK_ERROR(ww_ring_abort(ring, 12345), -EINVAL, "no loan");
    OK(ww_ring_borrow(ring, &read, WW_NOW, &deliveries));
    CHECK_INT(deliveries, 1);
    CHECK_INT(read.size, 5);
    CHECK(memcmp(read.data, "first", 5) == 0);
    CHECK_ERROR(ww_ring_commit(ring, read.token), -EINVAL, "no loan");
    ELSEWHERE(ww_ring_give_back(ring, read.token) != -EPERM); /* it is this process's */
    OK(ww_ring_give_back(ring, read.token));
    OK(ww_ring_borrow(ring, &read, WW_NOW, &deliveries));
    CHECK_INT(deliveries, 2);
    CHECK(memcmp(read.data, "first", 5) == 0);
    OK(ww_ring_release(ring, read.token));
    CHECK_INT(ww_ring_release(ring, read.token), -EINVAL);
    expect(ring, "second");
    OK(ww_ring_reserve(ring, &first, 64, WW_NOW));
    OK(ww_ring_abort(ring, first.token));
    CHECK_INT(ww_ring_borrow(ring, &read, WW_NOW, NULL), -EAGAIN);
    CHECK_INT(books(ring).aborted, 1);
    CHECK_INT(books(ring).redelivered, 1);
    ww_ring_close(ring);
}

TEST(closing_gives_loans_back) {
    ww_ring *ring = make(), *other = join(ring, NULL);
    ww_loan loan;
    OK(ww_ring_send(ring, "back", 4, WW_NOW));
    OK(ww_ring_borrow(other, &loan, WW_NOW, NULL));
    CHECK_INT(books(ring).borrowed, 1);
    OK(ww_ring_reserve(other, &loan, 1, WW_NOW));
    ww_ring_close(other);
    CHECK_INT(books(ring).queued, 1);
    CHECK_INT(books(ring).aborted, 1);
    ww_ring_close(ring);
}

TEST(a_full_ring) {
    ww_ring_options options = small();
    ww_ring *ring = make(), *fail, *newest, *oldest;
    ww_loan loan;
    int n = 0;
    char digit;
    options.full = WW_RING_FAIL;
    fail = join(ring, &options);
    options.full = WW_RING_DROP_NEWEST;
    newest = join(ring, &options);
    options.full = WW_RING_DROP_OLDEST;
    oldest = join(ring, &options);
    for (digit = '0'; ww_ring_send(ring, &digit, 1, WW_NOW) == 0; digit++) n++;
    CHECK(n > 1);
    CHECK_ERROR(ww_ring_send(ring, "x", 1, SHORT), -ETIMEDOUT, "deadline");
    CHECK_ERROR(ww_ring_send(fail, "x", 1, GENEROUS), -EAGAIN, "full");
    OK(ww_ring_send(newest, "x", 1, GENEROUS));
    CHECK_INT(ww_ring_reserve(newest, &loan, 1, GENEROUS), -EAGAIN);
    OK(ww_ring_send(oldest, "y", 1, GENEROUS));
    expect(ring, "1"); /* 0 was dropped for y, x was never there */
    CHECK_INT(books(ring).dropped, 2);
    CHECK_INT(books(ring).sent, n + 2);
    ww_ring_close(ring);
    ww_ring_close(fail);
    ww_ring_close(newest);
    ww_ring_close(oldest);
}

TEST(by_name_between_processes) {
    char address[100];
    ww_ring_options options = small();
    ww_ring *ring;
    pid_t pid;
    snprintf(address, sizeof address, "ring:%s", fresh_name("ring"));
    options.role = WW_RING_CONSUMER;
    OK(ww_ring_open(&ring, address, &options));
    pid = fork();
    if (pid == 0) {
        ww_ring *sender;
        options.role = WW_RING_PRODUCER;
        if (ww_ring_open(&sender, address, &options) != 0) _exit(1);
        if (ww_ring_send(sender, "hello", 5, GENEROUS) != 0) _exit(2);
        ww_ring_close(sender);
        _exit(0);
    }
    expect(ring, "hello");
    reap(pid, 0);
    /* The last producer has gone. */
    CHECK_ERROR(ww_ring_recv(ring, NULL, 0, GENEROUS, NULL, NULL), -EPIPE, "last producer");
    OK(ww_ring_check(ring));
    OK(ww_ring_remove(address));
    CHECK_ERROR(ww_ring_remove(address), -ENOENT, address);
    CHECK_ERROR(ww_ring_check(ring), -ESTALE, "removed");
    ww_ring_close(ring);
}

TEST(an_inherited_handle_joins_as_itself) {
    ww_ring *ring = make();
    ww_ring_participant who[4];
    ww_ring_statistics seen;
    pid_t pid = fork();
    if (pid == 0) _exit(ww_ring_send(ring, "child", 5, GENEROUS) != 0 || books(ring).participants != 2);
    expect(ring, "child");
    reap(pid, 0);
    memset(who, 0xff, sizeof who);
    OK(ww_ring_get_statistics(ring, &seen, who, 1));
    CHECK(seen.participants >= 1);
    CHECK_INT(who[0].pid, getpid());
    CHECK_INT(who[0].is_self, 1);
    CHECK_INT(who[0].consumer, 1);
    CHECK(who[0].since > 1500000000);
    CHECK_INT(who[1].pid, 0xffffffffu); /* no more than there is room for */
    ww_ring_close(ring);
}

TEST(what_the_dead_had_taken_is_delivered_again) {
    ww_ring *ring = make();
    ww_loan loan;
    uint32_t deliveries;
    int ready[2];
    char byte;
    pid_t pid;
    OK(pipe(ready));
    OK(ww_ring_send(ring, "precious", 8, WW_NOW));
    pid = fork();
    if (pid == 0) {
        ww_loan unfinished;
        if (ww_ring_borrow(ring, &loan, GENEROUS, NULL) != 0 || ww_ring_reserve(ring, &unfinished, 4, WW_NOW) != 0)
            _exit(1);
        if (write(ready[1], "x", 1) != 1) _exit(2);
        for (;;) pause();
    }
    CHECK_INT(read(ready[0], &byte, 1), 1);
    CHECK_INT(ww_ring_borrow(ring, &loan, WW_NOW, NULL), -EAGAIN);
    OK(kill(pid, SIGKILL));
    reap_killed(pid);
    OK(ww_ring_borrow(ring, &loan, GENEROUS, &deliveries));
    CHECK_INT(deliveries, 2);
    CHECK(loan.size == 8 && memcmp(loan.data, "precious", 8) == 0);
    OK(ww_ring_release(ring, loan.token));
    CHECK_INT(books(ring).skipped, 1);
    close(ready[0]);
    close(ready[1]);
    ww_ring_close(ring);
}

static void *wait_for_ever(void *ring) {
    char buffer[8];
    return (void *)(intptr_t)ww_ring_recv(ring, buffer, sizeof buffer, WW_FOREVER, NULL, NULL);
}

static void *borrow_for_ever(void *ring) {
    ww_loan loan;
    return (void *)(intptr_t)ww_ring_borrow(ring, &loan, WW_FOREVER, NULL);
}

static void *reserve_for_ever(void *ring) {
    ww_loan loan;
    return (void *)(intptr_t)ww_ring_reserve(ring, &loan, 1, WW_FOREVER);
}

static void *send_batch_for_ever(void *ring) {
    static const ww_bytes messages[65]; /* more than a chunk */
    return (void *)(intptr_t)ww_ring_send_batch(ring, messages, 65, WW_FOREVER);
}

/* Closes a ring under two threads that wait. */
static void close_under(ww_ring *ring, void *(*one)(void *), void *(*other)(void *)) {
    pthread_t threads[2];
    void *result;
    int n;
    OK(pthread_create(&threads[0], NULL, one, ring));
    OK(pthread_create(&threads[1], NULL, other, ring));
    until_blocked(2);
    ww_ring_close(ring);
    for (n = 0; n < 2; n++) {
        OK(pthread_join(threads[n], &result));
        CHECK_INT((intptr_t)result, -ECANCELED);
    }
}

TEST(closing_ends_waits) {
    ww_ring *full = make();
    close_under(make(), wait_for_ever, borrow_for_ever);
    while (ww_ring_send(full, "", 0, WW_NOW) == 0) {}
    close_under(full, reserve_for_ever, send_batch_for_ever);
}

#define THREADS 4
#define EACH 500

static void *send_many(void *ring) {
    int n;
    for (n = 0; n < EACH; n++) {
        ww_loan loan;
        if (ww_ring_reserve(ring, &loan, sizeof n, GENEROUS) != 0) return "reserve";
        memcpy(loan.data, &n, sizeof n);
        if (ww_ring_commit(ring, loan.token) != 0) return "commit";
    }
    return NULL;
}

TEST(many_threads_share_a_handle) {
    ww_ring *ring = make();
    pthread_t threads[THREADS];
    void *failed;
    long sum = 0;
    int n;
    for (n = 0; n < THREADS; n++) OK(pthread_create(&threads[n], NULL, send_many, ring));
    for (n = 0; n < THREADS * EACH; n++) {
        ww_loan loan;
        int value;
        OK(ww_ring_borrow(ring, &loan, GENEROUS, NULL));
        memcpy(&value, loan.data, sizeof value);
        OK(ww_ring_release(ring, loan.token));
        sum += value;
    }
    for (n = 0; n < THREADS; n++) {
        OK(pthread_join(threads[n], &failed));
        if (failed) FAIL("%s: %s", (const char *)failed, ww_last_error());
    }
    CHECK_INT(sum, (long)THREADS * EACH * (EACH - 1) / 2);
    CHECK_INT(books(ring).released, THREADS * EACH);
    ww_ring_close(ring);
}

TEST(bad_input) {
    ww_ring_options options = WW_RING_OPTIONS_INIT;
    ww_ring *ring, *untouched = (ww_ring *)1;
    ww_ring_statistics seen;
    int memory;
    CHECK_INT(ww_ring_anonymous(NULL, NULL), -EFAULT);
    CHECK_ERROR(ww_ring_open(&untouched, "cell:x", NULL), -EINVAL, "ring");
    CHECK_INT(ww_ring_open(&untouched, NULL, NULL), -EFAULT);
    options.full = 4;
    CHECK_ERROR(ww_ring_anonymous(&untouched, &options), -EINVAL, "WW_RING_DROP_OLDEST");
    options.full = 0;
    options.role = 3;
    CHECK_ERROR(ww_ring_anonymous(&untouched, &options), -EINVAL, "WW_RING_CONSUMER");
    options.role = 0;
    options.wait = 3;
    CHECK_ERROR(ww_ring_anonymous(&untouched, &options), -EINVAL, "WW_WAIT_");
    options.wait = 0;
    options.persistent = 2;
    CHECK_ERROR(ww_ring_anonymous(&untouched, &options), -EINVAL, "0 or 1");
    options.persistent = 0;
    options.dead_letters = 2;
    CHECK_ERROR(ww_ring_anonymous(&untouched, &options), -EINVAL, "dead_letters");
    options.dead_letters = 0;
    options.participants = 257;
    CHECK_ERROR(ww_ring_anonymous(&untouched, &options), -EINVAL, "256");
    CHECK(untouched == (ww_ring *)1);
    memory = memfd_create("not a ring", MFD_CLOEXEC);
    CHECK_INT(ww_ring_from_fd(&untouched, memory, NULL), -EBADMSG);
    close(memory);
    CHECK_INT(ww_ring_from_fd(&untouched, -1, NULL), -EBADF);
    ring = make();
    CHECK_INT(ww_ring_send(NULL, "x", 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_send(ring, NULL, 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_send(ring, "x", 1, -2), -EINVAL);
    CHECK_INT(ww_ring_reserve(ring, NULL, 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_borrow(ring, NULL, WW_NOW, NULL), -EFAULT);
    CHECK_INT(ww_ring_get_statistics(ring, NULL, NULL, 0), -EFAULT);
    OK(ww_ring_get_statistics(ring, &seen, NULL, 0));
    options = small();
    CHECK_INT(ww_ring_size_for(&options), seen.bytes);
    ww_ring_close(ring);
    ww_ring_close(NULL);
}
