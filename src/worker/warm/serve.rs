//! The data port: what this worker's sinks tell the sinks of other regions.
//!
//! Only regions that the cluster names as keeping the scope are answered, and only while it does:
//! a scope whose data may not leave has no such region. A tail is served by a sealed sink alone.

use super::wire::{
    self, ANSWER_BYTES_MAX, FETCH, FetchRequest, PING, POSITION, PositionRequest, TAIL,
    TailRequest, WAIT_MS_MAX,
};
use crate::sink::{Sink, View};
use crate::standing::Standing;
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::scope::ScopeId;
use cryptorun_platform::clock::Clock;
use cryptorun_platform::identity::Class;
use cryptorun_platform::net::{Duplex, Peer, Service, ServiceError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub struct DataService {
    sinks: BTreeMap<ScopeId, Sink>,
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
}

impl DataService {
    pub fn new(
        sinks: BTreeMap<ScopeId, Sink>,
        standing: Arc<Standing>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { sinks, standing, clock }
    }

    fn sink(&self, from: &Peer, scope: &ScopeId) -> Result<&Sink, ServiceError> {
        let sink = self.sinks.get(scope).ok_or_else(|| format!("no sink of {scope} here"))?;
        let directive = self
            .standing
            .directive(scope)
            .ok_or_else(|| format!("{scope}: the cluster has not said yet who keeps it"))?;
        let keeps = directive.peers.iter().any(|peer| peer.region.as_str() == from.id.region);
        match keeps {
            true => Ok(sink),
            false => Err(format!("{scope} is not kept in {}", from.id.region).into()),
        }
    }

    async fn fetch(&self, from: &Peer, body: &Bytes) -> Result<Bytes, ServiceError> {
        let FetchRequest { scope, after, wait_ms } = wire::asked(body)?;
        let sink = self.sink(from, &scope)?;
        let mut changes = sink.watch();
        let ready = changes.wait_for(|view| view.end.seq > after.seq);
        let wait = Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
        // Empty after the wait: the asker learns where we stand.
        let _ = tokio::time::timeout(wait, ready).await;
        self.records(sink, after).await
    }

    async fn records(
        &self,
        sink: &Sink,
        after: cryptorun_core::position::Position,
    ) -> Result<Bytes, ServiceError> {
        let records = sink.read(after, ANSWER_BYTES_MAX).await.map_err(|e| e.to_string())?;
        Ok(wire::answer(&self.head(sink, &sink.view()), &records.unwrap_or_default()))
    }

    fn head(&self, sink: &Sink, view: &View) -> wire::Standing {
        wire::Standing {
            region: sink.region().clone(),
            end: view.end,
            rows: view.rows,
            sealed_at: view.last.map(|header| header.sealed_at).unwrap_or_default(),
            highest: view.highest,
            wall: self.clock.wall(),
        }
    }
}

#[async_trait]
impl Service for DataService {
    async fn call(&self, from: &Peer, kind: u8, body: Bytes) -> Result<Bytes, ServiceError> {
        if from.id.class != Class::Worker {
            return Err(format!("{} is no worker", from.id).into());
        }
        match kind {
            PING => Ok(body),
            POSITION => {
                let PositionRequest { scope } = wire::asked(&body)?;
                let sink = self.sink(from, &scope)?;
                Ok(wire::answer(&self.head(sink, &sink.view()), &[]))
            }
            FETCH => self.fetch(from, &body).await,
            TAIL => {
                let TailRequest { scope, token, after } = wire::asked(&body)?;
                let sink = self.sink(from, &scope)?;
                match sink.view().sealed {
                    Some(sealed) if sealed.token == token => self.records(sink, after).await,
                    _ => Err(format!("{scope} is not sealed under {token} here").into()),
                }
            }
            other => Err(format!("no call {other} on the data port").into()),
        }
    }

    async fn stream(&self, _from: &Peer, _kind: u8, _duplex: Duplex) {}
}
