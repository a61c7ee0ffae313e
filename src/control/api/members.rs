//! Who belongs to the cluster: joining, leaving, taking another's place.
//!
//! A node follows first and votes once it has what the others have. A replacement is one change: at no
//! moment do fewer decide than before. Asking again goes on where an earlier attempt stopped.
//!
//! What always holds: nobody is taken out when those who are left would not be enough to decide.

use super::founding::{ASK_AGAIN, address};
use super::{Api, check, region_named};
use crate::caller::{Caller, Need};
use crate::forward::Hello;
use crate::log::{ChangeError, MemberAddress};
use crate::problem::ApiError;
use cryptorun_core::command::{Command, LeaveSeat};
use cryptorun_core::people::Role;
use cryptorun_core::restore::Seat;
use cryptorun_core::wire::{Accepted, AddMemberRequest};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a new member may take to catch up before it votes.
const CATCH_UP: Duration = Duration::from_secs(90);
/// How long a new member may take to be found.
const MEET: Duration = Duration::from_secs(15);

impl Api {
    /// `POST /v1/cluster/members`: at the leader only.
    pub async fn add_member(
        &self,
        caller: &Caller,
        request: AddMemberRequest,
    ) -> Result<Accepted, ApiError> {
        check(self, caller, Need::Role(Role::Admin))?;
        self.leader_only()?;
        let region = self.look(|machine, _| region_named(machine, &request.region))?;
        let seat = Seat {
            region: region.clone(),
            node: request.node,
            raft: request.raft,
            api: request.api,
        };
        let member = self.log().members().into_iter().find(|m| m.node == seat.node);
        if member.as_ref().is_none_or(|member| !member.voter) {
            let joined = member.and_then(|member| member.at.disk);
            self.fits_beside(&seat, request.replaces)?;
            self.follow_and_vote(&seat, joined, request.replaces).await?;
        }
        // The log says who stands in a region from here on; asked again, it says so again.
        let accepted = self.submit_accepted(caller, None, Command::SetSeat(seat)).await?;
        tracing::info!(actor = %caller.actor, node = request.node, %region, "a member was added");
        Ok(accepted)
    }

    /// A region has one node: another may come only in its place.
    fn fits_beside(&self, seat: &Seat, replaces: Option<u64>) -> Result<(), ApiError> {
        let members = self.log().members();
        if let Some(old) = replaces {
            let Some(member) = members.iter().find(|member| member.node == old) else {
                return Err(ApiError::bad(format!("node {old} is no member, so none is replaced")));
            };
            if member.at.region != seat.region {
                return Err(ApiError::bad(format!(
                    "node {old} stands in {}, and the new one in {}",
                    member.at.region, seat.region
                )));
            }
        }
        let there = members.iter().find(|member| {
            member.at.region == seat.region
                && member.node != seat.node
                && Some(member.node) != replaces
        });
        match there {
            None => Ok(()),
            Some(other) => Err(ApiError::Conflict {
                why: format!(
                    "node {} stands in {}; to put node {} in its place: cryptorun cluster replace \
                     --old {} --node {} …",
                    other.node, seat.region, seat.node, other.node, seat.node
                ),
            }),
        }
    }

    async fn follow_and_vote(
        &self,
        seat: &Seat,
        joined: Option<u64>,
        replaces: Option<u64>,
    ) -> Result<(), ApiError> {
        let hello = self.meet(seat).await?;
        // One that has begun to follow is not empty any more, and is the one that began.
        let begun = joined.is_some() && hello.disk == joined;
        if hello.region != seat.region || !(hello.empty || begun) {
            return Err(ApiError::Conflict {
                why: format!(
                    "node {} of {} has {} disk; a new member comes with an empty one, in {}",
                    hello.node,
                    hello.region,
                    if hello.empty { "an empty" } else { "a used" },
                    seat.region
                ),
            });
        }
        self.speaks_our_version(&hello)?;
        let conflict = |error: ChangeError| ApiError::Conflict { why: error.to_string() };
        if !begun {
            self.log().add_learner(seat.node, address(seat, &hello)).await.map_err(conflict)?;
        }
        self.caught_up(seat.node).await?;
        match replaces {
            None => self.log().promote(seat.node).await.map_err(conflict),
            Some(old) => self.log().replace(old, seat.node).await.map_err(conflict),
        }
    }

