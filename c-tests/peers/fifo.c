/*
 * Knows only libc.
 *   fifo make PATH         makes the FIFO
 *   fifo write PATH TEXT   writes TEXT into it
 *   fifo expect PATH TEXT  0 if TEXT is what comes until the end of the stream
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *verb = argc > 2 ? argv[1] : "", *text = argc > 3 ? argv[3] : NULL;
    char buffer[4096];
    ssize_t length, all = 0;
    int fd;
    if (strcmp(verb, "make") == 0) return mkfifo(argv[2], 0600) != 0;
    if (text != NULL && strcmp(verb, "write") == 0) {
        fd = open(argv[2], O_WRONLY);
        return fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text);
    }
    if (text != NULL && strcmp(verb, "expect") == 0) {
        fd = open(argv[2], O_RDONLY);
        while ((length = read(fd, buffer + all, sizeof buffer - (size_t)all)) > 0) all += length;
        return length < 0 || all != (ssize_t)strlen(text) || memcmp(buffer, text, (size_t)all) != 0;
    }
    fprintf(stderr, "usage: fifo make|write|expect PATH [TEXT]\n");
    return 2;
}
