//! Tunnels that are open: bytes, ends, names.

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::*;

/// Bytes without a period that a lost or repeated buffer could hide behind.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn allowed_name_is_reached_at_its_address() {
    let proxy = TestProxy::to_echo(EgressLimits::default()).await;
    let mut stream = proxy.tunnel("API.example.com.:443").await;
    stream.write_all(b"through the wall").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "through the wall");
    assert_eq!(proxy.connected(), ["93.184.216.34:443"]);
    assert_eq!(proxy.proxy.refusals().total, 0);
}

#[tokio::test]
async fn bytes_behind_the_request_belong_to_the_tunnel() {
    let proxy = TestProxy::to_echo(EgressLimits::default()).await;
    let mut stream = proxy.connect().await;
    let hello = client_hello("api.example.com");
    let request = [b"CONNECT api.example.com:443 HTTP/1.1\r\n\r\n", hello.as_slice()].concat();
    stream.write_all(&request).await.unwrap();
    established(&mut stream).await;
    stream.shutdown().await.unwrap();
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).await.unwrap();
    assert_eq!(echoed, hello);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_transfer_arrives_unchanged_in_both_directions_at_once() {
    let down = noise(32 << 20, 2);
    let (sent, server_down) = (Sha256::digest(&down), down.clone());
    let (digests, mut received) = mpsc::channel(1);
    let server = serve(move |stream| {
        let (down, digests) = (server_down.clone(), digests.clone());
        async move {
            let (mut from, mut to) = stream.into_split();
            let writing = tokio::spawn(async move { to.write_all(&down).await.unwrap() });
            let mut all = Vec::new();
            from.read_to_end(&mut all).await.unwrap();
            writing.await.unwrap();
            digests.send(Sha256::digest(&all)).await.unwrap();
        }
    })
    .await;
    let names: &[(_, &[&str])] = &[("api.example.com", &[PUBLIC])];
    let proxy = TestProxy::open(&["api.example.com"], names, EgressLimits::default(), server);
    let (mut from, mut to) = proxy.tunnel("api.example.com:443").await.into_split();
    let up = noise(32 << 20, 1);
    let expected = Sha256::digest(&up);
    let writing = tokio::spawn(async move {
        to.write_all(&up).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut all = Vec::new();
    timeout(SOON, from.read_to_end(&mut all)).await.unwrap().unwrap();
    writing.await.unwrap();
    assert_eq!(Sha256::digest(&all), sent);
    assert_eq!(timeout(SOON, received.recv()).await.unwrap(), Some(expected));
}

#[tokio::test]
async fn half_closed_server_still_receives() {
    let (lines, mut received) = mpsc::channel(1);
    let server = serve(move |mut stream| {
        let lines = lines.clone();
        async move {
            stream.write_all(b"first").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut all = String::new();
            stream.read_to_string(&mut all).await.unwrap();
            lines.send(all).await.unwrap();
        }
    })
    .await;
    let names: &[(_, &[&str])] = &[("api.example.com", &[PUBLIC])];
    let proxy = TestProxy::open(&["api.example.com"], names, EgressLimits::default(), server);
    let mut stream = proxy.tunnel("api.example.com:443").await;
    assert_eq!(rest(&mut stream).await, "first");
    stream.write_all(b"second").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, received.recv()).await.unwrap().as_deref(), Some("second"));
}

#[tokio::test]
async fn hello_for_another_host_reaches_nobody() {
    let (bytes, mut received) = mpsc::channel(1);
    let server = serve(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let mut all = Vec::new();
            // The proxy may break off the connection instead of closing it.
            let _ = stream.read_to_end(&mut all).await;
            bytes.send(all.len()).await.unwrap();
        }
    })
    .await;
    let names: &[(_, &[&str])] = &[("api.example.com", &[PUBLIC])];
    let proxy = TestProxy::open(&["api.example.com"], names, EgressLimits::default(), server);
    let mut stream = proxy.tunnel("api.example.com:443").await;
    for part in client_hello("evil.example.org").chunks(50) {
        stream.write_all(part).await.unwrap();
    }
    let mut alert = Vec::new();
    timeout(SOON, stream.read_to_end(&mut alert)).await.unwrap().unwrap();
    assert_eq!(alert, super::super::server_name::UNRECOGNIZED_NAME);
    assert_eq!(timeout(SOON, received.recv()).await.unwrap(), Some(0));
    assert_eq!(proxy.proxy.refusals().destinations["api.example.com:443"], 1);
}

#[tokio::test]
async fn server_may_speak_first() {
    let server = serve(|mut stream| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
    })
    .await;
    let names: &[(_, &[&str])] = &[("mail.example.com", &[PUBLIC])];
    let proxy = TestProxy::open(&["mail.example.com:25"], names, EgressLimits::default(), server);
    let mut stream = proxy.tunnel("mail.example.com:25").await;
    assert_eq!(rest(&mut stream).await, "220 ready\r\n");
    assert_eq!(proxy.connected(), ["93.184.216.34:25"]);
}

#[tokio::test]
async fn idle_tunnel_ends_while_a_busy_one_goes_on() {
    let idle = Duration::from_millis(200);
    // The server sends for several idle limits and receives nothing meanwhile.
    let server = serve(move |mut stream| async move {
        let mut kind = [0];
        stream.read_exact(&mut kind).await.unwrap();
        let end = tokio::time::Instant::now() + idle * 5;
        let mut beat = tokio::time::interval(idle / 20);
        while kind == *b"b" && tokio::time::Instant::now() < end {
            beat.tick().await;
            stream.write_all(b".").await.unwrap();
        }
        let _ = if kind == *b"b" { stream.write_all(b"!").await } else { Ok(()) };
        let _ = stream.read(&mut kind).await;
    })
    .await;
    let limits = EgressLimits { idle, ..EgressLimits::default() };
    let names: &[(_, &[&str])] = &[("api.example.com", &[PUBLIC])];
    let proxy = TestProxy::open(&["api.example.com"], names, limits, server);
    let mut busy = proxy.tunnel("api.example.com:443").await;
    busy.write_all(b"b").await.unwrap();
    let mut silent = proxy.tunnel("api.example.com:443").await;
    silent.write_all(b"s").await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    assert!(rest(&mut busy).await.ends_with(".!"));
}

#[tokio::test]
async fn caller_that_ignores_the_end_of_the_server_loses_its_tunnel() {
    let server = serve(|mut stream| async move {
        stream.write_all(b"bye").await.unwrap();
    })
    .await;
    let drain = Duration::from_millis(100);
    let limits = EgressLimits { connections: 1, drain, ..EgressLimits::default() };
    let names: &[(_, &[&str])] = &[("api.example.com", &[PUBLIC])];
    let proxy = TestProxy::open(&["api.example.com"], names, limits, server);
    let mut stuck = proxy.tunnel("api.example.com:443").await;
    assert_eq!(rest(&mut stuck).await, "bye");
    // The first tunnel keeps its end open, and the second one needs its place.
    let mut next = proxy.tunnel("api.example.com:443").await;
    assert_eq!(rest(&mut next).await, "bye");
    drop(stuck);
}
