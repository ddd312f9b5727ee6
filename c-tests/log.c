/* Logs. */
#include "test.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>

static char address[200], file[200], text[1 << 16];

/* A log of this test's own, and the path of its file. */
static void name_it(const char *name) {
    static char directory[] = "/tmp/wwtest-log-XXXXXX";
    CHECK(mkdtemp(directory) != NULL);
    snprintf(address, sizeof address, "log:%s/%s", directory, name);
    snprintf(file, sizeof file, "%s/%s.log", directory, name);
}

static const char *read_file(const char *path) {
    FILE *opened = fopen(path, "r");
    size_t length;
    CHECK(opened != NULL);
    length = fread(text, 1, sizeof text - 1, opened);
    text[length] = 0;
    fclose(opened);
    return text;
}

static void clean_up(void) {
    char *end;
    OK(ww_log_remove(address));
    CHECK_INT(unlink(file), 0);
    end = strrchr(file, '/');
    *end = 0;
    CHECK_INT(rmdir(file), 0);
}

TEST(what_is_logged_is_in_the_file) {
    ww_log_options options = WW_LOG_OPTIONS_INIT;
    ww_log_statistics seen;
    ww_log_field fields[2] = {{"who", "you"}, {"why", "because"}};
    ww_log *log, *other;
    char longer[3000];
    name_it("plain");
    options.file = file;
    OK(ww_log_open(&log, address, &options));
    OK(ww_log_open(&other, address, NULL));
    CHECK_INT(ww_log_level(log), WW_LOG_INFO);
    OK(ww_log_info(log, "number %d of %s", 7, "nine"));
    OK(ww_log_debug(log, "not %s", "this"));
    OK(ww_log_set_level(other, WW_LOG_TRACE));
    CHECK_INT(ww_log_is_enabled(log, WW_LOG_DEBUG), 1);
    OK(ww_log_trace(log, "trace"));
    OK(ww_log_debug(log, "debug"));
    OK(ww_log_warn(log, "warn"));
    OK(ww_log_error(log, "error"));
    OK(ww_log_fatal(log, "fatal"));
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    OK(ww_log_info(log, "%s", longer));
    OK(ww_log_write(log, WW_LOG_INFO, "net", NULL, 0, "fields", 6, fields, 2));
    OK(ww_log_drain(log, GENEROUS));
    read_file(file);
    CHECK(strstr(text, "log.c:") != NULL && strstr(text, ": number 7 of nine\n") != NULL);
    CHECK(strstr(text, "not this") == NULL && strstr(text, " TRACE ") != NULL && strstr(text, " FATAL ") != NULL);
    CHECK(strstr(text, longer) != NULL);
    CHECK(strstr(text, " net: fields who=you why=because\n") != NULL);
    OK(ww_log_get_statistics(other, &seen));
    CHECK_INT(seen.written, 8);
    CHECK(seen.queued == 0 && seen.dropped == 0 && seen.bytes == strlen(text) && seen.trouble == 0);
    OK(ww_log_check(log));
    ww_log_close(log);
    OK(ww_log_reopen(other, GENEROUS));
    ww_log_close(other);
    clean_up();
}

static void kill_a_writer(uint32_t through) {
    ww_log_options options = WW_LOG_OPTIONS_INIT;
    ww_log *log;
    int n, records = 0;
    char *line;
    pid_t writer;
    name_it("killed");
    options.file = file;
    options.no_writer = 1;
    options.through = through;
    if (through == WW_LOG_RING) options.capacity = 1 << 20;
    options.largest = 400;
    OK(ww_log_open(&log, address, &options));
    writer = fork();
    if (writer == 0) {
        ww_log_serve(log, WW_FOREVER);
        _exit(0);
    }
    for (n = 0; n < 500; n++) OK(ww_log_info(log, "record %d", n));
    kill(writer, SIGKILL);
    CHECK(waitpid(writer, NULL, 0) == writer);
    OK(ww_log_drain(log, GENEROUS));
    OK(ww_log_serve(log, WW_NOW));
    read_file(file);
    for (line = text; (line = strstr(line, ": record ")) != NULL; line += 9) CHECK_INT(atoi(line + 9), records++);
    CHECK_INT(records, 500);
    ww_log_close(log);
    clean_up();
}

TEST(the_writer_is_killed_and_nothing_is_lost) {
    kill_a_writer(WW_LOG_RING);
}

TEST(nor_is_anything_in_a_posix_queue) {
    kill_a_writer(WW_LOG_MQ);
}

