/* Signals. */
#include "test.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>

static int rt(int n) {
    char name[16];
    snprintf(name, sizeof name, "RTMIN+%d", n);
    return ww_signal_number(name);
}

/* To the only thread of this process: it has acted when this returns. */
static void raise_here(int number) { OK(ww_signal_send_thread(getpid(), ww_signal_this_thread(), number)); }

/* A signal sent to the process may take a moment where an emulator delivers it. */
static void eventually(const volatile sig_atomic_t *count, int expected) {
    int n;
    for (n = 0; *count != expected && n < 30000; n++) sleep_ms(1);
    CHECK_INT(*count, expected);
}

static ww_signal *open_one(int number) {
    ww_signal *signals;
    OK(ww_signal_open(&signals, &number, 1, NULL));
    return signals;
}

TEST(names_and_numbers) {
    int n;
    CHECK_INT(ww_signal_number("USR1"), WW_SIGUSR1);
    CHECK_INT(ww_signal_number("sigterm"), WW_SIGTERM);
    CHECK_INT(ww_signal_number("RTMIN+3"), SIGRTMIN + 3);
    CHECK_INT(ww_signal_number("RTMAX"), SIGRTMAX);
    CHECK_ERROR(ww_signal_number("NONE"), -EINVAL, "\"NONE\" is no signal");
    CHECK_ERROR(ww_signal_number(""), -EINVAL, "is no signal");
    CHECK_ERROR(ww_signal_number(NULL), -EFAULT, "name");
    for (n = 1; n <= 64; n++) CHECK_INT(ww_signal_number(ww_signal_name(n)), n);
    CHECK(strcmp(ww_signal_name(SIGRTMIN + 3), "SIGRTMIN+3") == 0);
    CHECK(ww_signal_name(0) == NULL && ww_signal_name(65) == NULL && ww_signal_name(-1) == NULL);
    CHECK(WW_SIGHUP == SIGHUP && WW_SIGINT == SIGINT && WW_SIGQUIT == SIGQUIT && WW_SIGILL == SIGILL);
    CHECK(WW_SIGTRAP == SIGTRAP && WW_SIGABRT == SIGABRT && WW_SIGBUS == SIGBUS && WW_SIGFPE == SIGFPE);
    CHECK(WW_SIGKILL == SIGKILL && WW_SIGUSR1 == SIGUSR1 && WW_SIGSEGV == SIGSEGV && WW_SIGUSR2 == SIGUSR2);
    CHECK(WW_SIGPIPE == SIGPIPE && WW_SIGALRM == SIGALRM && WW_SIGTERM == SIGTERM && WW_SIGSTKFLT == SIGSTKFLT);
    CHECK(WW_SIGCHLD == SIGCHLD && WW_SIGCONT == SIGCONT && WW_SIGSTOP == SIGSTOP && WW_SIGTSTP == SIGTSTP);
    CHECK(WW_SIGTTIN == SIGTTIN && WW_SIGTTOU == SIGTTOU && WW_SIGURG == SIGURG && WW_SIGXCPU == SIGXCPU);
    CHECK(WW_SIGXFSZ == SIGXFSZ && WW_SIGVTALRM == SIGVTALRM && WW_SIGPROF == SIGPROF && WW_SIGWINCH == SIGWINCH);
    CHECK(WW_SIGIO == SIGIO && WW_SIGPWR == SIGPWR && WW_SIGSYS == SIGSYS);
    CHECK_INT(ww_signal_default_action(WW_SIGTERM), WW_SIGNAL_TERMINATES);
    CHECK_INT(ww_signal_default_action(WW_SIGSEGV), WW_SIGNAL_DUMPS_CORE);
    CHECK_INT(ww_signal_default_action(WW_SIGCHLD), WW_SIGNAL_IGNORED);
    CHECK_INT(ww_signal_default_action(WW_SIGSTOP), WW_SIGNAL_STOPS);
    CHECK_INT(ww_signal_default_action(WW_SIGCONT), WW_SIGNAL_CONTINUES);
    CHECK_ERROR(ww_signal_default_action(65), -EINVAL, "they are 1 to 64");
}