    /// Finds the node at the address it was named with.
    async fn meet(&self, seat: &Seat) -> Result<Hello, ApiError> {
        self.parts().neighbours.meet(seat.node, &MemberAddress::said(seat));
        let asking = async {
            loop {
                match self.hello_of(seat.node).await {
                    Some(hello) => break hello,
                    None => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        };
        tokio::time::timeout(MEET, asking).await.map_err(|_| ApiError::NotReady {
            why: format!(
                "node {} does not answer at {} within {} s; is it up, and are this cluster's nodes \
                 among its peers?",
                seat.node,
                seat.raft,
                MEET.as_secs()
            ),
        })
    }

    fn speaks_our_version(&self, hello: &Hello) -> Result<(), ApiError> {
        let version = self.look(|machine, _| machine.cluster().map_or(0, |c| c.version));
        let versions = hello.versions;
        if (versions.min..=versions.max).contains(&version) {
            return Ok(());
        }
        Err(ApiError::Conflict {
            why: format!(
                "node {} takes part in cluster versions {} to {}, and this cluster is at {version}",
                hello.node, versions.min, versions.max
            ),
        })
    }

    async fn caught_up(&self, node: u64) -> Result<(), ApiError> {
        let target = *self.log().applied().borrow();
        let matched = || {
            let members = self.log().members();
            members.iter().find(|m| m.node == node).and_then(|m| m.matched)
        };
        let catching = async {
            while matched().is_none_or(|at| at < target) {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::time::timeout(CATCH_UP, catching).await.map_err(|_| ApiError::NotReady {
            why: format!(
                "node {node} follows and has come to {} of {target}; ask again to give it its vote",
                matched().unwrap_or(0)
            ),
        })
    }

    /// `DELETE /v1/cluster/members/{node}`: at the leader only.
    pub async fn remove_member(&self, caller: &Caller, node: u64) -> Result<Accepted, ApiError> {
        check(self, caller, Need::Role(Role::Admin))?;
        self.leader_only()?;
        let members = self.log().members();
        let Some(member) = members.iter().find(|member| member.node == node) else {
            return Err(ApiError::not_found(format!("node {node} is no member")));
        };
        if member.voter {
            self.enough_without(node)?;
        }
        if node == self.log().node() {
            return Err(ApiError::Conflict {
                why: format!(
                    "node {node} leads; hand over first: cryptorun cluster transfer-leader --to …"
                ),
            });
        }
        let removed = self.log().remove(node).await;
        removed.map_err(|error| ApiError::Conflict { why: error.to_string() })?;
        tracing::info!(actor = %caller.actor, node, "a member was removed");
        let left = LeaveSeat { region: member.at.region.clone(), node };
        self.submit_accepted(caller, None, Command::LeaveSeat(left)).await
    }

    /// Whether those who stay and answer are more than half of those who stay.
    fn enough_without(&self, node: u64) -> Result<(), ApiError> {
        let members = self.log().members();
        let staying: BTreeSet<u64> =
            members.iter().filter(|m| m.voter && m.node != node).map(|m| m.node).collect();
        let own = self.log().node();
        let answering = members
            .iter()
            .filter(|m| staying.contains(&m.node))
            .filter(|m| m.node == own || m.answered.is_some())
            .count();
        if answering * 2 > staying.len() {
            return Ok(());
        }
        Err(ApiError::Conflict {
            why: format!(
                "without node {node} {} would vote and {answering} of them answer: nothing could be \
                 decided any more; replace the one that does not answer instead",
                staying.len()
            ),
        })
    }
}
