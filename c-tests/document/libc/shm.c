/* The document's System V shared memory program with plain system calls, to compare with. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

#define SIZE 1024

int main(void) {
    int file = open("shmfile", O_CREAT | O_RDONLY | O_CLOEXEC, 0600);
    char *text;
    key_t key;
    int id;

    if (file < 0 || close(file) != 0) return 1;
    key = ftok("shmfile", 65);
    if (key == (key_t)-1) return 1;
    id = shmget(key, SIZE, IPC_CREAT | 0600);
    if (id < 0) return 1;
    text = shmat(id, NULL, 0);
    if (text == (char *)-1) return 1;
    snprintf(text, SIZE, "Hello Shared Memory");
    printf("Data written in memory: %s\n", text);
    if (shmdt(text) != 0) return 1;
    return shmctl(id, IPC_RMID, NULL) != 0;
}
