/* Ending the waits of threads that call again and again, so that they can be joined before the handle is closed. */
#include "test.h"

struct looping {
    long (*call)(void *);
    void *handle;
    long result;
};

static void *loop(void *given) {
    struct looping *looping = given;
    do looping->result = looping->call(looping->handle);
    while (looping->result >= 0);
    return NULL;
}

/* A thread that calls until it fails returns once the waits are ended. */
static void check_other(long (*call)(void *), int (*end)(void *), void *handle) {
    struct looping looping = {call, handle, 0};
    pthread_t thread;
    CHECK_INT(end(NULL), -EFAULT);
    CHECK_INT(pthread_create(&thread, NULL, loop, &looping), 0);
    until_blocked(1);
    OK(end(handle));
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(looping.result, -ECANCELED);
}

/* The same, and this thread need not begin to wait either. */
static void check(long (*call)(void *), int (*end)(void *), void *handle) {
    check_other(call, end, handle);
    CHECK_INT(call(handle), -ECANCELED);
}

static char room[8192];

/* How threads wait on a kind of handle, for check(). */
#define WAITS(noun, wait)                                                                                              \
    static long noun##_waits(void *given) {                                                                            \
        ww_##noun *handle = given;                                                                                     \
        return (long)(wait);                                                                                           \
    }                                                                                                                  \
    static int noun##_end_waits(void *given) { return ww_##noun##_end_waits(given); }
#define CHECK_ENDS(noun, handle) check(noun##_waits, noun##_end_waits, handle)

WAITS(ring, ww_ring_recv(handle, room, sizeof room, GENEROUS, NULL, NULL))
WAITS(ring_consumer, ww_ring_consumer_recv(handle, room, sizeof room, GENEROUS, NULL, NULL))
WAITS(ring_producer, ww_ring_producer_send(handle, room, 64, GENEROUS))

TEST(rings) {
    ww_ring *ring;
    ww_ring_producer *producer;
    ww_ring_consumer *consumer;
    char address[80];
    OK(ww_ring_anonymous(&ring, NULL));
    CHECK_ENDS(ring, ring);
    ww_ring_close(ring);
    snprintf(address, sizeof address, "ring:%s", fresh_name("ends"));
    OK(ww_ring_producer_open(&producer, address, NULL));
    OK(ww_ring_consumer_open(&consumer, address, NULL));
    CHECK_ENDS(ring_consumer, consumer);
    CHECK_ENDS(ring_producer, producer);
    ww_ring_producer_close(producer);
    ww_ring_consumer_close(consumer);
    OK(ww_ring_remove(address));
}

WAITS(topic, ww_topic_publish(handle, room, 64, GENEROUS, NULL))
WAITS(subscription, ww_subscription_recv(handle, room, sizeof room, GENEROUS, NULL, NULL))
WAITS(cell, ww_cell_wait(handle, 0, GENEROUS, NULL))

TEST(topics_and_cells) {
    ww_topic *topic;
    ww_subscription *subscription, *stuck;
    ww_cell *cell;
    OK(ww_topic_anonymous(&topic, NULL));
    OK(ww_topic_subscribe(topic, &subscription, NULL));
    CHECK_ENDS(subscription, subscription);
    ww_subscription_close(subscription);
    OK(ww_topic_subscribe(topic, &stuck, NULL));
    CHECK_ENDS(topic, topic);
    ww_subscription_close(stuck);
    ww_topic_close(topic);
    OK(ww_cell_anonymous(&cell, NULL));
    CHECK_ENDS(cell, cell);
    ww_cell_close(cell);
}

static ww_mutex *guard;

static long condition_wait(ww_condition *condition) {
    int result = ww_mutex_lock(guard, GENEROUS);
    if (result != 0) return 1000 + result; /* no end of the waits: it would loop for ever */
    result = ww_condition_wait(condition, guard, GENEROUS);
    OK(ww_mutex_unlock(guard));
    return result;
}

WAITS(mutex, ww_mutex_lock(handle, GENEROUS))
WAITS(condition, condition_wait(handle))
WAITS(rwlock, ww_rwlock_lock_write(handle, GENEROUS))
WAITS(permits, ww_permits_acquire(handle, 1, GENEROUS))
WAITS(barrier, ww_barrier_wait(handle, GENEROUS))
WAITS(event, ww_event_wait(handle, GENEROUS))

TEST(condition_barrier_event_permits) {
    ww_condition *condition;
    ww_permits *permits;
    ww_barrier *barrier;
    ww_event *event;
    OK(ww_mutex_anonymous(&guard, NULL));
    OK(ww_condition_anonymous(&condition, NULL));
    CHECK_ENDS(condition, condition);
    ww_condition_close(condition);
    ww_mutex_close(guard);
    OK(ww_permits_anonymous(&permits, NULL));
    CHECK_ENDS(permits, permits);
    ww_permits_close(permits);
    OK(ww_barrier_anonymous(&barrier, NULL));
    CHECK_ENDS(barrier, barrier);
    ww_barrier_close(barrier);
    OK(ww_event_anonymous(&event, NULL));
    CHECK_ENDS(event, event);
    ww_event_close(event);
}

