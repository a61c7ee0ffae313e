//! What nodes present and trust.

use super::read::READER;
use super::{Api, check};
use crate::caller::Caller;
use crate::forward::{self, Forwarded, Reply};
use crate::problem::ApiError;
use cryptorun_core::wire::{Credentials, NodeCredentials};
use futures_util::future::join_all;
use std::time::Duration;

/// Three round trips across an ocean.
const TTL: Duration = Duration::from_millis(1500);

impl Api {
    /// `GET /v1/certs`: this process alone.
    ///
    /// # Errors
    /// The caller may not read; nothing is encrypted here.
    pub fn node_certs(&self, caller: &Caller) -> Result<Credentials, ApiError> {
        check(self, caller, READER)?;
        self.own_credentials().ok_or_else(|| ApiError::Conflict {
            why: "this node runs without certificates".to_owned(),
        })
    }

    /// `GET /v1/cluster/certs`: every member asked.
    ///
    /// # Errors
    /// The caller may not read.
    pub async fn certs(&self, caller: &Caller) -> Result<Vec<NodeCredentials>, ApiError> {
        check(self, caller, READER)?;
        let members = self.log().members();
        let asked = members.iter().map(|member| self.credentials_of(member.node));
        let answers = join_all(asked).await;
        let said = members.into_iter().zip(answers).map(|(member, answer)| {
            let (credentials, cause) = match answer {
                Ok(credentials) => (Some(credentials), None),
                Err(why) => (None, Some(why)),
            };
            NodeCredentials { node: member.node, region: member.at.region, credentials, cause }
        });
        Ok(said.collect())
    }

    pub(crate) fn own_credentials(&self) -> Option<Credentials> {
        self.parts().tls.as_ref().map(|tls| tls.credentials())
    }

    async fn credentials_of(&self, node: u64) -> Result<Credentials, String> {
        let without = || "it runs without certificates".to_owned();
        if node == self.log().node() {
            return self.own_credentials().ok_or_else(without);
        }
        match forward::ask(self.log(), node, &Forwarded::Credentials, TTL).await {
            Ok(Reply::Credentials(said)) => said.map(|said| *said).ok_or_else(without),
            Ok(Reply::Failed(failed)) => Err(format!("{failed:?}")),
            Ok(_) => Err("it does not say".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
