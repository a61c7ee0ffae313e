//! What a promotion cost in truth. What could be lost was told before it was agreed to, from what the old
//! holder had reported; until its deadline that may have gone on. Once every sink that was not reached
//! follows the new reign, what it had to cut off stands in its forks, and is counted.

use super::{Machine, Turn};
use crate::promotion::{Promotion, PromotionId};
use crate::report::{Fork, ScopeReport};
use crate::scope::ScopeId;
use crate::token::Token;

/// Whether what a sink tells may settle something: it follows another reign, or has another fork.
pub(super) fn may_settle(before: Option<&ScopeReport>, after: &ScopeReport) -> bool {
    before.is_none_or(|before| before.token != after.token || before.forks != after.forks)
}

impl Machine {
    /// Settles what waited for the sinks of a scope.
    pub(super) fn settle(&mut self, turn: &mut Turn, scope: &ScopeId) {
        let open = self.promotions.values().filter(|promotion| {
            promotion.scope == *scope
                && promotion.is_past_grant()
                && promotion.measured.lost_rows.is_none()
        });
        let found: Vec<_> =
            open.filter_map(|promotion| Some((promotion.id, self.lost(promotion)?))).collect();
        for (id, forks) in found {
            self.settled(turn, id, &forks);
        }
    }

    /// What was cut off for a promotion; none while somebody who was not reached is not back.
    pub(super) fn lost(&self, promotion: &Promotion) -> Option<Vec<Fork>> {
        let (token, start) = (promotion.token?, promotion.start?);
        let report = |region| self.sink_of(region, &promotion.scope).map(|(_, report)| report);
        let back = |region| report(region).is_some_and(|report| report.token >= token);
        if !promotion.unsealed.iter().all(back) {
            return None;
        }
        let since = self.moved_before(&promotion.scope, token);
        let members = &self.scopes.get(&promotion.scope)?.policy.members;
        let forks = members.iter().filter_map(report).flat_map(|report| &report.forks);
        let own =
            |fork: &&Fork| fork.token >= since && fork.token < token && fork.from_seq > start.seq;
        Some(forks.filter(own).cloned().collect())
    }

    /// The token of the promotion before: forks below it are that one's.
    fn moved_before(&self, scope: &ScopeId, token: Token) -> Token {
        let history = self.scopes.get(scope).map(|scope| &scope.history[..]).unwrap_or_default();
        let before = history.iter().rev().filter(|reign| reign.token < token);
        before.filter(|reign| reign.promotion.is_some()).map(|r| r.token).next().unwrap_or_default()
    }

    fn settled(&mut self, turn: &mut Turn, id: PromotionId, forks: &[Fork]) {
        let records = forks.iter().map(|fork| fork.to_seq + 1 - fork.from_seq).sum();
        let rows = forks.iter().map(|fork| fork.rows).sum();
        let Some(promotion) = self.promotions.get(&id) else { return };
        let (told, all_reached) = (promotion.loss.clone(), promotion.unsealed.is_empty());
        self.change_promotion(turn, id, |promotion| {
            promotion.measured.lost_records = Some(records);
            promotion.measured.lost_rows = Some(rows);
        });
        if all_reached && forks.is_empty() {
            return; // Everything was sealed and fetched: there was nothing to wait for.
        }
        let kept = forks.iter().map(|fork| {
            format!("{} (records {}–{}, {} rows)", fork.name, fork.from_seq, fork.to_seq, fork.rows)
        });
        let kept: Vec<String> = kept.collect();
        let detail = match kept.is_empty() {
            true => format!("nothing was lost; told before: {told}"),
            false => format!(
                "{rows} rows in {records} records are no part of it and kept: {}; told before: {told}",
                kept.join(", ")
            ),
        };
        self.note(turn, "settled", &id.to_string(), &detail);
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::AuditEntry;
    use crate::command::{Approve, Command};
    use crate::machine::world::{World, warm};
    use crate::promotion::{Kind, Outcome, PromotionId, State};
    use crate::report::{Fork, WorkerReport};
    use crate::scope::Mode;
    use crate::time::Millis;
    use crate::token::Token;

    const EAST: &str = "us-east-1";
    const WEST: &str = "us-west-2";
    const P1: PromotionId = PromotionId(1);
    const P2: PromotionId = PromotionId(2);

    /// The holder's region is lost, and two people move its scope away.
    fn moved_away(world: &mut World, from: &str, id: PromotionId) {
        world.lost.insert(from.into(), world.now);
        world.advance(Millis::secs(90));
        for person in ["ana", "ben"] {
            let reason = Some("lost".to_owned());
            let approve = Approve { promotion: id, reason, certificate: None };
            world.by(person, Command::Approve(approve)).unwrap();
        }
        world.advance(Millis::secs(40));
        let promotion = &world.machine.promotions()[&id];
        assert_eq!((promotion.kind, promotion.from.as_str()), (Kind::Failover, from));
        assert_eq!(promotion.state, State::Ended(Outcome::Done), "{promotion:#?}");
        assert!(promotion.loss.unreported > Millis::ZERO, "what nobody can know is said");
    }

    fn lost(world: &World, id: PromotionId) -> (Option<u64>, Option<u64>) {
        let measured = &world.machine.promotions()[&id].measured;
        (measured.lost_records, measured.lost_rows)
    }

    fn told(world: &World) -> Vec<&AuditEntry> {
        world.machine.audit().values().filter(|entry| entry.action == "settled").collect()
    }

    /// Two records that it had to cut off, of that epoch.
    fn forked(report: &mut WorkerReport, epoch: u64, rows: u64) {
        let Some(sink) = report.scopes.get_mut(&warm()) else { return };
        let from_seq = sink.end.seq + 1;
        sink.forks.push(Fork {
            name: format!("warm-global-0.{epoch}"),
            token: Token { incarnation: 0, epoch },
            from_seq,
            to_seq: from_seq + 1,
            rows,
            bytes: 100,
        });
    }

    #[test]
    fn what_was_lost_is_not_known_before_who_had_it_is_back() {
        let mut world = World::running(Mode::Approve);
        moved_away(&mut world, EAST, P1);
        world.advance(Millis::mins(30));
        assert_eq!((lost(&world, P1), told(&world).len()), ((None, None), 0));
        world.lost.clear();
        world.advance(Millis::secs(30));
        assert_eq!(lost(&world, P1), (Some(0), Some(0)));
        assert!(told(&world)[0].detail.starts_with("nothing was lost; told before: 0, and what"));
    }

    #[test]
    fn each_promotion_counts_the_forks_that_were_cut_for_it() {
        let mut world = World::running(Mode::Approve);
        moved_away(&mut world, EAST, P1);
        world.worker_says.insert(EAST.into(), |report| forked(report, 1, 7));
        world.lost.clear();
        world.advance(Millis::secs(30));
        assert_eq!(lost(&world, P1), (Some(2), Some(7)), "{:?}", told(&world));
        assert_eq!(told(&world).len(), 1, "once, however often it renews");
        assert!(told(&world)[0].detail.contains("warm-global-0.1 (records"), "{:?}", told(&world));

        world.advance(Millis::mins(15)); // The controller may act again.
        moved_away(&mut world, WEST, P2);
        world.worker_says.insert(WEST.into(), |report| forked(report, 2, 5));
        world.lost.clear();
        world.advance(Millis::secs(30));
        assert_eq!(lost(&world, P2), (Some(2), Some(5)), "the older fork is still reported");
        assert_eq!(lost(&world, P1), (Some(2), Some(7)));
    }
}
