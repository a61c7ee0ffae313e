//! What one node asks another: proposals for the leader, pings, and the hello before founding.
//!
//! What always holds:
//!  1. the leader looks again at the actor's right, with its own machine, whoever forwarded;
//!  2. approvals, denials and whatever else is verified where it counts never travel: one that
//!     arrives is refused, counted and logged, whoever it claims to come from;
//!  3. no node speaks for the controller or for another node.
//!
//! Messages are JSON behind a version byte: the proposals inside are promises already
//! (`core::command`), and a node of another version answers that it does not know this one.

use crate::api::Api;
use crate::caller::{Need, check};
use crate::history::{Line, OwnReport, What};
use crate::log::{CallError, Committed, ForwardHandler, Log, MemberView, Proposal, ProposeError};
use crate::problem::ApiError;
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::command::{Answer, Command};
use cryptorun_core::config::ClusterId;
use cryptorun_core::machine::Machine;
use cryptorun_core::people::{Actor, Role};
use cryptorun_core::position::Hash;
use cryptorun_core::record::RequestKey;
use cryptorun_core::region::RegionName;
use cryptorun_core::time::{Millis, Stamp, WallTime};
use cryptorun_core::wire::{Credentials, NodeStanding, Versions};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Before the JSON.
const VERSION: u8 = 1;
/// A proposal's way to the leader, its commit and the way back.
pub const PROPOSE_TTL: Duration = Duration::from_secs(5);

/// A message to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forwarded {
    /// Put this into the log.
    Propose(Box<Propose>),
    /// Are you there, and what time is it?
    Ping,
    /// Who are you, and is your disk empty?
    Hello,
    /// How far have you come, and what was your state at that index?
    Standing {
        /// Whose state hash is wanted, if any.
        hash_at: Option<u64>,
    },
    /// What do you present and trust, and who came to you with what?
    Credentials,
    /// Who answers you, and how far has each come? Only the leader knows.
    Members,
    /// Keep these reports of mine, which no quorum took.
    Late(Vec<OwnReport>),
}

/// See [`Forwarded::Propose`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propose {
    /// Verified by the sender.
    pub actor: Actor,
    /// Idempotency.
    pub request: Option<RequestKey>,
    /// What to do.
    pub command: Command,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is in the log.
    Committed {
        /// Where.
        index: u64,
        /// When.
        stamp: Stamp,
        /// What the machine said.
        answer: Answer,
    },
    /// It is not, or may not be.
    Failed(Failed),
    /// Here I am.
    Pong {
        /// The wall clock.
        wall: WallTime,
        /// Nodes whose own probes came in lately.
        hears: Vec<u64>,
    },
    /// Your reports are in my history.
    Kept,
    /// Who I am.
    Hello(Hello),
    /// How far I have come.
    Standing {
        /// In full.
        standing: Box<NodeStanding>,
        /// The state hash asked for, while it is remembered.
        hash: Option<Hash>,
    },
    /// What I present and trust; none where nothing is encrypted.
    Credentials(Option<Box<Credentials>>),
    /// Who answers me, and how far each has come; nothing of either where I do not lead.
    Members(Vec<Progress>),
}

/// How far a member has come, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which.
    pub node: u64,
    /// Highest index known to be on its disk.
    pub matched: Option<u64>,
    /// How long ago it last answered.
    pub answered: Option<Millis>,
}

/// Why a forwarded proposal has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failed {
    /// Another node leads now.
    NotLeader {
        /// Which.
        leader: u64,
    },
    /// Nobody does.
    NoLeader,
    /// Too much is waiting.
    Overloaded,
    /// It does not fit a log entry.
    TooLarge {
        /// How so.
        why: String,
    },
    /// It may have happened.
    OutcomeUnknown,
    /// The leader is going down.
    Stopped,
    /// Its disk is full.
    NoSpace {
        /// Which, and how full.
        why: String,
    },
    /// It may not be forwarded, or its actor may not.
    Refused {
        /// Why.
        why: String,
    },
}

/// What a node says of itself before and after founding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its number.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// The id in its certificate.
    pub name: String,
    /// Whether its disk holds no log.
    pub empty: bool,
    /// The cluster it belongs to, once founded.
    pub cluster: Option<ClusterId>,
    /// The id of its disk.
    #[serde(default)]
    pub disk: Option<u64>,
    /// Cluster versions that its program takes part in.
    #[serde(default)]
    pub versions: Versions,
}

