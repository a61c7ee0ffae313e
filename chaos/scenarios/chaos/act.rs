//! Each kind carried out on a target drawn from the seed, held for a while and healed, with the
//! evidence that it did something: a fault nobody felt proves nothing.

use super::bend::Bends;
use super::disks::{Disk, Disks};
use super::holders::Holders;
use super::kind::Kind;
use super::truth::Truth;
use crate::world::{LOOK, Trouble, World, now, since, until_after};
use cryptorun_core::path::Reach;
use cryptorun_core::promotion::{Outcome, State};
use cryptorun_core::report::DiskState;
use cryptorun_core::time::{Millis, Timing};
use cryptorun_core::wire::{PartitionState, Status};
use cryptorun_lab::demo::layout::{REGIONS, Site};
use cryptorun_lab::demo::stages::{scope_of, warm};
use cryptorun_lab::http;
use cryptorun_lab::netns::Namespaces;
use cryptorun_lab::protocol::{
    Direction, KillSignal, LinkAct, LinkStatus, ProcessState, ProcessStatus,
};
use cryptorun_platform::random::{Random, SeededRandom};
use std::net::SocketAddr;
use std::time::Duration;

/// A process that was ended runs again, a promotion or a leader is where it was sent.
const AGAIN_WITHIN: Millis = Millis::secs(30);
/// A health port answers from memory.
const HEALTH_WITHIN: Duration = Duration::from_millis(400);
/// Of packets, in percent.
const LOST: u32 = 25;
const FLAPS: u32 = 6;
/// As the kernel says it, in whatever line.
const DISK_FULL: &str = "No space left on device";
/// A rate error that the lease bound allows (1 %), not quite used up.
const BENT_PPM: i64 = 9000;
/// A region's report says what its clock shows.
const REPORTED_WITHIN: Millis = Millis::secs(8);
/// A table of rules of ours; there is one at a time.
const TABLE: &str = "chaos";

/// What came of an injection.
pub struct Done {
    pub target: String,
    /// How it showed, or that it did not.
    pub effect: Result<String, String>,
}

impl Done {
    fn new(target: impl Into<String>, effective: bool, evidence: String) -> Self {
        let effect = if effective { Ok(evidence) } else { Err(evidence) };
        Self { target: target.into(), effect }
    }
}

pub struct Actor<'a> {
    pub world: &'a World,
    pub truth: &'a Truth,
    pub holders: &'a Holders,
    pub random: &'a SeededRandom,
    pub namespaces: Option<&'a Namespaces>,
    pub bends: Option<&'a Bends>,
    pub disks: Option<&'a Disks>,
}

