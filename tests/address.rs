//! Addresses: the table of examples, and printing as the inverse of parsing.

use proptest::prelude::*;
use wigwag::{Address, Scheme};

#[test]
fn table_of_examples() {
    let table = include_str!("address_examples.tsv");
    let (mut valid, mut invalid) = (0, 0);
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split('\t').collect();
        match fields[..] {
            ["valid", text, ref printed @ ..] => {
                let address = Address::parse(text).unwrap();
                assert_eq!(address.to_string(), *printed.first().unwrap_or(&text), "{text}");
                assert_eq!(Address::parse(address.to_string()).unwrap(), address);
                valid += 1;
            }
            ["invalid", text, errno, position, expected] => {
                let error = Address::parse(text).expect_err(text);
                assert_eq!(error.name(), errno, "{text}");
                let reason = error.reason();
                assert!(reason.starts_with(&format!("at byte {position}: expected ")), "{text}: {reason}");
                assert!(reason.contains(expected), "{text}: {reason}");
                invalid += 1;
            }
            _ => panic!("not a line of the table: {line:?}"),
        }
    }
    assert!(valid >= 30 && invalid >= 30, "{valid} valid, {invalid} invalid");
}

#[test]
fn too_long_a_name() {
    let error = Address::parse(format!("shm:/{}", "x".repeat(256))).unwrap_err();
    assert_eq!(error.name(), "ENAMETOOLONG");
    assert!(Address::parse(format!("shm:/{}", "x".repeat(255))).is_ok());
    assert_eq!(Address::parse(format!("sem:/{}", "x".repeat(252))).unwrap_err().name(), "ENAMETOOLONG");
}

#[test]
fn bytes_that_are_not_text() {
    assert!(Address::parse(b"file:/tmp/\xff").unwrap_err().reason().contains("at byte 10: expected UTF-8"));
    assert_eq!(Address::parse("file:/tmp/%ff").unwrap().name(), b"/tmp/\xff");
}

/// A name that the scheme allows, from arbitrary bytes.
fn name_for(scheme: Scheme, bytes: &[u8]) -> (Vec<u8>, Option<u8>) {
    let clean: Vec<u8> = bytes.iter().map(|byte| if *byte == 0 { 1 } else { *byte }).collect();
    let word: String = bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    match scheme {
        Scheme::Tcp | Scheme::Udp => (format!("//h{word}:{}", bytes.len()).into(), None),
        Scheme::EventFd | Scheme::Pipe => (vec![], None),
        Scheme::Signal => (format!("S{word}").into(), None),
        Scheme::SysvShm | Scheme::SysvMq | Scheme::SysvSem => {
            ([b"./", clean.as_slice()].concat(), Some((bytes.len() as u8).max(1)))
        }
        Scheme::Shm | Scheme::Mq | Scheme::Sem => {
            let name: Vec<u8> = clean.iter().map(|byte| if *byte == b'/' { b'_' } else { *byte }).collect();
            ([b"/n", name.as_slice()].concat(), None)
        }
        _ => ([b"p", clean.as_slice()].concat(), None),
    }
}

proptest! {
    #[test]
    fn parsing_is_the_inverse_of_printing(
        scheme in proptest::sample::select(Scheme::ALL),
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
        mode in proptest::option::of(0u32..0o1000),
    ) {
        let (name, id) = name_for(scheme, &bytes);
        let mode = mode.map(|mode| format!("{mode:o}"));
        let mut address = Address::from_parts(scheme, &name, id, mode.as_deref().map(|mode| ("mode", mode)));
        if address.is_err() {
            // Schemes without a mode refuse one.
            address = Address::from_parts(scheme, &name, id, []);
        }
        let address = address.unwrap();
        prop_assert_eq!(address.name(), name.as_slice());
        let printed = address.to_string();
        prop_assert_eq!(Address::parse(&printed).unwrap(), address);
    }

    #[test]
    fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Address::parse(&text);
        let _ = String::from_utf8_lossy(&text).parse::<wigwag::Signal>();
    }

    #[test]
    fn text_that_looks_right_parses_to_what_prints_the_same(
        text in r"(tcp|unix|shm|sysv-mq|pipe|fifo|signal|ring):[/@a-z0-9:%.\[\]-]{0,20}(#[0-9]{1,3})?(\?[a-z]{1,8}=[0-9a-z%]{0,5})?"
    ) {
        if let Ok(address) = Address::parse(&text) {
            prop_assert_eq!(Address::parse(address.to_string()).unwrap(), address);
        }
    }
}
