//! The story, stage by stage: each waits for what it must see, by asking as an operator would.

use super::DemoError;
use super::layout::{DemoOptions, Lab, REGIONS};
use super::operator::{Operator, Said};
use super::proof::{self, Cuts};
use super::report::Invariant;
use super::report::Teller;
use crate::protocol::{Direction, LinkAct};
use cryptorun_core::diagnose::Class;
use cryptorun_core::promotion::{Outcome, PromotionId, State};
use cryptorun_core::scope::{Phase, Role, ScopeId, Tier};
use cryptorun_core::time::Millis;
use cryptorun_core::token::Token;
use cryptorun_core::wire::{Fate, Level, PromotionStatus, ScopeStatus, Status};
use cryptorun_platform::clock::{BootTime, Clock, SystemClock};
use serde_json::json;
use std::time::Duration;

/// Exit code of a line that nobody answered: typing it again is safe (`docs/cli.md`).
const UNREACHABLE: i32 = 4;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Tells the whole story.
pub async fn tell(lab: &Lab, options: &DemoOptions) -> Result<(), DemoError> {
    let rtt: Vec<u128> = options.links().0.iter().map(Duration::as_millis).collect();
    let profile = options.profile_word().to_owned();
    let mut teller = Teller::new(options.json, profile.clone(), rtt.clone());
    let rtt: Vec<String> = rtt.iter().map(ToString::to_string).collect();
    teller.headline(&format!(
        "cryptorun demo · 3 regions, 3 control nodes, 3 workers, 1 venue · RTT {} ms · profile {profile}{} · \
         data in {}",
        rtt.join("/"),
        if options.fast { " (short detection times)" } else { "" },
        lab.folder.display()
    ));
    let begun = SystemClock.boot();
    let mut story = Story { lab, options, people: People::of(lab)?, teller: &mut teller };
    story.up().await?;
    if !options.setup_only {
        story.switchover().await?;
        story.region_lost().await?;
        story.old_primary_back().await?;
        let cut = story.link_cut().await?;
        let invariants = story.proof(cut).await?;
        conclude(&mut teller, invariants)?;
    }
    teller.report.took_ms = (SystemClock.boot() - begun).as_millis();
    teller.finish(&lab.folder)?;
    let broken = teller.report.invariants.len() - teller.report.invariants_held;
    match broken {
        0 => Ok(()),
        broken => Err(DemoError::Broken { broken, checked: teller.report.invariants.len() }),
    }
}

/// Only the beginning of the story: everything runs and is level. For whoever acts from there.
///
/// # Errors
/// What did not come up.
pub async fn bring_up(
    lab: &Lab,
    options: &DemoOptions,
    teller: &mut Teller,
) -> Result<People, DemoError> {
    let mut story = Story { lab, options, people: People::of(lab)?, teller };
    story.up().await?;
    Ok(story.people)
}

fn conclude(teller: &mut Teller, invariants: Vec<Invariant>) -> Result<(), DemoError> {
    let held = invariants.iter().filter(|i| i.holds).count();
    teller.headline("");
    for invariant in &invariants {
        let mark = if invariant.holds { "holds" } else { "BROKEN" };
        teller.headline(&format!("   {mark:<6} {:<38} {}", invariant.name, invariant.evidence));
    }
    teller.report.invariants_held = held;
    teller.report.invariants = invariants;
    Ok(())
}

/// The demo's operators.
pub struct People {
    pub ana: Operator,
    pub ben: Operator,
    pub eve: Operator,
}

impl People {
    fn of(lab: &Lab) -> Result<Self, DemoError> {
        Ok(Self {
            ana: Operator::new(lab, "ana")?,
            ben: Operator::new(lab, "ben")?,
            eve: Operator::new(lab, "eve")?,
        })
    }
}

struct Story<'a> {
    lab: &'a Lab,
    options: &'a DemoOptions,
    people: People,
    teller: &'a mut Teller,
}

/// The scope that the story moves about.
pub fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

pub fn scope_of<'a>(status: &'a Status, id: &ScopeId) -> Option<&'a ScopeStatus> {
    status.scopes.iter().find(|scope| scope.scope == *id)
}