impl Forwarded {
    /// Wraps a proposal.
    pub fn propose(Proposal { actor, via: _, request, command }: Proposal) -> Self {
        Self::Propose(Box::new(Propose { actor, request, command }))
    }
}

impl Progress {
    fn of(member: &MemberView) -> Self {
        Self { node: member.node, matched: member.matched, answered: member.answered }
    }
}

impl Reply {
    /// The answer to a proposal.
    ///
    /// # Errors
    /// Why there is none.
    pub fn committed(self) -> Result<Committed, ApiError> {
        match self {
            Self::Committed { index, stamp, answer } => Ok(Committed { index, stamp, answer }),
            Self::Failed(failed) => Err(match failed {
                Failed::NotLeader { leader } => ApiError::Elsewhere { node: leader, api: None },
                Failed::NoLeader => ApiError::NoLeader,
                Failed::NoSpace { why } => ApiError::NoSpace { why },
                Failed::Overloaded => ApiError::Overloaded,
                Failed::TooLarge { why } => ApiError::bad(why),
                Failed::OutcomeUnknown => ApiError::OutcomeUnknown,
                // Another leader will be found by trying again.
                Failed::Stopped => ApiError::NoLeader,
                Failed::Refused { why } => ApiError::forbidden(why),
            }),
            Self::Pong { .. }
            | Self::Kept
            | Self::Hello(_)
            | Self::Standing { .. }
            | Self::Credentials(_)
            | Self::Members(_) => Err(ApiError::OutcomeUnknown),
        }
    }
}

impl From<ProposeError> for Failed {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader },
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::NoSpace { why } => Self::NoSpace { why },
            ProposeError::Overloaded => Self::Overloaded,
            ProposeError::TooLarge { why } => Self::TooLarge { why },
            ProposeError::OutcomeUnknown => Self::OutcomeUnknown,
            ProposeError::Stopped => Self::Stopped,
        }
    }
}

/// Asks another node.
///
/// # Errors
/// Nothing was done, or it is not known whether it was.
pub async fn ask(
    log: &dyn Log,
    to: u64,
    message: &Forwarded,
    ttl: Duration,
) -> Result<Reply, ApiError> {
    let body = encode(message)?;
    match log.forward(to, body, ttl).await {
        Ok(reply) => decode(&reply).map_err(|_| ApiError::OutcomeUnknown),
        Err(CallError::Unreachable) => Err(ApiError::NoLeader),
        Err(CallError::TimedOut) => Err(ApiError::OutcomeUnknown),
        Err(CallError::Refused(why)) => Err(ApiError::forbidden(format!("node {to}: {why}"))),
    }
}

fn encode<T: Serialize>(message: &T) -> Result<Bytes, ApiError> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, message)
        .map_err(|e| ApiError::Internal { why: format!("cannot write a message: {e}") })?;
    Ok(bytes.into())
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, json)) => serde_json::from_slice(json).map_err(|e| e.to_string()),
        Some((version, _)) => Err(format!("message version {version} is not known here")),
        None => Err("an empty message".to_owned()),
    }
}

/// Whether a command may reach the leader through another node.
pub fn may_travel(command: &Command) -> bool {
    match command {
        Command::Found(_)
        | Command::OpenSession(_)
        | Command::Renew(_)
        | Command::EndSession(_)
        | Command::Release(_)
        | Command::Handover(_)
        | Command::RequestPromotion(_)
        | Command::Cancel(_)
        | Command::Report(_)
        | Command::Pause(_)
        | Command::Unpause(_)
        | Command::OpenReview(_)
        | Command::DecideReview(_)
        | Command::SetClusterVersion(_)
        | Command::ProposeRules(_)
        | Command::CancelRules(_)
        | Command::Restore(_)
        | Command::SetSeat(_)
        | Command::LeaveSeat(_)
        | Command::PreferLeader(_)
        | Command::TurnedAway(_) => true,
        Command::Approve(_)
        | Command::Deny(_)
        | Command::ApproveRules(_)
        | Command::DenyRules(_)
        | Command::Reserve(_)
        | Command::Grant(_)
        | Command::StepStarted(_)
        | Command::StepDone(_)
        | Command::StepFailed(_)
        | Command::Rollback(_)
        | Command::SetLink(_)
        | Command::Tick => false,
    }
}

