//! Which process holds the other end of a connection of this machine, from /proc.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

/// The index of the process whose socket goes from `peer` to `local`.
pub fn find(peer: SocketAddr, local: SocketAddr, pids: &[Option<u32>]) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", inode(&table, peer, local)?);
    pids.iter().position(|pid| pid.is_some_and(|pid| holds(pid, &socket)))
}

/// Lines `sl local remote state tx:rx tr:when retransmits uid timeout inode …`.
fn inode(table: &str, from: SocketAddr, to: SocketAddr) -> Option<&str> {
    let (from, to) = (hex(from)?, hex(to)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next()? == from && fields.next()? == to).then_some(())?;
        fields.nth(6)
    })
}

/// The address as a word of this machine's byte order, then the port.
fn hex(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_behind_a_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let stream = TcpStream::connect(local).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
        assert_eq!(find(peer, local, &[None, Some(1), Some(std::process::id())]), Some(2));
        assert_eq!(find(peer, local, &[Some(u32::MAX)]), None);
    }
}
