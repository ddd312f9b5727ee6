/*
 * Knows only libc. shm sysv|posix|memfd create|write|read KEY|NAME|FD TEXT: makes the memory (a page) with this text at
 * its start, writes the text into memory that exists, or finds the text in it (status 3 if not).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE 4096

static void *sysv(const char *key, int create) {
    int id = shmget((key_t)strtol(key, NULL, 0), create ? SIZE : 0, create ? IPC_CREAT | IPC_EXCL | 0600 : 0);
    return id < 0 ? MAP_FAILED : shmat(id, NULL, 0);
}

static void *mapped(int fd, int create, int writable) {
    struct stat found;
    if (fd < 0 || (create && ftruncate(fd, SIZE) != 0) || fstat(fd, &found) != 0) return MAP_FAILED;
    return mmap(NULL, (size_t)found.st_size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
}

int main(int argc, char **argv) {
    int create, writable;
    char *memory = MAP_FAILED;
    if (argc != 5) {
        fprintf(stderr, "usage: shm sysv|posix|memfd create|write|read KEY|NAME|FD TEXT\n");
        return 2;
    }
    create = strcmp(argv[2], "create") == 0;
    writable = strcmp(argv[2], "read") != 0;
    if (strcmp(argv[1], "sysv") == 0) memory = sysv(argv[3], create);
    if (strcmp(argv[1], "posix") == 0)
        memory = mapped(shm_open(argv[3], create ? O_CREAT | O_EXCL | O_RDWR : writable ? O_RDWR : O_RDONLY, 0600), create,
                        writable);
    if (strcmp(argv[1], "memfd") == 0) memory = mapped(atoi(argv[3]), create, writable);
    if (memory == MAP_FAILED) {
        perror("shm");
        return 1;
    }
    if (!writable) return memcmp(memory, argv[4], strlen(argv[4])) == 0 ? 0 : 3;
    memcpy(memory, argv[4], strlen(argv[4]));
    return 0;
}
