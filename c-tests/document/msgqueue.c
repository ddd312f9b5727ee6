/*
 * The document's message queue program on wigwag: a message goes through the queue of ftok("progfile", 65).
 *
 * What changed: the file that the key is derived from is made if it is not there (ftok fails without, and the document's
 * program goes on with the key -1); return values are checked; the message has the length of its text, and gets a
 * terminator when it is printed; the wait is bounded; the queue is open to this user only; and a child sends what the
 * parent receives. The file may be named as an argument.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

static void check(ssize_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "progfile", *text = "Hello Message Queue";
    char address[4096], received[100];
    FILE *file = fopen(path, "a");
    ww_sysv_mq *queue;
    ssize_t size;
    pid_t pid;

    if (file == NULL) {
        perror(path);
        return 1;
    }
    fclose(file);
    snprintf(address, sizeof address, "sysv-mq:%s#65", path);
    check(ww_sysv_mq_open_or_create(&queue, address, NULL));
    pid = fork();
    if (pid == 0) {
        check(ww_sysv_mq_send(queue, 1, text, strlen(text), WW_SEC(10)));
    } else if (pid > 0) {
        size = ww_sysv_mq_recv(queue, 1, 0, received, sizeof received, WW_SEC(10), NULL, NULL);
        check(size);
        printf("Received: %.*s\n", (int)size, received);
        waitpid(pid, NULL, 0);
        check(ww_sysv_mq_unlink(queue));
    } else {
        perror("fork");
        return 1;
    }
    ww_sysv_mq_close(queue);
    return 0;
}
