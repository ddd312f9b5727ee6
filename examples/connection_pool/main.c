/* Processes that share two connections to a database; one is killed in the middle of a transaction.
 *
 * With SQLite (-lsqlite3), or, compiled with -DWITH_LIBPQ (-lpq), with PostgreSQL: the argument is its conninfo. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wigwag.h>

#define PATIENCE WW_SEC(10)

static const char *database = "connection_pool.db";

static void check(int ok, const char *what, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Which one it is at the server: its process, and when that began. */
typedef struct {
    int pid;
    long long start;
} session;

#ifdef WITH_LIBPQ
#include <libpq-fe.h>

typedef PGconn connection;

static connection *connect_to(void) {
    connection *db = PQconnectdb(database);
    check(PQstatus(db) == CONNECTION_OK, "connect", PQerrorMessage(db));
    return db;
}

/* Runs a statement; its first value as a number, if it has one. */
static long long run(connection *db, const char *statement) {
    PGresult *result = PQexec(db, statement);
    long long value;
    check(PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK, statement,
          PQerrorMessage(db));
    value = PQntuples(result) > 0 ? atoll(PQgetvalue(result, 0, 0)) : 0;
    PQclear(result);
    return value;
}

/* In microseconds since 1970. A process ID alone may be another session's by the time it is looked at. */
#define START "(extract(epoch FROM backend_start) * 1000000)::bigint"

static session session_of(connection *db) {
    session own;
    own.pid = PQbackendPID(db);
    own.start = run(db, "SELECT " START " FROM pg_stat_activity WHERE pid = pg_backend_pid()");
    return own;
}

/* The session of a client that was killed may still be at work. */
static void end_session(connection *db, session left) {
    const char *which = "FROM pg_stat_activity WHERE pid = %d AND " START " = %lld";
    char from[200], statement[300];
    snprintf(from, sizeof from, which, left.pid, left.start);
    snprintf(statement, sizeof statement, "SELECT pg_terminate_backend(pid) %s", from);
    run(db, statement);
    snprintf(statement, sizeof statement, "SELECT count(*) %s", from);
    while (run(db, statement) > 0) usleep(1000);
}

static void disconnect(connection *db) {
    PQfinish(db);
}
#else
#include <sqlite3.h>

typedef sqlite3 connection;

static connection *connect_to(void) {
    connection *db;
    check(sqlite3_open(database, &db) == SQLITE_OK, "connect", "it cannot be opened");
    sqlite3_busy_timeout(db, 10000);
    return db;
}

static int number(void *value, int columns, char **values, char **names) {
    (void)names;
    if (columns > 0 && values[0] != NULL) *(long long *)value = atoll(values[0]);
    return 0;
}

/* Runs a statement; its first value as a number, if it has one. */
static long long run(connection *db, const char *statement) {
    long long value = 0;
    check(sqlite3_exec(db, statement, number, &value, NULL) == SQLITE_OK, statement, sqlite3_errmsg(db));
    return value;
}

static session session_of(connection *db) {
    session own = {0, 0}; /* it is this process's own */
    (void)db;
    return own;
}

/* The first to read takes back what was begun. */
static void end_session(connection *db, session left) {
    (void)left;
    run(db, "SELECT count(*) FROM numbers");
}

static void disconnect(connection *db) {
    sqlite3_close(db);
}
#endif

static void work(ww_lease_pool *pool, int which) {
    ww_lease *lease;
    connection *db;
    session own;
    char text[100];
    check(ww_lease_pool_acquire(pool, &lease, NULL, "a worker", PATIENCE) >= 0, "acquire", ww_last_error());
    db = connect_to();
    own = session_of(db);
    snprintf(text, sizeof text, "writing row %d; session %d %lld", which, own.pid, own.start);
    check(ww_lease_set_information(lease, text, strlen(text)) == 0, "set_information", ww_last_error());
    run(db, "BEGIN");
    snprintf(text, sizeof text, "INSERT INTO numbers VALUES (%d)", which);
    run(db, text);
    if (which == 4) raise(SIGKILL);
    run(db, "COMMIT");
    disconnect(db);
    check(ww_lease_set_information(lease, "", 0) == 0, "set_information", ww_last_error());
    check(ww_lease_release(lease) == 0, "release", ww_last_error());
}

int main(int count, char **arguments) {
    ww_lease_pool_options options = WW_LEASE_POOL_OPTIONS_INIT;
    ww_lease_pool_statistics statistics;
    ww_lease_pool *pool;
    ww_lease *leases[2];
    connection *db;
    int at;
    if (count > 1) database = arguments[1];
    db = connect_to();
    run(db, "CREATE TABLE numbers (number INT)");
    disconnect(db);
    options.slots = 2;
    check(ww_lease_pool_anonymous(&pool, &options) == 0, "pool", ww_last_error());
    for (at = 1; at <= 4; at++) {
        if (at == 4) /* the one that dies: nobody takes its slot over but this process */
            while (wait(NULL) > 0) continue;
        if (fork() == 0) {
            work(pool, at);
            return 0;
        }
    }
    wait(NULL);
    for (at = 0; at < 2; at++)
        check(ww_lease_pool_acquire(pool, &leases[at], NULL, NULL, PATIENCE) >= 0, "acquire", ww_last_error());
    db = connect_to();
    for (at = 0; at < 2; at++) {
        char text[WW_LEASE_INFORMATION_MAX + 1] = {0}, *end;
        session left;
        if (ww_lease_is_dirty(leases[at]) != 1) continue;
        check(ww_lease_information(leases[at], text, sizeof text - 1, NULL) == 0, "information", ww_last_error());
        end = strstr(text, "; session ");
        check(end != NULL && sscanf(end, "; session %d %lld", &left.pid, &left.start) == 2, "information", text);
        *end = 0;
        printf("Taken over from the dead: %s\n", text);
        end_session(db, left);
        check(ww_lease_make_clean(leases[at]) == 0, "make_clean", ww_last_error());
    }
    check(ww_lease_pool_get_statistics(pool, &statistics, NULL, 0) == 0, "statistics", ww_last_error());
    printf("%lld rows, %d leases of %d slots\n", run(db, "SELECT count(*) FROM numbers"), (int)statistics.leases,
           (int)statistics.slots);
    run(db, "DROP TABLE numbers");
    disconnect(db);
#ifndef WITH_LIBPQ
    remove(database);
#endif
    for (at = 0; at < 2; at++) ww_lease_close(leases[at]);
    ww_lease_pool_close(pool);
    return 0;
}
