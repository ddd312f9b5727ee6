/* POSIX message queue. */
#include "test.h"

#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>

static char address[80];

/* A queue of a fresh name, which `address` spells. */
static ww_mq *create(size_t depth, size_t message_size) {
    ww_mq_options options = WW_MQ_OPTIONS_INIT;
    ww_mq *queue;
    snprintf(address, sizeof address, "mq:/%s", fresh_name("mq"));
    options.depth = depth;
    options.message_size = message_size;
    OK(ww_mq_create(&queue, address, &options));
    return queue;
}

static void finish(ww_mq *queue) {
    OK(ww_mq_remove(address));
    ww_mq_close(queue);
}

TEST(highest_priority_first) {
    ww_mq *queue = create(2, 16);
    char buffer[16];
    uint32_t priority = 0;
    size_t size = 0;
    OK(ww_mq_send(queue, "low", 3, 1, WW_NOW));
    OK(ww_mq_send(queue, NULL, 0, WW_MQ_PRIORITY_MAX, WW_NOW));
    CHECK_ERROR(ww_mq_send(queue, "x", 1, 0, WW_NOW), -EAGAIN, "send mq:/wwctest-mq-");
    CHECK_ERROR(ww_mq_send(queue, "x", 1, 0, SHORT), -ETIMEDOUT, "deadline");
    CHECK_INT(ww_mq_recv(queue, 0, buffer, sizeof buffer, WW_NOW, &priority, &size), 0);
    CHECK_INT(priority, WW_MQ_PRIORITY_MAX);
    CHECK_INT(size, 0);
    CHECK_INT(ww_mq_recv(queue, 0, buffer, sizeof buffer, WW_NOW, &priority, &size), 3);
    CHECK_INT(priority, 1);
    CHECK_ERROR(ww_mq_recv(queue, 0, buffer, sizeof buffer, WW_NOW, &priority, &size), -EAGAIN, "recv mq:/");
    CHECK_ERROR(ww_mq_recv(queue, 0, buffer, sizeof buffer, SHORT, NULL, NULL), -ETIMEDOUT, "deadline");
    CHECK_INT(size, 3);
    finish(queue);
}

TEST(nothing_is_cut_unless_asked) {
    ww_mq *queue = create(2, 16);
    char buffer[16] = "";
    uint32_t priority = 99;
    size_t size = 0;
    CHECK_ERROR(ww_mq_send(queue, "12345678901234567", 17, 0, GENEROUS), -EMSGSIZE, "mq_msgsize=16");
    OK(ww_mq_send(queue, "123456", 6, 5, WW_NOW));
    CHECK_ERROR(ww_mq_recv(queue, 0, buffer, 4, GENEROUS, &priority, &size), -EMSGSIZE, "must have mq_msgsize=16");
    CHECK_INT(size, 16);
    CHECK_INT(priority, 99);
    CHECK_INT(ww_mq_recv(queue, WW_MQ_CUT, buffer, 4, WW_NOW, &priority, &size), 4);
    CHECK_INT(size, 6);
    CHECK_INT(priority, 5);
    CHECK(strcmp(buffer, "1234") == 0);
    finish(queue);
}

TEST(names_and_attributes) {
    ww_mq_options options = WW_MQ_OPTIONS_INIT;
    ww_mq *queue, *same, *none = (ww_mq *)1;
    ww_mq_attributes attributes;
    ww_mq_limits limits;
    OK(ww_mq_get_limits(&limits));
    CHECK(limits.depth_max >= 1 && limits.message_size_max >= 1 && limits.queues_max >= 1 && limits.user_bytes > 0);
    snprintf(address, sizeof address, "mq:/%s", fresh_name("mq"));
    CHECK_ERROR(ww_mq_open(&none, address, NULL), -ENOENT, "no queue has this name");
    CHECK_ERROR(ww_mq_remove(address), -ENOENT, "no queue has this name");
    options.message_size = 100;
    OK(ww_mq_open_or_create(&queue, address, &options));
    OK(ww_mq_get_attributes(queue, &attributes));
    CHECK_INT(attributes.depth, limits.depth_default);
    CHECK_INT(attributes.message_size, 100);
    CHECK_INT(attributes.messages, 0);
    CHECK_ERROR(ww_mq_create(&none, address, &options), -EEXIST, "exists already");
    OK(ww_mq_open(&same, address, NULL));
    OK(ww_mq_send(same, "x", 1, 0, WW_NOW));
    ww_mq_close(same);
    OK(ww_mq_get_attributes(queue, &attributes));
    CHECK_INT(attributes.messages, 1);
    options.message_size = 200;
    CHECK_ERROR(ww_mq_open_or_create(&none, address, &options), -EEXIST, "size 100, asked for were depth any and size 200");
    options.depth = SIZE_MAX;
    CHECK_ERROR(ww_mq_create(&none, "mq:/wwctest-never", &options), -EINVAL, "fs.mqueue.msg_max=");
    CHECK(none == (ww_mq *)1);
    finish(queue);
}

