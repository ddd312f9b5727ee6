//! Messages and values in place: room to write one to, and messages to read, through the buffer protocol.

#![allow(unsafe_op_in_unsafe_fn)] // the code that PyO3 generates calls __getbuffer__ without a block

use pyo3::prelude::*;

use crate::views::Memory;

/// The methods of one class: its own, and those that all have. `$last` is what the end of a `with` block does, `$instead`
/// what it does after an exception.
macro_rules! loan_class {
    ($class:ident of $guard:ty, readonly: $readonly:literal, last: $last:ident, instead: $instead:ident, { $($own:tt)* }) => {
        impl crate::views::Visible for $guard {
            fn bytes(&self) -> crate::views::Bytes {
                let start: *const u8 = self.as_ptr();
                crate::views::Bytes { start: start.cast_mut(), length: self.length(), readonly: $readonly }
            }
        }

        #[pymethods]
        impl $class {
            $($own)*

            /// A new memoryview of it. The object itself supports the buffer protocol as well:
            /// ``numpy.frombuffer(message, dtype=…)`` works in place.
            #[getter]
            fn buf<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                Ok(pyo3::types::PyMemoryView::from(slf)?.into_any())
            }

            /// How many bytes there are.
            #[getter]
            fn size(&self) -> PyResult<usize> {
                self.0.with(|guard| guard.length())
            }

            fn __len__(&self) -> PyResult<usize> {
                self.size()
            }

            fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
                slf
            }

            fn __exit__(
                &self,
                py: Python<'_>,
                kind: &Bound<'_, PyAny>,
                _value: &Bound<'_, PyAny>,
                _traceback: &Bound<'_, PyAny>,
            ) -> PyResult<()> {
                if self.0.is_closed() {
                    return Ok(()); // done inside
                }
                if !kind.is_none() {
                    // What went wrong inside matters more; while there are views, it is done when the last of them goes.
                    let _ = self.$instead(py);
                    return Ok(());
                }
                self.$last(py).map(drop)
            }

            fn __repr__(&self) -> String {
                self.0.describe(|_| "in place".to_owned())
            }

            unsafe fn __getbuffer__(
                slf: &Bound<'_, Self>,
                view: *mut pyo3::ffi::Py_buffer,
                flags: std::ffi::c_int,
            ) -> PyResult<()> {
                // SAFETY: called by Python with a request for a view of this object.
                unsafe { slf.get().0.export(slf.as_ptr(), view, flags) }
            }

            unsafe fn __releasebuffer__(&self, _view: *mut pyo3::ffi::Py_buffer) {
                self.0.release();
            }
        }
    };
}
pub(crate) use loan_class;

/// How they are made of the core's guards.
macro_rules! made_of {
    ($($class:ident)*) => { $(
        impl $class {
            pub(crate) fn new(guard: wigwag::$class<'static>) -> $class {
                $class(Memory::new(stringify!($class), guard))
            }
        }
    )* };
}

made_of! { RingReserved RingBorrowed CellReserved TopicReserved TopicBorrowed }

/// Room for a message in a ring, to be written in place through the buffer protocol; made by ``Ring.reserve()``.
///
/// ``with ring.reserve(size) as message:`` commits it in the end, and gives the room back after an exception. Dropped without
/// commit, it was never sent. What it holds before it is written is left over from earlier messages.
#[pyclass(frozen, module = "wigwag")]
pub struct RingReserved(Memory<wigwag::RingReserved<'static>>);

loan_class! {
    RingReserved of wigwag::RingReserved<'static>, readonly: false, last: commit, instead: abort, {
        /// Send the message. Never blocks.
        ///
        /// Raises BufferError while views of it exist, OSError (ESTALE: this handle was declared dead, and the room taken back),
        /// PermissionError: it was reserved by the process that this one was forked from.
        fn commit(&self, py: Python<'_>) -> PyResult<()> {
            self.0.finish(py, wigwag::RingReserved::commit)
        }

        /// Give the room back. Never blocks. Raises as commit.
        fn abort(&self, py: Python<'_>) -> PyResult<()> {
            self.0.finish(py, wigwag::RingReserved::abort)
        }
    }
}

