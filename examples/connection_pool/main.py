"""Processes that share two connections to a database; one is killed in the middle of a transaction."""

import contextlib
import os
import signal
import sqlite3
import sys

import wigwag

DATABASE = "connection_pool.db"
PATIENCE = 10


def connect():
    return contextlib.closing(sqlite3.connect(DATABASE, timeout=PATIENCE, isolation_level=None))


def work(pool, number):
    with pool.acquire(PATIENCE, note="a worker") as lease, connect() as connection:
        lease.information = f"writing row {number}".encode()
        connection.execute("BEGIN")
        connection.execute("INSERT INTO rows VALUES (?)", (number,))
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        connection.execute("COMMIT")
        lease.information = b""


with connect() as connection:
    connection.execute("CREATE TABLE rows (number INT)")
pool = wigwag.LeasePool.anonymous(2)
workers = []
for number in range(1, 5):
    if number == 4:  # the one that dies: nobody takes its slot over but this process
        while workers:
            os.waitpid(workers.pop(), 0)
    workers.append(os.fork())
    if workers[-1] == 0:
        work(pool, number)
        sys.exit()
os.waitpid(workers[-1], 0)
with pool.acquire(PATIENCE) as one, pool.acquire(PATIENCE) as other, connect() as connection:
    for lease in (one, other):
        if lease.dirty:
            print("Taken over from the dead:", lease.information.decode())
            connection.execute("SELECT count(*) FROM rows")  # takes back what it had begun
            lease.make_clean()
    rows, = connection.execute("SELECT count(*) FROM rows").fetchone()
    print(f"{rows} rows, {pool.statistics().leases} leases of {pool.slots} slots")
pool.close()
os.remove(DATABASE)
