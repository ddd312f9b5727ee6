//! Addresses: what is parsed prints as what parses to the same.

use wigwag::{Address, Signal};

pub fn parse(bytes: &[u8]) {
    match Address::parse(bytes) {
        Ok(address) => {
            let printed = address.to_string();
            assert_eq!(Address::parse(&printed).unwrap(), address, "{printed}");
            let options = address.options().map(|(key, value)| (key, std::str::from_utf8(value)));
            let options: Vec<_> = options.filter_map(|(key, value)| Some((key, value.ok()?))).collect();
            if options.len() == address.options().count() {
                let made = Address::from_parts(address.scheme(), address.name(), address.id(), options).unwrap();
                assert_eq!(made, address, "{printed}");
            }
            assert!(address.mode().is_none_or(|mode| mode <= 0o7777));
        }
        Err(error) => assert!(!error.reason().is_empty()),
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(signal) = text.parse::<Signal>() {
        assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
    }
}
