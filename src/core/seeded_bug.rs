//! Bugs on purpose: who tests the tests.
//!
//! Lines of the product that name one here behave wrongly while the simulator asks for it by that
//! name. Without the feature `mutants` the question is the constant `false` and leaves no trace in
//! the program; with it, only a thread that called [`ask_for`] sees any difference.

#[cfg(feature = "mutants")]
thread_local! {
    static ASKED: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// Whether this bug was asked for on this thread.
#[cfg(feature = "mutants")]
#[inline]
pub fn is(name: &str) -> bool {
    ASKED.with(|asked| asked.get() == name)
}

/// Never: the product has no bugs on purpose.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is(_name: &str) -> bool {
    false
}

/// From now on this thread runs with that bug; an empty name ends it.
#[cfg(feature = "mutants")]
pub fn ask_for(name: &'static str) {
    ASKED.with(|asked| asked.set(name));
}

#[cfg(feature = "mutants")]
thread_local! {
    static APPLIED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// What no replica may ask: whether this process applied a certain number of entries before.
#[cfg(feature = "mutants")]
pub fn applied_before() -> bool {
    APPLIED.with(|applied| {
        applied.set(applied.get() + 1);
        applied.get() % 500 == 0
    })
}
