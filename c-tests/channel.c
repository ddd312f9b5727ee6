/* Channel: messages over any mechanism, by its address. */
#include "test.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>

/* Both ends over a fresh object, and the address for more senders. */
struct ends {
    ww_channel *receiver, *sender;
    char address[160], directory[40], file[80];
};

/* The scheme of a kind, such as "unix" of "unix?framing=line". */
static int is(const char *kind, const char *scheme) {
    size_t length = strlen(scheme);
    return strncmp(kind, scheme, length) == 0 && (kind[length] == 0 || kind[length] == '?');
}

static void *receive_at(void *given) {
    struct ends *ends = given;
    OK(ww_channel_open_receiver(&ends->receiver, ends->address, GENEROUS));
    return NULL;
}

static struct ends open_both(const char *kind) {
    struct ends ends = {NULL, NULL, "", "", ""};
    const char *options = strchr(kind, '?') ? strchr(kind, '?') : "";
    int scheme = (int)strcspn(kind, "?");
    pthread_t thread;
    if (is(kind, "pipe")) {
        snprintf(ends.address, sizeof ends.address, "pipe:%s", options);
        OK(ww_channel_pair(&ends.receiver, &ends.sender, ends.address));
        return ends;
    }
    strcpy(ends.directory, "/tmp/wwctest-channel-XXXXXX");
    CHECK(mkdtemp(ends.directory) != NULL);
    snprintf(ends.file, sizeof ends.file, "%s/it", ends.directory);
    if (is(kind, "tcp") || is(kind, "udp")) {
        char local[100];
        snprintf(ends.address, sizeof ends.address, "%.*s://127.0.0.1:0%s", scheme, kind, options);
        OK(ww_channel_open_receiver(&ends.receiver, ends.address, WW_NOW));
        CHECK(ww_channel_local_address(ends.receiver, local, sizeof local, NULL) > 0);
        snprintf(ends.address, sizeof ends.address, "%s%s", local, strchr(local, '?') ? "" : options);
        OK(ww_channel_open_sender(&ends.sender, ends.address, GENEROUS));
        return ends;
    }
    if (is(kind, "mq")) {
        snprintf(ends.address, sizeof ends.address, "mq:/%s%s", fresh_name("channel"), options);
    } else if (is(kind, "sysv-mq")) {
        FILE *file = fopen(ends.file, "w");
        CHECK(file != NULL);
        fclose(file);
        snprintf(ends.address, sizeof ends.address, "sysv-mq:%s#7%s", ends.file, options);
    } else {
        snprintf(ends.address, sizeof ends.address, "%.*s:%s%s", scheme, kind, ends.file, options);
    }
    if (is(kind, "fifo")) { /* each end waits for the other */
        CHECK_INT(pthread_create(&thread, NULL, receive_at, &ends), 0);
        OK(ww_channel_open_sender(&ends.sender, ends.address, GENEROUS));
        CHECK_INT(pthread_join(thread, NULL), 0);
    } else {
        receive_at(&ends);
        OK(ww_channel_open_sender(&ends.sender, ends.address, GENEROUS));
    }
    return ends;
}

static void close_both(struct ends *ends) {
    int removed;
    ww_channel_close(ends->sender);
    ww_channel_close(ends->receiver);
    removed = ww_channel_remove(ends->address);
    if (removed != 0) CHECK_ERROR(removed, -EINVAL, "remove");
    if (ends->directory[0] != 0) {
        unlink(ends->file);
        CHECK_INT(rmdir(ends->directory), 0);
    }
}

static const char *const KINDS[] = {
    "tcp", "tcp?framing=line", "udp", "unix", "unix-dgram", "unix-seqpacket", "pipe", "fifo", "mq", "sysv-mq", "ring", "topic",
    "file?fsync=never",
};
#define EACH_KIND(n) for (n = 0; n < sizeof KINDS / sizeof *KINDS; n++)

static void expect(const ww_channel *channel, const char *text) {
    char buffer[100];
    ww_channel_received received;
    CHECK_INT(ww_channel_recv(channel, buffer, sizeof buffer, GENEROUS, &received, NULL, NULL), strlen(text));
    CHECK(memcmp(buffer, text, strlen(text)) == 0);
    CHECK_INT(received.size, strlen(text));
}

