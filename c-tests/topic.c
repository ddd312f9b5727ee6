/* Topic: each message to every subscriber, in shared memory. */
#include "test.h"

#include <poll.h>

static ww_topic *make(void) {
    ww_topic_options options = WW_TOPIC_OPTIONS_INIT;
    ww_topic *topic;
    options.capacity = 1024;
    options.largest = 100;
    options.participants = 4;
    OK(ww_topic_anonymous(&topic, &options));
    return topic;
}

static ww_subscription *subscribe(const ww_topic *topic, uint32_t lossy, uint64_t history) {
    ww_subscribe_options options = WW_SUBSCRIBE_OPTIONS_INIT;
    ww_subscription *subscription;
    options.lossy = lossy;
    options.history = history;
    OK(ww_topic_subscribe(topic, &subscription, &options));
    return subscription;
}

static void expect(const ww_subscription *subscription, const char *text, uint64_t sequence, uint64_t missed) {
    char buffer[100];
    ww_topic_received received = {0, 0, 0};
    CHECK_INT(ww_subscription_recv(subscription, buffer, sizeof buffer, GENEROUS, &received, NULL), strlen(text));
    CHECK(memcmp(buffer, text, strlen(text)) == 0);
    CHECK_INT(received.sequence, sequence);
    CHECK_INT(received.missed, missed);
}

static void *borrow_for_ever(void *subscription) {
    ww_loan loan;
    return (void *)(intptr_t)ww_subscription_borrow(subscription, &loan, WW_FOREVER, NULL);
}

static void *reserve_for_ever(void *topic) {
    ww_loan loan;
    return (void *)(intptr_t)ww_topic_reserve(topic, &loan, 1, WW_FOREVER);
}

