//! How far apart two holders were in true time, from what each worker says it believed and from when
//! its process ended.
//!
//! Beliefs are asked for all the while, since a process that is killed takes its own along. A lease
//! that ran out must leave the guard between two holders; one that was let go of is free at once,
//! and must only never overlap.

use super::bend::Bends;
use crate::verdict::Verdicts;
use crate::world::{Trouble, World, now, warm_eu};
use cryptorun_core::scope::ScopeId;
use cryptorun_core::time::{Millis, Timing};
use cryptorun_core::token::Token;
use cryptorun_lab::demo::layout::Site;
use cryptorun_lab::demo::stages::warm;
use futures_util::future::join_all;
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(250);

/// As `GET /v1/beliefs` shows it.
#[derive(Clone, Debug, Deserialize)]
struct Belief {
    scope: ScopeId,
    token: Token,
    from_boot_ns: u64,
    until_boot_ns: u64,
}

#[derive(Default)]
pub struct Holders {
    /// By region and first moment.
    seen: RefCell<BTreeMap<(String, ScopeId, u64), Belief>>,
    ends: RefCell<Vec<End>>,
}

/// A worker's process ended.
struct End {
    region: String,
    at_ns: u64,
    /// By SIGTERM: it let go at some moment before that nobody can ask it for.
    orderly: bool,
}

impl Holders {
    /// In true time, whatever the clock showed.
    pub fn right(&self, bends: &Bends) {
        let mut seen = self.seen.borrow_mut();
        for ((region, _, _), belief) in seen.iter_mut() {
            let process = format!("worker-{region}");
            belief.from_boot_ns = bends.true_time(&process, belief.from_boot_ns);
            belief.until_boot_ns = bends.true_time(&process, belief.until_boot_ns);
        }
    }

    /// A worker's process ended by now, at the latest.
    pub fn ended(&self, region: &str, orderly: bool) {
        let end = End { region: region.to_owned(), at_ns: now().0, orderly };
        self.ends.borrow_mut().push(end);
    }

    async fn ask(&self, world: &World, site: &Site) -> Result<(), String> {
        let worker = site.worker_api.to_string();
        let told: Vec<Belief> = world.ana().worker_at(&worker, "/v1/beliefs").await?;
        let mut seen = self.seen.borrow_mut();
        for belief in told {
            let key = (site.name.to_owned(), belief.scope.clone(), belief.from_boot_ns);
            seen.insert(key, belief);
        }
        Ok(())
    }

