//! The classes of DESIGN §7 with real processes: one fault at a time, of which we know the name, in a
//! lab that is level before each. What most of the last looks say must be that name; nobody may be
//! called lost while a link of its region works, and nothing moves.
//!
//! The same faults by the hundred, and those that no real process can be brought to in a minute, are
//! in the simulation: `cryptorun-chaos detect`.

use crate::Arguments;
use crate::chaos::bend::Bends;
use crate::verdict::Verdicts;
use crate::world::{LEVEL_WITHIN, LOOK, Trouble, Wish, World, now, since};
use cryptorun_core::diagnose::{Class, Diagnosis};
use cryptorun_core::region::RegionName;
use cryptorun_core::time::Millis;
use cryptorun_lab::demo::layout::{Lab, Site};
use cryptorun_lab::demo::stages::warm;
use cryptorun_lab::http;
use cryptorun_lab::protocol::{Direction, KillSignal, LinkAct, VenueFault, VenueFaultAnswer};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What is done, by what it should be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Nothing,
    LinkCut,
    OneWayLink,
    Flapping,
    RegionLost,
    HolderLost,
    Overloaded,
    SlowDisk,
    ClockBad,
    ProviderDegradedLocal,
    ProviderOutage,
}

impl Case {
    /// Two labs: what is remembered of a link outlives a case. What is remembered of a minute goes last.
    const LABS: [&[Self]; 2] = [
        &[
            Self::Nothing,
            Self::LinkCut,
            Self::HolderLost,
            Self::SlowDisk,
            Self::ClockBad,
            Self::ProviderDegradedLocal,
            Self::ProviderOutage,
            Self::Overloaded,
        ],
        &[Self::OneWayLink, Self::Flapping, Self::RegionLost],
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::LinkCut => "link_cut",
            Self::OneWayLink => "one_way_link",
            Self::Flapping => "flapping",
            Self::RegionLost => "region_lost",
            Self::HolderLost => "holder_lost",
            Self::Overloaded => "overloaded",
            Self::SlowDisk => "slow_disk",
            Self::ClockBad => "clock_bad",
            Self::ProviderDegradedLocal => "provider_degraded_local",
            Self::ProviderOutage => "provider_outage",
        }
    }

    /// How long it lasts; the last looks decide.
    fn lasts(self) -> Millis {
        match self {
            // Half a minute of silence before it counts.
            Self::ProviderDegradedLocal | Self::ProviderOutage => Millis::secs(55),
            Self::Overloaded | Self::Flapping | Self::SlowDisk | Self::ClockBad => Millis::secs(32),
            _ => Millis::secs(18),
        }
    }

    fn needs_bends(self) -> bool {
        matches!(self, Self::SlowDisk | Self::ClockBad)
    }
}

/// The last looks are taken over so long.
const JUDGED: Millis = Millis::secs(8);
/// Wall clocks are put this far ahead, and syncs take this long.
const AHEAD_MS: i64 = 3000;
const SYNC_MS: u64 = 1500;
/// A starved node stands still and moves for so long, in turn.
const STARVED: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(200));
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A flapping link is cut and whole for so long, in turn.
const FLAPS: Millis = Millis::secs(5);

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let bends = Bends::of_this_run();
    let equipped = bends.clone();
    let wish = Wish {
        limits: &[("regrant_max", "1000")],
        equip: Some(Rc::new(move |lab: &mut Lab| match &equipped {
            Some(bends) => bends.equip(lab),
            None => Ok(()),
        })),
        ..Wish::default()
    };
    for cases in Case::LABS {
        let wanted = |case: &&Case| {
            let is_asked = arguments.wants(&format!("diagnosis {}", case.word()));
            is_asked && (bends.is_some() || !case.needs_bends())
        };
        let cases: Vec<Case> = cases.iter().filter(wanted).copied().collect();
        if cases.is_empty() {
            continue;
        }
        let world = World::up(arguments, "diagnosis", &wish).await?;
        for (at, case) in cases.iter().enumerate() {
            verdicts.case(format!("diagnosis {}", case.word()));
            let done = one(&world, bends.as_deref(), *case, verdicts).await;
            verdicts.result("the case comes to its end", done);
            if at + 1 < cases.len() && *case != Case::Flapping {
                verdicts.result("nothing is wrong afterwards", calm(&world).await);
            }
        }
        world.down(verdicts).await;
    }
    if let Some(bends) = bends {
        bends.remove();
    }
    Ok(())
}

