/*
 * The measured columns of the comparison table: for each mechanism, through wigwag, between two processes,
 *
 *   round trip of a 64-byte message (p50 and p99), messages/s one way at 64 B and 64 KiB, system calls for one message
 *   (counted by ptrace), and how many of 7 messages that were waiting are gone when the receiver is killed (tried).
 *
 * `table` prints a line for each mechanism: name, p50 ns, p99 ns, messages/s at 64 B, at 64 KiB, system calls, lost;
 * separated by tabs, - where the mechanism cannot do it. `table NAME` measures one. Both ends are pinned to a CPU of their
 * own where there are two.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <wigwag.h>

#define PATIENCE WW_SEC(20)
#define LARGE (64 * 1024)
#define ROUND_TRIPS 4000
#define ONE_WAY_NS 300000000.0

enum { THERE, BACK }; /* the two directions of a link */

/* One kind of link. `open` runs before the fork and makes both directions; the rest say a direction. */
struct mechanism {
    const char *name;
    size_t largest; /* the largest message */
    void (*open)(size_t size);
    int (*send)(int direction, const char *message, size_t size, int64_t timeout);
    int (*recv)(int direction, char *message, size_t size, int64_t timeout);
    void (*close_receiving)(int direction); /* what a process that only sends does not keep */
    int (*reopen_receiving)(int direction); /* a new receiver comes; NULL: there is no way to */
    void (*remove)(void);
};

static char path[2][256], directory[] = "/tmp/wwtable-XXXXXX";

static void must(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "table: %s: %s\n", what, ww_last_error());
        exit(1);
    }
}
#define MUST(condition) must(condition, #condition)

static const char *address(const char *scheme, int direction, const char *rest) {
    static char text[1024];
    snprintf(text, sizeof text, "%s:%s%s", scheme, path[direction], rest);
    return text;
}
static void name_paths(const char *prefix) {
    int direction;
    for (direction = THERE; direction <= BACK; direction++)
        snprintf(path[direction], sizeof path[0], "%swwtable-%d-%d", prefix, (int)getpid(), direction);
}
static void in_directory(void) {
    int direction;
    for (direction = THERE; direction <= BACK; direction++)
        snprintf(path[direction], sizeof path[0], "%s/%d", directory, direction);
}

/* --- sockets: one connection, each direction its own way --- */

static ww_socket *ends[2]; /* [THERE] sends there and receives what comes back */

static void tcp_open(size_t size) {
    ww_listener *listener;
    ww_socket_options options = WW_SOCKET_OPTIONS_INIT;
    char at[128];
    (void)size;
    options.nodelay = 1;
    MUST(ww_listener_open(&listener, "tcp://127.0.0.1:0", &options, PATIENCE) == 0);
    MUST(ww_listener_local_address(listener, at, sizeof at, NULL) > 0);
    MUST(ww_socket_connect(&ends[THERE], at, &options, PATIENCE) == 0);
    MUST(ww_listener_accept(listener, &ends[BACK], PATIENCE) == 0);
    ww_listener_close(listener);
}
static void unix_open(size_t size) {
    (void)size;
    MUST(ww_socket_pair(&ends[THERE], &ends[BACK], "unix") == 0);
}
static int socket_send(int direction, const char *message, size_t size, int64_t timeout) {
    return ww_socket_send_all(ends[direction], message, size, timeout, NULL);
}
static int socket_recv(int direction, char *message, size_t size, int64_t timeout) {
    return ww_socket_recv_exact(ends[!direction], message, size, timeout, NULL);
}
static void socket_close_receiving(int direction) {
    ww_socket_close(ends[!direction]);
    ends[!direction] = NULL;
}

/* --- file: records appended to one, watched by the reader --- */

static ww_file *appended[2], *readable[2];
static ww_filewatch *watches[2];
static uint64_t offsets[2];

