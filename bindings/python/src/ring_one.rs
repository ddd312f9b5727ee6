//! RingProducer and RingConsumer: the two ends of a one-to-one ring.

#![allow(unsafe_op_in_unsafe_fn)] // the code that PyO3 generates calls __getbuffer__ without a block

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wigwag::{Error, RingOptions, RingWaits, Timeout};

use crate::address::AddressLike;
use crate::loan::loan_class;
use crate::ring::{Own, RingMessage, RingStatistics, apart, batch_room};
use crate::support::{Bytes, Room, adopt, coroutine, forget_in_event_loops, opened, raise, timeout, wait};
use crate::sync::Waiting;
use crate::views::{Memory, Visible};

/// An end, which one call, or one message in place, has at a time.
struct Home<T> {
    class: &'static str,
    address: String,
    slot: Mutex<Slot<T>>,
    waits: RingWaits,
    /// The doorbell's, for event loops to forget; -1 while there is none.
    bell: AtomicI32,
}

enum Slot<T> {
    Here(Box<T>),
    Out,
    /// Out, and to be closed when it comes back.
    Closing,
    Closed,
}

impl<T: Send> Home<T> {
    fn new(class: &'static str, address: &str, waits: RingWaits, end: T) -> Arc<Home<T>> {
        let slot = Mutex::new(Slot::Here(Box::new(end)));
        Arc::new(Home { class, address: address.to_owned(), slot, waits, bell: AtomicI32::new(-1) })
    }

    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed_error(&self) -> PyErr {
        PyValueError::new_err(format!("operation on a closed {}", self.class))
    }

    fn take(&self) -> PyResult<Box<T>> {
        let mut slot = self.slot();
        match std::mem::replace(&mut *slot, Slot::Out) {
            Slot::Here(end) => Ok(end),
            Slot::Out => Err(PyOSError::new_err((
                libc::EBUSY,
                "another thread is in a call of this end, or has a message in place: finish it first",
                self.address.clone(),
            ))),
            other => {
                *slot = other;
                Err(self.closed_error())
            }
        }
    }

    /// Gives it back; `None` if it is lost, closed after an error.
    fn put(&self, end: Option<Box<T>>) {
        let mut slot = self.slot();
        *slot = match (&*slot, end) {
            (Slot::Out, Some(end)) => Slot::Here(end),
            _ => Slot::Closed,
        };
    }

    /// Calls with the end.
    fn with<R>(&self, call: impl FnOnce(&mut T) -> PyResult<R>) -> PyResult<R> {
        let mut end = self.take()?;
        let result = call(&mut end);
        self.put(Some(end));
        result
    }

    /// Has the end become a guard, waiting as `support::wait` does.
    fn lend<G: Send>(
        &self,
        py: Python<'_>,
        seconds: Option<f64>,
        lend: impl Fn(Box<T>, Timeout) -> Result<G, (Box<T>, Error)> + Sync,
    ) -> PyResult<G> {
        let timeout = timeout(seconds)?;
        let lent = match lend(self.take()?, Timeout::Now) {
            Err((end, error)) if error.errno() == libc::EAGAIN && timeout != Timeout::Now => {
                py.detach(|| lend(end, timeout))
            }
            lent => lent,
        };
        lent.map_err(|(end, error)| {
            self.put(Some(end));
            raise(py, error)
        })
    }

    /// The last call of a guard, which gives the end back.
    fn settle<G: Visible>(
        &self,
        py: Python<'_>,
        memory: &Memory<G>,
        call: impl FnOnce(G) -> wigwag::Result<Box<T>>,
    ) -> PyResult<()> {
        let mut lost = false;
        let ended = memory.finish(py, |guard| call(guard).inspect_err(|_| lost = true));
        if lost {
            self.put(None);
        }
        ended.map(|end| self.put(Some(end)))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let before = {
            let mut slot = self.slot();
            let closing = matches!(*slot, Slot::Out | Slot::Closing);
            std::mem::replace(&mut *slot, if closing { Slot::Closing } else { Slot::Closed })
        };
        // Once it is closed, so that who is woken by this finds it so; and while the descriptor is there.
        let told = match self.bell.swap(-1, Ordering::Relaxed) {
            -1 => Ok(()),
            fd => forget_in_event_loops(py, fd),
        };
        match before {
            Slot::Out => py.detach(|| self.waits.end()),
            before => drop(before),
        }
        told
    }