TEST(nor_is_anything_in_a_system_v_queue) {
    kill_a_writer(WW_LOG_SYSV_MQ);
}

TEST(what_records_travel_through_is_the_logs) {
    ww_log_options options = WW_LOG_OPTIONS_INIT;
    ww_log *log, *other;
    name_it("through");
    options.file = file;
    options.through = WW_LOG_MQ;
    OK(ww_log_open(&log, address, &options));
    options.through = WW_LOG_SYSV_MQ;
    CHECK_INT(ww_log_open(&other, address, &options), -EINVAL);
    options.through = WW_LOG_SYSV_MQ + 1;
    CHECK_INT(ww_log_open(&other, address, &options), -EINVAL);
    OK(ww_log_open(&other, address, NULL));
    OK(ww_log_info(other, "through the queue"));
    OK(ww_log_drain(log, GENEROUS));
    CHECK(strstr(read_file(file), ": through the queue\n") != NULL);
    ww_log_close(other);
    ww_log_close(log);
    clean_up();
}

static ww_log *crashing;

static void on_crash(int number, siginfo_t *information, void *context) {
    (void)context;
    ww_log_signal(crashing, number, information->si_addr);
    signal(number, SIG_DFL);
    raise(number);
}

TEST(a_crash_is_logged) {
    ww_log_options options = WW_LOG_OPTIONS_INIT;
    struct sigaction action;
    char before[200];
    int status;
    pid_t child;
    name_it("crash");
    options.file = file;
    options.no_writer = 1;
    OK(ww_log_open(&crashing, address, &options));
    child = fork();
    if (child == 0) {
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_crash;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, NULL);
        ww_log_info(crashing, "before");
        raise(SIGSEGV);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    OK(ww_log_drain(crashing, GENEROUS));
    CHECK(strstr(read_file(file), " FATAL ") != NULL && strstr(text, "signal=11 name=SIGSEGV") != NULL);
    CHECK_INT(ww_log_open(NULL, address, NULL), -EFAULT);
    snprintf(before, sizeof before, "%s", ww_last_error());
    CHECK_INT(ww_log_signal(NULL, SIGSEGV, NULL), -EFAULT);
    CHECK(*before != '\0' && strcmp(ww_last_error(), before) == 0); /* a handler leaves it alone */
    ww_log_close(crashing);
    clean_up();
}

TEST(crashes_are_logged_and_stay_crashes) {
    ww_log_options options = WW_LOG_OPTIONS_INIT;
    int status;
    pid_t child;
    name_it("crashes");
    options.file = file;
    options.no_writer = 1; /* no thread allocates while it forks: the sanitizers' allocator does not survive that */
    OK(ww_log_open(&crashing, address, &options));
    child = fork();
    if (child == 0) {
        ww_log_crashes(crashing);
        abort();
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    OK(ww_log_drain(crashing, GENEROUS));
    CHECK(strstr(read_file(file), " FATAL ") != NULL && strstr(text, "signal=6 name=SIGABRT") != NULL);
    OK(ww_log_crashes(crashing));
    ww_log_close(crashing);
    clean_up();
}

/* How ww_log_info() formats, or as it does where it leaves that to vsnprintf(): 0 if these are the same. */
WW_PRINTF(2, 3)
static int formatted(int *own, const char *format, ...) {
    char ours[1024], theirs[1024];
    va_list values;
    int length;
    va_start(values, format);
    vsnprintf(theirs, sizeof theirs, format, values);
    va_end(values);
    va_start(values, format);
    length = ww_log_format(ours, sizeof ours - 1, format, values);
    va_end(values);
    if (length < 0) return 0;
    ++*own;
    ours[length] = 0;
    if (strcmp(ours, theirs) != 0) fprintf(stderr, "%s instead of %s\n", ours, theirs);
    return strcmp(ours, theirs);
}

TEST(no_log_is_no_silence) {
    CHECK_INT(ww_log_info(NULL, "%d", 1), -EFAULT);
}

TEST(a_message_is_as_printf_makes_it) {
    static const double numbers[] = {0.0,    -0.0,         0.5,           0.05,   0.25,  0.75, -0.95, 99.96,
                                     0.0005, 1e15 + 0.125, 0.99999999999, -1e300, 1e-300};
    uint64_t bits = 88172645463325252u;
    double number;
    int n, own = 0;
    OK(formatted(&own, "plain"));
    OK(formatted(&own, "%s%c%s%%", "hello", 'c', ""));
    OK(formatted(&own, "%d %i %u %x", -7, INT32_MIN, UINT32_MAX, 255u));
    OK(formatted(&own, "%ld %lld %lu %llx", LONG_MIN, 0LL, (unsigned long)-1, 255ULL));
    OK(formatted(&own, "%zd %zu %zx", (ssize_t)-1, sizeof own, (size_t)-1));
    CHECK_INT(own, 5);
    for (n = 0; n < (int)(sizeof numbers / sizeof *numbers); n++)
        OK(formatted(&own, "%.1f %.3f %.9f", numbers[n], numbers[n], numbers[n]));
    CHECK_INT(own, 5 + 11); /* all but the two that are too large, or too small */
    for (n = 0; n < 100000; n++) {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&number, &bits, sizeof number);
        OK(formatted(&own, "%.2f %lu", number, (unsigned long)bits));
        number = (double)(bits >> 20) / 1024 / 8 / (double)(1 << bits % 24); /* many of them halves of what is printed */
        OK(formatted(&own, "%.1f %.2f %.3f %.9f", number, -number, number, number));
    }
    CHECK(own > 100000);
    own = 0;
    OK(formatted(&own, "%lld %ld", LLONG_MIN, LONG_MIN));
    CHECK_INT(own, 1);
    own = 0;
    OK(formatted(&own, "%.1f%.2f%.3f", NAN, INFINITY, -INFINITY));
    OK(formatted(&own, "%5d", 1));
    OK(formatted(&own, "%.3s", "abcd"));
    OK(formatted(&own, "%+d%05.1f%.0f%.12f", 2, 1.5, 2.5, 1.5));
    OK(formatted(&own, "%e%g%o%X", 1.5, 1.5, 8u, 10u));
    CHECK_INT(own, 0); /* left to vsnprintf() */
    CHECK_INT(ww_log_has_decimal_point(), 1);
}

