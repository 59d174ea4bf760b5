//! What each fault does to connections, seen from both of their ends.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use roomcast_test_servers::free_port;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{Before, Direction, Proxy};
use crate::wait::DEADLINE;

/// Long enough to believe that nothing comes.
const NOTHING: Duration = Duration::from_millis(100);

struct Stage {
    proxy: Proxy,
    from: SocketAddr,
    to: SocketAddr,
    listener: Option<TcpListener>,
}

impl Stage {
    async fn set() -> Self {
        let [from, to] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let listener = TcpListener::bind(to).await.unwrap();
        Self { proxy: Proxy::start(from, to).await, from, to, listener: Some(listener) }
    }

    /// Both ends of a connection that works.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let mut near = TcpStream::connect(self.from).await.unwrap();
        let accepting = self.listener.as_ref().unwrap().accept();
        let (mut far, _) = timeout(DEADLINE, accepting).await.unwrap().unwrap();
        passes(&mut near, &mut far, b"hello").await;
        passes(&mut far, &mut near, b"welcome").await;
        (near, far)
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    assert_eq!(arrives(to, bytes.len()).await, bytes);
}

async fn arrives(to: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(DEADLINE, to.read_exact(&mut bytes)).await.expect("it comes").unwrap();
    bytes
}

/// How a stream ends: in order, or by a reset.
async fn ends(stream: &mut TcpStream) -> Result<(), ErrorKind> {
    let read = timeout(DEADLINE, stream.read(&mut [0; 64])).await.expect("it ends");
    read.map(|count| assert_eq!(count, 0, "nothing more comes")).map_err(|error| error.kind())
}

async fn is_silent(stream: &mut TcpStream) {
    assert!(timeout(NOTHING, stream.read(&mut [0; 64])).await.is_err(), "nothing comes, not even the end");
}

const RESET: Result<(), ErrorKind> = Err(ErrorKind::ConnectionReset);

#[tokio::test]
async fn a_way_without_faults_carries_everything_and_both_ends() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    let much = vec![7; 3 << 20];
    let sent = much.clone();
    let (_, got) = tokio::join!(far.write_all(&sent), arrives(&mut near, much.len()));
    assert!(got == much);
    near.shutdown().await.unwrap();
    assert_eq!(ends(&mut far).await, Ok(()));
    passes(&mut far, &mut near, b"still").await;
    drop(far);
    assert_eq!(ends(&mut near).await, Ok(()));
    assert_eq!(stage.proxy.connections(), 1);
}

#[tokio::test]
async fn a_delay_holds_up_one_direction_and_keeps_the_order() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    let delay = Duration::from_millis(80);
    stage.proxy.delay(Direction::Onward, delay, Duration::from_millis(40), 7);
    let sent = Instant::now();
    for digit in 0..10u8 {
        near.write_all(&[digit]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(arrives(&mut far, 10).await, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(sent.elapsed() >= delay);
    // What was delayed goes on at once when the fault ends.
    stage.proxy.delay(Direction::Onward, Duration::from_secs(3_600), Duration::ZERO, 7);
    near.write_all(b"late").await.unwrap();
    is_silent(&mut far).await;
    stage.proxy.mend();
    assert_eq!(arrives(&mut far, 4).await, b"late");
}

#[tokio::test]
async fn a_throttled_way_takes_the_time_that_its_rate_says() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    stage.proxy.throttle(Direction::Back, 20_000);
    let sent = Instant::now();
    far.write_all(&[1; 6_000]).await.unwrap();
    arrives(&mut near, 6_000).await;
    assert!(sent.elapsed() >= Duration::from_millis(290), "{:?}", sent.elapsed());
    passes(&mut near, &mut far, b"the other way is free").await;
}

#[tokio::test]
async fn what_is_held_goes_on_when_it_is_released() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    stage.proxy.hold(Direction::Onward);
    near.write_all(b"wait").await.unwrap();
    is_silent(&mut far).await;
    passes(&mut far, &mut near, b"the other way is free").await;
    stage.proxy.release(Direction::Onward);
    assert_eq!(arrives(&mut far, 4).await, b"wait");
}

#[tokio::test]
async fn a_parted_way_is_silent_and_goes_on_where_it_was() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    stage.proxy.part();
    near.write_all(b"onward").await.unwrap();
    far.write_all(b"back").await.unwrap();
    let mut newcomer = TcpStream::connect(stage.from).await.unwrap();
    tokio::join!(is_silent(&mut far), is_silent(&mut near), is_silent(&mut newcomer));
    stage.proxy.mend();
    assert_eq!(arrives(&mut far, 6).await, b"onward");
    assert_eq!(arrives(&mut near, 4).await, b"back");
    assert_eq!(ends(&mut newcomer).await, Ok(()));
}

