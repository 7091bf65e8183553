//! The network from behind the wall: with the policies `none` and `proxy` no byte reaches an address of
//! this machine, by no protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use afk::config::network::HostPattern;
use afk::core::model::run::Outcome;
use afk::sandbox::{Level, NetworkPolicy};

use crate::prison::{Prison, User, places, printed};
use crate::support::world::{END, WORK, World, run_of, until};

/// Perl: sends a byte to each of `$TARGETS`, which are `protocol,address,port`.
const SENDER: &str = r#"
use Socket qw(:all);
for (split / /, $ENV{TARGETS}) {
    my ($protocol, $host, $port) = split /,/;
    my $kind = $protocol eq "udp" ? SOCK_DGRAM : SOCK_STREAM;
    my ($error, $found) = getaddrinfo($host, $port, { flags => AI_NUMERICHOST, socktype => $kind });
    next if $error;
    socket(my $s, $found->{family}, $kind, 0) or next;
    connect($s, $found->{addr}) and syswrite($s, "x");
}"#;

/// Servers at every address of this machine that a test may use.
pub struct Ears {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

/// The addresses of this machine beside those of the loopback device.
pub fn own_addresses() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut found = Vec::new();
    let mut last = None;
    for line in text.lines() {
        if let Some(address) = line.trim().strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last.filter(|address| !address.is_loopback()).map(IpAddr::V4));
        }
    }
    // Address, index, length, scope, flags, device; a scope of 0 is everywhere.
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let fields = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let global = fields.filter(|fields| fields.get(3) == Some(&"00"));
    let number = |text: &str| u128::from_str_radix(text, 16).ok();
    found.extend(global.filter_map(|fields| number(fields[0])).map(|n| IpAddr::V6(n.into())));
    found.sort();
    found.dedup();
    found
}

impl Ears {
    pub fn open() -> Self {
        let second = Ipv4Addr::new(127, 0, 0, 2);
        let mut addresses = vec![Ipv4Addr::LOCALHOST.into(), second.into()];
        addresses.extend(own_addresses());
        addresses.push(Ipv6Addr::LOCALHOST.into());
        let mut this = Self { tcp: Vec::new(), udp: Vec::new() };
        for address in addresses {
            // A machine may have no IPv6.
            this.tcp.extend(TcpListener::bind(SocketAddr::new(address, 0)));
            this.udp.extend(UdpSocket::bind(SocketAddr::new(address, 0)));
        }
        // The port of DNS, which an ordinary user can't have.
        this.udp.extend(UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 77), 53)));
        this.tcp.iter().for_each(|server| server.set_nonblocking(true).unwrap());
        this.udp.iter().for_each(|server| server.set_nonblocking(true).unwrap());
        assert!(this.tcp.len() > 1 && this.udp.len() > 1);
        this
    }

    /// The servers as [`SENDER`] and the CONNECT requests of a test take them.
    pub fn targets(&self) -> String {
        let tcp = self.tcp.iter().map(|server| ("tcp", server.local_addr().unwrap()));
        let udp = self.udp.iter().map(|server| ("udp", server.local_addr().unwrap()));
        let all = tcp.chain(udp).map(|(kind, at)| format!("{kind},{},{}", at.ip(), at.port()));
        all.collect::<Vec<_>>().join(" ")
    }

    /// The servers that a byte or a connection has reached since the last call.
    pub fn heard(&self) -> usize {
        let tcp = self.tcp.iter().filter(|server| server.accept().is_ok()).count();
        let udp = self.udp.iter().filter(|server| server.recv(&mut [0]).is_ok()).count();
        tcp + udp
    }

    fn count(&self) -> usize {
        self.tcp.len() + self.udp.len()
    }
}

