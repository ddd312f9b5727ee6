/* The document's message queue program with plain system calls, to compare with. */
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
    long type;
    char text[100];
};

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "progfile";
    FILE *file = fopen(path, "a");
    struct message message = {1, "Hello Message Queue"};
    key_t key;
    int id;

    if (file == NULL) return 1;
    fclose(file);
    key = ftok(path, 65);
    if (key == -1) return 1;
    id = msgget(key, 0600 | IPC_CREAT);
    if (id < 0) return 1;
    if (msgsnd(id, &message, strlen(message.text) + 1, 0) != 0) return 1;
    if (msgrcv(id, &message, sizeof message.text, 1, 0) < 0) return 1;
    printf("Received: %s\n", message.text);
    return msgctl(id, IPC_RMID, NULL) != 0;
}
