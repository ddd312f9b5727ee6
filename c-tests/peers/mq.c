/*
 * Knows only libc. mq send NAME PRIORITY TEXT: sends a message; mq expect NAME PRIORITY TEXT: receives one, which must
 * have this priority and text.
 */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    char buffer[8192];
    unsigned priority, wanted;
    size_t size;
    mqd_t queue;
    if (argc != 5) {
        fprintf(stderr, "usage: mq send|expect NAME PRIORITY TEXT\n");
        return 2;
    }
    wanted = (unsigned)atoi(argv[3]);
    size = strlen(argv[4]);
    queue = mq_open(argv[2], O_RDWR);
    if (queue == (mqd_t)-1) return 1;
    if (strcmp(argv[1], "send") == 0) return mq_send(queue, argv[4], size, wanted) != 0;
    return mq_receive(queue, buffer, sizeof buffer, &priority) != (ssize_t)size || priority != wanted ||
           memcmp(buffer, argv[4], size) != 0;
}