    fn is_closed(&self) -> bool {
        matches!(*self.slot(), Slot::Closing | Slot::Closed)
    }
}

/// The methods that both ends have in the same words, and those of its own.
macro_rules! end_class {
    ($class:ident { $($own:tt)* }) => {
        impl $class {
            fn of(end: wigwag::$class) -> $class {
                let (address, waits) = (end.address().to_owned(), end.waits());
                $class(Home::new(stringify!($class), &address, waits, end))
            }
        }

        #[pymethods]
        impl $class {
            $($own)*

            /// How many bytes of memory a one-to-one ring with these options takes, all in all. Never blocks. Raises OSError
            /// (EINVAL).
            #[staticmethod]
            #[pyo3(signature = (capacity = 0, largest = 0))]
            fn size_for(py: Python<'_>, capacity: u64, largest: u64) -> PyResult<usize> {
                let options = RingOptions { capacity, largest, ..Default::default() };
                wigwag::$class::size_for(&options).map_err(|error| raise(py, error))
            }

            /// Raise OSError (ESTALE) if the name no longer stands for this ring. Never blocks.
            fn check(&self, py: Python<'_>) -> PyResult<()> {
                self.0.with(|end| end.check().map_err(|error| raise(py, error)))
            }

            /// What the ring has seen. Never blocks.
            fn statistics(&self, py: Python<'_>) -> PyResult<RingStatistics> {
                self.0.with(|end| end.statistics().map(Into::into).map_err(|error| raise(py, error)))
            }

            /// A descriptor that is readable while there may be something to do for this end, until a call finds nothing; a
            /// helper thread sleeps behind it from the first call on.
            ///
            /// It stays the object's. Raises OSError (EMFILE, ENFILE).
            fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
                let fd = self.0.with(|end| Ok(end.doorbell().map_err(|error| raise(py, error))?.as_raw_fd()))?;
                self.0.bell.store(fd, Ordering::Relaxed);
                Ok(fd)
            }

            /// The descriptor of its memory, to pass on for from_fd of the other end; it stays the object's.
            fn segment_fd(&self) -> PyResult<i32> {
                self.0.with(|end| Ok(end.as_fd().as_raw_fd()))
            }

            /// The address; ``"ring:"`` for one without a name.
            #[getter]
            fn address(&self) -> &str {
                &self.0.address
            }

            /// Close it; a thread that waits on it gets OSError with errno ECANCELED. A message in place can still be
            /// finished. Closing twice is fine.
            fn close(&self, py: Python<'_>) -> PyResult<()> {
                self.0.close(py)
            }

            /// Whether it is closed.
            #[getter]
            fn closed(&self) -> bool {
                self.0.is_closed()
            }

            fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
                slf
            }

            fn __exit__(
                &self,
                py: Python<'_>,
                _type: &Bound<'_, PyAny>,
                _value: &Bound<'_, PyAny>,
                _traceback: &Bound<'_, PyAny>,
            ) -> PyResult<()> {
                self.close(py)
            }

            fn __repr__(&self) -> String {
                let state = if self.0.is_closed() { "closed" } else { &self.0.address };
                format!("<wigwag.{} {state}>", self.0.class)
            }
        }
    };
}

