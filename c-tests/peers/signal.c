/*
 * Knows only libc.
 *
 * signal send PID SIGNAL COUNT: queues SIGNAL to PID with the values 0, 1, 2 …
 * signal receive SIGNAL COUNT FD: blocks SIGNAL, writes a byte to FD, takes COUNT of them from its parent with the values
 * 0, 1, 2 …
 * signal handle SIGNAL FD: installs a handler, writes a byte to FD, and ends well once the handler has run.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t handled;

static void on_signal(int signal) { handled = signal; }

static int ready(int fd) { return write(fd, "r", 1) == 1; }

static int queue(pid_t pid, int signal, int count) {
    int n;
    for (n = 0; n < count; n++) {
        union sigval value;
        value.sival_ptr = NULL;
        value.sival_int = n;
        if (sigqueue(pid, signal, value) != 0) return 1;
    }
    return 0;
}

static int receive(int signal, int count, int fd) {
    sigset_t set;
    int n;
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (!ready(fd)) return 1;
    for (n = 0; n < count; n++) {
        siginfo_t info;
        if (sigwaitinfo(&set, &info) != signal) return 1;
        if (info.si_value.sival_int != n || info.si_code != SI_QUEUE) return 1;
        if (info.si_pid != getppid() || info.si_uid != getuid()) return 1;
    }
    return 0;
}

static int handle(int signal, int fd) {
    struct sigaction action;
    sigset_t set, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(signal, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, &before);
    if (!ready(fd)) return 1;
    while (handled != signal) sigsuspend(&before);
    return 0;
}

int main(int argc, char **argv) {
    alarm(60);
    if (argc == 5 && strcmp(argv[1], "send") == 0) return queue(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    if (argc == 5 && strcmp(argv[1], "receive") == 0) return receive(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    if (argc == 4 && strcmp(argv[1], "handle") == 0) return handle(atoi(argv[2]), atoi(argv[3]));
    fprintf(stderr, "usage: signal send PID SIGNAL COUNT | receive SIGNAL COUNT FD | handle SIGNAL FD\n");
    return 2;
}
