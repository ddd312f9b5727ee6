/*
 * The document's eventfd program on wigwag: the child signals an event, the parent waits for it.
 *
 * What changed: return values are checked, the wait is bounded, the parent reaps its child, and it prints after the child
 * has, so that the output is the same every time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

static void check(int code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
}

int main(void) {
    ww_eventfd *events;
    uint64_t value;
    pid_t pid;

    check(ww_eventfd_open(&events, NULL)); /* starts at 0 */
    pid = fork();
    if (pid == 0) {
        check(ww_eventfd_add(events, 1, WW_NOW));
        printf("Event written\n");
    } else if (pid > 0) {
        check(ww_eventfd_take(events, &value, WW_SEC(10)));
        waitpid(pid, NULL, 0);
        printf("Event received: %" PRIu64 "\n", value);
    } else {
        perror("fork");
        return 1;
    }
    ww_eventfd_close(events);
    return 0;
}
