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
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/stat.h>
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

/* --- FIFO --- */

static char fifo_path[] = "/tmp/wwcalls-XXXXXX/f";
static int fifo_plain_fd, fifo_raw_fd;
static ww_fifo *fifo_reader, *fifo_writer;

static void in_temporary_directory(char *path) {
    char *slash = strrchr(path, '/');
    *slash = 0;
    MUST(mkdtemp(path) != NULL);
    *slash = '/';
}
static void leave_temporary_directory(char *path) {
    MUST(unlink(path) == 0);
    *strrchr(path, '/') = 0;
    MUST(rmdir(path) == 0);
}
static void fifo_setup(void) {
    char address[64];
    ww_fifo_options options = WW_FIFO_OPTIONS_INIT;
    in_temporary_directory(fifo_path);
    MUST(mkfifo(fifo_path, 0600) == 0);
    MUST((fifo_plain_fd = open(fifo_path, O_RDWR)) >= 0);
    leave_temporary_directory(fifo_path);
    strcpy(fifo_path, "/tmp/wwcalls-XXXXXX/f");
    in_temporary_directory(fifo_path);
    MUST(mkfifo(fifo_path, 0600) == 0);
    MUST((fifo_raw_fd = open(fifo_path, O_RDWR | O_NONBLOCK | O_CLOEXEC)) >= 0);
    leave_temporary_directory(fifo_path);
    strcpy(fifo_path, "/tmp/wwcalls-XXXXXX/f");
    in_temporary_directory(fifo_path);
    snprintf(address, sizeof address, "fifo:%s", fifo_path);
    options.keep_open = 1;
    options.create = 1;
    MUST(ww_fifo_open_reader(&fifo_reader, address, &options, WW_SEC(1)) == 0);
    MUST(ww_fifo_open_writer(&fifo_writer, address, NULL, WW_SEC(1)) == 0);
    leave_temporary_directory(fifo_path);
}
static void fifo_plain(void) {
    MUST(write(fifo_plain_fd, message, SIZE) == SIZE);
    MUST(read(fifo_plain_fd, received, sizeof received) == SIZE);
}
static void fifo_raw(void) {
    MUST(write_quietly(fifo_raw_fd, message, SIZE) == SIZE);
    MUST(read(fifo_raw_fd, received, sizeof received) == SIZE);
}
static void fifo_wigwag(void) {
    MUST(ww_fifo_write(fifo_writer, message, SIZE, WW_SEC(1)) == SIZE);
    MUST(ww_fifo_read(fifo_reader, received, sizeof received, WW_SEC(1)) == SIZE);
}

/* --- file: a record appended, and read back --- */

static char file_path[] = "/tmp/wwcalls-XXXXXX/r";
static int file_plain_fd, file_raw_fd;
static ww_file *file_appended, *file_read;
static off_t file_at[3];

static void file_setup(void) {
    char address[64];
    ww_file_options append = WW_FILE_OPTIONS_INIT, read = WW_FILE_OPTIONS_INIT;
    int form;
    for (form = 0; form < 3; form++) file_at[form] = 0;
    in_temporary_directory(file_path);
    snprintf(address, sizeof address, "file:%s", file_path);
    append.access = WW_FILE_APPEND;
    append.create = WW_FILE_CREATE_NEW;
    read.access = WW_FILE_READ;
    MUST(ww_file_open(&file_appended, address, &append) == 0);
    MUST(ww_file_open(&file_read, address, &read) == 0);
    leave_temporary_directory(file_path);
    MUST((file_plain_fd = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND, 0600)) >= 0);
    MUST((file_raw_fd = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600)) >= 0);
}
static void file_on(int fd, off_t *at) {
    MUST(write(fd, message, SIZE) == SIZE);
    MUST(pread(fd, received, SIZE, *at) == SIZE);
    *at += SIZE;
}
static void file_plain(void) { file_on(file_plain_fd, &file_at[0]); }
static void file_raw(void) { file_on(file_raw_fd, &file_at[1]); }
static void file_wigwag(void) {
    MUST(ww_file_append(file_appended, message, SIZE, NULL) == 0);
    MUST(ww_file_read_at(file_read, (uint64_t)file_at[2], received, SIZE) == SIZE);
    file_at[2] += SIZE;
}

/* --- signal: queued to this process, and waited for; 4 bytes --- */

static int signal_number;
static sigset_t signal_set;