TEST(closing_ends_waits) {
    ww_topic *topic = make();
    ww_subscription *slow = subscribe(topic, 0, 0), *idle;
    pthread_t threads[2];
    void *result;
    while (ww_topic_publish(topic, "x", 1, WW_NOW, NULL) == 0) {}
    idle = subscribe(topic, 0, 0);
    OK(pthread_create(&threads[0], NULL, borrow_for_ever, idle));
    OK(pthread_create(&threads[1], NULL, reserve_for_ever, topic));
    until_blocked(2);
    ww_subscription_close(idle);
    OK(pthread_join(threads[0], &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    ww_topic_close(topic);
    OK(pthread_join(threads[1], &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    ww_subscription_close(slow);
}

TEST(each_message_to_every_subscriber) {
    ww_topic *topic = make();
    ww_subscription *first = subscribe(topic, 0, 0), *second = subscribe(topic, 1, 0), *late;
    uint64_t sequence = 0, missed = 1;
    size_t true_size = 0;
    char buffer[101] = "";
    int i;
    CHECK_ERROR(ww_subscription_recv(first, buffer, 100, WW_NOW, NULL, NULL), -EAGAIN, "recv topic:");
    OK(ww_topic_publish(topic, "one", 3, WW_NOW, &sequence));
    CHECK_INT(sequence, 1);
    CHECK_INT(ww_subscription_recv(first, buffer, 2, WW_NOW, NULL, &true_size), -EMSGSIZE);
    CHECK_INT(true_size, 3);
    expect(first, "one", 1, 0);
    expect(second, "one", 1, 0);
    late = subscribe(topic, 0, 1);
    expect(late, "one", 1, 0);
    ww_subscription_close(late);
    CHECK_INT(ww_topic_publish(topic, buffer, 101, WW_NOW, NULL), -EMSGSIZE);
    for (i = 0; i < 8; i++) OK(ww_topic_publish(topic, "x", 1, WW_NOW, NULL));
    CHECK_INT(ww_topic_publish(topic, "x", 1, WW_NOW, NULL), -EAGAIN);
    CHECK_ERROR(ww_topic_publish(topic, "x", 1, SHORT, NULL), -ETIMEDOUT, "publish topic:");
    expect(first, "x", 2, 0);
    OK(ww_topic_publish(topic, "y", 1, WW_NOW, NULL));
    expect(second, "x", 3, 1);
    OK(ww_subscription_missed(second, &missed));
    CHECK_INT(missed, 1);
    ww_subscription_close(first);
    ww_subscription_close(second);
    ww_subscription_close(NULL);
    ww_topic_close(topic);
    ww_topic_close(NULL);
}

TEST(several_in_one_call) {
    ww_topic *topic;
    ww_subscription *subscription;
    ww_bytes messages[70];
    ww_topic_received received[100];
    char buffer[4096], text[70][4];
    size_t true_size = 0;
    ssize_t taken, at;
    int i, seen = 0;
    OK(ww_topic_anonymous(&topic, NULL));
    OK(ww_topic_subscribe(topic, &subscription, NULL));
    for (i = 0; i < 70; i++) {
        messages[i].size = (size_t)snprintf(text[i], sizeof text[i], "%d", i);
        messages[i].data = text[i];
    }
    CHECK_INT(ww_topic_publish_batch(topic, messages, 70, WW_NOW), 70);
    CHECK_INT(ww_topic_publish_batch(topic, NULL, 0, WW_NOW), 0);
    CHECK_ERROR(ww_subscription_recv_batch(subscription, buffer, 0, received, 100, WW_NOW, &true_size), -EMSGSIZE, "small");
    CHECK_INT(true_size, 1);
    while (seen < 70) {
        const char *next = buffer;
        taken = ww_subscription_recv_batch(subscription, buffer, sizeof buffer, received, 100, WW_NOW, NULL);
        CHECK(taken > 0);
        for (at = 0; at < taken; at++, seen++) {
            CHECK(received[at].size == messages[seen].size && memcmp(next, text[seen], received[at].size) == 0);
            CHECK(received[at].sequence == (uint64_t)seen + 1 && received[at].missed == 0);
            next += received[at].size;
        }
    }
    CHECK_INT(ww_subscription_recv_batch(subscription, buffer, sizeof buffer, received, 100, WW_NOW, NULL), -EAGAIN);
    CHECK_INT(ww_subscription_recv_batch(subscription, buffer, sizeof buffer, received, 0, WW_NOW, NULL), -EINVAL);
    CHECK_INT(ww_subscription_recv_batch(subscription, buffer, sizeof buffer, NULL, 1, WW_NOW, NULL), -EFAULT);
    CHECK_INT(ww_topic_publish_batch(topic, NULL, 1, WW_NOW), -EFAULT);
    ww_subscription_close(subscription);
    ww_topic_close(topic);
}

TEST(in_place) {
    ww_topic *topic = make();
    ww_subscription *subscription = subscribe(topic, 0, 0), *lossy = subscribe(topic, 1, 0);
    ww_loan loan, other;
    uint64_t sequence = 0;
    OK(ww_topic_reserve(topic, &loan, 4, WW_NOW));
    OK(ww_topic_reserve(topic, &other, 4, WW_NOW));
    CHECK_INT(loan.size, 4);
    memcpy(loan.data, "four", 4);
    OK(ww_topic_abort(topic, other.token));
    OK(ww_topic_commit(topic, loan.token, &sequence));
    CHECK_INT(sequence, 1);
    CHECK_INT(ww_topic_commit(topic, loan.token, NULL), -EINVAL);
    CHECK_ERROR(ww_subscription_borrow(lossy, &loan, WW_NOW, NULL), -ENOTSUP, "lossless");
    OK(ww_subscription_borrow(subscription, &loan, WW_NOW, &sequence));
    CHECK_INT(sequence, 1);
    CHECK_INT(loan.size, 4);
    CHECK(memcmp(loan.data, "four", 4) == 0);
    OK(ww_subscription_release(subscription, loan.token));
    CHECK_INT(ww_subscription_release(subscription, loan.token), -EINVAL);
    ww_topic_close(topic);
    CHECK_INT(ww_subscription_borrow(subscription, &loan, WW_NOW, NULL), -EAGAIN);
    ww_subscription_close(subscription);
    ww_subscription_close(lossy);
}

TEST(between_processes_and_by_poll) {
    ww_topic *topic = make();
    ww_subscription *subscription = subscribe(topic, 0, 0);
    struct pollfd bell = {0, POLLIN, 0};
    int go[2];
    pid_t pid;
    OK(pipe(go));
    /* Before there is a helper thread, which might be at anything when the child is made. */
    pid = fork();
    if (pid == 0) {
        char byte;
        int own = (int)ww_subscription_recv(subscription, NULL, 0, WW_NOW, NULL, NULL);
        if (read(go[0], &byte, 1) != 1) _exit(2);
        _exit(own != -EPERM || ww_topic_publish(topic, "child", 5, WW_NOW, NULL) != 0);
    }
    bell.fd = ww_subscription_fd(subscription);
    CHECK(bell.fd >= 0);
    CHECK_INT(poll(&bell, 1, 0), 0);
    CHECK_INT(write(go[1], "x", 1), 1);
    CHECK_INT(poll(&bell, 1, 30000), 1);
    expect(subscription, "child", 1, 0);
    reap(pid, 0);
    close(go[0]);
    close(go[1]);
    ww_subscription_close(subscription);
    ww_topic_close(topic);
}

TEST(tells_what_it_has_seen) {
    ww_topic *topic = make();
    ww_subscription *subscription = subscribe(topic, 0, 0), *untouched = NULL;
    ww_topic_options options = WW_TOPIC_OPTIONS_INIT;
    ww_subscribe_options wrong = WW_SUBSCRIBE_OPTIONS_INIT;
    ww_topic_statistics seen;
    ww_topic_subscriber who[2];
    OK(ww_topic_publish(topic, "x", 1, WW_NOW, NULL));
    OK(ww_topic_get_statistics(topic, &seen, who, 2));
    CHECK_INT(seen.sent, 1);
    CHECK_INT(seen.stored, 1);
    CHECK_INT(seen.skipped + seen.reserved, 0);
    CHECK_INT(seen.capacity, 1024);
    CHECK_INT(seen.participants, 1);
    CHECK_INT(seen.subscribers, 1);
    CHECK_INT(who[0].pid, getpid());
    CHECK_INT(who[0].lag, 1);
    CHECK_INT(who[0].lossless, 1);
    OK(ww_topic_get_statistics(topic, &seen, NULL, 0));
    CHECK_INT(ww_topic_get_statistics(NULL, &seen, NULL, 0), -EFAULT);
    OK(ww_topic_check(topic));
    CHECK(ww_topic_segment_fd(topic) >= 0);
    options.capacity = 1024;
    options.largest = 100;
    options.participants = 4;
    CHECK_INT(ww_topic_size_for(&options), seen.bytes);
    options.largest = 1000;
    CHECK_INT(ww_topic_size_for(&options), -EINVAL);
    wrong.lossy = 2;
    CHECK_INT(ww_topic_subscribe(topic, &untouched, &wrong), -EINVAL);
    ww_subscription_close(subscription);
    ww_topic_close(topic);
}

TEST(by_name_and_by_descriptor) {
    char address[100];
    ww_topic *topic, *other;
    ww_subscription *subscription;
    snprintf(address, sizeof address, "topic:%s", fresh_name("topic"));
    OK(ww_topic_open(&topic, address, NULL));
    subscription = subscribe(topic, 0, 0);
    OK(ww_topic_from_fd(&other, dup(ww_topic_segment_fd(topic)), NULL));
    OK(ww_topic_publish(other, "over", 4, WW_NOW, NULL));
    expect(subscription, "over", 1, 0);
    OK(ww_topic_remove(address));
    CHECK_INT(ww_topic_check(topic), -ESTALE);
    CHECK_INT(ww_topic_remove(address), -ENOENT);
    ww_subscription_close(subscription);
    ww_topic_close(other);
    ww_topic_close(topic);
}

TEST(bad_input) {
    ww_topic_options options = WW_TOPIC_OPTIONS_INIT;
    ww_topic *topic = make(), *untouched = (ww_topic *)1;
    options.wait = 9;
    CHECK_ERROR(ww_topic_anonymous(&untouched, &options), -EINVAL, "WW_WAIT_");
    CHECK_INT(ww_topic_open(&untouched, "cell:x", NULL), -EINVAL);
    CHECK_INT(ww_topic_anonymous(NULL, NULL), -EFAULT);
    CHECK(untouched == (ww_topic *)1);
    CHECK_INT(ww_topic_publish(topic, NULL, 1, WW_NOW, NULL), -EFAULT);
    CHECK_INT(ww_topic_publish(topic, "x", 1, -2, NULL), -EINVAL);
    CHECK_INT(ww_topic_reserve(topic, NULL, 1, WW_NOW), -EFAULT);
    CHECK_INT(ww_topic_subscribe(topic, NULL, NULL), -EFAULT);
    CHECK_INT(ww_subscription_recv(NULL, NULL, 0, WW_NOW, NULL, NULL), -EFAULT);
    ww_topic_close(topic);
}
