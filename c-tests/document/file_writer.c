/*
 * The document's disk file program, process A: leaves a text in a file. An argument is the path, else /tmp/ipc_file.
 *
 * What changed: every call is checked; a reader sees the whole text or what was there before, never a part, and what was
 * there before does not show behind a shorter text (the document opens without O_TRUNC).
 */
#include <stdio.h>
#include <string.h>

#include <wigwag.h>

int main(int argc, char **argv) {
    const char *text = "Hello from process A";
    ww_file_replace_options options = WW_FILE_REPLACE_OPTIONS_INIT;
    char address[4096];

    snprintf(address, sizeof address, "file:%s", argc > 1 ? argv[1] : "/tmp/ipc_file");
    options.mode = 0644;
    if (ww_file_replace(address, text, strlen(text), &options) != 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        return 1;
    }
    return 0;
}