/// Whether an actor may ask for a command at all. The machine checks what depends on its state; this
/// checks who.
///
/// # Errors
/// What the actor lacks.
pub fn authorize(machine: &Machine, actor: &Actor, command: &Command) -> Result<(), ApiError> {
    let own = |worker: &str| match actor {
        Actor::Worker(id) if id == worker => Ok(()),
        Actor::Worker(id) => {
            Err(ApiError::forbidden(format!("worker {id} may not act for worker {worker}")))
        }
        _ => check(actor, machine, Need::Worker, None, None),
    };
    let role = |role, scope, region| check(actor, machine, Need::Role(role), scope, region);
    match command {
        Command::OpenSession(c) => own(&c.session.worker),
        Command::Renew(c) => own(&c.session.worker),
        Command::EndSession(c) => own(&c.session.worker),
        Command::Release(c) => own(&c.session.worker),
        Command::Handover(c) => own(&c.session.worker),
        Command::Found(c) => match actor {
            Actor::Person(id)
                if c.config.people.get(id).is_some_and(|p| p.has(Role::Admin, None, None)) =>
            {
                Ok(())
            }
            _ => Err(ApiError::not_allowed(actor, Role::Admin)),
        },
        Command::RequestPromotion(c) => role(Role::Operator, Some(&c.scope), Some(&c.to)),
        Command::Approve(c) => promotion_role(machine, actor, c.promotion, Role::Approver),
        Command::Deny(c) => promotion_role(machine, actor, c.promotion, Role::Approver),
        Command::Cancel(c) => promotion_role(machine, actor, c.promotion, Role::Operator),
        Command::Pause(c) => role(Role::Operator, Some(&c.scope), None),
        Command::Unpause(c) => role(Role::Operator, Some(&c.scope), None),
        Command::OpenReview(c) => role(Role::Operator, Some(&c.scope), None),
        Command::DecideReview(_) => role(Role::Approver, None, None),
        Command::SetClusterVersion(_)
        | Command::ProposeRules(_)
        | Command::SetSeat(_)
        | Command::LeaveSeat(_)
        | Command::PreferLeader(_) => role(Role::Admin, None, None),
        Command::ApproveRules(_) | Command::DenyRules(_) => role(Role::Approver, None, None),
        Command::CancelRules(_) => role(Role::Operator, None, None),
        // The machine holds them to the backup's own people.
        Command::Restore(_) => match actor {
            Actor::Person(_) => Ok(()),
            _ => Err(ApiError::not_allowed(actor, Role::Admin)),
        },
        Command::Report(c) => match actor {
            Actor::Node(id)
                if machine
                    .cluster()
                    .is_none_or(|cluster| cluster.config.region_of(*id) == Some(&c.region)) =>
            {
                Ok(())
            }
            _ => Err(ApiError::forbidden(format!("{actor} may not report for {}", c.region))),
        },
        Command::TurnedAway(_) => match actor {
            Actor::Node(_) => Ok(()),
            _ => Err(ApiError::forbidden(format!("{actor} is not a node"))),
        },
        Command::Reserve(_)
        | Command::Grant(_)
        | Command::StepStarted(_)
        | Command::StepDone(_)
        | Command::StepFailed(_)
        | Command::Rollback(_)
        | Command::SetLink(_)
        | Command::Tick => match actor {
            Actor::Controller => Ok(()),
            _ => Err(ApiError::forbidden(format!("{actor} is not the controller"))),
        },
    }
}

/// Roles for a promotion are those for its scope and target.
fn promotion_role(
    machine: &Machine,
    actor: &Actor,
    id: cryptorun_core::promotion::PromotionId,
    role: Role,
) -> Result<(), ApiError> {
    let promotion = machine.promotions().get(&id);
    let (scope, region) = (promotion.map(|p| &p.scope), promotion.map(|p| &p.to));
    check(actor, machine, Need::Role(role), scope, region)
}

/// The leader's side, and every node's answer to pings and hellos.
pub struct Answerer(pub Api);

