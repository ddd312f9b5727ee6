/*
 * Knows only libc.
 *   socket serve stream|seqpacket PATH   accepts one connection and sends everything back until its end
 *   socket serve dgram PATH              sends one datagram back to who sent it
 *   socket talk KIND PATH TEXT           sends TEXT and expects it back
 *   socket talk tcp|udp PORT TEXT        likewise, on the loopback interface
 *   socket pass FD FILE                  opens FILE and passes its descriptor over the socket FD
 *   socket take FD TEXT                  receives a descriptor over the socket FD and writes TEXT to it
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int type_of(const char *kind) {
    if (strcmp(kind, "seqpacket") == 0) return SOCK_SEQPACKET;
    return strcmp(kind, "dgram") == 0 || strcmp(kind, "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM;
}

static struct sockaddr_un unix_name(const char *path) {
    struct sockaddr_un name;
    memset(&name, 0, sizeof name);
    name.sun_family = AF_UNIX;
    strncpy(name.sun_path, path, sizeof name.sun_path - 1);
    return name;
}

static int serve(const char *kind, const char *path) {
    struct sockaddr_un name = unix_name(path), from;
    socklen_t from_length = sizeof from;
    char buffer[4096];
    ssize_t n;
    int connection, fd = socket(AF_UNIX, type_of(kind), 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) != 0) die("bind");
    if (type_of(kind) == SOCK_DGRAM) {
        n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &from_length);
        if (n < 0 || sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&from, from_length) != n) die("sendto");
        return 0;
    }
    if (listen(fd, 5) != 0) die("listen");
    connection = accept(fd, NULL, NULL);
    if (connection < 0) die("accept");
    while ((n = recv(connection, buffer, sizeof buffer, 0)) > 0)
        if (send(connection, buffer, (size_t)n, MSG_NOSIGNAL) != n) die("send");
    return n < 0;
}

static int talk(const char *kind, const char *where, const char *text) {
    int is_inet = strcmp(kind, "tcp") == 0 || strcmp(kind, "udp") == 0;
    struct sockaddr_un name = unix_name(where);
    struct sockaddr_in inet;
    sa_family_t any = AF_UNIX;
    char buffer[4096];
    size_t got = 0;
    int fd = socket(is_inet ? AF_INET : AF_UNIX, type_of(kind), 0);
    memset(&inet, 0, sizeof inet);
    inet.sin_family = AF_INET;
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    inet.sin_port = htons((in_port_t)atoi(where));
    /* A name of the kernel's choice, so that the other side can answer. */
    if (strcmp(kind, "dgram") == 0 && bind(fd, (struct sockaddr *)&any, sizeof any) != 0) die("bind");
    if (is_inet ? connect(fd, (struct sockaddr *)&inet, sizeof inet) : connect(fd, (struct sockaddr *)&name, sizeof name))
        die("connect");
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text)) die("send");
    while (got < strlen(text)) {
        ssize_t n = recv(fd, buffer + got, sizeof buffer - got, 0);
        if (n <= 0) die("recv");
        got += (size_t)n;
    }
    return got != strlen(text) || memcmp(buffer, text, got) != 0;
}

/* One message of one byte with room for one descriptor. */
struct message {
    struct msghdr header;
    struct iovec part;
    char byte;
    size_t control[CMSG_SPACE(sizeof(int)) / sizeof(size_t)]; /* of the alignment that a record wants */
};

static void prepare(struct message *message) {
    memset(message, 0, sizeof *message);
    message->part.iov_base = &message->byte;
    message->part.iov_len = 1;
    message->header.msg_iov = &message->part;
    message->header.msg_iovlen = 1;
    message->header.msg_control = message->control;
    message->header.msg_controllen = sizeof message->control;
}

static int pass(int fd, const char *path) {
    struct message message;
    struct cmsghdr *record;
    int file = open(path, O_RDWR);
    if (file < 0) die(path);
    prepare(&message);
    record = CMSG_FIRSTHDR(&message.header);
    record->cmsg_level = SOL_SOCKET;
    record->cmsg_type = SCM_RIGHTS;
    record->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(record), &file, sizeof file);
    return sendmsg(fd, &message.header, MSG_NOSIGNAL) != 1;
}

static int take(int fd, const char *text) {
    struct message message;
    struct cmsghdr *record;
    int file;
    prepare(&message);
    if (recvmsg(fd, &message.header, 0) < 1) die("recvmsg");
    record = CMSG_FIRSTHDR(&message.header);
    if (record == NULL || record->cmsg_type != SCM_RIGHTS) return 1;
    memcpy(&file, CMSG_DATA(record), sizeof file);
    return write(file, text, strlen(text)) != (ssize_t)strlen(text);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "serve") == 0) return serve(argv[2], argv[3]);
    if (argc == 5 && strcmp(argv[1], "talk") == 0) return talk(argv[2], argv[3], argv[4]);
    if (argc == 4 && strcmp(argv[1], "pass") == 0) return pass(atoi(argv[2]), argv[3]);
    if (argc == 4 && strcmp(argv[1], "take") == 0) return take(atoi(argv[2]), argv[3]);
    fprintf(stderr, "usage: socket serve|talk|pass|take ...\n");
    return 2;
}