/// The sending end of a one-to-one ring (``ring:name``), the fastest way between two processes: one producer and one consumer
/// at a time, a second one gets OSError (EBUSY).
///
/// One thread at a time, and one message in place at a time: the next gets OSError (EBUSY). A child made by fork cannot use it
/// (PermissionError), but take the other end by ``from_fd``. Made by ``RingProducer.open()``, ``RingProducer.anonymous()``,
/// which gives both ends, and ``RingProducer.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct RingProducer(Arc<Home<wigwag::RingProducer>>);

end_class! {
    RingProducer {
        /// Open the one-to-one ring of this address, or make it, and become its producer. Never blocks. Options as Ring.open.
        ///
        /// Raises OSError (EBUSY: it has a producer; EBADMSG: there is something else, such as a many-to-many ring) and as
        /// Ring.open.
        #[staticmethod]
        #[pyo3(signature = (address, capacity = 0, largest = 0, *, persistent = false, mode = 0, full = "wait",
            wait = Waiting::default()))]
        #[allow(clippy::too_many_arguments)] // one for each keyword
        fn open(
            py: Python<'_>,
            address: AddressLike,
            capacity: u64,
            largest: u64,
            persistent: bool,
            mode: u32,
            full: &str,
            wait: Waiting,
        ) -> PyResult<RingProducer> {
            let own = Own::new(full, "either", wait, false, 0)?.options();
            let options = RingOptions { capacity, largest, persistent, mode, ..own };
            opened(py, || wigwag::RingProducer::open(&address.0, options)).map(RingProducer::of)
        }

        /// Make a one-to-one ring without a name; both its ends. Never blocks. Options as Ring.anonymous.
        ///
        /// For a child, close one of the ends; the child takes it by ``from_fd(os.dup(other.segment_fd()))``.
        #[staticmethod]
        #[pyo3(signature = (capacity = 0, largest = 0, *, persistent = false, full = "wait", wait = Waiting::default()))]
        fn anonymous(
            py: Python<'_>,
            capacity: u64,
            largest: u64,
            persistent: bool,
            full: &str,
            wait: Waiting,
        ) -> PyResult<(RingProducer, RingConsumer)> {
            let own = Own::new(full, "either", wait, false, 0)?.options();
            let options = RingOptions { capacity, largest, persistent, ..own };
            let (producer, consumer) = opened(py, || wigwag::RingProducer::anonymous(options))?;
            Ok((RingProducer::of(producer), RingConsumer::of(consumer)))
        }

        /// Become the producer of the ring whose descriptor came from a parent or a peer; the descriptor then belongs to the
        /// object. Never blocks. Raises OSError (EBUSY, EBADMSG, EPROTO).
        #[staticmethod]
        #[pyo3(signature = (fd, *, full = "wait", wait = Waiting::default()))]
        fn from_fd(py: Python<'_>, fd: i32, full: &str, wait: Waiting) -> PyResult<RingProducer> {
            let options = Own::new(full, "either", wait, false, 0)?.options();
            adopt(py, fd, |fd| wigwag::RingProducer::from_fd(fd, options)).map(RingProducer::of)
        }

        /// Send a copy of these bytes as one message; waits while there is no room, if that is what the end does. Raises as
        /// Ring.send.
        #[pyo3(signature = (data, timeout = None))]
        fn send(&self, py: Python<'_>, data: Bytes<'_>, timeout: Option<f64>) -> PyResult<()> {
            let bytes = data.as_slice();
            self.0.with(|end| wait(py, timeout, |timeout| end.send(bytes, timeout)))
        }

        /// As send, for asyncio.
        #[pyo3(signature = (data, timeout = None))]
        fn send_async<'py>(
            slf: &Bound<'py, Self>,
            data: &Bound<'py, PyAny>,
            timeout: Option<f64>,
        ) -> PyResult<Bound<'py, PyAny>> {
            // One that fails when the ring is full does so at once.
            let fails = slf.get().0.with(|end| Ok(end.full() == wigwag::RingFull::Fail))?;
            coroutine(slf.as_any(), "send", false, if fails { Some(0.0) } else { timeout }, (data,))
        }

        /// Send as many of these messages as there is room for, at least one; how many. Waits for the first, as send.
        #[pyo3(signature = (messages, timeout = None))]
        fn send_batch(&self, py: Python<'_>, messages: Vec<Bound<'_, PyAny>>, timeout: Option<f64>) -> PyResult<usize> {
            let messages = messages.iter().map(|one| one.extract()).collect::<PyResult<Vec<Bytes<'_>>>>()?;
            let slices: Vec<&[u8]> = messages.iter().map(Bytes::as_slice).collect();
            self.0.with(|end| wait(py, timeout, |timeout| end.send_batch(&slices, timeout)))
        }

        /// Reserve room for a message of ``size`` bytes, to be written in place and then committed. Waits and raises as send.
        #[pyo3(signature = (size, timeout = None))]
        fn reserve(&self, py: Python<'_>, size: usize, timeout: Option<f64>) -> PyResult<RingProducerReserved> {
            let lent = self.0.lend(py, timeout, |end, timeout| end.reserve_owned(size, timeout))?;
            Ok(RingProducerReserved(Memory::new("RingProducerReserved", lent), Arc::clone(&self.0)))
        }
    }
}

