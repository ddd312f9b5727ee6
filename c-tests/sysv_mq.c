/* System V message queue. */
#include "test.h"

#include <sys/ipc.h>
#include <sys/msg.h>

static ww_sysv_mq *create(size_t bytes) {
    ww_sysv_mq_options options = WW_SYSV_MQ_OPTIONS_INIT;
    ww_sysv_mq *queue;
    options.bytes = bytes;
    OK(ww_sysv_mq_create(&queue, "sysv-mq:private", &options));
    return queue;
}

static void finish(ww_sysv_mq *queue) {
    OK(ww_sysv_mq_unlink(queue));
    ww_sysv_mq_close(queue);
}

/* The address of a key that no other test and no other run uses. */
static const char *fresh_key(void) {
    static char address[32];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(address, sizeof address, "sysv-mq:0x%x", ((unsigned)now.tv_nsec ^ (unsigned)getpid() << 16) | 1);
    return address;
}

TEST(picks_by_type) {
    ww_sysv_mq *queue = create(0);
    const int64_t types[] = {5, 3, 9, 3};
    char buffer[8];
    int64_t type = 0;
    size_t size = 0, n;
    for (n = 0; n < 4; n++) OK(ww_sysv_mq_send(queue, types[n], "abcd", n, WW_NOW));
    CHECK_INT(ww_sysv_mq_recv(queue, -8, 0, buffer, sizeof buffer, WW_NOW, &type, &size), 1);
    CHECK_INT(type, 3);
    CHECK_INT(size, 1);
    CHECK_INT(ww_sysv_mq_recv(queue, 9, 0, buffer, sizeof buffer, WW_NOW, &type, NULL), 2);
    CHECK_INT(type, 9);
    CHECK_INT(ww_sysv_mq_recv(queue, 5, WW_SYSV_MQ_ALL_BUT, buffer, sizeof buffer, WW_NOW, &type, NULL), 3);
    CHECK_INT(type, 3);
    CHECK(memcmp(buffer, "abc", 3) == 0);
    CHECK_ERROR(ww_sysv_mq_recv(queue, -4, 0, buffer, sizeof buffer, WW_NOW, &type, &size), -EAGAIN, "recv sysv-mq:private");
    CHECK_ERROR(ww_sysv_mq_recv(queue, 4, 0, buffer, sizeof buffer, SHORT, &type, &size), -ETIMEDOUT, "deadline");
    CHECK_INT(type, 3);
    CHECK_INT(size, 1);
    CHECK_INT(ww_sysv_mq_recv(queue, 0, 0, NULL, 0, WW_NOW, &type, NULL), 0);
    CHECK_INT(type, 5);
    finish(queue);
}

TEST(nothing_is_cut_unless_asked) {
    ww_sysv_mq *queue = create(0);
    char buffer[4] = "";
    int64_t type = 0;
    size_t size = 0;
    OK(ww_sysv_mq_send(queue, 7, "123456", 6, WW_NOW));
    CHECK_ERROR(ww_sysv_mq_recv(queue, 0, 0, buffer, 4, GENEROUS, &type, &size), -EMSGSIZE, "6 bytes, the buffer 4");
    CHECK_INT(size, 6);
    CHECK_INT(type, 0);
    size = 0;
    CHECK_ERROR(ww_sysv_mq_peek(queue, 0, buffer, 4, &type, &size), -EMSGSIZE, "stays in the queue");
    CHECK_INT(size, 6);
    CHECK_INT(ww_sysv_mq_recv(queue, 0, WW_MQ_CUT, buffer, 4, WW_NOW, &type, &size), 4);
    CHECK_INT(size, 6);
    CHECK_INT(type, 7);
    CHECK(memcmp(buffer, "1234", 4) == 0);
    finish(queue);
}