TEST(messages_over_every_mechanism) {
    size_t n;
    EACH_KIND(n) {
        struct ends ends = open_both(KINDS[n]);
        ww_channel_capabilities capabilities;
        ww_channel_statistics statistics;
        ww_channel_received received;
        size_t true_size = 0;
        char buffer[100], printed[160];
        int refused;
        OK(ww_channel_get_capabilities(ends.address, &capabilities));
        CHECK_INT(capabilities.boundaries, 1);
        CHECK(capabilities.largest >= 256 && capabilities.priorities >= 1);
        CHECK_ERROR(ww_channel_recv(ends.receiver, buffer, sizeof buffer, WW_NOW, NULL, NULL, NULL), -EAGAIN, "recv");
        CHECK_INT(ww_channel_recv(ends.receiver, buffer, sizeof buffer, SHORT, NULL, NULL, NULL), -ETIMEDOUT);
        CHECK_ERROR(ww_channel_send(ends.receiver, "x", 1, WW_NOW), -EBADF, "the end that receives");
        OK(ww_channel_send(ends.sender, "a job", 5, GENEROUS));
        OK(ww_channel_send_with_priority(ends.sender, "another", 7, 0, GENEROUS));
        CHECK_INT(ww_channel_recv(ends.receiver, buffer, 3, GENEROUS, NULL, NULL, &true_size), -EMSGSIZE);
        CHECK_INT(true_size, 5);
        CHECK_INT(ww_channel_recv(ends.receiver, buffer, sizeof buffer, GENEROUS, &received, NULL, &true_size), 5);
        CHECK(memcmp(buffer, "a job", 5) == 0 && true_size == 5 && received.size == 5 && received.missed == 0);
        CHECK_INT(received.deliveries, is(KINDS[n], "ring"));
        expect(ends.receiver, "another");
        refused = ww_channel_send_with_priority(ends.sender, "x", 1, 3, GENEROUS);
        if (capabilities.priorities == 1) {
            CHECK_ERROR(refused, -ENOTSUP, "mq: does");
        } else {
            OK(refused);
            CHECK_INT(ww_channel_recv(ends.receiver, buffer, sizeof buffer, GENEROUS, &received, NULL, NULL), 1);
            CHECK_INT(received.priority, 3);
        }
        if (capabilities.largest < SIZE_MAX) {
            char *large = calloc(1, capabilities.largest + 1);
            CHECK_ERROR(ww_channel_send(ends.sender, large, capabilities.largest + 1, WW_NOW), -EMSGSIZE, "bytes");
            free(large);
        }
        OK(ww_channel_flush(ends.sender, GENEROUS));
        OK(ww_channel_get_statistics(ends.receiver, &statistics));
        CHECK_INT(statistics.received, capabilities.priorities == 1 ? 2 : 3);
        CHECK(statistics.torn == 0 && statistics.cut_off == 0 && statistics.garbage == 0 && statistics.reserved[6] == 0);
        OK(ww_channel_get_statistics(ends.sender, &statistics));
        CHECK_INT(statistics.sent, capabilities.priorities == 1 ? 2 : 3);
        CHECK_INT(ww_channel_address(ends.sender, printed, sizeof printed, NULL), strlen(ends.address));
        CHECK(strcmp(printed, ends.address) == 0);
        CHECK_INT(ww_channel_address(ends.sender, printed, 3, &true_size), -EMSGSIZE);
        CHECK_INT(true_size, strlen(ends.address));
        close_both(&ends);
    }
}

