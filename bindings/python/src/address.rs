//! Addresses.

use std::hash::{DefaultHasher, Hash, Hasher};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::support::raise;

/// One line of text that names an IPC object, parsed:
/// ``scheme ":" name ["#" id] ["?" key "=" value *("&" key "=" value)]``.
///
/// Never blocks. Raises OSError with errno EINVAL (the position and what was expected there are in its text) or
/// ENAMETOOLONG. ``str(address)`` is text that parses to the same address.
#[pyclass(frozen, eq, module = "wigwag")]
#[derive(PartialEq)]
pub struct Address(wigwag::Address);

#[pymethods]
impl Address {
    #[new]
    fn new(py: Python<'_>, text: &str) -> PyResult<Address> {
        wigwag::Address::parse(text).map(Address).map_err(|error| raise(py, error))
    }

    /// The kind of object, such as ``"sysv-mq"``.
    #[getter]
    fn scheme(&self) -> &'static str {
        self.0.scheme().as_str()
    }

    /// The name, as plain bytes without percent-coding.
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.name())
    }

    /// ftok's project number, or None.
    #[getter]
    fn id(&self) -> Option<u8> {
        self.0.id()
    }

    /// The options, as a dict of name to value (bytes).
    #[getter]
    fn options<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let options = PyDict::new(py);
        for (key, value) in self.0.options() {
            options.set_item(key, PyBytes::new(py, value))?;
        }
        Ok(options)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("wigwag.Address({:?})", self.0.to_string())
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    fn __getnewargs__(&self) -> (String,) {
        (self.0.to_string(),)
    }
}

/// An address as callers may give it: text, or an `Address`.
pub(crate) struct AddressLike(pub(crate) wigwag::Address);

impl<'a, 'py> FromPyObject<'a, 'py> for AddressLike {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<AddressLike> {
        if let Ok(address) = object.cast::<Address>() {
            return Ok(AddressLike(address.get().0.clone()));
        }
        let text: std::borrow::Cow<'_, str> = object.extract()?;
        wigwag::Address::parse(text.as_bytes()).map(AddressLike).map_err(|error| raise(object.py(), error))
    }
}