impl Actor<'_> {
    pub async fn carry_out(&self, kind: Kind) -> Result<Done, Trouble> {
        match kind {
            Kind::KillNode => {
                let target = self.site().node_process();
                self.kill(&target, vec![target.clone()]).await
            }
            Kind::KillLeader => {
                let target = format!("node-{}", self.leader().await?);
                self.kill(&target, vec![target.clone()]).await
            }
            Kind::KillWorker => {
                let site = self.site();
                self.truth.away(site.name, kind.name());
                self.kill(&site.worker_process(), vec![site.worker_process()]).await
            }
            Kind::KillRegion => {
                let site = self.site();
                self.truth.away(site.name, kind.name());
                self.kill(site.name, vec![site.node_process(), site.worker_process()]).await
            }
            Kind::StopNode => {
                let site = self.site();
                let span = Millis(self.ttl().0 + self.some(self.ttl()));
                self.stop(&site.node_process(), site.node_health, span).await
            }
            Kind::StopWorker => {
                let site = self.holder_site().await?;
                self.truth.away(site.name, kind.name());
                let span = Millis(self.ttl().0 * 3 / 2 + self.some(self.ttl()));
                self.stop(&site.worker_process(), site.worker_health, span).await
            }
            Kind::CutLink => self.cut(self.two_regions(), Direction::Both).await,
            Kind::CutOneWay => self.cut(self.two_regions(), Direction::AToB).await,
            Kind::IsolateRegion => {
                let site = self.site();
                self.truth.away(site.name, kind.name());
                self.cut((site.name, None), Direction::Both).await
            }
            Kind::FlapLink => self.flap().await,
            Kind::SlowLink => self.slow().await,
            Kind::LossyLink => self.lossy().await,
            Kind::NodeFromPeers => self.node_from_peers().await,
            Kind::WorkerFromNodes => self.worker_from_nodes(kind).await,
            Kind::UnplugRegion => self.unplug(kind).await,
            Kind::TransferLeader => self.transfer().await,
            Kind::Switchover => self.switch_over().await,
            Kind::RestartInOrder => self.restart_in_order(kind).await,
            Kind::LoseRegion => self.lose(kind).await,
            Kind::ShiftWallClock => self.shift_wall_clock().await,
            Kind::BendClock => self.bend_clock().await,
            Kind::SlowSyncs => self.slow_syncs().await,
            Kind::FillNodeDisk => self.fill(&self.disks()?.node).await,
            Kind::FillWorkerDisk => {
                let disk = &self.disks()?.worker;
                self.truth.away(disk.site.name, kind.name());
                self.fill(disk).await
            }
        }
    }

    fn ttl(&self) -> Millis {
        Timing::of(self.world.options.profile()).ttl
    }

    /// Something up to `most`.
    fn some(&self, most: Millis) -> u64 {
        self.random.below(most.0)
    }

    /// How long links are hurt: past the lease, with detection still far.
    fn hurt(&self) -> Millis {
        Millis(self.ttl().0 + 1000 + self.some(self.ttl()))
    }

    fn site(&self) -> &Site {
        let at = self.random.below(self.world.lab.sites.len() as u64);
        &self.world.lab.sites[usize::try_from(at).unwrap_or(0)]
    }

    fn two_regions(&self) -> (&'static str, Option<&'static str>) {
        let a = usize::try_from(self.random.below(3)).unwrap_or(0);
        let b = (a + 1 + usize::try_from(self.random.below(2)).unwrap_or(0)) % 3;
        (REGIONS[a], Some(REGIONS[b]))
    }

    async fn leader(&self) -> Result<String, Trouble> {
        let status = self.world.status().await?;
        status.at.leader.map(|leader| leader.to_string()).ok_or_else(|| Trouble::new("no leader"))
    }

    async fn holder_site(&self) -> Result<&Site, Trouble> {
        let status = self.world.status().await?;
        self.world.site(&holder(&status).ok_or_else(|| Trouble::new("nobody holds warm/global"))?)
    }

    fn process(&self, name: &str) -> Option<ProcessStatus> {
        self.world.lab.supervisor.status().into_iter().find(|process| process.name == name)
    }

    fn starts(&self, name: &str) -> u64 {
        self.process(name).map_or(0, |process| process.starts)
    }

    async fn runs_again(&self, name: &str, starts: u64) -> Result<ProcessStatus, Trouble> {
        self.world
            .until(&format!("{name} running again"), AGAIN_WITHIN, async |_| {
                let process = self.process(name).filter(|p| p.pid.is_some() && p.starts > starts);
                process.map(Some).ok_or_else(|| format!("{name} is down"))
            })
            .await
    }

    async fn kill(&self, target: &str, processes: Vec<String>) -> Result<Done, Trouble> {
        // At any moment of a batch's and a renewal's life.
        tokio::time::sleep(Duration::from_millis(self.random.below(1000))).await;
        let before: Vec<u64> = processes.iter().map(|name| self.starts(name)).collect();
        self.world.lab.supervisor.kill(target, KillSignal::Kill, false)?;
        self.killed(&processes);
        let killed = now();
        let (mut ends, mut by_signal) = (Vec::new(), true);
        for (name, starts) in processes.iter().zip(before) {
            let process = self.runs_again(name, starts).await?;
            let end = process.last_end.unwrap_or_default();
            by_signal &= end == "signal 9";
            ends.push(format!("{end}, start {}", process.starts));
        }
        let text = format!("{}, all up after {}", ends.join("; "), since(killed));
        Ok(Done::new(target, by_signal, text))
    }

    /// Killed by now: whatever was held under it is over.
    fn killed(&self, processes: &[String]) {
        for region in processes.iter().filter_map(|name| name.strip_prefix("worker-")) {
            self.holders.ended(region, false);
        }
    }

    async fn stop(&self, name: &str, health: SocketAddr, span: Millis) -> Result<Done, Trouble> {
        self.world.lab.supervisor.freeze(name)?;
        let stopped = now();
        let (mut looks, mut answers) = (0, 0);
        while since(stopped) < span {
            looks += 1;
            answers += u32::from(answers_at(health).await);
            tokio::time::sleep(LOOK * 3).await;
        }
        let process = self.process(name);
        let frozen = process.as_ref().is_some_and(|p| p.state == ProcessState::Frozen);
        let sleeping = process.and_then(|p| p.pid).and_then(kernel_state) == Some('T');
        self.world.lab.supervisor.thaw(name)?;
        let text = format!("state T for {}, {answers} of {looks} looks answered", since(stopped));
        Ok(Done::new(name, frozen && sleeping && answers == 0, text))
    }

    fn act(&self, act: &LinkAct) -> Result<(), Trouble> {
        self.world.lab.links.act(act)?;
        Ok(())
    }

    fn heal(&self) -> Result<(), Trouble> {
        self.act(&LinkAct::Heal { a: None, b: None, direction: Direction::Both })
    }

    /// The paths of a cut between `a` and `b`, or all of `a`.
    fn paths(&self, (a, b): (&str, Option<&str>), direction: Direction) -> Vec<LinkStatus> {
        let is = |from: &str, to: &str| from == a && b.is_none_or(|b| b == to);
        let all = self.world.lab.links.status().into_iter();
        all.filter(|path| match direction {
            Direction::Both => is(&path.from, &path.to) || is(&path.to, &path.from),
            Direction::AToB => is(&path.from, &path.to),
            Direction::BToA => is(&path.to, &path.from),
        })
        .collect()
    }

    fn arrived(&self, pair: (&str, Option<&str>), direction: Direction) -> u64 {
        self.paths(pair, direction).iter().map(|path| path.bytes).sum()
    }

    async fn cut(
        &self,
        (a, b): (&str, Option<&str>),
        direction: Direction,
    ) -> Result<Done, Trouble> {
        let (begun, was) = (now(), self.arrived((a, b), direction));
        until_after(begun, Millis(600)).await;
        let flowed = self.arrived((a, b), direction) - was;
        self.act(&LinkAct::Cut { a: a.into(), b: b.map(Into::into), direction })?;
        let cut = now();
        // What was being handed over at the moment of the cut is through.
        until_after(cut, Millis(100)).await;
        let at_cut = self.arrived((a, b), direction);
        until_after(cut, self.hurt()).await;
        let leaked = self.arrived((a, b), direction) - at_cut;
        let held: u64 = self.paths((a, b), direction).iter().map(|path| path.held_bytes).sum();
        let span = since(cut);
        self.heal()?;
        let target = match (direction, b) {
            (Direction::AToB, Some(b)) => format!("{a} > {b}"),
            (_, Some(b)) => format!("{a} = {b}"),
            (_, None) => a.to_owned(),
        };
        let text =
            format!("{leaked} bytes in {span} ({flowed} in 600ms before), {held} held at the end");
        Ok(Done::new(target, flowed > 0 && leaked == 0, text))
    }

    async fn flap(&self) -> Result<Done, Trouble> {
        let (a, b) = self.two_regions();
        let cuts = || self.paths((a, b), Direction::Both).iter().map(|p| p.cuts).sum::<u64>();
        let lasted = || self.paths((a, b), Direction::Both).iter().map(|p| p.cut_ms).sum::<u64>();
        let (cuts_before, lasted_before) = (cuts(), lasted());
        for _ in 0..FLAPS {
            let act =
                LinkAct::Cut { a: a.into(), b: b.map(Into::into), direction: Direction::Both };
            self.act(&act)?;
            tokio::time::sleep(Duration::from_millis(100 + self.random.below(900))).await;
            self.heal()?;
            tokio::time::sleep(Duration::from_millis(100 + self.random.below(600))).await;
        }
        let (flaps, down) = (cuts() - cuts_before, Millis((lasted() - lasted_before) / 2));
        let text = format!("down {} times, {down} in all", flaps / 2);
        Ok(Done::new(pair_name(a, b), flaps == u64::from(FLAPS) * 2, text))
    }

    async fn slow(&self) -> Result<Done, Trouble> {
        let (a, b) = self.two_regions();
        let usual: u64 = self.paths((a, b), Direction::Both).iter().map(|path| path.delay_us).sum();
        let slowed = usual * 3;
        let delay = |rtt_us| LinkAct::Delay { a: a.into(), b: b.map(Into::into), rtt_us };
        self.act(&delay(slowed))?;
        let begun = now();
        let mut seen = 0;
        while since(begun).0 < self.ttl().0 * 2 {
            let regions = self.world.ana().regions().await.unwrap_or_default();
            let report =
                regions.into_iter().find(|r| r.region.as_str() == a).and_then(|r| r.report);
            let reach = report.and_then(|report| {
                let to = b.and_then(|b| report.control.iter().find(|(r, _)| r.as_str() == b));
                to.map(|(_, way)| way.reach)
            });
            if let Some(Reach::Up { rtt_us }) = reach {
                seen = seen.max(rtt_us);
            }
            tokio::time::sleep(LOOK * 2).await;
        }
        self.act(&delay(usual))?;
        let text = format!(
            "round trip {} ms -> {} ms, {} ms by its own report",
            usual / 1000,
            slowed / 1000,
            seen / 1000
        );
        Ok(Done::new(pair_name(a, b), seen >= slowed, text))
    }

    fn spaces(&self) -> Result<&Namespaces, Trouble> {
        self.namespaces.ok_or_else(|| Trouble::new("regions have no namespaces here"))
    }

    /// Where a region connects to reach others, by purpose.
    fn doors(&self, from: &str, to: Option<&str>, purposes: &[&str]) -> String {
        let routes = self.world.lab.routes.iter().filter(|route| {
            route.from == from
                && to.is_none_or(|to| route.to == to)
                && (purposes.is_empty() || purposes.contains(&route.purpose.as_str()))
        });
        let ports: Vec<String> = routes.map(|route| route.listen.port().to_string()).collect();
        format!("{{ {} }}", ports.join(", "))
    }

    async fn lossy(&self) -> Result<Done, Trouble> {
        let (a, b) = self.two_regions();
        let spaces = self.spaces()?;
        let some = format!("numgen random mod 100 < {LOST}");
        for (from, to) in [(Some(a), b), (b, Some(a))] {
            let Some(from) = from else { continue };
            let doors = self.doors(from, to, &[]);
            let matches =
                [format!("tcp dport {doors} {some}"), format!("tcp sport {doors} {some}")];
            spaces.drop_packets(from, TABLE, &matches)?;
        }
        let begun = now();
        until_after(begun, Millis(self.ttl().0 * 2)).await;
        let mut lost = 0;
        for region in [Some(a), b].into_iter().flatten() {
            lost += spaces.let_packets(region, TABLE)?;
        }
        let text = format!("{lost} packets of {LOST} % lost in {}", since(begun));
        Ok(Done::new(pair_name(a, b), lost > 0, text))
    }

    async fn node_from_peers(&self) -> Result<Done, Trouble> {
        let (site, spaces) = (self.site(), self.spaces()?);
        let doors = self.doors(site.name, None, &["raft"]);
        let own = site.node_raft.port();
        let matches = [
            format!("tcp dport {doors}"),
            format!("tcp sport {doors}"),
            format!("tcp dport {own}"),
            format!("tcp sport {own}"),
        ];
        spaces.drop_packets(site.name, TABLE, &matches)?;
        let (said, span) = self.says_partition(site.node_health).await;
        let lost = spaces.let_packets(site.name, TABLE)?;
        let text = format!("{lost} packets dropped in {span}, {}", told(said));
        Ok(Done::new(site.node_process(), lost > 0 && said.is_some(), text))
    }

    async fn worker_from_nodes(&self, kind: Kind) -> Result<Done, Trouble> {
        let (site, spaces) = (self.holder_site().await?, self.spaces()?);
        self.truth.away(site.name, kind.name());
        let doors = self.doors(site.name, None, &["api"]);
        let (own, at) = (site.node_api.port(), site.node_api.ip());
        let matches = [
            format!("tcp dport {doors}"),
            format!("tcp sport {doors}"),
            // At home: people still reach the node.
            format!("ip saddr {at} ip daddr {at} tcp dport {own}"),
            format!("ip saddr {at} ip daddr {at} tcp sport {own}"),
        ];
        spaces.drop_packets(site.name, TABLE, &matches)?;
        let (said, span) = self.says_partition(site.worker_health).await;
        let lost = spaces.let_packets(site.name, TABLE)?;
        let text = format!("{lost} packets dropped in {span}, {}", told(said));
        Ok(Done::new(site.worker_process(), lost > 0 && said.is_some(), text))
    }

    /// When a process first said that it has no quorum, while it is hurt.
    async fn says_partition(&self, health: SocketAddr) -> (Option<Millis>, Millis) {
        let (begun, span) = (now(), Millis(self.hurt().0 + self.ttl().0));
        let mut said = None;
        while since(begun) < span {
            let state = http::get::<PartitionState>(health, "/partition", HEALTH_WITHIN).await;
            if said.is_none() && state.is_ok_and(|state| state.partition_mode) {
                said = Some(since(begun));
            }
            tokio::time::sleep(LOOK * 2).await;
        }
        (said, since(begun))
    }

    async fn unplug(&self, kind: Kind) -> Result<Done, Trouble> {
        let (site, spaces) = (self.site(), self.spaces()?);
        self.truth.away(site.name, kind.name());
        spaces.plug(site.name, false)?;
        let begun = now();
        let (mut looks, mut answers) = (0, 0);
        while since(begun) < self.hurt() {
            for health in [site.node_health, site.worker_health] {
                looks += 1;
                answers += u32::from(answers_at(health).await);
            }
            tokio::time::sleep(LOOK).await;
        }
        spaces.plug(site.name, true)?;
        let text = format!("out for {}, {answers} of {looks} looks answered", since(begun));
        Ok(Done::new(site.name, answers == 0, text))
    }

    async fn transfer(&self) -> Result<Done, Trouble> {
        let leader = self.leader().await?;
        let others: Vec<&str> = REGIONS.into_iter().filter(|region| *region != leader).collect();
        let to = others[usize::try_from(self.random.below(2)).unwrap_or(0)];
        let begun = now();
        let words = ["cluster", "transfer-leader", "--to", to];
        self.world.types(self.world.ana(), &words, &[0]).await?;
        let leads = self
            .world
            .until("the new leader", AGAIN_WITHIN, async |world| {
                let status = world.ana().status().await?;
                let leader = status.at.leader.map_or(String::new(), |leader| leader.to_string());
                if leader == to { Ok(Some(())) } else { Err(format!("{leader} leads")) }
            })
            .await;
        let text = format!("{leader} -> {to} in {}", since(begun));
        Ok(Done::new(to, leads.is_ok(), text))
    }

    async fn switch_over(&self) -> Result<Done, Trouble> {
        let from = self.holder_site().await?.name;
        let others: Vec<&str> = REGIONS.into_iter().filter(|region| *region != from).collect();
        let to = others[usize::try_from(self.random.below(2)).unwrap_or(0)];
        let begun = now();
        let id = self.world.ask_switchover(to).await?;
        let ended = self.world.ended(id, Millis::secs(120)).await?;
        let done = ended.promotion.state == State::Ended(Outcome::Done);
        let text = format!("{id} {from} -> {to}: {:?} in {}", ended.promotion.state, since(begun));
        Ok(Done::new(to, done, text))
    }

    async fn restart_in_order(&self, kind: Kind) -> Result<Done, Trouble> {
        let sites = &self.world.lab.sites;
        let nodes = sites.iter().map(|site| (site.node_process(), site, false));
        let workers = sites.iter().map(|site| (site.worker_process(), site, true));
        let (begun, mut clean, mut ends) = (now(), true, Vec::new());
        for (name, site, worker) in nodes.chain(workers) {
            if worker {
                self.truth.away(site.name, kind.name());
            }
            let starts = self.starts(&name);
            self.world.lab.supervisor.kill(&name, KillSignal::Term, false)?;
            if worker {
                self.holders.ended(site.name, true);
            }
            let process = self.runs_again(&name, starts).await?;
            let end = process.last_end.unwrap_or_default();
            clean &= end == "exit 0";
            ends.push(end);
            let health = if worker { site.worker_health } else { site.node_health };
            self.world
                .until(&format!("{name} answering"), AGAIN_WITHIN, async |world| {
                    let state = world.partition(health).await?;
                    if state.partition_mode { Err("no quorum".to_owned()) } else { Ok(Some(())) }
                })
                .await?;
        }
        let text = format!("{} in {}", ends.join(", "), since(begun));
        Ok(Done::new("3 nodes, 3 workers", clean, text))
    }

    fn bends(&self) -> Result<&Bends, Trouble> {
        self.bends.ok_or_else(|| Trouble::new("nothing is preloaded here"))
    }

    fn disks(&self) -> Result<&Disks, Trouble> {
        self.disks.ok_or_else(|| Trouble::new("there are no small disks here"))
    }

    /// Some process of any region.
    fn some_process(&self) -> String {
        let site = self.site();
        if self.random.below(2) == 0 { site.node_process() } else { site.worker_process() }
    }

    /// A follower's wall clock jumps, and back.
    async fn shift_wall_clock(&self) -> Result<Done, Trouble> {
        let (leader, bends) = (self.leader().await?, self.bends()?);
        let others: Vec<&Site> =
            self.world.lab.sites.iter().filter(|site| site.name != leader).collect();
        let site = others[usize::try_from(self.random.below(2)).unwrap_or(0)];
        let by = i64::try_from(1000 + self.random.below(3000)).unwrap_or(1000);
        let by = if self.random.below(2) == 0 { by } else { -by };
        let name = site.node_process();
        bends.clock(&name, 0, by)?;
        let (begun, mut seen) = (now(), 0_i64);
        while since(begun) < self.hurt() || since(begun) < REPORTED_WITHIN {
            let regions = self.world.ana().regions().await.unwrap_or_default();
            let others = regions.iter().filter(|region| region.region.as_str() != site.name);
            let reports = others.filter_map(|region| region.report.as_ref());
            let measured = reports.filter_map(|r| r.offsets.get(site.name).map(|o| o.ms));
            // What both agree on.
            let offset = measured.min_by_key(|offset| offset.abs()).unwrap_or(0);
            if (offset - by).abs() < (seen - by).abs() {
                seen = offset;
            }
            tokio::time::sleep(LOOK * 3).await;
        }
        bends.clock(&name, 0, 0)?;
        let text = format!("by {by} ms for {}, {seen} ms by the others' reports", since(begun));
        Ok(Done::new(name, (seen - by).abs() < by.abs() / 2, text))
    }

    /// A clock runs fast or slow, by what leases allow for and the process cannot notice.
    async fn bend_clock(&self) -> Result<Done, Trouble> {
        let (name, bends) = (self.some_process(), self.bends()?);
        let ppm = if self.random.below(2) == 0 { BENT_PPM } else { -BENT_PPM };
        let (before, read) = (bends.ahead_ms(&name), bends.reads(&name)?);
        bends.clock(&name, ppm, 0)?;
        let begun = now();
        until_after(begun, Millis(self.ttl().0 * 3)).await;
        bends.clock(&name, 0, 0)?;
        let gained = bends.ahead_ms(&name) - before;
        let reads = bends.reads(&name)? - read;
        let text = format!("{ppm} ppm for {}: {gained} ms, {reads} readings", since(begun));
        Ok(Done::new(name, gained != 0 && reads > 0, text))
    }

    async fn slow_syncs(&self) -> Result<Done, Trouble> {
        let (name, bends) = (self.some_process(), self.bends()?);
        let by = 50 + self.random.below(450);
        let before = bends.slowed(&name)?;
        bends.slow_syncs(&name, by)?;
        let begun = now();
        until_after(begun, self.hurt()).await;
        bends.slow_syncs(&name, 0)?;
        let slowed = bends.slowed(&name)? - before;
        let text = format!("{slowed} syncs took {by} ms longer in {}", since(begun));
        Ok(Done::new(name, slowed > 0, text))
    }

    /// A worker's files are made in advance, so it may not notice: who did not is killed, and must
    /// start again where nothing fits.
    async fn fill(&self, disk: &Disk) -> Result<Done, Trouble> {
        let named = || self.world.log_of(&disk.process).matches(DISK_FULL).count();
        let (starts, named_before) = (self.starts(&disk.process), named());
        disk.fill()?;
        let (begun, span) = (now(), self.hurt());
        let (mut full, mut killed, mut reported) = (true, false, false);
        while since(begun) < span {
            tokio::time::sleep(LOOK * 3).await;
            // What a process gives up when it ends is taken at once.
            disk.fill()?;
            full &= disk.free_bytes()? < 4096;
            let regions = self.world.ana().regions().await.unwrap_or_default();
            reported |= regions
                .into_iter()
                .filter(|region| region.region.as_str() == disk.site.name)
                .any(|region| region.report.is_some_and(|r| r.disk == DiskState::Full));
            if !killed && since(begun).0 > span.0 / 2 && named() == named_before {
                self.world.lab.supervisor.kill(&disk.process, KillSignal::Kill, false)?;
                self.killed(std::slice::from_ref(&disk.process));
                killed = true;
            }
        }
        disk.clear()?;
        let ends = self.starts(&disk.process) - starts;
        let named = named() - named_before;
        let text = format!(
            "full for {}{}; ended {ends} times, its log names it {named} times, reported: {reported}",
            since(begun),
            if killed { ", killed meanwhile" } else { "" },
        );
        let felt = named > 0 || reported || ends > 0;
        Ok(Done::new(disk.process.clone(), full && felt, text))
    }

    /// Down until people have moved what it held: the controller asks, two people agree.
    async fn lose(&self, kind: Kind) -> Result<Done, Trouble> {
        let site = self.holder_site().await?;
        self.truth.away(site.name, kind.name());
        self.world.lab.supervisor.kill(site.name, KillSignal::Kill, true)?;
        self.killed(&[site.worker_process()]);
        let lost = now();
        let patience = Millis(self.world.options.detection().0 + 60_000);
        let moved = self
            .world
            .until("a new holder", patience, async |world| {
                let status = world.ana().status().await?;
                match holder(&status) {
                    Some(holder) if holder != site.name => Ok(Some(holder)),
                    _ => Err("nobody else holds it".to_owned()),
                }
            })
            .await;
        self.world.lab.supervisor.start_again(site.name)?;
        Ok(match moved {
            Ok(to) => Done::new(site.name, true, format!("{to} holds it {} later", since(lost))),
            Err(trouble) => Done::new(site.name, false, trouble.to_string()),
        })
    }
}

fn told(said: Option<Millis>) -> String {
    match said {
        Some(after) => format!("partition_mode after {after}"),
        None => "partition_mode never said".to_owned(),
    }
}

fn pair_name(a: &str, b: Option<&str>) -> String {
    format!("{a} = {}", b.unwrap_or("all"))
}

fn holder(status: &Status) -> Option<String> {
    scope_of(status, &warm())?.holder.as_ref().map(ToString::to_string)
}

async fn answers_at(health: SocketAddr) -> bool {
    http::get::<PartitionState>(health, "/partition", HEALTH_WITHIN).await.is_ok()
}

/// The state letter of a process, as the kernel shows it.
fn kernel_state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