/// Whether every scope has its holder, every sink is a replica with data, nothing is past a line.
pub fn is_level(status: &Status) -> bool {
    let level = status.scopes.len() == 2
        && status.scopes.iter().all(|scope| {
            scope.phase == Phase::Active
                && scope.holder.is_some()
                && scope.regions.values().all(|sink| {
                    sink.level == Level::Ok
                        && sink.age.is_some()
                        && matches!(sink.role, Role::Primary | Role::Replica)
                })
                && scope.unsealed.is_empty()
        });
    level && scope_of(status, &warm()).is_some_and(|scope| scope.regions.len() == REGIONS.len())
}

impl Story<'_> {
    async fn up(&mut self) -> Result<(), DemoError> {
        self.certificates();
        self.control_plane().await?;
        self.feeds().await?;
        self.replication().await
    }

    /// Looks again and again until `see` finds what it wants; the last sight goes into the error.
    async fn until<T>(
        &self,
        stage: &'static str,
        what: &str,
        within: Millis,
        mut see: impl AsyncFnMut(&Operator) -> Result<Option<T>, String>,
    ) -> Result<T, DemoError> {
        let begun = SystemClock.boot();
        let mut seen = String::from("nothing");
        loop {
            match see(&self.people.ana).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => seen = error,
            }
            if SystemClock.boot() - begun > within.to_duration() {
                let what = what.to_owned();
                return Err(DemoError::TooLate { stage, what, within, seen });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn certificates(&mut self) {
        let count = self.lab.certificates;
        let line = format!("demo CA and {count} leaf certificates");
        self.teller.stage("certificates", vec![line], &[("leaves", json!(count))]);
    }

    async fn control_plane(&mut self) -> Result<(), DemoError> {
        const STAGE: &str = "control plane";
        self.lab.start("node").await?;
        let begun = SystemClock.boot();
        let config = self.lab.folder.join("cluster.yaml").display().to_string();
        let init = ["cluster", "init", "--expect", "3", "--config", &config];
        let answered = self
            .until(STAGE, "a node that answers", Millis::secs(30), async |ana| {
                let said = ana.types(&init).await.map_err(|error| error.to_string())?;
                match said.code {
                    UNREACHABLE => Err(said.err),
                    _ => Ok(Some(said)),
                }
            })
            .await?;
        expect_code(STAGE, &answered, 0)?;
        let founded = SystemClock.boot() - begun;
        let status = self
            .until(STAGE, "a leader with three voters", Millis::secs(30), async |ana| {
                let status = ana.status().await?;
                Ok((status.at.leader.is_some() && status.at.voters_up == 3).then_some(status))
            })
            .await?;
        let leader = status.at.leader.map_or(String::new(), |leader| leader.to_string());
        let line = format!(
            "{leader} leads, {} of {} voters, founded and committed in {} ms",
            status.at.voters_up,
            status.at.voters,
            founded.as_millis()
        );
        let measured = [("founded_ms", json!(founded.as_millis())), ("leader", json!(leader))];
        self.teller.stage(STAGE, vec![line], &measured);
        Ok(())
    }

    async fn feeds(&mut self) -> Result<(), DemoError> {
        const STAGE: &str = "feeds";
        self.lab.start("venue").await?;
        self.lab.start("worker").await?;
        let feeds = async |ana: &Operator| -> Result<Option<(u64, u64, u64)>, String> {
            let regions = ana.regions().await?;
            let feeds: Vec<_> = regions
                .iter()
                .filter_map(|region| region.report.as_ref())
                .map(|report| report.feeds.values().next().copied().unwrap_or_default())
                .collect();
            let live = feeds.len() == 3 && feeds.iter().all(|f| f.live && f.frames > 0);
            let least = |of: fn(&cryptorun_core::report::FeedState) -> u64| {
                feeds.iter().map(of).min().unwrap_or(0)
            };
            let bad = feeds.iter().map(|f| f.bad_checksums).sum();
            let seen = (least(|f| f.frames), least(|f| f.trades), bad);
            match live {
                true => Ok(Some(seen)),
                false => Err(format!("{} of 3 regions report a live feed", feeds.len())),
            }
        };
        self.until(STAGE, "three live feeds", Millis::secs(60), feeds).await?;
        let (frames, trades, bad) = self
            .until(STAGE, "trades in every region", Millis::secs(60), async |ana| {
                Ok(feeds(ana).await?.filter(|(_, trades, _)| *trades > 0))
            })
            .await?;
        let line = format!(
            "kraken in 3 regions: {frames} frames and {trades} trades so far, {} bad checksums",
            bad
        );
        let measured = [("frames", json!(frames)), ("trades", json!(trades)), ("bad", json!(bad))];
        self.teller.stage(STAGE, vec![line], &measured);
        Ok(())
    }

    async fn replication(&mut self) -> Result<(), DemoError> {
        const STAGE: &str = "replication";
        let status = self.all_level(STAGE, Millis::secs(90)).await?;
        let ages: Vec<String> = scope_of(&status, &warm())
            .map(|scope| {
                scope
                    .regions
                    .iter()
                    .map(|(region, sink)| {
                        let age = sink.age.map_or("?".to_owned(), |age| age.to_string());
                        format!("{region} {age}")
                    })
                    .collect()
            })
            .unwrap_or_default();
        self.teller.stage(
            STAGE,
            vec![format!("warm {} · all within target", ages.join(" · "))],
            &[],
        );
        Ok(())
    }

    async fn all_level(&self, stage: &'static str, within: Millis) -> Result<Status, DemoError> {
        self.until(stage, "every sink level", within, async |ana| {
            let status = ana.status().await?;
            if is_level(&status) { Ok(Some(status)) } else { Err(sight(&status)) }
        })
        .await
    }

    async fn switchover(&mut self) -> Result<(), DemoError> {
        const STAGE: &str = "switchover";
        let (ana, ben) = (&self.people.ana, &self.people.ben);
        let verb = ["replication", "switchover", "--tier", "warm", "--to", "us-west-2"];
        let dry = ana.types(&verb).await?;
        expect_code(STAGE, &dry, 0)?;
        let said =
            ana.types(&[&verb[..], &["--execute", "--reason", "kernel update"]].concat()).await?;
        expect_code(STAGE, &said, 6)?;
        let id = self.newest(STAGE).await?.promotion.id;
        let name = id.to_string();
        let agreed = SystemClock.boot();
        let said = ben
            .types(&["replication", "approve", &name, "--yes", "--reason", "looked at the plan"])
            .await?;
        if !matches!(said.code, 0 | 6) {
            expect_code(STAGE, &said, 0)?;
        }
        let done = self.ended(STAGE, id, Millis::secs(60)).await?;
        let took = SystemClock.boot() - agreed;
        expect_done(STAGE, &done)?;
        let pause = done.promotion.measured.write_pause_ms;
        let epochs = self.epochs().await?;
        self.teller.stage(
            STAGE,
            vec![
                format!("{name} warm us-east-1 → us-west-2, asked by ana, approved by ben"),
                format!(
                    "write pause {} · lost {} · epoch {epochs}",
                    pause.map_or("unknown".to_owned(), |ms| Millis(ms).to_string()),
                    done.promotion.loss.rows
                ),
            ],
            &[
                ("write_pause_ms", json!(pause)),
                ("move_ms", json!(done.promotion.measured.move_ms)),
                ("approve_to_done_ms", json!(took.as_millis())),
                ("lost_rows", json!(done.promotion.measured.lost_rows)),
            ],
        );
        self.all_level(STAGE, Millis::secs(60)).await?;
        Ok(())
    }

    async fn region_lost(&mut self) -> Result<(), DemoError> {
        const STAGE: &str = "region lost";
        let lost = SystemClock.boot();
        self.lab.supervisor.freeze("us-west-2")?;
        self.teller.waiting("us-west-2 frozen; its loss must last before anybody may act");
        let detection = Millis(self.options.detection().0 + 60_000);
        let asked = self
            .until(STAGE, "a request of the controller", detection, async |ana| {
                let found =
                    ana.promotions().await?.into_iter().find(|p| {
                        p.promotion.state == State::Waiting && p.promotion.scope == warm()
                    });
                if found.is_none() {
                    return Err(sight(&ana.status().await?));
                }
                Ok(found)
            })
            .await?;
        let diagnosed = SystemClock.boot() - lost;
        let promotion = asked.promotion;
        let (id, to) = (promotion.id.to_string(), promotion.to.to_string());
        let explained =
            self.people.ana.explain("warm", &to).await.map_err(|what| stage_error(STAGE, what))?;
        if explained.command.is_none() {
            return Err(stage_error(STAGE, "explain names no allowed verb".to_owned()));
        }
        let approve = ["replication", "approve", &id, "--yes", "--reason", "us-west-2 is gone"];
        let said = self.people.ben.types(&approve).await?;
        expect_code(STAGE, &said, 6)?;
        let second = SystemClock.boot();
        let said = self.people.eve.types(&approve).await?;
        if !matches!(said.code, 0 | 6) {
            expect_code(STAGE, &said, 0)?;
        }
        let active = self
            .until(STAGE, "a new holder", Millis::secs(60), async |ana| {
                let status = ana.status().await?;
                let moved = scope_of(&status, &warm())
                    .is_some_and(|s| s.holder.as_ref().is_some_and(|h| h.as_str() == to));
                if moved { Ok(Some(SystemClock.boot())) } else { Err(sight(&status)) }
            })
            .await?;
        let moved = active - second;
        let done = self.ended(STAGE, promotion.id, Millis::mins(3)).await?;
        expect_done(STAGE, &done)?;
        let epochs = self.epochs().await?;
        self.teller.stage(
            STAGE,
            vec![
                format!(
                    "us-west-2 frozen … diagnosed after {} s · {id} opened by the controller · ben alone: 1 more person",
                    diagnosed.as_secs()
                ),
                format!(
                    "eve approves · warm → {to} in {:.1} s · epoch {epochs} · loss {}",
                    moved.as_secs_f64(),
                    done.promotion.loss
                ),
            ],
            &[
                ("diagnosed_ms", json!(diagnosed.as_millis())),
                ("second_approval_to_holder_ms", json!(moved.as_millis())),
                ("loss_rows", json!(done.promotion.loss.rows)),
            ],
        );
        Ok(())
    }

    async fn old_primary_back(&mut self) -> Result<(), DemoError> {
        const STAGE: &str = "old primary back";
        self.lab.supervisor.thaw("us-west-2")?;
        self.all_level(STAGE, Millis::secs(90)).await?;
        let worker = self.lab.site("us-west-2").map(|site| site.worker_api.to_string());
        let journal = self
            .until(STAGE, "its journal", Millis::secs(20), async |ana| {
                ana.journal(worker.as_deref().unwrap_or_default(), &warm()).await.map(Some)
            })
            .await?;
        let rows = |fate: Fate| -> u64 {
            journal.ranges.iter().filter(|range| range.fate == fate).map(|range| range.rows).sum()
        };
        let forks: Vec<String> = journal
            .forks
            .iter()
            .map(|fork| format!("{} ({} rows)", fork.name, fork.rows))
            .collect();
        let (fenced, forked) = (rows(Fate::Fenced), rows(Fate::Forked));
        self.teller.stage(
            STAGE,
            vec![format!(
                "thawed: follows again · {fenced} late writes fenced · {forked} rows forked · {}",
                match forks.is_empty() {
                    true => "no fork: it had stopped before it wrote".to_owned(),
                    false => format!("kept and listed: {}", forks.join(", ")),
                }
            )],
            &[
                ("fenced_rows", json!(fenced)),
                ("forked_rows", json!(forked)),
                ("forks", json!(forks)),
            ],
        );
        Ok(())
    }

    async fn link_cut(&mut self) -> Result<Cuts, DemoError> {
        const STAGE: &str = "link cut";
        let span = if self.options.fast { Millis::secs(8) } else { Millis::secs(40) };
        let (a, b) = (REGIONS[2], REGIONS[0]);
        let before = self.reigns().await?;
        let cut = LinkAct::Cut { a: a.into(), b: Some(b.into()), direction: Direction::Both };
        self.lab.links.act(&cut)?;
        let begun = SystemClock.boot();
        let diagnosis = self
            .until(STAGE, "the diagnosis link_cut", Millis::secs(30), async |ana| {
                let status = ana.status().await?;
                // The two ends report at different moments: until both have, it looks one-way.
                let found = status.diagnoses.iter().find(|diagnosis| match &diagnosis.class {
                    Class::LinkCut { a: one, b: other, .. } => {
                        let ends = [one.as_str(), other.as_str()];
                        ends.contains(&a) && ends.contains(&b)
                    }
                    _ => false,
                });
                match found {
                    Some(diagnosis) => Ok(Some(diagnosis.class.to_string())),
                    None => Err(sight(&status)),
                }
            })
            .await?;
        self.rest_of(begun, span).await;
        let after = self.reigns().await?;
        let heal =
            LinkAct::Heal { a: Some(a.into()), b: Some(b.into()), direction: Direction::Both };
        self.lab.links.act(&heal)?;
        let healed = SystemClock.boot();
        self.all_level(STAGE, Millis::secs(60)).await?;
        let level = SystemClock.boot() - healed;
        let still = if before == after { "no lease moved" } else { "A LEASE MOVED" };
        self.teller.stage(
            STAGE,
            vec![format!("{a} ⇹ {b} for {span}: {still} ({diagnosis})")],
            &[("level_after_heal_ms", json!(level.as_millis())), ("moved", json!(before != after))],
        );
        Ok((before, after))
    }

    async fn rest_of(&self, begun: BootTime, span: Millis) {
        let gone = SystemClock.boot() - begun;
        tokio::time::sleep(span.to_duration().saturating_sub(gone)).await;
    }

    async fn proof(&mut self, cut: Cuts) -> Result<Vec<Invariant>, DemoError> {
        const STAGE: &str = "proof";
        let status = self.all_level(STAGE, Millis::secs(60)).await?;
        let evidence = proof::gather(self.lab, &self.people.ana, cut).await?;
        let invariants = proof::check(self.lab, &self.people.ana, &evidence).await;
        let held = invariants.iter().filter(|i| i.holds).count();
        let end = scope_of(&status, &warm()).map_or(String::new(), |scope| {
            let ends: Vec<u64> = scope.regions.values().map(|sink| sink.end.seq).collect();
            let newest = ends.iter().copied().max().unwrap_or(0);
            format!("e{}/{newest}", scope.token.epoch)
        });
        let line = format!("at {end} · invariants {held} of {} checked", invariants.len());
        self.teller.stage(STAGE, vec![line], &[("held", json!(held))]);
        Ok(invariants)
    }

    async fn newest(&self, stage: &'static str) -> Result<PromotionStatus, DemoError> {
        self.until(stage, "the request", Millis::secs(10), async |ana| {
            Ok(ana.promotions().await?.into_iter().max_by_key(|p| p.promotion.id))
        })
        .await
    }

    async fn ended(
        &self,
        stage: &'static str,
        id: PromotionId,
        within: Millis,
    ) -> Result<PromotionStatus, DemoError> {
        self.until(stage, &format!("{id} ending"), within, async |ana| {
            let found = ana.promotions().await?.into_iter().find(|p| p.promotion.id == id);
            match found {
                Some(p) if !p.promotion.is_open() => Ok(Some(p)),
                Some(p) => Err(format!("{id} at {:?}", p.promotion.current())),
                None => Err(format!("{id} is not there")),
            }
        })
        .await
    }

    async fn reigns(&self) -> Result<Vec<(ScopeId, Token)>, DemoError> {
        let status = self
            .until("status", "an answer", Millis::secs(20), async |ana| {
                ana.status().await.map(Some)
            })
            .await?;
        Ok(status.scopes.iter().map(|scope| (scope.scope.clone(), scope.token)).collect())
    }

    async fn epochs(&self) -> Result<String, DemoError> {
        let reigns = self.reigns().await?;
        let epoch = reigns.iter().find(|(id, _)| *id == warm()).map_or(0, |(_, t)| t.epoch);
        Ok(format!("{} → {epoch}", epoch.saturating_sub(1)))
    }
}

/// What was seen when something did not come: enough to tell why.
pub fn sight(status: &Status) -> String {
    let scopes: Vec<String> = status
        .scopes
        .iter()
        .map(|scope| {
            let sinks: Vec<String> = scope
                .regions
                .iter()
                .map(|(region, sink)| {
                    let age = sink.age.map_or("no data".to_owned(), |age| age.to_string());
                    format!("{region} {} {age} {}", sink.role, sink.level)
                })
                .collect();
            let holder = scope.holder.as_ref().map_or("nobody", |h| h.as_str());
            format!("{} {} held by {holder} [{}]", scope.scope, scope.phase, sinks.join(", "))
        })
        .collect();
    let diagnoses: Vec<String> = status.diagnoses.iter().map(|d| d.class.to_string()).collect();
    format!("{}; diagnoses: {}", scopes.join("; "), diagnoses.join(", "))
}

fn stage_error(stage: &'static str, what: String) -> DemoError {
    DemoError::Stage { stage, what }
}

fn expect_code(stage: &'static str, said: &Said, code: i32) -> Result<(), DemoError> {
    if said.code == code {
        return Ok(());
    }
    let what = format!("exit {} instead of {code}\n{}{}", said.code, said.out, said.err);
    Err(stage_error(stage, what))
}

fn expect_done(stage: &'static str, status: &PromotionStatus) -> Result<(), DemoError> {
    match &status.promotion.state {
        State::Ended(Outcome::Done) => Ok(()),
        other => Err(stage_error(stage, format!("{} ended as {other:?}", status.promotion.id))),
    }
}
