/* Every options struct, given to every function that takes it: what this version does not know is refused, with a text. */
#include "test.h"

/* A struct of a later version: what is behind the known members is not known here. */
#define LATER(type)                                                                                                    \
    struct {                                                                                                           \
        type known;                                                                                                    \
        uint64_t unknown;                                                                                              \
    }

/* The call, which uses `given`, is refused for a size that was not set, one that is absurd, and an unknown member; a
 * later struct with nothing unknown in it, and an earlier one, get past that: the members that are known are looked at. */
#define CHECK_SIZES(type, call)                                                                                        \
    do {                                                                                                               \
        LATER(type) later;                                                                                             \
        const type *given = &later.known;                                                                              \
        memset(&later, 0, sizeof later);                                                                               \
        CHECK_ERROR(call, -EINVAL, "size member is not set");                                                          \
        later.known.size = sizeof(size_t) - 1;                                                                         \
        CHECK_ERROR(call, -EINVAL, "WW_");                                                                             \
        later.known.size = SIZE_MAX;                                                                                   \
        CHECK_ERROR(call, -EINVAL, "size member is not set");                                                          \
        later.known.size = sizeof later;                                                                               \
        later.unknown = 1;                                                                                             \
        CHECK_ERROR(call, -EINVAL, #type ": EINVAL: options that this version of the library does not know are set");  \
    } while (0)

/* A member of this value is refused, with these words. */
#define CHECK_MEMBER(type, init, member, value, words, call)                                                           \
    do {                                                                                                               \
        type options = init;                                                                                           \
        const type *given = &options;                                                                                  \
        options.member = value;                                                                                        \
        CHECK_ERROR(call, -EINVAL, words);                                                                             \
    } while (0)

TEST(sockets) {
    ww_socket *socket;
    ww_listener *listener;
#define SOCKET(member, words, call) CHECK_MEMBER(ww_socket_options, WW_SOCKET_OPTIONS_INIT, member, 2, words, call)
    CHECK_SIZES(ww_socket_options, ww_socket_connect(&socket, "unix:@ww-none", given, WW_NOW));
    CHECK_SIZES(ww_socket_options, ww_socket_bind(&socket, "udp://127.0.0.1:0", given, WW_NOW));
    CHECK_SIZES(ww_socket_options, ww_listener_open(&listener, "tcp://127.0.0.1:0", given, WW_NOW));
    SOCKET(nodelay, "0 or 1", ww_socket_connect(&socket, "tcp://127.0.0.1:1", given, WW_NOW));
    SOCKET(keepalive, "0 or 1", ww_socket_connect(&socket, "tcp://127.0.0.1:1", given, WW_NOW));
    SOCKET(any_user, "0 or 1", ww_listener_open(&listener, "unix:@ww-none", given, WW_NOW));
    SOCKET(reuse, "1", ww_listener_open(&listener, "tcp://127.0.0.1:0", given, WW_NOW));
    CHECK_MEMBER(ww_socket_options, WW_SOCKET_OPTIONS_INIT, mode, 01000, "0777",
                 ww_listener_open(&listener, "unix:@ww-none", given, WW_NOW));
}

TEST(files) {
    ww_file *file;
    ww_mapping *mapping;
    char name[] = "/tmp/wwoptions-XXXXXX", address[64];
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    snprintf(address, sizeof address, "file:%s", name);
    CHECK_SIZES(ww_file_replace_options, ww_file_replace(address, "x", 1, given));
    CHECK_SIZES(ww_file_options, ww_file_open(&file, address, given));
    CHECK_MEMBER(ww_file_replace_options, WW_FILE_REPLACE_OPTIONS_INIT, durability, 3, "WW_FILE_DURABLE",
                 ww_file_replace(address, "x", 1, given));
    CHECK_MEMBER(ww_file_options, WW_FILE_OPTIONS_INIT, access, 3, "WW_FILE_READ", ww_file_open(&file, address, given));
    CHECK_MEMBER(ww_file_options, WW_FILE_OPTIONS_INIT, create, 3, "WW_FILE_CREATE", ww_file_open(&file, address, given));
    CHECK_MEMBER(ww_file_options, WW_FILE_OPTIONS_INIT, reserved, 1, "reserved", ww_file_open(&file, address, given));
    OK(ww_file_from_fd(&file, fd));
    OK(ww_file_grow(file, 4096));
    CHECK_SIZES(ww_map_options, ww_file_map(file, &mapping, given));
#define MAP(member, words)                                                                                             \
    CHECK_MEMBER(ww_map_options, WW_MAP_OPTIONS_INIT, member, 2, words, ww_file_map(file, &mapping, given))
    MAP(read_only, "0 or 1");
    MAP(populate, "0 or 1");
    MAP(lock, "0 or 1");
    MAP(reserved, "reserved");
    ww_file_close(file);
    OK(ww_file_remove(address));
}

TEST(eventfds_and_pipes) {
    ww_eventfd *events;
    ww_pipe *reader, *writer;
    ww_fifo *fifo;
    CHECK_SIZES(ww_eventfd_options, ww_eventfd_open(&events, given));
    CHECK_MEMBER(ww_eventfd_options, WW_EVENTFD_OPTIONS_INIT, semaphore, 2, "0 or 1", ww_eventfd_open(&events, given));
    CHECK_MEMBER(ww_eventfd_options, WW_EVENTFD_OPTIONS_INIT, reserved, 1, "reserved", ww_eventfd_open(&events, given));
    CHECK_SIZES(ww_pipe_options, ww_pipe_open(&reader, &writer, given));
    CHECK_MEMBER(ww_pipe_options, WW_PIPE_OPTIONS_INIT, packet, 2, "0 or 1", ww_pipe_open(&reader, &writer, given));
    CHECK_MEMBER(ww_pipe_options, WW_PIPE_OPTIONS_INIT, reserved, 1, "reserved", ww_pipe_open(&reader, &writer, given));
    CHECK_SIZES(ww_fifo_options, ww_fifo_create("fifo:/tmp/ww-never", given));
    CHECK_SIZES(ww_fifo_options, ww_fifo_open_reader(&fifo, "fifo:/tmp/ww-never", given, WW_NOW));
    CHECK_SIZES(ww_fifo_options, ww_fifo_open_writer(&fifo, "fifo:/tmp/ww-never", given, WW_NOW));
#define FIFO(member, words)                                                                                            \
    CHECK_MEMBER(ww_fifo_options, WW_FIFO_OPTIONS_INIT, member, 2, words,                                              \
                 ww_fifo_open_writer(&fifo, "fifo:/tmp/ww-never", given, WW_NOW))
    FIFO(create, "0 or 1");
    FIFO(keep_open, "0 or 1");
    FIFO(reserved, "reserved");
}

TEST(signals) {
    ww_signal *signals;
    ww_signal_shutdown *shutdown;
    int number = WW_SIGUSR1;
    CHECK_SIZES(ww_signal_options, ww_signal_open(&signals, &number, 1, given));
    CHECK_SIZES(ww_signal_options, ww_signal_open_address(&signals, "signal:USR1", given));
    CHECK_SIZES(ww_signal_shutdown_options, ww_signal_shutdown_open(&shutdown, given));
    CHECK_MEMBER(ww_signal_options, WW_SIGNAL_OPTIONS_INIT, unchained, 2, "0 or 1",
                 ww_signal_open(&signals, &number, 1, given));
    CHECK_MEMBER(ww_signal_options, WW_SIGNAL_OPTIONS_INIT, reserved, 1, "reserved",
                 ww_signal_open(&signals, &number, 1, given));
    CHECK_MEMBER(ww_signal_shutdown_options, WW_SIGNAL_SHUTDOWN_OPTIONS_INIT, second_ends, 2, "0 or 1",
                 ww_signal_shutdown_open(&shutdown, given));
    CHECK_MEMBER(ww_signal_shutdown_options, WW_SIGNAL_SHUTDOWN_OPTIONS_INIT, unchained, 2, "0 or 1",
                 ww_signal_shutdown_open(&shutdown, given));
    CHECK_ERROR(ww_signal_unblock(NULL, 1, NULL), -EFAULT, "buffer");
}

TEST(memory) {
    ww_sysv_shm *segment;
    ww_shm *shm;
    ww_memfd *memfd;
#define MEMORY(member, call) CHECK_MEMBER(ww_memory_options, WW_MEMORY_OPTIONS_INIT, member, 2, "0 or 1", call)
    CHECK_SIZES(ww_memory_options, ww_sysv_shm_create(&segment, "sysv-shm:private", given));
    CHECK_SIZES(ww_memory_options, ww_sysv_shm_open(&segment, "sysv-shm:0x1", given));
    CHECK_SIZES(ww_memory_options, ww_sysv_shm_open_or_create(&segment, "sysv-shm:0x1", given));
    CHECK_SIZES(ww_memory_options, ww_sysv_shm_from_id(&segment, 0, given));
    CHECK_SIZES(ww_memory_options, ww_shm_create(&shm, "shm:/ww-never", given));
    CHECK_SIZES(ww_memory_options, ww_shm_open(&shm, "shm:/ww-never", given, WW_NOW));
    CHECK_SIZES(ww_memory_options, ww_shm_open_or_create(&shm, "shm:/ww-never", given, WW_NOW));
    CHECK_SIZES(ww_memory_options, ww_shm_from_fd(&shm, 0, given));
    CHECK_SIZES(ww_memory_options, ww_memfd_create(&memfd, "memfd:", given));
    CHECK_SIZES(ww_memory_options, ww_memfd_from_fd(&memfd, 0, 0, given));
    MEMORY(read_only, ww_memfd_create(&memfd, "memfd:", given));
    MEMORY(huge_pages, ww_memfd_create(&memfd, "memfd:", given));
    MEMORY(populate, ww_shm_create(&shm, "shm:/ww-never", given));
    MEMORY(lock, ww_shm_create(&shm, "shm:/ww-never", given));
    MEMORY(sparse, ww_sysv_shm_create(&segment, "sysv-shm:private", given));
}

TEST(queues) {
    ww_sysv_mq *sysv;
    ww_mq *queue;
    CHECK_SIZES(ww_sysv_mq_options, ww_sysv_mq_open(&sysv, "sysv-mq:0x1", given));
    CHECK_SIZES(ww_sysv_mq_options, ww_sysv_mq_create(&sysv, "sysv-mq:private", given));
    CHECK_SIZES(ww_sysv_mq_options, ww_sysv_mq_open_or_create(&sysv, "sysv-mq:0x1", given));
    CHECK_SIZES(ww_mq_options, ww_mq_open(&queue, "mq:/ww-never", given));
    CHECK_SIZES(ww_mq_options, ww_mq_create(&queue, "mq:/ww-never", given));
    CHECK_SIZES(ww_mq_options, ww_mq_open_or_create(&queue, "mq:/ww-never", given));
    CHECK_MEMBER(ww_sysv_mq_options, WW_SYSV_MQ_OPTIONS_INIT, access, 3, "WW_MQ_BOTH",
                 ww_sysv_mq_create(&sysv, "sysv-mq:private", given));
    CHECK_MEMBER(ww_sysv_mq_options, WW_SYSV_MQ_OPTIONS_INIT, mode, 01000, "0777",
                 ww_sysv_mq_create(&sysv, "sysv-mq:private", given));
    CHECK_MEMBER(ww_mq_options, WW_MQ_OPTIONS_INIT, access, 3, "WW_MQ_BOTH", ww_mq_create(&queue, "mq:/ww-never", given));
    CHECK_MEMBER(ww_mq_options, WW_MQ_OPTIONS_INIT, mode, 01000, "0777", ww_mq_create(&queue, "mq:/ww-never", given));
    CHECK_ERROR(ww_sysv_mq_doorbell(NULL, 0, 0), -EFAULT, "queue");
}

/* What one kind of queue knows, the other refuses instead of taking it for something else. */
TEST(flags_of_the_other_queue) {
    char name[80];
    ww_mq *queue;
    snprintf(name, sizeof name, "mq:/%s", fresh_name("options"));
    OK(ww_mq_create(&queue, name, NULL));
    OK(ww_mq_remove(name));
    CHECK_ERROR(ww_mq_recv(queue, WW_SYSV_MQ_ALL_BUT, NULL, 0, WW_NOW, NULL, NULL), -EINVAL, "WW_MQ_CUT");
    ww_mq_close(queue);
}

TEST(semaphores) {
    ww_sysv_sem *set;
    ww_sem *sem;
    CHECK_SIZES(ww_sysv_sem_options, ww_sysv_sem_create(&set, "sysv-sem:private", given));
    CHECK_SIZES(ww_sysv_sem_options, ww_sysv_sem_open_or_create(&set, "sysv-sem:0x1", given));
    CHECK_SIZES(ww_sem_options, ww_sem_create(&sem, "sem:/ww-never", given));
    CHECK_SIZES(ww_sem_options, ww_sem_open_or_create(&sem, "sem:/ww-never", given));
    CHECK_MEMBER(ww_sem_options, WW_SEM_OPTIONS_INIT, mode, 01000, "0777", ww_sem_create(&sem, "sem:/ww-never", given));
    CHECK_MEMBER(ww_sysv_sem_options, WW_SYSV_SEM_OPTIONS_INIT, mode, 01000, "0777",
                 ww_sysv_sem_create(&set, "sysv-sem:private", given));
    CHECK_MEMBER(ww_sysv_sem_options, WW_SYSV_SEM_OPTIONS_INIT, settle_ns, -1, "settle",
                 ww_sysv_sem_create(&set, "sysv-sem:private", given));
}

/* A struct of an earlier version, which ends before the members that came later: these are 0. */
TEST(earlier_struct) {
    ww_eventfd_options options = WW_EVENTFD_OPTIONS_INIT;
    ww_eventfd *events;
    uint64_t value;
    options.size = offsetof(ww_eventfd_options, semaphore);
    options.initial = 3;
    options.semaphore = 77; /* not part of it */
    OK(ww_eventfd_open(&events, &options));
    OK(ww_eventfd_take(events, &value, WW_NOW));
    CHECK_INT(value, 3);
    ww_eventfd_close(events);
}
