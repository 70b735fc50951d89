use http_body_util::{BodyExt, Full, StreamBody};
use tonic::body::Body;

use super::*;
use crate::unread;

const PEER: &str = "192.0.2.1";

fn limits() -> ServerLimits {
    ServerLimits { max_unread_bytes: 4 << 20, max_unread_bytes_per_connection: 1 << 20, ..ServerLimits::default() }
}

fn connections(limits: ServerLimits) -> Arc<Connections> {
    Connections::new(limits, 1024, Arc::from([IpNet::from(address("10.0.0.1"))]))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn open(connections: &Arc<Connections>, peer: &str) -> Option<ConnectionPermit> {
    connections.open(address(peer))
}

/// Counts a response of this many bytes.
fn respond(permit: &ConnectionPermit, bytes: usize) -> Option<Body> {
    unread::count(Body::new(Full::from(vec![0; bytes])), CallInFlight::new(Arc::clone(permit.connection())))
}

#[test]
fn an_address_has_a_limit_and_a_trusted_proxy_has_none() {
    let connections = connections(ServerLimits { max_connections_per_address: 2, ..ServerLimits::default() });
    let held = [open(&connections, PEER), open(&connections, PEER)];
    assert!(held.iter().all(Option::is_some));
    assert!(open(&connections, PEER).is_none());
    assert!(open(&connections, "192.0.2.2").is_some());
    let proxied: Vec<_> = (0..10).map(|_| open(&connections, "::ffff:10.0.0.1")).collect();
    assert!(proxied.iter().all(Option::is_some));
    drop(held);
    assert!(open(&connections, PEER).is_some());
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_connection_makes_room_for_another() {
    let connections = connections(ServerLimits { max_connections: 2, ..ServerLimits::default() });
    let (busy, idle) = (open(&connections, PEER).expect("room"), open(&connections, PEER).expect("room"));
    let call = CallInFlight::new(Arc::clone(busy.connection()));
    tokio::time::advance(Duration::from_secs(1)).await;
    let new = open(&connections, PEER).expect("room instead of the idle connection");
    assert!(idle.connection().is_closing() && !busy.connection().is_closing());
    drop((idle, call));
    let _call = CallInFlight::new(Arc::clone(new.connection()));
    let _call_on_busy = CallInFlight::new(Arc::clone(busy.connection()));
    assert!(open(&connections, PEER).is_none(), "no connection is idle");
}

#[tokio::test]
async fn unread_bytes_count_until_they_are_read_or_dropped() {
    let connections = connections(limits());
    let permit = open(&connections, PEER).expect("room");
    let first = respond(&permit, 700_000).expect("room");
    assert!(permit.connection().has_room() && respond(&permit, 700_000).is_none());
    let small = respond(&permit, 10_000).expect("small responses are always sent");
    let second = respond(&permit, 330_000).expect("room");
    assert!(respond(&permit, 20_000).is_none());
    drop((second, small));
    let read = first.collect().await.expect("a body").to_bytes();
    assert_eq!(read.len(), 700_000);
    drop(read);
    assert_eq!(connections.unread.load(Relaxed), 0);
    assert_eq!(permit.connection().unread.load(Relaxed), 0);
    assert!(permit.connection().is_idle());
}

#[tokio::test]
async fn one_response_may_be_larger_than_the_limit() {
    let connections = connections(limits());
    let permit = open(&connections, PEER).expect("room");
    let large = respond(&permit, 2 << 20).expect("nothing else is unread");
    assert!(!permit.connection().has_room());
    drop(large);
    assert!(permit.connection().has_room());
}

#[tokio::test]
async fn a_connection_with_little_unread_has_room_when_others_have_used_it_up() {
    let connections = connections(limits());
    let permits: Vec<_> = (0..5).map(|_| open(&connections, PEER).expect("room")).collect();
    let held: Vec<_> = permits.iter().filter_map(|permit| respond(permit, 1 << 20)).collect();
    assert_eq!(held.len(), 5, "the first response of a connection is always sent");
    let honest = open(&connections, PEER).expect("room");
    assert!(honest.connection().has_room());
    let read = respond(&honest, 60_000).expect("room").collect().await.expect("a body").to_bytes();
    assert_eq!(read.len(), 60_000);
    assert!(!permits[0].connection().has_room());
}

#[tokio::test(start_paused = true)]
async fn a_response_without_progress_ends_and_a_silent_stream_does_not() {
    let connections = connections(limits());
    let (stalled, moving) = (open(&connections, PEER).expect("room"), open(&connections, PEER).expect("room"));
    let mut unread = respond(&stalled, 100_000).expect("room");
    let also_unread = respond(&moving, 100_000).expect("room");
    let silent = Body::new(StreamBody::new(tokio_stream::pending::<Result<_, tonic::Status>>()));
    let silent: Body = unread::count(silent, CallInFlight::new(Arc::clone(moving.connection()))).expect("room");
    tokio::time::advance(Duration::from_secs(29)).await;
    connections.end_stalled();
    assert!(!stalled.connection().is_closing());
    // Another response on the second connection is read, so that only its stalled response ends.
    let read = respond(&moving, 1000).expect("room").collect().await.expect("a body").to_bytes();
    drop(read);
    tokio::time::advance(Duration::from_secs(2)).await;
    connections.end_stalled();
    assert!(stalled.connection().is_closing() && !moving.connection().is_closing());
    let error = unread.frame().await.expect("a frame").expect_err("the response was ended");
    assert_eq!(error.code(), tonic::Code::Cancelled);
    assert_eq!(connections.unread.load(Relaxed), 0);
    drop((also_unread, silent));
    tokio::time::advance(Duration::from_mins(1)).await;
    connections.end_stalled();
    assert!(!moving.connection().is_closing());
}

#[tokio::test(start_paused = true)]
async fn a_stalled_response_ends_soon_while_memory_is_scarce() {
    let connections = connections(limits());
    let permits: Vec<_> = (0..3).map(|_| open(&connections, PEER).expect("room")).collect();
    let held: Vec<_> = permits.iter().map(|permit| respond(permit, 1 << 20).expect("room")).collect();
    tokio::time::advance(Duration::from_secs(2)).await;
    connections.end_stalled();
    assert_eq!(connections.unread.load(Relaxed), 0);
    drop(held);
}
