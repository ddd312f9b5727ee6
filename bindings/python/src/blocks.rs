//! Blocks of a file in memory that another process wrote, read in place: free again when the last view has gone.

use std::collections::HashMap;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use wigwag::{MapOptions, Mapping};

use crate::support::raise;

/// A file of blocks that another process writes. Each block's first byte is 1 while its reader uses it, whose number is in
/// the four bytes behind the fourth.
#[pyclass(frozen, module = "wigwag._wigwag")]
pub struct BlockFile {
    fd: OwnedFd,
    number: u32,
    blocks: Mutex<HashMap<u64, Arc<Known>>>,
}

/// Where in a block its reader's number is.
const NUMBER_AT: usize = 4;

/// Blocks that stay mapped although nobody uses them any more.
const MAPPED: usize = 256;

/// A block that was read before; still mapped, as the same ones come again and again.
struct Known {
    memory: Mapping,
    users: Mutex<usize>,
    /// A child made by fork has the same memory, and what it lets go of its parent may still look at.
    process: u32,
}

impl Known {
    fn users(&self) -> MutexGuard<'_, usize> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has its writer know that it is used by the reader of this number, or by nobody.
    fn mark(&self, reader: Option<u32>) {
        if self.process != std::process::id() {
            return;
        }
        if let (Some(number), Ok(word)) = (reader, self.memory.atomic_u32(NUMBER_AT)) {
            word.store(number, Ordering::Relaxed);
        }
        if let Ok(mark) = self.memory.atomic_u8(0) {
            // Release: its number was written, and what was read here was read, before the writer sees this. What is marked as
            // used is so already, unless another reader had it before, and then its writer keeps it until this one is done.
            mark.store(reader.is_some().into(), Ordering::Release);
        }
    }

    /// Where in the block these bytes are; None if they are not all in it.
    fn place_of(&self, bytes: &PyBuffer<u8>) -> Option<(usize, usize)> {
        let length = bytes.len_bytes();
        if length == 0 {
            return Some((0, 0));
        }
        let at = (bytes.buf_ptr() as usize).checked_sub(self.memory.as_ptr() as usize)?;
        (at.checked_add(length)? <= self.memory.len()).then_some((at, length))
    }
}

#[pymethods]
impl BlockFile {
    /// The file of this descriptor, which stays the caller's, for the reader of this number. Raises OSError.
    #[new]
    fn new(fd: i32, number: u32) -> PyResult<BlockFile> {
        if fd < 0 {
            return Err(PyValueError::new_err("not a descriptor"));
        }
        // SAFETY: not -1; borrowed for the next call only, which refuses a number that is not open.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        Ok(BlockFile { fd, number, blocks: Mutex::default() })
    }

    /// The block at ``offset``, of ``size`` bytes, as an object to take memoryviews of. Raises OSError.
    fn block(&self, py: Python<'_>, offset: u64, size: usize) -> PyResult<Block> {
        let mut blocks = self.blocks();
        if let Some(known) = blocks.get(&offset).filter(|known| known.memory.len() == size) {
            return Ok(Block::new(Arc::clone(known), self.number));
        }
        if blocks.len() >= MAPPED {
            blocks.retain(|_, known| *known.users() > 0);
        }
        let options = MapOptions { offset, length: size, ..Default::default() };
        let memory = Mapping::from_fd(&self.fd, &options).map_err(|error| raise(py, error))?;
        let known = Arc::new(Known { memory, users: Mutex::new(0), process: std::process::id() });
        blocks.insert(offset, Arc::clone(&known));
        Ok(Block::new(known, self.number))
    }

    /// Whether anybody in this process uses the block at ``offset``.
    fn is_in_use(&self, offset: u64) -> bool {
        self.blocks().get(&offset).is_some_and(|known| *known.users() > 0)
    }

    /// Where in the block at ``offset`` these bytes are, as ``(start, length)`` each. None unless all of them are in it, none
    /// overlaps another, and they are a good part of it.
    fn places(&self, offset: u64, buffers: Vec<PyBuffer<u8>>) -> Option<Vec<(usize, usize)>> {
        let blocks = self.blocks();
        let known = blocks.get(&offset)?;
        let places: Option<Vec<_>> = buffers.iter().map(|bytes| known.place_of(bytes)).collect();
        let mut in_order = places.clone()?;
        in_order.sort_unstable();
        let overlap = in_order.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0);
        let total: usize = in_order.iter().map(|(_, length)| length).sum();
        // Whoever keeps it keeps the whole block.
        places.filter(|_| !overlap && total >= known.memory.len() / 4)
    }
}

impl BlockFile {
    fn blocks(&self) -> MutexGuard<'_, HashMap<u64, Arc<Known>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block in use. Its writer may use it again when this object, others of the same block, and every view have gone.
#[pyclass(frozen, module = "wigwag._wigwag")]
pub struct Block(Arc<Known>);

impl Block {
    fn new(known: Arc<Known>, number: u32) -> Block {
        let mut users = known.users();
        *users += 1;
        if *users == 1 {
            known.mark(Some(number));
        }
        drop(users);
        Block(known)
    }
}

#[pymethods]
impl Block {
    /// # Safety
    /// Python's own call, which keeps this object alive as long as the view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let memory = &slf.get().0.memory;
        let length = ffi::Py_ssize_t::try_from(memory.len())
            .map_err(|_| PyBufferError::new_err("the block is larger than a buffer can be"));
        // SAFETY: mapped for as long as this object lives, to which the view holds a reference. Its writer leaves it alone
        // until the first byte says otherwise.
        let filled = length.map(|length| unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), memory.as_ptr().cast(), length, 0, flags)
        });
        if !matches!(filled, Ok(0)) {
            // SAFETY: as Python gave it; a failed request has no owner.
            unsafe { (*view).obj = std::ptr::null_mut() };
            return Err(filled.err().unwrap_or_else(|| PyErr::fetch(slf.py())));
        }
        Ok(())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut users = self.0.users();
        *users -= 1;
        if *users == 0 {
            self.0.mark(None);
        }
    }
}