TEST(locks) {
    ww_mutex *mutex;
    ww_rwlock *lock;
    OK(ww_mutex_anonymous(&mutex, NULL));
    OK(ww_mutex_lock(mutex, WW_NOW));
    check_other(mutex_waits, mutex_end_waits, mutex);
    OK(ww_mutex_unlock(mutex));
    OK(ww_mutex_lock(mutex, GENEROUS)); /* which needs no wait */
    OK(ww_mutex_unlock(mutex));
    ww_mutex_close(mutex);
    OK(ww_rwlock_anonymous(&lock, NULL));
    OK(ww_rwlock_lock_write(lock, WW_NOW));
    check_other(rwlock_waits, rwlock_end_waits, lock);
    OK(ww_rwlock_unlock_write(lock));
    ww_rwlock_close(lock);
}

static long lease_taken(ww_lease_pool *pool) {
    ww_lease *lease;
    return ww_lease_pool_acquire(pool, &lease, NULL, NULL, GENEROUS);
}

static long called(ww_caller *caller) {
    ww_answer *answer;
    return ww_caller_call(caller, &answer, "?", 1, GENEROUS);
}

static int echo(const void *data, size_t length, ww_answer *answer, void *user) {
    (void)user;
    return ww_answer_put(answer, data, length);
}

WAITS(lease_pool, lease_taken(handle))
WAITS(caller, called(handle))
WAITS(server, ww_server_serve_one(handle, echo, NULL, GENEROUS))

TEST(leases_and_calls) {
    ww_lease_pool_options options = WW_LEASE_POOL_OPTIONS_INIT;
    ww_lease_pool *pool;
    ww_lease *lease;
    ww_caller *caller;
    ww_server *server;
    char address[80];
    options.slots = 1;
    OK(ww_lease_pool_anonymous(&pool, &options));
    OK(ww_lease_pool_acquire(pool, &lease, NULL, NULL, WW_NOW));
    CHECK_ENDS(lease_pool, pool);
    ww_lease_close(lease);
    ww_lease_pool_close(pool);
    snprintf(address, sizeof address, "ring:%s", fresh_name("ends"));
    OK(ww_server_open(&server, address, WW_NOW));
    OK(ww_caller_open(&caller, address, WW_NOW));
    CHECK_ENDS(caller, caller);
    ww_caller_close(caller);
    OK(ww_server_serve_one(server, echo, NULL, WW_NOW));
    OK(ww_server_serve_one(server, echo, NULL, WW_NOW)); /* the question after the end */
    CHECK_ENDS(server, server);
    ww_server_close(server);
    OK(ww_channel_remove(address));
}

WAITS(eventfd, ww_eventfd_take(handle, &(uint64_t){0}, GENEROUS))
WAITS(pipe, ww_pipe_read(handle, room, sizeof room, GENEROUS))
WAITS(socket, ww_socket_recv(handle, room, sizeof room, GENEROUS, NULL))
WAITS(waitset, ww_waitset_wait(handle, &(ww_waitset_event){0}, 1, GENEROUS))
WAITS(mq, ww_mq_recv(handle, 0, room, sizeof room, GENEROUS, NULL, NULL))
WAITS(sysv_mq, ww_sysv_mq_recv(handle, 0, 0, room, sizeof room, GENEROUS, NULL, NULL))
WAITS(sem, ww_sem_acquire(handle, GENEROUS))
WAITS(sysv_sem, ww_sysv_sem_acquire(handle, 0, GENEROUS))

