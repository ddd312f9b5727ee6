/*
 * Knows only libc.
 *   file rewrite PATH TEXT    writes TEXT over what is there
 *   file append PATH TEXT     appends TEXT
 *   file expect PATH TEXT     0 if the file is TEXT
 *   file try-lock PATH        0 if the whole file could be locked, 3 if somebody else has it locked
 *   file hold-lock PATH SIGN  locks the whole file, makes the file SIGN, and holds the lock until killed
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int write_all(const char *path, int flags, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0600);
    ssize_t length = (ssize_t)strlen(text);
    if (fd < 0 || write(fd, text, (size_t)length) != length) return 1;
    return close(fd) != 0;
}

static int lock(const char *path, int *fd) {
    struct flock request = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *fd = open(path, O_RDWR | O_CREAT, 0600);
    return *fd < 0 ? -1 : fcntl(*fd, F_OFD_SETLK, &request);
}

int main(int argc, char **argv) {
    const char *verb = argc > 2 ? argv[1] : "", *path = argc > 2 ? argv[2] : "", *text = argc > 3 ? argv[3] : NULL;
    char buffer[4096];
    ssize_t length;
    int fd;
    if (text != NULL && strcmp(verb, "rewrite") == 0) return write_all(path, O_TRUNC, text);
    if (text != NULL && strcmp(verb, "append") == 0) return write_all(path, O_APPEND, text);
    if (text != NULL && strcmp(verb, "expect") == 0) {
        fd = open(path, O_RDONLY);
        length = read(fd, buffer, sizeof buffer);
        return length != (ssize_t)strlen(text) || memcmp(buffer, text, (size_t)length) != 0;
    }
    if (strcmp(verb, "try-lock") == 0) {
        if (lock(path, &fd) == 0) return 0;
        return errno == EAGAIN || errno == EACCES ? 3 : 1;
    }
    if (text != NULL && strcmp(verb, "hold-lock") == 0) {
        if (lock(path, &fd) != 0 || write_all(text, 0, "") != 0) return 1;
        for (;;) pause();
    }
    fprintf(stderr, "usage: file rewrite|append|expect|try-lock|hold-lock PATH [TEXT]\n");
    return 2;
}
