//! More than a node is meant to take: one identity asking ten times what it may, bodies beyond the
//! bound, requests that never end, connections that never speak. No lease moves, nobody is answered
//! with a 5xx, and somebody who behaves is answered as before.
//!
//! The flood shares the machine's cores with the nodes, so what it costs itself is in the figures.

use crate::Arguments;
use crate::judge;
use crate::verdict::Verdicts;
use crate::world::{Trouble, Wish, World, now, since, until_after, warm_eu};
use cryptorun_core::time::Millis;
use cryptorun_lab::demo::layout::CLUSTER;
use cryptorun_lab::demo::stages::warm;
use cryptorun_platform::clock::BootTime;
use cryptorun_platform::https::{HttpsClient, Request};
use cryptorun_platform::identity::Class;
use cryptorun_platform::tls::{ClientTls, Expect, Protocol, TlsFiles, TlsStore};
use hyper::Method;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// What one identity may ask in a second, as a node has it by default; the flood asks ten times that.
const ALLOWED_PER_SECOND: u32 = 200;
const FLOODERS: u64 = 20;
const FLOOD_EVERY: Duration = Duration::from_millis(1000 * FLOODERS / (10 * 200));
const SILENT_CONNECTIONS: usize = 200;
const ENDLESS_REQUESTS: usize = 50;
const ENDLESS_EVERY: Duration = Duration::from_secs(1);
/// Twice what a body may be.
const HUGE_BYTES: usize = 2 << 20;
const HUGE_EVERY: Duration = Duration::from_millis(250);
const GOOD_EVERY: Duration = Duration::from_millis(10);
const WITHIN: Duration = Duration::from_secs(10);
/// A good client's slowest hundredth may take so many times what it took before.
const SLOWER_AT_MOST: f64 = 2.0;
/// Below this a ratio says more about timers than about nodes.
const NOISE: Duration = Duration::from_millis(10);

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    if !arguments.wants("overload") {
        return Ok(());
    }
    verdicts.case("overload");
    let wish = Wish { requests_per_second: Some(ALLOWED_PER_SECOND), ..Wish::default() };
    let world = World::up(arguments, "overload", &wish).await?;
    let lasting = if arguments.quick { Millis::secs(10) } else { Millis::secs(30) };
    let done = case(&world, lasting, verdicts).await;
    verdicts.result("the case comes to its end", done);
    let end = judge::the_end(&world, verdicts).await;
    verdicts.result("the end", end);
    world.down(verdicts).await;
    Ok(())
}

async fn case(world: &World, lasting: Millis, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let before = world.before().await?;
    let leader = before.status.at.leader.as_ref().map(ToString::to_string).unwrap_or_default();
    let endpoint = world.site(&leader)?.node_api.to_string();
    let good = Someone::new(world, "eve", &endpoint)?;
    let bad = Someone::new(world, "ben", &endpoint)?;
    // The flood has used up what ben may ask; a body is weighed for those who may ask.
    let heavy = Someone::new(world, "ana", &endpoint)?;

    let calm = good.ask_until(after(lasting)).await?;
    let answers = RefCell::new(BTreeMap::new());
    let over = Cell::new(false);
    let storm = async {
        let held = bad.hold_silent_connections().await;
        let floods = (0..FLOODERS).map(|_| bad.flood(&answers, &over));
        let endless = (0..ENDLESS_REQUESTS).map(|_| bad.never_finish(&over));
        tokio::join!(
            futures_util::future::join_all(floods),
            futures_util::future::join_all(endless),
            heavy.send_too_much(&answers, &over),
        );
        held.len()
    };
    let measured = async {
        let stormy = good.ask_until(after(lasting)).await;
        over.set(true);
        stormy
    };
    let (held, stormy) = tokio::join!(storm, measured);
    let stormy = stormy?;

    let answers = answers.into_inner();
    let counted = |status: u16| answers.get(&status).copied().unwrap_or(0);
    let asked: u64 = answers.values().sum();
    let text = format!(
        "{asked} requests: {answers:?}; {held} silent connections, {ENDLESS_REQUESTS} endless requests"
    );
    let refused = counted(429) > counted(200) && counted(413) > 0;
    verdicts.check("what is too much is turned away", refused, &text);
    let failed: u64 = answers.iter().filter(|(status, _)| **status >= 500).map(|(_, n)| n).sum();
    verdicts.check("nobody is answered with a 5xx", failed == 0, format!("{failed} of {asked}"));
    let (calm, stormy) = (calm.p99(), stormy.p99());
    let ratio = stormy.max(NOISE).as_secs_f64() / calm.max(NOISE).as_secs_f64();
    let text = format!("{calm:.1?} before, {stormy:.1?} meanwhile, ratio {ratio:.2}");
    verdicts.check("a good client's p99 stays within 2x", ratio <= SLOWER_AT_MOST, text);

    let status = world.status().await?;
    let ran_out = world.audited(before.audit).await?;
    let ran_out = ran_out.iter().filter(|entry| entry.action == "vacant").count();
    let same = [warm(), warm_eu()].iter().all(|scope| {
        let now = cryptorun_lab::demo::stages::scope_of(&status, scope);
        now.is_some_and(|now| now.token == before.token(scope) && now.holder.is_some())
    });
    let text = format!("{ran_out} leases ran out in {}", since(before.at));
    verdicts.check("no lease moves", same && ran_out == 0, text);
    Ok(())
}