#[test]
fn no_address_of_this_machine_hears_a_program_without_network() {
    let ears = Ears::open();
    let open = Prison::new(Level::None, User::Same);
    let mut bare = std::process::Command::new("perl");
    bare.args(["-e", SENDER]);
    open.prepare(&mut bare);
    assert!(bare.env("TARGETS", ears.targets()).status().unwrap().success());
    // The servers are real: each hears a program without a wall.
    let mut heard = 0;
    let end = Instant::now() + Duration::from_secs(10);
    while heard < ears.count() {
        heard += ears.heard();
        assert!(Instant::now() < end, "{heard} of {} heard", ears.count());
    }
    for (level, user) in places() {
        for network in [NetworkPolicy::None, NetworkPolicy::Proxy] {
            let mut prison = Prison::new(level, user);
            prison.network = network;
            let script = "perl -e \"$SENDER\"; getent hosts afk-wall.example; touch ran";
            let mut command = prison.command(&prison.sandbox(), &["sh", "-c", script]);
            command.env("TARGETS", ears.targets()).env("SENDER", SENDER);
            let output = command.output().unwrap();
            assert_eq!(ears.heard(), 0, "{level} {user:?} {network:?}: {}", printed(&output));
            // A level that can't keep the policy starts nothing.
            let started = prison.path("work/ran").exists();
            assert_eq!(started, level == Level::Strong, "{}", printed(&output));
            assert!(output.stdout.is_empty(), "{}", printed(&output));
        }
    }
}

/// Perl: asks the egress proxy for a tunnel to each of `$TARGETS` and sends a byte through it.
const ASKER: &str = r#"
use Socket qw(:all);
for (split / /, $ENV{TARGETS}) {
    my ($protocol, $host, $port) = split /,/;
    $host = "[$host]" if $host =~ /:/;
    for my $name ($host, $protocol eq "tcp" ? ("localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "localhost.") : ()) {
        socket(my $s, PF_INET, SOCK_STREAM, 0);
        connect($s, sockaddr_in(3128, inet_aton("127.0.0.1"))) or next;
        syswrite($s, "CONNECT $name:$port HTTP/1.1\r\nHost: $name:$port\r\n\r\nx");
        sysread($s, my $answer, 12);
        print "{\"type\":\"text\",\"text\":\"ANSWER $answer.\"}\n";
    }
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_address_of_this_machine_hears_an_agent_behind_the_proxy() {
    if places().iter().all(|(level, _)| *level != Level::Strong) {
        return;
    }
    let ears = Ears::open();
    let script = format!("perl -e \"$SENDER\"; perl -e \"$ASKER\"\n{WORK}\n{END}");
    let world = World::new(&script).walled();
    let mut config = world.config();
    config.sandbox.network = NetworkPolicy::Proxy;
    // Even a list that names them opens no way: loopback is never reached, and another address of
    // this machine needs `private:`.
    for target in ears.targets().split(' ') {
        let mut fields = target.split(',').skip(1);
        let (host, port) = (fields.next().unwrap(), fields.next().unwrap());
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        for host in [host.as_str(), "localhost"] {
            config.sandbox.hosts.extend(HostPattern::parse(&format!("{host}:{port}")));
        }
    }
    let agent = config.agents.get_mut("shell").unwrap();
    for (name, value) in
        [("TARGETS", ears.targets().as_str()), ("SENDER", SENDER), ("ASKER", ASKER)]
    {
        agent.set.insert(name.into(), value.into());
    }
    let runtime = world.try_start(config, None).await.unwrap();
    let outcome =
        until(&runtime, "the end", |snapshot| run_of(&snapshot.fleet, 1)?.progress.outcome);
    assert_eq!(outcome.await, Outcome::Done, "{}", world.transcript(1));
    runtime.stop().await;
    let transcript = world.transcript(1);
    assert_eq!(ears.heard(), 0, "{transcript}");
    assert!(transcript.matches("ANSWER HTTP/1.1 4").count() > ears.tcp.len(), "{transcript}");
    assert!(!transcript.contains("ANSWER HTTP/1.1 2"), "{transcript}");
}
