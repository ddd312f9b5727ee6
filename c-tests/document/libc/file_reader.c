/* The document's disk file program, process B, with plain system calls, to compare with. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char buffer[100];
    int fd = open(argc > 1 ? argv[1] : "/tmp/ipc_file", O_RDONLY);
    ssize_t length = read(fd, buffer, sizeof buffer);
    if (length < 0) return 1;
    printf("%.*s\n", (int)length, buffer);
    return close(fd) != 0;
}
