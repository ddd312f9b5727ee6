//! Paths: taken over only from the dead, removed only by who made them.

use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

use nix::errno::Errno;
use wigwag::{Address, Listener, Scheme, Socket, SocketOptions, Timeout};

use crate::support::{GENEROUS, eventually, fork};
use crate::{Place, connect, listen, plain};

#[test]
fn removed_on_close() {
    let place = Place::new();
    let listener = listen(&place.address(Scheme::Unix, "s"));
    assert!(place.path("s").metadata().unwrap().file_type().is_socket());
    drop(listener);
    assert!(!place.path("s").exists());
    drop(Socket::bind(&place.address(Scheme::UnixDgram, "d"), &plain(), Timeout::Now).unwrap());
    assert!(!place.path("d").exists());
    let kept = listen(&place.address(Scheme::Unix, "s")).into_fd().unwrap();
    assert!(place.path("s").exists(), "the caller's now");
    drop(kept);
}

#[test]
fn a_child_does_not_remove_it() {
    let place = Place::new();
    let address = place.address(Scheme::Unix, "s");
    let listener = listen(&address);
    let mut shared = Some(listener);
    fork(|| drop(shared.take())).join();
    assert!(place.path("s").exists());
    connect(&address);
}

#[test]
fn somebody_elses_file_in_its_place_is_left_alone() {
    let place = Place::new();
    let listener = listen(&place.address(Scheme::Unix, "s"));
    std::fs::remove_file(place.path("s")).unwrap();
    std::fs::write(place.path("s"), "precious").unwrap();
    drop(listener);
    assert_eq!(std::fs::read(place.path("s")).unwrap(), b"precious");
}

#[test]
fn a_dead_servers_path_is_taken_over_and_a_living_ones_is_not() {
    let place = Place::new();
    for scheme in [Scheme::Unix, Scheme::UnixSeqpacket] {
        let address = place.address(scheme, "s");
        let child = fork(|| {
            let listener = listen(&address);
            loop {
                let _ = listener.accept(Timeout::Forever);
            }
        });
        eventually("the child listens", || Socket::connect(&address, &plain(), Timeout::Now).is_ok());
        fork(|| {
            let error = Listener::open(&address, &plain(), GENEROUS).unwrap_err();
            assert!(error.is(Errno::EADDRINUSE), "{error}");
        })
        .join();
        child.kill(libc::SIGKILL);
        child.wait();
        assert!(place.path("s").exists(), "left over");
        let listener = listen(&address);
        let error = Listener::open(&address, &plain(), GENEROUS).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "listen {address}: EADDRINUSE: somebody listens on this path; stop that program, or choose another path"
            )
        );
        connect(&address);
        listener.accept(GENEROUS).unwrap();
    }
}

#[test]
fn a_living_server_with_a_full_backlog_is_alive() {
    let place = Place::new();
    let address = place.address(Scheme::Unix, "s");
    let _listener = Listener::open(&address, &SocketOptions { backlog: 1, ..plain() }, GENEROUS).unwrap();
    let _waiting: Vec<_> =
        std::iter::from_fn(|| Socket::connect(&address, &plain(), Timeout::Now).ok()).take(100).collect();
    assert!(Listener::open(&address, &plain(), GENEROUS).unwrap_err().is(Errno::EADDRINUSE));
    // Nor may a socket of another kind take the path.
    let other = place.address(Scheme::UnixDgram, "s");
    assert!(Socket::bind(&other, &plain(), GENEROUS).unwrap_err().is(Errno::EADDRINUSE));
}

