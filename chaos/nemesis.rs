//! What goes wrong, and when it is put right again.
//!
//! Faults are more frequent than nature's and overlap; each that lasts has its end on a timeline.
//! Crashes are aimed: one that loses nothing tests little. The theme of a seed narrows the choice.

use crate::clock::RATE_WITHIN_PPM;
use crate::cluster::{Cluster, NODES};
use crate::line;
use crate::net::spawn;
use crate::network::{PERSON, WORKER, ends_of};
use crate::world::{Theme, World};
use cryptorun_control::log::Proposal;
use cryptorun_core::command::{Command, Grant};
use cryptorun_core::people::Actor;
use cryptorun_core::position::Position;
use cryptorun_core::scope::ScopeId;
use cryptorun_core::time::WallTime;
use cryptorun_core::token::Token;
use cryptorun_core::wire::{Fate, TransferRequest};
use cryptorun_platform::disk::{Fault, Keep, SimDisk};
use cryptorun_worker::sink::SinkError;
use cryptorun_worker::warm::batch::{Batch, Header, Kind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A supervisor starts what did not start again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// What ends a fault.
#[derive(Clone, Copy, Debug)]
enum Undo {
    StartNode(u64),
    StartWorker(u64),
    Thaw(u64),
    Mend(&'static str),
    Network,
    /// Whose, and from which change on it failed for want of room.
    Disk(u64, Option<u64>),
    Hear(u64),
    Wall(u64),
    Rate(u64),
    FlapOn(u64, u64, u64),
    FlapOff(u64, u64, u64),
}

pub(crate) struct Nemesis {
    world: Arc<World>,
    timeline: BTreeMap<(Duration, u64), Undo>,
    drawn: u64,
}

impl Nemesis {
    pub fn new(world: Arc<World>) -> Self {
        Self { world, timeline: BTreeMap::new(), drawn: 0 }
    }

    fn later(&mut self, after: Duration, undo: Undo) {
        self.drawn += 1;
        self.timeline.insert((self.world.now() + after, self.drawn), undo);
    }

    /// Lets a while pass with what is due in it, then does the next thing.
    pub async fn next(&mut self, cluster: &mut Cluster) {
        let until = self.world.now() + self.world.span_ms(150, 1900);
        loop {
            let due = self.timeline.first_key_value().map(|((at, _), _)| *at);
            let wake = due.map_or(until, |at| at.min(until));
            tokio::time::sleep(wake.saturating_sub(self.world.now())).await;
            for end in cluster.reap() {
                let undo = if end < WORKER {
                    Undo::StartNode(end)
                } else {
                    Undo::StartWorker(end - WORKER)
                };
                let after = self.world.span_ms(100, 3000);
                self.later(after, undo);
            }
            match self.timeline.first_entry() {
                Some(first) if first.key().0 <= self.world.now() => {
                    let undo = first.remove();
                    self.undo(cluster, undo).await;
                }
                _ if self.world.now() >= until => break,
                _ => {}
            }
        }
        self.disturb(cluster).await;
    }

    async fn undo(&mut self, cluster: &mut Cluster, undo: Undo) {
        let world = self.world.clone();
        match undo {
            Undo::StartNode(id) => {
                if !cluster.start_node(id).await {
                    self.later(AGAIN, Undo::StartNode(id));
                }
            }
            Undo::StartWorker(place) => {
                if !cluster.start_worker(place) {
                    self.later(AGAIN, Undo::StartWorker(place));
                }
            }
            Undo::Thaw(end) => thaw(&world, end),
            Undo::Mend(why) => {
                world.event(format_args!("mend {why}"));
                world.state().network.mend(why);
            }
            Undo::Network => {
                world.event(format_args!("the network is quiet"));
                let mut state = world.state();
                let cut = std::mem::take(&mut state.network.cut);
                state.network.heal();
                state.network.cut = cut;
            }
            Undo::Disk(end, full) => {
                let failed = disk_of(cluster, end).zip(full);
                if failed.is_some_and(|(disk, from)| disk.changes() > from) {
                    world.tally("disk_full");
                }
                heal_disk(cluster, end);
            }
            Undo::Hear(place) => drop(world.state().deaf.remove(&place)),
            Undo::Wall(end) => {
                if let Some(clock) = clock_of(cluster, end) {
                    clock.set_wall(0);
                }
            }
            Undo::Rate(end) => {
                if let Some(clock) = clock_of(cluster, end) {
                    clock.set_rate(0);
                }
            }
            Undo::FlapOn(a, b, left) => {
                world.state().network.cut_both(&ends_of(a), &ends_of(b), "flapping_link");
                let after = world.span_ms(100, 900);
                self.later(after, Undo::FlapOff(a, b, left));
            }
            Undo::FlapOff(a, b, left) => {
                world.state().network.mend("flapping_link");
                if left > 0 {
                    let after = world.span_ms(100, 900);
                    self.later(after, Undo::FlapOn(a, b, left - 1));
                } else {
                    world.tally("flapping");
                }
            }
        }
    }

    /// Everything up, connected, healthy and on time.
    pub async fn heal(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        for undo in std::mem::take(&mut self.timeline).into_values() {
            if matches!(undo, Undo::Thaw(_)) {
                self.undo(cluster, undo).await;
            }
        }
        {
            let mut state = world.state();
            state.network.heal();
            state.slow_disks.clear();
            state.deaf.clear();
        }
        for place in NODES {
            for end in [place, WORKER + place] {
                heal_disk(cluster, end);
                if let Some(clock) = clock_of(cluster, end) {
                    clock.set_rate(0);
                    clock.set_wall(0);
                }
            }
        }
        cluster.reap();
        if world.theme == Theme::Wild {
            // Who saw its clock run off holds nothing for minutes: a person starts it anew.
            for place in NODES {
                cluster.crash_node(place, Keep::Everything);
                cluster.crash_worker(place, Keep::Everything);
            }
        }
        for place in NODES {
            cluster.start_node(place).await;
            cluster.start_worker(place);
        }
    }

    fn keep(&self) -> Keep {
        match self.world.below(4) {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            2 => Keep::Torn { bytes: usize::try_from(self.world.below(5000)).unwrap_or(0) },
            _ => Keep::Sectors { seed: self.world.draw() },
        }
    }

    /// One disturbance.
    async fn disturb(&mut self, cluster: &mut Cluster) {
        match self.world.theme {
            Theme::OneLink => self.cut_link(true),
            Theme::ControlOnly => self.disturb_control(cluster).await,
            Theme::HalfSeen if !self.timeline.is_empty() => {}
            Theme::HalfSeen => match self.world.below(2) {
                0 => self.hide_holder(),
                _ => self.leave_behind(),
            },
            Theme::Labelled | Theme::Boundary | Theme::Story => {}
            Theme::All | Theme::Wild => match self.world.below(100) {
                0..16 => self.crash_node(cluster).await,
                16..26 => self.crash_worker(cluster).await,
                26..31 => self.lose_region(cluster).await,
                31..49 => self.cut_something(),
                49..58 => self.degrade_network(),
                58..70 => self.hurt_disk(cluster),
                70..79 => self.freeze(cluster),
                79..86 => self.shift_clock(cluster),
                86..91 => self.transfer(cluster),
                91..94 => snapshot(cluster),
                94..97 => self.deafen(),
                97 => self.hurry(cluster),
                _ => self.show_old_token(cluster),
            },
        }
    }

    /// One node at a time, and nothing else: the cluster must not notice for long.
    async fn disturb_control(&mut self, cluster: &mut Cluster) {
        // An election is over before the next one begins: what one costs is the question.
        if self.timeline.is_empty() && cluster.leader().is_some() {
            tokio::time::sleep(Duration::from_secs(6)).await;
            match self.world.below(4) {
                0 | 1 => self.crash_node(cluster).await,
                2 => self.transfer(cluster),
                _ => snapshot(cluster),
            }
        }
    }

    async fn crash_node(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        let up = cluster.nodes_up();
        if up.is_empty() {
            return;
        }
        let quiet = world.theme == Theme::ControlOnly;
        if !quiet && world.below(12) == 0 {
            for id in &up {
                let keep = self.keep();
                cluster.crash_node(*id, keep);
                // In an order of its own.
                let after = world.span_ms(100, 4000);
                self.later(after, Undo::StartNode(*id));
            }
            world.tally("crash_all");
            return;
        }
        // A cluster that is mostly down shows little.
        if up.len() < NODES.len() && (quiet || world.below(3) > 0) {
            return;
        }
        let leader = cluster.leader().map(|handle| handle.id);
        let id = match leader {
            Some(leader) if world.below(2) == 0 => leader,
            _ => *world.pick(&up),
        };
        if world.below(8) == 0 {
            return self.stop_node(cluster, id).await;
        }
        // Aimed: a crash that loses nothing tests little.
        for _ in 0..200 {
            let pending = world.state().nodes.get(&id).is_some_and(|n| n.disk.pending() > 0);
            if pending {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let keep = self.keep();
        cluster.crash_node(id, keep);
        if world.below(6) == 0 {
            let again = world.span_ms(20, 300);
            tokio::time::sleep(world.span_ms(20, 200)).await;
            if cluster.start_node(id).await {
                tokio::time::sleep(again).await;
                let keep = self.keep();
                cluster.crash_node(id, keep);
                world.tally("crash_again");
            }
        }
        let after = if quiet { world.span_ms(200, 2500) } else { world.span_ms(200, 9000) };
        self.later(after, Undo::StartNode(id));
    }

    /// SIGTERM: leadership is handed over first.
    async fn stop_node(&mut self, cluster: &mut Cluster, id: u64) {
        let world = self.world.clone();
        let Some(handle) = world.state().nodes.get(&id).cloned() else { return };
        let led = handle.node.leadership().borrow().leading;
        world.event(format_args!("n{id} is stopped in order"));
        let stopping = handle.node.clone();
        let done = tokio::time::timeout(Duration::from_secs(5), async move {
            stopping.shutdown().await;
        });
        if done.await.is_ok() && led {
            world.tally("node_stopped");
        }
        cluster.crash_node(id, Keep::Everything);
        let after = world.span_ms(100, 3000);
        self.later(after, Undo::StartNode(id));
    }

    async fn crash_worker(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        let up = cluster.workers_up();
        if up.is_empty() || (up.len() < NODES.len() && world.below(2) == 0) {
            return;
        }
        let place = self.holder().filter(|_| world.below(2) == 0).unwrap_or(*world.pick(&up));
        let Some(worker) = world.state().workers.get(&(WORKER + place)).cloned() else { return };
        if world.below(4) == 0 {
            world.event(format_args!("w{place} is stopped in order"));
            worker.stop().await;
            world.tally("worker_stopped");
            cluster.crash_worker(place, Keep::Everything);
        } else {
            for _ in 0..200 {
                if worker.disk.pending() > 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let keep = self.keep();
            cluster.crash_worker(place, keep);
        }
        let after =
            if world.below(2) == 0 { world.span_ms(50, 1500) } else { world.span_ms(2000, 15_000) };
        self.later(after, Undo::StartWorker(place));
    }

    /// A worker loses its peers and keeps its nodes: it falls behind, and nobody's lease moves.
    fn cut_data(&mut self, place: u64) {
        let world = self.world.clone();
        world.event(format_args!("cut data_cut at {place}"));
        let others: Vec<u64> =
            NODES.into_iter().filter(|n| *n != place).map(|n| WORKER + n).collect();
        let mut state = world.state();
        state.network.cut_both(&[WORKER + place], &others, "data_cut");
        drop(state);
        let after = world.span_ms(2000, 18_000);
        self.later(after, Undo::Mend("data_cut"));
    }

    /// A region looks dead from everywhere, while its worker goes on renewing with the other nodes.
    fn hide_holder(&mut self) {
        let world = self.world.clone();
        let place = self.holder().unwrap_or(1 + world.below(3));
        world.event(format_args!("cut hidden at {place}"));
        let others = || NODES.into_iter().filter(move |n| *n != place);
        let everyone: Vec<u64> =
            others().flat_map(ends_of).chain([WORKER + place, PERSON + place]).collect();
        let workers: Vec<u64> = others().map(|n| WORKER + n).collect();
        let mut state = world.state();
        state.network.cut_both(&[place], &everyone, "hidden_region");
        state.network.cut_both(&[WORKER + place], &workers, "hidden_region");
        drop(state);
        let after = world.span_ms(8000, 20_000);
        self.later(after, Undo::Mend("hidden_region"));
    }

    /// A holder is cut from everybody and writes on until its deadline. Its peers find it again, the
    /// nodes do not; a region that cannot reach the next holder asks it for records: what it alone has
    /// must not travel.
    fn leave_behind(&mut self) {
        let world = self.world.clone();
        let Some(place) = self.holder() else { return };
        world.event(format_args!("cut left_behind at {place}"));
        let others: Vec<u64> = NODES.into_iter().filter(|n| *n != place).collect();
        let workers: Vec<u64> = others.iter().map(|n| WORKER + n).collect();
        let mut state = world.state();
        state.network.cut_both(&[WORKER + place], &NODES, "left_behind");
        state.network.cut_both(&workers[..1], &workers[1..], "left_behind");
        state.network.cut_both(&[WORKER + place], &workers, "left_alone");
        drop(state);
        let found = world.span_ms(12_000, 20_000);
        self.later(found, Undo::Mend("left_alone"));
        let back = found + world.span_ms(3000, 12_000);
        self.later(back, Undo::Mend("left_behind"));
    }

    async fn lose_region(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        if cluster.nodes_up().len() < NODES.len() {
            return;
        }
        let place = self.holder().filter(|_| world.below(3) > 0).unwrap_or(1 + world.below(3));
        if world.below(2) == 0 {
            // Whoever is to take over lacks something that the third region has.
            self.cut_data(1 + (place + world.below(2)) % 3);
            tokio::time::sleep(world.span_ms(1500, 4000)).await;
        }
        let (keep, other) = (self.keep(), self.keep());
        world.event(format_args!("region {place} is lost"));
        world.tally("region_lost");
        cluster.crash_node(place, keep);
        cluster.crash_worker(place, other);
        let after = world.span_ms(8000, 25_000);
        self.later(after, Undo::StartNode(place));
        let after = world.span_ms(8000, 25_000);
        self.later(after, Undo::StartWorker(place));
    }

    /// Whose worker believes that it holds the scope.
    fn holder(&self) -> Option<u64> {
        let state = self.world.state();
        let holds =
            |w: &&crate::worker::WorkerHandle| w.standing.holds(&crate::cluster::warm()).is_some();
        state.workers.values().find(holds).map(|worker| worker.end - WORKER)
    }

    fn cut_link(&mut self, only: bool) {
        let world = self.world.clone();
        let a = if only { 1 + (world.state().outcome.seed / 16) % 3 } else { 1 + world.below(3) };
        let b = 1 + a % 3;
        let both = world.below(3) > 0;
        let why = if both { "link_cut" } else { "one_way_cut" };
        world.event(format_args!("cut {a}>{b} both={both}"));
        let (from, to) = if world.below(2) == 0 { (a, b) } else { (b, a) };
        let mut state = world.state();
        state.network.cut(&ends_of(from), &ends_of(to), why);
        if both {
            state.network.cut(&ends_of(to), &ends_of(from), why);
        }
        drop(state);
        let after = world.span_ms(1000, 15_000);
        self.later(after, Undo::Mend(why));
    }

    fn cut_something(&mut self) {
        let world = self.world.clone();
        let a = self.holder().filter(|_| world.below(2) == 0).unwrap_or(1 + world.below(3));
        let others: Vec<u64> = NODES.into_iter().filter(|n| *n != a).collect();
        let far: Vec<u64> = others.iter().flat_map(|place| ends_of(*place)).collect();
        let (why, from, to): (_, Vec<u64>, Vec<u64>) = match world.below(10) {
            0..4 => return self.cut_link(false),
            4..6 => ("region_cut", ends_of(a).to_vec(), far),
            6 => return self.cut_data(a),
            7 => ("node_cut", vec![a], [far, vec![WORKER + a, PERSON + a]].concat()),
            8 => ("control_cut", vec![WORKER + a], NODES.to_vec()),
            _ => {
                let b = *world.pick(&others);
                return self.later(Duration::ZERO, Undo::FlapOn(a, b, 3 + world.below(4)));
            }
        };
        world.event(format_args!("cut {why} at {a}"));
        let mut state = world.state();
        state.network.cut_both(&from, &to, why);
        drop(state);
        let after = if world.below(3) == 0 {
            world.span_ms(8000, 25_000)
        } else {
            world.span_ms(300, 8000)
        };
        self.later(after, Undo::Mend(why));
    }

    fn degrade_network(&mut self) {
        let world = self.world.clone();
        let (a, b) = (1 + world.below(3), 1 + world.below(3));
        {
            let mut state = world.state();
            match state.below(5) {
                0 => state.network.loss_percent = 1 + state.below(25),
                1 => state.network.lost_answers_percent = 5 + state.below(30),
                2 => state.network.double_percent = 10 + state.below(40),
                3 => state.network.shuffle_ms = 20 + state.below(200),
                _ if a != b => {
                    let more = 300 + state.below(700);
                    state.network.slow.insert((a.min(b), a.max(b)), more);
                }
                _ => {}
            }
            let text = format!("{:?}", state.network.slow);
            let now = world.now().as_micros();
            let n = &state.network;
            let (loss, lost) = (n.loss_percent, n.lost_answers_percent);
            let (double, shuffle) = (n.double_percent, n.shuffle_ms);
            state.note(
                now,
                format_args!(
                    "network: loss {loss} % answers {lost} % doubled {double} % shuffle {shuffle} ms slow {text}"
                ),
            );
        }
        let after = world.span_ms(1000, 9000);
        self.later(after, Undo::Network);
    }

    fn hurt_disk(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        let place = 1 + world.below(3);
        let end = if world.below(2) == 0 { place } else { WORKER + place };
        let what = world.below(10);
        world.event(format_args!("disk of {end}: {what}"));
        match what {
            0..3 => {
                let (more, until) =
                    (world.span_ms(20, 200), world.now() + world.span_ms(500, 6000));
                world.state().slow_disks.insert(end, (more, until));
            }
            3..6 => {
                // A sync that begins in this short while hangs for seconds; a holder's next batch is.
                let holder = self.holder().filter(|_| world.below(2) == 0);
                let end = holder.map_or(end, |place| WORKER + place);
                let span = if holder.is_some() { (1500, 1700) } else { (5, 60) };
                let (more, until) =
                    (world.span_ms(1000, 9000), world.now() + world.span_ms(span.0, span.1));
                world.state().slow_disks.insert(end, (more, until));
            }
            6 | 7 => self.fail_disk(cluster, end, Fault::Full),
            8 => self.fail_disk(cluster, end, Fault::Broken),
            _ => self.fail_disk(cluster, end, Fault::BrokenSync),
        }
    }

    fn fail_disk(&mut self, cluster: &mut Cluster, end: u64, fault: Fault) {
        let Some(disk) = disk_of(cluster, end) else { return };
        let after = self.world.below(6);
        disk.fail_after(after, fault);
        self.world.event(format_args!("disk of {end} fails: {fault:?} after {after} changes"));
        let full = (fault == Fault::Full).then_some(disk.changes() + after);
        let span = self.world.span_ms(300, 4000);
        cluster.hurt.insert(end);
        self.later(span, Undo::Disk(end, full));
    }

    /// A process stands still for a while, often about as long as a lease.
    fn freeze(&mut self, _cluster: &mut Cluster) {
        let world = self.world.clone();
        let holder = self.holder().filter(|_| world.below(3) > 0);
        let end = match (holder, world.below(3)) {
            (Some(place), 0 | 1) => WORKER + place,
            _ => 1 + world.below(3) + WORKER * world.below(2),
        };
        let span = match world.below(3) {
            0 => world.span_ms(100, 1500),
            1 => world.span_ms(3500, 6500),
            _ => world.span_ms(1000, 12_000),
        };
        if world.state().frozen.contains_key(&end) || !freeze(&world, end, span) {
            return;
        }
        world.event(format_args!("{end} stands still for {span:?}"));
        self.later(span, Undo::Thaw(end));
    }

    fn shift_clock(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        let end = 1 + world.below(3) + WORKER * world.below(2);
        let Some(clock) = clock_of(cluster, end) else { return };
        let wild = world.theme == Theme::Wild;
        match world.below(if wild { 5 } else { 3 }) {
            0 => {
                let by: i64 = *world.pick(&[150, 3_000, 12_000, 3_600_000]);
                let by = if world.below(2) == 0 { by } else { -by };
                world.event(format_args!("wall clock of {end} by {by} ms"));
                world.tally("wall_step");
                clock.step_wall(by);
                let after = world.span_ms(500, 8000);
                self.later(after, Undo::Wall(end));
            }
            1 | 2 => {
                let rate = i64::try_from(world.below(2 * RATE_WITHIN_PPM)).unwrap_or(0);
                let rate = rate - i64::try_from(RATE_WITHIN_PPM).unwrap_or(0);
                world.event(format_args!("clock of {end} at {rate} ppm"));
                world.tally("clock_rate");
                clock.set_rate(rate);
            }
            _ => {
                let rate = *world.pick(&[-500_000, -100_000, -20_000, 20_000, 200_000, 1_000_000]);
                world.event(format_args!("clock of {end} WILD at {rate} ppm"));
                world.tally("clock_wild");
                clock.set_rate(rate);
                let after = world.span_ms(2000, 30_000);
                self.later(after, Undo::Rate(end));
            }
        }
    }

    fn transfer(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        let Some(leader) = cluster.leader() else { return };
        let to = crate::cluster::region(1 + world.below(3)).to_owned();
        world.event(format_args!("transfer to {to}"));
        let asked = world.clone();
        spawn(&world, async move {
            let Some(root) = line::caller(PERSON + 1, "root") else { return };
            let moved = leader.api.transfer_leader(&root, TransferRequest { to }).await;
            if moved.is_ok() {
                asked.tally("transfer");
            }
        });
    }

    fn deafen(&mut self) {
        let place = 1 + self.world.below(3);
        self.world.event(format_args!("region {place} hears nothing from the venue"));
        self.world.state().deaf.insert(place);
        let after = self.world.span_ms(2000, 12_000);
        self.later(after, Undo::Hear(place));
    }

    /// A leader's controller out of its mind: `apply` is the check, whoever asks for what.
    fn hurry(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        let Some(leader) = cluster.leader() else { return };
        spawn(&world.clone(), async move {
            for _ in 0..40 {
                tokio::time::sleep(world.span_ms(20, 200)).await;
                let token = leader.node.with_machine(|machine| {
                    let scope = machine.scopes().get(&crate::cluster::warm())?;
                    scope.reservation.as_ref().map(|reservation| reservation.token)
                });
                let Some(token) = token else { continue };
                let grant = Grant { scope: crate::cluster::warm(), token };
                let command = Command::Grant(grant);
                let proposal =
                    Proposal { actor: Actor::Controller, via: None, request: None, command };
                if let Ok(done) = leader.api.log().propose(proposal).await
                    && done.answer.is_err()
                {
                    world.tally("hasty_grant");
                }
            }
        });
    }

    /// A writer that was stopped long ago goes on, with its old token and no doubts.
    fn show_old_token(&mut self, cluster: &mut Cluster) {
        let world = self.world.clone();
        let up = cluster.workers_up();
        if up.is_empty() {
            return;
        }
        let place = *world.pick(&up);
        let Some(worker) = world.state().workers.get(&(WORKER + place)).cloned() else { return };
        spawn(&world.clone(), async move {
            show_token_below(&world, &worker).await;
            for _ in 0..60 {
                if world.theme != Theme::Wild || !world.is_alive(worker.end, worker.life) {
                    return;
                }
                write_on(&worker).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
}

/// A former holder whose clock tells it that it holds: until it is sealed nothing stops it, from then
/// on everything does, and what it wrote is a fork.
async fn write_on(worker: &crate::worker::WorkerHandle) {
    let view = worker.sink.view();
    let journal = worker.sink.journal();
    let own = journal.iter().rev().find(|range| range.fate == Fate::Visible);
    let held = worker.standing.holds(&crate::cluster::warm()).is_some();
    if held || view.last.is_none_or(|last| last.token != view.highest) {
        return;
    }
    if let Some(own) = own.filter(|own| own.token == view.highest) {
        let wall = cryptorun_platform::clock::Clock::wall(&*worker.clock);
        drop(worker.sink.write(own.token, empty(own.token, wall), Arc::new(|| true)).await);
    }
}

fn empty(token: Token, wall: WallTime) -> impl FnOnce(Position) -> Batch + Send + 'static {
    let kind = Kind::Heartbeat;
    move |prev| Batch {
        header: Header {
            token,
            prev,
            kind,
            opened_at: wall,
            sealed_at: wall,
            watermark: wall,
            rows: 0,
        },
        rows: Vec::new(),
    }
}

async fn show_token_below(world: &World, worker: &crate::worker::WorkerHandle) {
    let highest = worker.sink.view().highest;
    if highest.epoch < 2 {
        return;
    }
    let token = Token { epoch: 1 + world.below(highest.epoch - 1), ..highest };
    let wall = cryptorun_platform::clock::Clock::wall(&*worker.clock);
    match worker.sink.write(token, empty(token, wall), Arc::new(|| true)).await {
        Ok(entry) => {
            let at = entry.position;
            world.violation(format!(
                "fence_holds: {} took {at} under {token} below {highest}",
                worker.end
            ));
        }
        Err(SinkError::Fenced { .. }) => {
            world.tally("old_token_shown");
            world.tally("fenced_write");
        }
        Err(_) => {}
    }
}

/// A process stands still for so long, or until it is thawed; false where there is none.
pub(crate) fn freeze(world: &World, end: u64, span: Duration) -> bool {
    let until = world.now() + span;
    let mut state = world.state();
    if !state.alive.contains_key(&end) {
        return false;
    }
    state.frozen.insert(end, until);
    if let Some(node) = state.nodes.get(&end) {
        node.tasks.freeze();
    }
    if let Some(worker) = state.workers.get(&end) {
        worker.tasks.freeze();
    }
    true
}

pub(crate) fn thaw(world: &World, end: u64) {
    let mut state = world.state();
    state.frozen.remove(&end);
    let held = state.nodes.get(&end).map_or(0, |node| node.tasks.thaw());
    let held = held + state.workers.get(&end).map_or(0, |worker| worker.tasks.thaw());
    if held > 0 && end > WORKER {
        state.outcome.tally.add("worker_frozen", 1);
    }
    let now = world.now().as_micros();
    state.note(now, format_args!("{end} goes on, {held} polls were held up"));
}

fn disk_of(cluster: &Cluster, end: u64) -> Option<&SimDisk> {
    if end < WORKER {
        cluster.nodes.get(&end).map(|remains| &remains.disk)
    } else {
        cluster.workers.get(&(end - WORKER)).map(|remains| &remains.disk)
    }
}

fn heal_disk(cluster: &mut Cluster, end: u64) {
    cluster.hurt.remove(&end);
    if let Some(disk) = disk_of(cluster, end) {
        disk.heal();
    }
}

fn clock_of(cluster: &Cluster, end: u64) -> Option<Arc<crate::clock::SimClock>> {
    if end < WORKER {
        cluster.nodes.get(&end).map(|remains| remains.clock.clone())
    } else {
        cluster.workers.get(&(end - WORKER)).map(|remains| remains.clock.clone())
    }
}

fn snapshot(cluster: &mut Cluster) {
    let world = cluster.world.clone();
    let up = cluster.nodes_up();
    if up.is_empty() {
        return;
    }
    let id = *world.pick(&up);
    let Some(handle) = world.state().nodes.get(&id).cloned() else { return };
    world.event(format_args!("n{id} snapshots"));
    let shown = world.clone();
    spawn(&world, async move {
        if handle.node.snapshot().await.is_ok() {
            shown.tally("snapshot");
        }
    });
}

/// The registers' scopes.
pub(crate) fn register(group: &str) -> ScopeId {
    ScopeId::new(cryptorun_core::scope::Tier::Cold, group)
}