TEST(take) {
    ww_signal *first = open_one(WW_SIGUSR1), *second;
    ww_signal_info info;
    struct pollfd ready;
    OK(ww_signal_open_address(&second, "signal:USR1,USR2?capacity=10", NULL));
    ready.fd = ww_signal_fd(second);
    ready.events = POLLIN;
    CHECK_INT(poll(&ready, 1, 0), 0);
    CHECK_ERROR(ww_signal_take(first, &info, WW_NOW), -EAGAIN, "take signal:USR1: EAGAIN");
    CHECK_ERROR(ww_signal_take(first, &info, SHORT), -ETIMEDOUT, "deadline");
    raise_here(WW_SIGUSR1);
    CHECK_INT(poll(&ready, 1, 0), 1);
    OK(ww_signal_take(first, &info, GENEROUS));
    CHECK_INT(info.signal, WW_SIGUSR1);
    CHECK_INT(info.code, SI_TKILL);
    CHECK_INT(info.pid, getpid());
    CHECK_INT(info.uid, getuid());
    OK(ww_signal_take(second, &info, WW_NOW));
    CHECK_INT(ww_signal_lost(second), 0);
    ww_signal_close(first);
    ww_signal_close(second);
    ww_signal_close(NULL);
}

struct log {
    int count;
    int values[8];
    ww_signal *signals;
};

static void note(const ww_signal_info *info, void *user) {
    struct log *log = user;
    log->values[log->count++] = info->value;
}

static void close_it(const ww_signal_info *info, void *user) {
    struct log *log = user;
    note(info, user);
    CHECK_ERROR(ww_signal_dispatch(log->signals, WW_NOW), -EDEADLK, "must not call it");
    ww_signal_close(log->signals);
}

TEST(callbacks) {
    int number = rt(0);
    ww_signal *signals = open_one(number);
    struct log first = {0}, second = {0};
    uint64_t id = 99;
    int done = 0;
    OK(ww_signal_on(signals, number, note, &first, &id));
    OK(ww_signal_on(signals, number, note, &second, NULL));
    CHECK_ERROR(ww_signal_dispatch(signals, WW_NOW), -EAGAIN, "dispatch signal:RTMIN");
    OK(ww_signal_send_value(getpid(), number, 7));
    OK(ww_signal_send_value(getpid(), number, -8));
    while (done < 2) {
        ssize_t n = ww_signal_dispatch(signals, GENEROUS);
        CHECK(n > 0);
        done += (int)n;
    }
    CHECK(first.count == 2 && first.values[0] == 7 && first.values[1] == -8 && second.count == 2);
    OK(ww_signal_off(signals, id));
    CHECK_ERROR(ww_signal_off(signals, id), -ENOENT, "no function has this number");
    raise_here(number);
    CHECK_INT(ww_signal_dispatch(signals, WW_NOW), 1);
    CHECK(first.count == 2 && second.count == 3);
    CHECK_ERROR(ww_signal_on(signals, WW_SIGHUP, note, &first, &id), -EINVAL, "SIGHUP is not among");
    CHECK_ERROR(ww_signal_on(signals, 99, note, &first, &id), -EINVAL, "no signal");
    CHECK_ERROR(ww_signal_on(signals, number, NULL, NULL, &id), -EFAULT, "callback");
    ww_signal_close(signals);
}

TEST(callback_closes_its_handle) {
    struct log log = {0};
    log.signals = open_one(WW_SIGUSR1);
    OK(ww_signal_on(log.signals, WW_SIGUSR1, close_it, &log, NULL));
    raise_here(WW_SIGUSR1);
    CHECK_INT(ww_signal_dispatch(log.signals, GENEROUS), 1);
    CHECK_INT(log.count, 1);
}

static void tell(const ww_signal_info *info, void *user) {
    if (info->value != 5) FAIL("value %d", info->value);
    OK(ww_eventfd_add(user, 1, WW_NOW));
}

TEST(dispatcher_thread) {
    int number = rt(0);
    ww_signal *signals = open_one(number);
    ww_eventfd *told;
    ww_signal_info info;
    uint64_t value;
    OK(ww_eventfd_open(&told, NULL));
    OK(ww_signal_on(signals, number, tell, told, NULL));
    OK(ww_signal_start(signals));
    CHECK_ERROR(ww_signal_start(signals), -EALREADY, "runs already");
    OK(ww_signal_send_value(getpid(), number, 5));
    OK(ww_eventfd_take(told, &value, GENEROUS));
    OK(ww_signal_stop(signals));
    OK(ww_signal_stop(signals));
    raise_here(number);
    OK(ww_signal_take(signals, &info, WW_NOW));
    OK(ww_signal_start(signals));
    ww_signal_close(signals);
    ww_eventfd_close(told);
}

