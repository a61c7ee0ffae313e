//! People at work: reads through the admin API, verbs through the command line, as they would.

use super::layout::{CLUSTER, Lab};
use super::{DemoError, PathBuf};
use bytes::Bytes;
use cryptorun_core::scope::ScopeId;
use cryptorun_core::wire::{
    AuditPage, ClusterStatus, Consistency, Explanation, Journal, PromotionStatus, RegionStatus,
    Status,
};
use cryptorun_platform::https::{HttpsClient, Request};
use cryptorun_platform::identity::Class;
use cryptorun_platform::tls::{Expect, TlsFiles, TlsStore};
use hyper::Method;
use serde::de::DeserializeOwned;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// A read may meet a node that is electing; the caller asks again.
const WITHIN: Duration = Duration::from_secs(4);
/// A verb of the command line.
const VERB_WITHIN: Duration = Duration::from_secs(120);

/// One person with their certificate.
pub struct Operator {
    name: &'static str,
    tls: Arc<TlsStore>,
    nodes: HttpsClient,
    workers: HttpsClient,
    endpoints: Vec<String>,
    identity: PathBuf,
    program: PathBuf,
}

/// How a verb ended.
pub struct Said {
    /// Exit code of `docs/cli.md`.
    pub code: i32,
    /// What it printed on stdout.
    pub out: String,
    /// What it printed on stderr.
    pub err: String,
}

impl Operator {
    /// Loads a person's certificate.
    pub fn new(lab: &Lab, name: &'static str) -> Result<Self, DemoError> {
        let identity = lab.identity(name);
        let tls = TlsStore::load(TlsFiles::in_folder(&identity))
            .map_err(|e| DemoError::cannot(format!("{name}'s certificate cannot be used"), e))?;
        Ok(Self {
            name,
            tls: Arc::clone(&tls),
            nodes: HttpsClient::new(&tls, Expect::any_of(CLUSTER, &[Class::Node])),
            workers: HttpsClient::new(&tls, Expect::any_of(CLUSTER, &[Class::Worker])),
            endpoints: lab.sites.iter().map(|site| site.node_api.to_string()).collect(),
            identity,
            program: lab.program.clone(),
        })
    }

    async fn get<A: DeserializeOwned>(
        &self,
        client: &HttpsClient,
        endpoint: &str,
        path: &str,
    ) -> Result<A, String> {
        self.look_at_files();
        let response =
            client.send(endpoint, Request::get(path), WITHIN).await.map_err(|e| e.to_string())?;
        if !response.status.is_success() {
            let body = String::from_utf8_lossy(&response.body);
            return Err(format!("{path} at {endpoint}: {} {body}", response.status));
        }
        serde_json::from_slice(&response.body).map_err(|e| format!("{path} at {endpoint}: {e}"))
    }

    /// As the command line reads them each time. What cannot be used leaves the old in use, and the
    /// next answer shows whether that is still good.
    fn look_at_files(&self) {
        let _ = self.tls.reload_if_changed();
    }

    /// A worker's answer to a read.
    pub async fn of_worker<A: DeserializeOwned>(
        &self,
        worker: &str,
        path: &str,
    ) -> Result<A, String> {
        self.get(&self.workers, worker, path).await
    }

    /// Asks the nodes in turn until one answers.
    async fn ask<A: DeserializeOwned>(&self, path: &str) -> Result<A, String> {
        let mut last = String::new();
        for endpoint in &self.endpoints {
            match self.get(&self.nodes, endpoint, path).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// One node's answer to a read.
    pub async fn get_at<A: DeserializeOwned>(
        &self,
        endpoint: usize,
        path: &str,
    ) -> Result<A, String> {
        let endpoint = self.endpoints.get(endpoint).ok_or("there is no such node")?;
        self.get(&self.nodes, endpoint, path).await
    }

    /// Asks one node to change something, under a key that makes asking again harmless.
    pub async fn post(
        &self,
        endpoint: usize,
        path: &str,
        key: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Bytes), String> {
        let endpoint = self.endpoints.get(endpoint).ok_or("there is no such node")?;
        let request = Request::json(Method::POST, path, body).header("idempotency-key", key);
        self.look_at_files();
        let answer = self.nodes.send(endpoint, request, WITHIN).await.map_err(|e| e.to_string())?;
        Ok((answer.status.as_u16(), answer.body))
    }

    pub async fn status(&self) -> Result<Status, String> {
        self.ask("/v1/status").await
    }

    pub async fn regions(&self) -> Result<Vec<RegionStatus>, String> {
        self.ask("/v1/regions").await
    }

    pub async fn promotions(&self) -> Result<Vec<PromotionStatus>, String> {
        self.ask("/v1/promotions").await
    }

    pub async fn explain(&self, tier: &str, target: &str) -> Result<Explanation, String> {
        self.ask(&format!("/v1/explain?tier={tier}&target={target}")).await
    }

    /// The audit from its first entry, page by page.
    pub async fn audit(&self) -> Result<AuditPage, String> {
        let mut all: AuditPage = self.ask("/v1/audit?from=1&limit=1000").await?;
        while all.entries.last().is_some_and(|last| last.seq < all.end.seq) {
            let from = all.entries.last().map_or(1, |last| last.seq + 1);
            let page: AuditPage = self.ask(&format!("/v1/audit?from={from}&limit=1000")).await?;
            if page.entries.is_empty() {
                break;
            }
            all.end = page.end;
            all.entries.extend(page.entries);
        }
        Ok(all)
    }

    /// One node's own view of the cluster.
    pub async fn cluster_at(
        &self,
        endpoint: &str,
        consistency: Consistency,
    ) -> Result<ClusterStatus, String> {
        let word = match consistency {
            Consistency::Linearizable => "linearizable",
            Consistency::Lease => "lease",
            Consistency::Stale => "stale",
        };
        self.get(&self.nodes, endpoint, &format!("/v1/cluster?consistency={word}")).await
    }

    /// What a worker's sink accepted and turned away.
    pub async fn journal(&self, worker: &str, scope: &ScopeId) -> Result<Journal, String> {
        self.of_worker(worker, &format!("/v1/journal?scope={scope}")).await
    }

    /// A worker's answer to a read.
    pub async fn worker_at<A: DeserializeOwned>(
        &self,
        worker: &str,
        path: &str,
    ) -> Result<A, String> {
        self.get(&self.workers, worker, path).await
    }

    /// Types a command.
    pub async fn types(&self, words: &[&str]) -> Result<Said, DemoError> {
        let file = |name: &str| self.identity.join(name);
        let child = tokio::process::Command::new(&self.program)
            .args(words)
            .env("CRYPTORUN_ENDPOINTS", self.endpoints.join(","))
            .env("CRYPTORUN_CERT", file("cert.pem"))
            .env("CRYPTORUN_KEY", file("key.pem"))
            .env("CRYPTORUN_CA", file("ca.pem"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let what = || format!("{} cannot run cryptorun {}", self.name, words.join(" "));
        let output = match tokio::time::timeout(VERB_WITHIN, child).await {
            Ok(output) => output.map_err(|e| DemoError::cannot(what(), e))?,
            Err(late) => return Err(DemoError::cannot(what(), late)),
        };
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