static void file_open(size_t size) {
    int direction;
    ww_file_options append = WW_FILE_OPTIONS_INIT, read = WW_FILE_OPTIONS_INIT;
    (void)size;
    append.access = WW_FILE_APPEND;
    append.create = WW_FILE_CREATE_NEW;
    read.access = WW_FILE_READ;
    in_directory();
    for (direction = THERE; direction <= BACK; direction++) {
        MUST(ww_file_open(&appended[direction], address("file", direction, ""), &append) == 0);
        MUST(ww_file_open(&readable[direction], address("file", direction, ""), &read) == 0);
        MUST(ww_filewatch_open(&watches[direction], address("file", direction, ""), WW_FILE_CHANGED) == 0);
        offsets[direction] = 0;
    }
}
static int file_send(int direction, const char *message, size_t size, int64_t timeout) {
    (void)timeout;
    return ww_file_append(appended[direction], message, size, NULL);
}
static int file_recv(int direction, char *message, size_t size, int64_t timeout) {
    for (;;) {
        ssize_t n = ww_file_read_at(readable[direction], offsets[direction], message, size);
        if (n == (ssize_t)size) {
            offsets[direction] += size;
            return 0;
        }
        if (n < 0) return (int)n;
        if (timeout == WW_NOW) return -EAGAIN;
        n = ww_filewatch_wait(watches[direction], timeout);
        if (n < 0) return (int)n;
    }
}
static void keep_all(int direction) { (void)direction; }
static int still_open(int direction) {
    (void)direction;
    return 0;
}
static int file_again(int direction) {
    offsets[direction] = 3 * 64; /* a reader keeps its place itself: three had been read */
    return 0;
}
static void file_remove(void) {
    ww_file_remove(address("file", THERE, ""));
    ww_file_remove(address("file", BACK, ""));
}

/* --- eventfd: a number --- */

static ww_eventfd *events[2];

static void eventfd_open(size_t size) {
    ww_eventfd_options options = WW_EVENTFD_OPTIONS_INIT;
    (void)size;
    options.semaphore = 1;
    MUST(ww_eventfd_open(&events[THERE], &options) == 0);
    MUST(ww_eventfd_open(&events[BACK], &options) == 0);
}
static int eventfd_send(int direction, const char *message, size_t size, int64_t timeout) {
    (void)message, (void)size;
    return ww_eventfd_add(events[direction], 1, timeout);
}
static int eventfd_recv(int direction, char *message, size_t size, int64_t timeout) {
    uint64_t value;
    (void)message, (void)size;
    return ww_eventfd_take(events[direction], &value, timeout);
}

/* --- pipes --- */

static ww_pipe *readers[2], *writers[2];

static void pipe_open(size_t size) {
    (void)size;
    MUST(ww_pipe_open(&readers[THERE], &writers[THERE], NULL) == 0);
    MUST(ww_pipe_open(&readers[BACK], &writers[BACK], NULL) == 0);
}
static int pipe_send(int direction, const char *message, size_t size, int64_t timeout) {
    return ww_pipe_write_all(writers[direction], message, size, timeout, NULL);
}
static int pipe_recv(int direction, char *message, size_t size, int64_t timeout) {
    return ww_pipe_read_exact(readers[direction], message, size, timeout, NULL);
}
static void pipe_close_receiving(int direction) {
    ww_pipe_close(readers[direction]);
    readers[direction] = NULL;
}

static ww_fifo *fifo_readers[2], *fifo_writers[2];

static void fifo_open(size_t size) {
    int direction;
    ww_fifo_options keep = WW_FIFO_OPTIONS_INIT;
    (void)size;
    keep.keep_open = 1;
    in_directory();
    for (direction = THERE; direction <= BACK; direction++) {
        MUST(ww_fifo_create(address("fifo", direction, ""), NULL) == 0);
        MUST(ww_fifo_open_reader(&fifo_readers[direction], address("fifo", direction, ""), &keep, PATIENCE) == 0);
        MUST(ww_fifo_open_writer(&fifo_writers[direction], address("fifo", direction, ""), NULL, PATIENCE) == 0);
    }
}
static int fifo_send(int direction, const char *message, size_t size, int64_t timeout) {
    return ww_fifo_write_all(fifo_writers[direction], message, size, timeout, NULL);
}
static int fifo_recv(int direction, char *message, size_t size, int64_t timeout) {
    return ww_fifo_read_exact(fifo_readers[direction], message, size, timeout, NULL);
}
static void fifo_close_receiving(int direction) {
    ww_fifo_close(fifo_readers[direction]);
    fifo_readers[direction] = NULL;
}
static int fifo_reopen(int direction) {
    ww_fifo_options keep = WW_FIFO_OPTIONS_INIT;
    keep.keep_open = 1; /* does not wait for a writer */
    return ww_fifo_open_reader(&fifo_readers[direction], address("fifo", direction, ""), &keep, PATIENCE);
}
static void fifo_remove(void) {
    ww_fifo_remove(address("fifo", THERE, ""));
    ww_fifo_remove(address("fifo", BACK, ""));
}

/* --- signal: a queued real-time signal with a value --- */

static pid_t peers[2]; /* whom a direction goes to */
static int queued_signal;
static ww_signal_mask signal_mask;

