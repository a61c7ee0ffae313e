//! Following: records of other sinks, applied in order.
//!
//! The primary's region is asked first, any other that keeps the scope when it does not answer: a
//! cut link costs a detour, not the copy. Each question waits at the other end for something new,
//! so a batch travels in half a round trip. What arrives is checked by the sink against the reigns
//! that the cluster committed; who it came from does not matter.

use super::batch::{self, Kind};
use super::regions::Regions;
use super::wire::{self, FETCH, FetchRequest, TAIL, TailRequest};
use crate::sink::{Sink, SinkError};
use crate::warm::log::ChainError;
use bytes::Bytes;
use cryptorun_core::directive::Directive;
use cryptorun_core::position::Position;
use cryptorun_core::region::RegionName;
use cryptorun_core::scope::Reign;
use cryptorun_core::token::Token;
use cryptorun_platform::clock::BootTime;
use cryptorun_platform::net::CallError;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a question waits at the primary's, and at others that may not be ahead at all.
const WAIT_PRIMARY: Duration = Duration::from_millis(2_000);
const WAIT_OTHER: Duration = Duration::from_millis(300);
/// On top of the wait, before the answer counts as lost: two round trips across an ocean.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// A source that kept silent is left alone this long; one that said no, or what was not ours to
/// take, may be asked again soon.
const AVOID_SILENT: Duration = Duration::from_secs(5);
const AVOID_REFUSING: Duration = Duration::from_millis(500);
/// When nobody can be asked.
const IDLE_FOR: Duration = Duration::from_millis(100);

/// What one question brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Records were applied; whether one of them ends or begins a token.
    Applied { count: usize, turning: bool },
    /// The source had nothing more, or was not ahead.
    Level,
    /// A record's token is not known to be granted yet: ask the cluster.
    NotGranted,
    /// Sealed for a token that is not granted yet: nothing is taken until it is.
    Sealed,
    /// The source did not answer, or what it sent is not ours to take.
    Failed(String),
    /// Histories differ where they must not.
    Diverged(u64),
}

/// Asks for and applies what follows.
pub struct Follower {
    sink: Sink,
    regions: Arc<Regions>,
    avoid: BTreeMap<RegionName, BootTime>,
    /// What the cluster last said; news may make a bad source a good one.
    rev: u64,
    turn: usize,
    /// Where the last source stood that answered.
    pub source_end: Position,
}

impl Follower {
    pub fn new(sink: Sink, regions: Arc<Regions>) -> Self {
        let source_end = Position::START;
        Self { sink, regions, avoid: BTreeMap::new(), rev: 0, turn: 0, source_end }
    }

    /// One question to the best source. Safe to drop while it waits.
    pub async fn step(&mut self, directive: &Directive, upstream: Option<&RegionName>) -> Step {
        let Some(source) = self.choose(directive, upstream) else {
            tokio::time::sleep(IDLE_FOR).await;
            return Step::Failed("no other region can be asked".into());
        };
        let wait = if Some(&source) == upstream { WAIT_PRIMARY } else { WAIT_OTHER };
        let request = FetchRequest {
            scope: self.sink.scope().clone(),
            after: self.sink.view().end,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(0),
        };
        let number = self.regions.number(&source);
        let asked =
            self.regions.peers.call(number, FETCH, wire::ask(&request), wait + ANSWER_WITHIN).await;
        let silent = matches!(asked, Err(CallError::TimedOut));
        let asked = asked.map_err(|error| error.to_string()).and_then(|body| wire::answered(&body));
        match asked {
            Ok((head, records)) => {
                self.source_end = head.end;
                let step = self.apply(&directive.reigns, records).await;
                if matches!(step, Step::Failed(_) | Step::Diverged(_)) {
                    self.leave(&source, AVOID_REFUSING);
                }
                step
            }
            Err(why) => {
                self.leave(&source, if silent { AVOID_SILENT } else { AVOID_REFUSING });
                Step::Failed(format!("{source}: {why}"))
            }
        }
    }

    /// Fetches the tail of a sealed sink and takes it over under the reserved token.
    pub async fn tail(
        &mut self,
        token: Token,
        to: Position,
        from: &[RegionName],
    ) -> Result<(), String> {
        let mut last = String::from("no sealed sink has it");
        for source in from {
            while self.sink.view().end.seq < to.seq {
                let after = self.sink.view().end;
                let request = TailRequest { scope: self.sink.scope().clone(), token, after };
                let number = self.regions.number(source);
                let body = self
                    .regions
                    .peers
                    .call(number, TAIL, wire::ask(&request), WAIT_PRIMARY + ANSWER_WITHIN)
                    .await
                    .map_err(|error| error.to_string());
                let taken = match body.and_then(|body| wire::answered(&body)) {
                    Ok((_, records)) => {
                        self.sink.adopt(token, to, records).await.map_err(|e| e.to_string())
                    }
                    Err(why) => Err(why),
                };
                match taken {
                    Ok(0) => {
                        last = format!("{source} has nothing behind record {}", after.seq);
                        break;
                    }
                    Ok(_) => {}
                    Err(why) => {
                        last = format!("{source}: {why}");
                        break;
                    }
                }
            }
            if self.sink.view().end.seq >= to.seq {
                break;
            }
        }
        match self.sink.view().end {
            end if end == to => Ok(()),
            end if end.seq > to.seq => Err(format!("this sink ends at {end}, beyond {to}")),
            _ => Err(last),
        }
    }

    async fn apply(&self, reigns: &[Reign], records: Vec<Bytes>) -> Step {
        if records.is_empty() {
            return Step::Level;
        }
        let headers: Vec<_> =
            records.iter().filter_map(|bytes| batch::decode_header(bytes).ok()).collect();
        let before = self.sink.view().end.seq;
        match self.sink.follow(records, reigns.to_vec()).await {
            Ok(count) => {
                let end = self.sink.view().end.seq;
                let new = || headers.iter().filter(|h| (before + 1..=end).contains(&h.seq()));
                for token in new().map(|header| header.token) {
                    if let Some(reign) = reigns.iter().find(|reign| reign.token == token) {
                        self.regions.arrived(&reign.region);
                    }
                }
                let turning = new().any(|h| matches!(h.kind, Kind::Barrier | Kind::EpochStart));
                if count == 0 { Step::Level } else { Step::Applied { count, turning } }
            }
            Err(SinkError::NotGranted { .. }) => Step::NotGranted,
            Err(SinkError::Sealed { .. }) => Step::Sealed,
            Err(SinkError::Chain(ChainError::Diverged { seq })) => Step::Diverged(seq),
            Err(error) => Step::Failed(error.to_string()),
        }
    }

    fn choose(
        &mut self,
        directive: &Directive,
        upstream: Option<&RegionName>,
    ) -> Option<RegionName> {
        let now = self.regions.now();
        if std::mem::replace(&mut self.rev, directive.rev) != directive.rev {
            self.avoid.clear();
        }
        self.avoid.retain(|_, until| *until > now);
        // The probe knows within a second that a link is cut; a question would find out in three.
        let open: Vec<_> = directive
            .peers
            .iter()
            .map(|peer| &peer.region)
            .filter(|region| !self.avoid.contains_key(*region) && self.regions.is_up(region))
            .collect();
        if let Some(up) = upstream.filter(|up| open.contains(up)) {
            return Some(up.clone());
        }
        self.turn += 1;
        open.get(self.turn % open.len().max(1)).map(|region| (*region).clone())
    }

    fn leave(&mut self, source: &RegionName, span: Duration) {
        self.avoid.insert(source.clone(), self.regions.now() + span);
    }
}
