/* One-to-one rings: one producer, one consumer. */
#include "test.h"

#include <poll.h>

static ww_ring_options small(void) {
    ww_ring_options options = WW_RING_OPTIONS_INIT;
    options.capacity = 1024;
    options.largest = 64;
    options.persistent = 1;
    return options;
}

static void make(ww_ring_producer **producer, ww_ring_consumer **consumer) {
    ww_ring_options options = small();
    OK(ww_ring_producer_anonymous(producer, consumer, &options));
}

static ww_ring_statistics books(const ww_ring_producer *producer) {
    ww_ring_statistics seen;
    OK(ww_ring_producer_get_statistics(producer, &seen, NULL, 0));
    CHECK_INT(seen.sent, seen.released + seen.borrowed + seen.queued + seen.dropped);
    return seen;
}

static void expect(const ww_ring_consumer *consumer, const char *text) {
    char buffer[64];
    uint32_t deliveries = 0;
    CHECK_INT(ww_ring_consumer_recv(consumer, buffer, sizeof buffer, GENEROUS, &deliveries, NULL), strlen(text));
    CHECK(memcmp(buffer, text, strlen(text)) == 0);
    CHECK_INT(deliveries, 1);
}

TEST(the_next_process_takes_over) {
    ww_ring_producer *producer;
    ww_ring_consumer *consumer, *mine;
    ww_ring_options options = small();
    ww_loan loan;
    uint32_t deliveries;
    int fd;
    pid_t child;
    make(&producer, &consumer);
    fd = dup(ww_ring_producer_segment_fd(producer));
    OK(ww_ring_producer_send(producer, "job", 3, WW_NOW));
    CHECK_ERROR(ww_ring_consumer_from_fd(&mine, fd, &options), -EBUSY, "has its consumer");
    ww_ring_consumer_close(consumer);
    child = fork();
    if (child == 0) {
        CHECK_ERROR(ww_ring_producer_send(producer, "x", 1, WW_NOW), -EPERM, "forked");
        OK(ww_ring_consumer_from_fd(&mine, fd, &options));
        OK(ww_ring_consumer_borrow(mine, &loan, GENEROUS, &deliveries));
        _exit(deliveries == 1 && loan.size == 3 ? 0 : 1); /* without giving it back */
    }
    reap(child, 0);
    OK(ww_ring_consumer_from_fd(&mine, fd, &options));
    OK(ww_ring_consumer_borrow(mine, &loan, GENEROUS, &deliveries));
    CHECK_INT(deliveries, 2);
    CHECK(memcmp(loan.data, "job", 3) == 0);
    OK(ww_ring_consumer_release(mine, loan.token));
    CHECK_INT(books(producer).released, 1);
    ww_ring_consumer_close(mine);
    ww_ring_producer_close(producer);
}

TEST(copies_messages) {
    ww_ring_producer *producer;
    ww_ring_consumer *consumer;
    char buffer[65] = {0};
    size_t true_size = 0;
    make(&producer, &consumer);
    OK(ww_ring_producer_send(producer, "one", 3, WW_NOW));
    OK(ww_ring_producer_send(producer, NULL, 0, WW_NOW));
    CHECK_ERROR(ww_ring_producer_send(producer, buffer, 65, WW_NOW), -EMSGSIZE, "larger");
    CHECK_ERROR(ww_ring_consumer_recv(consumer, buffer, 2, WW_NOW, NULL, &true_size), -EMSGSIZE, "too small");
    CHECK_INT(true_size, 3);
    expect(consumer, "one");
    expect(consumer, "");
    CHECK_ERROR(ww_ring_consumer_recv(consumer, buffer, 64, SHORT, NULL, NULL), -ETIMEDOUT, "recv");
    while (ww_ring_producer_send(producer, buffer, 64, WW_NOW) == 0) {}
    CHECK_ERROR(ww_ring_producer_send(producer, buffer, 64, SHORT), -ETIMEDOUT, "send");
    CHECK_INT(books(producer).released, 2);
    ww_ring_producer_close(producer);
    ww_ring_consumer_close(consumer);
}

TEST(sends_and_receives_batches) {
    ww_ring_producer *producer;
    ww_ring_consumer *consumer;
    ww_bytes messages[3] = {{"a", 1}, {NULL, 0}, {"bc", 2}};
    ww_ring_received received[3];
    char buffer[64];
    size_t true_size = 0;
    make(&producer, &consumer);
    CHECK_INT(ww_ring_producer_send_batch(producer, messages, 3, WW_NOW), 3);
    CHECK_ERROR(ww_ring_consumer_recv_batch(consumer, buffer, 0, received, 3, WW_NOW, &true_size), -EMSGSIZE, "small");
    CHECK_INT(true_size, 1);
    CHECK_INT(ww_ring_consumer_recv_batch(consumer, buffer, sizeof buffer, received, 3, WW_NOW, NULL), 3);
    CHECK_INT(received[0].size, 1);
    CHECK_INT(received[1].size, 0);
    CHECK_INT(received[2].size, 2);
    CHECK_INT(received[2].deliveries, 1);
    CHECK(memcmp(buffer, "abc", 3) == 0);
    CHECK_INT(ww_ring_consumer_recv_batch(consumer, buffer, sizeof buffer, received, 3, WW_NOW, NULL), -EAGAIN);
    CHECK_INT(ww_ring_consumer_recv_batch(consumer, buffer, sizeof buffer, NULL, 3, WW_NOW, NULL), -EFAULT);
    CHECK_INT(ww_ring_producer_send_batch(producer, NULL, 3, WW_NOW), -EFAULT);
    ww_ring_producer_close(producer);
    ww_ring_consumer_close(consumer);
}