/* How long what ww_log_info() formats by itself is, in so much room. */
static int in_room(size_t room, const char *format, ...) {
    char text[16] = "...............";
    va_list values;
    int length;
    va_start(values, format);
    length = ww_log_format(text, room, format, values);
    va_end(values);
    CHECK(strspn(text + room, ".") == sizeof text - 1 - room); /* nothing behind it */
    return length;
}

TEST(a_message_fills_its_room_and_no_more) {
    size_t room;
    for (room = 0; room < 15; room++) {
        CHECK_INT(in_room(room, "12345"), room < 5 ? -1 : 5);
        CHECK_INT(in_room(room, "%s", "12345"), room < 5 ? -1 : 5);
        CHECK_INT(in_room(room, "1%d5", 234), room < 5 ? -1 : 5);
        CHECK_INT(in_room(room, "%.3f", 1.25), room < 5 ? -1 : 5);
        CHECK_INT(in_room(room, "1%%%c45", '3'), room < 5 ? -1 : 5);
    }
}

TEST(what_does_not_fit_is_refused) {
    ww_log_options options = WW_LOG_OPTIONS_INIT;
    ww_log *log, *other;
    name_it("refused");
    CHECK_ERROR(ww_log_open(&log, address, NULL), -EINVAL, "file=");
    options.file = file;
    options.format = WW_LOG_JSON;
    options.keep = 3;
    OK(ww_log_open(&log, address, &options));
    options.format = WW_LOG_LOGFMT;
    CHECK_ERROR(ww_log_open(&other, address, &options), -EINVAL, "format=Json");
    options.format = 9;
    CHECK_INT(ww_log_open(&other, address, &options), -EINVAL);
    options.format = 0;
    options.sync = WW_LOG_SYNC_INTERVAL;
    CHECK_INT(ww_log_open(&other, address, &options), -EINVAL);
    CHECK_INT(ww_log_set_level(log, 0), -EINVAL);
    CHECK_INT(ww_log_write(log, 9, NULL, NULL, 0, "x", 1, NULL, 0), -EINVAL);
    CHECK_INT(ww_log_write(log, WW_LOG_INFO, NULL, NULL, 0, NULL, 1, NULL, 0), -EFAULT);
    CHECK_INT(ww_log_write(log, WW_LOG_INFO, NULL, NULL, 0, "x", 1, NULL, 1), -EFAULT);
    CHECK_INT(ww_log_check(NULL), -EFAULT);
    CHECK_INT(ww_log_get_statistics(log, NULL), -EFAULT);
    OK(ww_log_info(log, "so that there is a file"));
    OK(ww_log_drain(log, GENEROUS));
    ww_log_close(log);
    ww_log_close(NULL);
    clean_up();
    CHECK_INT(ww_log_remove(address), -ENOENT);
}
