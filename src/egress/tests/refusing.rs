//! Requests that get no tunnel, and the addresses that no name leads to.

use super::*;

async fn nobody() -> SocketAddr {
    serve(|_| async { panic!("the proxy connected") }).await
}

#[tokio::test]
async fn host_that_is_not_listed_is_refused_and_never_resolved() {
    let names: &[(_, &[&str])] = &[("evil.example.org", &[PUBLIC])];
    let proxy = TestProxy::open(
        &["api.example.com", "*.example.net", "[2606:4700::1111]"],
        names,
        EgressLimits::default(),
        nobody().await,
    );
    for destination in [
        "evil.example.org:443",
        "api.example.com:80",
        "api.example.com.evil.example.org:443",
        "example.net:443",
        "1.1.1.1:443",
        "127.0.0.1:443",
        "127.0.0.1.:443",
        "[::1]:443",
        "[::ffff:127.0.0.1]:443",
        "[2606:4700::1112]:443",
        "localhost:443",
    ] {
        let answer =
            proxy.answer(format!("CONNECT {destination} HTTP/1.1\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        let named = destination.replace(".:", ":");
        let line = format!(
            "\r\n\r\nafk: {named} isn't in [sandbox] hosts of afk.toml; a person can add it there\n"
        );
        assert!(answer.ends_with(&line), "{answer}");
    }
    let counts = proxy.proxy.refusals();
    assert_eq!(counts.total, 11);
    assert_eq!(counts.destinations["127.0.0.1:443"], 2);
    assert_eq!(proxy.uplink.lookups.load(Ordering::SeqCst), 0);
    assert_eq!(proxy.connected(), Vec::<String>::new());
}

#[tokio::test]
async fn host_in_a_disguise_is_malformed() {
    let proxy = TestProxy::open(&["api.example.com"], &[], EgressLimits::default(), nobody().await);
    for destination in [
        "2130706433:443",
        "0x7f.1:443",
        "0x7f000001:443",
        "0177.0.0.1:443",
        "127.1:443",
        "127.0.0.1..:443",
        "[127.0.0.1]:443",
        "[fe80::1%25eth0]:443",
        "%61pi.example.com:443",
        "evil.example.org@api.example.com:443",
        "api.example.com:443@evil.example.org:443",
        "evil.example.org\0.api.example.com:443",
        "api.example.com :443",
        "api.example.com:443\r\nHost: x",
        "api.example.com:443\nHost: x",
        "api.example.com",
        "",
    ] {
        let answer =
            proxy.answer(format!("CONNECT {destination} HTTP/1.1\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{destination:?}: {answer}");
        // One line, and nothing of the request in it.
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.lines().count() == 1 && !body.contains("evil"), "{body:?}");
    }
    let injected = b"CONNECT api.example.com:443 HTTP/1.1\r\nX: a\nCONNECT evil:1 HTTP/1.1\r\n\r\n";
    assert!(proxy.answer(injected).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(proxy.proxy.refusals().destinations["a malformed request"], 18);
    assert_eq!(proxy.uplink.lookups.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn plain_http_is_told_the_way() {
    let proxy = TestProxy::to_echo(EgressLimits::default()).await;
    let answer = proxy.answer(b"GET http://api.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n"),
        "{answer}"
    );
    assert!(answer.contains("call the host by https:// in place of http://"), "{answer}");
    assert_eq!(proxy.proxy.refusals().destinations["a request without CONNECT"], 1);
    assert_eq!(proxy.connected(), Vec::<String>::new());
}

#[tokio::test]
async fn name_that_leads_behind_the_wall_is_refused() {
    for (address, status, why) in [
        ("127.0.0.1", "403", "leads to a loopback address, which no program"),
        ("::1", "403", "leads to a loopback address, which no program"),
        ("0.0.0.0", "403", "leads to the unspecified address, which no program"),
        ("169.254.1.1", "403", "leads to a link-local address, which no program"),
        ("169.254.169.254", "403", "leads to the address of a cloud's metadata service"),
        ("fd00:ec2::254", "403", "leads to the address of a cloud's metadata service"),
        ("224.0.0.1", "403", "leads to a multicast address"),
        ("::ffff:127.0.0.1", "403", "leads to an IPv6 form of an IPv4 address"),
        ("::ffff:93.184.216.34", "403", "leads to an IPv6 form of an IPv4 address"),
        ("64:ff9b::10.0.0.7", "403", "leads to an IPv6 form of an IPv4 address"),
        ("10.0.0.7", "403", "leads to a private address; a person can allow that with `private:`"),
        ("192.168.1.1", "403", "leads to a private address; a person can allow"),
        ("fd12::1", "403", "leads to a private address; a person can allow"),
        ("100.64.0.1", "403", "leads to an address of a provider's shared range; a person"),
        (OWN, "403", "leads to an address of this machine; a person can allow"),
    ] {
        let names: &[(_, &[&str])] = &[("api.example.com", &[address])];
        let limits = EgressLimits::default();
        let proxy = TestProxy::open(&["api.example.com"], names, limits, nobody().await);
        let answer = proxy.answer(b"CONNECT api.example.com:443 HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{address}: {answer}");
        assert!(answer.contains(&format!("afk: api.example.com {why}")), "{address}: {answer}");
        assert_eq!(proxy.connected(), Vec::<String>::new(), "{address}");
        assert_eq!(proxy.proxy.refusals().destinations["api.example.com:443"], 1);
    }
}

#[tokio::test]
async fn only_judged_addresses_of_a_mixed_answer_are_called() {
    let names: &[(_, &[&str])] =
        &[("api.example.com", &["127.0.0.1", "10.0.0.7", CLOSED, "::1", PUBLIC])];
    let server = echo_server().await;
    let proxy = TestProxy::open(&["api.example.com"], names, EgressLimits::default(), server);
    let mut stream = proxy.tunnel("api.example.com:443").await;
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(proxy.connected(), ["93.184.216.98:443", "93.184.216.34:443"]);
}

#[tokio::test]
async fn name_is_resolved_once_for_a_connection() {
    let names: &[(_, &[&str])] = &[("rebinding.example.com", &[PUBLIC])];
    let server = echo_server().await;
    let proxy = TestProxy::open(&["*.example.com"], names, EgressLimits::default(), server);
    drop(proxy.tunnel("rebinding.example.com:443").await);
    assert_eq!(proxy.connected(), ["93.184.216.34:443"]);
    assert_eq!(proxy.uplink.lookups.load(Ordering::SeqCst), 1);
    // The next connection resolves again, and meets the changed answer.
    let answer = proxy.answer(b"CONNECT rebinding.example.com:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("leads to a loopback address"), "{answer}");
    assert_eq!(proxy.connected(), ["93.184.216.34:443"]);
}

#[tokio::test]
async fn private_pattern_admits_private_addresses_and_no_loopback() {
    let names: &[(_, &[&str])] =
        &[("git.lan", &["10.0.0.7"]), ("door.lan", &["127.0.0.1"]), ("own.lan", &[OWN])];
    let patterns = &[
        "private:git.lan:3000",
        "private:door.lan",
        "private:own.lan",
        "private:10.0.0.8",
        "private:[fd12::1]:22",
    ];
    let limits = EgressLimits::default();
    let proxy = TestProxy::open(patterns, names, limits, echo_server().await);
    for destination in ["git.lan:3000", "own.lan:443", "10.0.0.8:443", "[fd12::1]:22"] {
        drop(proxy.tunnel(destination).await);
    }
    let called = ["10.0.0.7:3000", "93.184.216.97:443", "10.0.0.8:443", "[fd12::1]:22"];
    assert_eq!(proxy.connected(), called);
    let answer = proxy.answer(b"CONNECT door.lan:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("leads to a loopback address, which no program"), "{answer}");
    assert_eq!(proxy.connected(), called);
}

#[tokio::test]
async fn failure_of_the_network_is_reported_and_no_refusal() {
    let names: &[(_, &[&str])] = &[
        ("closed.example.com", &[CLOSED]),
        ("silent.example.com", &[SILENT]),
        ("empty.example.com", &[]),
        ("half.example.com", &[SILENT, PUBLIC]),
    ];
    let limits = EgressLimits {
        resolve: Duration::from_millis(100),
        connect: Duration::from_millis(400),
        ..EgressLimits::default()
    };
    let proxy = TestProxy::open(&["*.example.com"], names, limits, echo_server().await);
    for (host, status, line) in [
        ("closed", "502 Bad Gateway", "connect to closed.example.com:443: connection refused"),
        ("silent", "504 Gateway Timeout", "connect to silent.example.com:443: no answer in 0.4 s"),
        ("silent-dns", "504 Gateway Timeout", "resolve silent-dns.example.com: no answer in 0.1 s"),
        ("empty", "502 Bad Gateway", "resolve empty.example.com: the name has no address"),
        ("unknown", "502 Bad Gateway", "resolve unknown.example.com: no such name"),
    ] {
        let request = format!("CONNECT {host}.example.com:443 HTTP/1.1\r\n\r\n");
        let answer = proxy.answer(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\nafk: {line}\n")), "{answer}");
    }
    assert_eq!(proxy.proxy.refusals().total, 0);
    // An address that does not answer leaves time for the next one.
    drop(proxy.tunnel("half.example.com:443").await);
}
