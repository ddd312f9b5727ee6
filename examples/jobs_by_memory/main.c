/*
 * Producers and consumers over shared memory and semaphores, put together by hand: a buffer of eight places.
 *
 * jobs_by_memory MEMORY SEMAPHORES LOCK: shm:/jobs or sysv-shm:.#1, sem:/jobs or sysv-sem:.#2, file:lock. The places say
 * what there is; changing one takes the lock, which the kernel releases when its holder dies. The semaphores only say when
 * it is worth looking: one permit too many is harmless, and one that died with its taker is replaced. Two consumers are
 * killed with SIGKILL, one while it works and one while it holds the lock; others do their jobs again. Nothing is lost.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

enum { PRODUCERS = 3, CONSUMERS = 4, EACH = 100, PLACES = 8, DIES_AT_WORK = 150, DIES_WITH_THE_LOCK = 220 };
enum { EMPTY, FULL, TAKEN };
enum { FILLED, ROOM }; /* which semaphore: places that are full, places that are not */
#define PATIENCE WW_SEC(30)

/* What is shared. Volatile: what is stored last is what counts, should the process die in between. */
static volatile struct {
    struct {
        uint8_t state, times; /* how often its job was taken */
        pid_t owner;          /* by whom last */
        uint32_t job;
    } places[PLACES];
    uint8_t done[PRODUCERS * EACH];
    uint8_t stop; /* no job will come any more */
} * memory;

static ww_sem *pair[2];
static ww_sysv_sem *set; /* or else NULL */
static ww_file *lock_file;
static ww_filelock *held;

static ssize_t check(ssize_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
    return code;
}

static void take(int which) {
    /* Permits come back by what is in the places, not by who died: so without the kernel's undo. */
    check(set ? ww_sysv_sem_add(set, (uint32_t)which, -1, PATIENCE) : ww_sem_acquire(pair[which], PATIENCE));
}

static void put(int which, int permits) {
    check(set ? ww_sysv_sem_add(set, (uint32_t)which, permits, WW_NOW)
              : ww_sem_release_many(pair[which], (uint32_t)permits, NULL));
}

static void lock(void) { check(ww_file_lock(lock_file, &held, WW_FILE_EXCLUSIVE, 0, 0, PATIENCE)); }

static void unlock(void) { ww_filelock_release(held); }

/* The first place of this state, or -1. */
static int find(int state) {
    int place;
    for (place = 0; place < PLACES; place++)
        if (memory->places[place].state == state) return place;
    return -1;
}

static void produce(int producer) {
    int job, place;
    for (job = producer * EACH; job < (producer + 1) * EACH; job++) {
        do {
            take(ROOM);
            lock();
            place = find(EMPTY);
            if (place >= 0) {
                memory->places[place].times = 0;
                memory->places[place].job = (uint32_t)job;
                memory->places[place].state = FULL; /* from here on it is sent */
            }
            unlock();
        } while (place < 0);
        put(FILLED, 1);
    }
}

static void consume(void) {
    for (;;) {
        int place, first;
        uint32_t job;
        take(FILLED);
        lock();
        place = find(FULL);
        if (place < 0) {
            int over = memory->stop && find(TAKEN) < 0;
            unlock();
            if (over) return;
            continue;
        }
        job = memory->places[place].job;
        first = memory->places[place].times++ == 0;
        memory->places[place].owner = getpid();
        memory->places[place].state = TAKEN; /* from here on it is this process's */
        if (job == DIES_WITH_THE_LOCK && first) kill(getpid(), SIGKILL);
        unlock();
        if (job == DIES_AT_WORK && first) kill(getpid(), SIGKILL);
        lock();
        memory->done[job] = 1; /* from here on it is done */
        memory->places[place].state = EMPTY;
        unlock();
        put(ROOM, 1);
        if (memory->stop) put(FILLED, CONSUMERS); /* that was the last one, maybe */
    }
}

