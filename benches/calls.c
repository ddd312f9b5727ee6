/*
 * What a wigwag call costs beside the system calls it stands for: the same 64-byte operation in three forms, in turn in
 * one process, many rounds. Prints one line for each operation:
 *
 *   name <tab> median plain <tab> median raw <tab> median wigwag <tab> p99 wigwag        (nanoseconds for one operation)
 *
 * plain: the call as the document's programs make it. raw: the cheapest sequence of system calls that keeps wigwag's
 * promises for this operation (no SIGPIPE, a bounded wait: non-blocking try first, close on exec). An operation is a send
 * and the receive of it, by one thread, so that nothing ever waits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <wigwag.h>

#define ROUNDS 301
#define SIZE 64

#ifndef RWF_NOSIGNAL
#define RWF_NOSIGNAL 0x00000100
#endif

static char message[SIZE], received[4096];

static void must(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s; %s\n", what, strerror(errno), ww_last_error());
        exit(1);
    }
}
#define MUST(condition) must(condition, #condition)

/* --- eventfd --- */

static int event_plain, event_raw;
static ww_eventfd *event_ww;

static void eventfd_setup(void) {
    MUST((event_plain = eventfd(0, 0)) >= 0);
    MUST((event_raw = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0);
    MUST(ww_eventfd_open(&event_ww, NULL) == 0);
}
static void eventfd_on(int fd) {
    uint64_t value = 1;
    MUST(write(fd, &value, 8) == 8);
    MUST(read(fd, &value, 8) == 8);
}
static void eventfd_plain(void) { eventfd_on(event_plain); }
static void eventfd_raw(void) { eventfd_on(event_raw); }
static void eventfd_wigwag(void) {
    uint64_t value;
    MUST(ww_eventfd_add(event_ww, 1, WW_SEC(1)) == 0);
    MUST(ww_eventfd_take(event_ww, &value, WW_SEC(1)) == 0);
}

/* --- pipe --- */

static int pipe_plain_fds[2], pipe_raw_fds[2];
static ww_pipe *pipe_reader, *pipe_writer;

/* write without SIGPIPE: by flag where the kernel has it, else masked */
static ssize_t write_quietly(int fd, const void *data, size_t size) {
    static int no_flag;
    struct iovec part = {(void *)(uintptr_t)data, size};
    if (!no_flag) {
        ssize_t n = pwritev2(fd, &part, 1, -1, RWF_NOSIGNAL);
        if (n >= 0 || errno != EOPNOTSUPP) return n;
        no_flag = 1;
    }
    {
        ssize_t n;
        sigset_t pipe_only, pending, before;
        sigemptyset(&pipe_only);
        sigaddset(&pipe_only, SIGPIPE);
        sigpending(&pending);
        sigprocmask(SIG_BLOCK, &pipe_only, &before);
        n = write(fd, data, size);
        sigprocmask(SIG_SETMASK, &before, NULL);
        return n;
    }
}

static void pipe_setup(void) {
    MUST(pipe(pipe_plain_fds) == 0);
    MUST(pipe2(pipe_raw_fds, O_CLOEXEC | O_NONBLOCK) == 0);
    MUST(ww_pipe_open(&pipe_reader, &pipe_writer, NULL) == 0);
}
static void pipe_plain(void) {
    MUST(write(pipe_plain_fds[1], message, SIZE) == SIZE);
    MUST(read(pipe_plain_fds[0], received, sizeof received) == SIZE);
}
static void pipe_raw(void) {
    MUST(write_quietly(pipe_raw_fds[1], message, SIZE) == SIZE);
    MUST(read(pipe_raw_fds[0], received, sizeof received) == SIZE);
}
static void pipe_wigwag(void) {
    MUST(ww_pipe_write(pipe_writer, message, SIZE, WW_SEC(1)) == SIZE);
    MUST(ww_pipe_read(pipe_reader, received, sizeof received, WW_SEC(1)) == SIZE);
}

/* --- socket: a pair --- */

static int socket_plain_fds[2], socket_raw_fds[2];
static ww_socket *socket_one, *socket_other;

static void socket_setup(void) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, socket_plain_fds) == 0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socket_raw_fds) == 0);
    MUST(ww_socket_pair(&socket_one, &socket_other, "unix") == 0);
}
static void socket_on(const int *fds, int flags) {
    MUST(send(fds[1], message, SIZE, flags) == SIZE);
    MUST(recv(fds[0], received, sizeof received, flags) == SIZE);
}
static void socket_plain(void) { socket_on(socket_plain_fds, 0); }
static void socket_raw(void) { socket_on(socket_raw_fds, MSG_NOSIGNAL | MSG_DONTWAIT); }
static void socket_wigwag(void) {
    MUST(ww_socket_send(socket_one, message, SIZE, WW_SEC(1)) == SIZE);
    MUST(ww_socket_recv(socket_other, received, sizeof received, WW_SEC(1), NULL) == SIZE);
}