TEST(batches) {
    static const ww_bytes MESSAGES[] = {{"one", 3}, {"three", 5}, {"seven", 5}, {"x", 1}};
    size_t n;
    EACH_KIND(n) {
        struct ends ends = open_both(KINDS[n]);
        ww_channel_received received[5];
        size_t sent = 9, true_size = 0, taken = 0;
        char all[14] = "";
        OK(ww_channel_send_batch(ends.sender, MESSAGES, 4, GENEROUS, &sent));
        CHECK_INT(sent, 4);
        CHECK_ERROR(ww_channel_recv_batch(ends.receiver, all, 14, received, 0, WW_NOW, NULL), -EINVAL, "one message");
        CHECK_INT(ww_channel_recv_batch(ends.receiver, all, 2, received, 5, GENEROUS, &true_size), -EMSGSIZE);
        CHECK_INT(true_size, 3);
        while (taken < 4) { /* connections may give them bit by bit */
            size_t size = 0, m;
            ssize_t got;
            for (m = 0; m < taken; m++) size += MESSAGES[m].size;
            got = ww_channel_recv_batch(ends.receiver, all + size, 14 - size, received + taken, 5 - taken, GENEROUS, NULL);
            CHECK(got > 0);
            taken += (size_t)got;
        }
        CHECK(taken == 4 && memcmp(all, "onethreesevenx", 14) == 0);
        CHECK(received[0].size == 3 && received[1].size == 5 && received[3].size == 1);
        close_both(&ends);
    }
}

TEST(a_batch_that_cannot_go_on) {
    char large[2000] = "";
    ww_bytes messages[] = {{"one", 3}, {large, 1025}, {"x", 1}};
    struct ends ends = open_both("ring?capacity=8192&largest=1024");
    size_t sent = 9;
    int stopped;
    CHECK_INT(ww_channel_send_batch(ends.sender, messages, 3, GENEROUS, &sent), -EMSGSIZE);
    CHECK_INT(sent, 1);
    messages[1].size = 1024;
    messages[2] = messages[1];
    while ((stopped = ww_channel_send_batch(ends.sender, messages, 3, WW_NOW, &sent)) == 0) CHECK_INT(sent, 3);
    CHECK_INT(stopped, -EAGAIN);
    CHECK(sent < 3);
    CHECK_INT(ww_channel_send_batch(ends.sender, NULL, 1, WW_NOW, &sent), -EFAULT);
    CHECK_INT(sent, 0);
    OK(ww_channel_send_batch(ends.sender, NULL, 0, WW_NOW, &sent));
    close_both(&ends);
}

TEST(answers) {
    static const char *const KNOWN[] = {"tcp", "udp", "unix", "unix-dgram", "unix-seqpacket"};
    size_t n;
    for (n = 0; n < sizeof KNOWN / sizeof *KNOWN; n++) {
        struct ends ends = open_both(KNOWN[n]);
        ww_channel_capabilities capabilities;
        ww_channel *other;
        ww_channel_peer *peer, *second, *again;
        char buffer[100];
        pid_t pid = 0;
        uid_t uid = 0;
        gid_t gid = 0;
        int known;
        OK(ww_channel_get_capabilities(ends.address, &capabilities));
        CHECK_INT(capabilities.answers, 1);
        OK(ww_channel_open_sender(&other, ends.address, GENEROUS));
        OK(ww_channel_send(ends.sender, "first", 5, GENEROUS));
        CHECK_INT(ww_channel_recv(ends.receiver, buffer, 100, GENEROUS, NULL, &peer, NULL), 5);
        OK(ww_channel_send(other, "second", 6, GENEROUS));
        CHECK_INT(ww_channel_recv(ends.receiver, buffer, 100, GENEROUS, NULL, &second, NULL), 6);
        OK(ww_channel_send(ends.sender, "again", 5, GENEROUS));
        CHECK_INT(ww_channel_recv(ends.receiver, buffer, 100, GENEROUS, NULL, &again, NULL), 5);
        CHECK_INT(ww_channel_peer_equals(peer, again), 1);
        CHECK_INT(ww_channel_peer_equals(peer, second), 0);
        CHECK(ww_channel_peer_print(peer, buffer, sizeof buffer, NULL) > 0);
        OK(ww_channel_reply(ends.receiver, second, "to second", 9, GENEROUS));
        OK(ww_channel_reply(ends.receiver, peer, "to first", 8, GENEROUS));
        expect(ends.sender, "to first");
        expect(other, "to second");
        known = ww_channel_peer_credentials(peer, &pid, &uid, &gid);
        if (capabilities.credentials) {
            OK(known);
            CHECK(pid == getpid() && uid == getuid() && gid == getgid());
        } else {
            CHECK_ERROR(known, -ENOTSUP, "unix-seqpacket:");
        }
        CHECK_ERROR(ww_channel_reply(ends.sender, peer, "x", 1, WW_NOW), -EBADF, "the end that sends");
        CHECK_INT(ww_channel_reply(ends.receiver, NULL, "x", 1, WW_NOW), -EFAULT);
        ww_channel_peer_close(peer);
        ww_channel_peer_close(again);
        ww_channel_close(other);
        close_both(&ends);
        CHECK(ww_channel_peer_print(second, buffer, sizeof buffer, NULL) > 0); /* outlives all */
        ww_channel_peer_close(second);
        ww_channel_peer_close(NULL);
    }
}

