//! The API described, as OpenAPI 3.1: from the table of routes and the shapes they exchange.
//!
//! The shapes come from the types themselves (`core`'s feature `openapi`); what a route takes and
//! answers stands in one table here, and a test holds both against the router's.

use crate::caller::Need;
use crate::http::{ROUTES, Route};
use cryptorun_core::record::Request;
use cryptorun_core::wire;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

/// The document, as served and as committed under `docs/openapi.json`.
pub fn document() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        // A value of strings, numbers and maps can always be written.
        let mut text = serde_json::to_string_pretty(&build()).unwrap_or_default();
        text.push('\n');
        text
    })
}

/// Schemas seen so far, by name.
type Schemas = Vec<(String, RefOr<Schema>)>;

/// What a route takes and answers.
struct Shape {
    query: &'static [(&'static str, bool, &'static str)],
    body: Option<fn(&mut Schemas) -> Value>,
    answer: fn(&mut Schemas) -> Value,
    status: &'static str,
}

/// A reference to a type's schema, which is put among the others.
fn of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let name = T::name().into_owned();
    if !schemas.iter().any(|(known, _)| *known == name) {
        schemas.push((name.clone(), T::schema()));
        T::schemas(schemas);
    }
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list<T: ToSchema>(schemas: &mut Schemas) -> Value {
    json!({ "type": "array", "items": of::<T>(schemas) })
}

fn events(_: &mut Schemas) -> Value {
    json!({ "type": "string", "description": "server-sent events" })
}

fn anything(_: &mut Schemas) -> Value {
    json!({ "type": "object" })
}

fn created(schemas: &mut Schemas) -> Value {
    json!({ "oneOf": [of::<wire::DryRun>(schemas), of::<wire::Accepted>(schemas)] })
}

const READ: &[(&str, bool, &str)] = &[
    ("consistency", false, "`linearizable`, the default, `lease` or `stale`"),
    ("wait_index", false, "not before this log index is applied here"),
];
const EXPLAIN: &[(&str, bool, &str)] = &[
    ("tier", true, "`hot`, `warm` or `cold`"),
    ("group", false, "`global` when absent"),
    ("target", true, "a region, by name or alias"),
    ("consistency", false, "`linearizable`, the default, `lease` or `stale`"),
    ("wait_index", false, "not before this log index is applied here"),
];
const REFUSALS: &[(&str, bool, &str)] = &[
    ("tier", true, "`hot`, `warm` or `cold`"),
    ("group", false, "`global` when absent"),
    ("since", false, "as `2025-01-01T00:00:00Z`; a day before the end when absent"),
    ("until", false, "the end; now when absent"),
];
const RENEW: &[(&str, bool, &str)] =
    &[("directed", false, "the `directed` of an earlier answer: what has not changed is left out")];
const SCOPE: &[(&str, bool, &str)] =
    &[("tier", true, "`hot`, `warm` or `cold`"), ("group", false, "`global` when absent")];
const WATCH: &[(&str, bool, &str)] =
    &[("watch_from", false, "the last index seen; the whole state comes first when absent")];
const JOURNAL: &[(&str, bool, &str)] = &[
    ("scope", true, "such as `warm/global`"),
    ("region", false, "whose sink; this node's when absent"),
];
const BACKUP: &[(&str, bool, &str)] =
    &[("alone", false, "everything this node has, committed or not; needs no quorum")];
const AUDIT: &[(&str, bool, &str)] = &[
    ("from", false, "first entry; the newest page when absent"),
    ("limit", false, "how many, at most 1000"),
    ("by", false, "only whose acts: `ana`, `worker w1`, `the controller`"),
    ("about", false, "only what is about this or names it: `P-7`, `warm/global`"),
    ("since", false, "only from this moment on, as `2025-01-01T00:00:00Z`"),
    ("until", false, "only up to this moment"),
    ("consistency", false, "`linearizable`, the default, `lease` or `stale`"),
];

