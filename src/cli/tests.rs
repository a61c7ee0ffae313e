//! The command line as its users meet it: words in; stdout, stderr and an exit code out.

mod audit;
mod client;
mod files;
mod fixtures;
mod grammar;
mod promotions;
mod rendering;
mod tls;
mod world;
