//! Runs that tell a story everybody knows: did what should happen come about, and nothing else?
//!
//! A run founds the cluster, lets it come to rest, tells its [`Story`] and puts everything right. All
//! invariants look on as in any run; what the story itself demands is in its file, and what is broken
//! of it is a violation under the story's name. Figures of many runs make a [`Table`].
//!
//! Next: `stories/cut.rs` for the 43 seconds of 2018-10-21, `flapping.rs`, `one_awake.rs`, `behind.rs`.

mod behind;
mod cut;
mod flapping;
mod one_awake;
mod table;
mod tail;
#[cfg(test)]
mod tests;

pub use table::Table;

use crate::cluster::{Cluster, region, warm};
use crate::directed::{holder, lead_from_anywhere, rest};
use crate::line;
use crate::network::{PERSON, WORKER};
use crate::people;
use crate::worker::WorkerHandle;
use crate::world::World;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::{Actor, OperatorId};
use cryptorun_core::promotion::{Kind, Promotion, State};
use cryptorun_core::region::RegionName;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// What a run tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Story {
    /// The holder's region is cut off for 43 s, and nobody agrees to anything.
    Cut,
    /// The same, and two people move the scope meanwhile.
    CutForced,
    /// A link, or all of the holder's region, comes and goes for ten minutes.
    Flapping,
    /// The holder's region is gone for good, and one person of two answers.
    OneAwake,
    /// A sink is sealed while records still come in.
    SealedWhileBehind,
}

impl Story {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Cut, Self::CutForced, Self::Flapping, Self::OneAwake, Self::SealedWhileBehind];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut_43s",
            Self::CutForced => "cut_43s_forced",
            Self::Flapping => "flapping",
            Self::OneAwake => "one_awake",
            Self::SealedWhileBehind => "sealed_while_behind",
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Story {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|story| story.as_str() == text);
        found.ok_or_else(|| {
            format!("no story '{text}'; known: {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which story.
    pub story: Story,
    /// Whether that came about which the story is about.
    pub came_about: bool,
    /// What was counted.
    pub figures: BTreeMap<&'static str, u64>,
}

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Once a fault is over a scope is held again, requests without a cause have ended, and sinks are level.
const SETTLED_MAX: Duration = Duration::from_secs(90);

/// One run, as far as it is about its story.
struct Run<'a> {
    world: &'a Arc<World>,
    cluster: &'a mut Cluster,
    /// Who held the scope when it began.
    holder: u64,
    before: Assigned,
    told: Told,
}

/// Where a scope is to be held, which only a promotion changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Assigned {
    region: RegionName,
    version: u64,
}

impl Assigned {
    fn of(machine: &Machine) -> Option<Self> {
        let scope = machine.scopes().get(&warm())?;
        Some(Self { region: scope.assigned.clone(), version: scope.assignment_version })
    }
}

/// From rest to the story's end.
pub(crate) async fn run(world: &Arc<World>, cluster: &mut Cluster, story: Story) {
    if !rest(world, cluster).await {
        return;
    }
    lead_from_anywhere(world, cluster).await;
    let before = cluster.leader().and_then(|leader| leader.node.with_machine(Assigned::of));
    let Some((holder, before)) = holder(cluster).zip(before) else {
        return world.violation(format!("{story}: nobody holds the scope in peace"));
    };
    world.event(format_args!("story {story}: {holder} holds"));
    let told = Told { story, came_about: false, figures: BTreeMap::new() };
    let mut run = Run { world, cluster, holder, before, told };
    match story {
        Story::Cut => cut::nobody_agrees(&mut run).await,
        Story::CutForced => cut::two_agree(&mut run).await,
        Story::Flapping => flapping::tell(&mut run).await,
        Story::OneAwake => one_awake::tell(&mut run).await,
        Story::SealedWhileBehind => behind::tell(&mut run).await,
    }
    let told = run.told;
    world.event(format_args!("told {told:?}"));
    world.state().outcome.told = Some(told);
}