fn shape(method: &str, path: &str) -> Option<Shape> {
    let read = |answer| Shape { query: READ, body: None, answer, status: "200" };
    let change = |body| Shape { query: &[], body, answer: of::<wire::Accepted>, status: "200" };
    let word: Option<fn(&mut Schemas) -> Value> = Some(of::<wire::WordRequest>);
    Some(match (method, path) {
        ("get", "/v1/status") => read(of::<wire::Status>),
        ("get", "/v1/scopes") => read(list::<wire::ScopeStatus>),
        ("get", "/v1/scopes/{tier}/{group}") => read(of::<wire::ScopeStatus>),
        ("get", "/v1/regions") => read(list::<wire::RegionStatus>),
        ("get", "/v1/sessions") => read(list::<wire::SessionStatus>),
        ("post", "/v1/sessions") => Shape {
            answer: of::<wire::SessionOpened>,
            ..change(Some(of::<wire::OpenSessionRequest>))
        },
        ("post", "/v1/sessions/{id}/renew") => {
            let change = change(Some(of::<wire::RenewRequest>));
            Shape { query: RENEW, answer: of::<wire::RenewAnswer>, ..change }
        }
        ("post", "/v1/sessions/{id}/release") => change(Some(of::<wire::ReleaseRequest>)),
        ("post", "/v1/sessions/{id}/handover") => change(Some(of::<wire::HandoverRequest>)),
        ("delete", "/v1/sessions/{id}") => change(None),
        ("get", "/v1/sessions/{id}/directives") => Shape { query: &[], ..read(events) },
        ("get", "/v1/leases") => Shape { query: WATCH, ..read(events) },
        ("post", "/v1/promotions") => {
            Shape { answer: created, ..change(Some(of::<wire::PromotionRequest>)) }
        }
        ("get", "/v1/promotions") => read(list::<wire::PromotionStatus>),
        ("get", "/v1/promotions/{id}") => read(of::<wire::PromotionStatus>),
        ("post", "/v1/promotions/{id}/approve" | "/v1/promotions/{id}/deny") => change(word),
        ("post", "/v1/promotions/{id}/cancel") => change(word),
        ("post", "/v1/pauses") => change(Some(of::<wire::PauseRequest>)),
        ("delete", "/v1/pauses") => Shape { query: SCOPE, ..change(None) },
        ("post", "/v1/simulations") => {
            Shape { answer: of::<wire::Simulation>, ..change(Some(of::<wire::SimulationRequest>)) }
        }
        ("get", "/v1/requests/{key}") => read(of::<Request>),
        ("get", "/v1/refusals") => Shape { query: REFUSALS, ..read(of::<wire::Refusals>) },
        ("get", "/v1/explain") => Shape { query: EXPLAIN, ..read(of::<wire::Explanation>) },
        ("get", "/v1/audit") => Shape { query: AUDIT, ..read(of::<wire::AuditPage>) },
        ("get", "/v1/audit/verify") => read(of::<wire::AuditVerdict>),
        ("get", "/v1/journal") => {
            Shape { query: JOURNAL, body: None, answer: of::<wire::Problem>, status: "307" }
        }
        ("get", "/v1/cluster") => read(of::<wire::ClusterStatus>),
        ("post", "/v1/cluster/init") => change(Some(of::<wire::InitRequest>)),
        ("post", "/v1/cluster/transfer-leader") => change(Some(of::<wire::TransferRequest>)),
        ("post", "/v1/cluster/members") => change(Some(of::<wire::AddMemberRequest>)),
        ("delete", "/v1/cluster/members/{node}") => change(None),
        ("get", "/v1/cluster/node") => Shape { query: &[], ..read(of::<wire::NodeStanding>) },
        ("get", "/v1/cluster/certs") => Shape { query: &[], ..read(list::<wire::NodeCredentials>) },
        ("get", "/v1/certs") => Shape { query: &[], ..read(of::<wire::Credentials>) },
        ("get", "/v1/cluster/nodes") => Shape { query: &[], ..read(list::<wire::NodeSeen>) },
        ("post", "/v1/cluster/snapshot") => change(None),
        ("post", "/v1/cluster/preference") => change(Some(of::<wire::PreferenceRequest>)),
        ("get", "/v1/cluster/backup") => Shape { query: BACKUP, ..read(of::<wire::Backup>) },
        ("post", "/v1/cluster/restore") => change(Some(of::<wire::RestoreRequest>)),
        ("post", "/v1/cluster/restore/parts") => change(Some(of::<wire::RestorePartRequest>)),
        ("post", "/v1/cluster/restore/finish") => change(Some(of::<wire::RestoreFinishRequest>)),
        ("get", "/v1/rules") => read(list::<wire::RuleStatus>),
        ("get", "/v1/rules/{id}") => read(of::<wire::RuleStatus>),
        ("post", "/v1/rules") => change(Some(of::<wire::RuleRequest>)),
        ("post", "/v1/rules/{id}/approve" | "/v1/rules/{id}/deny" | "/v1/rules/{id}/cancel") => {
            change(word)
        }
        ("get", "/v1/whoami") => Shape { query: &[], ..read(of::<wire::WhoAmI>) },
        ("get", "/v1/openapi.json") => Shape { query: &[], ..read(anything) },
        _ => return None,
    })
}

