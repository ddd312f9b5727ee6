/* What belongs to no mechanism: version, errors, addresses, cancellation. */
#include "test.h"

TEST(version_and_paths) {
    CHECK(strcmp(ww_version(), "0.1.0") == 0 || strlen(ww_version()) >= 5);
    CHECK(strstr(ww_paths(), "write without SIGPIPE: ") != NULL);
    CHECK(strcmp(ww_last_error(), "") == 0);
}

/* Whether a way was taken for this, either way. */
static int known(const char *what) {
    const char *line = strstr(ww_paths(), what);
    CHECK(line != NULL && line[strlen(what)] == ':');
    return strncmp(line + strlen(what), ": not yet probed", 16) != 0;
}

TEST(paths_tell_what_was_taken) {
    ww_memory_options options = WW_MEMORY_OPTIONS_INIT;
    char directory[] = "/tmp/wwpaths-XXXXXX", file[64], memory[80];
    ww_eventfd *events;
    ww_pipe *reader, *writer;
    ww_shm *shm;
    uint64_t value;
    CHECK(!known("write without SIGPIPE") && !known("end of a wait") && !known("all pages present"));
    CHECK(!known("name of POSIX shared memory") && !known("new content of a file") && !known("end of a child"));

    OK(ww_pipe_open(&reader, &writer, NULL));
    OK(ww_pipe_write_all(writer, "x", 1, WW_NOW, NULL));
    ww_pipe_close(reader);
    ww_pipe_close(writer);
    OK(ww_eventfd_open(&events, NULL));
    CHECK_INT(ww_eventfd_take(events, &value, SHORT), -ETIMEDOUT);
    ww_eventfd_close(events);
    snprintf(memory, sizeof memory, "shm:/%s", fresh_name("paths"));
    options.length = 4096;
    options.populate = 1;
    OK(ww_shm_create(&shm, memory, &options));
    OK(ww_shm_unlink(shm));
    ww_shm_close(shm);
    CHECK(mkdtemp(directory) != NULL);
    snprintf(file, sizeof file, "file:%s/f", directory);
    OK(ww_file_replace(file, "x", 1, NULL));
    OK(ww_file_remove(file));
    OK(rmdir(directory));

    CHECK(known("write without SIGPIPE") && known("end of a wait") && known("all pages present"));
    CHECK(known("name of POSIX shared memory") && known("new content of a file") && !known("end of a child"));
}

TEST(durations) {
    CHECK(WW_SEC(2) == 2000000000 && WW_MS(3) == 3000000 && WW_SEC(0.5) == 500000000 && WW_MS(0.25) == 250000);
    CHECK(WW_SEC(1 + 1) == WW_SEC(2) && sizeof WW_MS(1) == 8);
}

TEST(addresses) {
    ww_address *address, *same;
    char text[64];
    size_t true_size = 0;
    OK(ww_address_parse(&address, "sysv-mq:a%62c#65?mode=0600"));
    CHECK(strcmp(ww_address_scheme(address), "sysv-mq") == 0);
    CHECK_INT(ww_address_name(address, text, sizeof text, NULL), 3);
    CHECK(strcmp(text, "abc") == 0);
    CHECK_INT(ww_address_id(address), 65);
    CHECK_INT(ww_address_option(address, "mode", text, sizeof text, NULL), 4);
    CHECK(strcmp(text, "0600") == 0);
    CHECK_ERROR(ww_address_option(address, "size", text, sizeof text, NULL), -ENOENT, "no option size");
    CHECK_INT(ww_address_print(address, text, sizeof text, NULL), 24);
    CHECK(strcmp(text, "sysv-mq:abc#65?mode=0600") == 0);
    CHECK_ERROR(ww_address_print(address, text, 24, &true_size), -EMSGSIZE, "24 bytes and a NUL");
    CHECK_INT(true_size, 24);
    OK(ww_address_parse(&same, text));
    CHECK_INT(ww_address_equals(address, same), 1);
    ww_address_close(same);
    OK(ww_address_parse(&same, "pipe:"));
    CHECK_INT(ww_address_equals(address, same), 0);
    CHECK_INT(ww_address_id(same), 0);
    ww_address_close(same);
    ww_address_close(address);
}