/// The receiving end of a one-to-one ring; see RingProducer. Made by ``RingConsumer.open()``, ``RingProducer.anonymous()`` and
/// ``RingConsumer.from_fd()``.
#[pyclass(frozen, module = "wigwag")]
pub struct RingConsumer(Arc<Home<wigwag::RingConsumer>>);

end_class! {
    RingConsumer {
        /// Open the one-to-one ring of this address, or make it, and become its consumer. Never blocks. Otherwise as
        /// RingProducer.open.
        #[staticmethod]
        #[pyo3(signature = (address, capacity = 0, largest = 0, *, persistent = false, mode = 0, wait = Waiting::default()))]
        fn open(
            py: Python<'_>,
            address: AddressLike,
            capacity: u64,
            largest: u64,
            persistent: bool,
            mode: u32,
            wait: Waiting,
        ) -> PyResult<RingConsumer> {
            let options = RingOptions { capacity, largest, persistent, mode, wait: wait.0, ..Default::default() };
            opened(py, || wigwag::RingConsumer::open(&address.0, options)).map(RingConsumer::of)
        }

        /// Become the consumer of the ring whose descriptor came from a parent or a peer; the descriptor then belongs to the
        /// object. Never blocks. Raises OSError (EBUSY, EBADMSG, EPROTO).
        #[staticmethod]
        #[pyo3(signature = (fd, *, wait = Waiting::default()))]
        fn from_fd(py: Python<'_>, fd: i32, wait: Waiting) -> PyResult<RingConsumer> {
            let options = RingOptions { wait: wait.0, ..Default::default() };
            adopt(py, fd, |fd| wigwag::RingConsumer::from_fd(fd, options)).map(RingConsumer::of)
        }

        /// Take the next message; waits while there is none. Raises as Ring.recv.
        #[pyo3(signature = (timeout = None))]
        fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<RingMessage> {
            self.0.with(|end| {
                let length = wait(py, timeout, |timeout| end.next_length(timeout))?;
                let mut deliveries = 0;
                let data = PyBytes::new_with(py, length, |room| {
                    deliveries = end.recv(room, Timeout::Now).map_err(|error| raise(py, error))?.deliveries;
                    Ok(())
                })?;
                Ok(RingMessage::new(data, deliveries, 0))
            })
        }

        /// Take up to ``limit`` messages, at least one and at most 64; waits while there is none. Raises as Ring.recv.
        #[pyo3(signature = (limit = 64, timeout = None))]
        fn recv_batch(&self, py: Python<'_>, limit: usize, timeout: Option<f64>) -> PyResult<Vec<RingMessage>> {
            self.0.with(|end| {
                let mut received = vec![wigwag::RingReceived::default(); limit.min(64)];
                let mut room = batch_room(end.largest(), received.len())?;
                let count = wait(py, timeout, |timeout| end.recv_batch(&mut room, &mut received, timeout))?;
                Ok(apart(py, &room, received.get(..count).unwrap_or_default()))
            })
        }

        /// As recv, into a writable buffer; the length of the message and its deliveries. Raises as Ring.recv_into.
        #[pyo3(signature = (buffer, timeout = None))]
        fn recv_into(&self, py: Python<'_>, mut buffer: Room, timeout: Option<f64>) -> PyResult<(usize, u32)> {
            let room = buffer.as_mut_slice();
            let received = self.0.with(|end| wait(py, timeout, |timeout| end.recv(room, timeout)))?;
            Ok((received.length, received.deliveries))
        }

        /// As recv, for asyncio.
        #[pyo3(signature = (timeout = None))]
        fn recv_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
            coroutine(slf.as_any(), "recv", false, timeout, ())
        }

        /// Take the next message, to be read in place and then released. Waits and raises as recv.
        #[pyo3(signature = (timeout = None))]
        fn borrow(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<RingConsumerBorrowed> {
            let lent = self.0.lend(py, timeout, |end, timeout| end.borrow_owned(timeout))?;
            Ok(RingConsumerBorrowed(Memory::new("RingConsumerBorrowed", lent), Arc::clone(&self.0)))
        }
    }
}

