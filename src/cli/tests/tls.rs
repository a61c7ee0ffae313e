//! The real way to the cluster: certificates, sockets, refusals.

use super::fixtures::status;
use super::world::{Ran, run_with};
use crate::client::production::connect;
use crate::exit::Exit;
use crate::screen::Facts;
use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::{Json, Router};
use cryptorun_core::wire::WhoAmI;
use cryptorun_platform::identity::{Class, SpiffeId};
use cryptorun_platform::listener::{Limits, MtlsListener};
use cryptorun_platform::net::Peer;
use cryptorun_platform::pki::{Authority, Validity};
use cryptorun_platform::tls::{Expect, Protocol, TlsFiles, TlsStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn authority(cluster: &str) -> Authority {
    Authority::new("test.example", cluster).unwrap()
}

/// Credentials in a folder of their own.
fn issue(authority: &Authority, root: &Path, class: Class, name: &str) -> PathBuf {
    let id = SpiffeId::new("test.example", authority.cluster(), class, "us-east-1", name).unwrap();
    let folder = root.join(format!("{}-{name}", authority.cluster()));
    let validity = Validity::lasting(Duration::from_secs(3600));
    authority.issue_for(&id, &["localhost"], validity).unwrap().write(authority, &folder).unwrap();
    folder
}

/// A node that knows who asks.
async fn node(credentials: &Path) -> SocketAddr {
    let tls = TlsStore::load(TlsFiles::in_folder(credentials)).unwrap();
    let expect = Expect::anyone(&tls.id().cluster);
    let listener = MtlsListener::bind(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        tls.server(expect, Protocol::Http),
        Limits::default(),
    )
    .await
    .unwrap();
    let addr = listener.addr();
    let me = async |ConnectInfo(peer): ConnectInfo<Peer>| {
        Json(WhoAmI {
            spiffe: peer.id.to_string(),
            grants: Vec::new(),
            waiting: Vec::new(),
            rules: Vec::new(),
        })
    };
    let router = Router::new()
        .route("/v1/whoami", get(me))
        .route("/v1/status", get(async || Json(status())))
        .into_make_service_with_connect_info::<Peer>();
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

async fn ask(line: &str, endpoints: &str, credentials: &Path) -> Ran {
    let files = TlsFiles::in_folder(credentials);
    let line = format!(
        "{line} --endpoints {endpoints} --ca {} --cert {} --key {}",
        files.ca.display(),
        files.cert.display(),
        files.key.display()
    );
    run_with(&connect, &line, Facts::default(), "").await
}

#[tokio::test]
async fn my_certificate_says_who_i_am_to_the_first_node_that_answers() {
    let root = tempfile::tempdir().unwrap();
    let authority = authority("demo");
    let at = node(&issue(&authority, root.path(), Class::Node, "1")).await;
    let ana = issue(&authority, root.path(), Class::Person, "ana");
    // Port 1 is nobody's: refused at once, and the next is asked.
    let ran = ask("cryptorun whoami", &format!("127.0.0.1:1,https://{at}"), &ana).await;
    assert_eq!(ran.exit, Exit::Done, "{ran:?}");
    assert!(ran.out.starts_with("spiffe://test.example/cryptorun/demo/person/"), "{}", ran.out);
}

#[tokio::test]
async fn each_endpoint_says_why_it_is_of_no_use() {
    let root = tempfile::tempdir().unwrap();
    let (demo, other) = (authority("demo"), authority("other"));
    let at = node(&issue(&other, root.path(), Class::Node, "1")).await;
    let ana = issue(&demo, root.path(), Class::Person, "ana");
    let endpoints = format!("127.0.0.1:1,{at}");
    let ran = ask("cryptorun replication status", &endpoints, &ana).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Unreachable, ""));
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines[0], "error: no endpoint answered");
    assert!(lines[1].starts_with("  127.0.0.1:1: ") && lines[1].contains("refused"), "{}", ran.err);
    assert!(lines[2].starts_with(&format!("  {at}: ")), "{}", ran.err);
    assert_ne!(lines[1].split(": ").nth(1), lines[2].split(": ").nth(1), "{}", ran.err);
}

#[tokio::test]
async fn missing_settings_name_the_variable() {
    let root = tempfile::tempdir().unwrap();
    let ana = issue(&authority("demo"), root.path(), Class::Person, "ana");
    let ran = ask("cryptorun whoami", "localhost", &ana).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("'localhost' is not an endpoint like"), "{}", ran.err);
    let ran = ask("cryptorun whoami", "localhost:1", &root.path().join("nowhere")).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("cannot read"), "{}", ran.err);
}
