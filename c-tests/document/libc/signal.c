/* The document's signal program with plain system calls, to compare with. */
#include <signal.h>
#include <stdio.h>

int main(void) {
    sigset_t set;
    int number;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return 1;
    printf("Waiting for signal...\n");
    fflush(stdout);
    while (sigwait(&set, &number) == 0 && number != SIGTERM) {
        printf("Received signal %d\n", number);
        fflush(stdout);
    }
    return 0;
}
