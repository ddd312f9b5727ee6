/*
 * The document's disk file program, process B: reads the text. An argument is the path, else /tmp/ipc_file.
 *
 * What changed: it may be started first, and then waits for the file; a text that does not fit is an error and not cut; it
 * is printed, by its length (the document reads it and does nothing with it).
 */
#include <stdio.h>

#include <wigwag.h>

int main(int argc, char **argv) {
    char address[4096], buffer[100];
    ssize_t length;

    snprintf(address, sizeof address, "file:%s", argc > 1 ? argv[1] : "/tmp/ipc_file");
    length = ww_file_until_exists(address, WW_SEC(10));
    if (length == 0) length = ww_file_load(address, buffer, sizeof buffer, NULL);
    if (length < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        return 1;
    }
    printf("%.*s\n", (int)length, buffer);
    return 0;
}
