//! A held demo: everything goes on running, and files say how to reach it.
//!
//! `demo.env` (operator ana) and one file an operator point the command line at it; `demo.json`
//! lists every process, link and certificate (schema in `docs/demo.md`).

use super::layout::{DemoOptions, Lab, PEOPLE, certificates};
use crate::control::Control;
use crate::protocol::{LinkStatus, ProcessStatus};
use cryptorun_platform::shutdown::Shutdown;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Serialize)]
struct DemoFile {
    folder: PathBuf,
    control: SocketAddr,
    processes: Vec<ProcessStatus>,
    links: Vec<LinkStatus>,
    certificates: BTreeMap<String, PathBuf>,
}

/// Writes the files, answers `cryptorun lab …`, and waits until somebody stops it.
pub async fn until(lab: &Lab, options: &DemoOptions, shutdown: &Shutdown) {
    if let Err(error) = write_files(lab) {
        eprintln!("warning: a file of the held demo cannot be written: {error}");
    }
    let stop = CancellationToken::new();
    let control = Control {
        supervisor: lab.supervisor.clone(),
        links: lab.links.clone(),
        venues: lab.venue_control.map(|addr| ("kraken".to_owned(), addr)).into_iter().collect(),
    };
    let serving = match TcpListener::bind(lab.control).await {
        Ok(listener) => Some(tokio::spawn(control.serve(listener, stop.clone()))),
        Err(error) => {
            eprintln!("warning: cryptorun lab cannot reach this demo: {}: {error}", lab.control);
            None
        }
    };
    if !options.json {
        println!("\nheld until Ctrl-C; in another terminal:");
        println!("  . {}", lab.folder.join("demo.env").display());
        println!("  {} replication status", options.program.display());
    }
    shutdown.draining().await;
    stop.cancel();
    if let Some(serving) = serving {
        let _ = serving.await;
    }
}

fn write_files(lab: &Lab) -> std::io::Result<()> {
    for person in PEOPLE {
        std::fs::write(lab.folder.join(format!("{person}.env")), env_of(lab, person))?;
    }
    std::fs::write(lab.folder.join("demo.env"), env_of(lab, PEOPLE[0]))?;
    let file = DemoFile {
        folder: lab.folder.clone(),
        control: lab.control,
        processes: lab.supervisor.status(),
        links: lab.links.status(),
        certificates: certificates(lab),
    };
    let text = serde_json::to_string_pretty(&file).map_err(std::io::Error::other)?;
    std::fs::write(lab.folder.join("demo.json"), text)
}

fn env_of(lab: &Lab, person: &str) -> String {
    let endpoints: Vec<String> = lab.sites.iter().map(|site| site.node_api.to_string()).collect();
    let workers: Vec<String> =
        lab.sites.iter().map(|site| format!("{}={}", site.name, site.worker_api)).collect();
    let folder = lab.identity(person);
    let folder = folder.display();
    format!(
        "export CRYPTORUN_ENDPOINTS={}\nexport CRYPTORUN_WORKERS={}\n\
         export CRYPTORUN_CA={folder}/ca.pem\nexport CRYPTORUN_CERT={folder}/cert.pem\n\
         export CRYPTORUN_KEY={folder}/key.pem\nexport CRYPTORUN_LAB={}\n",
        endpoints.join(","),
        workers.join(","),
        lab.control,
    )
}
