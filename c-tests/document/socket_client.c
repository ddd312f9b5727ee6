/*
 * A client for the document's socket server, on wigwag.
 *
 *   socket_client [PORT [HOST [TEXT]]]     port 8080 of this host by default
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
    const char *text = argc > 3 ? argv[3] : "Hello from client";
    char address[WW_SOCKET_ADDRESS_MAX];
    ww_socket *server;

    snprintf(address, sizeof address, "tcp://%s:%s", argc > 2 ? argv[2] : "", argc > 1 ? argv[1] : "8080");
    check(ww_socket_connect(&server, address, NULL, WW_SEC(10)));
    check(ww_socket_send_all(server, text, strlen(text), WW_SEC(10), NULL));
    printf("Sent: %s\n", text);
    ww_socket_close(server);
    return 0;
}
