//! Whose object a guard works on: one that is lent to it, or one that it keeps alive itself, for callers that cannot
//! name a lifetime, such as other languages and tasks that move between threads.

use std::ops::Deref;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) enum Lender<'a, T> {
    Lent(&'a T),
    Kept(Arc<T>),
}

impl<T> Deref for Lender<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            Lender::Lent(object) => object,
            Lender::Kept(object) => object,
        }
    }
}