TEST(peeking) {
    ww_sysv_mq *queue = create(0);
    ww_sysv_mq_status status;
    char buffer[8];
    int64_t type;
    OK(ww_sysv_mq_send(queue, 7, "one", 3, WW_NOW));
    OK(ww_sysv_mq_send(queue, 8, "three", 5, WW_NOW));
    CHECK_INT(ww_sysv_mq_peek(queue, 1, buffer, sizeof buffer, &type, NULL), 5);
    CHECK_INT(type, 8);
    CHECK(memcmp(buffer, "three", 5) == 0);
    CHECK_ERROR(ww_sysv_mq_peek(queue, 2, buffer, sizeof buffer, &type, NULL), -EAGAIN, "no message is at this place");
    OK(ww_sysv_mq_get_status(queue, &status));
    CHECK_INT(status.messages, 2);
    CHECK_INT(status.bytes, 8);
    CHECK_INT(status.last_sender, getpid());
    CHECK_INT(status.last_receiver, 0);
    CHECK_INT(status.mode, 0600);
    CHECK_INT(status.uid, geteuid());
    CHECK_INT(status.gid, getegid());
    CHECK(status.sent_at > 0 && status.received_at == 0 && status.changed_at > 0 && status.key == 0);
    finish(queue);
}

TEST(too_large) {
    ww_sysv_mq_limits limits;
    ww_sysv_mq *queue = create(100);
    char *data;
    OK(ww_sysv_mq_get_limits(&limits));
    CHECK(limits.queues >= 1 && limits.queues_max >= limits.queues && limits.bytes_max > 0);
    data = calloc(1, limits.message_max + 1);
    CHECK_ERROR(ww_sysv_mq_send(queue, 1, data, 101, GENEROUS), -EMSGSIZE, "msg_qbytes=100");
    CHECK_ERROR(ww_sysv_mq_send(queue, 1, data, limits.message_max + 1, GENEROUS), -EMSGSIZE, "kernel.msgmax=");
    OK(ww_sysv_mq_send(queue, 1, data, 100, WW_NOW));
    CHECK_ERROR(ww_sysv_mq_send(queue, 1, data, 1, WW_NOW), -EAGAIN, "send sysv-mq:private");
    CHECK_ERROR(ww_sysv_mq_send(queue, 1, data, 1, SHORT), -ETIMEDOUT, "deadline");
    OK(ww_sysv_mq_resize(queue, 200));
    OK(ww_sysv_mq_send(queue, 1, data, 100, WW_NOW));
    CHECK_ERROR(ww_sysv_mq_resize(queue, 0), -EINVAL, "at least one");
    free(data);
    finish(queue);
}

TEST(names) {
    const char *address = fresh_key();
    ww_sysv_mq_options options = WW_SYSV_MQ_OPTIONS_INIT;
    ww_sysv_mq *queue, *same, *none = (ww_sysv_mq *)1;
    CHECK_ERROR(ww_sysv_mq_open(&none, address, NULL), -ENOENT, "no queue has this key");
    CHECK_ERROR(ww_sysv_mq_remove(address), -ENOENT, "no queue has this key");
    options.bytes = 300;
    options.mode = 0640;
    OK(ww_sysv_mq_open_or_create(&queue, address, &options));
    CHECK_ERROR(ww_sysv_mq_create(&none, address, &options), -EEXIST, "exists already");
    OK(ww_sysv_mq_open(&same, address, NULL));
    CHECK_INT(ww_sysv_mq_id(same), ww_sysv_mq_id(queue));
    ww_sysv_mq_close(same);
    OK(ww_sysv_mq_from_id(&same, ww_sysv_mq_id(queue)));
    OK(ww_sysv_mq_send(same, 1, "x", 1, WW_NOW));
    ww_sysv_mq_close(same);
    options.bytes = 400;
    CHECK_ERROR(ww_sysv_mq_open_or_create(&none, address, &options), -EEXIST, "may hold 300 bytes, not the 400");
    OK(ww_sysv_mq_remove(address));
    CHECK_ERROR(ww_sysv_mq_unlink(queue), -EIDRM, "removed");
    CHECK_ERROR(ww_sysv_mq_from_id(&none, ww_sysv_mq_id(queue)), -EIDRM, "removed");
    CHECK_ERROR(ww_sysv_mq_open(&none, "sysv-mq:./no/such/file#65", NULL), -ENOENT, "create it");
    CHECK_ERROR(ww_sysv_mq_open(&none, "sysv-mq:private", NULL), -EINVAL, "adopt");
    CHECK(none == (ww_sysv_mq *)1);
    ww_sysv_mq_close(queue);
}

