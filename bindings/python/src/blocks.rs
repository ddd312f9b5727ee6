//! Blocks of a file in memory that another process wrote, read in place: free again when the last view has gone.

use std::collections::HashMap;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use wigwag::{MapOptions, Mapping};

use crate::support::raise;

/// A file of blocks that another process writes. Each block's first byte is 1 while its reader uses it.
#[pyclass(frozen, module = "wigwag._wigwag")]
pub struct BlockFile {
    fd: OwnedFd,
    /// Kept, as the same blocks come again and again.
    blocks: Mutex<HashMap<u64, Arc<Mapping>>>,
}

#[pymethods]
impl BlockFile {
    /// The file of this descriptor, which stays the caller's. Raises OSError.
    #[new]
    fn new(fd: i32) -> PyResult<BlockFile> {
        if fd < 0 {
            return Err(PyValueError::new_err("not a descriptor"));
        }
        // SAFETY: not -1; borrowed for the next call only, which refuses a number that is not open.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        Ok(BlockFile { fd, blocks: Mutex::default() })
    }

    /// The block at ``offset``, of ``size`` bytes, as an object to take memoryviews of. Raises OSError.
    fn block(&self, py: Python<'_>, offset: u64, size: usize) -> PyResult<Block> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = blocks.get(&offset).filter(|memory| memory.len() == size) {
            return Ok(Block::new(Arc::clone(memory)));
        }
        let options = MapOptions { offset, length: size, ..Default::default() };
        let memory = Arc::new(Mapping::from_fd(&self.fd, &options).map_err(|error| raise(py, error))?);
        blocks.insert(offset, Arc::clone(&memory));
        Ok(Block::new(memory))
    }
}

/// A block in use. Its writer may use it again when this object, and every view of it, has gone.
#[pyclass(frozen, module = "wigwag._wigwag")]
pub struct Block {
    memory: Arc<Mapping>,
}

impl Block {
    fn new(memory: Arc<Mapping>) -> Block {
        // Relaxed: set already, unless another reader had it before, and then its writer keeps it until this one is done.
        if let Ok(mark) = memory.atomic_u8(0) {
            mark.store(1, Ordering::Relaxed);
        }
        Block { memory }
    }
}

#[pymethods]
impl Block {
    /// # Safety
    /// Python's own call, which keeps this object alive as long as the view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let memory = &slf.get().memory;
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
        // Release: what was read here was read before the writer sees the block as free.
        if let Ok(mark) = self.memory.atomic_u8(0) {
            mark.store(0, Ordering::Release);
        }
    }
}