TEST(one_direction_only) {
    ww_mq *queue = create(2, 16), *receiver, *sender;
    ww_mq_options options = WW_MQ_OPTIONS_INIT;
    char buffer[16];
    options.access = WW_MQ_RECEIVE;
    OK(ww_mq_open(&receiver, address, &options));
    options.access = WW_MQ_SEND;
    OK(ww_mq_open(&sender, address, &options));
    CHECK_ERROR(ww_mq_send(receiver, "x", 1, 0, GENEROUS), -EBADF, "open for receiving only");
    CHECK_ERROR(ww_mq_recv(sender, 0, buffer, sizeof buffer, GENEROUS, NULL, NULL), -EBADF, "open for sending only");
    OK(ww_mq_send(sender, "x", 1, 0, WW_NOW));
    CHECK_INT(ww_mq_recv(receiver, 0, buffer, sizeof buffer, WW_NOW, NULL, NULL), 1);
    ww_mq_close(receiver);
    ww_mq_close(sender);
    finish(queue);
}

TEST(adopts_and_polls) {
    ww_mq *queue = create(1, 16), *adopted, *none = NULL;
    mqd_t plain = mq_open(address + strlen("mq:"), O_RDWR);
    struct pollfd ready;
    char buffer[16];
    int ends[2];
    OK(ww_mq_from_fd(&adopted, plain));
    CHECK_ERROR(ww_mq_recv(adopted, 0, buffer, sizeof buffer, WW_NOW, NULL, NULL), -EAGAIN, address);
    CHECK_ERROR(ww_mq_recv(adopted, 0, buffer, sizeof buffer, SHORT, NULL, NULL), -ETIMEDOUT, "deadline");
    CHECK((fcntl(ww_mq_fd(adopted), F_GETFL) & O_NONBLOCK) == 0);
    ready.fd = ww_mq_fd(queue);
    ready.events = POLLIN;
    CHECK_INT(poll(&ready, 1, 0), 0);
    OK(ww_mq_send(adopted, "x", 1, 0, WW_NOW));
    CHECK_INT(poll(&ready, 1, 0), 1);
    ww_mq_close(adopted);
    CHECK_INT(pipe(ends), 0);
    OK(ww_mq_from_fd(&adopted, ends[1]));
    CHECK_ERROR(ww_mq_send(adopted, "x", 1, 0, GENEROUS), -EBADF, "not one of a message queue");
    CHECK_ERROR(ww_mq_recv(adopted, WW_MQ_CUT, buffer, sizeof buffer, GENEROUS, NULL, NULL), -EBADF, "not one of");
    CHECK_ERROR(ww_mq_cancel_notify(adopted), -EBADF, "not one of a message queue");
    ww_mq_close(adopted);
    close(ends[0]);
    CHECK_ERROR(ww_mq_from_fd(&none, -1), -EBADF, "not an open descriptor");
    finish(queue);
}

TEST(notices) {
    ww_mq *queue = create(2, 16);
    struct timespec limit = {30, 0};
    siginfo_t info;
    sigset_t set;
    pid_t pid;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    OK(ww_mq_notify(queue, SIGUSR1, 42));
    CHECK_ERROR(ww_mq_notify(queue, SIGUSR1, 43), -EBUSY, "one process at a time");
    pid = fork();
    if (pid == 0) _exit(ww_mq_send(queue, "x", 1, 0, GENEROUS) != 0);
    CHECK_INT(sigtimedwait(&set, &info, &limit), SIGUSR1);
    CHECK_INT(info.si_value.sival_int, 42);
    CHECK_INT(info.si_pid, pid);
    CHECK_INT(info.si_code, SI_MESGQ);
    reap(pid, 0);
    OK(ww_mq_notify(queue, SIGUSR1, 43));
    OK(ww_mq_cancel_notify(queue));
    OK(ww_mq_cancel_notify(queue));
    CHECK_ERROR(ww_mq_notify(queue, 0, 0), -EINVAL, "from 1 to");
    CHECK_ERROR(ww_mq_notify(queue, SIGSTOP, 0), -EINVAL, "cannot be handled");
    finish(queue);
}