async fn one(
    world: &World,
    bends: Option<&Bends>,
    case: Case,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let before = world.before().await?;
    let holder = before.holder(&warm()).ok_or_else(|| Trouble::new("nobody holds warm/global"))?;
    let act = Act { world, bends, case, holder };
    act.begin().await?;
    let mut seen: Vec<(Millis, Vec<Diagnosis>)> = Vec::new();
    let begun = now();
    while since(begun) < case.lasts() {
        act.keep_up(since(begun)).await?;
        // One asked while it stands still does not answer; the next look does.
        if let Ok(status) = world.status().await {
            seen.push((since(begun), status.diagnoses));
        }
    }
    act.end()?;
    let moved = world.audited(before.audit).await?;
    let moved: Vec<String> = moved
        .iter()
        .filter(|entry| entry.action == "request")
        .map(|entry| format!("{} {}", entry.subject, entry.detail))
        .collect();
    act.judge(&seen, &moved, verdicts);
    let back = crate::world::Before { at: now(), ..before };
    let level = world.level_again(&back, LEVEL_WITHIN).await;
    if let Some(level) = verdicts.result("level within 60 s", level) {
        verdicts.check("level within 60 s", true, level);
    }
    Ok(())
}

/// The next case begins where nothing is wrong.
async fn calm(world: &World) -> Result<(), Trouble> {
    let calm = async |world: &World| {
        let status = world.status().await.map_err(|why| why.to_string())?;
        Ok(status.diagnoses.is_empty().then_some(()))
    };
    world.until("calm", Millis::secs(90), calm).await
}

/// One case against a lab.
struct Act<'a> {
    world: &'a World,
    bends: Option<&'a Bends>,
    case: Case,
    /// Whose worker holds warm/global.
    holder: String,
}

