//! One verb at the hypervisor: sent, followed, and read back where the link was lost.

use std::time::Duration;

use russh::ChannelMsg;
use tokio::time::{Instant, sleep, timeout_at};

use super::ssh::{Session, connect};
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR};
use crate::core::model::breakglass::{Verb, VerbResult};
use crate::core::model::untrusted::Untrusted;

/// The most that is kept of what a verb writes, and of its errors.
pub const OUTPUT: usize = 1024 * 1024;
const ERRORS: usize = 256 * 1024;
/// Between two looks at the host after the link was lost.
const LOOK: Duration = Duration::from_secs(3);

/// What happens while a verb runs.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// Where it stands.
    Link(&'a str),
    /// It wrote something.
    Out(&'a [u8]),
    /// It complained.
    Err(&'a [u8]),
}

/// What a verb left behind.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub result: VerbResult,
    /// What it wrote.
    pub out: Output,
    /// What it complained of.
    pub err: Output,
    /// What the VM reads.
    pub reads: Option<Untrusted>,
    /// The host's name of the last mutating verb.
    pub request: Option<Untrusted>,
}

/// Bytes with a bound.
#[derive(Debug)]
pub struct Output {
    /// The first of them.
    pub bytes: Vec<u8>,
    /// There were more.
    pub cut: bool,
    most: usize,
}

impl Output {
    const fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), cut: false, most }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = self.most - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// How one exchange ended.
enum End {
    Exit(u32),
    /// Before the host told an exit code.
    Lost(String),
    /// Time was over.
    Late,
}

/// Sends a verb and follows it. `known` is the last request of the host that we know of.
pub async fn run(
    breakglass: &BreakglassConfig,
    verb: Verb,
    known: Option<&str>,
    mut tell: impl FnMut(Told<'_>),
) -> Report {
    let seconds =
        if verb.mutates() { breakglass.mutation_seconds } else { breakglass.read_seconds };
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut out, mut err) = (Output::new(OUTPUT), Output::new(ERRORS));
    tell(Told::Link("connecting"));
    let session = match timeout_at(until, connect(breakglass, HYPERVISOR)).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return not_begun(error.to_string(), out, err),
        Err(_) => return not_begun(format!("no connection in {seconds} s"), out, err),
    };
    tell(Told::Link("under way"));
    let end = exchange(&session, verb, until, &mut out, &mut err, &mut tell).await;
    drop(session);
    let said = out.text();
    let ours = word_after(&said, "request ");
    let mut reads = the_vm_reads(&said);
    let mut request = last(&said).map(|last| last.request);
    let result = match end {
        End::Exit(code) => {
            if verb.mutates() && code != 2 && code != 75 {
                request = ours.or(request);
            }
            VerbResult::Exited { code }
        }
        End::Lost(why) if verb.mutates() => {
            let lost = format!("link lost ({why}); the verb goes on at the host");
            tell(Told::Link(&lost));
            let (result, back) = read_back(breakglass, verb, ours, known, until, &mut tell).await;
            if let Some(back) = back {
                reads = back.reads.or(reads);
                request = Some(back.request);
            }
            match result {
                Some(result) => result,
                None => unknown(format!("{lost}; no word of its end in {seconds} s")),
            }
        }
        End::Lost(why) => unknown(format!("link lost ({why})")),
        End::Late => unknown(format!("no end in {seconds} s; at the host it may go on")),
    };
    let clean = |text: String| Untrusted::new(text);
    Report { result, out, err, reads: reads.map(clean), request: request.map(clean) }
}

fn unknown(why: String) -> VerbResult {
    VerbResult::Unknown { why: why.into() }
}

fn not_begun(why: String, out: Output, err: Output) -> Report {
    let result = VerbResult::NotBegun { why: why.into() };
    Report { result, out, err, reads: None, request: None }
}

async fn exchange(
    session: &Session,
    verb: Verb,
    until: Instant,
    out: &mut Output,
    err: &mut Output,
    tell: &mut impl FnMut(Told<'_>),
) -> End {
    let open = async {
        let channel = session.handle.channel_open_session().await?;
        channel.exec(true, verb.as_str()).await?;
        Ok::<_, russh::Error>(channel)
    };
    let mut channel = match timeout_at(until, open).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return End::Lost(error.to_string()),
        Err(_) => return End::Late,
    };
    let mut code = None;
    loop {
        let Ok(message) = timeout_at(until, channel.wait()).await else { return End::Late };
        match message {
            Some(ChannelMsg::Data { data }) => {
                out.take(&data);
                tell(Told::Out(&data));
            }
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                err.take(&data);
                tell(Told::Err(&data));
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => code = Some(exit_status),
            Some(ChannelMsg::ExitSignal { .. }) => code = Some(255),
            Some(ChannelMsg::Failure) => return End::Exit(2),
            Some(ChannelMsg::Close) | None => {
                return code.map_or_else(|| End::Lost("the connection ended".into()), End::Exit);
            }
            Some(_) => {}
        }
    }
}

