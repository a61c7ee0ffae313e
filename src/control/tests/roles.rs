//! Role by route: nobody gets further than the table says, and everybody gets that far.

use super::world::{EAST, World, caller, person, worker};
use crate::caller::{Caller, Need};
use crate::http::ROUTES;
use cryptorun_core::people::Role;
use cryptorun_core::wire::Problem;

/// Bodies that parse, so that what answers is the check of roles and what lies behind it.
fn body(path: &str) -> String {
    let hash = "0".repeat(64);
    match path {
        "/v1/sessions" => {
            r#"{"boot":"00000000000000ab","addresses":{"api":"h:1","data":"h:2"}}"#.to_owned()
        }
        "/v1/sessions/{id}/renew" => {
            let report = serde_json::to_string(&cryptorun_core::report::WorkerReport::default());
            format!(r#"{{"cluster":"{:032x}","seq":1,"report":{}}}"#, 7, report.unwrap())
        }
        "/v1/sessions/{id}/release" => format!(
            r#"{{"scope":"warm/global","token":"0.1","end":{{"seq":0,"hash":"{hash}"}},"keep_for_ms":null}}"#
        ),
        "/v1/sessions/{id}/handover" => {
            format!(r#"{{"promotion":"P-1","token":"0.1","end":{{"seq":0,"hash":"{hash}"}}}}"#)
        }
        "/v1/promotions" => r#"{"tier":"warm","to":"us-west"}"#.to_owned(),
        "/v1/promotions/{id}/deny" => r#"{"reason":"no"}"#.to_owned(),
        "/v1/pauses" => r#"{"tier":"warm","reason":"tests","for_ms":1000}"#.to_owned(),
        "/v1/simulations" => {
            r#"{"tier":"warm","from":"us-east","to":"us-west","start":1,"end":2}"#.to_owned()
        }
        "/v1/cluster/init" => serde_json::to_string(&World::init_request()).unwrap(),
        "/v1/cluster/transfer-leader" => r#"{"to":"us-west"}"#.to_owned(),
        "/v1/cluster/members" => {
            r#"{"node":4,"region":"us-west","raft":"h:1","api":"h:2"}"#.to_owned()
        }
        "/v1/cluster/preference" => r#"{"regions":["us-west"]}"#.to_owned(),
        "/v1/cluster/restore" => format!(r#"{{"backup":"{hash}","expect":3,"begin":[]}}"#),
        "/v1/cluster/restore/parts" => format!(r#"{{"backup":"{hash}","part":0}}"#),
        "/v1/cluster/restore/finish" => format!(r#"{{"backup":"{hash}","parts":1}}"#),
        "/v1/rules" => r#"{"change":{"cluster_version":{"to":2}},"reason":"x"}"#.to_owned(),
        "/v1/rules/{id}/deny" => r#"{"reason":"no"}"#.to_owned(),
        _ => String::new(),
    }
}

fn concrete(path: &str) -> String {
    let id = match path {
        path if path.contains("sessions") => "w-us-east-1.00000000000000ab",
        path if path.contains("rules") => "R-1",
        _ => "P-1",
    };
    let path = path.replace("{tier}/{group}", "warm/global").replace("{id}", id);
    let path = path.replace("{key}", "k").replace("{node}", "9");
    match path.as_str() {
        "/v1/explain" => "/v1/explain?tier=warm&target=us-west".to_owned(),
        "/v1/refusals" => "/v1/refusals?tier=warm".to_owned(),
        "/v1/journal" => "/v1/journal?scope=warm/global".to_owned(),
        "/v1/pauses" => "/v1/pauses?tier=warm".to_owned(),
        _ => path,
    }
}

fn may(who: &Caller, role: Option<Role>, need: Need) -> bool {
    let worker = matches!(who.actor, cryptorun_core::people::Actor::Worker(_));
    match need {
        Need::Any => true,
        Need::Worker => worker,
        Need::RoleOrWorker(least) => worker || role.is_some_and(|role| role >= least),
        Need::Role(least) => role.is_some_and(|role| role >= least),
    }
}

#[tokio::test(start_paused = true)]
async fn every_route_lets_in_exactly_those_its_role_names() {
    let callers: [(Caller, Option<Role>); 8] = [
        (person("stranger"), None),
        (person("dan"), Some(Role::Reader)),
        (person("ana"), Some(Role::Approver)),
        (person("eve"), Some(Role::Admin)),
        (worker(EAST), None),
        (caller("service", EAST, "grafana"), Some(Role::Reader)),
        // A service is never the person it is named like.
        (caller("service", EAST, "eve"), None),
        (caller("node", EAST, "n2"), None),
    ];
    for (who, role) in callers {
        for route in ROUTES {
            // dan may approve for warm towards us-west-2, which is narrower than the table says.
            if who.spiffe.id == "dan"
                && matches!(route.need, Need::Role(least) if least > Role::Reader)
            {
                continue;
            }
            let world = World::founded().await;
            let path = concrete(route.path);
            let response =
                world.send(&who, &route.method.to_uppercase(), &path, &body(route.path)).await;
            let forbidden = response.status().as_u16() == 403;
            assert_eq!(
                !forbidden,
                match founds(&who, route.path) {
                    None => may(&who, role, route.need),
                    Some(open) => open,
                },
                "{} {} as {} gave {}",
                route.method,
                path,
                who.spiffe,
                response.status()
            );
            assert_ne!(response.status().as_u16(), 405, "{} {path} is not routed", route.method);
        }
    }
}

/// Founding asks the table that is being founded, a restore the one of its backup; its parts are
/// for the person who began it. Here the cluster was founded before, and nobody restores it.
fn founds(who: &Caller, path: &str) -> Option<bool> {
    match path {
        "/v1/cluster/init" | "/v1/cluster/restore" => Some(true),
        path if path.starts_with("/v1/cluster/restore/") => {
            Some(matches!(who.actor, cryptorun_core::people::Actor::Person(_)))
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_for_one_tier_and_target_reaches_no_further() {
    let world = World::founded().await;
    let dan = person("dan");
    let ask = |to: &str| format!(r#"{{"tier":"warm","to":"{to}","dry_run":false,"reason":"x"}}"#);
    let (status, problem): (u16, Problem) =
        world.json(&dan, "POST", "/v1/promotions", &ask("eu-west")).await;
    assert_eq!((status, problem.kind.rsplit('/').next()), (403, Some("not_allowed")));
    let (status, _): (u16, serde_json::Value) =
        world.json(&dan, "POST", "/v1/promotions", &ask("us-west")).await;
    assert_ne!(status, 403);
}

#[tokio::test(start_paused = true)]
async fn only_an_admin_of_the_table_that_is_founded_founds() {
    let world = World::empty();
    let body = serde_json::to_string(&World::init_request()).unwrap();
    let (status, _): (u16, Problem) =
        world.json(&person("ana"), "POST", "/v1/cluster/init", &body).await;
    assert_eq!(status, 403);
    // Before founding people may look, and see that there is nothing.
    let (status, cluster): (u16, cryptorun_core::wire::ClusterStatus) =
        world.json(&person("ana"), "GET", "/v1/cluster", "").await;
    assert_eq!((status, cluster.id), (200, None));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knows_of_no_cluster_sends_everybody_on() {
    let world = World::empty();
    let pause = body("/v1/pauses");
    for (who, method, path, body) in [
        (person("ana"), "POST", "/v1/pauses", pause.as_str()),
        (person("stranger"), "POST", "/v1/pauses", pause.as_str()),
        (person("eve"), "POST", "/v1/promotions", r#"{"tier":"warm","to":"us-west"}"#),
        (person("eve"), "GET", "/v1/explain?tier=warm&target=us-west", ""),
        (worker(EAST), "GET", "/v1/scopes/warm/global?consistency=stale", ""),
    ] {
        let (status, problem): (u16, Problem) = world.json(&who, method, path, body).await;
        let kind = problem.kind.rsplit('/').next();
        assert_eq!((status, kind), (503, Some("not_ready")), "{method} {path} by {}", who.spiffe);
    }
}
