/*
 * The document's anonymous pipe program on wigwag: the child writes to its parent.
 *
 * What changed: the wait is bounded, what was read is printed by its length (the document relies on a terminator that
 * happens to be sent along), and a parent that dies early gives the child an error instead of SIGPIPE.
 */
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
    const char *text = "Hello from child";
    ww_pipe *reader, *writer;
    char buffer[100];
    pid_t pid;

    check(ww_pipe_open(&reader, &writer, NULL));
    pid = fork();
    if (pid == 0) {
        ww_pipe_close(reader);
        check(ww_pipe_write_all(writer, text, strlen(text), WW_SEC(10), NULL));
        ww_pipe_close(writer);
    } else if (pid > 0) {
        ww_pipe_close(writer);
        ssize_t length = check(ww_pipe_read(reader, buffer, sizeof buffer, WW_SEC(10)));
        printf("Parent received: %.*s\n", (int)length, buffer);
        ww_pipe_close(reader);
        waitpid(pid, NULL, 0);
    } else {
        perror("fork");
        return 1;
    }
    return 0;
}