/// Servers that start at once on a dead one's path: one gets it, and keeps it.
#[test]
fn one_of_many_takes_over() {
    let place = Place::new();
    let address = place.address(Scheme::Unix, "s");
    for _ in 0..20 {
        drop(std::os::unix::net::UnixListener::bind(place.path("s")).unwrap());
        let open = || Listener::open(&address, &plain(), GENEROUS);
        let opened: Vec<_> = std::thread::scope(|threads| {
            let starting: Vec<_> = (0..4).map(|_| threads.spawn(open)).collect();
            starting.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
        });
        assert_eq!(opened.len(), 1);
        let client = connect(&address);
        opened[0].accept(GENEROUS).unwrap();
        drop(client);
    }
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let place = Place::new();
    std::fs::write(place.path("file"), "precious").unwrap();
    std::fs::create_dir(place.path("directory")).unwrap();
    symlink(place.path("nowhere"), place.path("link")).unwrap();
    for (name, what) in [("file", "a file"), ("directory", "a directory"), ("link", "a symbolic link")] {
        let error = Listener::open(&place.address(Scheme::Unix, name), &plain(), GENEROUS).unwrap_err();
        assert!(error.is(Errno::ENOTSOCK), "{error}");
        assert_eq!(error.reason(), format!("the path is {what}, not a socket; it was left alone: choose another path"));
        let error = Socket::bind(&place.address(Scheme::UnixDgram, name), &plain(), GENEROUS).unwrap_err();
        assert!(error.is(Errno::ENOTSOCK), "{error}");
    }
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"precious");
    let error = Listener::open(&place.address(Scheme::Unix, "none/s"), &plain(), GENEROUS).unwrap_err();
    assert!(error.is(Errno::ENOENT) && error.reason().contains("create it first"), "{error}");
    let long: Address = format!("unix:/tmp/{}", "x".repeat(200)).parse().unwrap();
    let error = Listener::open(&long, &plain(), GENEROUS).unwrap_err();
    assert!(error.is(Errno::ENAMETOOLONG) && error.reason().contains("at most 107 bytes"), "{error}");
}

#[test]
fn permissions_whatever_the_umask() {
    // In a child, because the umask belongs to the process.
    fork(|| {
        for umask in [0, 0o022, 0o777] {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
            let place = Place::new();
            if umask == 0o777 {
                let directory = place.path("s").parent().unwrap().to_owned();
                std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).unwrap();
            }
            for (options, mode) in [(plain(), 0o600), (SocketOptions { mode: 0o666, ..plain() }, 0o666)] {
                let _listener = Listener::open(&place.address(Scheme::Unix, "s"), &options, GENEROUS).unwrap();
                assert_eq!(place.path("s").metadata().unwrap().permissions().mode() & 0o777, mode);
            }
            let text = format!("{}?mode=640", place.address(Scheme::Unix, "t"));
            let _listener = listen(&text.parse().unwrap());
            assert_eq!(place.path("t").metadata().unwrap().permissions().mode() & 0o777, 0o640);
        }
    })
    .join();
    let wrong = SocketOptions { mode: 0o1777, ..plain() };
    let error = Listener::open(&"unix:x".parse().unwrap(), &wrong, GENEROUS).unwrap_err();
    assert!(error.is(Errno::EINVAL) && error.reason().contains("0777"), "{error}");
}

/// A program that locks its own directory, as some do against clean-up, can listen in it.
#[test]
fn a_locked_directory_is_no_hindrance() {
    let place = Place::new();
    let directory = std::fs::File::open(place.path("s").parent().unwrap()).unwrap();
    directory.lock().unwrap();
    listen(&place.address(Scheme::Unix, "s"));
    Listener::open(&place.address(Scheme::Unix, "s"), &plain(), Timeout::Now).unwrap();
}

#[test]
fn relative_paths_are_removed_from_where_they_were() {
    fork(|| {
        let (place, elsewhere) = (Place::new(), Place::new());
        std::env::set_current_dir(place.path("s").parent().unwrap()).unwrap();
        let listener = listen(&"unix:s".parse().unwrap());
        std::env::set_current_dir(elsewhere.path("s").parent().unwrap()).unwrap();
        drop(listener);
        assert!(!place.path("s").exists());
    })
    .join();
}