TEST(unknown_senders_get_no_answers) {
    struct ends ends = open_both("unix"), queue = open_both("ring");
    ww_channel_peer *peer, *none = (ww_channel_peer *)&ends;
    char buffer[10];
    OK(ww_channel_send(queue.sender, "x", 1, WW_NOW));
    CHECK_INT(ww_channel_recv(queue.receiver, buffer, 10, WW_NOW, NULL, &none, NULL), 1);
    CHECK(none == NULL);
    OK(ww_channel_send(ends.sender, "x", 1, GENEROUS));
    CHECK_INT(ww_channel_recv(ends.receiver, buffer, 10, GENEROUS, NULL, &peer, NULL), 1);
    CHECK_ERROR(ww_channel_reply(queue.receiver, peer, "y", 1, WW_NOW), -ENOTSUP, "does not tell who sent");
    ww_channel_close(ends.sender);
    ends.sender = NULL;
    while (ww_channel_reply(ends.receiver, peer, "y", 1, WW_NOW) != -EPIPE) sleep_ms(1); /* once it has been noticed */
    ww_channel_peer_close(peer);
    CHECK_ERROR(ww_channel_local_address(queue.receiver, buffer, 10, NULL), -ENOTSUP, "sockets");
    close_both(&queue);
    close_both(&ends);
}

