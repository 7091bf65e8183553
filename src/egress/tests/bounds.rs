//! Hostile callers: floods, slow requests, many connections, noise.

use super::*;

#[tokio::test]
async fn flood_of_headers_ends_with_an_answer() {
    let proxy = TestProxy::to_echo(EgressLimits::default()).await;
    let mut stream = proxy.connect().await;
    stream.write_all(b"CONNECT api.example.com:443 HTTP/1.1\r\n").await.unwrap();
    let line = format!("X: {}\r\n", "a".repeat(95));
    // The proxy reads no further at some point; the caller never sends the end of its request.
    for _ in 0..200 {
        if stream.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
    assert_eq!(proxy.connected(), Vec::<String>::new());
    // A line without an end is bounded as well, and so is one without any line.
    for flood in [b"CONNECT ".repeat(10_000), vec![b'A'; 100_000]] {
        let mut stream = proxy.connect().await;
        let _ = stream.write_all(&flood).await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    drop(proxy.tunnel("api.example.com:443").await);
}

#[tokio::test]
async fn caller_that_sends_without_end_is_cut_off() {
    let limits = EgressLimits { linger: Duration::from_millis(500), ..EgressLimits::default() };
    let proxy = TestProxy::to_echo(limits).await;
    let mut stream = proxy.connect().await;
    let flood = async {
        let mut total = 0;
        while stream.write_all(&[b'A'; 4096]).await.is_ok() {
            total += 4096;
        }
        total
    };
    let total: usize = timeout(SOON, flood).await.unwrap();
    // Its own buffer and the proxy's bound.
    assert!(total < 4 << 20, "the proxy read {total} bytes of a refused caller");
}

#[tokio::test]
async fn slow_request_ends_at_the_deadline() {
    let limits = EgressLimits { head: Duration::from_millis(200), ..EgressLimits::default() };
    let proxy = TestProxy::to_echo(limits).await;
    // One byte after the other, each of which comes in time.
    let (mut from, mut to) = proxy.connect().await.into_split();
    let dripping = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        for byte in b"CONNECT api.example.com:443 HTTP/1.1\r\n\r\n" {
            beat.tick().await;
            if to.write_all(&[*byte]).await.is_err() {
                return false;
            }
        }
        true
    });
    let mut answer = String::new();
    timeout(SOON, from.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    dripping.await.unwrap();
    // A caller that sends nothing at all.
    let answer = rest(&mut proxy.connect().await).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert_eq!(proxy.connected(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_connections_are_served_within_the_bound() {
    let (open, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, most) = (Arc::clone(&open), Arc::clone(&peak));
    let server = serve(move |mut stream| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            now.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(&all).await.unwrap();
        }
    })
    .await;
    let names: &[(_, &[&str])] = &[("api.example.com", &[PUBLIC])];
    let proxy = TestProxy::open(&["api.example.com"], names, EgressLimits::default(), server);
    let mut streams = Vec::new();
    for number in 0..1000 {
        let mut stream = proxy.connect().await;
        let request = format!("CONNECT api.example.com:443 HTTP/1.1\r\n\r\ncaller {number}");
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    // All places are taken before the first caller ends.
    eventually("64 connections open", || open.load(Ordering::SeqCst) == 64).await;
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.shutdown().await.unwrap();
        established(stream).await;
        assert_eq!(rest(stream).await, format!("caller {number}"));
    }
    assert_eq!(peak.load(Ordering::SeqCst), 64);
    assert_eq!(proxy.connected().len(), 1000);
}

#[tokio::test]
async fn noise_ends_its_own_connection_and_nothing_else() {
    let proxy = TestProxy::to_echo(EgressLimits::default()).await;
    let mut state = 7_u64;
    for _ in 0..300 {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let mut bytes: Vec<u8> = (0..=usize::from(next())).map(|_| next()).collect();
        if next() % 2 == 0 {
            bytes.splice(..0, *b"CONNECT ");
        }
        bytes.extend_from_slice(b" HTTP/1.1\r\n\r\n");
        let answer = proxy.answer(&bytes).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{bytes:?}: {answer}");
    }
    assert_eq!(proxy.connected(), Vec::<String>::new());
    assert_eq!(proxy.proxy.refusals().total, 300);
    drop(proxy.tunnel("api.example.com:443").await);
}
