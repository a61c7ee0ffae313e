//! Runbooks, followed to the letter: what stands in `docs/runbooks/` as a console is typed, with its
//! exit code and what it must say.
//!
//! A block begins with ```` ```console ````, perhaps followed by who types (`as ben`, else ana) and where
//! (`on us-west-2`, `on each node`, `on each process`, `on each person`; else at the operator's desk). Lines with `$ `
//! are typed into `sh`, `systemctl` goes to the lab's supervisor. ` # exit 6` behind a command says how
//! it ends, if not with 0. Lines below it are found in what it says, in this order; `…` is anything.

use crate::verdict::Verdicts;
use crate::world::{Trouble, World, now, since};
use cryptorun_lab::demo::layout::{CLUSTER, PEOPLE, REGIONS, Site, TRUST_DOMAIN};
use cryptorun_lab::protocol::{KillSignal, ProcessState, ProcessStatus};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// A command, with its waiting.
const COMMAND_WITHIN: Duration = Duration::from_secs(150);
/// From a signal to the process's end or start.
const UNIT_WITHIN: Duration = Duration::from_secs(20);
const ANYTHING: char = '…';

/// A section of a runbook.
pub struct Runbook {
    name: String,
    blocks: Vec<Block>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Block {
    who: String,
    place: Place,
    commands: Vec<Command>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Desk,
    Region(String),
    EachNode,
    EachProcess,
    EachPerson,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Command {
    text: String,
    exit: i32,
    says: Vec<String>,
}

impl Runbook {
    /// The commands below a heading, up to the next of its level.
    pub fn section(name: &str, text: &str, heading: &str) -> Result<Self, Trouble> {
        let whole = format!("\n{text}");
        let begin = format!("\n## {heading}\n");
        let from = whole
            .find(&begin)
            .ok_or_else(|| Trouble::new(format!("{name} has no section '{heading}'")))?;
        let rest = &whole[from + begin.len()..];
        let section = rest.find("\n## ").map_or(rest, |end| &rest[..end]);
        let name = format!("{name}, {heading}");
        let blocks = blocks(section).map_err(|why| Trouble::new(format!("{name}: {why}")))?;
        Ok(Self { name, blocks })
    }

    /// Types everything; a command that did not end as written is a failed check, and ends it.
    pub async fn follow(
        &self,
        world: &World,
        variables: &BTreeMap<&str, String>,
        verdicts: &mut Verdicts,
    ) -> Result<(), Trouble> {
        let mut typed = 0;
        let begun = now();
        for block in &self.blocks {
            for hand in hands(world, block, variables)? {
                for command in &block.commands {
                    hand.types(command).await.inspect_err(|why| {
                        verdicts.check(&self.name, false, format!("$ {}: {why}", command.text));
                    })?;
                    typed += 1;
                }
            }
        }
        let text = format!("{typed} commands did what is written, in {}", since(begun));
        verdicts.check(&self.name, typed > 0, text);
        Ok(())
    }
}

fn blocks(section: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        let Some(words) = line.trim().strip_prefix("```console") else { continue };
        let mut block = heading(words)?;
        for line in lines.by_ref().take_while(|line| line.trim() != "```") {
            match (line.trim().strip_prefix("$ "), block.commands.last_mut()) {
                (Some(text), _) => block.commands.push(command(text)?),
                (None, Some(last)) => last.says.push(line.trim().to_owned()),
                (None, None) => return Err(format!("'{line}' comes before any command")),
            }
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn heading(words: &str) -> Result<Block, String> {
    let mut block = Block { who: "ana".to_owned(), ..Block::default() };
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        let next = words.next().ok_or_else(|| format!("'{word}' what?"))?;
        match (word, next) {
            ("as", who) => block.who = who.to_owned(),
            ("on", "each") => match words.next() {
                Some("node") => block.place = Place::EachNode,
                Some("process") => block.place = Place::EachProcess,
                Some("person") => block.place = Place::EachPerson,
                other => return Err(format!("on each {other:?}?")),
            },
            ("on", region) if REGIONS.contains(&region) => {
                block.place = Place::Region(region.to_owned());
            }
            _ => return Err(format!("'{word} {next}' is nobody and nowhere")),
        }
    }
    Ok(block)
}

fn command(text: &str) -> Result<Command, String> {
    let (text, exit) = match text.rsplit_once(" # exit ") {
        None => (text, 0),
        Some((text, code)) => {
            (text, code.trim().parse().map_err(|_| format!("'{code}' is no exit code"))?)
        }
    };
    Ok(Command { text: text.trim().to_owned(), exit, says: Vec::new() })
}

/// Somebody at one place.
struct Hand<'a> {
    world: &'a World,
    env: BTreeMap<String, String>,
    /// The process that `systemctl` means here.
    unit: BTreeMap<&'static str, String>,
}

fn hands<'a>(
    world: &'a World,
    block: &Block,
    variables: &BTreeMap<&str, String>,
) -> Result<Vec<Hand<'a>>, Trouble> {
    let desk = Hand::of(world, &block.who, variables);
    Ok(match &block.place {
        Place::Desk => vec![desk],
        Place::Region(region) => vec![desk.at(world.site(region)?)],
        Place::EachNode => world.lab.sites.iter().map(|site| desk.clone().at(site)).collect(),
        Place::EachPerson => PEOPLE
            .map(|person| {
                let id = name_of(&format!("person/us-east-1/{person}"));
                desk.clone().with("", &world.lab.identity(person), id)
            })
            .into(),
        Place::EachProcess => world
            .lab
            .sites
            .iter()
            .flat_map(|site| {
                let at = desk.clone().at(site);
                let worker = at.clone().with(
                    "cryptorun-worker",
                    &world.lab.identity(&site.worker_process()),
                    name_of(&format!("worker/{}/w-{}", site.name, site.name)),
                );
                [at, worker]
            })
            .collect(),
    })
}

