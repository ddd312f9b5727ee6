/* Knows only libc. eventfd echo IN OUT TIMES: waits on the event counter IN and adds what it took to OUT, so many times. */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

int main(int argc, char **argv) {
    eventfd_t value;
    int times;
    if (argc != 5 || strcmp(argv[1], "echo") != 0) {
        fprintf(stderr, "usage: eventfd echo IN OUT TIMES\n");
        return 2;
    }
    for (times = atoi(argv[4]); times > 0; times--) {
        struct pollfd in = {atoi(argv[2]), POLLIN, 0};
        if (poll(&in, 1, 30000) != 1 || eventfd_read(in.fd, &value) != 0) return 1;
        if (eventfd_write(atoi(argv[3]), value) != 0) return 1;
    }
    return 0;
}
