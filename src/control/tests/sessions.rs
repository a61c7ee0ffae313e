//! Workers' sessions and their directives.

use super::world::{EAST, WEST, World, worker};
use crate::log::Log;
use cryptorun_core::directive::Want;
use cryptorun_core::report::WorkerReport;
use cryptorun_core::session::{SessionKey, WorkerAddresses};
use cryptorun_core::wire::{OpenSessionRequest, Problem, RenewAnswer, RenewRequest};

pub(super) fn open() -> OpenSessionRequest {
    OpenSessionRequest {
        boot: format!("{:016x}", 0xab),
        addresses: WorkerAddresses { api: "h:1".into(), data: "h:2".into() },
    }
}

fn key(region: &str) -> SessionKey {
    SessionKey { worker: format!("w-{region}").into(), boot: 0xab }
}

#[tokio::test(start_paused = true)]
async fn a_worker_opens_renews_and_is_told_what_to_be() {
    let world = World::founded().await;
    let opened = world.api.open_session(&worker(EAST), open()).await.unwrap();
    assert_eq!(opened.renewed.session, key(EAST));
    assert_eq!(opened.timing, super::world::config().timing);
    assert_eq!(opened.directives.len(), 1, "{:?}", opened.directives);
    let renew = RenewRequest {
        cluster: opened.renewed.cluster,
        seq: opened.renewed.seq + 1,
        report: WorkerReport::default(),
    };
    let answer = world.api.renew(&worker(EAST), key(EAST), renew.clone(), None).await.unwrap();
    assert_eq!(answer.renewed.seq, renew.seq);
    assert_eq!(answer.wall, cryptorun_platform::clock::Clock::wall(&*world.clock));
    // Over HTTP the same, and the same number again is answered again.
    let path = format!("/v1/sessions/{}/renew", key(EAST));
    let body = serde_json::to_string(&renew).unwrap();
    let (status, again): (u16, RenewAnswer) = world.json(&worker(EAST), "POST", &path, &body).await;
    assert_eq!((status, again.renewed.seq), (200, renew.seq));
    assert_eq!(again.directives, opened.directives);

    // Told once, it is not told again; what stirs brings the whole list anew.
    let path = format!("{path}?directed={}", again.directed.unwrap());
    let (_, quiet): (u16, RenewAnswer) = world.json(&worker(EAST), "POST", &path, &body).await;
    assert_eq!(quiet.directives, []);
    world.api.open_session(&worker(WEST), open()).await.unwrap();
    let (_, told): (u16, RenewAnswer) = world.json(&worker(EAST), "POST", &path, &body).await;
    assert_eq!(told.directives[0].peers.len(), 1, "{:?}", told.directives);
}

#[tokio::test(start_paused = true)]
async fn a_worker_cannot_touch_another_ones_session() {
    let world = World::founded().await;
    world.api.open_session(&worker(EAST), open()).await.unwrap();
    let (status, _): (u16, Problem) =
        world.json(&worker(WEST), "DELETE", &format!("/v1/sessions/{}", key(EAST)), "").await;
    assert_eq!(status, 403);
    assert!(world.api.directives(&worker(WEST), key(EAST)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_session_of_another_cluster_is_told_so() {
    let world = World::founded().await;
    world.api.open_session(&worker(EAST), open()).await.unwrap();
    let renew = RenewRequest {
        cluster: cryptorun_core::config::ClusterId(8),
        seq: 1,
        report: WorkerReport::default(),
    };
    let error = world.api.renew(&worker(EAST), key(EAST), renew, None).await.unwrap_err();
    assert_eq!(error.status(), 409);
}

#[tokio::test(start_paused = true)]
async fn directives_are_pushed_when_they_change_and_only_then() {
    let world = World::founded().await;
    world.api.open_session(&worker(EAST), open()).await.unwrap();
    let mut sets = world.api.directives(&worker(EAST), key(EAST)).unwrap();
    assert!(matches!(sets.recv().await.unwrap()[0].want, Want::Replica { .. }));
    let log = world.log.clone();
    let log: std::sync::Arc<dyn Log> = log;
    tokio::spawn(crate::controller::control(log, world.api.parts().platform.clone()));
    // The worker's sink is reported by its renewal; the controller then reserves a first token.
    let mut report = WorkerReport::default();
    report.scopes.insert("warm/global".parse().unwrap(), Default::default());
    let cluster = cryptorun_core::config::ClusterId(7);
    let renew = RenewRequest { cluster, seq: 1, report };
    world.api.renew(&worker(EAST), key(EAST), renew, None).await.unwrap();
    let set = sets.recv().await.unwrap();
    assert!(matches!(set[0].want, Want::Seal { .. }), "{set:?}");
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_with_the_session() {
    let world = World::founded().await;
    world.api.open_session(&worker(EAST), open()).await.unwrap();
    let mut sets = world.api.directives(&worker(EAST), key(EAST)).unwrap();
    sets.recv().await.unwrap();
    world.api.end_session(&worker(EAST), key(EAST)).await.unwrap();
    assert_eq!(sets.recv().await, None);
}