static void signal_setup(void) {
    ww_signal_mask before;
    MUST((signal_number = ww_signal_number("RTMIN+1")) > 0);
    MUST(ww_signal_block(&signal_number, 1, &before) == 0);
    sigemptyset(&signal_set);
    sigaddset(&signal_set, signal_number);
}
static void signal_plain(void) {
    union sigval value = {7};
    siginfo_t info;
    MUST(sigqueue(getpid(), signal_number, value) == 0);
    MUST(sigwaitinfo(&signal_set, &info) == signal_number);
}
static void signal_raw(void) {
    static const struct timespec now;
    union sigval value = {7};
    siginfo_t info;
    MUST(sigqueue(getpid(), signal_number, value) == 0);
    MUST(sigtimedwait(&signal_set, &info, &now) == signal_number);
}
static void signal_wigwag(void) {
    ww_signal_info info;
    MUST(ww_signal_send_value(getpid(), signal_number, 7) == 0);
    MUST(ww_signal_wait(&signal_number, 1, &info, WW_SEC(1)) >= 0);
}

/* --- shared memory: copied in and out; the pointer is the caller's, no call is in between --- */

static char *shm_plain_at, *shm_raw_at;
static void *shm_ww_at;

static void shm_setup(void) {
    ww_memory_options options = WW_MEMORY_OPTIONS_INIT;
    ww_memfd *memory;
    options.length = 4096;
    MUST(ww_memfd_create(&memory, "memfd:", &options) == 0);
    MUST(ww_memfd_data(memory, &shm_ww_at) == 0);
    shm_plain_at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shm_raw_at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(shm_plain_at != MAP_FAILED && shm_raw_at != MAP_FAILED);
}
static void shm_on(volatile char *at) {
    memcpy((char *)at, message, SIZE);
    memcpy(received, (const char *)at, SIZE);
    message[0] = (char)(received[1] + 1); /* so that neither copy can be left out */
}
static void shm_plain(void) { shm_on(shm_plain_at); }
static void shm_raw(void) { shm_on(shm_raw_at); }
static void shm_wigwag(void) { shm_on(shm_ww_at); }

/* --- wait set: one ready descriptor of one --- */

static int epoll_fd;
static ww_waitset *waitset;

static void waitset_setup(void) {
    struct epoll_event event;
    ww_eventfd_options ready = WW_EVENTFD_OPTIONS_INIT;
    ww_eventfd *events;
    ready.initial = 1;
    MUST(ww_eventfd_open(&events, &ready) == 0);
    MUST((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    event.events = EPOLLIN;
    event.data.u64 = 1;
    MUST(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, ww_eventfd_fd(events), &event) == 0);
    MUST(ww_waitset_new(&waitset) == 0);
    MUST(ww_waitset_add_fd(waitset, ww_eventfd_fd(events), WW_READABLE, 1) == 0);
}
static void waitset_plain(void) {
    struct epoll_event event;
    MUST(epoll_wait(epoll_fd, &event, 1, -1) == 1);
}
static void waitset_raw(void) {
    struct epoll_event event;
    MUST(epoll_wait(epoll_fd, &event, 1, 1000) == 1);
}
static void waitset_wigwag(void) {
    ww_waitset_event event;
    MUST(ww_waitset_wait(waitset, &event, 1, WW_SEC(1)) == 1);
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
    {"fifo write + read", 2000, fifo_setup, {fifo_plain, fifo_raw, fifo_wigwag}},
    {"file append + read", 500, file_setup, {file_plain, file_raw, file_wigwag}},
    {"signal send + wait", 1000, signal_setup, {signal_plain, signal_raw, signal_wigwag}},
    {"shm copy in + out", 100000, shm_setup, {shm_plain, shm_raw, shm_wigwag}},
    {"sysv_mq send + recv", 2000, sysv_mq_setup, {sysv_mq_plain, sysv_mq_raw, sysv_mq_wigwag}},
    {"mq send + recv", 2000, mq_setup, {mq_plain, mq_raw, mq_wigwag}},
    {"socket send + recv", 2000, socket_setup, {socket_plain, socket_raw, socket_wigwag}},
    {"sem acquire + release", 20000, sem_setup, {sem_plain, sem_raw, sem_wigwag}},
    {"sysv_sem acquire + release", 2000, sysv_sem_setup, {sysv_sem_plain, sysv_sem_raw, sysv_sem_wigwag}},
    {"waitset wait, one ready", 2000, waitset_setup, {waitset_plain, waitset_raw, waitset_wigwag}},
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
