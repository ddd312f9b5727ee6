//! How a cell's body is laid out.
//!
//! ```text
//! Control             constants, then one line each for the latest word, the bell and what is rarely written
//! buffer × n          one line each: state word, length of the value
//! pin × participants  one line each: which buffer a reader that was overrun has under its hands
//! payload × n         the values, `largest` bytes each, rounded up to whole lines
//! ```
//!
//! There are two buffers for each participant and two more: one that each may be writing, one that each may be reading,
//! the latest, and one to write next. So a writer finds a free one though all others are stopped in the middle.

use std::sync::Arc;

use nix::errno::Errno;

use super::CellOptions;
use crate::segment::{Bell, Segment};
use crate::sync_atomics::{AtomicU64, Ordering};
use crate::sys::SysResult;
use crate::sys::shared::{Mapping, Places, Record};

/// The number of this kind of body.
pub(super) const KIND: u32 = 4;

/// A word with the lines around it to itself: two, as processors fetch lines in pairs.
#[repr(C, align(128))]
pub(super) struct Line<T>(pub(super) T);

#[repr(C, align(128))]
pub(super) struct Control {
    pub largest: AtomicU64,
    pub pins: AtomicU64,
    /// Which buffer holds the latest value, and its sequence number: see `Latest`.
    pub latest: Line<AtomicU64>,
    /// Rings when there is a new value.
    pub bell: Line<Bell>,
    pub rare: Line<Rare>,
}

#[repr(C)]
pub(super) struct Rare {
    /// One bit for each pin that was ever used; only grows.
    pub pinners: [AtomicU64; 4],
    /// Values that were being written by those who died.
    pub skipped: AtomicU64,
}

const _: () = assert!(size_of::<Control>() == 4 * 128);

// SAFETY: atomics only.
#[allow(unsafe_code)]
unsafe impl Record for Control {}

const LINE: usize = 64;
const LARGEST_MAX: u64 = 1 << 30;
const LARGEST_DEFAULT: u64 = 256;

/// Numbers of buffers and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub largest: usize,
    pub pins: u64,
}

/// The parts of a body behind its control record.
pub(super) struct Parts {
    pub states: Places,
    pub pins: Places,
    pub payload: Places,
}

impl Geometry {
    /// Says what is wrong with the options.
    pub(super) fn of(options: &CellOptions) -> Result<Geometry, &'static str> {
        let largest = if options.largest == 0 { LARGEST_DEFAULT } else { options.largest };
        if largest > LARGEST_MAX {
            return Err("the largest value is from 1 byte to 1 GiB");
        }
        let geometry = Geometry { largest: largest as usize, pins: options.participants.into() };
        geometry.size().map(|_| geometry).ok_or("no address space is that large; lower largest or participants")
    }

    pub(super) fn buffers(&self) -> u64 {
        2 * self.pins + 2
    }

    pub(super) fn stride(&self) -> usize {
        self.largest.next_multiple_of(LINE)
    }

    fn at(&self) -> Option<[usize; 4]> {
        let states = size_of::<Control>();
        let pins = states + usize::try_from(self.buffers().next_power_of_two()).ok()? * LINE;
        let payload = pins + usize::try_from(self.pins.next_power_of_two()).ok()? * LINE;
        let end = payload.checked_add(usize::try_from(self.buffers()).ok()?.checked_mul(self.stride())?)?;
        Some([states, pins, payload, end])
    }

    /// Bytes of the whole body.
    pub(super) fn size(&self) -> Option<usize> {
        self.at().map(|[.., end]| end)
    }

    /// Writes the constants of a new cell; zeros are right for all else.
    pub(super) fn fill(&self, memory: &Arc<Mapping>, body: usize) -> Option<()> {
        let control: &Control = memory.record(body)?;
        // Relaxed: nobody else can see the segment yet.
        control.largest.store(self.largest as u64, Ordering::Relaxed);
        control.pins.store(self.pins, Ordering::Relaxed);
        Some(())
    }

    /// Reads the constants of a cell that is there, each once, and checks that they fit together and into the segment.
    pub(super) fn read(segment: &Segment) -> SysResult<(Geometry, Parts)> {
        let (body, length) = segment.body();
        let control: &Control = segment.memory().record(body).ok_or(Errno::EBADMSG)?;
        // Relaxed: constant since before the segment could be seen.
        let geometry = Geometry {
            largest: usize::try_from(control.largest.load(Ordering::Relaxed)).map_err(|_| Errno::EBADMSG)?,
            pins: control.pins.load(Ordering::Relaxed),
        };
        let sound = (1..=LARGEST_MAX).contains(&(geometry.largest as u64)) && (1..=256).contains(&geometry.pins);
        if !sound {
            return Err(Errno::EBADMSG);
        }
        let parts = geometry.parts(segment.memory(), body, length).ok_or(Errno::EBADMSG)?;
        Ok((geometry, parts))
    }

    fn parts(&self, memory: &Arc<Mapping>, body: usize, length: usize) -> Option<Parts> {
        let [states, pins, payload, end] = self.at()?;
        if end > length {
            return None;
        }
        Some(Parts {
            states: Places::new(memory, body + states, LINE, self.buffers().next_power_of_two())?,
            pins: Places::new(memory, body + pins, LINE, self.pins.next_power_of_two())?,
            payload: Places::new(memory, body + payload, end - payload, 1)?,
        })
    }
}
