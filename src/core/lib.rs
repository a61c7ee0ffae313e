//! The meaning of everything: what a lease is, who may hold one, when a tier may move, and why not.
//!
//! Pure: no input or output, no clock, no thread, no async, no floating point, no map with an
//! unstable order. Time, ids and observations arrive inside commands; answers, effects and changed
//! records leave as values. The same entries give the same machine on every node.
//!
//! Reading order: [`time`], [`token`], [`scope`], [`session`], [`lease`], [`keeper`] (the holder's
//! side), [`promotion`], [`rules`], [`steps`], [`path`], [`offset`], [`report`], [`diagnose`], [`decide`], [`machine`].

#![warn(missing_docs)]

pub mod audit;
pub mod chain;
pub mod command;
pub mod config;
pub mod decide;
pub mod diagnose;
pub mod directive;
pub mod explain;
pub mod keeper;
pub mod lease;
pub mod ledger;
pub mod machine;
pub mod name;
pub mod offset;
pub mod path;
pub mod people;
pub mod plan;
pub mod position;
pub mod preference;
pub mod promotion;
pub mod record;
pub mod refusal;
pub mod region;
pub mod report;
pub mod restore;
pub mod rules;
pub mod scope;
pub mod seeded_bug;
pub mod session;
pub mod steps;
pub mod time;
pub mod token;
pub mod wire;