    async fn watch_one(&self, world: &World, site: &Site, over: &Cell<bool>) {
        while !over.get() {
            // Stopped, cut off or gone: asked again.
            let _ = self.ask(world, site).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Asks every worker until it is over.
    pub async fn watch(&self, world: &World, over: &Cell<bool>) {
        join_all(world.lab.sites.iter().map(|site| self.watch_one(world, site, over))).await;
    }

    /// From when to when each token was believed in; none where its end cannot be known.
    fn reigns(&self, scope: &ScopeId) -> BTreeMap<Token, (u64, Option<u64>)> {
        let mut reigns: BTreeMap<Token, (u64, Option<u64>)> = BTreeMap::new();
        for ((region, _, _), belief) in self.seen.borrow().iter() {
            if belief.scope != *scope {
                continue;
            }
            let ends = self.ends.borrow();
            let ended = ends.iter().find(|end| {
                end.region == *region
                    && (belief.from_boot_ns..belief.until_boot_ns).contains(&end.at_ns)
            });
            let until = match ended {
                Some(end) if end.orderly => None,
                Some(end) => Some(end.at_ns),
                None => Some(belief.until_boot_ns),
            };
            let reign = reigns.entry(belief.token).or_insert((belief.from_boot_ns, Some(0)));
            reign.0 = reign.0.min(belief.from_boot_ns);
            reign.1 = reign.1.zip(until).map(|(one, other)| one.max(other));
        }
        reigns
    }

    /// The smallest gap between two holders of a scope, and what it must be.
    pub async fn judge(&self, world: &World, verdicts: &mut Verdicts) -> Result<(), Trouble> {
        let told = self.seen.borrow().len();
        verdicts.check("workers tell what they believed", told > 0, format!("{told} spans"));
        let guard = Timing::of(world.options.profile()).guard;
        let audited = world.audited(0).await?;
        let (mut ran_out, mut let_go, mut unknown) = (Vec::new(), Vec::new(), 0);
        for scope in [warm(), warm_eu()] {
            let name = scope.to_string();
            let over: BTreeSet<&str> = audited
                .iter()
                .filter(|entry| entry.action == "vacant" && entry.subject == name)
                .filter(|entry| entry.detail.starts_with("lease ran out"))
                .filter_map(|entry| entry.detail.rsplit_once("token=").map(|(_, token)| token))
                .collect();
            let reigns = self.reigns(&scope);
            for ((token, (_, until)), (next, (from, _))) in reigns.iter().zip(reigns.iter().skip(1))
            {
                let Some(until) = until else {
                    unknown += 1;
                    continue;
                };
                let gap = i128::from(*from) - i128::from(*until);
                let line = format!("{scope} {token} -> {next}");
                match over.contains(token.to_string().as_str()) {
                    true => ran_out.push((gap, line)),
                    false => let_go.push((gap, line)),
                }
            }
        }
        judge(verdicts, "a lease that ran out leaves the guard", &ran_out, guard);
        judge(verdicts, "one that was let go of never overlaps", &let_go, Millis::ZERO);
        verdicts.note(format!("{unknown} ends unknown: the process was told to stop and did"));
        Ok(())
    }
}

fn judge(verdicts: &mut Verdicts, name: &str, gaps: &[(i128, String)], least: Millis) {
    let Some((smallest, line)) = gaps.iter().min() else {
        verdicts.note(format!("{name}: there was none"));
        return;
    };
    let text = format!(
        "smallest of {} gaps in true time {}.{:03} ms ({line}), at least {least} required",
        gaps.len(),
        smallest / 1_000_000,
        (smallest / 1000 % 1000).abs(),
    );
    verdicts.check(name, *smallest >= i128::from(least.0) * 1_000_000, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn belief(holders: &Holders, region: &str, epoch: u64, from: u64, until: u64) {
        let token = Token { incarnation: 0, epoch };
        let belief = Belief { scope: warm(), token, from_boot_ns: from, until_boot_ns: until };
        holders.seen.borrow_mut().insert((region.to_owned(), warm(), from), belief);
    }

    #[test]
    fn a_killed_process_held_until_it_ended_and_one_told_to_stop_until_nobody_knows() {
        let holders = Holders::default();
        belief(&holders, "a", 1, 10, 100);
        belief(&holders, "b", 2, 120, 220);
        belief(&holders, "c", 3, 300, 400);
        for (region, at_ns, orderly) in [("a", 50, false), ("c", 350, true), ("b", 500, false)] {
            holders.ends.borrow_mut().push(End { region: region.to_owned(), at_ns, orderly });
        }
        let reigns: Vec<_> = holders.reigns(&warm()).into_values().collect();
        assert_eq!(reigns, [(10, Some(50)), (120, Some(220)), (300, None)]);
    }

    #[test]
    fn a_gap_below_what_is_required_is_a_failure() {
        let gap = |nanos: i128| [(nanos, "a -> b".to_owned()), (900_000_000, "b -> c".to_owned())];
        for (smallest, least, failures) in
            [(500_000_000, 500, 0), (499_999_999, 500, 1), (0, 0, 0), (-1, 0, 1)]
        {
            let mut verdicts = Verdicts::default();
            judge(&mut verdicts, "a gap", &gap(smallest), Millis(least));
            assert_eq!(verdicts.count().1, failures, "{smallest} ns of {least} ms");
        }
    }
}
