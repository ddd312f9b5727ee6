/* A lock whose holder is killed: the next one has it, is told, and makes good. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

#define PATIENCE WW_SEC(10)

static ssize_t check(ssize_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
    return code;
}

int main(void) {
    ww_memory_options options = WW_MEMORY_OPTIONS_INIT;
    ww_memfd *memory;
    ww_mutex *mutex;
    void *data;
    char *state;
    pid_t child;
    options.length = 8;
    check(ww_memfd_create(&memory, "memfd:", &options));
    check(ww_memfd_data(memory, &data));
    state = data;
    check(ww_mutex_anonymous(&mutex, NULL));
    child = fork();
    if (child == 0) {
        check(ww_mutex_lock(mutex, PATIENCE));
        memcpy(state, "half", 4);
        raise(SIGKILL);
    }
    waitpid(child, NULL, 0);
    if (check(ww_mutex_lock(mutex, PATIENCE)) == WW_INHERITED) {
        printf("Inherited from the dead: %.4s\n", state);
        memcpy(state, "complete", 8);
        check(ww_mutex_consistent(mutex));
    }
    check(ww_mutex_unlock(mutex));
    printf("%s: %.8s\n", check(ww_mutex_lock(mutex, PATIENCE)) == WW_INHERITED ? "Inherited" : "Consistent", state);
    check(ww_mutex_unlock(mutex));
    ww_mutex_close(mutex);
    ww_memfd_close(memory);
    return 0;
}
