//! What each label does to the world, and what it is rightly called.

use super::{Label, named};
use crate::cluster::{Cluster, NODES, warm};
use crate::directed::others;
use crate::nemesis::{freeze, thaw};
use crate::network::{WORKER, ends_of};
use crate::world::World;
use cryptorun_core::diagnose::Class;
use cryptorun_core::region::RegionName;
use cryptorun_platform::disk::Keep;
use std::sync::Arc;
use std::time::Duration;

/// One fault, drawn.
#[derive(Debug)]
pub(super) struct Fault {
    what: What,
    label: Label,
    /// The region it is about, or one end of a link.
    place: u64,
    /// The link's other end.
    other: u64,
    /// So much of it: milliseconds of an offset, a sync, a pause; of a cycle on and off.
    size: (u64, u64),
}

/// How a label comes about; several ways for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Nothing,
    /// Both processes of a region die.
    Die,
    /// Both stand still.
    Freeze,
    /// A region is cut from both others.
    Cut,
    /// A worker dies, its node goes on.
    WorkerDies,
    /// A worker loses every node: its lease runs out while its region reports.
    WorkerCut,
    /// The part of a worker that makes batches stands still.
    Stall,
    SlowSyncs,
    Errors,
    StepClock,
    /// A node gets a part of its time only.
    Starve,
    Deafen,
    Flap,
    CutLink,
    CutOneWay,
}

/// The noise of an ordinary day.
pub(super) fn noise(world: &Arc<World>) {
    let mut state = world.state();
    state.network.loss_percent = state.below(3);
    state.network.lost_answers_percent = state.below(2);
    state.network.shuffle_ms = state.below(25);
    let (loss, answers, shuffle) =
        (state.network.loss_percent, state.network.lost_answers_percent, state.network.shuffle_ms);
    drop(state);
    world.event(format_args!("noise: loss {loss} % answers {answers} % shuffle {shuffle} ms"));
}

impl Fault {
    pub fn draw(world: &World, cluster: &Cluster, label: Label) -> Self {
        let holder = cluster.leader().and_then(|leader| {
            leader.node.with_machine(|machine| {
                let assigned = machine.scopes().get(&warm()).map(|scope| scope.assigned.clone());
                NODES.into_iter().find(|place| assigned.as_ref() == Some(&named(*place)))
            })
        });
        let holder = holder.unwrap_or(1);
        let anywhere = 1 + world.below(3);
        let (what, place, size) = match label {
            Label::Calm => (What::Nothing, anywhere, (0, 0)),
            Label::RegionLost => {
                (*world.pick(&[What::Die, What::Freeze, What::Cut]), anywhere, (0, 0))
            }
            Label::IsolatedSelf => (What::Cut, anywhere, (0, 0)),
            Label::HolderLost => {
                (*world.pick(&[What::WorkerDies, What::WorkerCut]), holder, (0, 0))
            }
            Label::StalledWorker => (What::Stall, holder, (0, 0)),
            Label::SlowDisk => (What::SlowSyncs, anywhere, (1200 + world.below(2000), 0)),
            Label::ErrorsHigh => (What::Errors, anywhere, (80 + world.below(900), 0)),
            Label::ClockBad => {
                (What::StepClock, anywhere, (700 + world.below(8000), world.below(2)))
            }
            Label::Overloaded => {
                (What::Starve, anywhere, (350 + world.below(300), 150 + world.below(100)))
            }
            Label::ProviderOutage => (What::Deafen, anywhere, (2 + world.below(2), 0)),
            Label::ProviderDegradedLocal => (What::Deafen, anywhere, (1, 0)),
            Label::Flapping => {
                (What::Flap, anywhere, (3000 + world.below(4000), 3000 + world.below(4000)))
            }
            Label::LinkCut => (What::CutLink, anywhere, (0, 0)),
            Label::OneWayLink => (What::CutOneWay, anywhere, (0, 0)),
        };
        let other = *world.pick(&others(place));
        Self { what, label, place, other, size }
    }

    pub fn label(&self) -> Label {
        self.label
    }

    /// Whether a whole region is gone by it.
    pub fn loses_a_region(&self) -> bool {
        matches!(self.what, What::Die | What::Freeze | What::Cut)
    }

    /// The node to ask, where it is not the leader.
    pub fn asked_of(&self) -> Option<u64> {
        (self.label == Label::IsolatedSelf).then_some(self.place)
    }

