//! Runs in which the leader dies at one boundary of a promotion: does it end, and is nothing left half?
//!
//! A run founds the cluster, lets a holder work, brings about the cause (for a failover and an
//! emergency the holder is lost), has people ask and agree, and kills the leader where [`Boundary`]
//! says, to the entry of its log. It is started again after seconds. The promotion must end as `done`,
//! `rolled_back` or `superseded` within [`END_MAX`], the audit must tell the same as its record
//! ([`told`]), and at rest nothing may be half ([`half`]); all invariants look on as in any run.
//!
//! Next: `boundaries/point.rs` for which boundaries there are, `trap.rs` for how a leader dies there.

mod half;
mod point;
mod table;
#[cfg(test)]
mod tests;
mod told;
mod trap;

pub use point::{Boundary, How, Point, all};
pub use table::Table;
pub(crate) use trap::{Trap, propose};

use crate::cluster::{Cluster, region};
use crate::directed::{holder, lead_from_anywhere, others, rest};
use crate::line;
use crate::net::spawn;
use crate::network::{PERSON, WORKER, place};
use crate::people;
use crate::world::World;
use cryptorun_core::plan::Step;
use cryptorun_core::promotion::{Kind, Outcome, Promotion, PromotionId, State};
use cryptorun_platform::disk::Keep;
use std::sync::Arc;
use std::time::Duration;
use trap::{Aim, When};

/// A promotion has ended so long after its leader's death. The longest honest way is an approval that
/// died with it, and a region that must be watched for the whole detection anew before it can be given
/// again.
const END_MAX: Duration = Duration::from_secs(120);
/// From the request until the leader dies: detection, the emergency's age, a run-out of the old lease.
const SPRING_MAX: Duration = Duration::from_secs(120);
/// A leader is started again after so long.
const DOWN_MS: (u64, u64) = (1000, 6000);
/// A candidate's worker comes back before anybody calls it lost, or long after.
const AWAY_SHORT_MS: (u64, u64) = (500, 2500);
const AWAY_LONG_MS: (u64, u64) = (18_000, 24_000);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What cuts a candidate off from data.
const BEHIND: &str = "data_cut";

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Where the leader should die.
    pub boundary: Boundary,
    /// Leaders that died by it: one, or two where its successor dies too.
    pub killed: u32,
    /// How the promotion ended, if it did.
    pub ended: Option<Ended>,
}

impl Reached {
    /// Whether everybody died who should.
    pub fn is_there(&self) -> bool {
        self.killed >= self.boundary.how.leaders()
    }
}

/// An end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its one word.
    pub how: &'static str,
    /// The reason, where it was not done.
    pub why: String,
    /// After the last leader's death.
    pub after: Duration,
}

/// Puts right one thing later.
#[derive(Clone, Copy, Debug)]
enum Start {
    Node(u64),
    Worker(u64),
}

/// One run, as far as it is about the promotion.
struct Run<'a> {
    world: &'a Arc<World>,
    cluster: &'a mut Cluster,
    boundary: Boundary,
    trap: Arc<Trap>,
    /// Where the scope shall go.
    to: u64,
    starts: Vec<(Duration, Start)>,
    killed: u32,
    last_kill: Duration,
}

/// From rest to the promotion's end.
pub(crate) async fn run(world: &Arc<World>, cluster: &mut Cluster, boundary: Boundary) {
    let Some(trap) = world.trap.clone() else { return };
    if !rest(world, cluster).await {
        return;
    }
    lead_from_anywhere(world, cluster).await;
    let holder = holder(cluster).unwrap_or(1);
    let to = *world.pick(&others(holder));
    let last_kill = world.now();
    let mut run =
        Run { world, cluster, boundary, trap, to, starts: Vec::new(), killed: 0, last_kill };
    run.bring_about(holder).await;
    run.trap.set(Aim::At(boundary.point), boundary.how.first());
    let asking = spawn(world, insist(world.clone(), boundary, to));
    let ended = run.until_ended().await;
    asking.abort();
    run.settle_down().await;
    let killed = run.killed;
    let reached = Reached { boundary, killed, ended };
    world.event(format_args!("reached {reached:?}"));
    world.state().outcome.reached = Some(reached);
}