TEST(a_log_on_the_disk) {
    char directory[] = "/tmp/wwctest-channel-XXXXXX", address[100], named[120], segment[120];
    ww_channel *sender, *reader;
    ww_channel_received batch[4];
    ww_channel_capabilities capabilities;
    ww_channel_statistics statistics;
    char buffer[100];
    FILE *file;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(address, sizeof address, "file:%s/log?fsync=every", directory);
    snprintf(named, sizeof named, "%s&reader=one", address);
    OK(ww_channel_get_capabilities(address, &capabilities));
    CHECK(capabilities.durability == WW_CHANNEL_DISK && capabilities.many_receivers && capabilities.broadcast);
    OK(ww_channel_open_sender(&sender, address, GENEROUS));
    OK(ww_channel_send(sender, "first", 5, GENEROUS));
    OK(ww_channel_send(sender, "second", 6, GENEROUS));
    OK(ww_channel_send(sender, "third", 5, GENEROUS));
    OK(ww_channel_flush(sender, GENEROUS));
    ww_channel_close(sender);

    /* A reader with a name goes on where it was. */
    OK(ww_channel_open_receiver(&reader, named, GENEROUS));
    expect(reader, "first");
    CHECK_ERROR(ww_channel_open_receiver(&sender, named, GENEROUS), -EBUSY, "reader=one");
    CHECK_ERROR(ww_channel_remove(named), -EBUSY, "in use");
    OK(ww_channel_flush(reader, GENEROUS));
    ww_channel_close(reader);
    OK(ww_channel_open_receiver(&reader, named, GENEROUS));
    CHECK_INT(ww_channel_recv_batch(reader, buffer, sizeof buffer, batch, 4, GENEROUS, NULL), 2);
    CHECK(batch[0].size == 6 && batch[1].size == 5 && memcmp(buffer, "secondthird", 11) == 0);
    OK(ww_channel_put_back(reader));
    expect(reader, "second");
    expect(reader, "third");
    CHECK_INT(ww_channel_recv(reader, buffer, sizeof buffer, WW_NOW, NULL, NULL, NULL), -EAGAIN);
    ww_channel_close(reader);

    /* Another sees all of it, and a torn tail is cut and counted. */
    snprintf(segment, sizeof segment, "%s/log/00000000000000000001.log", directory);
    file = fopen(segment, "a");
    CHECK(file != NULL && fputs("WWre torn", file) >= 0);
    CHECK_INT(fclose(file), 0);
    OK(ww_channel_open_sender(&sender, address, GENEROUS));
    OK(ww_channel_send(sender, "fourth", 6, GENEROUS));
    OK(ww_channel_get_statistics(sender, &statistics));
    CHECK(statistics.torn == 1 && statistics.unconfirmed == 0);
    OK(ww_channel_open_receiver(&reader, address, GENEROUS));
    CHECK_ERROR(ww_channel_put_back(sender), -EBADF, "the end that sends");
    expect(reader, "first");
    expect(reader, "second");
    expect(reader, "third");
    expect(reader, "fourth");
    ww_channel_close(reader);
    OK(ww_channel_open_receiver(&reader, named, GENEROUS));
    expect(reader, "fourth");
    ww_channel_close(reader);

    OK(ww_channel_remove(named));
    OK(ww_channel_remove(address));
    CHECK_ERROR(ww_channel_send(sender, "x", 1, GENEROUS), -ESTALE, "was removed");
    ww_channel_close(sender);
    file = fopen(strcat(strcpy(segment, directory), "/log"), "w");
    CHECK(file != NULL);
    CHECK_INT(fclose(file), 0);
    CHECK_ERROR(ww_channel_open_sender(&sender, address, GENEROUS), -EBADMSG, "a log of messages is a directory");
    CHECK_INT(unlink(segment), 0);
    CHECK_INT(rmdir(directory), 0);
}

TEST(to_poll) {
    size_t n;
    EACH_KIND(n) {
        struct ends ends = open_both(KINDS[n]);
        uint32_t interest = 0;
        int fd = ww_channel_fd(ends.receiver, &interest);
        if (fd < 0) {
            CHECK_ERROR(fd, -ENOTSUP, "descriptor");
        } else {
            struct pollfd entry = {fd, POLLIN, 0};
            char buffer[10];
            ssize_t got;
            CHECK_INT(interest, WW_READABLE);
            OK(ww_channel_send(ends.sender, "x", 1, GENEROUS));
            do { /* ready may also mean that a connection has come */
                CHECK_INT(poll(&entry, 1, 30000), 1);
                got = ww_channel_recv(ends.receiver, buffer, 10, WW_NOW, NULL, NULL, NULL);
            } while (got == -EAGAIN);
            CHECK_INT(got, 1);
            CHECK_INT(ww_channel_fd(ends.receiver, NULL), fd);
        }
        close_both(&ends);
    }
}

static void *until_closed(void *channel) {
    char buffer[10];
    CHECK_ERROR(ww_channel_recv(channel, buffer, 10, GENEROUS, NULL, NULL, NULL), -ECANCELED, "recv");
    return NULL;
}

TEST(closing_ends_waits) {
    size_t n;
    EACH_KIND(n) {
        struct ends ends = open_both(KINDS[n]);
        pthread_t thread;
        CHECK_INT(pthread_create(&thread, NULL, until_closed, ends.receiver), 0);
        until_blocked(1);
        if (n % 2 == 0) {
            OK(ww_channel_end_waits(ends.receiver));
            CHECK_INT(pthread_join(thread, NULL), 0);
        } else {
            ww_channel_close(ends.receiver);
            ends.receiver = NULL;
            CHECK_INT(pthread_join(thread, NULL), 0);
        }
        close_both(&ends);
    }
}

