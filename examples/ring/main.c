/* A work queue: the parent hands out jobs through shared memory, and the child does them. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

#define PATIENCE WW_SEC(10)

static ssize_t check(ssize_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
    return code;
}

int main(void) {
    ww_ring *ring;
    ww_ring_statistics seen;
    char job[16];
    pid_t child;
    int number;
    check(ww_ring_anonymous(&ring, NULL));
    child = fork();
    if (child == 0) {
        for (number = 0; number < 3; number++) {
            ww_loan loan;
            check(ww_ring_borrow(ring, &loan, PATIENCE, NULL)); /* it would go to another, should this process die here */
            printf("Doing %.*s\n", (int)loan.size, (const char *)loan.data);
            check(ww_ring_release(ring, loan.token));
        }
        fflush(stdout);
        _exit(0);
    }
    for (number = 1; number <= 3; number++) {
        int length = snprintf(job, sizeof job, "job %d", number);
        check(ww_ring_send(ring, job, (size_t)length, PATIENCE));
    }
    waitpid(child, NULL, 0);
    check(ww_ring_get_statistics(ring, &seen, NULL, 0));
    printf("%llu sent, %llu done\n", (unsigned long long)seen.sent, (unsigned long long)seen.released);
    ww_ring_close(ring);
    return 0;
}
