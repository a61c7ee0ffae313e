//! Approvals that must not count: each is refused with its reason, and the audit tells of it.

use super::story::Story;
use super::world::{EAST, WEST, person};
use crate::door;
use cryptorun_core::audit::AuditEntry;
use cryptorun_core::command::Outcome;
use cryptorun_core::people::Actor;
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::wire::{Accepted, Problem};
use cryptorun_platform::tls::{Login, Reason};
use std::time::Duration;
use tokio::sync::mpsc;

/// At rest, with the door's way to the audit.
async fn at_rest() -> Story {
    let mut story = Story::start().await;
    tokio::spawn(door::tell(story.world.api.clone()));
    for _ in 0..10 {
        story.second().await;
    }
    story
}

impl Story {
    /// Asks for a switchover as ana, who stands behind it thereby.
    async fn ask(&self, to: &str) -> PromotionId {
        let body = format!(r#"{{"tier":"warm","to":"{to}","dry_run":false,"reason":"disks"}}"#);
        let ana = person("ana");
        let (status, asked): (u16, Accepted) =
            self.world.json(&ana, "POST", "/v1/promotions", &body).await;
        assert_eq!(status, 202, "{asked:?}");
        match asked.outcome {
            Outcome::Promotion { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    /// An approval that must be refused: its status and kind, and what the audit tells of it.
    async fn refused(&self, who: &str, id: PromotionId) -> (u16, String, AuditEntry) {
        let before = self.told().len();
        let path = format!("/v1/promotions/{id}/approve");
        let (status, problem): (u16, Problem) =
            self.world.json(&person(who), "POST", &path, r#"{"reason":"go"}"#).await;
        tokio::time::sleep(Duration::from_millis(10)).await; // The door tells.
        let told = self.told();
        assert_eq!(told.len(), before + 1, "{who} {id}: {problem:?}");
        let kind = problem.kind.rsplit('/').next().unwrap_or_default().to_owned();
        let entry = told.into_iter().last().unwrap();
        assert_eq!((&entry.actor, &entry.subject), (&person(who).actor, &id.to_string()));
        assert_eq!(entry.detail, format!("{kind}: {}", problem.detail));
        (status, kind, entry)
    }

    /// Refusals in the audit.
    fn told(&self) -> Vec<AuditEntry> {
        let all = self.world.log.machine().0.audit().clone();
        all.into_values().filter(|entry| entry.action == "refused").collect()
    }

    fn approvals(&self, id: PromotionId) -> usize {
        self.world.log.machine().0.promotions()[&id].approvals.len()
    }
}

#[tokio::test(start_paused = true)]
async fn one_identity_counts_once() {
    let story = at_rest().await;
    let id = story.ask(WEST).await;
    let (status, kind, _) = story.refused("ana", id).await;
    assert_eq!((status, kind.as_str(), story.approvals(id)), (409, "same_person", 1));
}

#[tokio::test(start_paused = true)]
async fn an_approval_counts_for_its_own_promotion_and_in_its_time() {
    let mut story = at_rest().await;
    let first = story.ask(WEST).await;
    let path = format!("/v1/promotions/{first}/cancel");
    assert_eq!(story.world.send(&person("ana"), "POST", &path, "").await.status().as_u16(), 200);
    // Reused: what it was for is over.
    let (status, kind, _) = story.refused("ben", first).await;
    assert_eq!((status, kind.as_str(), story.approvals(first)), (409, "ended", 1));
    // Late: half an hour after it was asked for.
    let second = story.ask(WEST).await;
    assert_eq!(story.approvals(second), 1, "nothing of the first is carried over");
    for _ in 0..31 * 60 {
        story.second().await;
    }
    let (status, kind, entry) = story.refused("ben", second).await;
    assert_eq!((status, kind.as_str(), story.approvals(second)), (409, "ended", 1));
    assert!(entry.detail.contains("expired"), "{entry:?}");
}

#[tokio::test(start_paused = true)]
async fn an_approval_reaches_no_further_than_its_role() {
    let story = at_rest().await;
    let id = story.ask("eu-west-1").await;
    // For warm, towards us-west-2 alone.
    let (status, kind, _) = story.refused("dan", id).await;
    assert_eq!((status, kind.as_str(), story.approvals(id)), (403, "not_allowed", 1));
    let (status, kind, _) = story.refused("stranger", id).await;
    assert_eq!((status, kind.as_str(), story.approvals(id)), (403, "not_allowed", 1));
}

#[tokio::test(start_paused = true)]
async fn an_approval_on_facts_that_changed_says_which() {
    let mut story = at_rest().await;
    let id = story.ask(WEST).await;
    // The holder's region dies meanwhile, and another promotion takes the scope away from it.
    story.silent = Some(EAST);
    for _ in 0..75 {
        story.second().await;
    }
    story.two_agree(PromotionId(2)).await;
    for _ in 0..60 {
        story.second().await;
    }
    assert!(story.holder().is_some_and(|holder| holder != EAST));
    let (status, kind, entry) = story.refused("ben", id).await;
    assert_eq!((status, kind.as_str(), story.approvals(id)), (409, "void", 1), "{entry:?}");
    assert!(
        entry.detail.contains("assignment_version was 1, is 2; from was us-east-1"),
        "{entry:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_cannot_be_carried_out_now_says_what_is_missing() {
    let mut story = at_rest().await;
    let id = story.ask(WEST).await;
    story.silent = Some(WEST);
    for _ in 0..30 {
        story.second().await;
    }
    let (status, kind, entry) = story.refused("ben", id).await;
    assert_eq!((status, kind.as_str(), story.approvals(id)), (409, "predicates", 1));
    assert!(entry.detail.contains("candidate is no live worker"), "{entry:?}");
}

#[tokio::test(start_paused = true)]
async fn half_an_hour_of_reports_on_a_dead_primary_voids_nothing() {
    let mut story = at_rest().await;
    story.silent = Some(EAST);
    let mut asked = None;
    for _ in 0..29 * 60 {
        story.second().await;
        let machine = story.world.log.machine().0;
        asked = asked.or_else(|| machine.promotions().keys().next().copied());
    }
    let id = asked.expect("the controller asks");
    story.two_agree(id).await;
    assert_eq!((story.approvals(id), story.told().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_let_in_stands_in_the_audit() {
    let story = at_rest().await;
    let (doorman, logins) = mpsc::channel(4);
    tokio::spawn(door::watch_logins(story.world.api.clone(), logins));
    let login = Login {
        reason: Reason::Revoked,
        id: Some((*person("ben").spiffe).clone()),
        serial: Some("0b".to_owned()),
        detail: "certificate revoked".to_owned(),
    };
    for _ in 0..3 {
        doorman.send(login.clone()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let told = story.told();
    let [entry] = &told[..] else { panic!("once a minute: {told:?}") };
    assert_eq!((&entry.actor, entry.subject.as_str()), (&Actor::Node(1), "login"));
    let id = person("ben").spiffe;
    assert_eq!(entry.detail, format!("revoked: certificate 0b of {id}: certificate revoked"));
}