static void signal_open(size_t size) {
    (void)size;
    queued_signal = ww_signal_number("RTMIN+1");
    MUST(queued_signal > 0);
    MUST(ww_signal_block(&queued_signal, 1, &signal_mask) == 0);
}
static int signal_send(int direction, const char *message, size_t size, int64_t timeout) {
    (void)message, (void)size, (void)timeout;
    return ww_signal_send_value(peers[direction], queued_signal, 1);
}
static int signal_recv(int direction, char *message, size_t size, int64_t timeout) {
    int code;
    ww_signal_info info;
    (void)direction, (void)message, (void)size;
    code = ww_signal_wait(&queued_signal, 1, &info, timeout);
    return code < 0 ? code : 0;
}

/* --- shared memory: one slot for each direction, a semaphore for full and one for empty --- */

static ww_shm *segment;
static char *slots[2];
static ww_sem *full[2], *empty[2];

static void shm_open_link(size_t size) {
    ww_memory_options options = WW_MEMORY_OPTIONS_INIT;
    size_t stride = (size + 4095) / 4096 * 4096;
    void *data;
    int direction;
    name_paths("/");
    options.length = 4096 + 2 * stride;
    MUST(ww_shm_create(&segment, address("shm", THERE, ""), &options) == 0);
    MUST(ww_shm_data(segment, &data) == 0);
    for (direction = THERE; direction <= BACK; direction++) {
        char *at = (char *)data + 256 * direction;
        slots[direction] = (char *)data + 4096 + stride * (size_t)direction;
        MUST(ww_sem_init_at(&full[direction], at, 0) == 0);
        MUST(ww_sem_init_at(&empty[direction], at + 128, 1) == 0);
    }
}
static int shm_send(int direction, const char *message, size_t size, int64_t timeout) {
    int code = ww_sem_acquire(empty[direction], timeout);
    if (code < 0) return code;
    memcpy(slots[direction], message, size);
    return ww_sem_release(full[direction]);
}
static int shm_recv(int direction, char *message, size_t size, int64_t timeout) {
    int code = ww_sem_acquire(full[direction], timeout);
    if (code < 0) return code;
    memcpy(message, slots[direction], size);
    return ww_sem_release(empty[direction]);
}
static void shm_remove(void) { ww_shm_remove(address("shm", THERE, "")); }

/* --- message queues --- */

static ww_sysv_mq *sysv_queues[2];

static void sysv_mq_open(size_t size) {
    (void)size;
    MUST(ww_sysv_mq_create(&sysv_queues[THERE], "sysv-mq:private", NULL) == 0);
    MUST(ww_sysv_mq_create(&sysv_queues[BACK], "sysv-mq:private", NULL) == 0);
}
static int sysv_mq_send(int direction, const char *message, size_t size, int64_t timeout) {
    return ww_sysv_mq_send(sysv_queues[direction], 1, message, size, timeout);
}
static int sysv_mq_recv(int direction, char *message, size_t size, int64_t timeout) {
    ssize_t n = ww_sysv_mq_recv(sysv_queues[direction], 0, 0, message, size, timeout, NULL, NULL);
    return n < 0 ? (int)n : 0;
}
static void sysv_mq_remove(void) {
    ww_sysv_mq_unlink(sysv_queues[THERE]);
    ww_sysv_mq_unlink(sysv_queues[BACK]);
}

static ww_mq *queues[2];
static size_t mq_size;

static void mq_open_link(size_t size) {
    ww_mq_options options = WW_MQ_OPTIONS_INIT;
    int direction;
    name_paths("/");
    options.depth = 10;
    options.message_size = mq_size = size;
    for (direction = THERE; direction <= BACK; direction++)
        MUST(ww_mq_create(&queues[direction], address("mq", direction, ""), &options) == 0);
}
static int mq_send_link(int direction, const char *message, size_t size, int64_t timeout) {
    return ww_mq_send(queues[direction], message, size, 0, timeout);
}
static int mq_recv_link(int direction, char *message, size_t size, int64_t timeout) {
    ssize_t n = ww_mq_recv(queues[direction], 0, message, size, timeout, NULL, NULL);
    return n < 0 ? (int)n : 0;
}
static void mq_remove(void) {
    ww_mq_remove(address("mq", THERE, ""));
    ww_mq_remove(address("mq", BACK, ""));
}

/* --- semaphores: permits, without data --- */

static ww_sysv_sem *set;

