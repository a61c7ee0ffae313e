//! Model checking of the shipped code: the machine, the keeper, the step runner and directives.
//!
//! Nothing of them is written again here. A model is an environment that may do, within printed
//! bounds, whatever the protocol must survive; stateright visits every state it can lead to and
//! checks named properties in each. `docs/model.md` says what is bounded, and what is outside.
//!
//! Reading order: [`cluster`] (the machine as a state), [`clock`] and [`lease`], [`sinks`],
//! [`people`], [`mutants`], [`cases`] (the bounds), [`report`].

pub mod cases;
pub mod clock;
pub mod cluster;
pub mod digest;
pub mod facts;
pub mod lease;
pub mod mutants;
pub mod people;
pub mod report;
pub mod setup;
pub mod sinks;
