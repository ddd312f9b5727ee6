/*
 * Knows only libc. sysv_mq send ID TYPE TEXT: sends a message; sysv_mq expect ID TYPE TEXT: receives one of this type,
 * which must have this text; sysv_mq key FILE NUMBER: sends its queue's id, as the program of the same key finds it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
    long type;
    char text[1000];
};

int main(int argc, char **argv) {
    struct message message;
    int id;
    ssize_t size;
    if (argc == 4 && strcmp(argv[1], "key") == 0) {
        id = msgget(ftok(argv[2], atoi(argv[3])), 0600);
        message.type = 1;
        snprintf(message.text, sizeof message.text, "%d", id);
        return id < 0 || msgsnd(id, &message, strlen(message.text), 0) != 0;
    }
    if (argc != 5 || strlen(argv[4]) > sizeof message.text) {
        fprintf(stderr, "usage: sysv_mq send|expect ID TYPE TEXT\n");
        return 2;
    }
    id = atoi(argv[2]);
    message.type = atol(argv[3]);
    size = (ssize_t)strlen(argv[4]);
    if (strcmp(argv[1], "send") == 0) {
        memcpy(message.text, argv[4], (size_t)size);
        return msgsnd(id, &message, (size_t)size, 0) != 0;
    }
    return msgrcv(id, &message, sizeof message.text, message.type, 0) != size ||
           memcmp(message.text, argv[4], (size_t)size) != 0;
}
