//! What the machine writes into its audit, and whom it tells of there.

use super::{Machine, Turn};
use crate::audit::AuditEntry;
use crate::command::{Answer, Command, Outcome, TurnedAway};
use crate::people::{Actor, Role};
use crate::position::Hash;
use crate::record::RecordKey;
use crate::refusal::Refusal;
use crate::time::Millis;

/// The same refusal of the same actor within this span is audited once.
const REFUSAL_QUIET: Millis = Millis::secs(60);

impl Machine {
    /// Writes an audit entry.
    pub(super) fn note(&mut self, turn: &mut Turn, action: &str, subject: &str, detail: &str) {
        let actor = turn.actor.clone();
        self.note_as(turn, actor, action, subject, detail);
    }

    /// Writes an audit entry of what nobody did: it ran out.
    pub(super) fn note_time(&mut self, turn: &mut Turn, action: &str, subject: &str, detail: &str) {
        self.note_as(turn, Actor::Time, action, subject, detail);
    }

    fn note_as(
        &mut self,
        turn: &mut Turn,
        actor: Actor,
        action: &str,
        subject: &str,
        detail: &str,
    ) {
        if action == "approve" && crate::seeded_bug::is("audit_entry_skipped") {
            return;
        }
        let mut entry = self.audit_head.append(AuditEntry {
            seq: 0,
            index: turn.index,
            at: turn.at,
            actor,
            via: turn.via,
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
            hash: Hash::ZERO,
        });
        if action == "grant" && crate::seeded_bug::is("audit_entry_edited") {
            entry.detail.push('.');
        }
        turn.touch(RecordKey::AuditHead);
        self.keep_audit(turn, entry);
    }

    /// Keeps an entry of the chain, and lets the oldest go.
    pub(super) fn keep_audit(&mut self, turn: &mut Turn, entry: AuditEntry) {
        turn.touch(RecordKey::Audit(entry.seq));
        let oldest_kept = entry.seq.saturating_sub(crate::audit::KEPT) + 1;
        self.audit.insert(entry.seq, entry);
        while let Some((&oldest, _)) = self.audit.first_key_value() {
            if oldest >= oldest_kept {
                break;
            }
            self.audit.remove(&oldest);
            turn.touch(RecordKey::Audit(oldest));
        }
    }

    /// Refusals of people and workers are audited, the same one once a minute.
    pub(super) fn audit_refusal(&mut self, turn: &mut Turn, command: &Command, refusal: &Refusal) {
        let Some(subject) = command.subject() else { return };
        let detail = format!("{}: {refusal}", refusal.kind());
        self.note_refusal(turn, turn.actor.clone(), &subject, &detail);
    }

    /// Somebody whom a node turned away at its door, before anything came to the log: told like a refusal.
    pub(super) fn turned_away(&mut self, turn: &mut Turn, away: &TurnedAway) -> Answer {
        if !matches!(turn.actor, Actor::Node(_)) {
            return Err(Refusal::NotAllowed { who: turn.actor.to_string(), role: Role::Admin });
        }
        let lengths = [
            ("subject", away.subject.len(), TurnedAway::SUBJECT_MAX),
            ("reason", away.why.len(), TurnedAway::WHY_MAX),
        ];
        if let Some((what, _, most)) = lengths.into_iter().find(|(_, is, most)| is > most) {
            let why = format!("is longer than {most} bytes");
            return Err(Refusal::Invalid { what: what.to_owned(), why });
        }
        self.note_refusal(turn, away.who.clone(), &away.subject, &away.why);
        Ok(Outcome::Done)
    }

    fn note_refusal(&mut self, turn: &mut Turn, who: Actor, subject: &str, detail: &str) {
        let said = self.audit.values().rev().take(32).any(|entry| {
            entry.action == "refused"
                && entry.subject == subject
                && entry.actor == who
                && entry.detail == detail
                && turn.now().since(entry.at.log) < REFUSAL_QUIET
        });
        if !said {
            self.note_as(turn, who, "refused", subject, detail);
        }
    }
}