/// What the host says of its last mutating verb.
#[derive(Debug, PartialEq, Eq)]
struct Last {
    request: String,
    verb: String,
    ended: Option<u32>,
    reads: Option<String>,
}

/// Reads the line `last request=… verb=… state=… rc=… reads=…`.
fn last(said: &str) -> Option<Last> {
    let line = said.lines().rev().find_map(|line| line.strip_prefix("last "))?;
    let field = |name: &str| {
        line.split(' ')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let over = field("state").is_some_and(|state| state == "ended");
    let rc = field("rc").and_then(|rc| rc.parse().ok());
    Some(Last {
        request: field("request")?,
        verb: field("verb")?,
        ended: if over { Some(rc.unwrap_or(255)) } else { None },
        reads: field("reads"),
    })
}

fn word_after(said: &str, before: &str) -> Option<String> {
    let line = said.lines().next()?.strip_prefix(before)?;
    line.split(' ').next().filter(|word| !word.is_empty()).map(str::to_owned)
}

/// What the VM reads, from `qm status` or from the end of an action.
fn the_vm_reads(said: &str) -> Option<String> {
    let of_end = said.lines().rev().find_map(|line| line.split_once("the VM reads: "));
    let word = of_end
        .map(|(_, word)| word)
        .or_else(|| said.lines().find_map(|line| line.strip_prefix("status: ")))?;
    Some(word.trim().chars().take(40).collect())
}

/// Asks the host what became of a verb whose link was lost, until it tells an end or time is over.
/// It only reads: nothing is sent a second time.
async fn read_back(
    breakglass: &BreakglassConfig,
    verb: Verb,
    ours: Option<String>,
    known: Option<&str>,
    until: Instant,
    tell: &mut impl FnMut(Told<'_>),
) -> (Option<VerbResult>, Option<Last>) {
    // Where its name was not heard, another one than the last that we knew is ours.
    let mut strange = 0;
    let mut pause = Duration::from_millis(500);
    loop {
        if timeout_at(until, sleep(pause)).await.is_err() {
            return (None, None);
        }
        pause = LOOK;
        let Ok(connected) = timeout_at(until, connect(breakglass, HYPERVISOR)).await else {
            return (None, None);
        };
        let session = match connected {
            Ok(session) => session,
            Err(error) => {
                tell(Told::Link(&format!("link lost; the verb goes on at the host ({error})")));
                continue;
            }
        };
        let (mut out, mut err) = (Output::new(OUTPUT), Output::new(ERRORS));
        let read = Duration::from_secs(breakglass.read_seconds);
        let limit = until.min(Instant::now() + read);
        let end = exchange(&session, Verb::Status, limit, &mut out, &mut err, &mut |_| ()).await;
        if !matches!(end, End::Exit(_)) {
            continue;
        }
        let last = last(&out.text());
        let is_ours = last.as_ref().is_some_and(|last| match (&ours, known) {
            (Some(ours), _) => last.request == *ours,
            (None, Some(known)) => last.request != known && last.verb == verb.as_str(),
            // Nothing to tell it by.
            (None, None) => false,
        });
        match last {
            Some(last) if is_ours => match last.ended {
                Some(code) => return (Some(VerbResult::Exited { code }), Some(last)),
                None => tell(Told::Link("link back; the verb goes on at the host")),
            },
            last => {
                let never =
                    last.as_ref().map(|last| last.request.as_str()) == known && ours.is_none();
                strange += 1;
                if never && strange >= 2 {
                    let why = "the link was lost before the host began".into();
                    return (Some(VerbResult::NotBegun { why }), last);
                }
                if strange >= 2 {
                    let why = "link lost, and the host does not tell whether it began".into();
                    return (Some(VerbResult::Unknown { why }), last);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_words_are_read() {
        let said = "request 20261124T081309Z-1 verb=status\nstatus: io-error\n\
                    last request=r7 verb=cycle from=::1 began=x step=ended state=ended rc=1 \
                    reads=stopped ended=y \n";
        assert_eq!(word_after(said, "request "), Some("20261124T081309Z-1".into()));
        assert_eq!(the_vm_reads(said), Some("io-error".into()));
        let told = last(said).unwrap();
        assert_eq!((told.request.as_str(), told.ended), ("r7", Some(1)));
        assert_eq!(told.reads.as_deref(), Some("stopped"));
        assert_eq!(last("last none"), None);
        let going = last("last request=r8 verb=stop state=running").unwrap();
        assert_eq!(going.ended, None);
        let ended = "status: running\n=== x cycle ended with rc=0; the VM reads: running\n";
        assert_eq!(the_vm_reads(ended), Some("running".into()));
    }

    #[test]
    fn output_has_a_bound() {
        let mut output = Output::new(4);
        output.take(b"abc");
        assert!(!output.cut);
        output.take(b"def");
        assert!(output.cut && output.text() == "abcd");
    }
}