fn after(lasting: Millis) -> BootTime {
    now() + lasting.to_duration()
}

/// How long each answer took.
#[derive(Default)]
struct Took(Vec<Duration>);

impl Took {
    fn p99(&self) -> Duration {
        let mut all = self.0.clone();
        all.sort_unstable();
        all.get(all.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// A person with connections of their own.
struct Someone {
    client: HttpsClient,
    tls: Arc<ClientTls>,
    endpoint: String,
}

impl Someone {
    fn new(world: &World, name: &str, endpoint: &str) -> Result<Self, Trouble> {
        let store = TlsStore::load(TlsFiles::in_folder(&world.lab.identity(name)))?;
        let nodes = Expect::any_of(CLUSTER, &[Class::Node]);
        Ok(Self {
            client: HttpsClient::new(&store, nodes.clone()),
            tls: Arc::new(store.client(nodes, Protocol::Http)),
            endpoint: endpoint.to_owned(),
        })
    }

    /// One linearizable read after the other, at a rate that everybody may have.
    async fn ask_until(&self, end: BootTime) -> Result<Took, Trouble> {
        let mut took = Took::default();
        while now() < end {
            let begun = now();
            let answer =
                self.client.send(&self.endpoint, Request::get("/v1/status"), WITHIN).await?;
            if answer.status != 200 {
                return Err(Trouble::new(format!("a good client was answered {}", answer.status)));
            }
            took.0.push(now() - begun);
            until_after(begun, Millis(GOOD_EVERY.as_millis() as u64)).await;
        }
        Ok(took)
    }

    async fn count(&self, request: Request, answers: &RefCell<BTreeMap<u16, u64>>) {
        // A connection that was closed on what was too much is no answer; the next is a new one.
        if let Ok(answer) = self.client.send(&self.endpoint, request, WITHIN).await {
            *answers.borrow_mut().entry(answer.status.as_u16()).or_default() += 1;
        }
    }

    async fn flood(&self, answers: &RefCell<BTreeMap<u16, u64>>, over: &Cell<bool>) {
        let body = br#"{"tier":"warm","to":"us-west-2"}"#;
        while !over.get() {
            let begun = now();
            let request = Request::json(Method::POST, "/v1/promotions", body.as_slice());
            self.count(request, answers).await;
            tokio::time::sleep(FLOOD_EVERY.saturating_sub(now() - begun)).await;
        }
    }

    async fn send_too_much(&self, answers: &RefCell<BTreeMap<u16, u64>>, over: &Cell<bool>) {
        let body = vec![b' '; HUGE_BYTES];
        while !over.get() {
            let request = Request::json(Method::POST, "/v1/promotions", body.clone());
            self.count(request, answers).await;
            tokio::time::sleep(HUGE_EVERY).await;
        }
    }

    async fn hold_silent_connections(&self) -> Vec<TcpStream> {
        let mut held = Vec::new();
        for _ in 0..SILENT_CONNECTIONS {
            held.extend(TcpStream::connect(&self.endpoint).await);
        }
        held
    }

    /// A request whose head never ends.
    async fn never_finish(&self, over: &Cell<bool>) {
        let Ok(mut stream) = self.tls.dial(&self.endpoint, WITHIN).await else { return };
        let begun = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
        let mut open = begun.is_ok() && stream.flush().await.is_ok();
        while open && !over.get() {
            tokio::time::sleep(ENDLESS_EVERY).await;
            open = stream.write_all(b"a").await.is_ok() && stream.flush().await.is_ok();
        }
    }
}
