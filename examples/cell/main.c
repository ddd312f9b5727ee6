/* The temperature: the parent writes it again and again, and the child wants the latest and nothing else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

static ssize_t check(ssize_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
    return code;
}

int main(void) {
    ww_cell *cell;
    char value[100];
    pid_t child;
    int degrees;
    check(ww_cell_anonymous(&cell, NULL));
    child = fork();
    if (child == 0) {
        uint64_t sequence;
        ssize_t length; /* waits for a third value */
        length = check(ww_cell_wait_read(cell, 2, value, sizeof value, WW_SEC(10), &sequence, NULL));
        printf("Value %llu: %.*s degrees\n", (unsigned long long)sequence, (int)length, value);
        fflush(stdout);
        _exit(0);
    }
    for (degrees = 20; degrees <= 22; degrees++) {
        snprintf(value, sizeof value, "%d", degrees);
        check(ww_cell_write(cell, value, strlen(value), NULL));
    }
    waitpid(child, NULL, 0);
    ww_cell_close(cell);
    return 0;
}
