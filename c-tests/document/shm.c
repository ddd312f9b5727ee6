/*
 * The document's System V shared memory program on wigwag: writes into a segment and prints what is in it.
 *
 * What changed: the file that the key is derived from is made if it is missing (ftok fails without it, and the document
 * goes on with the key -1, which any program with the same mistake shares); every step is checked; the copy cannot pass
 * the end of the segment; and only the user's own processes can open it (0600 instead of 0666).
 */
#include <stdio.h>
#include <stdlib.h>

#include <wigwag.h>

static void check(int code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
}

int main(void) {
    ww_memory_options options = WW_MEMORY_OPTIONS_INIT;
    ww_sysv_shm *shm;
    void *data;
    char *text;
    FILE *key = fopen("shmfile", "a");

    if (key == NULL) {
        perror("shmfile");
        return 1;
    }
    fclose(key);
    options.length = 1024;
    check(ww_sysv_shm_open_or_create(&shm, "sysv-shm:shmfile#65", &options));
    check(ww_sysv_shm_data(shm, &data));
    text = data;
    snprintf(text, (size_t)ww_sysv_shm_size(shm), "Hello Shared Memory");
    printf("Data written in memory: %s\n", text);
    check(ww_sysv_shm_unlink(shm));
    ww_sysv_shm_close(shm);
    return 0;
}