/// The whole name of an identity of the lab.
fn name_of(rest: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/cryptorun/{CLUSTER}/{rest}")
}

impl Clone for Hand<'_> {
    fn clone(&self) -> Self {
        Self { world: self.world, env: self.env.clone(), unit: self.unit.clone() }
    }
}

impl<'a> Hand<'a> {
    fn of(world: &'a World, who: &str, variables: &BTreeMap<&str, String>) -> Self {
        let identity = world.lab.identity(who);
        let file = |name: &str| identity.join(name).display().to_string();
        let endpoints: Vec<String> =
            world.lab.sites.iter().map(|site| site.node_api.to_string()).collect();
        let folder = world.lab.program.parent().unwrap_or(Path::new("/"));
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        let mut env: BTreeMap<String, String> = [
            ("PATH", path),
            ("CRYPTORUN_ENDPOINTS", endpoints.join(",")),
            ("CRYPTORUN_CERT", file("cert.pem")),
            ("CRYPTORUN_KEY", file("key.pem")),
            ("CRYPTORUN_CA", file("ca.pem")),
            ("NO_COLOR", "1".to_owned()),
            ("PROGRAM", world.lab.program.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        env.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        Self { world, env, unit: BTreeMap::new() }
    }

    /// On a region's host, where its node's files are.
    fn at(mut self, site: &Site) -> Self {
        let folder = &self.world.lab.folder;
        let node = site.node_process();
        for (name, value) in [
            ("REGION", site.name.to_owned()),
            ("CONFIG", folder.join(format!("{node}.yaml")).display().to_string()),
            ("DATA", folder.join(&node).display().to_string()),
        ] {
            self.env.insert(name.to_owned(), value);
        }
        self.unit.insert("cryptorun-worker", site.worker_process());
        self.unit.insert("cryptorun-node", node.clone());
        let identity = self.world.lab.identity(&node);
        let id = name_of(&format!("node/{}/{}", site.name, site.node));
        self.with("cryptorun-node", &identity, id)
    }

    /// One process of it.
    fn with(mut self, unit: &str, identity: &Path, id: String) -> Self {
        for (name, value) in
            [("UNIT", unit.to_owned()), ("TLS", identity.display().to_string()), ("ID", id)]
        {
            self.env.insert(name.to_owned(), value);
        }
        self
    }

    async fn types(&self, command: &Command) -> Result<(), Trouble> {
        if let Some(words) = command.text.strip_prefix("systemctl ") {
            return self.systemctl(words).await;
        }
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", &command.text]).env_clear().envs(&self.env);
        let output = shell.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(COMMAND_WITHIN, output)
            .await
            .map_err(|_| Trouble::new(format!("not done in {COMMAND_WITHIN:?}")))??;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let code = output.status.code().unwrap_or(-1);
        if code != command.exit {
            return Err(Trouble::new(format!("exit {code}, written is {}\n{said}", command.exit)));
        }
        match missing(&said, &command.says) {
            None => Ok(()),
            Some(line) => Err(Trouble::new(format!("it does not say '{line}', but\n{said}"))),
        }
    }

    async fn systemctl(&self, words: &str) -> Result<(), Trouble> {
        let no = || Trouble::new(format!("systemctl {words}: no such unit or verb here"));
        let (verb, unit) = words.split_once(' ').ok_or_else(no)?;
        let unit = match unit.trim().trim_matches('"') {
            "$UNIT" => self.env.get("UNIT").map_or("", String::as_str),
            unit => unit,
        };
        let process = self.unit.get(unit).ok_or_else(no)?;
        match verb {
            "stop" => self.stop(process).await,
            "start" => self.start(process).await,
            "restart" => {
                self.stop(process).await?;
                self.start(process).await
            }
            "reload" => self.reload(process),
            _ => Err(no()),
        }
    }

    /// What is stopped already stays so.
    async fn stop(&self, process: &str) -> Result<(), Trouble> {
        let down = |status: &ProcessStatus| status.state == ProcessState::Down;
        if self.world.lab.supervisor.status().iter().any(|s| s.name == process && down(s)) {
            return Ok(());
        }
        self.world.lab.supervisor.kill(process, KillSignal::Term, true)?;
        self.until(process, ProcessState::Down).await
    }

    async fn start(&self, process: &str) -> Result<(), Trouble> {
        self.world.lab.supervisor.start_again(process)?;
        self.until(process, ProcessState::Running).await
    }

    async fn until(&self, process: &str, state: ProcessState) -> Result<(), Trouble> {
        let reached = self.world.lab.supervisor.until(process, |status| status.state == state);
        match tokio::time::timeout(UNIT_WITHIN, reached).await {
            Ok(reached) => reached.map(drop).map_err(Trouble::from),
            Err(_) => {
                Err(Trouble::new(format!("{process} is not {state:?} within {UNIT_WITHIN:?}")))
            }
        }
    }

    fn reload(&self, process: &str) -> Result<(), Trouble> {
        let status = self.world.lab.supervisor.status();
        let pid = status.into_iter().find(|status| status.name == process).and_then(|s| s.pid);
        let pid = pid
            .and_then(Pid::from_raw)
            .ok_or_else(|| Trouble::new(format!("{process} does not run")))?;
        Ok(kill_process(pid, Signal::HUP)?)
    }
}

/// The first expected line that is not there, behind those before it.
fn missing<'a>(said: &str, expected: &'a [String]) -> Option<&'a str> {
    let mut lines = said.lines();
    expected
        .iter()
        .map(String::as_str)
        .filter(|pattern| !pattern.trim_matches(ANYTHING).is_empty())
        .find(|pattern| !lines.any(|line| fits(line.trim(), pattern)))
}

