//! A shared value with a digest of everything in it, so that states are small and quick to compare.
//!
//! The digest covers the value's `Debug` text: every field is in it, a new field cannot be forgotten.
//! Equality still compares the values themselves; only the visited set trusts 64 bits.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Debug, Write};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

pub struct Digested<T> {
    value: Arc<T>,
    digest: u64,
}

impl<T: Debug> Digested<T> {
    pub fn new(value: T) -> Self {
        let digest = digest_of(&value);
        Self { value: Arc::new(value), digest }
    }

    /// With a digest of its own making, which must be the same for equal values.
    pub fn with(digest: u64, value: T) -> Self {
        Self { value: Arc::new(value), digest }
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// The digest of a value's `Debug` text.
pub fn digest_of(value: &impl Debug) -> u64 {
    let mut sink = Sink(DefaultHasher::new());
    // Hashing cannot fail; a `Debug` that does would give a constant digest and still be sound,
    // because equality decides.
    let _ = write!(sink, "{value:?}");
    sink.0.finish()
}

struct Sink(DefaultHasher);

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl<T> Clone for Digested<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), digest: self.digest }
    }
}

impl<T> Deref for Digested<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Digested<T> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
            && (Arc::ptr_eq(&self.value, &other.value) || self.value == other.value)
    }
}

impl<T: Eq> Eq for Digested<T> {}

impl<T> Hash for Digested<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest);
    }
}

impl<T: Debug> Debug for Digested<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
