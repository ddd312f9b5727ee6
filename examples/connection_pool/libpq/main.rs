//! Processes that share two connections to PostgreSQL, by libpq; one is killed in the middle of a transaction. The argument is the
//! server's conninfo. A package of its own, since it is linked with libpq: `cargo run --package wigwag-example-libpq CONNINFO`.

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use wigwag::{LeaseOptions, LeasePool, LeaseRequest, Timeout};

const PATIENCE: Timeout = Timeout::After(Duration::from_secs(10));

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A session with the server.
struct Connection(*mut PGconn);

#[repr(C)]
struct PGconn([u8; 0]);
#[repr(C)]
struct PGresult([u8; 0]);

const CONNECTION_OK: c_int = 0;
const PGRES_COMMAND_OK: c_int = 1;
const PGRES_TUPLES_OK: c_int = 2;

/// When a session began, in microseconds since 1970: a process ID alone may be another's by the time it is looked at.
const START: &str = "(extract(epoch FROM backend_start) * 1000000)::bigint";

// libpq-fe.h
#[link(name = "pq")]
unsafe extern "C" {
    fn PQconnectdb(conninfo: *const c_char) -> *mut PGconn;
    fn PQstatus(connection: *const PGconn) -> c_int;
    fn PQerrorMessage(connection: *const PGconn) -> *const c_char;
    fn PQbackendPID(connection: *const PGconn) -> c_int;
    fn PQexec(connection: *mut PGconn, statement: *const c_char) -> *mut PGresult;
    fn PQresultStatus(result: *const PGresult) -> c_int;
    fn PQntuples(result: *const PGresult) -> c_int;
    fn PQgetvalue(result: *const PGresult, row: c_int, column: c_int) -> *const c_char;
    fn PQclear(result: *mut PGresult);
    fn PQfinish(connection: *mut PGconn);
}

impl Connection {
    fn open(conninfo: &str) -> Outcome<Connection> {
        let conninfo = CString::new(conninfo)?;
        // SAFETY: a C string; what comes back is ours, also if it is not connected (libpq, "Database Connection Control").
        let connection = Connection(unsafe { PQconnectdb(conninfo.as_ptr()) });
        // SAFETY: a connection, or NULL if there was no memory, which this takes for a bad one.
        if unsafe { PQstatus(connection.0) } == CONNECTION_OK { Ok(connection) } else { Err(connection.error()) }
    }

    fn error(&self) -> Box<dyn std::error::Error> {
        // SAFETY: libpq gives a C string, for NULL as well, which lasts until the next call.
        unsafe { CStr::from_ptr(PQerrorMessage(self.0)) }.to_string_lossy().into()
    }

    /// Runs a statement; its first value as a number, if it has one.
    fn run(&self, statement: &str) -> Outcome<i64> {
        let statement = CString::new(statement)?;
        // SAFETY: an open connection that this thread uses alone; the result is ours until it is cleared.
        unsafe {
            let result = PQexec(self.0, statement.as_ptr());
            let status = PQresultStatus(result);
            let value = if PQntuples(result) > 0 {
                CStr::from_ptr(PQgetvalue(result, 0, 0)).to_string_lossy().parse().unwrap_or(0)
            } else {
                0
            };
            PQclear(result);
            if [PGRES_COMMAND_OK, PGRES_TUPLES_OK].contains(&status) { Ok(value) } else { Err(self.error()) }
        }
    }

    /// Which one it is at the server: its process, and when that began.
    fn session(&self) -> Outcome<(i32, i64)> {
        let start = self.run(&format!("SELECT {START} FROM pg_stat_activity WHERE pid = pg_backend_pid()"))?;
        // SAFETY: an open connection.
        Ok((unsafe { PQbackendPID(self.0) }, start))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: from PQconnectdb, and not used again.
        unsafe { PQfinish(self.0) };
    }
}

/// The session of a client that was killed may still be at work.
fn end_session(connection: &Connection, pid: i32, start: i64) -> Outcome<()> {
    let session = format!("FROM pg_stat_activity WHERE pid = {pid} AND {START} = {start}");
    connection.run(&format!("SELECT pg_terminate_backend(pid) {session}"))?;
    while connection.run(&format!("SELECT count(*) {session}"))? > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn work(pool: &LeasePool, conninfo: &str, number: u32) -> Outcome<()> {
    let mut lease = pool.acquire_for(&LeaseRequest { note: "a worker", ..Default::default() }, PATIENCE)?;
    let connection = Connection::open(conninfo)?;
    let (pid, start) = connection.session()?;
    lease.set_information(format!("writing row {number}; session {pid} {start}").as_bytes())?;
    connection.run("BEGIN")?;
    connection.run(&format!("INSERT INTO numbers VALUES ({number})"))?;
    if number == 4 {
        raise(Signal::SIGKILL)?;
    }
    connection.run("COMMIT")?;
    drop(connection);
    lease.set_information(b"")?;
    Ok(lease.release()?)
}

fn main() -> Outcome<()> {
    let conninfo = std::env::args().nth(1).ok_or("which server? Its conninfo is the argument")?;
    Connection::open(&conninfo)?.run("CREATE TABLE numbers (number INT)")?;
    let pool = LeasePool::anonymous(LeaseOptions { slots: 2, ..Default::default() })?;
    let mut workers = Vec::new();
    for number in 1..=4 {
        if number == 4 {
            // The one that dies: nobody takes its slot over but this process.
            for worker in workers.drain(..) {
                waitpid(worker, None)?;
            }
        }
        // SAFETY: this program has one thread.
        match unsafe { fork()? } {
            ForkResult::Child => return work(&pool, &conninfo, number),
            ForkResult::Parent { child } => workers.push(child),
        }
    }
    for worker in workers {
        waitpid(worker, None)?;
    }
    let mut leases = [pool.acquire(PATIENCE)?, pool.acquire(PATIENCE)?];
    let connection = Connection::open(&conninfo)?;
    for lease in leases.iter_mut().filter(|lease| lease.is_dirty()) {
        let information = String::from_utf8(lease.information()?)?;
        let (what, session) = information.split_once("; session ").ok_or("it has no session")?;
        let (pid, start) = session.split_once(' ').ok_or("it has no start")?;
        println!("Taken over from the dead: {what}");
        end_session(&connection, pid.parse()?, start.parse()?)?;
        lease.make_clean()?;
    }
    let rows = connection.run("SELECT count(*) FROM numbers")?;
    println!("{rows} rows, {} leases of {} slots", pool.statistics()?.leases, pool.slots());
    connection.run("DROP TABLE numbers")?;
    Ok(())
}