impl Act<'_> {
    /// Two other sites than the holder's, in order.
    fn others(&self) -> (&Site, &Site) {
        let mut rest = self.world.lab.sites.iter().filter(|site| site.name != self.holder);
        let first = rest.next().unwrap_or(&self.world.lab.sites[0]);
        (first, rest.next().unwrap_or(first))
    }

    fn holders_site(&self) -> Result<&Site, Trouble> {
        self.world.site(&self.holder)
    }

    /// The ends of the link that is cut: not the one that another case of the same lab needs.
    fn link(&self) -> (&str, &str) {
        let (first, second) = self.others();
        match self.case {
            Case::OneWayLink => (first.name, &self.holder),
            _ => (first.name, second.name),
        }
    }

    fn cut(&self, direction: Direction) -> Result<(), Trouble> {
        let (a, b) = self.link();
        let act = LinkAct::Cut { a: a.into(), b: Some(b.into()), direction };
        self.world.lab.links.act(&act)?;
        Ok(())
    }

    fn heal(&self) -> Result<(), Trouble> {
        let act = LinkAct::Heal { a: None, b: None, direction: Direction::Both };
        self.world.lab.links.act(&act)?;
        Ok(())
    }

    fn bends(&self) -> Result<&Bends, Trouble> {
        self.bends.ok_or_else(|| Trouble::new("nothing is preloaded here"))
    }

    async fn silence_venue(&self, client: Option<String>) -> Result<(), Trouble> {
        let control = self.world.lab.venue_control.ok_or_else(|| Trouble::new("no venue"))?;
        let fault = VenueFault::Stall { ms: self.case.lasts().0, client };
        let _: VenueFaultAnswer = http::post(control, "/fault", &fault, ANSWER_WITHIN).await?;
        Ok(())
    }

    async fn begin(&self) -> Result<(), Trouble> {
        let supervisor = &self.world.lab.supervisor;
        let (other, _) = self.others();
        match self.case {
            Case::Nothing | Case::Flapping | Case::Overloaded => {}
            Case::LinkCut => self.cut(Direction::Both)?,
            Case::OneWayLink => self.cut(Direction::AToB)?,
            Case::RegionLost => {
                supervisor.freeze(&other.node_process())?;
                supervisor.freeze(&other.worker_process())?;
            }
            Case::HolderLost => {
                let worker = self.holders_site()?.worker_process();
                supervisor.kill(&worker, KillSignal::Kill, true)?;
            }
            Case::SlowDisk => self.bends()?.slow_syncs(&other.worker_process(), SYNC_MS)?,
            Case::ClockBad => {
                self.bends()?.clock(&other.node_process(), 0, AHEAD_MS)?;
                self.bends()?.clock(&other.worker_process(), 0, AHEAD_MS)?;
            }
            Case::ProviderDegradedLocal => {
                self.silence_venue(Some(other.name.to_owned())).await?;
            }
            Case::ProviderOutage => self.silence_venue(None).await?,
        }
        Ok(())
    }

    /// What goes on while it lasts, for about two looks.
    async fn keep_up(&self, at: Millis) -> Result<(), Trouble> {
        match self.case {
            Case::Overloaded => {
                let node = self.others().0.node_process();
                self.world.lab.supervisor.freeze(&node)?;
                tokio::time::sleep(STARVED.0).await;
                self.world.lab.supervisor.thaw(&node)?;
                tokio::time::sleep(STARVED.1).await;
            }
            Case::Flapping => {
                match (at.0 / FLAPS.0).is_multiple_of(2) {
                    true => self.cut(Direction::Both)?,
                    false => self.heal()?,
                }
                tokio::time::sleep(LOOK * 2).await;
            }
            _ => tokio::time::sleep(LOOK * 2).await,
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Trouble> {
        let supervisor = &self.world.lab.supervisor;
        let (other, _) = self.others();
        match self.case {
            Case::Nothing | Case::ProviderDegradedLocal | Case::ProviderOutage => {}
            Case::LinkCut | Case::OneWayLink | Case::Flapping => self.heal()?,
            Case::Overloaded => drop(supervisor.thaw(&other.node_process())?),
            Case::RegionLost => {
                supervisor.thaw(&other.node_process())?;
                supervisor.thaw(&other.worker_process())?;
            }
            Case::HolderLost => {
                supervisor.start_again(&self.holders_site()?.worker_process())?;
            }
            Case::SlowDisk => self.bends()?.slow_syncs(&other.worker_process(), 0)?,
            Case::ClockBad => {
                self.bends()?.clock(&other.node_process(), 0, 0)?;
                self.bends()?.clock(&other.worker_process(), 0, 0)?;
            }
        }
        Ok(())
    }

    fn is_right(&self, class: Option<&Class>) -> bool {
        let (first, _) = self.others();
        let is = |region: &RegionName, site: &str| region.as_str() == site;
        let (from, to) = self.link();
        let pair = |a: &RegionName, b: &RegionName| {
            (is(a, from) && is(b, to)) || (is(b, from) && is(a, to))
        };
        match (self.case, class) {
            (Case::Nothing, None) => true,
            (Case::LinkCut, Some(Class::LinkCut { a, b, .. }))
            | (Case::Flapping, Some(Class::Flapping { a, b }))
            // Once TCP has given a connection up, neither end hears the other.
            | (Case::OneWayLink, Some(Class::LinkCut { a, b, .. })) => pair(a, b),
            (Case::OneWayLink, Some(Class::OneWayLink { from: a, to: b })) => {
                is(a, from) && is(b, to)
            }
            (Case::HolderLost, Some(Class::HolderLost { region, .. })) => is(region, &self.holder),
            (Case::RegionLost, Some(Class::RegionLost { region }))
            | (Case::Overloaded, Some(Class::Overloaded { region }))
            | (Case::SlowDisk, Some(Class::SlowDisk { region }))
            | (Case::ClockBad, Some(Class::ClockBad { region }))
            | (
                Case::ProviderDegradedLocal,
                Some(Class::ProviderDegradedLocal { region, .. }),
            ) => is(region, first.name),
            (Case::ProviderOutage, Some(Class::ProviderOutage { .. })) => true,
            _ => false,
        }
    }

    fn judge(&self, seen: &[(Millis, Vec<Diagnosis>)], moved: &[String], verdicts: &mut Verdicts) {
        let first = |said: &[Diagnosis]| said.iter().find(|d| d.confirmed).map(|d| d.class.clone());
        let from = Millis(self.case.lasts().0.saturating_sub(JUDGED.0));
        let mut votes: BTreeMap<String, usize> = BTreeMap::new();
        let (mut right, mut all) = (0, 0);
        for (_, said) in seen.iter().filter(|(at, _)| *at >= from) {
            let class = first(said);
            right += usize::from(self.is_right(class.as_ref()));
            all += 1;
            *votes.entry(class.map_or("nothing".to_owned(), |c| c.to_string())).or_default() += 1;
        }
        let since = seen.iter().find(|(_, said)| self.is_right(first(said).as_ref()));
        let since = since.map_or("never".to_owned(), |(at, _)| format!("after {at}"));
        let text = format!("{votes:?} in the last looks, first {since}");
        verdicts.check("it is called by its name", all > 0 && right * 2 > all, text);
        let lost = |said: &[Diagnosis]| {
            said.iter().any(|d| d.confirmed && matches!(d.class, Class::RegionLost { .. }))
        };
        let wrongly = seen.iter().filter(|(_, said)| lost(said)).count();
        let may = self.case == Case::RegionLost;
        let text = format!("{wrongly} of {} looks say region_lost", seen.len());
        verdicts.check("nobody is called lost while a link works", may || wrongly == 0, text);
        let may = matches!(self.case, Case::RegionLost | Case::HolderLost);
        let text = if moved.is_empty() { "none".to_owned() } else { moved.join("; ") };
        verdicts.check("nothing is asked for without a loss", may || moved.is_empty(), text);
    }
}