TEST(writes_and_reads_in_place) {
    ww_ring_producer *producer;
    ww_ring_consumer *consumer;
    ww_ring_statistics seen;
    ww_loan loan, none;
    uint32_t deliveries;
    make(&producer, &consumer);
    OK(ww_ring_producer_reserve(producer, &loan, 5, WW_NOW));
    CHECK_INT(loan.size, 5);
    CHECK_ERROR(ww_ring_producer_send(producer, "x", 1, WW_NOW), -EBUSY, "a loan is out");
    CHECK_ERROR(ww_ring_producer_reserve(producer, &none, 5, WW_NOW), -EBUSY, "a loan is out");
    CHECK_INT(books(producer).sent, 0);
    memcpy(loan.data, "first", 5);
    CHECK_ERROR(ww_ring_producer_commit(producer, loan.token + 1), -EINVAL, "no loan");
    OK(ww_ring_producer_commit(producer, loan.token));
    CHECK_ERROR(ww_ring_producer_commit(producer, loan.token), -EINVAL, "given back already");
    OK(ww_ring_producer_reserve(producer, &loan, 64, WW_NOW));
    OK(ww_ring_producer_abort(producer, loan.token));
    CHECK_ERROR(ww_ring_producer_abort(producer, loan.token), -EINVAL, "no loan");

    OK(ww_ring_consumer_borrow(consumer, &loan, GENEROUS, &deliveries));
    CHECK_INT(deliveries, 1);
    CHECK_INT(loan.size, 5);
    CHECK_ERROR(ww_ring_consumer_borrow(consumer, &none, WW_NOW, NULL), -EBUSY, "a loan is out");
    OK(ww_ring_consumer_get_statistics(consumer, &seen, NULL, 0));
    CHECK_INT(seen.borrowed, 1);
    OK(ww_ring_consumer_give_back(consumer, loan.token));
    CHECK_ERROR(ww_ring_consumer_give_back(consumer, loan.token), -EINVAL, "no loan");
    OK(ww_ring_consumer_borrow(consumer, &loan, WW_NOW, &deliveries));
    CHECK_INT(deliveries, 2);
    CHECK(memcmp(loan.data, "first", 5) == 0);
    OK(ww_ring_consumer_release(consumer, loan.token));
    CHECK_ERROR(ww_ring_consumer_release(consumer, loan.token), -EINVAL, "no loan");
    CHECK_ERROR(ww_ring_consumer_borrow(consumer, &loan, SHORT, NULL), -ETIMEDOUT, "next_length");
    CHECK_INT(ww_ring_producer_reserve(producer, &loan, 65, WW_NOW), -EMSGSIZE);

    /* Closed with loans out. */
    OK(ww_ring_producer_reserve(producer, &loan, 1, WW_NOW));
    ww_ring_producer_close(producer);
    ww_ring_consumer_close(consumer);
}

TEST(by_name) {
    ww_ring_options options = small();
    ww_ring_producer *producer, *second;
    ww_ring_consumer *consumer;
    ww_ring_participant participants[2];
    ww_ring_statistics seen;
    char address[64];
    snprintf(address, sizeof address, "ring:wwtest-one-%ld", (long)getpid());
    OK(ww_ring_producer_open(&producer, address, &options));
    OK(ww_ring_consumer_open(&consumer, address, NULL));
    CHECK_ERROR(ww_ring_producer_open(&second, address, NULL), -EBUSY, "has its producer");
    OK(ww_ring_producer_send(producer, "named", 5, WW_NOW));
    expect(consumer, "named");
    OK(ww_ring_consumer_get_statistics(consumer, &seen, participants, 2));
    CHECK_INT(seen.participants, 2);
    CHECK_INT(participants[0].producer + participants[1].producer, 1);
    CHECK_INT(seen.bytes, ww_ring_producer_size_for(&options));
    OK(ww_ring_producer_check(producer));
    OK(ww_ring_consumer_check(consumer));
    OK(ww_ring_remove(address));
    CHECK_ERROR(ww_ring_producer_check(producer), -ESTALE, "removed");
    CHECK_ERROR(ww_ring_consumer_check(consumer), -ESTALE, "removed");
    ww_ring_producer_close(producer);
    OK(ww_ring_producer_from_fd(&producer, dup(ww_ring_consumer_segment_fd(consumer)), &options));
    OK(ww_ring_producer_send(producer, "again", 5, WW_NOW));
    expect(consumer, "again");
    ww_ring_producer_close(producer);
    ww_ring_consumer_close(consumer);
}