TEST(kernel_objects) {
    ww_eventfd *events;
    ww_pipe *reader, *writer;
    ww_socket *one, *other;
    ww_waitset *set;
    ww_sem *sem;
    ww_sysv_mq *queue;
    ww_sysv_sem *semaphores;
    ww_mq *named;
    char address[80];
    OK(ww_eventfd_open(&events, NULL));
    CHECK_ENDS(eventfd, events);
    ww_eventfd_close(events);
    OK(ww_pipe_open(&reader, &writer, NULL));
    CHECK_ENDS(pipe, reader);
    ww_pipe_close(reader);
    ww_pipe_close(writer);
    OK(ww_socket_pair(&one, &other, "unix"));
    CHECK_ENDS(socket, one);
    ww_socket_close(one);
    ww_socket_close(other);
    OK(ww_waitset_new(&set));
    CHECK_ENDS(waitset, set);
    ww_waitset_close(set);
    snprintf(address, sizeof address, "sem:/%s", fresh_name("ends"));
    OK(ww_sem_create(&sem, address, NULL));
    CHECK_ENDS(sem, sem);
    ww_sem_close(sem);
    OK(ww_sem_remove(address));
    OK(ww_sysv_mq_create(&queue, "sysv-mq:private", NULL));
    CHECK_ENDS(sysv_mq, queue);
    OK(ww_sysv_mq_unlink(queue));
    ww_sysv_mq_close(queue);
    OK(ww_sysv_sem_create(&semaphores, "sysv-sem:private", NULL));
    CHECK_ENDS(sysv_sem, semaphores);
    OK(ww_sysv_sem_unlink(semaphores));
    ww_sysv_sem_close(semaphores);
    snprintf(address, sizeof address, "mq:/%s?depth=4&size=512", fresh_name("ends"));
    OK(ww_mq_create(&named, address, NULL));
    CHECK_ENDS(mq, named);
    ww_mq_close(named);
    OK(ww_mq_remove(address));
}

static ww_filelock *last_lock;

static long file_locked(ww_file *file) {
    return ww_file_lock(file, &last_lock, WW_FILE_EXCLUSIVE, 0, 0, GENEROUS);
}

static long accepted(ww_listener *listener) {
    ww_socket *socket;
    return ww_listener_accept(listener, &socket, GENEROUS);
}

WAITS(file, file_locked(handle))
WAITS(filewatch, ww_filewatch_wait(handle, GENEROUS))
WAITS(fifo, ww_fifo_read(handle, room, sizeof room, GENEROUS))
WAITS(listener, accepted(handle))

TEST(file_locks) {
    char directory[] = "/tmp/wwends-XXXXXX", address[80];
    ww_file_options options = WW_FILE_OPTIONS_INIT;
    ww_file *file, *other;
    ww_filelock *lock;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(address, sizeof address, "file:%s/f", directory);
    options.create = WW_FILE_CREATE;
    OK(ww_file_open(&file, address, &options));
    OK(ww_file_open(&other, address, &options));
    OK(ww_file_lock(other, &lock, WW_FILE_EXCLUSIVE, 0, 0, WW_NOW));
    CHECK_ENDS(file, file);
    ww_filelock_release(lock);
    ww_file_close(file);
    ww_file_close(other);
    OK(ww_file_remove(address));
    OK(rmdir(directory));
}

TEST(names) {
    char directory[] = "/tmp/wwends-XXXXXX", address[80];
    ww_fifo_options fifo_options = WW_FIFO_OPTIONS_INIT;
    ww_filewatch *watch;
    ww_fifo *fifo;
    ww_listener *listener;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(address, sizeof address, "file:%s/f", directory);
    OK(ww_filewatch_open(&watch, address, WW_FILE_APPEARED));
    CHECK_ENDS(filewatch, watch);
    ww_filewatch_close(watch);
    snprintf(address, sizeof address, "fifo:%s/q", directory);
    fifo_options.create = fifo_options.keep_open = 1;
    OK(ww_fifo_open_reader(&fifo, address, &fifo_options, WW_NOW));
    CHECK_ENDS(fifo, fifo);
    ww_fifo_close(fifo);
    OK(ww_fifo_remove(address));
    snprintf(address, sizeof address, "unix:%s/s", directory);
    OK(ww_listener_open(&listener, address, NULL, WW_NOW));
    CHECK_ENDS(listener, listener);
    ww_listener_close(listener);
    OK(rmdir(directory));
}

WAITS(log, ww_log_write(handle, WW_LOG_INFO, NULL, NULL, 0, room, 1000, NULL, 0))
WAITS(signal_shutdown, ww_signal_shutdown_wait(handle, GENEROUS))

TEST(logs_and_shutdowns) {
    ww_log_options options = WW_LOG_OPTIONS_INIT;
    char directory[] = "/tmp/wwends-XXXXXX", address[80], file[80];
    ww_log *log;
    ww_signal_shutdown *shutdown;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(address, sizeof address, "log:%s/l", directory);
    snprintf(file, sizeof file, "%s/l.log", directory);
    options.file = file;
    options.capacity = 1 << 16;
    options.no_writer = 1;
    OK(ww_log_open(&log, address, &options));
    CHECK_ENDS(log, log); /* once it is full */
    ww_log_close(log);
    OK(ww_log_open(&log, address, NULL));
    OK(ww_log_drain(log, GENEROUS));
    ww_log_close(log);
    OK(ww_log_remove(address));
    CHECK_INT(unlink(file), 0);
    OK(rmdir(directory));
    OK(ww_signal_shutdown_open(&shutdown, NULL));
    CHECK_ENDS(signal_shutdown, shutdown);
    ww_signal_shutdown_close(shutdown);
}
