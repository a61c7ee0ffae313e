//! Operations over a log of one node and the real machine: who may, what comes back, what travels.

mod approvals;
mod forwarding;
mod promotions;
mod roles;
mod routes;
mod sessions;
mod story;
mod world;
