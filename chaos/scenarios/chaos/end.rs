//! The verdicts of a run, from what is on record.

use super::Counts;
use super::clients::Told;
use super::duty::Asked;
use crate::verdict::Verdicts;
use crate::world::{Trouble, World};
use cryptorun_core::position::{Hash, Position};
use cryptorun_core::time::Millis;
use cryptorun_histories::wgl::{self, Verdict};
use cryptorun_lab::demo::stages::warm;
use serde::Deserialize;

/// Whatever waits for people or steps is over by then.
const ENDS_WITHIN: Millis = Millis::secs(120);
/// Sinks follow a primary that goes on; they are caught at one position.
const CAUGHT_WITHIN: Millis = Millis::secs(60);

pub fn effective(counts: &Counts, verdicts: &mut Verdicts) {
    let never: Vec<&str> = counts
        .iter()
        .filter(|(_, count)| count.effective == 0)
        .map(|(kind, _)| kind.name())
        .collect();
    let text = match never.is_empty() {
        true => format!("{} kinds", counts.len()),
        false => format!("never: {}", never.join(", ")),
    };
    verdicts.check("each kind was effective", never.is_empty() && !counts.is_empty(), text);
}

pub fn answers(told: &Told, verdicts: &mut Verdicts) {
    let (lost, refused) = (told.lost(), told.refused());
    let text = match lost.first() {
        None => format!("{} acknowledged writes, each on three nodes", told.looked_up()),
        Some(first) => format!("{} of {} are not: {first}", lost.len(), told.looked_up()),
    };
    let holds = lost.is_empty() && told.looked_up() > 0 && told.looked_up() == told.writes.get();
    verdicts.check("no answer is lost", holds, text);
    let text = match refused.first() {
        None => format!(
            "{} writes, {} reads; asked again {} times, {} outcomes unknown",
            told.writes.get(),
            told.reads.get(),
            told.asked_again.get(),
            told.unknown.get(),
        ),
        Some(first) => format!("{} were: {first}", refused.len()),
    };
    verdicts.check("no client was refused", refused.is_empty(), text);
}

/// Whether some order of what clients asked explains what they were told.
pub fn linearizable(told: &Told, verdicts: &mut Verdicts) {
    let history = told.history();
    let verdict = wgl::check(&history);
    let open = history.iter().filter(|operation| operation.returned.is_none()).count();
    let gave_up = u32::from(verdict == Verdict::GaveUp);
    let text = format!("{} operations, {open} of them open, gave up {gave_up}", history.len());
    let holds = verdict == Verdict::Linearizable && !history.is_empty();
    verdicts.check("histories are linearizable", holds, text);
}

pub async fn promotions(
    world: &World,
    asked: &Asked,
    verdicts: &mut Verdicts,
) -> Result<(), Trouble> {
    let asked = asked.all();
    let wrong: Vec<&str> =
        asked.values().filter(|c| c.away.is_none()).map(|c| c.line.as_str()).collect();
    for cause in asked.values() {
        let why = cause.away.as_deref().unwrap_or("ITS HOLDER WAS THERE");
        verdicts.note(format!("the controller asked: {}: {why}", cause.line));
    }
    let text = match wrong.is_empty() {
        true => format!("the controller asked {} times, each time rightly", asked.len()),
        false => format!("asked for while the holder was there: {}", wrong.join("; ")),
    };
    verdicts.check("no false promotion", wrong.is_empty(), text);
    let ended = world
        .until("every promotion ending", ENDS_WITHIN, async |world| {
            let all = world.ana().promotions().await?;
            let open: Vec<String> = all
                .iter()
                .filter(|p| p.promotion.is_open())
                .map(|p| format!("{} at {:?}", p.promotion.id, p.promotion.current()))
                .collect();
            if open.is_empty() { Ok(Some(all.len())) } else { Err(open.join(", ")) }
        })
        .await;
    if let Some(count) = verdicts.result("every promotion ended", ended) {
        verdicts.check("every promotion ended", true, format!("{count} promotions"));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Digest {
    position: Position,
    digest: Hash,
    rows: u64,
}

/// All sinks at one position: one chain hash, one digest of what readers are shown.
pub async fn one_chain(world: &World, verdicts: &mut Verdicts) -> Result<(), Trouble> {
    let name = "one chain in all regions";
    let found = world
        .until("the sinks at one position", CAUGHT_WITHIN, async |world| {
            let mut found = Vec::new();
            for site in &world.lab.sites {
                let path = format!("/v1/warm/digest?scope={}", warm());
                let worker = site.worker_api.to_string();
                found.push(world.ana().worker_at::<Digest>(&worker, &path).await?);
            }
            let seqs: Vec<u64> = found.iter().map(|digest| digest.position.seq).collect();
            let level = seqs.iter().all(|seq| *seq == seqs[0]);
            if level { Ok(Some(found)) } else { Err(format!("at {seqs:?}")) }
        })
        .await?;
    let same = found.iter().all(|d| {
        (d.position, d.digest, d.rows) == (found[0].position, found[0].digest, found[0].rows)
    });
    let all: Vec<String> = found
        .iter()
        .map(|d| format!("at record {}, {} rows, {:.8}", d.position, d.rows, d.digest.to_string()))
        .collect();
    let text = if same { all[0].clone() } else { all.join(" / ") };
    verdicts.check(name, same, text);
    Ok(())
}
