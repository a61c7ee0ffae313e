//! Histories of registers, and whether some order explains them: for simulated clients and real ones.
//!
//! Next: `history.rs` for what is written down, `wgl.rs` for the search, which trusts nobody's word.

pub mod history;
pub mod wgl;
