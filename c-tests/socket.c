/* Socket and listener. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* A path in a directory of the test's own; the directory goes when the test calls gone(). */
static char directory[64];

static const char *path_in(const char *name) {
    static char path[128];
    if (directory[0] == 0) {
        snprintf(directory, sizeof directory, "/tmp/%s", fresh_name("socket"));
        CHECK_INT(mkdir(directory, 0700), 0);
    }
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static const char *address_in(const char *scheme, const char *name) {
    static char address[160];
    snprintf(address, sizeof address, "%s:%s", scheme, path_in(name));
    return address;
}

/* Fails if anything was left in the directory. */
static void gone(void) { CHECK_INT(rmdir(directory), 0); }

static void pair(ww_socket **one, ww_socket **other, const char *kind) { OK(ww_socket_pair(one, other, kind)); }

TEST(stream_between_processes) {
    ww_listener *listener;
    ww_socket *socket;
    char buffer[100], address[WW_SOCKET_ADDRESS_MAX];
    size_t done = 99;
    pid_t pid, peer_pid = 0;
    uid_t uid = 99;
    gid_t gid = 99;
    snprintf(address, sizeof address, "%s", address_in("unix", "s"));
    OK(ww_listener_open(&listener, address, NULL, WW_NOW));
    pid = fork();
    if (pid == 0) {
        ww_listener_close(listener); /* the child's: the path stays */
        if (ww_socket_connect(&socket, address, NULL, GENEROUS) != 0) _exit(1);
        if (ww_socket_send_all(socket, "Hello", 5, GENEROUS, &done) != 0 || done != 5) _exit(2);
        if (ww_socket_shutdown(socket, WW_SHUTDOWN_SENDING) != 0) _exit(3);
        if (ww_socket_recv(socket, buffer, sizeof buffer, GENEROUS, NULL) != 2) _exit(4);
        ww_socket_close(socket);
        _exit(0);
    }
    OK(ww_listener_accept(listener, &socket, GENEROUS));
    OK(ww_socket_recv_exact(socket, buffer, 5, GENEROUS, &done));
    CHECK_INT(done, 5);
    CHECK(memcmp(buffer, "Hello", 5) == 0);
    CHECK_INT(ww_socket_recv(socket, buffer, sizeof buffer, GENEROUS, NULL), 0);
    CHECK_ERROR(ww_socket_recv_exact(socket, buffer, 5, GENEROUS, &done), -EPIPE, "ended before");
    CHECK_INT(done, 0);
    OK(ww_socket_peer_credentials(socket, &peer_pid, &uid, &gid));
    CHECK(peer_pid == pid && uid == geteuid() && gid == getegid());
    OK(ww_socket_peer_credentials(socket, NULL, NULL, NULL));
    CHECK_INT(ww_socket_send(socket, "ok", 2, GENEROUS), 2);
    reap(pid, 0);
    CHECK_ERROR(ww_socket_send(socket, "x", 1, GENEROUS), -EPIPE, "the peer has closed");
    ww_socket_close(socket);
    CHECK_INT(access(path_in("s"), F_OK), 0);
    ww_listener_close(listener);
    gone();
}

TEST(tcp) {
    ww_socket_options options = WW_SOCKET_OPTIONS_INIT;
    ww_listener *listener;
    ww_socket *client, *server;
    char address[WW_SOCKET_ADDRESS_MAX], other[WW_SOCKET_ADDRESS_MAX];
    uint32_t idle, interval, probes;
    size_t true_size = 0;
    options.nodelay = 1;
    options.backlog = 5;
    options.reuse = 1;
    OK(ww_listener_open(&listener, "tcp://127.0.0.1:0", &options, WW_NOW));
    CHECK_ERROR(ww_listener_local_address(listener, address, 5, &true_size), -EMSGSIZE, "NUL");
    CHECK_INT(ww_listener_local_address(listener, address, sizeof address, NULL), true_size);
    CHECK_INT(strlen(address), true_size);
    CHECK_INT(ww_listener_refused(listener), 0);
    CHECK_ERROR(ww_listener_accept(listener, &server, WW_NOW), -EAGAIN, "timeout is zero");
    CHECK_ERROR(ww_listener_accept(listener, &server, SHORT), -ETIMEDOUT, "accept tcp://127.0.0.1:0: ETIMEDOUT");
    OK(ww_socket_connect(&client, address, NULL, GENEROUS));
    OK(ww_listener_accept(listener, &server, GENEROUS));
    CHECK(ww_socket_peer_address(client, other, sizeof other, NULL) > 0);
    CHECK(strcmp(other, address) == 0);
    CHECK(ww_socket_local_address(client, address, sizeof address, NULL) > 0);
    CHECK(ww_socket_peer_address(server, other, sizeof other, NULL) > 0);
    CHECK(strcmp(other, address) == 0);
    CHECK_INT(ww_socket_nodelay(server), 1);
    CHECK_INT(ww_socket_nodelay(client), 0);
    OK(ww_socket_set_nodelay(client, 1));
    CHECK_INT(ww_socket_nodelay(client), 1);
    CHECK_ERROR(ww_socket_set_nodelay(client, 2), -EINVAL, "0 or 1");
    CHECK_INT(ww_socket_keep_alive(server, &idle, &interval, &probes), 0);
    OK(ww_socket_set_keep_alive(server, 1, 10, 20, 3));
    CHECK_INT(ww_socket_keep_alive(server, &idle, &interval, &probes), 1);
    CHECK(idle == 10 && interval == 20 && probes == 3);
    CHECK_INT(ww_socket_keep_alive(server, NULL, NULL, NULL), 1);
    CHECK_ERROR(ww_socket_set_keep_alive(server, 1, 40000, 0, 0), -EINVAL, "kernel's range");
    CHECK_ERROR(ww_socket_set_keep_alive(server, 3, 0, 0, 0), -EINVAL, "0 or 1");
    OK(ww_socket_set_keep_alive(server, 0, 0, 0, 0));
    CHECK_INT(ww_socket_keep_alive(server, NULL, NULL, NULL), 0);
    CHECK_ERROR(ww_socket_peer_credentials(server, NULL, NULL, NULL), -ENOTSUP, "only Unix sockets");
    ww_socket_close(client);
    ww_socket_close(server);
    CHECK_ERROR(ww_listener_open(&listener, "tcp://192.0.2.1:0", NULL, WW_NOW), -EADDRNOTAVAIL, "no interface");
    CHECK(ww_listener_local_address(listener, address, sizeof address, NULL) > 0);
    CHECK_ERROR(ww_listener_open(&listener, address, NULL, WW_NOW), -EADDRINUSE, "another socket has this port");
    ww_listener_close(listener);
    CHECK_ERROR(ww_socket_connect(&client, address, NULL, GENEROUS), -ECONNREFUSED, "start the server first");
}

TEST(datagrams) {
    ww_socket *server, *client, *sender;
    char buffer[100], address[WW_SOCKET_ADDRESS_MAX], from[WW_SOCKET_ADDRESS_MAX];
    size_t true_size = 0;
    OK(ww_socket_bind(&server, "udp://127.0.0.1:0", NULL, WW_NOW));
    CHECK(ww_socket_local_address(server, address, sizeof address, NULL) > 0);
    OK(ww_socket_connect(&client, address, NULL, GENEROUS));
    OK(ww_socket_bind(&sender, "udp://127.0.0.1:0", NULL, WW_NOW));
    OK(ww_socket_send_to(sender, "Hello", 5, address, GENEROUS));
    CHECK_ERROR(ww_socket_recv(server, buffer, 4, GENEROUS, &true_size), -EMSGSIZE, "it is still there");
    CHECK_INT(true_size, 5);
    true_size = 0;
    CHECK_ERROR(ww_socket_recv_from(server, buffer, 4, from, sizeof from, GENEROUS, &true_size), -EMSGSIZE, "5 bytes");
    CHECK_INT(true_size, 5);
    CHECK_ERROR(ww_socket_recv_from(server, buffer, 4, from, 10, GENEROUS, NULL), -EINVAL, "WW_SOCKET_ADDRESS_MAX");
    CHECK_INT(ww_socket_recv_from(server, buffer, sizeof buffer, from, sizeof from, GENEROUS, &true_size), 5);
    CHECK(ww_socket_local_address(sender, address, sizeof address, NULL) > 0);
    CHECK(strcmp(from, address) == 0);
    OK(ww_socket_send_to(server, "back", 4, from, GENEROUS));
    CHECK_INT(ww_socket_recv_from(sender, buffer, sizeof buffer, NULL, 0, GENEROUS, NULL), 4);
    OK(ww_socket_send_all(client, "", 0, GENEROUS, NULL));
    CHECK_INT(ww_socket_recv(server, buffer, sizeof buffer, GENEROUS, NULL), 0);
    CHECK_ERROR(ww_socket_send(sender, "x", 1, WW_NOW), -EDESTADDRREQ, "no peer");
    CHECK_ERROR(ww_socket_send_to(server, "x", 1, "unix:/x", WW_NOW), -EINVAL, "of another kind");
    CHECK_ERROR(ww_socket_send_to(server, "x", 1, "nonsense", WW_NOW), -EINVAL, "expected");
    CHECK_ERROR(ww_socket_recv_exact(server, buffer, 1, WW_NOW, NULL), -ENOTSUP, "exact length");
    CHECK_INT(ww_socket_refused(server), 0);
    ww_socket_close(server);
    ww_socket_close(client);
    ww_socket_close(sender);
    OK(ww_socket_bind(&server, address_in("unix-dgram", "d"), NULL, WW_NOW));
    OK(ww_socket_connect(&client, address_in("unix-dgram", "d"), NULL, WW_NOW));
    OK(ww_socket_send_all(client, "ping", 4, GENEROUS, NULL));
    CHECK_INT(ww_socket_recv_from(server, buffer, sizeof buffer, from, sizeof from, GENEROUS, NULL), 4);
    OK(ww_socket_send_to(server, "pong", 4, from, GENEROUS));
    CHECK_INT(ww_socket_recv(client, buffer, sizeof buffer, GENEROUS, NULL), 4);
    ww_socket_close(client);
    ww_socket_close(server);
    gone();
}

TEST(seqpacket_and_sizes) {
    ww_socket *one, *other;
    static char large[300000];
    char buffer[10];
    size_t true_size = 0, done = 9;
    pair(&one, &other, "unix-seqpacket");
    OK(ww_socket_send_all(one, "seven--", 7, WW_NOW, &done));
    CHECK_INT(done, 7);
    CHECK_ERROR(ww_socket_recv(other, buffer, 3, WW_NOW, &true_size), -EMSGSIZE, "a message of 7 bytes for a buffer of 3");
    CHECK_INT(true_size, 7);
    CHECK_INT(ww_socket_recv(other, buffer, 7, WW_NOW, NULL), 7);
    CHECK_ERROR(ww_socket_send(one, NULL, 0, WW_NOW), -EINVAL, "look like the end");
    OK(ww_socket_set_send_buffer(one, 10000));
    OK(ww_socket_set_receive_buffer(one, 11000));
    CHECK_INT(ww_socket_send_buffer(one), 10000);
    CHECK_INT(ww_socket_receive_buffer(one), 11000);
    CHECK_ERROR(ww_socket_send_all(one, large, sizeof large, WW_NOW, &done), -EMSGSIZE, "send buffer of 10000");
    CHECK_INT(done, 0);
    CHECK_ERROR(ww_socket_set_send_buffer(one, SIZE_MAX), -ENOBUFS, "net.core.wmem_max=");
    CHECK_ERROR(ww_socket_set_receive_buffer(one, SIZE_MAX), -ENOBUFS, "net.core.rmem_max=");
    ww_socket_close(one);
    CHECK_INT(ww_socket_recv(other, buffer, sizeof buffer, GENEROUS, NULL), 0);
    ww_socket_close(other);
}

TEST(partial_progress) {
    ww_socket *one, *other;
    static char data[4000000];
    size_t sent = 0, received = 0;
    pair(&one, &other, "unix");
    CHECK_ERROR(ww_socket_send_all(one, data, sizeof data, SHORT, &sent), -ETIMEDOUT, "deadline");
    CHECK(sent > 0 && sent < sizeof data);
    CHECK_ERROR(ww_socket_recv_exact(other, data, sizeof data, SHORT, &received), -ETIMEDOUT, "deadline");
    CHECK_INT(received, sent);
    ww_socket_close(one);
    ww_socket_close(other);
}

TEST(descriptors) {
    ww_socket *one, *other;
    char buffer[10];
    int fds[4] = {-1, -1, -1, -1}, given[300], n;
    size_t count = 99, done = 99;
    pair(&one, &other, "unix");
    for (n = 0; n < 300; n++) given[n] = ww_socket_fd(one);
    OK(ww_socket_send_fds(one, "take", 4, given, 3, GENEROUS, &done));
    CHECK_INT(done, 4);
    CHECK_INT(ww_socket_recv_fds(other, buffer, sizeof buffer, fds, 4, &count, GENEROUS, NULL), 4);
    CHECK_INT(count, 3);
    for (n = 0; n < 3; n++) {
        CHECK_INT(fcntl(fds[n], F_GETFD), FD_CLOEXEC);
        close(fds[n]);
    }
    CHECK_INT(fds[3], -1);
    OK(ww_socket_send_fds(one, "take", 4, given, 3, GENEROUS, NULL));
    count = 99;
    CHECK_ERROR(ww_socket_recv_fds(other, buffer, sizeof buffer, fds, 2, &count, GENEROUS, NULL), -EBADMSG,
                "3 descriptors came, 2 were asked for");
    CHECK_INT(count, 99);
    OK(ww_socket_send_fds(one, "plain", 5, NULL, 0, GENEROUS, NULL));
    CHECK_INT(ww_socket_recv_fds(other, buffer, sizeof buffer, NULL, 0, &count, GENEROUS, NULL), 5);
    CHECK_INT(count, 0);
    CHECK_ERROR(ww_socket_recv_fds(other, buffer, sizeof buffer, fds, 4, &count, WW_NOW, NULL), -EAGAIN, "zero");
    CHECK_ERROR(ww_socket_recv_fds(other, buffer, sizeof buffer, fds, 4, NULL, WW_NOW, NULL), -EFAULT, "output");
    CHECK_ERROR(ww_socket_recv_fds(other, buffer, sizeof buffer, NULL, 4, &count, WW_NOW, NULL), -EFAULT, "buffer");
    CHECK_ERROR(ww_socket_recv_fds(other, buffer, sizeof buffer, fds, SIZE_MAX, &count, WW_NOW, NULL), -EINVAL, "length");
    CHECK_ERROR(ww_socket_send_fds(one, "", 0, given, 1, WW_NOW, &done), -EINVAL, "at least one byte");
    CHECK_ERROR(ww_socket_send_fds(one, "x", 1, given, 254, WW_NOW, &done), -EINVAL, "at most 253");
    CHECK_ERROR(ww_socket_send_fds(one, "x", 1, NULL, 1, WW_NOW, &done), -EFAULT, "buffer");
    given[1] = -1;
    CHECK_ERROR(ww_socket_send_fds(one, "x", 1, given, 2, WW_NOW, &done), -EBADF, "not an open descriptor");
    given[1] = 9999;
    CHECK_ERROR(ww_socket_send_fds(one, "x", 1, given, 2, WW_NOW, &done), -EBADF, "send_fds");
    CHECK_INT(done, 0);
    ww_socket_close(one);
    ww_socket_close(other);
}

/* The kernel can install only some of the descriptors: an error, and nothing leaks (the harness counts). */
TEST(no_descriptor_left) {
    ww_socket *one, *other;
    struct rlimit before, limit;
    char buffer[10];
    int fds[8], given[8], n;
    size_t count;
    pair(&one, &other, "unix");
    for (n = 0; n < 8; n++) given[n] = ww_socket_fd(one);
    OK(ww_socket_send_fds(one, "take", 4, given, 8, GENEROUS, NULL));
    getrlimit(RLIMIT_NOFILE, &before);
    limit = before;
    limit.rlim_cur = (rlim_t)ww_socket_fd(other) + 4;
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK_ERROR(ww_socket_recv_fds(other, buffer, sizeof buffer, fds, 8, &count, GENEROUS, NULL), -EBADMSG,
                "RLIMIT_NOFILE=");
    limit.rlim_cur = (rlim_t)ww_socket_fd(other) + 1;
    setrlimit(RLIMIT_NOFILE, &limit);
    ww_socket *a, *b;
    CHECK_ERROR(ww_socket_pair(&a, &b, "unix"), -EMFILE, "ulimit -n");
    setrlimit(RLIMIT_NOFILE, &before);
    ww_socket_close(one);
    ww_socket_close(other);
}

TEST(paths) {
    ww_socket_options options = WW_SOCKET_OPTIONS_INIT;
    ww_listener *listener, *second;
    ww_socket *socket;
    struct stat found;
    pid_t pid;
    FILE *file;
    OK(ww_listener_open(&listener, address_in("unix", "s"), NULL, WW_NOW));
    CHECK_INT(stat(path_in("s"), &found), 0);
    CHECK_INT(found.st_mode & 0777, 0600);
    CHECK_ERROR(ww_listener_open(&second, address_in("unix", "s"), NULL, WW_NOW), -EADDRINUSE, "somebody listens");
    CHECK_ERROR(ww_socket_connect(&socket, address_in("unix-seqpacket", "s"), NULL, WW_NOW), -EPROTOTYPE, "another type");
    ww_listener_close(listener);
    CHECK_INT(access(path_in("s"), F_OK), -1);
    CHECK_ERROR(ww_socket_connect(&socket, address_in("unix", "s"), NULL, WW_NOW), -ENOENT, "start the server first");

    pid = fork(); /* a server that is killed leaves its path */
    if (pid == 0) {
        if (ww_listener_open(&listener, address_in("unix", "s"), NULL, WW_NOW) != 0) _exit(1);
        raise(SIGKILL);
    }
    reap_killed(pid);
    CHECK_ERROR(ww_socket_connect(&socket, address_in("unix", "s"), NULL, WW_NOW), -ECONNREFUSED, "left over");
    options.mode = 0640;
    OK(ww_listener_open(&listener, address_in("unix", "s"), &options, WW_NOW));
    CHECK_INT(stat(path_in("s"), &found), 0);
    CHECK_INT(found.st_mode & 0777, 0640);
    ww_listener_close(listener);

    CHECK_INT(mkdir(path_in("d"), 0700), 0);
    CHECK_ERROR(ww_listener_open(&listener, address_in("unix", "d"), NULL, WW_NOW), -ENOTSOCK, "is a directory");
    CHECK_INT(rmdir(path_in("d")), 0);
    file = fopen(path_in("f"), "w");
    fclose(file);
    CHECK_ERROR(ww_listener_open(&listener, address_in("unix", "f"), NULL, WW_NOW), -ENOTSOCK, "is a file");
    CHECK_ERROR(ww_socket_bind(&socket, address_in("unix-dgram", "f"), NULL, WW_NOW), -ENOTSOCK, "left alone");
    CHECK_INT(unlink(path_in("f")), 0);
    gone();
}

TEST(abstract_names) {
    char address[100], open[120];
    ww_listener *listener;
    ww_socket *client, *server;
    ww_socket_options options = WW_SOCKET_OPTIONS_INIT;
    snprintf(address, sizeof address, "unix:@%s", fresh_name("abstract"));
    OK(ww_listener_open(&listener, address, NULL, WW_NOW));
    OK(ww_socket_connect(&client, address, NULL, WW_NOW));
    OK(ww_listener_accept(listener, &server, WW_NOW));
    CHECK_INT(ww_listener_refused(listener), 0);
    ww_socket_close(client);
    ww_socket_close(server);
    ww_listener_close(listener);
    snprintf(address, sizeof address, "unix-dgram:@%s", fresh_name("abstract"));
    OK(ww_socket_bind(&server, address, NULL, WW_NOW));
    OK(ww_socket_connect(&client, address, NULL, WW_NOW)); /* the same user's */
    ww_socket_close(client);
    options.any_user = 1;
    OK(ww_socket_connect(&client, address, &options, WW_NOW));
    ww_socket_close(client);
    snprintf(open, sizeof open, "%s?any-user=1", address);
    OK(ww_socket_connect(&client, open, NULL, WW_NOW));
    OK(ww_socket_send_all(client, "x", 1, WW_NOW, NULL));
    CHECK_INT(ww_socket_recv(server, address, sizeof address, WW_NOW, NULL), 1);
    ww_socket_close(client);
    ww_socket_close(server);
}

/* A program that knows only libc, on the other side. */
static void peer_serves(const char *kind, const char *scheme) {
    const char *args[] = {"serve", kind, path_in("peer"), NULL};
    pid_t pid = spawn_peer("socket", args);
    ww_socket *socket;
    char buffer[10];
    int64_t start = now_ns();
    while (ww_socket_connect(&socket, address_in(scheme, "peer"), NULL, GENEROUS) != 0) {
        CHECK(now_ns() - start < GENEROUS);
        sleep_ms(1);
    }
    OK(ww_socket_send_all(socket, "interop", 7, GENEROUS, NULL));
    CHECK_INT(ww_socket_recv(socket, buffer, sizeof buffer, GENEROUS, NULL), 7);
    CHECK(memcmp(buffer, "interop", 7) == 0);
    ww_socket_close(socket);
    reap(pid, 0);
    CHECK_INT(unlink(path_in("peer")), 0);
}

TEST(libc_serves) {
    peer_serves("stream", "unix");
    peer_serves("seqpacket", "unix-seqpacket");
    peer_serves("dgram", "unix-dgram");
    gone();
}

static void peer_talks(ww_listener *listener, const char *kind, const char *where) {
    const char *args[] = {"talk", kind, where, "interop", NULL};
    pid_t pid = spawn_peer("socket", args);
    ww_socket *socket;
    char buffer[10];
    OK(ww_listener_accept(listener, &socket, GENEROUS));
    CHECK_INT(ww_socket_recv(socket, buffer, sizeof buffer, GENEROUS, NULL), 7);
    OK(ww_socket_send_all(socket, buffer, 7, GENEROUS, NULL));
    reap(pid, 0);
    ww_socket_close(socket);
    ww_listener_close(listener);
}

TEST(libc_talks) {
    char address[WW_SOCKET_ADDRESS_MAX], buffer[10];
    const char *dgram[] = {"talk", "dgram", path_in("s"), "interop", NULL};
    const char *udp[] = {"talk", "udp", "", "interop", NULL};
    ww_listener *listener;
    ww_socket *socket;
    pid_t pid;
    OK(ww_listener_open(&listener, address_in("unix", "s"), NULL, WW_NOW));
    peer_talks(listener, "stream", path_in("s"));
    OK(ww_listener_open(&listener, address_in("unix-seqpacket", "s"), NULL, WW_NOW));
    peer_talks(listener, "seqpacket", path_in("s"));
    OK(ww_listener_open(&listener, "tcp://127.0.0.1:0", NULL, WW_NOW));
    CHECK(ww_listener_local_address(listener, address, sizeof address, NULL) > 0);
    peer_talks(listener, "tcp", strrchr(address, ':') + 1);

    OK(ww_socket_bind(&socket, address_in("unix-dgram", "s"), NULL, WW_NOW));
    pid = spawn_peer("socket", dgram);
    CHECK_INT(ww_socket_recv_from(socket, buffer, sizeof buffer, address, sizeof address, GENEROUS, NULL), 7);
    OK(ww_socket_send_to(socket, buffer, 7, address, GENEROUS));
    reap(pid, 0);
    ww_socket_close(socket);

    OK(ww_socket_bind(&socket, "udp://127.0.0.1:0", NULL, WW_NOW));
    CHECK(ww_socket_local_address(socket, address, sizeof address, NULL) > 0);
    udp[2] = strrchr(address, ':') + 1;
    pid = spawn_peer("socket", udp);
    CHECK_INT(ww_socket_recv_from(socket, buffer, sizeof buffer, address, sizeof address, GENEROUS, NULL), 7);
    OK(ww_socket_send_to(socket, buffer, 7, address, GENEROUS));
    reap(pid, 0);
    ww_socket_close(socket);
    gone();
}

TEST(libc_passes_and_takes_descriptors) {
    ww_socket *one, *other;
    char number[16], buffer[10];
    const char *pass[] = {"pass", number, "/dev/null", NULL}, *take[] = {"take", number, "interop", NULL};
    int fds[1], ends[2];
    size_t count;
    pid_t pid;
    pair(&one, &other, "unix");
    OK(ww_socket_inherit(other));
    snprintf(number, sizeof number, "%d", ww_socket_fd(other));
    pid = spawn_peer("socket", pass);
    CHECK_INT(ww_socket_recv_fds(one, buffer, sizeof buffer, fds, 1, &count, GENEROUS, NULL), 1);
    CHECK_INT(count, 1);
    CHECK_INT(write(fds[0], "x", 1), 1);
    close(fds[0]);
    reap(pid, 0);
    CHECK_INT(pipe(ends), 0);
    OK(ww_socket_send_fds(one, "x", 1, &ends[1], 1, GENEROUS, NULL));
    close(ends[1]);
    pid = spawn_peer("socket", take);
    CHECK_INT(read(ends[0], buffer, sizeof buffer), 7);
    close(ends[0]);
    reap(pid, 0);
    ww_socket_close(one);
    ww_socket_close(other);
}

static void *accept_for_ever(void *listener) {
    ww_socket *socket;
    return (void *)(intptr_t)ww_listener_accept(listener, &socket, WW_FOREVER);
}

static void *receive_for_ever(void *socket) {
    char byte;
    return (void *)(intptr_t)ww_socket_recv(socket, &byte, 1, WW_FOREVER, NULL);
}

TEST(close_during_a_wait) {
    ww_listener *listener;
    ww_socket *one, *other;
    pthread_t accepting, receiving;
    void *result;
    OK(ww_listener_open(&listener, "tcp://127.0.0.1:0", NULL, WW_NOW));
    pair(&one, &other, "unix");
    OK(pthread_create(&accepting, NULL, accept_for_ever, listener));
    OK(pthread_create(&receiving, NULL, receive_for_ever, one));
    until_blocked(2);
    ww_listener_close(listener);
    ww_socket_close(one);
    OK(pthread_join(accepting, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    OK(pthread_join(receiving, &result));
    CHECK_INT((intptr_t)result, -ECANCELED);
    ww_socket_close(other);
}

TEST(adopted_descriptors) {
    ww_listener *listener, *again;
    ww_socket *client, *socket;
    char address[WW_SOCKET_ADDRESS_MAX];
    int fd;
    OK(ww_listener_open(&listener, "tcp://127.0.0.1:0", NULL, WW_NOW));
    CHECK(ww_listener_local_address(listener, address, sizeof address, NULL) > 0);
    OK(ww_listener_inherit(listener));
    CHECK_INT(fcntl(ww_listener_fd(listener), F_GETFD), 0);
    fd = dup(ww_listener_fd(listener));
    CHECK_ERROR(ww_socket_from_fd(&socket, fd), -EINVAL, "listens");
    OK(ww_listener_from_fd(&again, fd));
    CHECK_ERROR(ww_listener_accept(again, &socket, WW_NOW), -EAGAIN, "zero"); /* in blocking mode */
    CHECK_ERROR(ww_listener_accept(listener, &socket, SHORT), -ETIMEDOUT, "deadline");
    OK(ww_socket_connect(&client, address, NULL, GENEROUS));
    OK(ww_listener_accept(again, &socket, GENEROUS));
    ww_listener_close(again);
    ww_listener_close(listener);
    fd = dup(ww_socket_fd(client));
    CHECK_ERROR(ww_listener_from_fd(&again, fd), -EINVAL, "does not listen");
    ww_socket_close(client);
    OK(ww_socket_from_fd(&client, fd));
    OK(ww_socket_send_all(client, "x", 1, GENEROUS, NULL));
    CHECK_INT(ww_socket_recv(socket, address, 1, GENEROUS, NULL), 1);
    ww_socket_close(client);
    ww_socket_close(socket);
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_ERROR(ww_socket_from_fd(&socket, fd), -ENOTSOCK, "not a socket's");
    CHECK_ERROR(ww_listener_from_fd(&again, fd), -ENOTSOCK, "not a socket's");
    CHECK_ERROR(ww_socket_from_fd(&socket, -1), -EBADF, "not an open descriptor");
    CHECK_ERROR(ww_listener_from_fd(&again, 9999), -EBADF, "listener");
    close(fd);
}

TEST(bad_input) {
    ww_socket *one, *other, *none = NULL;
    ww_listener *no_listener = NULL;
    ww_socket_options options = WW_SOCKET_OPTIONS_INIT;
    char buffer[4], long_path[300];
    size_t done = 9;
    pair(&one, &other, "unix");
    CHECK_ERROR(ww_socket_pair(&none, &none, "tcp"), -EINVAL, "come in pairs");
    CHECK_ERROR(ww_socket_pair(&none, &none, "nonsense"), -EINVAL, "unix-seqpacket");
    CHECK_ERROR(ww_socket_pair(&none, &none, NULL), -EFAULT, "kind");
    CHECK_ERROR(ww_socket_pair(NULL, &none, "unix"), -EFAULT, "output");
    CHECK_ERROR(ww_socket_pair(&none, NULL, "unix"), -EFAULT, "output");
    CHECK_ERROR(ww_socket_connect(&none, "pipe:", NULL, WW_NOW), -EINVAL, "another kind of object");
    CHECK_ERROR(ww_socket_connect(&none, NULL, NULL, WW_NOW), -EFAULT, "address");
    CHECK_ERROR(ww_socket_connect(NULL, "unix:/x", NULL, WW_NOW), -EFAULT, "output");
    CHECK_ERROR(ww_socket_connect(&none, "tcp://localhost:1", NULL, WW_NOW), -EAGAIN, "numeric address");
    CHECK_ERROR(ww_socket_connect(&none, "tcp://127.0.0.1:1", NULL, -7), -EINVAL, "WW_FOREVER");
    CHECK_ERROR(ww_socket_bind(&none, "tcp://127.0.0.1:0", NULL, WW_NOW), -EINVAL, "expected udp:");
    CHECK_ERROR(ww_socket_bind(&none, NULL, NULL, WW_NOW), -EFAULT, "address");
    CHECK_ERROR(ww_socket_bind(NULL, "udp://127.0.0.1:0", NULL, WW_NOW), -EFAULT, "output");
    CHECK_ERROR(ww_listener_open(&no_listener, "udp://127.0.0.1:0", NULL, WW_NOW), -EINVAL, "expected tcp:");
    CHECK_ERROR(ww_listener_open(&no_listener, NULL, NULL, WW_NOW), -EFAULT, "address");
    CHECK_ERROR(ww_listener_open(NULL, "tcp://127.0.0.1:0", NULL, WW_NOW), -EFAULT, "output");
    snprintf(long_path, sizeof long_path, "unix:/tmp/%0200d", 1);
    CHECK_ERROR(ww_listener_open(&no_listener, long_path, NULL, WW_NOW), -ENAMETOOLONG, "at most 107 bytes");
    options.nodelay = 1;
    CHECK_ERROR(ww_socket_connect(&none, "unix:/x", &options, WW_NOW), -EINVAL, "tcp: alone");
    options.nodelay = 0;
    options.reuse = 7;
    CHECK_ERROR(ww_listener_open(&no_listener, "tcp://127.0.0.1:0", &options, WW_NOW), -EINVAL, "0, 1 or -1");
    options.reuse = 0;
    options.size = 1;
    CHECK_ERROR(ww_listener_open(&no_listener, "tcp://127.0.0.1:0", &options, WW_NOW), -EINVAL, "INIT macro");
    CHECK(none == NULL && no_listener == NULL);
    CHECK_ERROR(ww_socket_recv(one, buffer, 0, WW_NOW, NULL), -EINVAL, "zero bytes");
    CHECK_ERROR(ww_socket_recv(one, NULL, 4, WW_NOW, NULL), -EFAULT, "buffer");
    CHECK_INT(ww_socket_send(one, NULL, 0, WW_NOW), 0);
    CHECK_ERROR(ww_socket_send(one, NULL, 1, WW_NOW), -EFAULT, "buffer");
    CHECK_ERROR(ww_socket_send(one, buffer, (size_t)-1, WW_NOW), -EINVAL, "negative");
    CHECK_ERROR(ww_socket_recv_from(one, buffer, 4, NULL, 0, WW_NOW, NULL), -ENOTSUP, "datagrams");
    CHECK_ERROR(ww_socket_send_to(one, buffer, 4, "unix:/x", WW_NOW), -ENOTSUP, "datagrams");
    CHECK_ERROR(ww_socket_shutdown(one, 9), -EINVAL, "WW_SHUTDOWN_");
    CHECK_ERROR(ww_socket_nodelay(one), -ENOTSUP, "tcp: alone");
    CHECK_ERROR(ww_socket_set_nodelay(one, 1), -ENOTSUP, "tcp: alone");
    CHECK_ERROR(ww_socket_keep_alive(one, NULL, NULL, NULL), -ENOTSUP, "tcp: alone");
    CHECK_ERROR(ww_socket_set_keep_alive(one, 1, 0, 0, 0), -ENOTSUP, "tcp: alone");
    CHECK_ERROR(ww_socket_recv(NULL, buffer, 4, WW_NOW, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_recv_exact(NULL, buffer, 4, WW_NOW, &done), -EFAULT, "socket");
    CHECK_INT(done, 0);
    CHECK_ERROR(ww_socket_recv_from(NULL, buffer, 4, NULL, 0, WW_NOW, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_recv_fds(NULL, buffer, 4, NULL, 0, &done, WW_NOW, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_send(NULL, buffer, 4, WW_NOW), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_send_all(NULL, buffer, 4, WW_NOW, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_send_to(NULL, buffer, 4, "udp://:1", WW_NOW), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_send_fds(NULL, buffer, 4, NULL, 0, WW_NOW, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_shutdown(NULL, 0), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_local_address(NULL, buffer, 4, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_peer_address(NULL, buffer, 4, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_peer_credentials(NULL, NULL, NULL, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_nodelay(NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_set_nodelay(NULL, 1), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_keep_alive(NULL, NULL, NULL, NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_set_keep_alive(NULL, 1, 0, 0, 0), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_send_buffer(NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_receive_buffer(NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_set_send_buffer(NULL, 1), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_set_receive_buffer(NULL, 1), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_refused(NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_inherit(NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_fd(NULL), -EFAULT, "socket");
    CHECK_ERROR(ww_socket_from_fd(NULL, 0), -EFAULT, "output");
    CHECK_ERROR(ww_listener_from_fd(NULL, 0), -EFAULT, "output");
    CHECK_ERROR(ww_listener_accept(NULL, &none, WW_NOW), -EFAULT, "listener");
    CHECK_ERROR(ww_listener_local_address(NULL, buffer, 4, NULL), -EFAULT, "listener");
    CHECK_ERROR(ww_listener_refused(NULL), -EFAULT, "listener");
    CHECK_ERROR(ww_listener_inherit(NULL), -EFAULT, "listener");
    CHECK_ERROR(ww_listener_fd(NULL), -EFAULT, "listener");
    OK(ww_socket_shutdown(one, WW_SHUTDOWN_BOTH));
    CHECK_ERROR(ww_socket_send(one, "x", 1, WW_NOW), -EPIPE, "shut down");
    ww_socket_close(one);
    ww_socket_close(other);
    ww_socket_close(NULL);
    ww_listener_close(NULL);
}