fn build() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    let problem = of::<wire::Problem>(&mut schemas);
    of::<wire::LeaseEvent>(&mut schemas);
    for route in ROUTES {
        let Some(shape) = shape(route.method, route.path) else { continue };
        let item = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        item[route.method] = operation(route, &shape, &problem, &mut schemas);
    }
    schemas.sort_by(|(a, _), (b, _)| a.cmp(b));
    schemas.dedup_by(|(a, _), (b, _)| a == b);
    let schemas: Map<String, Value> = schemas
        .into_iter()
        .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cryptorun admin API",
            "version": "1",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Who may write which data tier, and why. Mutual TLS; the certificate's \
                SPIFFE id is the identity.",
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(route: &Route, shape: &Shape, problem: &Value, schemas: &mut Schemas) -> Value {
    let need = match route.need {
        Need::Any => "any certificate of this cluster".to_owned(),
        Need::Role(role) => format!("role {role}"),
        Need::RoleOrWorker(role) => format!("role {role}, or a worker"),
        Need::Worker => "a worker, for its own session".to_owned(),
    };
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        })
        .collect();
    parameters.extend(shape.query.iter().map(|(name, required, what)| {
        let kind = match *name {
            "wait_index" | "watch_from" | "from" | "limit" | "directed" => "integer",
            _ => "string",
        };
        json!({
            "name": name, "in": "query", "required": required, "description": what,
            "schema": { "type": kind },
        })
    }));
    let mutates = route.method != "get" && route.need != Need::Worker;
    if mutates && !matches!(route.path, "/v1/simulations") {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "the same key does it once; with another body it is refused (422)",
            "schema": { "type": "string", "maxLength": 128 },
        }));
    }
    let streams = route.path.ends_with("/directives") || route.path == "/v1/leases";
    let media = if streams { "text/event-stream" } else { "application/json" };
    let answer = (shape.answer)(schemas);
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.what,
        "description": format!("Needs {need}."),
        "parameters": parameters,
        "responses": {
            shape.status: { "description": "done", "content": { media: { "schema": answer } } },
            "default": {
                "description": "not done, or not known to be",
                "content": { "application/problem+json": { "schema": problem } },
            },
        },
    });
    if route.path == "/v1/promotions" && route.method == "post" {
        let content = json!({ "application/json": { "schema": created(schemas) } });
        operation["responses"]["202"] = json!({ "description": "asked for", "content": content });
    }
    if let Some(body) = shape.body {
        let content = json!({ "application/json": { "schema": body(schemas) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// `post_promotions_approve`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '-', '.']).filter(|part| !part.is_empty() && *part != "v1");
    let words: Vec<&str> = words.map(|word| word.trim_matches(['{', '}'])).collect();
    format!("{}_{}", route.method, words.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_has_a_shape_and_every_reference_a_schema() {
        for route in ROUTES {
            assert!(shape(route.method, route.path).is_some(), "{} {}", route.method, route.path);
        }
        let document: Value = serde_json::from_str(document()).unwrap();
        let known: BTreeSet<String> =
            document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
        let text = super::document();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(known.contains(name), "{name} is referred to and not there");
        }
        let ids: Vec<String> = ROUTES.iter().map(operation_id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }

    /// To renew it after a wanted change: `CRYPTORUN_WRITE_OPENAPI=1 cargo test -p cryptorun-control`.
    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        if std::env::var_os("CRYPTORUN_WRITE_OPENAPI").is_some() {
            std::fs::write(&path, document()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == document(), "docs/openapi.json is not what this code serves");
    }
}
