/* The document's eventfd program with plain system calls, to compare with. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t value = 1;
    pid_t pid;

    if (fd < 0) return 1;
    pid = fork();
    if (pid == 0) {
        if (write(fd, &value, sizeof value) != sizeof value) return 1;
        printf("Event written\n");
    } else {
        if (read(fd, &value, sizeof value) != sizeof value) return 1;
        waitpid(pid, NULL, 0);
        printf("Event received: %" PRIu64 "\n", value);
    }
    close(fd);
    return 0;
}