impl Run<'_> {
    /// Something that the story demands is not so.
    fn broken(&self, why: impl fmt::Display) {
        self.world.violation(format!("{}: {why}", self.told.story));
    }

    fn count(&mut self, what: &'static str, n: u64) {
        *self.told.figures.entry(what).or_default() += n;
    }

    /// What the leader's machine says; none while nobody leads.
    fn ask<T>(&self, what: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.cluster.leader().map(|leader| leader.node.with_machine(what))
    }

    fn promotions(&self) -> Vec<Promotion> {
        self.ask(|machine| machine.promotions().values().cloned().collect()).unwrap_or_default()
    }

    fn worker(&self, place: u64) -> Option<WorkerHandle> {
        self.world.state().workers.get(&(WORKER + place)).cloned()
    }

    /// Waits until that is so; false, and a violation, where it does not become so in time.
    async fn until(&self, what: &str, max: Duration, so: impl Fn(&Machine) -> bool) -> bool {
        let end = self.world.now() + max;
        while !self.world.is_bad() {
            if self.ask(&so) == Some(true) {
                return true;
            }
            if self.world.now() >= end {
                let standing = self.ask(|machine| {
                    let scope = machine.scopes().get(&warm());
                    let state =
                        scope.map(|s| (s.phase.clone(), s.assigned.clone(), s.lease.clone()));
                    let open = machine.promotions().values().filter(|p| p.is_open());
                    format!("{state:?} {:?}", open.map(|p| (p.id, &p.state)).collect::<Vec<_>>())
                });
                self.broken(format_args!("not within {max:?}: {what}: {standing:?}"));
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    }

    /// Lets a span pass and looks once a second; nothing may have moved at any look.
    async fn nothing_moves_for(&mut self, span: Duration) {
        let end = self.world.now() + span;
        while self.world.now() < end && !self.world.is_bad() {
            let left = end - self.world.now();
            tokio::time::sleep(left.min(Duration::from_secs(1))).await;
            self.nothing_moved();
        }
    }

    /// The scope is assigned where it was, and no promotion ever got as far as a token.
    fn nothing_moved(&self) {
        let Some(now) = self.ask(Assigned::of) else { return };
        if now.as_ref() != Some(&self.before) {
            self.broken(format_args!("{:?} became {now:?}", self.before));
        }
        let moved = self.promotions().into_iter().find(|p| p.token.is_some());
        if let Some(moved) = moved {
            self.broken(format_args!("{} reserved a token: {:?}", moved.id, moved.state));
        }
    }

    /// The scope is held where it is assigned, and nothing is on its way or asked for by the controller. A
    /// person's request waits until somebody answers it, and is void then.
    async fn held_again(&self) -> bool {
        let over = |p: &Promotion| {
            !p.is_open() || p.state == State::Waiting && p.requester != Actor::Controller
        };
        let settled = |machine: &Machine| {
            machine.live_lease(&warm()).is_some() && machine.promotions().values().all(over)
        };
        self.until("it is held and nothing is asked for", SETTLED_MAX, settled).await
    }

    /// Lets a person there agree to it.
    async fn agrees(&self, place: u64, who: &str, promotion: &Promotion) {
        people::approve_as(self.world, PERSON + place, promotion.id, who, "story").await;
    }

    /// Lets both people agree who have not.
    async fn both_agree(&self, place: u64, promotion: &Promotion) {
        for who in ["ana", "ben"] {
            if !promotion.approvals.contains_key(&OperatorId::from(who)) {
                self.agrees(place, who, promotion).await;
            }
        }
    }

    /// Lets a person there ask for a move.
    async fn asks(&self, place: u64, who: &str, kind: Kind, to: u64) {
        let me = PERSON + place;
        let Some(caller) = line::caller(me, who) else { return };
        let request = people::request_for(Some(kind), region(to));
        let key = format!("story-{}", self.world.draw());
        people::ask_for(self.world, me, &caller, key, request).await;
    }
}

/// What waits for people, newest first, but switchovers.
fn waiting(promotions: &[Promotion]) -> impl Iterator<Item = &Promotion> {
    let moves = |p: &&Promotion| p.state == State::Waiting && p.kind != Kind::Switchover;
    promotions.iter().rev().filter(moves)
}
