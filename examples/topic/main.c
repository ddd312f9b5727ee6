/* The news: what the parent publishes goes to everybody who has subscribed, also to those who come late. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

#define PATIENCE WW_SEC(10)

static ssize_t check(ssize_t code) {
    if (code < 0) {
        fprintf(stderr, "%s\n", ww_last_error());
        exit(1);
    }
    return code;
}

static void read_two(const char *name, const ww_subscription *subscription) {
    char buffer[100];
    ww_topic_received received;
    int n;
    for (n = 0; n < 2; n++) {
        ssize_t length = check(ww_subscription_recv(subscription, buffer, sizeof buffer, PATIENCE, &received, NULL));
        printf("%s, %llu: %.*s\n", name, (unsigned long long)received.sequence, (int)length, buffer);
    }
    fflush(stdout);
}

int main(void) {
    ww_topic *topic;
    ww_subscription *early, *late;
    pid_t child;
    check(ww_topic_anonymous(&topic, NULL));
    check(ww_topic_subscribe(topic, &early, NULL));
    check(ww_topic_publish(topic, "Rain", 4, PATIENCE, NULL));
    check(ww_topic_publish(topic, "Sun", 3, PATIENCE, NULL));
    child = fork();
    if (child == 0) {
        ww_subscribe_options options = WW_SUBSCRIBE_OPTIONS_INIT;
        options.history = 2;
        check(ww_topic_subscribe(topic, &late, &options));
        read_two("Child", late);
        ww_subscription_close(late);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    read_two("Parent", early);
    ww_subscription_close(early);
    ww_topic_close(topic);
    return 0;
}