static void sysv_sem_open(size_t size) {
    (void)size;
    MUST(ww_sysv_sem_create(&set, "sysv-sem:private?count=2", NULL) == 0);
}
static int sysv_sem_send(int direction, const char *message, size_t size, int64_t timeout) {
    (void)message, (void)size, (void)timeout;
    return ww_sysv_sem_add(set, (uint32_t)direction, 1, WW_NOW);
}
static int sysv_sem_recv(int direction, char *message, size_t size, int64_t timeout) {
    (void)message, (void)size;
    return ww_sysv_sem_add(set, (uint32_t)direction, -1, timeout);
}
static void sysv_sem_remove(void) { ww_sysv_sem_unlink(set); }

static ww_sem *sems[2];

static void sem_open_link(size_t size) {
    int direction;
    (void)size;
    name_paths("/");
    for (direction = THERE; direction <= BACK; direction++)
        MUST(ww_sem_create(&sems[direction], address("sem", direction, ""), NULL) == 0);
}
static int sem_send(int direction, const char *message, size_t size, int64_t timeout) {
    (void)message, (void)size, (void)timeout;
    return ww_sem_release(sems[direction]);
}
static int sem_recv(int direction, char *message, size_t size, int64_t timeout) {
    (void)message, (void)size;
    return ww_sem_acquire(sems[direction], timeout);
}
static void sem_remove(void) {
    ww_sem_remove(address("sem", THERE, ""));
    ww_sem_remove(address("sem", BACK, ""));
}

static const struct mechanism mechanisms[] = {
    {"tcp", SIZE_MAX, tcp_open, socket_send, socket_recv, socket_close_receiving, NULL, NULL},
    {"unix", SIZE_MAX, unix_open, socket_send, socket_recv, socket_close_receiving, NULL, NULL},
    {"file", SIZE_MAX, file_open, file_send, file_recv, keep_all, file_again, file_remove},
    {"eventfd", 8, eventfd_open, eventfd_send, eventfd_recv, keep_all, still_open, NULL},
    {"pipe", SIZE_MAX, pipe_open, pipe_send, pipe_recv, pipe_close_receiving, NULL, NULL},
    {"fifo", SIZE_MAX, fifo_open, fifo_send, fifo_recv, fifo_close_receiving, fifo_reopen, fifo_remove},
    {"signal", 4, signal_open, signal_send, signal_recv, keep_all, NULL, NULL},
    {"shm", SIZE_MAX, shm_open_link, shm_send, shm_recv, keep_all, still_open, shm_remove},
    {"sysv-mq", 8192, sysv_mq_open, sysv_mq_send, sysv_mq_recv, keep_all, still_open, sysv_mq_remove},
    {"mq", 8192, mq_open_link, mq_send_link, mq_recv_link, keep_all, still_open, mq_remove},
    {"sysv-sem", 0, sysv_sem_open, sysv_sem_send, sysv_sem_recv, keep_all, still_open, sysv_sem_remove},
    {"sem", 0, sem_open_link, sem_send, sem_recv, keep_all, still_open, sem_remove},
};

/* --- measuring --- */

static const struct mechanism *m;
static char out[LARGE], in[LARGE];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static void pin(int cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)(cpu % (int)sysconf(_SC_NPROCESSORS_ONLN)), &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus); /* a container may forbid it: then unpinned */
}

static pid_t start(void (*body)(size_t), size_t size) {
    pid_t parent = getpid(), pid;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(1);
        peers[THERE] = getpid();
        peers[BACK] = parent;
        body(size);
        _exit(0);
    }
    MUST(pid > 0);
    pin(0);
    peers[THERE] = pid;
    peers[BACK] = parent;
    return pid;
}
static void finish(pid_t pid) {
    int status;
    waitpid(pid, &status, 0);
    must(status == 0, "the other process failed");
    if (m->remove) m->remove();
}

static void echo(size_t size) {
    int n;
    for (n = 0; n < ROUND_TRIPS + ROUND_TRIPS / 4; n++) {
        MUST(m->recv(THERE, in, size, PATIENCE) == 0);
        MUST(m->send(BACK, in, size, PATIENCE) == 0);
    }
}
static void round_trips(size_t size) {
    static double taken[ROUND_TRIPS];
    int n;
    pid_t pid;
    m->open(size);
    pid = start(echo, size);
    for (n = -ROUND_TRIPS / 4; n < ROUND_TRIPS; n++) { /* the first quarter warms up */
        double begun = now();
        MUST(m->send(THERE, out, size, PATIENCE) == 0);
        MUST(m->recv(BACK, in, size, PATIENCE) == 0);
        if (n >= 0) taken[n] = now() - begun;
    }
    finish(pid);
    qsort(taken, ROUND_TRIPS, sizeof(double), ascending);
    printf("\t%.0f\t%.0f", taken[ROUND_TRIPS / 2], taken[ROUND_TRIPS * 99 / 100]);
}

