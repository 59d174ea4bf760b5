//! Which process holds the other end of a connection of this machine: the kernel tells the socket's inode (sock_diag(7)),
//! and /proc who has it.

use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;
/// Of a request: the header of netlink, and that of the question with a socket's addresses.
const REQUEST_BYTES: u32 = 72;
/// Where the inode is in an answer.
const INODE_AT: usize = 84;

/// The index of the process whose socket goes from `peer` to `local`.
pub fn find(peer: SocketAddr, local: SocketAddr, pids: &[Option<u32>]) -> Option<usize> {
    let socket = format!("socket:[{}]", inode(peer, local).ok()??);
    pids.iter().position(|pid| pid.is_some_and(|pid| holds(pid, &socket)))
}

/// Asks for this one socket: a list of all would take a tenth of a second while there are thousands.
fn inode(from: SocketAddr, to: SocketAddr) -> io::Result<Option<u32>> {
    let (IpAddr::V4(from_ip), IpAddr::V4(to_ip)) = (from.ip(), to.ip()) else { return Ok(None) };
    let mut request = Vec::with_capacity(REQUEST_BYTES as usize);
    request.extend(REQUEST_BYTES.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port of the sender.
    request.extend([0; 8]);
    request.extend([AF_INET, IPPROTO_TCP, 0, 0]);
    // In any state.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(from.port().to_be_bytes());
    request.extend(to.port().to_be_bytes());
    for ip in [from_ip, to_ip] {
        request.extend(ip.octets());
        request.extend([0; 12]);
    }
    // On any interface, with any cookie.
    request.extend([0; 4]);
    request.extend([0xff; 8]);
    let mut socket =
        Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    socket.write_all(&request)?;
    let mut answer = [0; 1024];
    let length = socket.read(&mut answer)?;
    let is_found = u16::from_ne_bytes([answer[4], answer[5]]) == SOCK_DIAG_BY_FAMILY;
    let inode = answer[..length].get(INODE_AT..INODE_AT + 4).filter(|_| is_found);
    Ok(inode.and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes))
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
