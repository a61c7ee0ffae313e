//! One lab of a scenario: up, looked at, down with nothing left behind.

use crate::Arguments;
use crate::verdict::Verdicts;
use cryptorun_core::position::Position;
use cryptorun_core::promotion::{PromotionId, State};
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_core::time::Millis;
use cryptorun_core::token::Token;
use cryptorun_core::wire::{Consistency, Journal, PartitionState, PromotionStatus, Status};
use cryptorun_lab::demo::layout::{Lab, Site};
use cryptorun_lab::demo::operator::{Operator, Said};
use cryptorun_lab::demo::report::Teller;
use cryptorun_lab::demo::stages::{self, People, is_level, sight, warm};
use cryptorun_lab::demo::{DemoOptions, REQUESTS_PER_SECOND};
use cryptorun_lab::http;
use cryptorun_lab::netns::Namespaces;
use cryptorun_lab::protocol::{KillSignal, ProcessState, ProcessStatus, VenueStatus};
use cryptorun_platform::clock::{BootTime, Clock, SystemClock};
use rustix::process::{Pid, test_kill_process};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(100);
/// Everything within target again after whatever was done to it.
pub const LEVEL_WITHIN: Millis = Millis::secs(60);
/// A health port answers from memory.
const HEALTH_WITHIN: Duration = Duration::from_millis(1500);
/// Sinks whose ends differ by no more than what is under way are level.
const RECORDS_APART: u64 = 3;
/// Reports come once a second at most, or every five when nothing changes.
const REPORT_AGE_MAX: Millis = Millis::secs(6);

/// Why a scenario cannot go on.
#[derive(Debug)]
pub struct Trouble(String);

impl Trouble {
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text.push_str(&format!(": {inner}"));
            cause = inner.source();
        }
        Self(text)
    }
}

pub fn now() -> BootTime {
    SystemClock.boot()
}

pub fn since(then: BootTime) -> Millis {
    (now() - then).into()
}

/// Until `span` after `then`.
pub async fn until_after(then: BootTime, span: Millis) {
    tokio::time::sleep(span.to_duration().saturating_sub(now() - then)).await;
}

/// How times and bounds differ from the demo's.
#[derive(Clone, Default)]
pub struct Wish {
    /// Lines for `limits:` of `cluster.yaml`.
    pub limits: &'static [(&'static str, &'static str)],
    /// Requests a second of one person; by default what the demo allows.
    pub requests_per_second: Option<u32>,
    /// A namespace for each region.
    pub namespaces: Option<Namespaces>,
    /// How often primaries seal a batch; by default as the demo does.
    pub seal_every: Option<&'static str>,
    /// What else is done to a lab before anything of it is started.
    pub equip: Option<Equip>,
}

pub type Equip = Rc<dyn Fn(&mut Lab) -> Result<(), Trouble>>;

pub struct World {
    pub lab: Lab,
    pub people: People,
    pub options: DemoOptions,
    keep: bool,
}

/// What is true before an act, to tell afterwards what it changed.
#[derive(Clone, Debug)]
pub struct Before {
    pub at: BootTime,
    pub status: Status,
    pub promotions: Vec<PromotionId>,
    pub audit: u64,
}

impl Before {
    pub fn token(&self, scope: &ScopeId) -> Token {
        stages::scope_of(&self.status, scope).map(|s| s.token).unwrap_or_default()
    }

    pub fn holder(&self, scope: &ScopeId) -> Option<String> {
        stages::scope_of(&self.status, scope)?.holder.as_ref().map(ToString::to_string)
    }

    fn newest(&self, scope: &ScopeId) -> u64 {
        ends(&self.status, scope).map(|end| end.seq).max().unwrap_or(0)
    }
}

fn ends<'a>(status: &'a Status, scope: &ScopeId) -> impl Iterator<Item = Position> + use<'a> {
    stages::scope_of(status, scope).into_iter().flat_map(|s| s.regions.values().map(|r| r.end))
}

pub fn warm_eu() -> ScopeId {
    ScopeId::new(Tier::Warm, "eu")
}