/* Receives until a message says that it is the last. Where messages carry nothing, their number is agreed. */
#define AGREED 20000
static void drain(size_t size) {
    long n = 0;
    do {
        MUST(m->recv(THERE, in, size, PATIENCE) == 0);
        n++;
    } while (m->largest < 64 ? n < AGREED : in[0] != 'e');
    MUST(m->send(BACK, out, size, PATIENCE) == 0);
}
static void one_way(size_t size) {
    double begun, taken;
    long n = 0;
    pid_t pid;
    m->open(size);
    pid = start(drain, size);
    out[0] = 'm';
    begun = now();
    for (;;) {
        int last = m->largest < 64 ? n == AGREED - 1 : now() - begun > ONE_WAY_NS || (double)n * (double)size > 256e6;
        int code;
        if (last) out[0] = 'e';
        code = m->send(THERE, out, size, PATIENCE);
        if (code == -EAGAIN && m->send == signal_send) { /* the system's queue of signals is full */
            sched_yield();
            continue;
        }
        must(code == 0, "send");
        n++;
        if (last) break;
    }
    MUST(m->recv(BACK, in, size, PATIENCE) == 0); /* all have arrived */
    taken = now() - begun;
    finish(pid);
    out[0] = 'm';
    printf("\t%.0f", (double)n / taken * 1e9);
}

/* Counts the system calls of `count` messages, each sent and received, in a traced process. */
static long calls_for(int count) {
    long stops = 0;
    int status;
    pid_t pid;
    m->open(64);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        peers[THERE] = getpid();
        while (count-- > 0) {
            MUST(m->send(THERE, out, 64, PATIENCE) == 0);
            MUST(m->recv(THERE, in, 64, PATIENCE) == 0);
        }
        _exit(0);
    }
    MUST(pid > 0);
    waitpid(pid, &status, 0);
    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    for (;;) {
        int pass = WIFSTOPPED(status) && WSTOPSIG(status) != (SIGTRAP | 0x80) && WSTOPSIG(status) != SIGSTOP;
        ptrace(PTRACE_SYSCALL, pid, NULL, pass ? WSTOPSIG(status) : 0);
        waitpid(pid, &status, 0);
        if (WIFEXITED(status)) break;
        if (WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80)) stops++;
    }
    must(WEXITSTATUS(status) == 0, "the traced process failed");
    if (m->remove) m->remove();
    return stops / 2;
}

/* Ten messages are sent, or as many as fit; the receiver takes three and is killed; a new one takes what is left. */
static ww_eventfd *taken_three;
static void take_three(size_t size) {
    int n;
    for (n = 0; n < 3; n++) MUST(m->recv(THERE, in, size, PATIENCE) == 0);
    MUST(ww_eventfd_add(taken_three, 1, PATIENCE) == 0);
    for (;;) pause();
}
static void lost_with_receiver(void) {
    int sent = 0, left = 0, status;
    uint64_t value;
    pid_t pid;
    MUST(ww_eventfd_open(&taken_three, NULL) == 0);
    m->open(64);
    pid = start(take_three, 64);
    m->close_receiving(THERE);
    for (; sent < 3; sent++) MUST(m->send(THERE, out, 64, PATIENCE) == 0);
    MUST(ww_eventfd_take(taken_three, &value, PATIENCE) == 0);
    while (sent < 10 && m->send(THERE, out, 64, WW_NOW) == 0) sent++;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    if (m->reopen_receiving && m->reopen_receiving(THERE) == 0)
        while (m->recv(THERE, in, 64, WW_NOW) == 0) left++;
    ww_eventfd_close(taken_three);
    if (m->remove) m->remove();
    printf("\t%d of %d", sent - 3 - left, sent - 3);
}

int main(int argc, char **argv) {
    size_t n;
    MUST(mkdtemp(directory) != NULL);
    for (n = 0; n < sizeof mechanisms / sizeof *mechanisms; n++) {
        m = &mechanisms[n];
        if (argc > 1 && strcmp(argv[1], m->name) != 0) continue;
        printf("%s", m->name);
        round_trips(64);
        one_way(64);
        if (m->largest >= LARGE)
            one_way(LARGE);
        else
            printf("\t-");
        printf("\t%.1f", (double)(calls_for(1100) - calls_for(100)) / 1000);
        lost_with_receiver();
        printf("\n");
        fflush(stdout);
    }
    rmdir(directory);
    return 0;
}
