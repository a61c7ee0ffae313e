//! Names that the machine looks up: short, never changed, copied often.
//!
//! Up to 23 bytes stand in the value itself, so that comparing two keys of a map touches nothing
//! else and a copy allocates nothing; longer ones are shared.

/// A worker's, a region's or a group's name.
pub type Name = smol_str::SmolStr;
