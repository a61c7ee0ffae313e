//! Real sockets on loopback: who gets in, who does not, and why.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::identity::{Class, SpiffeId};
use crate::pki::{Authority, Leaf, Validity};
use crate::testkit::{CLUSTER, DOMAIN, PATIENCE, World, an_hour, id, until};
use crate::tls::{DialError, Expect, Protocol, Reason, TlsError, TlsFiles, TlsStore, peer_id};

const ANY_PORT: &str = "127.0.0.1:0";

async fn listen(store: &Arc<TlsStore>, expect: Expect) -> MtlsListener {
    let limits = Limits { handshake: Duration::from_millis(500), ..Limits::default() };
    let tls = store.server(expect, Protocol::Framed);
    MtlsListener::bind(ANY_PORT.parse().unwrap(), tls, limits).await.unwrap()
}

/// A client that says whatever it is told, as none of ours would.
fn rude_client(world: &World, leaf: Option<&Leaf>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(world.authority.cert_pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match leaf {
        None => config.with_no_client_auth(),
        Some(leaf) => {
            let cert = CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"cryptorun-framed/1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// Connects, sends a little, and returns what reading then fails with.
async fn turned_away(connector: TlsConnector, addr: SocketAddr) -> String {
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let talk = async {
        let mut stream = connector.connect(name, tcp).await?;
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    let answer = tokio::time::timeout(PATIENCE, talk).await.expect("the server says something");
    answer.expect_err("the server turns it away").to_string()
}

#[tokio::test]
async fn a_certificate_that_is_no_good_is_refused_and_counted_by_its_reason() {
    let world = World::new();
    let revoked = world.leaf(&id(Class::Node, "n8"));
    let server = world.write("server", &world.leaf(&id(Class::Node, "n1")));
    let list = world.authority.revoke(std::slice::from_ref(&revoked.serial), an_hour()).unwrap();
    std::fs::write(server.join("crl.pem"), list).unwrap();
    let store = TlsStore::load(TlsFiles::in_folder(&server)).unwrap();
    let expect = Expect::nodes(CLUSTER).in_region("us-east-1").with_id("n2");
    let listener = listen(&store, expect).await;
    let mut logins = store.refusals().logins();

    let stranger = Authority::new(DOMAIN, CLUSTER).unwrap();
    let n2 = id(Class::Node, "n2");
    let past = Validity { from_unix_s: 1_000_000_000, to_unix_s: 1_000_003_600 };
    let future = Validity { from_unix_s: 4_000_000_000, to_unix_s: 4_000_003_600 };
    let staging = SpiffeId { cluster: "staging".into(), ..n2.clone() };
    let elsewhere = SpiffeId { region: "eu-west-1".into(), ..n2.clone() };
    let domain = SpiffeId { trust_domain: "other.example".into(), ..n2.clone() };
    let cases = [
        (Reason::NoCertificate, None, "CertificateRequired"),
        (Reason::UnknownCa, Some(stranger.issue(&n2, an_hour()).unwrap()), "UnknownCA"),
        (Reason::OtherCluster, Some(world.leaf(&staging)), "CertificateUnknown"),
        (Reason::OtherCluster, Some(world.leaf(&domain)), "CertificateUnknown"),
        (Reason::WrongClass, Some(world.leaf(&id(Class::Worker, "n2"))), "CertificateUnknown"),
        (Reason::WrongId, Some(world.leaf(&id(Class::Node, "n3"))), "CertificateUnknown"),
        (Reason::WrongId, Some(world.leaf(&elsewhere)), "CertificateUnknown"),
        (Reason::Expired, Some(world.authority.issue(&n2, past).unwrap()), "CertificateExpired"),
        (Reason::Expired, Some(world.authority.issue(&n2, future).unwrap()), "CertificateExpired"),
        (Reason::Revoked, Some(revoked), "CertificateRevoked"),
    ];
    let mut counted = [0; Reason::ALL.len()];
    for (reason, leaf, alert) in cases {
        let said = turned_away(rude_client(&world, leaf.as_ref()), listener.addr()).await;
        assert!(said.contains(alert), "{reason:?}: the client was told {said:?}");
        counted[reason as usize] += 1;
        for other in Reason::ALL {
            until(&format!("{other:?} counted"), || {
                store.refusals().count(other) == counted[other as usize]
            })
            .await;
        }
        // Who showed a certificate is handed on; who showed none has no name.
        match (leaf, logins.try_recv()) {
            (None, Err(_)) => {}
            (Some(leaf), Ok(login)) => {
                let text = login.to_string();
                assert_eq!(login.reason, reason);
                assert!(login.id.is_some_and(|id| text.contains(&id.to_string())), "{text}");
                let serial: String = leaf.serial.iter().map(|b| format!("{b:02x}")).collect();
                assert!(login.serial.is_some_and(|told| told.ends_with(&serial)), "{text}");
            }
            (_, told) => panic!("{reason:?}: {told:?}"),
        }
    }
    // And one that is good, to know that the door works.
    let good = world.leaf(&n2);
    let mut listener = listener;
    let addr = listener.addr().to_string();
    let client = world.store_of("n2", &good).client(Expect::nodes(CLUSTER), Protocol::Framed);
    let (dialed, (_, peer)) = tokio::join!(client.dial(&addr, PATIENCE), async {
        tokio::time::timeout(PATIENCE, listener.next()).await.unwrap()
    });
    assert_eq!(*peer.id, n2);
    assert!(peer.serial.is_some_and(|serial| serial.len() >= 2));
    assert_eq!(peer_id(dialed.unwrap().get_ref().1), Some(id(Class::Node, "n1")));
}

/// Type, version, random, no session, one cipher suite, no compression, no extensions: a client
/// of TLS 1.2 at its shortest.
fn tls12_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2f, 1, 0, 0, 0]);
    let mut handshake = vec![1, 0, 0, body.len() as u8];
    handshake.extend(body);
    let mut record = vec![22, 3, 1, 0, handshake.len() as u8];
    record.extend(handshake);
    record
}

#[tokio::test]
async fn an_old_tls_a_silent_client_and_plain_text_are_refused_and_counted() {
    let world = World::new();
    let store = world.store(Class::Node, "n1");
    let listener = listen(&store, Expect::nodes(CLUSTER)).await;
    let cases: [(Reason, Vec<u8>); 3] = [
        (Reason::TlsVersion, tls12_hello()),
        (Reason::Timeout, Vec::new()),
        (Reason::Other, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (reason, said) in cases {
        let mut tcp = TcpStream::connect(listener.addr()).await.unwrap();
        tcp.write_all(&said).await.unwrap();
        let mut answer = Vec::new();
        // The server closes by itself.
        let read = tcp.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("the server hangs up");
        until(&format!("{reason:?} counted"), || store.refusals().count(reason) == 1).await;
    }
}

#[tokio::test]
async fn a_client_refuses_a_server_that_is_not_whom_it_expects() {
    let world = World::new();
    let server = world.leaf(&id(Class::Worker, "w1"));
    let store = world.store_of("w1", &server);
    let listener = listen(&store, Expect::anyone(CLUSTER)).await;
    let addr = listener.addr().to_string();

    let client = world.store(Class::Node, "n1");
    let cases = [
        (Reason::OtherCluster, Expect::workers("staging")),
        (Reason::WrongClass, Expect::nodes(CLUSTER)),
        (Reason::WrongId, Expect::workers(CLUSTER).with_id("w2")),
        (Reason::WrongId, Expect::workers(CLUSTER).in_region("eu-west-1")),
    ];
    for (expected, expect) in cases {
        let dialed = client.client(expect, Protocol::Framed).dial(&addr, PATIENCE).await;
        match dialed {
            Err(DialError::Untrusted { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }

    // The same server once its certificate is revoked, and by a client of other roots.
    let folder = world.write("n2", &world.leaf(&id(Class::Node, "n2")));
    let list = world.authority.revoke(&[server.serial], an_hour()).unwrap();
    std::fs::write(folder.join("crl.pem"), list).unwrap();
    let strict = TlsStore::load(TlsFiles::in_folder(&folder)).unwrap();
    let foreign = {
        let world = World::new();
        world.store(Class::Node, "n1")
    };
    for (expected, store) in [(Reason::Revoked, strict), (Reason::UnknownCa, foreign)] {
        let client = store.client(Expect::workers(CLUSTER), Protocol::Framed);
        match client.dial(&addr, PATIENCE).await {
            Err(DialError::Untrusted { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_of_another_protocol_is_told_at_once() {
    let world = World::new();
    let store = world.store(Class::Node, "n1");
    let listener = listen(&store, Expect::nodes(CLUSTER)).await;
    let client = store.client(Expect::nodes(CLUSTER), Protocol::Http);
    let error = client.dial(&listener.addr().to_string(), PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("another protocol"), "{error}");
}

/// A client and the server's end of its connection.
async fn connected(
    listener: &mut MtlsListener,
    client: &Arc<TlsStore>,
) -> (crate::tls::TlsIo, MtlsIo) {
    let tls = client.client(Expect::anyone(CLUSTER), Protocol::Framed);
    let addr = listener.addr().to_string();
    let both = async { tokio::join!(tls.dial(&addr, PATIENCE), listener.next()) };
    let (dialed, (io, _)) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    (dialed.unwrap(), io)
}

async fn echo(client: &mut crate::tls::TlsIo, server: &mut MtlsIo) -> io::Result<u8> {
    client.write_all(b"x").await?;
    client.flush().await?;
    server.read_u8().await
}

fn shown_cert(client: &crate::tls::TlsIo) -> CertificateDer<'static> {
    client.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn a_new_certificate_is_used_for_new_connections_while_old_ones_go_on() {
    let world = World::new();
    let n1 = id(Class::Node, "n1");
    let store = world.store_of("n1", &world.leaf(&n1));
    let client = world.store(Class::Node, "n2");
    let mut listener = listen(&store, Expect::nodes(CLUSTER)).await;
    let (mut before, mut served) = connected(&mut listener, &client).await;

    assert!(!store.reload_if_changed().unwrap(), "nothing changed yet");
    world.write("n1", &world.leaf(&n1));
    assert!(store.reload_if_changed().unwrap());

    let (after, _served) = connected(&mut listener, &client).await;
    assert_ne!(shown_cert(&before), shown_cert(&after));
    assert_eq!(echo(&mut before, &mut served).await.unwrap(), b'x');
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_old_material_in_use() {
    let world = World::new();
    let n1 = id(Class::Node, "n1");
    let folder = world.write("n1", &world.leaf(&n1));
    let store = TlsStore::load(TlsFiles::in_folder(&folder)).unwrap();
    let client = world.store(Class::Node, "n2");
    let mut listener = listen(&store, Expect::nodes(CLUSTER)).await;
    let (before, _served) = connected(&mut listener, &client).await;
    let good_key = std::fs::read(folder.join("key.pem")).unwrap();

    // A certificate that landed before its key.
    let next = world.leaf(&n1);
    std::fs::write(folder.join("cert.pem"), &next.cert_pem).unwrap();
    assert!(matches!(store.reload_if_changed(), Err(TlsError::Key { .. })));
    // Another process's credentials, whole.
    world.write("n1", &world.leaf(&id(Class::Node, "n9")));
    assert!(matches!(store.reload_if_changed(), Err(TlsError::OtherIdentity { .. })));
    // Not PEM at all.
    std::fs::write(folder.join("ca.pem"), "nothing").unwrap();
    assert!(matches!(store.reload_if_changed(), Err(TlsError::Empty { .. })));
    // Ended long ago.
    let past = Validity { from_unix_s: 1_000_000_000, to_unix_s: 1_000_003_600 };
    world.write("n1", &world.authority.issue(&n1, past).unwrap());
    assert!(matches!(store.reload_if_changed(), Err(TlsError::NotValid { .. })));

    let (after, _served) = connected(&mut listener, &client).await;
    assert_eq!(shown_cert(&before), shown_cert(&after), "the old certificate is still shown");

    // And back: the files are good again.
    world.write("n1", &world.leaf(&n1));
    assert!(store.reload_if_changed().unwrap());
    assert_ne!(std::fs::read(folder.join("key.pem")).unwrap(), good_key);
    let (after, _served) = connected(&mut listener, &client).await;
    assert_ne!(shown_cert(&before), shown_cert(&after));
}

#[tokio::test]
async fn a_hangup_signal_reloads_and_the_metrics_page_shows_it() {
    let world = World::new();
    let n1 = id(Class::Node, "n1");
    let brief = Validity { to_unix_s: an_hour().to_unix_s - 600, ..an_hour() };
    let first = world.authority.issue(&n1, brief).unwrap();
    let store = world.store_of("n1", &first);
    let metrics = crate::metrics::Metrics::new();
    store.export(&metrics);
    let shown = |unix_s: u64| format!("_certificate_expiry_seconds{{class=\"node\"}} {unix_s}\n");
    assert!(metrics.render().contains(&shown(brief.to_unix_s)));

    let stop = CancellationToken::new();
    let watching = tokio::spawn(Arc::clone(&store).watch(stop.clone()));
    // Once it has begun to listen for the signal.
    tokio::task::yield_now().await;
    let mut changes = store.changes();
    world.write("n1", &world.leaf(&n1));
    let itself = rustix::process::getpid();
    rustix::process::kill_process(itself, rustix::process::Signal::HUP).unwrap();
    tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    assert!(!metrics.render().contains(&shown(brief.to_unix_s)));
    assert!(metrics.render().contains(&shown(store.not_after())));
    stop.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn a_connected_peer_is_cut_off_when_it_is_revoked() {
    let world = World::new();
    let folder = world.write("n1", &world.leaf(&id(Class::Node, "n1")));
    let files = TlsFiles { crl: Some(folder.join("crl.pem")), ..TlsFiles::in_folder(&folder) };
    let none = world.authority.revoke(&[], an_hour()).unwrap();
    std::fs::write(folder.join("crl.pem"), none).unwrap();
    let store = TlsStore::load(files).unwrap();
    let mut listener = listen(&store, Expect::nodes(CLUSTER)).await;

    let bad = world.leaf(&id(Class::Node, "n2"));
    let (mut bad_end, mut bad_served) = connected(&mut listener, &world.store_of("n2", &bad)).await;
    let (mut good_end, mut good_served) =
        connected(&mut listener, &world.store(Class::Node, "n3")).await;
    assert_eq!(echo(&mut bad_end, &mut bad_served).await.unwrap(), b'x');

    let list = world.authority.revoke(&[bad.serial], an_hour()).unwrap();
    std::fs::write(folder.join("crl.pem"), list).unwrap();
    store.reload().unwrap();
    // Reading was already waiting when the reload came.
    let cut = tokio::time::timeout(PATIENCE, bad_served.read_u8()).await.expect("is cut off");
    assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert!(bad_served.write_all(b"x").await.is_err());
    assert_eq!(store.refusals().count(Reason::Revoked), 1);
    assert_eq!(echo(&mut good_end, &mut good_served).await.unwrap(), b'x');
}

#[test]
fn a_key_that_others_may_read_is_refused_by_name_and_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let folder = world.write("n1", &world.leaf(&id(Class::Node, "n1")));
    let key = folder.join("key.pem");
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = TlsStore::load(TlsFiles::in_folder(&folder)).err().unwrap().to_string();
        assert!(error.contains(&key.display().to_string()), "{error}");
        assert!(error.contains(&format!("{mode:04o}")), "{error}");
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(TlsStore::load(TlsFiles::in_folder(&folder)).is_ok());
}

#[tokio::test]
async fn a_taken_port_is_named_with_who_holds_it() {
    let world = World::new();
    let store = world.store(Class::Node, "n1");
    let first = listen(&store, Expect::nodes(CLUSTER)).await;
    let tls = store.server(Expect::nodes(CLUSTER), Protocol::Http);
    let error = MtlsListener::bind(first.addr(), tls, Limits::default()).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, ListenError::Taken { .. }), "{text}");
    assert!(text.contains(&first.addr().to_string()), "{text}");
    assert!(text.contains(&format!("pid {} (", std::process::id())), "{text}");
    let plain = PlainListener::bind(first.addr(), Limits::default()).await;
    assert!(matches!(plain, Err(ListenError::Taken { .. })));
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_until_one_closes() {
    let world = World::new();
    let store = world.store(Class::Node, "n1");
    let limits = Limits { connections: 1, ..Limits::default() };
    let tls = store.server(Expect::nodes(CLUSTER), Protocol::Framed);
    let mut listener = MtlsListener::bind(ANY_PORT.parse().unwrap(), tls, limits).await.unwrap();
    let (_first_end, first) = connected(&mut listener, &store).await;

    let client = store.client(Expect::nodes(CLUSTER), Protocol::Framed);
    let addr = listener.addr().to_string();
    let mut second = std::pin::pin!(client.dial(&addr, PATIENCE));
    // The kernel takes the connection, and there nobody shakes its hand.
    let early = async { tokio::join!(second.as_mut(), listener.next()) };
    let waited = tokio::time::timeout(Duration::from_millis(200), early).await;
    assert!(waited.is_err(), "a second connection was let in");
    drop(first);
    let (dialed, _) = tokio::join!(second, listener.next());
    assert!(dialed.is_ok());
}

#[test]
fn an_authority_reads_back_and_goes_on_signing() {
    let world = World::new();
    let folder = world.dir.path().join("authority");
    world.authority.write(&folder).unwrap();
    let again = Authority::load(&folder).unwrap();
    assert_eq!((again.trust_domain(), again.cluster()), (DOMAIN, CLUSTER));
    // Signed by the one that was read, trusted through the one that was written.
    let leaf = again.issue(&id(Class::Node, "n1"), an_hour()).unwrap();
    let store = world.store_of("n1", &leaf);
    assert_eq!(store.id(), leaf.id);

    let other = Authority::new(DOMAIN, CLUSTER).unwrap();
    other.write(&world.dir.path().join("other")).unwrap();
    std::fs::copy(world.dir.path().join("other/ca.key"), folder.join("ca.key")).unwrap();
    let error = Authority::load(&folder).err().unwrap().to_string();
    assert!(error.contains("does not belong"), "{error}");
}

#[test]
fn a_request_is_signed_for_the_identity_it_names_and_no_other() {
    let world = World::new();
    let n1 = id(Class::Node, "n1");
    let asked = crate::pki::request(&n1, &["localhost", "127.0.0.1"]).unwrap();
    let folder = world.dir.path().join("n1");
    asked.write(&folder).unwrap();
    let other = world.authority.sign(&asked.csr_pem, &id(Class::Node, "n2"), an_hour());
    assert!(matches!(other, Err(crate::pki::PkiError::OtherRequest { .. })));

    let cert = world.authority.sign(&asked.csr_pem, &n1, an_hour()).unwrap();
    std::fs::write(folder.join("cert.pem"), cert).unwrap();
    std::fs::write(folder.join("ca.pem"), world.authority.cert_pem()).unwrap();
    assert_eq!(TlsStore::load(TlsFiles::in_folder(&folder)).unwrap().id(), n1);
}

/// An identity's folder with a leaf of `signer`, which trusts these and knows their lists.
fn trusting(world: &World, signer: &Authority, trusted: &[(&Authority, &str)]) -> TlsFiles {
    let folder = world.dir.path().join("n1");
    signer.issue(&id(Class::Node, "n1"), an_hour()).unwrap().write(signer, &folder).unwrap();
    let roots: String = trusted.iter().map(|(authority, _)| authority.cert_pem()).collect();
    let lists: String = trusted.iter().map(|(_, list)| *list).collect();
    std::fs::write(folder.join("ca.pem"), roots).unwrap();
    std::fs::write(folder.join("crl.pem"), lists).unwrap();
    TlsFiles::in_folder(&folder)
}

#[test]
fn while_an_authority_is_replaced_both_are_trusted_each_with_its_list() {
    let world = World::new();
    let (old, new) = (&world.authority, &Authority::new(DOMAIN, CLUSTER).unwrap());
    let list = |authority: &Authority| authority.revoke(&[], an_hour()).unwrap();
    let (lists, both) = ((list(old), list(new)), [old, new]);
    for signer in both {
        let trusted = [(old, lists.0.as_str()), (new, lists.1.as_str())];
        let store = TlsStore::load(trusting(&world, signer, &trusted)).unwrap();
        let seen = store.credentials();
        assert_eq!((seen.trusts.len(), seen.revocations.len()), (2, 2));
        let of = both.iter().position(|authority| authority.cert_pem() == signer.cert_pem());
        assert_eq!(seen.presents.authority, seen.trusts[of.unwrap()].authority);
    }
    // Without the new one's root its certificate is not taken, and what is in use stays.
    let store = TlsStore::load(trusting(&world, old, &[(old, &lists.0)])).unwrap();
    trusting(&world, new, &[(old, &lists.0)]);
    assert!(matches!(store.reload(), Err(TlsError::NotValid { .. })));
    let seen = store.credentials();
    assert_eq!(seen.presents.authority, seen.trusts[0].authority);
    assert!(seen.not_taken.is_some_and(|why| why.contains("does not hold")));
}

#[test]
fn two_authorities_of_one_name_with_lists_are_refused_with_the_reason() {
    let world = World::new();
    let namesake = || {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "corporate");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    };
    let list = world.authority.revoke(&[], an_hour()).unwrap();
    let files = trusting(&world, &world.authority, &[(&world.authority, &list)]);
    let roots = [world.authority.cert_pem(), &namesake(), &namesake()].concat();
    std::fs::write(&files.ca, roots).unwrap();
    let error = TlsStore::load(files.clone()).err().unwrap().to_string();
    assert!(error.contains("two authorities by the name of CN=corporate"), "{error}");
    assert!(TlsStore::load(TlsFiles { crl: None, ..files }).is_ok(), "nothing to confuse");
}

#[test]
fn a_certificate_taken_back_stands_on_the_list_once_and_a_strangers_never() {
    let world = World::new();
    let folder = world.dir.path().join("authority");
    world.authority.write(&folder).unwrap();
    let issue = |name: &str, authority: &Authority| {
        let leaf = authority.issue(&id(Class::Node, name), an_hour()).unwrap();
        leaf.write(authority, &world.dir.path().join(name)).unwrap();
        world.dir.path().join(name).join("cert.pem")
    };
    let (first, second) = (issue("a", &world.authority), issue("b", &world.authority));
    let back = |cert: &std::path::Path| world.authority.take_back(&folder, cert);
    let counts = [&first, &first, &second].map(|cert| back(cert).unwrap());
    assert_eq!(counts, [1, 1, 2]);
    let stranger = issue("c", &Authority::new(DOMAIN, CLUSTER).unwrap());
    assert!(matches!(back(&stranger), Err(crate::pki::PkiError::NotOurs { .. })));
    assert!(back(&folder).is_err(), "a folder is no certificate");

    let list = std::fs::read_to_string(folder.join("crl.pem")).unwrap();
    let files = trusting(&world, &world.authority, &[(&world.authority, &list)]);
    std::fs::copy(&first, &files.cert).unwrap();
    std::fs::copy(first.with_file_name("key.pem"), &files.key).unwrap();
    let error = TlsStore::load(files).err().unwrap();
    let TlsError::NotValid { source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("Revoked"), "{source}");
}