#[tokio::test]
async fn old_connections_are_held_while_new_ones_pass_and_end_when_it_is_mended() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    stage.proxy.hold_old();
    near.write_all(b"lost").await.unwrap();
    is_silent(&mut far).await;
    let (mut newer, mut newer_far) = stage.connect().await;
    stage.proxy.mend();
    assert_eq!(ends(&mut near).await, Ok(()));
    passes(&mut newer, &mut newer_far, b"stays").await;
}

#[tokio::test]
async fn a_cut_ends_what_is_there_and_swallows_what_comes() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    stage.proxy.cut();
    assert_eq!((ends(&mut near).await, ends(&mut far).await), (Ok(()), Ok(())));
    let mut newcomer = TcpStream::connect(stage.from).await.unwrap();
    is_silent(&mut newcomer).await;
    stage.proxy.mend();
    assert_eq!(ends(&mut newcomer).await, Ok(()));
    stage.connect().await;
}

#[tokio::test]
async fn a_reset_is_seen_as_one_at_both_ends() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    stage.proxy.reset();
    assert_eq!((ends(&mut near).await, ends(&mut far).await), (RESET, RESET));
    stage.connect().await;
    stage.proxy.refuse();
    let mut refused = TcpStream::connect(stage.from).await.unwrap();
    assert_eq!(ends(&mut refused).await, RESET);
    stage.proxy.mend();
    stage.connect().await;
}

#[tokio::test]
async fn a_half_closed_way_goes_on_in_the_other_direction() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    stage.proxy.half_close(Direction::Back);
    assert_eq!(ends(&mut near).await, Ok(()));
    far.write_all(b"lost").await.unwrap();
    passes(&mut near, &mut far, b"goes on").await;
    stage.connect().await;
}

#[tokio::test]
async fn a_connection_is_reset_after_exactly_so_many_bytes() {
    let stage = Stage::set().await;
    let (mut near, mut far) = stage.connect().await;
    stage.proxy.reset_after(Direction::Onward, 1_000);
    far.write_all(&[0; 4_000]).await.unwrap();
    arrives(&mut near, 4_000).await;
    near.write_all(&[1; 1_500]).await.unwrap();
    arrives(&mut far, 1_000).await;
    assert_eq!((ends(&mut near).await, ends(&mut far).await), (RESET, RESET));
}

#[tokio::test]
async fn words_cut_the_connection_before_they_arrive_or_before_they_are_answered() {
    let stage = Stage::set().await;
    for (before, arrived) in [(Before::Arrival, &b"BEGIN; COM"[..]), (Before::Answer, b"BEGIN; COMMIT")] {
        let (mut near, mut far) = stage.connect().await;
        stage.proxy.cut_at(b"COMMIT", before);
        // Over the border of two pieces.
        passes(&mut near, &mut far, b"BEGIN; COM").await;
        near.write_all(b"MIT").await.unwrap();
        arrives(&mut far, arrived.len() - 10).await;
        assert_eq!(ends(&mut near).await, RESET);
        assert_eq!(ends(&mut far).await, Ok(()));
        stage.proxy.mend();
    }
    let (mut near, mut far) = stage.connect().await;
    passes(&mut near, &mut far, b"COMMIT").await;
}

#[tokio::test]
async fn who_refuses_behind_the_way_is_refused_in_front_of_it_until_it_is_back() {
    let mut stage = Stage::set().await;
    let (mut near, far) = stage.connect().await;
    stage.listener = None;
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
    drop(far);
    assert_eq!(ends(&mut near).await, RESET);
    // Whoever saw the break and dials at once.
    let refused = TcpStream::connect(stage.from).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    stage.listener = Some(TcpListener::bind(stage.to).await.unwrap());
    crate::eventually("the way is open again", async || TcpStream::connect(stage.from).await.ok()).await;
}

#[tokio::test]
async fn ways_that_share_an_address_break_one_by_one() {
    let [from, to] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let listener = TcpListener::bind(to).await.unwrap();
    let ours = TcpListener::bind("127.0.0.3:0").await.unwrap().local_addr().unwrap();
    let ways = Proxy::sorted(from, to, 2, move |peer| usize::from(peer.ip() == ours.ip())).await;
    let mut ends_of = Vec::new();
    for source in ["127.0.0.1:0", "127.0.0.3:0"] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(source.parse().unwrap()).unwrap();
        let near = socket.connect(from).await.unwrap();
        let (far, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
        ends_of.push((near, far));
    }
    ways[1].reset();
    assert_eq!(ends(&mut ends_of[1].0).await, RESET);
    let (near, far) = &mut ends_of[0];
    passes(near, far, b"not ours").await;
}