static void *receive_in_vain(void *consumer) {
    char buffer[64];
    ssize_t received = ww_ring_consumer_recv(consumer, buffer, sizeof buffer, GENEROUS, NULL, NULL);
    return (void *)(intptr_t)received;
}

static void *borrow_in_vain(void *consumer) {
    ww_loan loan;
    return (void *)(intptr_t)ww_ring_consumer_borrow(consumer, &loan, GENEROUS, NULL);
}

static void *reserve_in_vain(void *producer) {
    ww_loan loan;
    return (void *)(intptr_t)ww_ring_producer_reserve(producer, &loan, 1, GENEROUS);
}

static void *send_batch_in_vain(void *producer) {
    static const ww_bytes messages[65]; /* more than a chunk */
    return (void *)(intptr_t)ww_ring_producer_send_batch(producer, messages, 65, GENEROUS);
}

TEST(closing_ends_waits) {
    static void *(*const waits[])(void *) = {receive_in_vain, borrow_in_vain, reserve_in_vain, send_batch_in_vain};
    int n;
    for (n = 0; n < 4; n++) {
        ww_ring_producer *producer;
        ww_ring_consumer *consumer;
        pthread_t thread;
        void *result;
        make(&producer, &consumer);
        while (n >= 2 && ww_ring_producer_send(producer, "", 0, WW_NOW) == 0) {}
        OK(pthread_create(&thread, NULL, waits[n], n >= 2 ? (void *)producer : (void *)consumer));
        until_blocked(1);
        if (n < 2) ww_ring_consumer_close(consumer);
        else ww_ring_producer_close(producer);
        OK(pthread_join(thread, &result));
        CHECK_INT((intptr_t)result, -ECANCELED);
        if (n < 2) ww_ring_producer_close(producer);
        else ww_ring_consumer_close(consumer);
    }
}

TEST(descriptors_to_poll) {
    ww_ring_producer *producer;
    ww_ring_consumer *consumer;
    struct pollfd bells[2];
    char buffer[64] = {0};
    make(&producer, &consumer);
    bells[0].fd = ww_ring_consumer_fd(consumer);
    bells[1].fd = ww_ring_producer_fd(producer);
    bells[0].events = bells[1].events = POLLIN;
    CHECK(bells[0].fd >= 0 && bells[1].fd >= 0);
    CHECK_INT(poll(&bells[0], 1, 20), 0);
    OK(ww_ring_producer_send(producer, "ring", 4, WW_NOW));
    CHECK_INT(poll(&bells[0], 1, 30000), 1);
    CHECK_INT(poll(&bells[1], 1, 30000), 1);
    while (ww_ring_producer_send(producer, buffer, 64, WW_NOW) == 0) {}
    CHECK_INT(poll(&bells[1], 1, 20), 0);
    while (ww_ring_consumer_recv(consumer, buffer, sizeof buffer, WW_NOW, NULL, NULL) >= 0) {}
    CHECK_INT(poll(&bells[1], 1, 30000), 1);
    ww_ring_producer_close(producer);
    ww_ring_consumer_close(consumer);
}

TEST(bad_input) {
    ww_ring_options options = small();
    ww_ring_producer *producer, *untouched = (ww_ring_producer *)1;
    ww_ring_consumer *consumer;
    ww_ring *ring;
    char buffer[8];
    options.full = WW_RING_DROP_OLDEST;
    CHECK_ERROR(ww_ring_producer_anonymous(&untouched, &consumer, &options), -EINVAL, "oldest");
    options = small();
    options.redeliveries = 1;
    CHECK_ERROR(ww_ring_producer_anonymous(&untouched, &consumer, &options), -EINVAL, "dead letters");
    options.capacity = 1;
    CHECK_INT(ww_ring_producer_size_for(&options), -EINVAL);
    OK(ww_ring_anonymous(&ring, NULL));
    CHECK_INT(ww_ring_producer_from_fd(&untouched, ww_ring_segment_fd(ring), NULL), -EBADMSG);
    ww_ring_close(ring);
    CHECK(untouched == (ww_ring_producer *)1);
    CHECK_INT(ww_ring_producer_anonymous(&untouched, NULL, NULL), -EFAULT);
    CHECK_INT(ww_ring_producer_open(NULL, "ring:x", NULL), -EFAULT);
    CHECK_INT(ww_ring_producer_send(NULL, "x", 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_consumer_recv(NULL, buffer, 8, WW_NOW, NULL, NULL), -EFAULT);
    make(&producer, &consumer);
    CHECK_INT(ww_ring_producer_send(producer, NULL, 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_producer_reserve(producer, NULL, 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_ring_consumer_borrow(consumer, NULL, WW_NOW, NULL), -EFAULT);
    CHECK_INT(ww_ring_consumer_get_statistics(consumer, NULL, NULL, 0), -EFAULT);
    ww_ring_producer_close(producer);
    ww_ring_consumer_close(consumer);
    ww_ring_producer_close(NULL);
    ww_ring_consumer_close(NULL);
}
