//! Somebody who reads a worker's candles and believes what it says of itself.

use crate::world::{Trouble, World};
use cryptorun_core::wire::Candles;
use cryptorun_lab::demo::layout::CLUSTER;
use cryptorun_platform::https::{HttpsClient, Request};
use cryptorun_platform::identity::Class;
use cryptorun_platform::tls::{Expect, TlsFiles, TlsStore};
use std::time::Duration;

/// Longer than it takes to wake a stopped worker.
const WITHIN: Duration = Duration::from_secs(5);

pub struct Reader {
    client: HttpsClient,
    endpoint: String,
}

impl Reader {
    pub fn new(world: &World, region: &str) -> Result<Self, Trouble> {
        let tls = TlsStore::load(TlsFiles::in_folder(&world.lab.identity("ana")))?;
        let client = HttpsClient::new(&tls, Expect::any_of(CLUSTER, &[Class::Worker]));
        Ok(Self { client, endpoint: world.site(region)?.worker_api.to_string() })
    }

    pub async fn candles(&self) -> Result<Candles, String> {
        let request = Request::get("/v1/warm/candles?symbol=BTC/USD&limit=1");
        let answer = self.client.send(&self.endpoint, request, WITHIN).await;
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer.body).map_err(|_| format!("status {}", answer.status))
    }

    /// What the worker says its word is worth, or why it says nothing.
    pub async fn authority(&self) -> String {
        self.candles().await.map_or_else(|why| why, |candles| candles.authority)
    }
}