impl World {
    /// A lab of its own, with everything level.
    pub async fn up(arguments: &Arguments, name: &str, wish: &Wish) -> Result<Self, Trouble> {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let data = match &arguments.data {
            Some(data) => data.join(&name),
            None => std::env::temp_dir()
                .join(format!("cryptorun-scenarios-{}", std::process::id()))
                .join(&name),
        };
        let program = arguments.program.canonicalize().map_err(|error| {
            Trouble::new(format!("cannot find {}: {error}", arguments.program.display()))
        })?;
        let options = DemoOptions {
            fast: !arguments.real_times,
            hold: true,
            setup_only: true,
            data,
            rtt: None,
            json: true,
            live: false,
            frames: None,
            requests_per_second: wish.requests_per_second.unwrap_or(REQUESTS_PER_SECOND),
            base_port: arguments.base_port,
            program,
            namespaces: wish.namespaces.clone(),
        };
        let mut lab = Lab::prepare(&options).await?;
        if !wish.limits.is_empty() {
            adjust(&lab.folder.join("cluster.yaml"), wish)?;
        }
        if let Some(every) = wish.seal_every {
            for site in &lab.sites {
                let path = lab.folder.join(format!("{}.yaml", site.worker_process()));
                let usual = format!("seal_every: {}ms", options.seal_every().0);
                let text = std::fs::read_to_string(&path)?;
                std::fs::write(path, text.replace(&usual, &format!("seal_every: {every}")))?;
            }
        }
        if let Some(equip) = &wish.equip {
            equip(&mut lab)?;
        }
        let mut teller = Teller::new(true, String::new(), Vec::new());
        match stages::bring_up(&lab, &options, &mut teller).await {
            Ok(people) => Ok(Self { lab, people, options, keep: arguments.keep }),
            Err(error) => {
                let logs = lab.folder.join("logs");
                lab.stop().await;
                let Trouble(error) = error.into();
                Err(Trouble::new(format!("{error}; logs: {}", logs.display())))
            }
        }
    }

    /// Stops everything and judges that nothing is left. The folder goes when all went well.
    pub async fn down(self, verdicts: &mut Verdicts) {
        let pids: Vec<(String, i32)> = self
            .lab
            .supervisor
            .status()
            .into_iter()
            .filter_map(|process| Some((process.name, process.pid?)))
            .collect();
        self.lab.stop().await;
        let alive: Vec<&str> = pids
            .iter()
            .filter(|(_, pid)| {
                Pid::from_raw(*pid).is_some_and(|pid| test_kill_process(pid).is_ok())
            })
            .map(|(name, _)| name.as_str())
            .collect();
        let text = match alive.is_empty() {
            true => format!("{} processes stopped", pids.len()),
            false => format!("still there: {}", alive.join(", ")),
        };
        verdicts.check("no process is left behind", alive.is_empty(), text);
        if verdicts.case_is_clean() && !self.keep {
            let _ = std::fs::remove_dir_all(&self.lab.folder);
        } else {
            verdicts.note(format!("logs: {}", self.lab.folder.join("logs").display()));
        }
    }

    pub fn ana(&self) -> &Operator {
        &self.people.ana
    }

    pub fn site(&self, region: &str) -> Result<&Site, Trouble> {
        self.lab.site(region).ok_or_else(|| Trouble::new(format!("no region {region}")))
    }

