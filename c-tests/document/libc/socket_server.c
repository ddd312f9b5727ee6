/* The document's socket server with plain system calls, to compare with: socket_server [PORT [INTERFACE]]. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int server = socket(AF_INET, SOCK_STREAM, 0), client, on = 1;
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    char buffer[1024];
    ssize_t length;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = argc > 2 ? inet_addr(argv[2]) : htonl(INADDR_ANY);
    address.sin_port = htons((in_port_t)atoi(argc > 1 ? argv[1] : "8080"));
    if (server < 0 || setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return 1;
    if (bind(server, (struct sockaddr *)&address, sizeof address) != 0 || listen(server, 5) != 0) {
        perror("bind");
        return 1;
    }
    if (getsockname(server, (struct sockaddr *)&address, &size) != 0) return 1;
    fprintf(stderr, "Listening at tcp://%s:%d\n", inet_ntoa(address.sin_addr), ntohs(address.sin_port));

    client = accept(server, NULL, NULL);
    if (client < 0) return 1;
    length = recv(client, buffer, sizeof buffer, 0);
    if (length < 0) return 1;
    printf("Received: %.*s\n", (int)length, buffer);
    close(client);
    close(server);
    return 0;
}
