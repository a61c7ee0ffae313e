//! A block of loopback ports for one lab, checked before anything is started.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Ports not handed out yet, all of them free when the block was taken.
#[derive(Debug)]
pub struct PortBlock {
    next: u32,
    end: u32,
    count: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("port {port} is taken by {holder}; stop it, or choose another base port")]
    Taken { port: u16, holder: Holder },
    #[error("port {port} cannot be listened on")]
    Refused { port: u16, source: io::Error },
    #[error("{count} ports from {base} on are more than there are")]
    OutOfRange { base: u16, count: u16 },
    #[error("all {count} ports of the block are used")]
    UsedUp { count: u16 },
}

/// Who has a port, as far as this user may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub process: Option<(u32, String)>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.process {
            Some((pid, command)) => write!(f, "pid {pid} ({command})"),
            None => f.write_str("a process of another user"),
        }
    }
}

impl PortBlock {
    /// The ports `base .. base + count`, or the first that is not free and who has it.
    pub fn take(base: u16, count: u16) -> Result<Self, PortError> {
        let (start, end) = (u32::from(base), u32::from(base) + u32::from(count));
        if base == 0 || end > 65_536 {
            return Err(PortError::OutOfRange { base, count });
        }
        for port in base..=u16::try_from(end - 1).unwrap_or(u16::MAX) {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(_free) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(PortError::Taken { port, holder: holder(port) });
                }
                Err(source) => return Err(PortError::Refused { port, source }),
            }
        }
        Ok(Self { next: start, end, count })
    }

    /// The next port of the block, on loopback.
    pub fn next_address(&mut self) -> Result<SocketAddr, PortError> {
        match u16::try_from(self.next) {
            Ok(port) if self.next < self.end => {
                self.next += 1;
                Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            }
            _ => Err(PortError::UsedUp { count: self.count }),
        }
    }
}

/// Finds the process whose socket has `port`: the kernel's tables name the socket's inode, and a
/// process that has it open shows it among its descriptors.
fn holder(port: u16) -> Holder {
    let inodes: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| inodes(table, port)).collect();
    let process = fs::read_dir("/proc").ok().and_then(|entries| {
        entries.flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let open = fs::read_dir(entry.path().join("fd")).ok()?.flatten().any(|fd| {
                fs::read_link(fd.path())
                    .is_ok_and(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
            });
            open.then(|| (pid, command_of(pid)))
        })
    });
    Holder { process }
}

/// Links of the sockets bound to `port`, as `/proc/<pid>/fd` shows them.
fn inodes(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let lines = fs::read_to_string(table).unwrap_or_default();
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?;
        (local.ends_with(&wanted) && fields.get(9) != Some(&"0"))
            .then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    lines.lines().skip(1).filter_map(inode).collect()
}

fn command_of(pid: u32) -> String {
    const SHOWN_MAX: usize = 80;
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = raw
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    words.join(" ").chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_itself_and_its_holder() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = holder.local_addr().unwrap().port();
        let error = PortBlock::take(taken, 1).unwrap_err();
        let PortError::Taken { port, holder } = &error else { panic!("{error}") };
        assert_eq!(*port, taken);
        assert_eq!(holder.process.as_ref().map(|(pid, _)| *pid), Some(std::process::id()));
        assert!(error.to_string().starts_with(&format!("port {taken} is taken by pid ")));
    }

    #[test]
    fn a_block_hands_out_each_port_once() {
        // A free one, found by asking for any.
        let base =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut block = PortBlock::take(base, 1).unwrap();
        assert_eq!(block.next_address().unwrap().port(), base);
        assert!(matches!(block.next_address(), Err(PortError::UsedUp { .. })));
        assert!(matches!(PortBlock::take(65_500, 100), Err(PortError::OutOfRange { .. })));
    }
}
