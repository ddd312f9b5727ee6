/* The document's anonymous pipe program with plain system calls, to compare with. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    const char *text = "Hello from child";
    char buffer[100];
    ssize_t length;
    int ends[2];
    pid_t pid;

    if (pipe(ends) != 0) return 1;
    pid = fork();
    if (pid == 0) {
        close(ends[0]);
        if (write(ends[1], text, strlen(text)) < 0) return 1;
        close(ends[1]);
        return 0;
    }
    close(ends[1]);
    length = read(ends[0], buffer, sizeof buffer);
    if (length < 0) return 1;
    printf("Parent received: %.*s\n", (int)length, buffer);
    close(ends[0]);
    waitpid(pid, NULL, 0);
    return 0;
}