TEST(bad_input) {
    ww_sysv_mq *queue = create(0), *none = (ww_sysv_mq *)1;
    ww_sysv_mq_options options = WW_SYSV_MQ_OPTIONS_INIT;
    ww_sysv_mq_status status;
    char buffer[4];
    CHECK_ERROR(ww_sysv_mq_open(NULL, "sysv-mq:private", NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_mq_create(NULL, "sysv-mq:private", NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_mq_open_or_create(NULL, "sysv-mq:private", NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_mq_create(&none, NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_mq_create(&none, "mq:/x", NULL), -EINVAL, "expected sysv-mq:");
    CHECK_ERROR(ww_sysv_mq_create(&none, "sysv-mq:x", NULL), -EINVAL, "at byte 9");
    options.access = 3;
    CHECK_ERROR(ww_sysv_mq_create(&none, "sysv-mq:private", &options), -EINVAL, "WW_MQ_BOTH");
    options.access = WW_MQ_BOTH;
    options.mode = 010000;
    CHECK_ERROR(ww_sysv_mq_create(&none, "sysv-mq:private", &options), -EINVAL, "0777");
    options.size = 0;
    CHECK_ERROR(ww_sysv_mq_create(&none, "sysv-mq:private", &options), -EINVAL, "_INIT");
    CHECK_ERROR(ww_sysv_mq_from_id(NULL, 1), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_mq_from_id(&none, -1), -EIDRM, "removed");
    CHECK_ERROR(ww_sysv_mq_remove(NULL), -EFAULT, "address");
    CHECK_ERROR(ww_sysv_mq_remove("sysv-mq:private"), -EINVAL, "adopt");
    CHECK(none == (ww_sysv_mq *)1);
    CHECK_ERROR(ww_sysv_mq_send(NULL, 1, "x", 1, WW_NOW), -EFAULT, "queue");
    CHECK_ERROR(ww_sysv_mq_send(queue, 1, NULL, 1, WW_NOW), -EFAULT, "buffer");
    CHECK_ERROR(ww_sysv_mq_send(queue, 1, "x", SIZE_MAX, WW_NOW), -EINVAL, "negative number");
    CHECK_ERROR(ww_sysv_mq_send(queue, 0, "x", 1, WW_NOW), -EINVAL, "a number from 1");
    CHECK_ERROR(ww_sysv_mq_send(queue, INT64_MIN, "x", 1, WW_NOW), -EINVAL, "a number from 1");
    CHECK_ERROR(ww_sysv_mq_send(queue, 1, "x", 1, -9), -EINVAL, "WW_FOREVER");
    OK(ww_sysv_mq_send(queue, 1, NULL, 0, WW_NOW));
    CHECK_ERROR(ww_sysv_mq_recv(NULL, 0, 0, buffer, 4, WW_NOW, NULL, NULL), -EFAULT, "queue");
    CHECK_ERROR(ww_sysv_mq_recv(queue, 0, 0, NULL, 4, WW_NOW, NULL, NULL), -EFAULT, "buffer");
    CHECK_ERROR(ww_sysv_mq_recv(queue, 0, 4, buffer, 4, WW_NOW, NULL, NULL), -EINVAL, "flags");
    CHECK_ERROR(ww_sysv_mq_recv(queue, 0, WW_SYSV_MQ_ALL_BUT, buffer, 4, WW_NOW, NULL, NULL), -EINVAL, "from 1");
    CHECK_ERROR(ww_sysv_mq_recv(queue, -1, WW_SYSV_MQ_ALL_BUT, buffer, 4, WW_NOW, NULL, NULL), -EINVAL, "from 1");
    CHECK_ERROR(ww_sysv_mq_recv(queue, 0, 0, buffer, 4, -9, NULL, NULL), -EINVAL, "WW_FOREVER");
    CHECK_INT(ww_sysv_mq_recv(queue, INT64_MIN, 0, buffer, 4, WW_NOW, NULL, NULL), 0);
    CHECK_ERROR(ww_sysv_mq_peek(NULL, 0, buffer, 4, NULL, NULL), -EFAULT, "queue");
    CHECK_ERROR(ww_sysv_mq_peek(queue, 0, NULL, 4, NULL, NULL), -EFAULT, "buffer");
    CHECK_ERROR(ww_sysv_mq_peek(queue, SIZE_MAX, buffer, 4, NULL, NULL), -EAGAIN, "no message");
    CHECK_ERROR(ww_sysv_mq_get_status(NULL, &status), -EFAULT, "queue");
    CHECK_ERROR(ww_sysv_mq_get_status(queue, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_mq_get_limits(NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_sysv_mq_resize(NULL, 1), -EFAULT, "queue");
    CHECK_ERROR(ww_sysv_mq_unlink(NULL), -EFAULT, "queue");
    CHECK_ERROR(ww_sysv_mq_id(NULL), -EFAULT, "queue");
    ww_sysv_mq_close(NULL);
    finish(queue);
}

static void *waiting(void *queue) {
    char buffer[8];
    CHECK_ERROR(ww_sysv_mq_recv(queue, 0, 0, buffer, sizeof buffer, WW_FOREVER, NULL, NULL), -ECANCELED, "closed");
    return NULL;
}

TEST(close_during_a_wait) {
    ww_sysv_mq *queue = create(0), *other;
    pthread_t thread;
    OK(ww_sysv_mq_from_id(&other, ww_sysv_mq_id(queue)));
    pthread_create(&thread, NULL, waiting, other);
    until_blocked(1);
    ww_sysv_mq_close(other);
    pthread_join(thread, NULL);
    finish(queue);
}

TEST(removed_by_another_process) {
    ww_sysv_mq *queue = create(0);
    char buffer[8];
    pid_t pid = fork();
    if (pid == 0) {
        sleep_ms(20);
        _exit(ww_sysv_mq_unlink(queue) != 0);
    }
    CHECK_ERROR(ww_sysv_mq_recv(queue, 0, 0, buffer, sizeof buffer, GENEROUS, NULL, NULL), -EIDRM, "open or create it again");
    reap(pid, 0);
    CHECK_ERROR(ww_sysv_mq_send(queue, 1, "x", 1, GENEROUS), -EIDRM, "removed");
    CHECK_ERROR(ww_sysv_mq_peek(queue, 0, buffer, sizeof buffer, NULL, NULL), -EIDRM, "removed");
    CHECK_ERROR(ww_sysv_mq_resize(queue, 10), -EIDRM, "removed");
    ww_sysv_mq_close(queue);
}

TEST(killed_sender) {
    ww_sysv_mq *queue = create(0);
    char buffer[8];
    pid_t pid = fork();
    if (pid == 0) {
        ww_sysv_mq_send(queue, 1, "alive", 5, GENEROUS);
        ww_sysv_mq_recv(queue, 2, 0, buffer, sizeof buffer, WW_FOREVER, NULL, NULL);
        _exit(1);
    }
    CHECK_INT(ww_sysv_mq_recv(queue, 1, 0, buffer, sizeof buffer, GENEROUS, NULL, NULL), 5);
    kill(pid, 9);
    reap_killed(pid);
    OK(ww_sysv_mq_send(queue, 2, "still", 5, WW_NOW));
    CHECK_INT(ww_sysv_mq_recv(queue, 2, 0, buffer, sizeof buffer, WW_NOW, NULL, NULL), 5);
    finish(queue);
}

TEST(with_a_peer_that_knows_only_libc) {
    ww_sysv_mq *queue = create(0);
    char id[16], buffer[100];
    int64_t type;
    const char *send[] = {"send", id, "5", "from libc", NULL}, *expect[] = {"expect", id, "6", "from wigwag", NULL};
    pid_t pid;
    snprintf(id, sizeof id, "%d", ww_sysv_mq_id(queue));
    pid = spawn_peer("sysv_mq", send);
    CHECK_INT(ww_sysv_mq_recv(queue, 0, 0, buffer, sizeof buffer, GENEROUS, &type, NULL), 9);
    CHECK(memcmp(buffer, "from libc", 9) == 0 && type == 5);
    reap(pid, 0);
    pid = spawn_peer("sysv_mq", expect);
    OK(ww_sysv_mq_send(queue, 6, "from wigwag", 11, GENEROUS));
    reap(pid, 0);
    finish(queue);
}

TEST(the_key_is_that_of_ftok) {
    char file[] = "/tmp/wwctest-sysv-mq-XXXXXX", address[64], id[16], buffer[100];
    const char *args[] = {"key", file, "65", NULL};
    ww_sysv_mq_status status;
    ww_sysv_mq *queue;
    ssize_t size;
    close(mkstemp(file));
    snprintf(address, sizeof address, "sysv-mq:%s#65", file);
    OK(ww_sysv_mq_create(&queue, address, NULL));
    OK(ww_sysv_mq_get_status(queue, &status));
    CHECK_INT(status.key, ftok(file, 65));
    reap(spawn_peer("sysv_mq", args), 0);
    size = ww_sysv_mq_recv(queue, 1, 0, buffer, sizeof buffer, GENEROUS, NULL, NULL);
    snprintf(id, sizeof id, "%d", ww_sysv_mq_id(queue));
    CHECK(size == (ssize_t)strlen(id) && memcmp(buffer, id, strlen(id)) == 0);
    unlink(file);
    finish(queue);
}

TEST(a_descriptor_that_hears_libc) {
    ww_sysv_mq *queue = create(0);
    ww_waitset *set;
    ww_waitset_event event;
    char id[16], buffer[16];
    const char *args[] = {"send", id, "5", "hello", NULL};
    int fd = ww_sysv_mq_doorbell(queue, 0, 0), five = ww_sysv_mq_doorbell(queue, 5, 0);
    int64_t type;
    pid_t pid;
    CHECK(fd >= 0 && five >= 0 && fd != five);
    CHECK_INT(ww_sysv_mq_doorbell(queue, 0, 0), fd);
    OK(ww_waitset_new(&set));
    OK(ww_waitset_add_fd(set, fd, WW_READABLE, 1));
    CHECK_INT(ww_waitset_wait(set, &event, 1, SHORT), -ETIMEDOUT);
    snprintf(id, sizeof id, "%d", ww_sysv_mq_id(queue));
    pid = spawn_peer("sysv_mq", args);
    CHECK_INT(ww_waitset_wait(set, &event, 1, GENEROUS), 1);
    CHECK_INT(ww_waitset_wait(set, &event, 1, GENEROUS), 1); /* level-triggered */
    reap(pid, 0);
    CHECK_INT(ww_sysv_mq_recv(queue, 0, 0, buffer, sizeof buffer, WW_NOW, &type, NULL), 5);
    CHECK_INT(type, 5);
    while (ww_waitset_wait(set, &event, 1, SHORT) == 1)
        CHECK_INT(ww_sysv_mq_recv(queue, 0, 0, buffer, sizeof buffer, WW_NOW, NULL, NULL), -EAGAIN);
    CHECK_INT(ww_sysv_mq_handed_back(queue), 0);
    OK(ww_sysv_mq_send(queue, 7, NULL, 0, WW_NOW));
    CHECK_INT(ww_waitset_wait(set, &event, 1, GENEROUS), 1);
    CHECK_INT(ww_sysv_mq_recv(queue, 0, 0, buffer, sizeof buffer, GENEROUS, &type, NULL), 0);
    CHECK_INT(type, 7);
    CHECK(ww_sysv_mq_handed_back(queue) <= 1);
    OK(ww_waitset_remove(set, 1));
    CHECK_ERROR(ww_sysv_mq_doorbell(NULL, 0, 0), -EFAULT, "queue");
    CHECK_ERROR(ww_sysv_mq_handed_back(NULL), -EFAULT, "queue");
    CHECK_ERROR(ww_sysv_mq_doorbell(queue, 0, 77), -EINVAL, "flags");
    CHECK_ERROR(ww_sysv_mq_doorbell(queue, 0, WW_SYSV_MQ_ALL_BUT), -EINVAL, "types of messages are numbers from 1");
    ww_waitset_close(set);
    OK(ww_sysv_mq_unlink(queue));
    CHECK_ERROR(ww_sysv_mq_doorbell(queue, 9, 0), -EIDRM, "removed");
    ww_sysv_mq_close(queue);
}