/* --- POSIX semaphore: all three forms on one --- */

static sem_t *sem_raw_one;
static ww_sem *sem_ww;

static void sem_setup(void) {
    char address[64];
    snprintf(address, sizeof address, "sem:/wwbench-%d?initial=1", (int)getpid());
    MUST(ww_sem_create(&sem_ww, address, NULL) == 0);
    MUST(ww_sem_remove(address) == 0);
    sem_raw_one = ww_sem_pointer(sem_ww);
}
static void sem_plain(void) {
    MUST(sem_wait(sem_raw_one) == 0);
    MUST(sem_post(sem_raw_one) == 0);
}
static void sem_raw(void) {
    MUST(sem_trywait(sem_raw_one) == 0);
    MUST(sem_post(sem_raw_one) == 0);
}
static void sem_wigwag(void) {
    MUST(ww_sem_acquire(sem_ww, WW_SEC(1)) == 0);
    MUST(ww_sem_release(sem_ww) == 0);
}

/* --- System V semaphore: all three forms on one --- */

static int sysv_sem_id;
static ww_sysv_sem *sysv_sem_ww;

static void sysv_sem_remove(void) { ww_sysv_sem_unlink(sysv_sem_ww); }
static void sysv_sem_setup(void) {
    MUST(ww_sysv_sem_create(&sysv_sem_ww, "sysv-sem:private?initial=1", NULL) == 0);
    MUST(atexit(sysv_sem_remove) == 0);
    sysv_sem_id = ww_sysv_sem_id(sysv_sem_ww);
}
static void sysv_sem_with(int flags) {
    struct sembuf take = {0, -1, (short)flags}, give = {0, 1, (short)flags};
    MUST(semop(sysv_sem_id, &take, 1) == 0);
    MUST(semop(sysv_sem_id, &give, 1) == 0);
}
static void sysv_sem_plain(void) { sysv_sem_with(0); }
static void sysv_sem_raw(void) { sysv_sem_with(IPC_NOWAIT | SEM_UNDO); }
static void sysv_sem_wigwag(void) {
    MUST(ww_sysv_sem_acquire(sysv_sem_ww, 0, WW_SEC(1)) == 0);
    MUST(ww_sysv_sem_release(sysv_sem_ww, 0) == 0);
}

/* --- message queues --- */

struct sysv_message {
    long type;
    char data[4096];
};
static int sysv_mq_plain_id, sysv_mq_raw_id;
static ww_sysv_mq *sysv_mq_ww;

static void sysv_mq_remove(void) {
    msgctl(sysv_mq_plain_id, IPC_RMID, NULL);
    msgctl(sysv_mq_raw_id, IPC_RMID, NULL);
    ww_sysv_mq_unlink(sysv_mq_ww);
}
static void sysv_mq_setup(void) {
    MUST((sysv_mq_plain_id = msgget(IPC_PRIVATE, 0600)) >= 0);
    MUST((sysv_mq_raw_id = msgget(IPC_PRIVATE, 0600)) >= 0);
    MUST(ww_sysv_mq_create(&sysv_mq_ww, "sysv-mq:private", NULL) == 0);
    atexit(sysv_mq_remove);
}
static void sysv_mq_with(int id, int flags) {
    static struct sysv_message sent = {1, ""}, got;
    MUST(msgsnd(id, &sent, SIZE, flags) == 0);
    MUST(msgrcv(id, &got, sizeof got.data, 0, flags) == SIZE);
}
static void sysv_mq_plain(void) { sysv_mq_with(sysv_mq_plain_id, 0); }
static void sysv_mq_raw(void) {
    /* the kernel wants type and text in one piece, which callers of a library do not have: the copies belong to it */
    static struct sysv_message piece, got;
    piece.type = 1;
    memcpy(piece.data, message, SIZE);
    MUST(msgsnd(sysv_mq_raw_id, &piece, SIZE, IPC_NOWAIT) == 0);
    MUST(msgrcv(sysv_mq_raw_id, &got, sizeof got.data, 0, IPC_NOWAIT) == SIZE);
    memcpy(received, got.data, SIZE);
}
static void sysv_mq_wigwag(void) {
    MUST(ww_sysv_mq_send(sysv_mq_ww, 1, message, SIZE, WW_SEC(1)) == 0);
    MUST(ww_sysv_mq_recv(sysv_mq_ww, 0, 0, received, sizeof received, WW_SEC(1), NULL, NULL) == SIZE);
}

