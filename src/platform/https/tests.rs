//! Real sockets on loopback: an axum service and servers that misbehave on purpose.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::identity::Class;
use crate::listener::{Limits, MtlsIo, MtlsListener, PlainListener, serve_draining, serve_http};
use crate::net::Peer;
use crate::testkit::{CLUSTER, PATIENCE, World, until};

/// For what is meant to run out.
const BRIEF: Duration = Duration::from_millis(200);

async fn listen(store: &Arc<TlsStore>, addr: SocketAddr) -> MtlsListener {
    let expect = Expect::any_of(CLUSTER, &[Class::Node, Class::Person]);
    let tls = store.server(expect, Protocol::Http);
    MtlsListener::bind(addr, tls, Limits::default()).await.unwrap()
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

struct Served {
    endpoint: String,
    addr: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    connections: Arc<AtomicUsize>,
}

impl Served {
    async fn start(store: &Arc<TlsStore>, addr: SocketAddr) -> Self {
        let listener = listen(store, addr).await;
        let addr = listener.addr();
        let seen = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let whoami = move |ConnectInfo(peer): ConnectInfo<Peer>| async move {
            let mut seen = seen.lock().unwrap();
            seen.insert(peer.addr);
            count.store(seen.len(), Ordering::SeqCst);
            peer.id.to_string()
        };
        let app = Router::new()
            .route("/whoami", get(whoami))
            .route("/echo", post(|body: Bytes| async move { body }))
            .route("/huge", get(|| async { Body::from(vec![b'x'; BODY_BYTES_MAX + 1]) }))
            .route("/never", get(std::future::pending::<String>))
            .route("/events", get(events));
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve_draining(listener, app, stop.clone(), BRIEF));
        Self { endpoint: addr.to_string(), addr, stop, task, connections }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn events(headers: HeaderMap) -> ([(&'static str, &'static str); 1], Body) {
    let after = headers.get("last-event-id").map_or("0", |id| id.to_str().unwrap()).to_owned();
    let text = format!("id: {after}1\nevent: lease\ndata: granted\n\n: still here\n\ndata: x\n\n");
    let chunks = futures_util::stream::iter([std::io::Result::Ok(Bytes::from(text))]);
    let body = match after.as_str() {
        "0" => Body::from_stream(chunks),
        // Goes on for ever, saying nothing.
        _ => Body::from_stream(chunks.chain(futures_util::stream::pending())),
    };
    ([("content-type", "text/event-stream")], body)
}

fn client(world: &World, class: Class, name: &str) -> HttpsClient {
    HttpsClient::new(&world.store(class, name), Expect::nodes(CLUSTER))
}

#[tokio::test]
async fn handlers_see_who_asks_and_connections_are_kept() {
    let world = World::new();
    let served = Served::start(&world.store(Class::Node, "n1"), any_port()).await;
    let ana = client(&world, Class::Person, "ana");
    for _ in 0..5 {
        let answer = ana.send(&served.endpoint, Request::get("/whoami"), PATIENCE).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body, "spiffe://test.example/cryptorun/trial/person/us-east-1/ana");
    }
    assert_eq!(served.connections.load(Ordering::SeqCst), 1);
    let echo = Request::json(Method::POST, "/echo", "{\"a\":1}");
    let answer = ana.send(&served.endpoint, echo, PATIENCE).await.unwrap();
    assert_eq!(answer.body, "{\"a\":1}");
    let missing = ana.send(&served.endpoint, Request::get("/nothing"), PATIENCE).await.unwrap();
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_server_that_restarted_is_asked_again_over_a_new_connection() {
    let world = World::new();
    let store = world.store(Class::Node, "n1");
    let served = Served::start(&store, any_port()).await;
    let ana = client(&world, Class::Person, "ana");
    ana.send(&served.endpoint, Request::get("/whoami"), PATIENCE).await.unwrap();
    let (endpoint, addr) = (served.endpoint.clone(), served.addr);
    served.stop().await;
    until("the kept connection is known to be closed", || {
        ana.idle().values().flatten().all(|kept| kept.sender.is_closed())
    })
    .await;
    let gone = ana.send(&endpoint, Request::get("/whoami"), PATIENCE).await.unwrap_err();
    assert!(matches!(gone, HttpError::NotSent { cause: Cause::Dial(_), .. }), "{gone}");
    assert!(gone.is_safe_to_retry());
    assert!(gone.to_string().contains("refused"), "{gone}");

    let _again = Served::start(&store, addr).await;
    ana.send(&endpoint, Request::get("/whoami"), PATIENCE).await.unwrap();
}

/// Accepts one connection, reads one request, and does what `then` does.
async fn one_request<F>(mut listener: MtlsListener, then: impl FnOnce(MtlsIo) -> F)
where
    F: Future<Output = ()>,
{
    let (mut io, _) = listener.next().await;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(io.read_u8().await.unwrap());
    }
    then(io).await;
}

#[tokio::test]
async fn a_request_that_left_without_an_answer_is_never_called_unsent() {
    let world = World::new();
    let store = world.store(Class::Node, "n1");
    let ana = client(&world, Class::Person, "ana");

    // Closed after reading the request.
    let listener = listen(&store, any_port()).await;
    let endpoint = listener.addr().to_string();
    let close = one_request(listener, |io| async move { drop(io) });
    let (answer, ()) = tokio::join!(ana.send(&endpoint, Request::get("/"), PATIENCE), close);
    let error = answer.unwrap_err();
    assert!(matches!(error, HttpError::NoAnswer { cause: Cause::Http(_), .. }), "{error}");
    assert!(!error.is_safe_to_retry());

    // Closed in the middle of the answer.
    let listener = listen(&store, any_port()).await;
    let endpoint = listener.addr().to_string();
    let half = one_request(listener, |mut io| async move {
        io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        io.flush().await.unwrap();
    });
    let (answer, ()) = tokio::join!(ana.send(&endpoint, Request::get("/"), PATIENCE), half);
    assert!(matches!(answer, Err(HttpError::NoAnswer { .. })), "{answer:?}");

    // Never answered.
    let served = Served::start(&store, any_port()).await;
    let answer = ana.send(&served.endpoint, Request::get("/never"), BRIEF).await.unwrap_err();
    assert!(matches!(answer, HttpError::NoAnswer { cause: Cause::Timeout(_), .. }), "{answer}");

    // Larger than we read.
    let answer = ana.send(&served.endpoint, Request::get("/huge"), PATIENCE).await.unwrap_err();
    assert!(matches!(answer, HttpError::NoAnswer { cause: Cause::TooLarge, .. }), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_left_says_why() {
    let world = World::new();
    let served = Served::start(&world.store(Class::Node, "n1"), any_port()).await;

    // The server turns a worker away here; a TLS 1.3 client only learns it after it has sent.
    let worker = client(&world, Class::Worker, "w1");
    for _ in 0..100 {
        // Large enough that much of it is under way when the server refuses.
        let request = Request::json(Method::POST, "/echo", vec![b'x'; 4 << 20]);
        let sent = worker.send(&served.endpoint, request, PATIENCE).await;
        let error = sent.unwrap_err();
        assert!(matches!(error, HttpError::NotSent { cause: Cause::Refused(_), .. }), "{error}");
    }
    assert_eq!(served.connections.load(Ordering::SeqCst), 0);

    // We turn the server away.
    let ana = world.store(Class::Person, "ana");
    let picky = HttpsClient::new(&ana, Expect::workers(CLUSTER));
    let error = picky.send(&served.endpoint, Request::get("/whoami"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, HttpError::NotSent { cause: Cause::Dial(_), .. }), "{error}");
    assert!(error.to_string().contains("wrong_class"), "{error}");

    // A listener that is not TLS at all.
    let plain = PlainListener::bind(any_port(), Limits::default()).await.unwrap();
    let endpoint = plain.addr().to_string();
    let health = Router::new().route("/live", get(|| async { "ok" }));
    tokio::spawn(serve_http(plain, health, CancellationToken::new()));
    let ana = HttpsClient::new(&ana, Expect::nodes(CLUSTER));
    let error = ana.send(&endpoint, Request::get("/live"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, HttpError::NotSent { cause: Cause::Dial(_), .. }), "{error}");

    // No such host, and a request that is none.
    let error = ana.send("nowhere.invalid:1", Request::get("/"), PATIENCE).await.unwrap_err();
    assert!(error.is_safe_to_retry(), "{error}");
    let bad = Request::get("/").header("bad\nname", "x");
    let error = ana.send(&served.endpoint, bad, PATIENCE).await.unwrap_err();
    assert!(matches!(error, HttpError::NotSent { cause: Cause::Request(_), .. }), "{error}");
}

#[tokio::test]
async fn events_arrive_resume_and_do_not_wait_for_ever() {
    let world = World::new();
    let served = Served::start(&world.store(Class::Node, "n1"), any_port()).await;
    let ana = client(&world, Class::Person, "ana");
    let mut events = ana.events(&served.endpoint, "/events", None, PATIENCE).await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!((first.id.as_str(), first.name.as_str()), ("01", "lease"));
    assert_eq!(first.data, "granted");
    assert_eq!(events.next().await.unwrap().unwrap().name, "message");
    assert!(events.next().await.is_none(), "the server ended it");

    let events = ana.events(&served.endpoint, "/events", Some("7"), BRIEF).await.unwrap();
    let got: Vec<_> = events.into_stream().collect().await;
    assert_eq!(got[0].as_ref().unwrap().id, "71");
    assert_eq!(got.len(), 3);
    let end = got[2].as_ref().unwrap_err();
    assert!(matches!(end, HttpError::NoAnswer { cause: Cause::Timeout(_), .. }), "{end}");

    match ana.events(&served.endpoint, "/whoami", None, PATIENCE).await {
        Err(HttpError::NotEvents { response, .. }) => assert_eq!(response.status, 200),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn a_server_that_stops_answers_what_is_under_way_and_cuts_what_never_ends() {
    let world = World::new();
    let served = Served::start(&world.store(Class::Node, "n1"), any_port()).await;
    let ana = client(&world, Class::Person, "ana");
    // Sent in full, answered once the server is told to stop.
    let stop = served.stop.clone();
    let slow = Router::new().route(
        "/slow",
        get(move || async move {
            stop.cancel();
            tokio::task::yield_now().await;
            "done"
        }),
    );
    let listener = listen(&world.store(Class::Node, "n2"), any_port()).await;
    let endpoint = listener.addr().to_string();
    let serving = tokio::spawn(serve_http(listener, slow, served.stop.clone()));
    // Never ends by itself.
    let mut events = ana.events(&served.endpoint, "/events", Some("7"), PATIENCE).await.unwrap();
    events.next().await.unwrap().unwrap();

    let answer = ana.send(&endpoint, Request::get("/slow"), PATIENCE).await.unwrap();
    assert_eq!(answer.body, "done");
    serving.await.unwrap();
    let drained = tokio::time::timeout(PATIENCE, served.task).await;
    drained.expect("the endless stream is cut").unwrap();
    let rest: Vec<_> = events.into_stream().collect().await;
    assert!(rest.last().unwrap().is_err(), "a cut is not an end");
}

#[tokio::test]
async fn one_http2_connection_carries_many_requests_at_once() {
    let world = World::new();
    let served = Served::start(&world.store(Class::Node, "n1"), any_port()).await;
    let tls = world.store(Class::Person, "ana").client(Expect::nodes(CLUSTER), Protocol::Http2);
    let io = TokioIo::new(tls.dial(&served.endpoint, PATIENCE).await.unwrap());
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (sender, connection) = shaken.unwrap();
    let connected = tokio::spawn(connection);
    let ask = |path: &str| {
        let request = hyper::Request::get(format!("https://localhost{path}"));
        sender.clone().send_request(request.body(Full::<Bytes>::default()).unwrap())
    };
    // Held up by nobody, and holding up nobody.
    let never = tokio::spawn(ask("/never"));
    let answers = (0..300).map(|_| async {
        let answer = ask("/whoami").await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.unwrap().to_bytes()
    });
    let all = tokio::time::timeout(PATIENCE, futures_util::future::join_all(answers)).await;
    for body in all.expect("all are answered") {
        assert_eq!(body, "spiffe://test.example/cryptorun/trial/person/us-east-1/ana");
    }
    assert_eq!(served.connections.load(Ordering::SeqCst), 1);

    drop(sender);
    served.stop().await;
    assert!(never.await.unwrap().is_err(), "what never ends is cut");
    drop(connected.await.unwrap());
}

#[tokio::test]
async fn new_credentials_are_used_at_once() {
    let world = World::new();
    let served = Served::start(&world.store(Class::Node, "n1"), any_port()).await;
    let store = world.store(Class::Person, "ana");
    let ana = HttpsClient::new(&store, Expect::nodes(CLUSTER));
    ana.send(&served.endpoint, Request::get("/whoami"), PATIENCE).await.unwrap();
    world.write("ana", &world.leaf(&store.id()));
    assert!(store.reload_if_changed().unwrap());
    ana.send(&served.endpoint, Request::get("/whoami"), PATIENCE).await.unwrap();
    assert_eq!(served.connections.load(Ordering::SeqCst), 2, "the old connection was not reused");
}
