/* The document's named pipe program, the reader, with plain system calls, to compare with. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/tmp/myfifo";
    char buffer[100];
    ssize_t length;
    int fd;
    if (mkfifo(path, 0666) != 0 && errno != EEXIST) return 1;
    fd = open(path, O_RDONLY);
    length = read(fd, buffer, sizeof buffer);
    if (length < 0) return 1;
    printf("%.*s\n", (int)length, buffer);
    return close(fd) != 0;
}
