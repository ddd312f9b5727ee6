//! Mapped memory: copies, atomics, and every check.

use std::io::Write;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use wigwag::{Access, MapOptions, Mapping};

fn file_of(content: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn map(content: &[u8]) -> Mapping {
    Mapping::from_fd(file_of(content), &MapOptions::default()).unwrap()
}

#[test]
fn copies_in_and_out() {
    let memory = map(&[0; 100]);
    memory.write_at(3, b"hello").unwrap();
    let mut back = [0; 7];
    memory.read_at(2, &mut back).unwrap();
    assert_eq!(&back, b"\0hello\0");
    memory.write(51, &0x0123_4567_89AB_CDEF_u64).unwrap();
    assert_eq!(memory.read::<u64>(51).unwrap(), 0x0123_4567_89AB_CDEF);
    memory.write_slice(61, &[1.5_f32, -2.0]).unwrap();
    let mut floats = [0_f32; 2];
    memory.read_slice(61, &mut floats).unwrap();
    assert_eq!(floats, [1.5, -2.0]);
    memory.fill(0, 100, 0xAA).unwrap();
    assert_eq!(memory.read_vec(0, 100).unwrap(), [0xAA; 100]);
}

#[test]
fn outside_is_an_error_that_says_where() {
    let memory = map(&[0; 100]);
    for (offset, length) in [(0, 101), (100, 1), (101, 0), (usize::MAX, 1), (1, usize::MAX)] {
        assert_eq!(memory.read_vec(offset, length).unwrap_err().name(), "EINVAL", "{offset} {length}");
        assert_eq!(memory.fill(offset, length, 0).unwrap_err().name(), "EINVAL", "{offset} {length}");
        assert_eq!(memory.flush(offset, length).unwrap_err().name(), "EINVAL", "{offset} {length}");
    }
    let text = memory.read::<u64>(93).unwrap_err().to_string();
    assert!(text.starts_with("read fd:"), "{text}");
    assert!(text.ends_with("EINVAL: 8 bytes from offset 93 pass the end of the memory at 100"), "{text}");
    memory.read_at(100, &mut []).unwrap();
}

#[test]
fn atomics_are_checked() {
    let memory = map(&[0; 100]);
    memory.atomic_u32(96).unwrap().store(7, Ordering::Release);
    assert_eq!(memory.load_u32(96).unwrap(), 7);
    assert_eq!(memory.read::<u32>(96).unwrap(), 7);
    assert_eq!(memory.atomic_u64(96).unwrap_err().name(), "EINVAL");
    let unaligned = memory.atomic_u64(4).unwrap_err();
    assert_eq!(unaligned.reason(), "the offset 4 is not a multiple of 8, which an atomic access needs");
    assert_eq!(memory.atomic_u8(99).unwrap().fetch_add(1, Ordering::Relaxed), 0);
    assert!(memory.atomic_i64(8).is_ok() && memory.atomic_i32(4).is_ok() && memory.atomic_u16(2).is_ok());
}

#[test]
fn read_only() {
    let memory =
        Mapping::from_fd(file_of(b"fixed..."), &MapOptions { access: Access::ReadOnly, ..Default::default() }).unwrap();
    assert_eq!(memory.read_vec(0, 5).unwrap(), b"fixed");
    assert_eq!(memory.load_u64(0).unwrap(), u64::from_ne_bytes(*b"fixed..."));
    for error in [
        memory.write_at(0, b"x").unwrap_err(),
        memory.fill(0, 1, 0).unwrap_err(),
        memory.atomic_u8(0).map(drop).unwrap_err(),
    ] {
        assert_eq!(error.name(), "EACCES");
        assert_eq!(error.reason(), "the memory is attached read-only; attach it for reading and writing");
    }
    // SAFETY: refused.
    assert_eq!(unsafe { memory.as_mut_slice() }.unwrap_err().name(), "EACCES");
    // SAFETY: nobody else has the file.
    assert_eq!(unsafe { memory.as_slice() }, b"fixed...");
}

#[test]
fn parts_of_a_file() {
    let mut content = vec![b'a'; 4096];
    content.extend([b'b'; 10]);
    let file = file_of(&content);
    let second = MapOptions { offset: 4096, populate: true, ..Default::default() };
    let memory = Mapping::from_fd(&file, &second).unwrap();
    assert_eq!(memory.read_vec(0, memory.len()).unwrap(), [b'b'; 10]);
    memory.write_at(0, b"c").unwrap();
    memory.flush(0, 1).unwrap();
    memory.flush(9, 1).unwrap();
    let error = Mapping::from_fd(&file, &MapOptions { offset: 100, ..Default::default() }).unwrap_err();
    assert_eq!(error.reason(), "the offset 100 is not a multiple of the page size, 4096");
    let error = Mapping::from_fd(&file, &MapOptions { offset: 4096, length: 11, ..Default::default() }).unwrap_err();
    assert!(error.reason().contains("11 bytes from offset 4096 pass the end of the file at 4106"), "{error}");
    let beyond = Mapping::from_fd(&file, &MapOptions { offset: 8192, ..Default::default() }).unwrap();
    assert!(beyond.is_empty());
    assert!(Mapping::from_fd(&file, &MapOptions { length: usize::MAX, ..Default::default() }).is_err());
}

#[test]
fn an_empty_file_is_empty_memory() {
    let memory =
        Mapping::from_fd(file_of(b""), &MapOptions { populate: true, lock: true, ..Default::default() }).unwrap();
    assert_eq!(memory.len(), 0);
    memory.read_at(0, &mut []).unwrap();
    memory.flush(0, 0).unwrap();
    // SAFETY: nothing to race about.
    assert_eq!(unsafe { memory.as_slice() }, b"");
    assert_eq!(memory.read::<u8>(0).unwrap_err().name(), "EINVAL");
}

#[test]
fn what_cannot_be_mapped() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let error = Mapping::from_fd(&reader, &MapOptions { length: 0, ..Default::default() }).map(|m| m.len());
    assert_eq!(error.unwrap(), 0, "a pipe has the size 0");
    let null = std::fs::File::open("/proc/self/mem").unwrap();
    assert!(Mapping::from_fd(&null, &MapOptions { length: 1, ..Default::default() }).is_err());
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), b"text").unwrap();
    let reading = std::fs::File::open(named.path()).unwrap();
    let error = Mapping::from_fd(&reading, &MapOptions::default()).unwrap_err();
    assert_eq!(error.name(), "EACCES");
    assert!(error.reason().contains("attach read-only"), "{error}");
}

proptest! {
    #[test]
    fn copies_match_a_plain_buffer(
        writes in proptest::collection::vec((0_usize..300, proptest::collection::vec(any::<u8>(), 0..100)), 0..20)
    ) {
        let (memory, mut plain) = (map(&[0; 256]), vec![0; 256]);
        for (offset, bytes) in writes {
            let fits = offset + bytes.len() <= plain.len();
            prop_assert_eq!(memory.write_at(offset, &bytes).is_ok(), fits);
            if fits {
                plain[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        prop_assert_eq!(memory.read_vec(0, 256).unwrap(), plain);
    }
}
