/* A client for the document's socket server, with plain system calls: socket_client [PORT [ADDRESS [TEXT]]]. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *text = argc > 3 ? argv[3] : "Hello from client";
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = argc > 2 ? inet_addr(argv[2]) : htonl(INADDR_LOOPBACK);
    address.sin_port = htons((in_port_t)atoi(argc > 1 ? argv[1] : "8080"));
    if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("connect");
        return 1;
    }
    if (send(server, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text)) return 1;
    printf("Sent: %s\n", text);
    close(server);
    return 0;
}