/* Gives back what a dead process held; how many jobs will be done again. */
static int recover(pid_t dead) {
    int again = 0, place;
    lock();
    for (place = 0; place < PLACES; place++) {
        if (memory->places[place].state != TAKEN || memory->places[place].owner != dead) continue;
        if (memory->done[memory->places[place].job]) {
            memory->places[place].state = EMPTY;
        } else {
            memory->places[place].state = FULL;
            again++;
        }
    }
    unlock();
    /* And the permit that it had taken in vain, or had not put back yet. */
    put(FILLED, again + 1);
    put(ROOM, 1);
    return again;
}

int main(int argc, char **argv) {
    ww_memory_options memory_options = WW_MEMORY_OPTIONS_INIT;
    ww_file_options file_options = WW_FILE_OPTIONS_INIT;
    ww_shm *shm = NULL;
    ww_sysv_shm *sysv_shm = NULL;
    ww_waitset *waitset;
    pid_t children[PRODUCERS + CONSUMERS]; /* producers first */
    char names[2][200];
    void *data;
    int n, running, producers = PRODUCERS, sent = 0, killed = 0, again = 0, done = 0;

    if (argc != 4) return 2;
    memory_options.length = sizeof *memory;
    if (strncmp(argv[1], "sysv-", 5) == 0) {
        check(ww_sysv_shm_create(&sysv_shm, argv[1], &memory_options));
        check(ww_sysv_shm_data(sysv_shm, &data));
    } else {
        check(ww_shm_create(&shm, argv[1], &memory_options));
        check(ww_shm_data(shm, &data));
    }
    memory = data;
    if (strncmp(argv[2], "sysv-", 5) == 0) {
        const uint16_t values[] = {0, PLACES};
        ww_sysv_sem_options options = WW_SYSV_SEM_OPTIONS_INIT;
        options.count = 2;
        options.values = values;
        check(ww_sysv_sem_create(&set, argv[2], &options));
    } else {
        for (n = 0; n < 2; n++) {
            ww_sem_options options = WW_SEM_OPTIONS_INIT;
            options.initial = n == ROOM ? PLACES : 0;
            snprintf(names[n], sizeof names[n], "%s-%s", argv[2], n == ROOM ? "room" : "filled");
            check(ww_sem_create(&pair[n], names[n], &options));
        }
    }
    file_options.create = WW_FILE_CREATE;
    check(ww_file_open(&lock_file, argv[3], &file_options));

    check(ww_waitset_new(&waitset));
    for (n = 0; n < PRODUCERS + CONSUMERS; n++) {
        children[n] = fork();
        if (children[n] == 0) {
            if (n < PRODUCERS) produce(n);
            else consume();
            _exit(0);
        }
        check(ww_waitset_add_child(waitset, children[n], (uint64_t)n));
    }
    for (running = PRODUCERS + CONSUMERS; running > 0;) {
        ww_waitset_event events[8];
        ssize_t ready = check(ww_waitset_wait(waitset, events, 8, PATIENCE));
        for (n = 0; n < ready; n++) {
            int status;
            check(ww_waitset_remove(waitset, events[n].token));
            running--;
            waitpid(children[events[n].token], &status, 0);
            killed += WIFSIGNALED(status);
            if (status != 0) again += recover(children[events[n].token]);
            if (events[n].token >= PRODUCERS) continue;
            if (status == 0) sent += EACH;
            if (--producers == 0) {
                memory->stop = 1;
                put(FILLED, CONSUMERS);
            }
        }
    }
    for (n = 0; n < PRODUCERS * EACH; n++) done += memory->done[n];
    printf("%d sent, %d done, %d of them again after %d consumers were killed, %d lost\n", sent, done, again, killed,
           sent - done);

    ww_waitset_close(waitset);
    check(sysv_shm ? ww_sysv_shm_unlink(sysv_shm) : ww_shm_remove(argv[1]));
    ww_sysv_shm_close(sysv_shm);
    ww_shm_close(shm);
    if (set) check(ww_sysv_sem_unlink(set));
    ww_sysv_sem_close(set);
    for (n = 0; n < 2 && !set; n++) {
        ww_sem_close(pair[n]);
        check(ww_sem_remove(names[n]));
    }
    ww_file_close(lock_file);
    check(ww_file_remove(argv[3]));
    return 0;
}