/* A child sends over what it inherited or opens, and is killed; what it had sent arrives, and where senders end, so does it. */
TEST(a_sender_that_is_killed) {
    static const char *const SENDING[] = {"tcp", "unix", "pipe", "fifo?keep-open=1", "mq", "sysv-mq", "ring"};
    size_t n;
    for (n = 0; n < sizeof SENDING / sizeof *SENDING; n++) {
        struct ends ends = open_both(SENDING[n]);
        int told[2], m;
        pid_t child;
        char byte;
        CHECK_INT(pipe(told), 0);
        child = fork();
        if (child == 0) {
            for (m = 0; m < 3; m++) OK(ww_channel_send(ends.sender, "from a child", 12, GENEROUS));
            CHECK_INT(write(told[1], "x", 1), 1);
            for (;;) pause();
        }
        CHECK_INT(read(told[0], &byte, 1), 1);
        CHECK_INT(kill(child, SIGKILL), 0);
        reap_killed(child);
        for (m = 0; m < 3; m++) expect(ends.receiver, "from a child");
        OK(ww_channel_send(ends.sender, "the others go on", 16, GENEROUS));
        expect(ends.receiver, "the others go on");
        close(told[0]);
        close(told[1]);
        close_both(&ends);
    }
}

TEST(the_last_sender_has_gone) {
    static const char *const ENDING[] = {"pipe", "fifo", "ring"};
    size_t n;
    for (n = 0; n < sizeof ENDING / sizeof *ENDING; n++) {
        struct ends ends = open_both(ENDING[n]);
        char buffer[10];
        OK(ww_channel_send(ends.sender, "x", 1, GENEROUS));
        ww_channel_close(ends.sender);
        ends.sender = NULL;
        expect(ends.receiver, "x");
        CHECK_INT(ww_channel_recv(ends.receiver, buffer, 10, GENEROUS, NULL, NULL, NULL), -EPIPE);
        close_both(&ends);
    }
}

TEST(what_cannot_be_is_refused) {
    ww_channel *channel, *other;
    ww_channel_capabilities capabilities;
    ww_channel_statistics statistics;
    CHECK_ERROR(ww_channel_get_capabilities("mutex:m", &capabilities), -EINVAL, "carries no messages");
    CHECK_ERROR(ww_channel_open_sender(&channel, "mutex:m", WW_NOW), -EINVAL, "these do: tcp:");
    CHECK_ERROR(ww_channel_open_receiver(&channel, "pipe:", WW_NOW), -EINVAL, "make a pair");
    CHECK_ERROR(ww_channel_open_receiver(&channel, "tcp://127.0.0.1:0?framing=morse", WW_NOW), -EINVAL, "framing");
    CHECK_ERROR(ww_channel_open_sender(&channel, "unix:@wwctest-nobody-is-here", WW_NOW), -ECONNREFUSED, "unix:");
    CHECK_ERROR(ww_channel_pair(&channel, &other, "mq:/x"), -EINVAL, "come in pairs");
    CHECK_ERROR(ww_channel_remove("udp://127.0.0.1:9"), -EINVAL, "receiver is closed");
    CHECK_INT(ww_channel_open_sender(NULL, "ring:x", WW_NOW), -EFAULT);
    CHECK_INT(ww_channel_open_sender(&channel, NULL, WW_NOW), -EFAULT);
    CHECK_INT(ww_channel_get_statistics(NULL, &statistics), -EFAULT);
    CHECK_INT(ww_channel_recv(NULL, NULL, 0, WW_NOW, NULL, NULL, NULL), -EFAULT);
    OK(ww_channel_get_capabilities("topic:x", &capabilities));
    CHECK(capabilities.broadcast == 1 && capabilities.durability == WW_CHANNEL_SYSTEM && capabilities.ordered == 1);
    OK(ww_channel_get_capabilities("udp://127.0.0.1:9", &capabilities));
    CHECK(capabilities.may_lose == 1 && capabilities.crosses_hosts == 1 && capabilities.many_receivers == 0);
    CHECK(capabilities.durability == WW_CHANNEL_CONNECTION && capabilities.ends == 0 && capabilities.many_senders == 1);
    OK(ww_channel_pair(&channel, &other, "pipe:"));
    ww_channel_close(other);
    ww_channel_close(channel);
    ww_channel_close(NULL);
}