static mqd_t mq_plain_fd, mq_raw_fd;
static ww_mq *mq_ww;
static char mq_received[8192];

static void mq_setup(void) {
    struct mq_attr attributes = {0, 10, 8192, 0, {0, 0, 0, 0}};
    char name[64];
    snprintf(name, sizeof name, "/wwcalls-%d", (int)getpid());
    MUST((mq_plain_fd = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes)) >= 0);
    MUST(mq_unlink(name) == 0);
    MUST((mq_raw_fd = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK | O_CLOEXEC, 0600, &attributes)) >= 0);
    MUST(mq_unlink(name) == 0);
    snprintf(name, sizeof name, "mq:/wwcalls-%d?depth=10&size=8192", (int)getpid());
    MUST(ww_mq_create(&mq_ww, name, NULL) == 0);
    MUST(ww_mq_remove(name) == 0);
}
static void mq_with(mqd_t queue) {
    MUST(mq_send(queue, message, SIZE, 0) == 0);
    MUST(mq_receive(queue, mq_received, sizeof mq_received, NULL) == SIZE);
}
static void mq_plain(void) { mq_with(mq_plain_fd); }
static void mq_raw(void) { mq_with(mq_raw_fd); }
static void mq_wigwag(void) {
    MUST(ww_mq_send(mq_ww, message, SIZE, 0, WW_SEC(1)) == 0);
    MUST(ww_mq_recv(mq_ww, 0, mq_received, sizeof mq_received, WW_SEC(1), NULL, NULL) == SIZE);
}

/* --- the rounds --- */

static const struct operation {
    const char *name;
    int batch; /* operations between two looks at the clock */
    void (*setup)(void);
    void (*forms[3])(void); /* plain, raw, wigwag */
} operations[] = {
    {"eventfd add + take", 2000, eventfd_setup, {eventfd_plain, eventfd_raw, eventfd_wigwag}},
    {"pipe write + read", 2000, pipe_setup, {pipe_plain, pipe_raw, pipe_wigwag}},
    {"sysv_mq send + recv", 2000, sysv_mq_setup, {sysv_mq_plain, sysv_mq_raw, sysv_mq_wigwag}},
    {"mq send + recv", 2000, mq_setup, {mq_plain, mq_raw, mq_wigwag}},
    {"socket send + recv", 2000, socket_setup, {socket_plain, socket_raw, socket_wigwag}},
    {"sem acquire + release", 20000, sem_setup, {sem_plain, sem_raw, sem_wigwag}},
    {"sysv_sem acquire + release", 2000, sysv_sem_setup, {sysv_sem_plain, sysv_sem_raw, sysv_sem_wigwag}},
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static double samples[3][ROUNDS];
    size_t n;
    for (n = 0; n < sizeof operations / sizeof *operations; n++) {
        const struct operation *operation = &operations[n];
        int round, form, i;
        if (argc > 1 && strstr(operation->name, argv[1]) == NULL) continue;
        operation->setup();
        for (round = -5; round < ROUNDS; round++) /* the first few warm up */
            for (form = 0; form < 3; form++) {
                /* each form comes first, second and third equally often */
                int turn = (form + round + 5) % 3;
                double start = now();
                for (i = 0; i < operation->batch; i++) operation->forms[turn]();
                if (round >= 0) samples[turn][round] = (now() - start) / operation->batch;
            }
        for (form = 0; form < 3; form++) qsort(samples[form], ROUNDS, sizeof(double), ascending);
        printf("%s\t%.1f\t%.1f\t%.1f\t%.1f\n", operation->name, samples[0][ROUNDS / 2], samples[1][ROUNDS / 2],
               samples[2][ROUNDS / 2], samples[2][ROUNDS * 99 / 100]);
        fflush(stdout);
    }
    return 0;
}
