//! Which process listens on a port of this machine, as far as `/proc` tells.

use std::fs;
use std::path::Path;

/// The state column of `/proc/net/tcp` for a listening socket.
const LISTENING: &str = "0A";

/// `pid 4711 (cryptorun node --config n1.yaml)`; `None` where the system does not say, or the
/// process belongs to somebody else.
pub fn of_port(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| holds(*pid, &sockets))
        .map(|pid| format!("pid {pid} ({})", command(pid)))
}

/// Inodes of the sockets that listen on `port`, out of one of the kernel's tables.
fn listening(table: &str, port: u16) -> Vec<String> {
    let port = format!("{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (_, local_port) = columns.get(1)?.rsplit_once(':')?;
            let found = local_port == port && *columns.get(3)? == LISTENING;
            found.then(|| columns.get(9).map(|inode| (*inode).to_owned())).flatten()
        })
        .collect()
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.filter_map(Result::ok)
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| sockets.iter().any(|socket| target == Path::new(socket)))
}

fn command(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words).replace('\0', " ");
    match text.trim() {
        "" => "its command line cannot be read".to_owned(),
        // One line of a message, whatever somebody called their program.
        shown => shown.chars().filter(|c| !c.is_control()).take(120).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_among_listening_sockets_only() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1CE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 34021 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1CE8 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 34999 1 0000000000000000 20 4 30 10 -1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20000 1 0000000000000000 100 0 0 10 0
";
        assert_eq!(listening(table, 7400), ["34021"]);
        assert_eq!(listening(table, 7401), [""; 0]);
    }
}
