//! The API described, as OpenAPI 3.1: from the table of routes and the shapes they exchange.

use crate::caller::Need;
use crate::http::{ROUTES, Route};
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

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

fn build() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        item[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cryptorun admin API",
            "version": "1",
            "description": "Who may write which data tier, and why. Mutual TLS; the certificate's \
                SPIFFE id is the identity.",
        },
        "paths": paths,
    })
}

fn operation(route: &Route) -> Value {
    let need = match route.need {
        Need::Any => "any certificate of this cluster".to_owned(),
        Need::Role(role) => format!("role {role}"),
        Need::RoleOrWorker(role) => format!("role {role}, or a worker"),
        Need::Worker => "a worker, for its own session".to_owned(),
    };
    json!({ "summary": route.what, "description": format!("Needs {need}.") })
}
