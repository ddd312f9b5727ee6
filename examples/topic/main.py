"""The news: what the parent publishes goes to everybody who has subscribed, also to those who come late."""

import os

import wigwag


def read(name, subscription):
    for _ in range(2):
        message = subscription.recv(timeout=10)
        print(f"{name}, {message.sequence}: {message.data.decode()}", flush=True)


with wigwag.Topic.anonymous() as topic, topic.subscribe() as early:
    topic.publish(b"Rain", timeout=10)
    topic.publish(b"Sun", timeout=10)
    pid = os.fork()
    if pid == 0:
        with topic.subscribe(history=2) as late:
            read("Child", late)
        os._exit(0)
    os.waitpid(pid, 0)
    read("Parent", early)
