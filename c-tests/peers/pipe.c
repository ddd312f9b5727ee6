/* Knows only libc. pipe echo IN OUT: copies descriptor IN to descriptor OUT until the end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char buffer[4096];
    ssize_t n;
    int in, out;
    if (argc != 4 || strcmp(argv[1], "echo") != 0) {
        fprintf(stderr, "usage: pipe echo IN OUT\n");
        return 2;
    }
    in = atoi(argv[2]);
    out = atoi(argv[3]);
    while ((n = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, (size_t)n) != n) return 1;
    return n < 0;
}
