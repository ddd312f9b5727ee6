/* The document's disk file program, process A, with plain system calls, to compare with. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *text = "Hello from process A";
    int fd = open(argc > 1 ? argv[1] : "/tmp/ipc_file", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) return 1;
    return close(fd) != 0;
}