/// A message of a ring, to be read in place through the buffer protocol; made by ``Ring.borrow()``.
///
/// ``with ring.borrow() as message:`` releases it in the end, and gives it back after an exception. Dropped without release,
/// it will be delivered again, marked. Several can be held, and released in any order.
#[pyclass(frozen, module = "wigwag")]
pub struct RingBorrowed(Memory<wigwag::RingBorrowed<'static>>);

loan_class! {
    RingBorrowed of wigwag::RingBorrowed<'static>, readonly: true, last: release, instead: give_back, {
        /// Be done with the message. Never blocks.
        ///
        /// Raises BufferError while views of it exist, OSError (ESTALE: this handle was declared dead, and the message will be
        /// delivered to another), PermissionError: it was borrowed by the process that this one was forked from.
        fn release(&self, py: Python<'_>) -> PyResult<()> {
            self.0.finish(py, wigwag::RingBorrowed::release)
        }

        /// Have it delivered again, marked, to this or another consumer. Never blocks. Raises BufferError while views of it exist.
        fn give_back(&self, py: Python<'_>) -> PyResult<()> {
            self.0.finish(py, |borrowed| {
                drop(borrowed);
                Ok(())
            })
        }

        /// How often it has been taken, this time included: above 1, somebody took it before and died or gave it back, and may
        /// have acted on it.
        #[getter]
        fn deliveries(&self) -> PyResult<u32> {
            self.0.with(|borrowed| borrowed.deliveries())
        }

        /// The lane that it came by.
        #[getter]
        fn lane(&self) -> PyResult<u32> {
            self.0.with(|borrowed| borrowed.lane())
        }
    }
}

/// Room for a value of a cell, to be written in place through the buffer protocol; made by ``Cell.reserve()``.
///
/// ``with cell.reserve(size) as value:`` publishes it in the end, and gives the room back after an exception. Dropped without
/// publish, nothing has happened. What it holds before it is written is left over from earlier values.
#[pyclass(frozen, module = "wigwag")]
pub struct CellReserved(Memory<wigwag::CellReserved<'static>>);

loan_class! {
    CellReserved of wigwag::CellReserved<'static>, readonly: false, last: publish, instead: abort, {
        /// Make it the latest value; its sequence number. Never blocks.
        ///
        /// Raises BufferError while views of it exist, OSError (ESTALE: this handle was declared dead, and the room taken back),
        /// PermissionError: it was reserved by the process that this one was forked from.
        fn publish(&self, py: Python<'_>) -> PyResult<u64> {
            self.0.finish(py, wigwag::CellReserved::publish)
        }

        /// Give the room back. Never blocks. Raises as publish.
        fn abort(&self, py: Python<'_>) -> PyResult<()> {
            self.0.finish(py, wigwag::CellReserved::abort)
        }
    }
}

/// Room for a message on a topic, to be written in place through the buffer protocol; made by ``Topic.reserve()``.
///
/// ``with topic.reserve(size) as message:`` publishes it in the end, and gives the room back after an exception. Dropped
/// without publish, it was never sent. What it holds before it is written is left over from earlier messages.
#[pyclass(frozen, module = "wigwag")]
pub struct TopicReserved(Memory<wigwag::TopicReserved<'static>>);

loan_class! {
    TopicReserved of wigwag::TopicReserved<'static>, readonly: false, last: publish, instead: abort, {
        /// Publish the message; its sequence number. Never blocks.
        ///
        /// Raises BufferError while views of it exist, OSError (ESTALE: this handle was declared dead, and the room taken back;
        /// EBADMSG), PermissionError: it was reserved by the process that this one was forked from.
        fn publish(&self, py: Python<'_>) -> PyResult<u64> {
            self.0.finish(py, wigwag::TopicReserved::publish)
        }

        /// Give the room back. Never blocks. Raises as publish.
        fn abort(&self, py: Python<'_>) -> PyResult<()> {
            self.0.finish(py, wigwag::TopicReserved::abort)
        }
    }
}

/// A message of a topic, to be read in place through the buffer protocol; made by ``Subscription.borrow()``.
///
/// ``with subscription.borrow() as message:`` releases it in the end. Several can be held, and released in any order.
#[pyclass(frozen, module = "wigwag")]
pub struct TopicBorrowed(Memory<wigwag::TopicBorrowed<'static>>);

loan_class! {
    TopicBorrowed of wigwag::TopicBorrowed<'static>, readonly: true, last: release, instead: release, {
        /// Be done with the message. Never blocks.
        ///
        /// Raises BufferError while views of it exist. What was read may have been overwritten meanwhile after
        /// ConnectionAbortedError: the subscriber was cut off, and OSError (ESTALE: its handle was declared dead). PermissionError:
        /// it was borrowed by the process that this one was forked from.
        fn release(&self, py: Python<'_>) -> PyResult<()> {
            self.0.finish(py, wigwag::TopicBorrowed::release)
        }

        /// Which message of the topic it is; the first is 1.
        #[getter]
        fn sequence(&self) -> PyResult<u64> {
            self.0.with(|borrowed| borrowed.sequence())
        }
    }
}