/// At rest after the healing.
pub(crate) async fn at_the_end(world: &Arc<World>, cluster: &Cluster) {
    half::check_sinks(world, cluster).await;
    audit_tells(world, cluster);
}

impl Run<'_> {
    /// What the kind needs: a holder that answers, or one that is gone.
    async fn bring_about(&mut self, holder: u64) {
        if self.boundary.kind == Kind::Switchover {
            return;
        }
        if self.world.below(2) == 0 {
            // Whoever is to take over lacks something that the third region has, until it fetches it.
            let others = others(self.to).map(|n| WORKER + n);
            self.world.event(format_args!("{} falls behind", self.to));
            self.world.state().network.cut_both(&[WORKER + self.to], &others, BEHIND);
            tokio::time::sleep(self.world.span_ms(1500, 4000)).await;
        }
        let region_too = self.world.below(2) == 0;
        self.world.event(format_args!("holder {holder} is lost, its region too: {region_too}"));
        self.cluster.crash_worker(holder, Keep::Everything);
        if region_too {
            self.cluster.crash_node(holder, Keep::Everything);
        }
    }

    /// Springs the trap, keeps what died on its way back, and waits for the end.
    async fn until_ended(&mut self) -> Option<Ended> {
        let begun = self.world.now();
        loop {
            tokio::select! {
                node = self.trap.sprung() => self.kill(node),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.start_what_is_due().await;
            drop(self.cluster.reap());
            if self.world.is_bad() {
                return None;
            }
            let (now, own) = (self.world.now(), self.own());
            if own.as_ref().is_some_and(|own| self.killed > 0 || own.is_at(Step::FetchTail)) {
                self.world.state().network.mend(BEHIND);
            }
            if let Some(ended) = own.as_ref().and_then(|own| self.ended(own)) {
                self.trap.take_away();
                return Some(ended);
            }
            let waited = now - if self.killed == 0 { begun } else { self.last_kill };
            if waited > if self.killed == 0 { SPRING_MAX } else { END_MAX } {
                self.trap.take_away();
                let state = own.map(|own| (own.id, own.state.clone(), own.current().cloned()));
                let killed = self.killed;
                self.world.violation(format!(
                    "ends: {} after {killed} leaders died, the last {waited:?} ago: {state:?}",
                    self.boundary
                ));
                return None;
            }
        }
    }

    /// The promotion as the newest node has it.
    fn own(&self) -> Option<Promotion> {
        let state = self.world.state();
        let newest = state.nodes.values().max_by_key(|handle| handle.node.applied_index())?;
        newest.node.with_machine(|machine| {
            let kind = self.boundary.kind;
            let mut own = machine.promotions().values().filter(|p| is_own(p, kind, self.to));
            own.next().cloned()
        })
    }

    fn ended(&self, own: &Promotion) -> Option<Ended> {
        let State::Ended(outcome) = &own.state else { return None };
        let why = match outcome {
            Outcome::RolledBack { why } => why.clone(),
            Outcome::Superseded { by } => format!("by {by}"),
            _ => String::new(),
        };
        let after = self.world.now() - self.last_kill;
        Some(Ended { how: outcome.as_str(), why, after })
    }

    /// The trap caught a leader: it is dead, and what of its disk was not synced is mostly lost.
    fn kill(&mut self, node: u64) {
        let world = self.world.clone();
        let keep = match world.below(4) {
            0 | 1 => Keep::Nothing,
            2 => Keep::Everything,
            _ => Keep::Torn { bytes: usize::try_from(world.below(3000)).unwrap_or(0) },
        };
        self.cluster.crash_node(node, keep);
        self.killed += 1;
        self.last_kill = world.now();
        let back = world.now() + world.span_ms(DOWN_MS.0, DOWN_MS.1);
        self.starts.push((back, Start::Node(node)));
        if self.killed > 1 {
            return;
        }
        match self.boundary.how {
            How::Appended | How::Applied => {}
            How::Twice => self.trap.set(Aim::Next, When::Appended),
            How::WithCandidate => {
                self.cluster.crash_worker(self.to, Keep::Nothing);
                let long = world.below(3) > 0;
                let (from, to) = if long { AWAY_LONG_MS } else { AWAY_SHORT_MS };
                let back = world.now() + world.span_ms(from, to);
                self.starts.push((back, Start::Worker(self.to)));
                // Where it is undone, the one who undoes it dies as well.
                let when = *world.pick(&[When::Appended, When::Applied]);
                self.trap.set(Aim::At(Point::Undo), when);
            }
        }
    }

    async fn start_what_is_due(&mut self) {
        let now = self.world.now();
        let starts = std::mem::take(&mut self.starts);
        let (due, later) = starts.into_iter().partition(|(at, _)| *at <= now);
        self.starts = later;
        for (_, start) in due {
            match start {
                Start::Node(id) => drop(self.cluster.start_node(id).await),
                Start::Worker(at) => drop(self.cluster.start_worker(at)),
            }
        }
    }

    /// Everybody that died by the trap is up again, and what is left stands as it should without any
    /// help; then the audit is compared.
    async fn settle_down(&mut self) {
        let begun = self.world.now();
        while !self.world.is_bad() {
            self.start_what_is_due().await;
            let found = match self.cluster.leader() {
                Some(leader) => leader.node.with_machine(half::standing),
                None => Err("nobody leads".to_owned()),
            };
            match found {
                Ok(()) if self.starts.is_empty() => break,
                Err(why) if self.world.now() - begun > END_MAX => {
                    return self.world.violation(format!("nothing_half: {}: {why}", self.boundary));
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
        audit_tells(self.world, self.cluster);
    }
}

fn audit_tells(world: &World, cluster: &Cluster) {
    let told = cluster.leader().map(|leader| leader.node.with_machine(told::check));
    if let Err(why) = told.unwrap_or(Err("nobody leads".to_owned())) {
        world.violation(format!("audit_tells: {why}"));
    }
}

/// The promotion that a run is about: the first of its kind to its target that people did not turn
/// down, nor time.
fn is_own(promotion: &Promotion, kind: Kind, to: u64) -> bool {
    let ran = match &promotion.state {
        State::Waiting | State::Running => true,
        State::Ended(outcome) => matches!(
            outcome,
            Outcome::Done | Outcome::RolledBack { .. } | Outcome::Superseded { .. }
        ),
    };
    ran && promotion.kind == kind && promotion.to.as_str() == region(to)
}

/// People who want it: they ask until it is taken, and agree until it runs. Where its candidate dies
/// they agree to what is asked next, too.
async fn insist(world: Arc<World>, boundary: Boundary, to: u64) {
    let (me, mut count) = (PERSON + to, 0);
    let Some(ana) = line::caller(me, "ana") else { return };
    while !world.stopping() {
        tokio::time::sleep(world.span_ms(100, 400)).await;
        count += 1;
        let Some(mut all) = people::promotions(&world, me, &ana).await else { continue };
        all.reverse(); // They come newest first.
        let waiting = |p: &&Promotion| p.state == State::Waiting;
        let next: Option<PromotionId> = all.iter().find(waiting).map(|p| p.id);
        let own = all.iter().find(|p| is_own(p, boundary.kind, to));
        match own.map(|own| (own.id, &own.state)) {
            None => {
                let request = people::request_for(Some(boundary.kind), region(place(to)));
                people::ask_for(&world, me, &ana, format!("b-{count}"), request).await;
            }
            Some((id, State::Waiting)) => {
                people::approve(&world, me, id, &format!("a{count}")).await
            }
            Some((_, State::Running)) if boundary.how == How::WithCandidate => {
                if let Some(id) = next {
                    people::approve(&world, me, id, &format!("a{count}")).await;
                }
            }
            Some((_, State::Running)) => {}
            Some((_, State::Ended(_))) => return,
        }
    }
}