TEST(bad_addresses) {
    ww_address *address = NULL;
    char text[8];
    CHECK_ERROR(ww_address_parse(&address, "pigeon:x"), -EINVAL, "at byte 0: expected one of the schemes");
    CHECK_ERROR(ww_address_parse(&address, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_address_parse(NULL, "pipe:"), -EFAULT, "output pointer");
    CHECK(address == NULL);
    CHECK_ERROR(ww_address_print(NULL, text, sizeof text, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_address_name(NULL, text, sizeof text, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_address_id(NULL), -EFAULT, "address");
    CHECK_ERROR(ww_address_option(NULL, "mode", text, sizeof text, NULL), -EFAULT, "address");
    CHECK_ERROR(ww_address_equals(NULL, NULL), -EFAULT, "address");
    CHECK(ww_address_scheme(NULL) == NULL);
    OK(ww_address_parse(&address, "pipe:"));
    CHECK_ERROR(ww_address_option(address, NULL, text, sizeof text, NULL), -EFAULT, "key");
    CHECK_ERROR(ww_address_print(address, NULL, 9, NULL), -EFAULT, "buffer");
    CHECK_INT(ww_address_print(address, NULL, 0, NULL), -EMSGSIZE);
    ww_address_close(address);
    ww_address_close(NULL);
}

/* The table that the Rust and Python tests read as well. */
TEST(table_of_examples) {
    char line[512], *fields[5], printed[256];
    int valid = 0, invalid = 0;
    FILE *table = fopen("tests/address_examples.tsv", "r");
    CHECK(table != NULL);
    while (fgets(line, sizeof line, table) != NULL) {
        char *rest = line;
        ww_address *address;
        int n = 0;
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#') continue;
        while (n < 5 && rest != NULL) fields[n++] = strsep(&rest, "\t");
        if (strcmp(fields[0], "valid") == 0) {
            OK(ww_address_parse(&address, fields[1]));
            CHECK(ww_address_print(address, printed, sizeof printed, NULL) > 0);
            CHECK(strcmp(printed, fields[n > 2 ? 2 : 1]) == 0);
            ww_address_close(address);
            valid++;
        } else {
            CHECK_INT(n, 5);
            CHECK_ERROR(ww_address_parse(&address, fields[1]), -EINVAL, fields[4]);
            invalid++;
        }
    }
    fclose(table);
    CHECK(valid >= 30 && invalid >= 30);
}

struct waiting {
    ww_cancel *cancel;
    ww_eventfd *events;
    int entered;
};

static void *wait_in_scope(void *argument) {
    struct waiting *waiting = argument;
    uint64_t value;
    long result;
    if (ww_cancel_enter(waiting->cancel) != 0) return (void *)1;
    __atomic_store_n(&waiting->entered, 1, __ATOMIC_SEQ_CST);
    result = ww_eventfd_take(waiting->events, &value, WW_FOREVER);
    if (ww_cancel_leave(waiting->cancel) != 0) return (void *)2;
    return (void *)result;
}

TEST(cancel_from_another_thread) {
    struct waiting waiting = {NULL, NULL, 0};
    pthread_t thread;
    void *result;
    OK(ww_cancel_new(&waiting.cancel));
    OK(ww_eventfd_open(&waiting.events, NULL));
    OK(pthread_create(&thread, NULL, wait_in_scope, &waiting));
    while (!__atomic_load_n(&waiting.entered, __ATOMIC_SEQ_CST)) sleep_ms(1);
    CHECK_INT(ww_cancel_is_fired(waiting.cancel), 0);
    OK(ww_cancel_fire(waiting.cancel));
    CHECK_INT(ww_cancel_is_fired(waiting.cancel), 1);
    OK(pthread_join(thread, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    OK(ww_cancel_reset(waiting.cancel));
    CHECK_INT(ww_cancel_is_fired(waiting.cancel), 0);
    ww_eventfd_close(waiting.events);
    ww_cancel_close(waiting.cancel);
}

#include <signal.h>

static ww_cancel *in_handler;
static void on_alarm(int signal) {
    (void)signal;
    ww_cancel_fire(in_handler);
}

TEST(cancel_from_a_signal_handler) {
    ww_eventfd *events;
    uint64_t value;
    OK(ww_cancel_new(&in_handler));
    OK(ww_eventfd_open(&events, NULL));
    OK(ww_cancel_enter(in_handler));
    signal(SIGUSR1, on_alarm);
    raise(SIGUSR1);
    CHECK_ERROR(ww_eventfd_take(events, &value, WW_FOREVER), -ECANCELED, "cancelled");
    OK(ww_eventfd_add(events, 1, WW_FOREVER)); /* need not wait */
    OK(ww_cancel_leave(in_handler));
    CHECK_ERROR(ww_cancel_leave(in_handler), -EINVAL, "not in the cancel's scope");
    ww_eventfd_close(events);
    ww_cancel_close(in_handler);
}

TEST(cancel_bad_input) {
    CHECK_ERROR(ww_cancel_new(NULL), -EFAULT, "output pointer");
    CHECK_INT(ww_cancel_fire(NULL), -EFAULT);
    CHECK_INT(ww_cancel_is_fired(NULL), -EFAULT);
    CHECK_ERROR(ww_cancel_enter(NULL), -EFAULT, "cancel");
    CHECK_ERROR(ww_cancel_leave(NULL), -EFAULT, "cancel");
    CHECK_ERROR(ww_cancel_reset(NULL), -EFAULT, "cancel");
    ww_cancel_close(NULL);
}
