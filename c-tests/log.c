/* Logs. */
#include "test.h"

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
