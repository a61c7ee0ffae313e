//! Operations over a log of one node and the real machine: who may, what comes back, what travels.

mod approvals;
mod dry_runs;
mod forwarding;
mod promotions;
mod recorded_day;
mod roles;
mod routes;
mod sessions;
mod story;
mod world;
