//! Percent-coding and numbers.

use std::ops::Range;

use super::Flaw;

/// Undoes percent-coding; `reserved` bytes must not stand for themselves, nor bytes that are not UTF-8.
pub(super) fn decode(text: &[u8], span: Range<usize>, reserved: &[u8]) -> Result<Vec<u8>, Flaw> {
    if let Err(error) = std::str::from_utf8(&text[span.clone()]) {
        return Err(Flaw::at(span.start + error.valid_up_to(), "UTF-8, or %XX for any other byte"));
    }
    let mut plain = Vec::with_capacity(span.len());
    let mut at = span.start;
    while at < span.end {
        match text[at] {
            b'%' => {
                let hex = text[at + 1..span.end].get(..2).and_then(hex);
                plain.push(hex.ok_or_else(|| Flaw::at(at, "% and two hexadecimal digits (%25 for % itself)"))?);
                at += 3;
            }
            byte if reserved.contains(&byte) => {
                return Err(Flaw::at(at, format!("%{byte:02X} in place of '{}'", char::from(byte))));
            }
            byte => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    Ok(plain)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// Percent-codes what the grammar reserves, control characters, and bytes that are not UTF-8.
pub(super) fn encode(plain: &[u8]) -> String {
    let mut text = String::with_capacity(plain.len());
    for chunk in plain.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_ascii_control() || matches!(char, '%' | '?' | '#' | '&') {
                text.push_str(&format!("%{:02X}", u32::from(char)));
            } else {
                text.push(char);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// For error texts: what the caller gave, cut to a length that can be read.
pub(super) fn printable(text: &[u8]) -> String {
    const MOST: usize = 200;
    let shown: String = String::from_utf8_lossy(text).chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.len() > MOST { shown + "…" } else { shown }
}

/// Decimal digits only: no sign, no space.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Octal digits only.
pub(super) fn octal(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok()
}

/// Names with a number each, such as `web:6,cron:2`; `None` where there is no number.
pub(super) fn shares(text: &str) -> impl Iterator<Item = (&str, Option<u32>)> {
    text.split(',').map(|share| match share.split_once(':') {
        Some((name, number)) => (name, u32::try_from(self::number(number.as_bytes()).unwrap_or(u64::MAX)).ok()),
        None => (share, None),
    })
}