TEST(overflow_is_counted) {
    ww_signal_options options = WW_SIGNAL_OPTIONS_INIT;
    ww_signal *signals;
    ww_signal_info info;
    int number = rt(0), n, taken = 0;
    options.capacity = 1;
    OK(ww_signal_open(&signals, &number, 1, &options));
    for (n = 0; n < 200; n++) {
        OK(ww_signal_send_value(getpid(), number, n));
        errno = 77;
        raise(number); /* a failing write in the handler must not show */
        CHECK_INT(errno, 77);
    }
    while (ww_signal_take(signals, &info, WW_NOW) == 0) taken++;
    CHECK(taken > 0 && ww_signal_lost(signals) > 0);
    CHECK_INT(taken + ww_signal_lost(signals), 400);
    ww_signal_close(signals);
}

static volatile sig_atomic_t plain_calls, raw_calls, raw_value;

static void plain(int number) {
    (void)number;
    plain_calls++;
}

static void raw(const ww_signal_info *info, void *user) {
    raw_calls++;
    raw_value = info->value;
    *(volatile sig_atomic_t *)user += 1;
}

TEST(earlier_handlers) {
    struct sigaction action, now;
    ww_signal_options options = WW_SIGNAL_OPTIONS_INIT;
    ww_signal_shutdown_options end = WW_SIGNAL_SHUTDOWN_OPTIONS_INIT;
    ww_signal_shutdown *shutdown;
    int number = WW_SIGUSR1;
    ww_signal *signals;
    ww_signal_info info;
    memset(&action, 0, sizeof action);
    action.sa_handler = plain;
    sigaction(SIGUSR1, &action, NULL);
    signals = open_one(WW_SIGUSR1);
    raise_here(WW_SIGUSR1);
    CHECK_INT(plain_calls, 1);
    OK(ww_signal_take(signals, &info, WW_NOW));
    ww_signal_close(signals);
    sigaction(SIGUSR1, NULL, &now);
    CHECK(now.sa_handler == plain);
    raise_here(WW_SIGUSR1);
    CHECK_INT(plain_calls, 2);
    options.unchained = 1;
    OK(ww_signal_open(&signals, &number, 1, &options));
    raise_here(WW_SIGUSR1);
    CHECK_INT(plain_calls, 2);
    OK(ww_signal_take(signals, &info, WW_NOW));
    ww_signal_close(signals);
    raise_here(WW_SIGUSR1);
    CHECK_INT(plain_calls, 3);
    end.unchained = 1;
    end.second_ends = 1;
    end.signals = &number;
    end.count = 1;
    OK(ww_signal_shutdown_open(&shutdown, &end));
    raise_here(WW_SIGUSR1);
    CHECK_INT(plain_calls, 3);
    raise_here(WW_SIGUSR1); /* the second is left to the earlier handler */
    CHECK_INT(plain_calls, 4);
    ww_signal_shutdown_close(shutdown);
}

static sigjmp_buf out_of_the_handler;

static void leave(int number) {
    (void)number;
    siglongjmp(out_of_the_handler, 1);
}

TEST(earlier_handler_leaves_by_longjmp) {
    static volatile int round; /* static: kept over the jump */
    static ww_signal *signals;
    struct sigaction action;
    ww_signal_info info;
    memset(&action, 0, sizeof action);
    action.sa_handler = leave;
    sigaction(SIGUSR1, &action, NULL);
    signals = open_one(WW_SIGUSR1);
    for (round = 0; round < 3; round++)
        if (sigsetjmp(out_of_the_handler, 1) == 0) {
            raise_here(WW_SIGUSR1);
            FAIL("the earlier handler was not called");
        }
    for (round = 0; round < 3; round++) OK(ww_signal_take(signals, &info, WW_NOW));
    ww_signal_close(signals); /* does not wait for the handlers that were left */
}

TEST(raw_handler) {
    static volatile sig_atomic_t user;
    ww_signal_raw *first, *second, *none = NULL;
    int number = rt(1);
    OK(ww_signal_raw_open(&first, number, raw, (void *)&user));
    OK(ww_signal_raw_open(&second, number, raw, (void *)&user));
    OK(ww_signal_send_value(getpid(), number, 3));
    eventually(&user, 2);
    CHECK(raw_calls == 2 && raw_value == 3);
    ww_signal_raw_close(first);
    raise_here(number);
    CHECK(raw_calls == 3 && raw_value == 0);
    ww_signal_raw_close(second);
    ww_signal_raw_close(NULL);
    CHECK_ERROR(ww_signal_raw_open(&none, WW_SIGKILL, raw, NULL), -EINVAL, "SIGKILL cannot be handled");
    CHECK_ERROR(ww_signal_raw_open(&none, 0, raw, NULL), -EINVAL, "no signal");
    CHECK_ERROR(ww_signal_raw_open(&none, number, NULL, NULL), -EFAULT, "handler");
    CHECK_ERROR(ww_signal_raw_open(NULL, number, raw, NULL), -EFAULT, "output pointer");
    CHECK(none == NULL);
}

