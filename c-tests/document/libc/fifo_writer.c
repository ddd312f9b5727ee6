/* The document's named pipe program, the writer, with plain system calls, to compare with. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "/tmp/myfifo", *text = "Hello FIFO";
    int fd;
    if (mkfifo(path, 0666) != 0 && errno != EEXIST) return 1;
    fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) return 1;
    return close(fd) != 0;
}