#[async_trait]
impl ForwardHandler for Answerer {
    async fn forwarded(&self, from: u64, body: Bytes) -> Bytes {
        let reply = match decode::<Forwarded>(&body) {
            Ok(message) => self.answer(from, message).await,
            Err(why) => Reply::Failed(Failed::Refused { why }),
        };
        // A reply that cannot be written is an answer that did not come.
        encode(&reply).unwrap_or_default()
    }
}

impl Answerer {
    /// Another node's reports of a time without a quorum: its own alone.
    fn keep_late(&self, from: u64, reports: Vec<OwnReport>) -> Reply {
        let region = self.0.look(|machine, _| machine.cluster()?.config.region_of(from).cloned());
        if reports.iter().any(|report| Some(&report.region) != region.as_ref()) {
            let why = format!("node {from} may report for its own region alone");
            return Reply::Failed(Failed::Refused { why });
        }
        let at = self.0.parts().platform.clock.wall();
        for report in reports {
            let line = Line { at, what: What::Late(Box::new(report)) };
            if let Err(error) = self.0.parts().history.append(&line) {
                tracing::warn!(%error, "late reports are not recorded");
                return Reply::Failed(Failed::NoSpace { why: error.to_string() });
            }
        }
        Reply::Kept
    }

    async fn answer(&self, from: u64, message: Forwarded) -> Reply {
        let parts = self.0.parts();
        match message {
            Forwarded::Ping => {
                self.0.hear(from);
                Reply::Pong { wall: parts.platform.clock.wall(), hears: self.0.hears() }
            }
            Forwarded::Late(reports) => self.keep_late(from, reports),
            Forwarded::Hello => Reply::Hello(self.0.hello()),
            Forwarded::Standing { hash_at } => Reply::Standing {
                standing: Box::new(self.0.standing()),
                hash: hash_at.and_then(|index| parts.log.state_hash_at(index)),
            },
            Forwarded::Credentials => Reply::Credentials(self.0.own_credentials().map(Box::new)),
            Forwarded::Members => {
                let members = parts.log.members().into_iter();
                Reply::Members(members.map(|m| Progress::of(&m)).collect())
            }
            Forwarded::Propose(propose) => match self.admit(from, &propose) {
                Ok(()) => self.propose(from, *propose).await,
                Err((reason, why)) => {
                    self.turn_away(from, &propose, reason, &why);
                    Reply::Failed(Failed::Refused { why })
                }
            },
        }
    }

    /// Counted, logged, and told to the audit as the node's doing: in whose name it came is its word.
    fn turn_away(&self, from: u64, propose: &Propose, reason: &'static str, why: &str) {
        let Propose { actor, command, .. } = propose;
        self.0.parts().metrics.forwards_refused_total.inc([reason]);
        tracing::warn!(from, %actor, reason, "a forwarded command was turned away");
        let subject = command.subject().unwrap_or_else(|| "cluster".to_owned());
        let text = format!("{reason}: {} in the name of {actor}: {why}", command.as_str());
        self.0.turn_away(Actor::Node(from), &subject, &text);
    }

    /// Whether a node may bring this in that actor's name: a label for the counter, and the text.
    fn admit(&self, from: u64, propose: &Propose) -> Result<(), (&'static str, String)> {
        let Propose { actor, command, .. } = propose;
        if !may_travel(command) {
            let text = "this is verified at the leader alone and may not be forwarded";
            return Err(("leader_only", text.to_owned()));
        }
        match actor {
            Actor::Node(id) if *id != from => {
                return Err(("other_node", format!("node {from} may not speak for node {id}")));
            }
            Actor::Controller | Actor::Time => {
                return Err(("controller", format!("node {from} is not the controller")));
            }
            Actor::Node(_) | Actor::Person(_) | Actor::Service(_) | Actor::Worker(_) => {}
        }
        self.0
            .look(|machine, _| authorize(machine, actor, command))
            .map_err(|error| ("not_allowed", error.to_string()))
    }

    async fn propose(&self, from: u64, propose: Propose) -> Reply {
        let Propose { actor, request, command } = propose;
        let proposal = Proposal { actor, via: Some(from), request, command };
        match self.0.parts().log.propose(proposal).await {
            Ok(Committed { index, stamp, answer }) => Reply::Committed { index, stamp, answer },
            Err(error) => Reply::Failed(error.into()),
        }
    }
}