TEST(ignore_and_default) {
    ww_signal_action *ignored, *defaults;
    ww_signal *signals;
    int status;
    pid_t pid;
    OK(ww_signal_ignore(&ignored, WW_SIGTERM));
    raise_here(WW_SIGTERM);
    signals = open_one(WW_SIGTERM);
    CHECK_ERROR(ww_signal_ignore(&defaults, WW_SIGTERM), -EBUSY, "has subscriptions");
    CHECK_ERROR(ww_signal_default(&defaults, WW_SIGTERM), -EBUSY, "has subscriptions");
    ww_signal_close(signals);
    pid = fork();
    if (pid == 0) {
        OK(ww_signal_default(NULL, WW_SIGTERM));
        raise_here(WW_SIGTERM);
        _exit(0);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    OK(ww_signal_default(&defaults, WW_SIGTERM));
    ww_signal_action_close(defaults);
    raise_here(WW_SIGTERM);
    ww_signal_action_close(ignored);
    ww_signal_action_close(NULL);
    OK(ww_signal_ignore(NULL, WW_SIGHUP));
    raise_here(WW_SIGHUP);
    CHECK_ERROR(ww_signal_ignore(&ignored, WW_SIGSTOP), -EINVAL, "SIGSTOP cannot be handled");
    CHECK_ERROR(ww_signal_ignore(&ignored, 1000), -EINVAL, "no signal");
}

TEST(mask_and_wait) {
    int set[2], back = WW_SIGUSR1;
    ww_signal_mask outer, inner, open;
    ww_signal_info info;
    ww_signal *signals;
    set[0] = WW_SIGUSR1;
    set[1] = rt(2);
    OK(ww_signal_block(set, 1, &outer));
    OK(ww_signal_block(set, 2, &inner));
    CHECK_ERROR(ww_signal_wait(set, 2, &info, WW_NOW), -EAGAIN, "zero");
    CHECK_ERROR(ww_signal_wait(set, 2, &info, SHORT), -ETIMEDOUT, "wait signal:USR1,RTMIN+2: ETIMEDOUT");
    OK(ww_signal_send_value(getpid(), set[1], 4));
    raise_here(WW_SIGUSR1);
    OK(ww_signal_wait(set, 2, &info, GENEROUS));
    CHECK_INT(info.signal, WW_SIGUSR1);
    OK(ww_signal_wait(set, 2, &info, GENEROUS));
    CHECK(info.signal == set[1] && info.value == 4 && info.pid == getpid() && info.uid == getuid());
    OK(ww_signal_restore(&inner)); /* USR1 stays blocked */
    raise_here(WW_SIGUSR1);
    signals = open_one(WW_SIGUSR1);
    CHECK_INT(ww_signal_take(signals, &info, WW_NOW), -EAGAIN);
    OK(ww_signal_unblock(&back, 1, &open));
    OK(ww_signal_take(signals, &info, WW_NOW));
    OK(ww_signal_restore(&open));
    raise_here(WW_SIGUSR1);
    CHECK_INT(ww_signal_take(signals, &info, WW_NOW), -EAGAIN);
    OK(ww_signal_restore(&outer));
    OK(ww_signal_take(signals, &info, WW_NOW));
    ww_signal_close(signals);
    back = WW_SIGKILL;
    CHECK_ERROR(ww_signal_block(&back, 1, NULL), -EINVAL, "SIGKILL cannot be handled, blocked");
    CHECK_ERROR(ww_signal_unblock(&back, 1, NULL), -EINVAL, "SIGKILL cannot be handled, blocked");
    CHECK_ERROR(ww_signal_wait(&back, 1, &info, WW_NOW), -EINVAL, "SIGKILL cannot be");
    CHECK_ERROR(ww_signal_wait(NULL, 0, &info, WW_NOW), -EINVAL, "name at least one");
    CHECK_ERROR(ww_signal_wait(NULL, 1, &info, WW_NOW), -EFAULT, "buffer");
    CHECK_ERROR(ww_signal_wait(set, 2, NULL, WW_NOW), -EFAULT, "output");
    CHECK_ERROR(ww_signal_wait(set, 2, &info, -2), -EINVAL, "WW_FOREVER");
    CHECK_ERROR(ww_signal_block(NULL, SIZE_MAX, NULL), -EFAULT, "buffer");
    CHECK_ERROR(ww_signal_block(set, SIZE_MAX / 4, NULL), -EINVAL, "negative");
    CHECK_ERROR(ww_signal_restore(NULL), -EFAULT, "saved");
    outer.blocked = 9;
    CHECK_ERROR(ww_signal_restore(&outer), -EINVAL, "0 or 1");
}

TEST(refused) {
    ww_signal *none = NULL;
    ww_signal_info info;
    ww_signal_options options = WW_SIGNAL_OPTIONS_INIT;
    ww_eventfd *never;
    uint64_t value;
    int number = WW_SIGKILL, busy = 0;
    CHECK_ERROR(ww_signal_open(&none, &number, 1, NULL), -EINVAL,
                "subscribe signal:KILL: EINVAL: SIGKILL cannot be handled");
    number = WW_SIGSTOP;
    CHECK_ERROR(ww_signal_open(&none, &number, 1, NULL), -EINVAL, "SIGTSTP leaves the choice");
    number = WW_SIGSEGV;
    CHECK_ERROR(ww_signal_open(&none, &number, 1, NULL), -EINVAL, "raw handler");
    number = 33;
    CHECK_ERROR(ww_signal_open(&none, &number, 1, NULL), -EINVAL, "belongs to the C library");
    number = 0;
    CHECK_ERROR(ww_signal_open(&none, &number, 1, NULL), -EINVAL, "0 is no signal");
    CHECK_ERROR(ww_signal_open(&none, &number, 0, NULL), -EINVAL, "name at least one");
    CHECK_ERROR(ww_signal_open(&none, NULL, 3, NULL), -EFAULT, "buffer");
    CHECK_ERROR(ww_signal_open(NULL, &number, 1, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_signal_open_address(&none, "signal:USR1@5", NULL), -EINVAL, "is for sending");
    CHECK_ERROR(ww_signal_open_address(&none, "pipe:", NULL), -EINVAL, "expected signal:");
    CHECK_ERROR(ww_signal_open_address(&none, NULL, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_signal_open_address(NULL, "signal:USR1", NULL), -EFAULT, "output pointer");
    number = WW_SIGUSR1;
    options.capacity = SIZE_MAX;
    CHECK_ERROR(ww_signal_open(&none, &number, 1, &options), -EINVAL, "fs.pipe-max-size=");
    options.unchained = -1;
    CHECK_ERROR(ww_signal_open(&none, &number, 1, &options), -EINVAL, "0 or 1");
    options.reserved = 1;
    CHECK_ERROR(ww_signal_open_address(&none, "signal:USR1", &options), -EINVAL, "reserved");
    CHECK(none == NULL);
    CHECK_ERROR(ww_signal_take(NULL, &info, WW_NOW), -EFAULT, "signal");
    CHECK_ERROR(ww_signal_on(NULL, 1, note, NULL, NULL), -EFAULT, "signal");
    CHECK_ERROR(ww_signal_off(NULL, 1), -EFAULT, "signal");
    CHECK_ERROR(ww_signal_dispatch(NULL, WW_NOW), -EFAULT, "signal");
    CHECK_ERROR(ww_signal_start(NULL), -EFAULT, "signal");
    CHECK_ERROR(ww_signal_stop(NULL), -EFAULT, "signal");
    CHECK_ERROR(ww_signal_lost(NULL), -EFAULT, "signal");
    CHECK_ERROR(ww_signal_fd(NULL), -EFAULT, "signal");
    none = open_one(WW_SIGUSR1);
    CHECK_ERROR(ww_signal_take(none, NULL, WW_NOW), -EFAULT, "output");
    ww_signal_close(none);

    OK(ww_eventfd_open(&never, NULL)); /* once something has waited, one signal is the library's own */
    CHECK_INT(ww_eventfd_take(never, &value, SHORT), -ETIMEDOUT);
    ww_eventfd_close(never);
    for (number = SIGRTMIN; number < SIGRTMAX; number++) {
        ww_signal *signals;
        int code = ww_signal_open(&signals, &number, 1, NULL);
        if (code == 0) {
            ww_signal_close(signals);
            continue;
        }
        CHECK_INT(code, -EBUSY);
        CHECK(strstr(ww_last_error(), "this library has taken") != NULL);
        busy++;
    }
    CHECK_INT(busy, 1);
}

TEST(sending) {
    ww_signal *signals = open_one(WW_SIGUSR1);
    ww_signal_info info;
    pid_t nobody = INT32_MAX;
    OK(ww_signal_send(getpid(), WW_SIGUSR1));
    OK(ww_signal_take(signals, &info, GENEROUS));
    CHECK_INT(info.code, SI_USER);
    setpgid(0, 0);
    OK(ww_signal_send_group(getpid(), WW_SIGUSR1));
    OK(ww_signal_take(signals, &info, GENEROUS));
    ww_signal_close(signals);
    CHECK_ERROR(ww_signal_send(0, WW_SIGTERM), -EINVAL, "kill signal:TERM@0: EINVAL");
    CHECK_ERROR(ww_signal_send(-1, WW_SIGTERM), -EINVAL, "everybody");
    CHECK_ERROR(ww_signal_send(getpid(), 0), -EINVAL, "0 is no signal");
    CHECK_ERROR(ww_signal_send(nobody, WW_SIGTERM), -ESRCH, "there is no process");
    CHECK_ERROR(ww_signal_send_value(nobody, WW_SIGTERM, 1), -ESRCH, "there is no process");
    CHECK_ERROR(ww_signal_send_value(-1, WW_SIGTERM, 1), -EINVAL, "everybody");
    CHECK_ERROR(ww_signal_send_group(1, WW_SIGTERM), -EINVAL, "everybody");
    CHECK_ERROR(ww_signal_send_group(nobody, WW_SIGTERM), -ESRCH, "there is no process");
    CHECK_ERROR(ww_signal_send_thread(getpid(), nobody, WW_SIGTERM), -ESRCH, "there is no process");
    CHECK_ERROR(ww_signal_send_thread(getpid(), 0, WW_SIGTERM), -EINVAL, "a number from 1");
}

TEST(full_queue) {
    struct rlimit limit = {64, 64};
    int number = rt(0), sent = 0, code;
    OK(setrlimit(RLIMIT_SIGPENDING, &limit));
    OK(ww_signal_block(&number, 1, NULL));
    /* The count is of all of the user's processes: another test may make room at any moment. */
    while ((code = ww_signal_send_value(getpid(), number, sent)) == 0 && sent < 100) sent++;
    CHECK_ERROR(code, -EAGAIN, "RLIMIT_SIGPENDING");
}

static pid_t sleeper(void) {
    pid_t pid = fork();
    if (pid == 0)
        for (;;) pause();
    return pid;
}

TEST(target) {
    char address[40];
    ww_signal_target *target, *other, *none = NULL;
    int number = 0, status;
    pid_t pid = sleeper();
    OK(ww_signal_target_open(&target, pid));
    CHECK_INT(ww_signal_target_pid(target), pid);
    CHECK_INT(ww_signal_target_exists(target), 1);
    snprintf(address, sizeof address, "signal:TERM@%d", (int)pid);
    OK(ww_signal_target_open_address(&other, address, &number));
    CHECK_INT(number, WW_SIGTERM);
    OK(ww_signal_target_send(other, number));
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    CHECK_INT(ww_signal_target_exists(target), 0);
    CHECK_ERROR(ww_signal_target_send(target, WW_SIGTERM), -ESRCH, "or not any more");
    CHECK_ERROR(ww_signal_target_send_value(target, WW_SIGTERM, 1), -ESRCH, "or not any more");
    ww_signal_target_close(other);
    ww_signal_target_close(target);
    ww_signal_target_close(NULL);

    pid = sleeper();
    OK(ww_signal_target_open(&target, pid));
    if (strcmp(ww_signal_target_path(target), "pidfd_send_signal") == 0) {
        int copy = dup(ww_signal_target_fd(target));
        OK(ww_signal_target_from_fd(&other, copy));
        CHECK_INT(ww_signal_target_pid(other), pid);
        OK(ww_signal_target_send_value(other, WW_SIGKILL, 1));
        ww_signal_target_close(other);
    } else { /* an old kernel, or valgrind */
        CHECK(strcmp(ww_signal_target_path(target), "kill") == 0);
        CHECK_ERROR(ww_signal_target_fd(target), -ENOTSUP, "no pidfd_open");
        OK(ww_signal_target_send_value(target, WW_SIGKILL, 1));
    }
    reap_killed(pid);
    ww_signal_target_close(target);

    CHECK_ERROR(ww_signal_target_open(&none, 0), -EINVAL, "a number from 1");
    CHECK_ERROR(ww_signal_target_open(&none, INT32_MAX), -ESRCH, "no such process");
    CHECK_ERROR(ww_signal_target_open(NULL, pid), -EFAULT, "output pointer");
    CHECK_ERROR(ww_signal_target_open_address(&none, "signal:TERM", &number), -EINVAL, "signal:NAME@PID");
    CHECK_ERROR(ww_signal_target_open_address(&none, NULL, &number), -EFAULT, "address");
    CHECK_ERROR(ww_signal_target_open_address(NULL, "signal:TERM@1", &number), -EFAULT, "output pointer");
    CHECK_ERROR(ww_signal_target_from_fd(&none, 0), -EBADF, "not a pidfd");
    CHECK_ERROR(ww_signal_target_from_fd(&none, -1), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_signal_target_from_fd(NULL, 0), -EFAULT, "output pointer");
    CHECK(none == NULL && ww_signal_target_path(NULL) == NULL);
    CHECK_ERROR(ww_signal_target_send(NULL, WW_SIGTERM), -EFAULT, "target");
    CHECK_ERROR(ww_signal_target_send_value(NULL, WW_SIGTERM, 0), -EFAULT, "target");
    CHECK_ERROR(ww_signal_target_exists(NULL), -EFAULT, "target");
    CHECK_ERROR(ww_signal_target_pid(NULL), -EFAULT, "target");
    CHECK_ERROR(ww_signal_target_fd(NULL), -EFAULT, "target");
}

TEST(shutdown_once) {
    ww_signal_shutdown *shutdown;
    ww_signal_shutdown_options options = WW_SIGNAL_SHUTDOWN_OPTIONS_INIT;
    ww_cancel *cancel;
    struct pollfd ready;
    int number = WW_SIGKILL, status;
    pid_t pid;
    OK(ww_cancel_new(&cancel));
    options.cancel = cancel;
    OK(ww_signal_shutdown_open(&shutdown, &options));
    CHECK_INT(ww_signal_shutdown_requested(shutdown), 0);
    CHECK_ERROR(ww_signal_shutdown_wait(shutdown, WW_NOW), -EAGAIN, "wait signal:TERM,INT");
    CHECK_ERROR(ww_signal_shutdown_wait(shutdown, SHORT), -ETIMEDOUT, "deadline");
    raise_here(WW_SIGINT);
    raise_here(WW_SIGTERM);
    CHECK_INT(ww_signal_shutdown_requested(shutdown), WW_SIGINT);
    CHECK_INT(ww_signal_shutdown_wait(shutdown, GENEROUS), WW_SIGINT);
    CHECK_INT(ww_signal_shutdown_count(shutdown), 2);
    CHECK_INT(ww_cancel_is_fired(cancel), 1);
    ready.fd = ww_signal_shutdown_fd(shutdown);
    ready.events = POLLIN;
    CHECK_INT(poll(&ready, 1, 0), 1);
    ww_signal_shutdown_close(shutdown);
    ww_signal_shutdown_close(NULL);
    ww_cancel_close(cancel);

    pid = fork();
    if (pid == 0) {
        number = WW_SIGUSR1;
        options.cancel = NULL;
        options.signals = &number;
        options.count = 1;
        options.second_ends = 1;
        OK(ww_signal_shutdown_open(&shutdown, &options));
        raise_here(WW_SIGUSR1);
        CHECK_INT(ww_signal_shutdown_requested(shutdown), WW_SIGUSR1);
        raise_here(WW_SIGUSR1);
        _exit(0);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);

    options.cancel = NULL;
    options.signals = &number;
    options.count = 1;
    CHECK_ERROR(ww_signal_shutdown_open(&shutdown, &options), -EINVAL, "SIGKILL cannot be handled");
    options.count = 0;
    options.second_ends = 2;
    CHECK_ERROR(ww_signal_shutdown_open(&shutdown, &options), -EINVAL, "0 or 1");
    options.second_ends = 0;
    options.unchained = 2;
    CHECK_ERROR(ww_signal_shutdown_open(&shutdown, &options), -EINVAL, "0 or 1");
    CHECK_ERROR(ww_signal_shutdown_open(NULL, NULL), -EFAULT, "output pointer");
    CHECK_ERROR(ww_signal_shutdown_requested(NULL), -EFAULT, "shutdown");
    CHECK_ERROR(ww_signal_shutdown_wait(NULL, WW_NOW), -EFAULT, "shutdown");
    CHECK_ERROR(ww_signal_shutdown_count(NULL), -EFAULT, "shutdown");
    CHECK_ERROR(ww_signal_shutdown_fd(NULL), -EFAULT, "shutdown");
}

static void *take_for_ever(void *signals) {
    ww_signal_info info;
    return (void *)(intptr_t)ww_signal_take(signals, &info, WW_FOREVER);
}

static void *dispatch_for_ever(void *signals) { return (void *)(intptr_t)ww_signal_dispatch(signals, WW_FOREVER); }

static void *wait_for_ever(void *shutdown) {
    return (void *)(intptr_t)ww_signal_shutdown_wait(shutdown, WW_FOREVER);
}

TEST(close_during_a_wait) {
    ww_signal *signals = open_one(WW_SIGUSR1);
    ww_signal_shutdown *shutdown;
    pthread_t threads[3];
    void *result;
    int n;
    OK(ww_signal_shutdown_open(&shutdown, NULL));
    OK(pthread_create(&threads[0], NULL, take_for_ever, signals));
    OK(pthread_create(&threads[1], NULL, dispatch_for_ever, signals));
    OK(pthread_create(&threads[2], NULL, wait_for_ever, shutdown));
    until_blocked(3);
    ww_signal_close(signals);
    ww_signal_shutdown_close(shutdown);
    for (n = 0; n < 3; n++) {
        OK(pthread_join(threads[n], &result));
        CHECK_INT((intptr_t)result, -ECANCELED);
    }
}

TEST(fork_keeps_them_apart) {
    ww_signal *signals = open_one(WW_SIGTERM);
    ww_signal_info info;
    int status;
    pid_t pid = fork();
    if (pid == 0) { /* knows of no subscription */
        raise_here(WW_SIGTERM);
        _exit(0);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    CHECK_INT(ww_signal_take(signals, &info, WW_NOW), -EAGAIN);
    raise_here(WW_SIGTERM);
    pid = fork();
    if (pid == 0) { /* makes it its own */
        CHECK_INT(ww_signal_take(signals, &info, WW_NOW), -EAGAIN);
        raise_here(WW_SIGTERM);
        OK(ww_signal_take(signals, &info, WW_NOW));
        _exit(0);
    }
    reap(pid, 0);
    OK(ww_signal_take(signals, &info, WW_NOW));
    CHECK_INT(info.pid, getpid());
    ww_signal_close(signals);
}

TEST(a_program_that_knows_only_libc) {
    int number = rt(3), n;
    ww_signal *signals = open_one(number);
    ww_signal_info info;
    ww_signal_target *target;
    ww_pipe *ready, *ready_in;
    char pid_text[16], signal_text[16], fd_text[16], byte;
    const char *send[] = {"send", pid_text, signal_text, "50", NULL};
    const char *receive[] = {"receive", signal_text, "50", fd_text, NULL};
    const char *handle[] = {"handle", signal_text, fd_text, NULL};
    pid_t pid;
    snprintf(pid_text, sizeof pid_text, "%d", (int)getpid());
    snprintf(signal_text, sizeof signal_text, "%d", number);
    pid = spawn_peer("signal", send);
    for (n = 0; n < 50; n++) {
        OK(ww_signal_take(signals, &info, GENEROUS));
        CHECK(info.value == n && info.pid == pid && info.uid == getuid() && info.code == SI_QUEUE);
    }
    reap(pid, 0);
    ww_signal_close(signals);

    OK(ww_pipe_open(&ready, &ready_in, NULL));
    OK(ww_pipe_inherit(ready_in));
    snprintf(fd_text, sizeof fd_text, "%d", ww_pipe_fd(ready_in));
    pid = spawn_peer("signal", receive);
    OK(ww_pipe_read_exact(ready, &byte, 1, GENEROUS, NULL));
    OK(ww_signal_target_open(&target, pid));
    for (n = 0; n < 50; n++)
        OK(n % 2 ? ww_signal_send_value(pid, number, n) : ww_signal_target_send_value(target, number, n));
    reap(pid, 0);
    ww_signal_target_close(target);

    pid = spawn_peer("signal", handle);
    OK(ww_pipe_read_exact(ready, &byte, 1, GENEROUS, NULL));
    OK(ww_signal_send(pid, number));
    reap(pid, 0);
    ww_pipe_close(ready);
    ww_pipe_close(ready_in);
}