type Reserved = wigwag::RingProducerReserved<Box<wigwag::RingProducer>>;
type Borrowed = wigwag::RingConsumerBorrowed<Box<wigwag::RingConsumer>>;

/// Room for a message in a one-to-one ring; made by ``RingProducer.reserve()``. Otherwise as RingReserved.
#[pyclass(frozen, module = "wigwag")]
pub struct RingProducerReserved(Memory<Reserved>, Arc<Home<wigwag::RingProducer>>);

loan_class! {
    RingProducerReserved of Reserved, readonly: false, last: commit, instead: abort, {
        /// Send the message. Never blocks. Raises as RingReserved.commit.
        fn commit(&self, py: Python<'_>) -> PyResult<()> {
            self.1.settle(py, &self.0, Reserved::commit)
        }

        /// Give the room back. Never blocks. Raises BufferError while views of it exist.
        fn abort(&self, py: Python<'_>) -> PyResult<()> {
            self.1.settle(py, &self.0, |reserved| Ok(reserved.abort()))
        }
    }
}

impl Drop for RingProducerReserved {
    fn drop(&mut self) {
        if let Some(reserved) = self.0.take() {
            self.1.put(Some(reserved.abort()));
        }
    }
}

/// A message of a one-to-one ring; made by ``RingConsumer.borrow()``. Otherwise as RingBorrowed.
#[pyclass(frozen, module = "wigwag")]
pub struct RingConsumerBorrowed(Memory<Borrowed>, Arc<Home<wigwag::RingConsumer>>);

loan_class! {
    RingConsumerBorrowed of Borrowed, readonly: true, last: release, instead: give_back, {
        /// Be done with the message. Never blocks. Raises as RingBorrowed.release.
        fn release(&self, py: Python<'_>) -> PyResult<()> {
            self.1.settle(py, &self.0, Borrowed::release)
        }

        /// Have it delivered again, marked. Never blocks. Raises as release.
        fn give_back(&self, py: Python<'_>) -> PyResult<()> {
            self.1.settle(py, &self.0, Borrowed::give_back)
        }

        /// How often it has been taken, this time included.
        #[getter]
        fn deliveries(&self) -> PyResult<u32> {
            self.0.with(Borrowed::deliveries)
        }
    }
}

impl Drop for RingConsumerBorrowed {
    fn drop(&mut self) {
        if let Some(borrowed) = self.0.take() {
            self.1.put(borrowed.give_back().ok());
        }
    }
}
