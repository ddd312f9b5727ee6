/*
 * The document's named pipe program, the reader. An argument is the path, else /tmp/myfifo.
 *
 * What changed: every call is checked; the FIFO is made by whoever comes first; waiting is bounded; what was read is
 * printed, by its length (the document reads it and does nothing with it).
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

int main(int argc, char **argv) {
    ww_fifo_options options = WW_FIFO_OPTIONS_INIT;
    char address[4096], buffer[100];
    ssize_t length;
    ww_fifo *fifo;

    snprintf(address, sizeof address, "fifo:%s", argc > 1 ? argv[1] : "/tmp/myfifo");
    options.create = 1;
    options.mode = 0666;
    check(ww_fifo_open_reader(&fifo, address, &options, WW_SEC(10)));
    length = check(ww_fifo_read(fifo, buffer, sizeof buffer, WW_SEC(10)));
    printf("%.*s\n", (int)length, buffer);
    ww_fifo_close(fifo);
    return 0;
}
