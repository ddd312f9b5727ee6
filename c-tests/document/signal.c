/*
 * The document's signal program on wigwag: prints each SIGINT and goes on waiting, until SIGTERM.
 *
 * What changed: the document prints inside the signal handler, where printf may deadlock or tear its buffer; here the
 * function runs outside of signal context, when the program asks. It wakes up for signals only, not every second, ends in
 * an orderly way on SIGTERM, and flushes its lines, so that they come through a pipe at once as well.
 */
#include <stdio.h>
#include <stdlib.h>

#include <wigwag.h>

static ssize_t check(ssize_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
    return code;
}

static void signal_handler(const ww_signal_info *info, void *user) {
    (void)user;
    printf("Received signal %d\n", info->signal);
    fflush(stdout);
}

static void stop(const ww_signal_info *info, void *user) {
    (void)info;
    *(int *)user = 1;
}

int main(void) {
    const int numbers[] = {WW_SIGINT, WW_SIGTERM};
    ww_signal *signals;
    int stopped = 0;

    check(ww_signal_open(&signals, numbers, 2, NULL));
    check(ww_signal_on(signals, WW_SIGINT, signal_handler, NULL, NULL));
    check(ww_signal_on(signals, WW_SIGTERM, stop, &stopped, NULL));
    printf("Waiting for signal...\n");
    fflush(stdout);
    while (!stopped) check(ww_signal_dispatch(signals, WW_FOREVER));
    ww_signal_close(signals);
    return 0;
}
