/*
 * The document's socket server on wigwag: receives from one client.
 *
 *   socket_server [PORT [INTERFACE]]     port 8080 of all interfaces by default; port 0 is any free one
 *
 * What changed: return values are checked, what was received is printed by its length (the document relies on a
 * terminator that nobody sends), the port can be used again at once, and once it listens, standard error says where.
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
    char address[WW_SOCKET_ADDRESS_MAX], buffer[1024];
    ww_socket_options options = WW_SOCKET_OPTIONS_INIT;
    ww_listener *listener;
    ww_socket *client;
    ssize_t length;

    snprintf(address, sizeof address, "tcp://%s:%s", argc > 2 ? argv[2] : "", argc > 1 ? argv[1] : "8080");
    options.backlog = 5;
    check(ww_listener_open(&listener, address, &options, WW_SEC(10)));
    check(ww_listener_local_address(listener, address, sizeof address, NULL));
    fprintf(stderr, "Listening at %s\n", address);

    check(ww_listener_accept(listener, &client, WW_FOREVER));
    length = check(ww_socket_recv(client, buffer, sizeof buffer, WW_SEC(10), NULL));
    printf("Received: %.*s\n", (int)length, buffer);
    ww_socket_close(client);
    ww_listener_close(listener);
    return 0;
}