    /// Looks until `see` finds what it wants; what was last seen is in the error.
    pub async fn until<T>(
        &self,
        what: &str,
        within: Millis,
        mut see: impl AsyncFnMut(&Self) -> Result<Option<T>, String>,
    ) -> Result<T, Trouble> {
        let begun = now();
        let mut seen = String::from("nothing");
        loop {
            match see(self).await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(why) => seen = why,
            }
            if since(begun) > within {
                return Err(Trouble::new(format!(
                    "{what}: not within {within}; last seen: {seen}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A status that a quorum confirmed, whoever answers.
    pub async fn status(&self) -> Result<Status, Trouble> {
        self.until("a status", Millis::secs(20), async |world| world.ana().status().await.map(Some))
            .await
    }

    pub async fn before(&self) -> Result<Before, Trouble> {
        let status = self.status().await?;
        let promotions = self.promotions().await?.iter().map(|p| p.promotion.id).collect();
        let audit = self.audit_end().await?;
        Ok(Before { at: now(), status, promotions, audit })
    }

    pub async fn promotions(&self) -> Result<Vec<PromotionStatus>, Trouble> {
        self.until("the promotions", Millis::secs(20), async |world| {
            world.ana().promotions().await.map(Some)
        })
        .await
    }

    pub async fn promotion(&self, id: PromotionId) -> Result<PromotionStatus, Trouble> {
        let found = self.promotions().await?.into_iter().find(|p| p.promotion.id == id);
        found.ok_or_else(|| Trouble::new(format!("{id} is not there")))
    }

    pub async fn audit_end(&self) -> Result<u64, Trouble> {
        let page = self
            .until("the audit", Millis::secs(20), async |world| world.ana().audit().await.map(Some))
            .await?;
        Ok(page.end.seq)
    }

    /// Audit entries behind `after`.
    pub async fn audited(
        &self,
        after: u64,
    ) -> Result<Vec<cryptorun_core::audit::AuditEntry>, Trouble> {
        let page = self
            .until("the audit", Millis::secs(20), async |world| world.ana().audit().await.map(Some))
            .await?;
        Ok(page.entries.into_iter().filter(|entry| entry.seq > after).collect())
    }

    /// Journals of a scope's sinks, by region.
    pub async fn journals(&self, scope: &ScopeId) -> Result<BTreeMap<String, Journal>, Trouble> {
        let mut journals = BTreeMap::new();
        for site in &self.lab.sites {
            if *scope == warm_eu() && site.name != "eu-west-1" {
                continue;
            }
            let worker = site.worker_api.to_string();
            let journal = self
                .until("a journal", Millis::secs(20), async |world| {
                    world.ana().journal(&worker, scope).await.map(Some)
                })
                .await?;
            journals.insert(site.name.to_owned(), journal);
        }
        Ok(journals)
    }

    /// What a node or a worker says of its own quorum.
    pub async fn partition(&self, health: SocketAddr) -> Result<PartitionState, String> {
        http::get(health, "/partition", HEALTH_WITHIN).await.map_err(|e| e.to_string())
    }

    /// Everything answers, follows, grows and is within target; by fresh facts alone.
    pub async fn look(&self, before: &Before) -> Result<Status, String> {
        for process in self.lab.supervisor.status() {
            if process.pid.is_none() {
                return Err(format!("{} does not run", process.name));
            }
        }
        let status = self.ana().status().await?;
        if !is_level(&status) {
            return Err(sight(&status));
        }
        if status.at.voters_up != status.at.voters {
            return Err(format!("{} of {} voters", status.at.voters_up, status.at.voters));
        }
        for scope in &status.scopes {
            for (region, sink) in &scope.regions {
                let fresh = Millis(since(before.at).0.min(REPORT_AGE_MAX.0));
                if sink.reported.is_none_or(|age| age > fresh) {
                    return Err(format!("no fresh report of {} in {region}", scope.scope));
                }
            }
            let seqs: Vec<u64> = ends(&status, &scope.scope).map(|end| end.seq).collect();
            let (least, most) = (seqs.iter().min(), seqs.iter().max());
            let apart = most.zip(least).map_or(0, |(most, least)| most - least);
            if apart > RECORDS_APART {
                return Err(format!("{} sinks {apart} records apart", scope.scope));
            }
            let was = before.newest(&scope.scope);
            if least.is_none_or(|least| *least <= was) {
                return Err(format!("{} at {seqs:?}, was at {was}", scope.scope));
            }
            if let Some(seq) = diverged(ends(&status, &scope.scope)) {
                return Err(format!("{} DIVERGED at record {seq}", scope.scope));
            }
        }
        self.feeds_live().await?;
        self.everyone_answers().await?;
        Ok(status)
    }

    async fn feeds_live(&self) -> Result<(), String> {
        for region in self.ana().regions().await? {
            let live = region.report.as_ref().is_some_and(|report| {
                !report.feeds.is_empty() && report.feeds.values().all(|feed| feed.live)
            });
            if !live || region.reported.is_none_or(|age| age > REPORT_AGE_MAX) {
                return Err(format!("no live feed is reported in {}", region.region));
            }
        }
        Ok(())
    }

    async fn everyone_answers(&self) -> Result<(), String> {
        for site in &self.lab.sites {
            let at = |what: &str| format!("{what} of {}", site.name);
            let api = site.node_api.to_string();
            self.ana()
                .cluster_at(&api, Consistency::Stale)
                .await
                .map_err(|e| format!("{}: {e}", at("node")))?;
            for (who, health) in [("node", site.node_health), ("worker", site.worker_health)] {
                let state =
                    self.partition(health).await.map_err(|e| format!("{}: {e}", at(who)))?;
                if state.partition_mode {
                    return Err(format!("{} is in partition mode", at(who)));
                }
            }
            let api = site.worker_api.to_string();
            self.ana()
                .journal(&api, &warm())
                .await
                .map_err(|e| format!("{}: {e}", at("worker")))?;
        }
        if let Some(venue) = self.lab.venue_control {
            http::get::<VenueStatus>(venue, "/status", HEALTH_WITHIN)
                .await
                .map_err(|e| format!("venue: {e}"))?;
        }
        Ok(())
    }

    /// Waits until all is level again; how long after `before` that was.
    pub async fn level_again(&self, before: &Before, within: Millis) -> Result<Millis, Trouble> {
        self.until("all within target", within, async |world| world.look(before).await.map(Some))
            .await?;
        Ok(since(before.at))
    }

    /// Asks for a switchover and has a second person agree; its number. The request is repeated
    /// while the cluster has no leader, as a person would.
    pub async fn ask_switchover(&self, to: &str) -> Result<PromotionId, Trouble> {
        let known: Vec<_> = self.promotions().await?.iter().map(|p| p.promotion.id).collect();
        let words = [
            "replication",
            "switchover",
            "--tier",
            "warm",
            "--to",
            to,
            "--execute",
            "--reason",
            "scenario",
        ];
        let said = self.types(self.ana(), &words, &[6]).await?;
        let newest = self.promotions().await?.into_iter().map(|p| p.promotion.id).max();
        newest
            .filter(|id| !known.contains(id))
            .ok_or_else(|| Trouble::new(format!("no request after: {}{}", said.out, said.err)))
    }

    /// Types a verb until it ends with one of these codes; 4 and 5 are tried again.
    pub async fn types(
        &self,
        who: &Operator,
        words: &[&str],
        codes: &[i32],
    ) -> Result<Said, Trouble> {
        const TRIES: usize = 10;
        for _ in 0..TRIES {
            let said = who.types(words).await?;
            match said.code {
                code if codes.contains(&code) => return Ok(said),
                4 | 5 => tokio::time::sleep(LOOK * 5).await,
                code => {
                    let text = format!("exit {code} of {words:?}\n{}{}", said.out, said.err);
                    return Err(Trouble::new(text));
                }
            }
        }
        Err(Trouble::new(format!("no answer to {words:?}")))
    }

    /// Somebody approves.
    pub async fn approve(&self, who: &Operator, id: PromotionId) -> Result<Said, Trouble> {
        let id = id.to_string();
        let words = ["replication", "approve", &id, "--yes", "--reason", "scenario"];
        self.types(who, &words, &[0, 3, 6, 7]).await
    }

    /// Waits for a promotion's end.
    pub async fn ended(&self, id: PromotionId, within: Millis) -> Result<PromotionStatus, Trouble> {
        self.until(&format!("the end of {id}"), within, async |world| {
            let found = world.ana().promotions().await?.into_iter().find(|p| p.promotion.id == id);
            match found {
                Some(p) if !p.promotion.is_open() => Ok(Some(p)),
                Some(p) if p.promotion.state == State::Waiting => {
                    Err(format!("waiting, {} more people", p.people_missing))
                }
                Some(p) => Err(format!("at {:?}", p.promotion.current())),
                None => Err("it is not there".to_owned()),
            }
        })
        .await
    }

    /// Kills a process for good, and its disk with it.
    pub async fn lose_disk(&self, process: &str) -> Result<(), Trouble> {
        self.lab.supervisor.kill(process, KillSignal::Kill, true)?;
        let down = |status: &ProcessStatus| status.state == ProcessState::Down;
        self.lab.supervisor.until(process, down).await?;
        Ok(std::fs::remove_dir_all(self.lab.folder.join(process))?)
    }

    /// Text of a process's log.
    pub fn log_of(&self, process: &str) -> String {
        let path: PathBuf = self.lab.folder.join("logs").join(format!("{process}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

/// A page of a health port, with its head.
pub async fn page(address: SocketAddr, path: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    match tokio::time::timeout(HEALTH_WITHIN, exchange).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{address} does not answer")),
    }
}

/// A record at which two chains of equal length differ.
fn diverged(ends: impl Iterator<Item = Position>) -> Option<u64> {
    let mut known: BTreeMap<u64, Position> = BTreeMap::new();
    for end in ends {
        if *known.entry(end.seq).or_insert(end) != end {
            return Some(end.seq);
        }
    }
    None
}

/// Puts lines into `limits:`, the last section of the file.
fn adjust(path: &std::path::Path, wish: &Wish) -> Result<(), Trouble> {
    let mut text = std::fs::read_to_string(path)?;
    for (key, value) in wish.limits {
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with(&format!("{key}:")))
            .collect();
        text = format!("{}\n  {key}: {value}\n", lines.join("\n"));
    }
    std::fs::write(path, text)?;
    Ok(())
}