/// Whether a line is as written, `…` standing for anything.
fn fits(line: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once(ANYTHING) else { return line == pattern };
    let (between, last) = rest.rsplit_once(ANYTHING).unwrap_or(("", rest));
    let Some(mut line) = line.strip_prefix(first.trim()) else { return false };
    for part in between.split(ANYTHING).map(str::trim) {
        let Some(at) = line.find(part) else { return false };
        line = &line[at + part.len()..];
    }
    line.ends_with(last.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_who_where_what_and_how_it_ends() {
        let text = "## Do it\n\nWords.\n\n```console as ben on us-west-2\n$ a b # exit 6\nR-1 … waits\n…\n$ c\n```\n## Else\n```console\n$ d\n```\n";
        let book = Runbook::section("x", text, "Do it").unwrap();
        let command = |text: &str, exit, says: &[&str]| Command {
            text: text.to_owned(),
            exit,
            says: says.iter().map(|line| (*line).to_owned()).collect(),
        };
        let commands = vec![command("a b", 6, &["R-1 … waits", "…"]), command("c", 0, &[])];
        let place = Place::Region("us-west-2".to_owned());
        assert_eq!(book.blocks, [Block { who: "ben".to_owned(), place, commands }]);
        assert!(Runbook::section("x", text, "Nothing").is_err());
        assert!(blocks("```console in bed\n$ a\n```").is_err());
        assert!(blocks("```console\nfirst\n```").is_err());
    }

    #[test]
    fn expected_lines_are_found_in_their_order() {
        let said = "one 1\n  two 22 of 3\nthree\n";
        let all = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        for good in [&["one …", "…", "two … of 3"][..], &["… 22 of 3", "three"], &["one 1"], &[]]
        {
            assert_eq!(missing(said, &all(good)), None, "{good:?}");
        }
        for bad in [&["three", "one …"][..], &["two 22"], &["… 22"], &["one … 2"], &["wo … of 3"]]
        {
            assert!(missing(said, &all(bad)).is_some(), "{bad:?}");
        }
    }
}
