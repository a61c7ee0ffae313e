//! Every certificate, what was taken back, and the authority itself, exchanged under load.

use super::{Book, case, no_lease_moved, nothing_is_lost, under_load};
use crate::Arguments;
use crate::verdict::Verdicts;
use crate::world::{Trouble, World, page};
use cryptorun_core::wire::{Credentials, NodeCredentials};
use cryptorun_lab::demo::layout::{CLUSTER, TRUST_DOMAIN};
use std::collections::BTreeSet;

const NAME: &str = "rotate-certificates";
const TEXT: &str = include_str!("../../../docs/runbooks/rotate-certificates.md");
const RENEWALS: &str = "cryptorun_renewals_total";

pub async fn run(arguments: &Arguments, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    case(&format!("day-two {NAME}"), arguments, verdicts, async |world, verdicts| {
        let before = world.before().await?;
        let renewed = renewals(world).await?;
        let told = under_load(world, NAME, rotate(world, verdicts)).await?;
        let renewals = renewals(world).await?.since(&renewed);
        let text = format!("{renewals:?} of three workers");
        let none = renewals.lost == 0 && renewals.answered > 0;
        verdicts.check("no renewal is dropped", none, text);
        nothing_is_lost(world, &before, &told, verdicts).await?;
        no_lease_moved(world, &before, verdicts).await
    })
    .await
}

async fn rotate(world: &World, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let pki = world.lab.folder.join("pki");
    let book = Book::new(NAME, TEXT)
        .with_path("AUTHORITY", &pki.join("authority"))
        .with_path("NEW", &pki.join("new"))
        .with_path("LOST", &pki.join("eve"))
        .with("DOMAIN", TRUST_DOMAIN)
        .with("CLUSTER", CLUSTER);
    let first = presented(world).await?;
    book.follow("One certificate after the other", world, verdicts).await?;
    let second = presented(world).await?;
    changed("every certificate is another", &first, &second, verdicts);
    book.follow("Take a certificate back", world, verdicts).await?;
    book.follow("Another authority", world, verdicts).await?;
    let third = presented(world).await?;
    changed("every certificate is of the new authority", &second, &third, verdicts);
    Ok(())
}

/// Serial numbers that processes present.
async fn presented(world: &World) -> Result<BTreeSet<String>, Trouble> {
    let nodes: Vec<NodeCredentials> =
        world.ana().get_at(0, "/v1/cluster/certs").await.map_err(Trouble::new)?;
    let mut serials: BTreeSet<String> =
        nodes.into_iter().filter_map(|node| Some(node.credentials?.presents.serial)).collect();
    for site in &world.lab.sites {
        let worker = site.worker_api.to_string();
        let said: Credentials =
            world.ana().of_worker(&worker, "/v1/certs").await.map_err(Trouble::new)?;
        serials.insert(said.presents.serial);
    }
    Ok(serials)
}

fn changed(
    what: &str,
    before: &BTreeSet<String>,
    after: &BTreeSet<String>,
    verdicts: &mut Verdicts,
) {
    let kept = before.intersection(after).count();
    let all = before.len() == 6 && after.len() == 6 && kept == 0;
    verdicts.check(what, all, format!("{} of 6, {kept} of them from before", after.len()));
}

/// How workers' renewals ended, all workers together.
#[derive(Debug, Default)]
struct Renewals {
    answered: u64,
    retried: u64,
    lost: u64,
}

impl Renewals {
    fn since(&self, then: &Self) -> Self {
        Self {
            answered: self.answered - then.answered,
            retried: self.retried - then.retried,
            lost: self.lost - then.lost,
        }
    }
}

async fn renewals(world: &World) -> Result<Renewals, Trouble> {
    let mut all = Renewals::default();
    for site in &world.lab.sites {
        let page = page(site.worker_health, "/metrics").await.map_err(Trouble::new)?;
        let count = |outcome: &str| -> Result<u64, Trouble> {
            let sample = format!("{RENEWALS}{{outcome=\"{outcome}\"}} ");
            let found = page.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok());
            found.ok_or_else(|| Trouble::new(format!("no {sample}on the page of {}", site.name)))
        };
        all.answered += count("answered")?;
        all.retried += count("retried")?;
        all.lost += count("lost")?;
    }
    Ok(all)
}
