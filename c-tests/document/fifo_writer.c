/*
 * The document's named pipe program, the writer. An argument is the path, else /tmp/myfifo.
 *
 * What changed: every call is checked; the FIFO may exist already; waiting for a reader is bounded, where the document
 * hangs in open for ever; a reader that leaves early is an error instead of SIGPIPE.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wigwag.h>

static void check(int code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
}

int main(int argc, char **argv) {
    const char *text = "Hello FIFO";
    ww_fifo_options options = WW_FIFO_OPTIONS_INIT;
    char address[4096];
    ww_fifo *fifo;

    snprintf(address, sizeof address, "fifo:%s", argc > 1 ? argv[1] : "/tmp/myfifo");
    options.create = 1;
    options.mode = 0666;
    check(ww_fifo_open_writer(&fifo, address, &options, WW_SEC(10)));
    check(ww_fifo_write_all(fifo, text, strlen(text), WW_SEC(10), NULL));
    ww_fifo_close(fifo);
    return 0;
}