TEST(bad_input) {
    ww_mq *queue = create(2, 16), *none = (ww_mq *)1;
    ww_mq_options options = WW_MQ_OPTIONS_INIT;
    ww_mq_attributes attributes;
    char buffer[16], longest[300] = "mq:/";
    memset(longest + 4, 'x', 256);
    CHECK_ERROR(ww_mq_open(NULL, address, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_mq_create(NULL, address, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_mq_open_or_create(NULL, address, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_mq_open(&none, NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_mq_open(&none, longest, NULL), -ENAMETOOLONG, "255");
    CHECK_ERROR(ww_mq_open(&none, "mq:/a/b", NULL), -EINVAL, "no further slash");
    CHECK_ERROR(ww_mq_open(&none, "mq:/..", NULL), -EINVAL, "other than");
    CHECK_ERROR(ww_mq_open(&none, "pipe:", NULL), -EINVAL, "expected mq:");
    options.access = 7;
    CHECK_ERROR(ww_mq_open(&none, address, &options), -EINVAL, "WW_MQ_SEND");
    options.access = 0;
    options.mode = 01000;
    CHECK_ERROR(ww_mq_open(&none, address, &options), -EINVAL, "0777");
    CHECK_ERROR(ww_mq_from_fd(NULL, 0), -EFAULT, "output pointer");
    CHECK_ERROR(ww_mq_remove(NULL), -EFAULT, "address");
    CHECK_ERROR(ww_mq_remove("file:/x"), -EINVAL, "expected mq:");
    CHECK(none == (ww_mq *)1);
    CHECK_ERROR(ww_mq_send(NULL, "x", 1, 0, WW_NOW), -EFAULT, "queue");
    CHECK_ERROR(ww_mq_send(queue, NULL, 1, 0, WW_NOW), -EFAULT, "buffer");
    CHECK_ERROR(ww_mq_send(queue, "x", SIZE_MAX, 0, WW_NOW), -EINVAL, "negative number");
    CHECK_ERROR(ww_mq_send(queue, "x", 1, WW_MQ_PRIORITY_MAX + 1, WW_NOW), -EINVAL, "the highest is 32767");
    CHECK_ERROR(ww_mq_send(queue, "x", 1, 0, -9), -EINVAL, "WW_FOREVER");
    CHECK_ERROR(ww_mq_recv(NULL, 0, buffer, 16, WW_NOW, NULL, NULL), -EFAULT, "queue");
    CHECK_ERROR(ww_mq_recv(queue, 0, NULL, 16, WW_NOW, NULL, NULL), -EFAULT, "buffer");
    CHECK_ERROR(ww_mq_recv(queue, 2, buffer, 16, WW_NOW, NULL, NULL), -EINVAL, "flags");
    CHECK_ERROR(ww_mq_recv(queue, 0, NULL, 0, WW_NOW, NULL, NULL), -EMSGSIZE, "the buffer has 0 bytes");
    CHECK_ERROR(ww_mq_get_attributes(NULL, &attributes), -EFAULT, "queue");
    CHECK_ERROR(ww_mq_get_attributes(queue, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_mq_get_limits(NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_mq_notify(NULL, SIGUSR1, 0), -EFAULT, "queue");
    CHECK_ERROR(ww_mq_cancel_notify(NULL), -EFAULT, "queue");
    CHECK_ERROR(ww_mq_fd(NULL), -EFAULT, "queue");
    ww_mq_close(NULL);
    finish(queue);
}

static void *waiting(void *queue) {
    char buffer[16];
    CHECK_ERROR(ww_mq_recv(queue, 0, buffer, sizeof buffer, WW_FOREVER, NULL, NULL), -ECANCELED, "closed");
    return NULL;
}

TEST(close_during_a_wait) {
    ww_mq *queue = create(2, 16);
    pthread_t thread;
    pthread_create(&thread, NULL, waiting, queue);
    until_blocked(1);
    finish(queue);
    pthread_join(thread, NULL);
}

TEST(unlinked_by_another_process) {
    ww_mq *queue = create(2, 16), *none = NULL;
    char buffer[16];
    pid_t pid = fork();
    if (pid == 0) _exit(ww_mq_remove(address) != 0);
    reap(pid, 0);
    OK(ww_mq_send(queue, "x", 1, 0, WW_NOW));
    CHECK_INT(ww_mq_recv(queue, 0, buffer, sizeof buffer, WW_NOW, NULL, NULL), 1);
    CHECK_ERROR(ww_mq_open(&none, address, NULL), -ENOENT, "no queue has this name");
    ww_mq_close(queue);
}

TEST(killed_sender) {
    ww_mq *queue = create(2, 16);
    char buffer[16];
    pid_t pid = fork();
    if (pid == 0) {
        ww_mq_send(queue, "alive", 5, 0, GENEROUS);
        for (;;) pause();
    }
    CHECK_INT(ww_mq_recv(queue, 0, buffer, sizeof buffer, GENEROUS, NULL, NULL), 5);
    kill(pid, 9);
    reap_killed(pid);
    CHECK_ERROR(ww_mq_recv(queue, 0, buffer, sizeof buffer, SHORT, NULL, NULL), -ETIMEDOUT, "deadline");
    finish(queue);
}

TEST(with_a_peer_that_knows_only_libc) {
    ww_mq *queue = create(2, 100);
    const char *name = address + strlen("mq:");
    const char *send[] = {"send", name, "5", "from libc", NULL}, *expect[] = {"expect", name, "6", "from wigwag", NULL};
    char buffer[100];
    uint32_t priority;
    pid_t pid = spawn_peer("mq", send);
    CHECK_INT(ww_mq_recv(queue, 0, buffer, sizeof buffer, GENEROUS, &priority, NULL), 9);
    CHECK(memcmp(buffer, "from libc", 9) == 0 && priority == 5);
    reap(pid, 0);
    pid = spawn_peer("mq", expect);
    OK(ww_mq_send(queue, "from wigwag", 11, 6, GENEROUS));
    reap(pid, 0);
    finish(queue);
}