    /// Whether this is what it is called.
    pub fn is_called(&self, class: Option<&Class>) -> bool {
        let own = named(self.place);
        let is_pair = |a: &RegionName, b: &RegionName| {
            let pair = [named(self.place), named(self.other)];
            a != b && pair.contains(a) && pair.contains(b)
        };
        match (self.label, class) {
            (Label::Calm, None) | (Label::IsolatedSelf, Some(Class::IsolatedSelf)) => true,
            (Label::RegionLost, Some(Class::RegionLost { region }))
            | (Label::SlowDisk, Some(Class::SlowDisk { region }))
            | (Label::ErrorsHigh, Some(Class::ErrorsHigh { region }))
            | (Label::ClockBad, Some(Class::ClockBad { region }))
            | (Label::Overloaded, Some(Class::Overloaded { region }))
            | (Label::HolderLost, Some(Class::HolderLost { region, .. }))
            | (Label::StalledWorker, Some(Class::StalledWorker { region, .. }))
            | (Label::ProviderDegradedLocal, Some(Class::ProviderDegradedLocal { region, .. })) => {
                *region == own
            }
            (Label::ProviderOutage, Some(Class::ProviderOutage { venue })) => venue == VENUE,
            (Label::Flapping, Some(Class::Flapping { a, b }))
            | (Label::LinkCut, Some(Class::LinkCut { a, b, .. })) => is_pair(a, b),
            (Label::OneWayLink, Some(Class::OneWayLink { from, to })) => {
                *from == named(self.place) && *to == named(self.other)
            }
            _ => false,
        }
    }

    pub async fn begin(&mut self, cluster: &mut Cluster) {
        let world = cluster.world.clone();
        let (node, worker) = (self.place, WORKER + self.place);
        match self.what {
            What::Nothing | What::Errors | What::Starve | What::Flap => {}
            What::Die => {
                cluster.crash_node(node, Keep::Everything);
                cluster.crash_worker(node, Keep::Everything);
            }
            What::Freeze => {
                for end in [node, worker] {
                    freeze(&world, end, FROZEN);
                }
            }
            What::Cut => {
                let far: Vec<u64> = others(node).into_iter().flat_map(ends_of).collect();
                world.state().network.cut_both(&ends_of(node), &far, WHY);
            }
            What::WorkerDies => cluster.crash_worker(node, Keep::Everything),
            What::WorkerCut => world.state().network.cut_both(&[worker], &NODES, WHY),
            What::Stall => {
                if let Some(handle) = world.state().workers.get(&worker) {
                    handle.tasks.freeze_one("scope");
                }
            }
            What::SlowSyncs => {
                let more = Duration::from_millis(self.size.0);
                world.state().slow_disks.insert(worker, (more, Duration::MAX));
            }
            What::StepClock => {
                let by = i64::try_from(self.size.0).unwrap_or(0);
                let by = if self.size.1 == 0 { by } else { -by };
                if let Some(remains) = cluster.nodes.get(&node) {
                    remains.clock.step_wall(by);
                }
                if let Some(remains) = cluster.workers.get(&node) {
                    remains.clock.step_wall(by);
                }
            }
            What::Deafen => {
                let all = [self.place, self.other, 6 - self.place - self.other];
                let many = usize::try_from(self.size.0).unwrap_or(1);
                world.state().deaf.extend(&all[..many.min(all.len())]);
            }
            What::CutLink => {
                world.state().network.cut_both(&ends_of(node), &ends_of(self.other), WHY);
            }
            What::CutOneWay => {
                world.state().network.cut(&ends_of(node), &ends_of(self.other), WHY);
            }
        }
    }

    /// What goes on while it lasts, for a span.
    pub async fn keep_up(&mut self, cluster: &mut Cluster, span: Duration) {
        let world = cluster.world.clone();
        match self.what {
            What::Starve => return self.starve(&world, span).await,
            What::Flap => self.flap(&world),
            What::Errors => self.answer_with_errors(&world),
            _ => {}
        }
        tokio::time::sleep(span).await;
    }

    async fn starve(&self, world: &World, span: Duration) {
        let (still, moving) = self.size;
        let end = world.now() + span;
        while world.now() < end {
            freeze(world, self.place, Duration::from_millis(still));
            tokio::time::sleep(Duration::from_millis(still)).await;
            thaw(world, self.place);
            tokio::time::sleep(Duration::from_millis(moving)).await;
        }
    }

    fn flap(&self, world: &World) {
        let (on, off) = self.size;
        let at = u64::try_from(world.now().as_millis()).unwrap_or(0) % (on + off);
        let network = &mut world.state().network;
        match at < off {
            true => network.cut_both(&ends_of(self.place), &ends_of(self.other), WHY),
            false => network.mend(WHY),
        }
    }

    /// Twenty answers a second, so many in a thousand of them errors.
    fn answer_with_errors(&self, world: &World) {
        let handle = world.state().nodes.get(&self.place).cloned();
        let Some(handle) = handle else { return };
        for n in 0..20 {
            let class = if n * 50 < self.size.0 { "5xx" } else { "2xx" };
            handle.metrics.api_answers_total.inc([class]);
        }
    }

    /// What the end of a run does not put right by itself.
    pub async fn end(&mut self, cluster: &mut Cluster) {
        let world = cluster.world.clone();
        match self.what {
            What::Freeze => {
                for end in [self.place, WORKER + self.place] {
                    thaw(&world, end);
                }
            }
            What::Stall => {
                if let Some(handle) = world.state().workers.get(&(WORKER + self.place)) {
                    handle.tasks.thaw();
                }
            }
            _ => {}
        }
    }
}

/// Longer than any fault: what stood still wakes by itself in the end.
const FROZEN: Duration = Duration::from_secs(78);
const VENUE: &str = "kraken";
const WHY: &str = "labelled";
