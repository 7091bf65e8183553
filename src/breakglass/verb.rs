//! Runs one verb at the hypervisor: sends it, follows its output, and reads its result back from
//! the host after the link was lost. It never sends a verb twice.

use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::ssh::{connect, connect_with};
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR};
use crate::core::model::breakglass::{Verb, VerbResult};
use crate::core::model::untrusted::Untrusted;

/// The most bytes that are kept of standard output.
const MAX_STDOUT: usize = 1024 * 1024;
/// The most bytes that are kept of standard error.
const MAX_STDERR: usize = 256 * 1024;
/// The time between two status queries after the link was lost.
const POLL: Duration = Duration::from_secs(3);
/// How long a channel may stay silent and open after it has carried the exit status.
pub(super) const AFTER_STATUS: Duration = Duration::from_secs(2);
/// The most warnings of one verb, and the most characters of each.
pub(super) const MAX_WARNINGS: usize = 8;
pub(super) const MAX_WARNING: usize = 400;
/// The most characters of a word that the host's script prints: a request's id, or a verb. The journal keeps
/// them.
pub(super) const MAX_WORD: usize = 200;
/// The most characters of the VM's state.
pub(super) const MAX_STATE: usize = 40;

/// The progress of a running verb.
#[derive(Debug, Clone, Copy)]
pub enum VerbProgress<'a> {
    /// The state of the link, for a person.
    Link(&'a str),
    /// The verb wrote to standard output.
    Stdout(&'a [u8]),
    /// The verb wrote to standard error.
    Stderr(&'a [u8]),
}

/// The result and the outputs of a verb.
#[derive(Debug)]
pub(crate) struct VerbReport {
    pub result: VerbResult,
    pub out: BoundedOutput,
    pub err: BoundedOutput,
    /// The VM's state as the host reports it, such as `running`.
    pub reads: Option<Untrusted>,
    /// The host's id of its last mutating request.
    pub request: Option<Untrusted>,
    /// The host's warnings about the VM, such as a lock that a backup holds.
    pub warnings: Vec<Untrusted>,
}

/// The beginning of an output, up to a bound.
#[derive(Debug)]
pub(crate) struct BoundedOutput {
    pub bytes: Vec<u8>,
    /// Whether bytes over the bound were dropped.
    pub cut: bool,
    max: usize,
}

impl BoundedOutput {
    pub(super) const fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), cut: false, max }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let room = self.max - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The bytes as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The end of one exchange with the host.
enum ExchangeEnd {
    Exit(u32),
    /// The link was lost before the exit code arrived.
    LinkLost(String),
    TimedOut,
}

/// The reason why a verb of a stopped agent did not begin.
pub(crate) const STOPPED: &str = "the agent was stopped";

/// Sends a verb and follows it. `known` is the id of the last mutating request that we know of. After `stop`
/// no verb is sent; one that was sent is followed to its end.
pub(crate) async fn run(
    breakglass: &BreakglassConfig,
    verb: Verb,
    known: Option<&str>,
    stop: &CancellationToken,
    mut report: impl FnMut(VerbProgress<'_>),
) -> VerbReport {
    let seconds =
        if verb.mutates() { breakglass.mutation_seconds } else { breakglass.read_seconds };
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut out, mut err) = (BoundedOutput::new(MAX_STDOUT), BoundedOutput::new(MAX_STDERR));
    report(VerbProgress::Link("connecting"));
    let step = |step: &str| report(VerbProgress::Link(step));
    let connected = tokio::select! {
        biased;
        () = stop.cancelled() => return not_started(STOPPED.into(), out, err),
        connected = timeout_at(until, connect_with(breakglass, HYPERVISOR, step)) => connected,
    };
    let session = match connected {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return not_started(crate::error::chain(&error), out, err),
        Err(_) => return not_started(format!("the host did not answer in {seconds} s"), out, err),
    };
    report(VerbProgress::Link("running"));
    let opened = tokio::select! {
        biased;
        () = stop.cancelled() => return not_started(STOPPED.into(), out, err),
        opened = timeout_at(until, session.handle.channel_open_session()) => opened,
    };
    if stop.is_cancelled() {
        return not_started(STOPPED.into(), out, err);
    }
    let end = exchange(opened, verb, until, &mut out, &mut err, &mut report).await;
    drop(session);
    let output = out.text();
    let own_request = word_after(&output, "request ");
    let warnings = warnings(&output);
    let mut reads = vm_state(&output);
    // A code alone does not tell the end of a mutating verb: a signal that ends only the connection's
    // side of it becomes a code in the host's shell.
    let end = match end {
        ExchangeEnd::Exit(code) if verb.mutates() && !is_definite(code, &output) => {
            ExchangeEnd::LinkLost(format!(
                "the host's command ended with code {code} before the verb"
            ))
        }
        end => end,
    };
    let mut request = last_verb(&output).map(|last| last.request);
    let result = match end {
        ExchangeEnd::Exit(code) => {
            if verb.mutates() && code != 2 && code != 75 {
                request = own_request.or(request);
            }
            followed(verb, code, reads.as_deref())
        }
        ExchangeEnd::LinkLost(why) if verb.mutates() => {
            let lost = format!("link lost ({why}); the verb goes on at the host");
            report(VerbProgress::Link(&lost));
            let (result, back) =
                read_back(breakglass, verb, own_request, known, until, &mut report).await;
            if let Some(back) = back {
                reads = back.reads.or(reads);
                request = Some(back.request);
            }
            match result {
                Some(VerbResult::Exited { code }) => followed(verb, code, reads.as_deref()),
                Some(result) => result,
                None => unknown(format!("{lost}; the host reported no end in {seconds} s")),
            }
        }
        ExchangeEnd::LinkLost(why) => unknown(format!("link lost ({why})")),
        ExchangeEnd::TimedOut => {
            unknown(format!("the verb did not end in {seconds} s; it may go on at the host"))
        }
    };
    let clean = |text: String| Untrusted::new(text);
    let (reads, request) = (reads.map(clean), request.map(clean));
    let warnings = warnings.into_iter().map(clean).collect();
    VerbReport { result, out, err, reads, request, warnings }
}

/// Whether an exit code and the output tell how a mutating verb ended. The script's own refusals do,
/// and so does the last line of an action.
pub(super) fn is_definite(code: u32, output: &str) -> bool {
    matches!(code, 0 | 2 | 73 | 75 | 78)
        || output.lines().any(|line| line.starts_with("=== ") && line.contains(" ended with rc="))
}

/// The result of a verb that exited, unless the VM contradicts a success: HA answers a request before
/// it carries it out.
fn followed(verb: Verb, code: u32, reads: Option<&str>) -> VerbResult {
    match (verb.leaves(), reads) {
        (Some(wanted), Some(reads)) if code == 0 && reads != wanted => {
            unknown(format!("the host reports success, but the VM reads {reads} and not {wanted}"))
        }
        _ => VerbResult::Exited { code },
    }
}

/// The host's warnings, each once.
pub(super) fn warnings(output: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in output.lines().filter_map(|line| line.strip_prefix("warning: ")) {
        let text: String = text.chars().take(MAX_WARNING).collect();
        if found.len() < MAX_WARNINGS && !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

fn unknown(why: String) -> VerbResult {
    VerbResult::Unknown { why: why.into() }
}

fn not_started(why: String, out: BoundedOutput, err: BoundedOutput) -> VerbReport {
    let result = VerbResult::NotBegun { why: why.into() };
    VerbReport { result, out, err, reads: None, request: None, warnings: Vec::new() }
}

fn lost(error: &russh::Error) -> ExchangeEnd {
    ExchangeEnd::LinkLost(crate::error::chain(error))
}

/// Sends a verb on a channel, if the host has opened it, and follows its output.
async fn exchange(
    opened: Result<Result<Channel<Msg>, russh::Error>, Elapsed>,
    verb: Verb,
    until: Instant,
    out: &mut BoundedOutput,
    err: &mut BoundedOutput,
    report: &mut impl FnMut(VerbProgress<'_>),
) -> ExchangeEnd {
    let send = async {
        let channel = opened.map_err(|_| ExchangeEnd::TimedOut)?.map_err(|error| lost(&error))?;
        let sent = timeout_at(until, channel.exec(true, verb.as_str())).await;
        sent.map_err(|_| ExchangeEnd::TimedOut)?.map_err(|error| lost(&error))?;
        Ok::<_, ExchangeEnd>(channel)
    };
    let mut channel = match send.await {
        Ok(channel) => channel,
        Err(end) => return end,
    };
    let mut code = None;
    loop {
        // After the status only the rest of the output counts; something else may hold the channel open.
        let limit = code.map_or(until, |_| until.min(Instant::now() + AFTER_STATUS));
        let Ok(message) = timeout_at(limit, channel.wait()).await else {
            return code.map_or(ExchangeEnd::TimedOut, ExchangeEnd::Exit);
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                out.extend(&data);
                report(VerbProgress::Stdout(&data));
            }
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                err.extend(&data);
                report(VerbProgress::Stderr(&data));
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => code = Some(exit_status),
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                let why = format!("the host's command was ended by the signal {signal_name:?}");
                return ExchangeEnd::LinkLost(why);
            }
            Some(ChannelMsg::Failure) => return ExchangeEnd::Exit(2),
            Some(ChannelMsg::Close) | None => {
                return code.map_or_else(
                    || ExchangeEnd::LinkLost("the host closed the connection".into()),
                    ExchangeEnd::Exit,
                );
            }
            Some(_) => {}
        }
    }
}

/// The host's record of its last mutating verb.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LastVerb {
    pub(super) request: String,
    pub(super) verb: String,
    /// The exit code; `None` while the verb runs.
    exit_code: Option<u32>,
    pub(super) reads: Option<String>,
}

/// Parses the line `last request=… verb=… state=… rc=… reads=…`.
pub(super) fn last_verb(output: &str) -> Option<LastVerb> {
    let line = output.lines().rev().find_map(|line| line.strip_prefix("last "))?;
    let field = |name: &str| {
        line.split(' ')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .map(|word| word.chars().take(MAX_WORD).collect::<String>())
    };
    let ended = field("state").is_some_and(|state| state == "ended");
    let rc = field("rc").and_then(|rc| rc.parse().ok());
    Some(LastVerb {
        request: field("request")?,
        verb: field("verb")?,
        exit_code: if ended { Some(rc.unwrap_or(255)) } else { None },
        reads: field("reads"),
    })
}

/// The word after `before` at the start of the first line.
pub(super) fn word_after(output: &str, before: &str) -> Option<String> {
    let line = output.lines().next()?.strip_prefix(before)?;
    let word = line.split(' ').next().filter(|word| !word.is_empty())?;
    Some(word.chars().take(MAX_WORD).collect())
}

/// The VM's state, from the end of an action or from `qm status`.
pub(super) fn vm_state(output: &str) -> Option<String> {
    let of_end = output.lines().rev().find_map(|line| line.split_once("the VM reads: "));
    let word = of_end
        .map(|(_, word)| word)
        .or_else(|| output.lines().find_map(|line| line.strip_prefix("status: ")))?;
    Some(word.trim().chars().take(MAX_STATE).collect())
}

/// Queries the host for the end of a verb whose link was lost, until it reports one or the time is
/// over. It sends only status queries.
async fn read_back(
    breakglass: &BreakglassConfig,
    verb: Verb,
    own_request: Option<String>,
    known: Option<&str>,
    until: Instant,
    report: &mut impl FnMut(VerbProgress<'_>),
) -> (Option<VerbResult>, Option<LastVerb>) {
    // Without the id of our request, another request than the known one with our verb is
    // ours. Counts the answers that show another request.
    let mut other_answers = 0;
    let mut pause = Duration::from_millis(500);
    loop {
        if timeout_at(until, sleep(pause)).await.is_err() {
            return (None, None);
        }
        pause = POLL;
        let Ok(connected) = timeout_at(until, connect(breakglass, HYPERVISOR)).await else {
            return (None, None);
        };
        let session = match connected {
            Ok(session) => session,
            Err(error) => {
                let why = crate::error::chain(&error);
                report(VerbProgress::Link(&format!(
                    "link lost; the verb goes on at the host ({why})"
                )));
                continue;
            }
        };
        let (mut out, mut err) = (BoundedOutput::new(MAX_STDOUT), BoundedOutput::new(MAX_STDERR));
        let read = Duration::from_secs(breakglass.read_seconds);
        let limit = until.min(Instant::now() + read);
        let opened = timeout_at(limit, session.handle.channel_open_session()).await;
        let end = exchange(opened, Verb::Status, limit, &mut out, &mut err, &mut |_| ()).await;
        if !matches!(end, ExchangeEnd::Exit(_)) {
            continue;
        }
        let last = last_verb(&out.text());
        let is_ours = last.as_ref().is_some_and(|last| match (&own_request, known) {
            (Some(own), _) => last.request == *own,
            (None, Some(known)) => last.request != known && last.verb == verb.as_str(),
            // Nothing identifies our request.
            (None, None) => false,
        });
        match last {
            Some(last) if is_ours => match last.exit_code {
                Some(code) => return (Some(VerbResult::Exited { code }), Some(last)),
                None => report(VerbProgress::Link("link back; the verb goes on at the host")),
            },
            last => {
                let never_began = last.as_ref().map(|last| last.request.as_str()) == known
                    && own_request.is_none();
                other_answers += 1;
                if never_began && other_answers >= 2 {
                    let why = "the link was lost before the verb began".into();
                    return (Some(VerbResult::NotBegun { why }), last);
                }
                if other_answers >= 2 {
                    let why =
                        "the link was lost, and the host does not report whether the verb began"
                            .into();
                    return (Some(VerbResult::Unknown { why }), last);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breakglass::command::tests::{LONG, Wedged};

    #[tokio::test]
    async fn stop_sends_no_verb_to_a_hypervisor_that_opens_the_channel_late() {
        for opens in [false, true] {
            let (mut host, stop) = (Wedged::start().await, CancellationToken::new());
            let report = {
                let run = run(&host.config, Verb::Cycle, None, &stop, |_| ());
                let then = async {
                    host.asked.notified().await;
                    stop.cancel();
                    if opens {
                        host.opens.notify_one();
                    }
                };
                let both = async { tokio::join!(run, then) };
                tokio::time::timeout(LONG, both).await.expect("an end").0
            };
            assert_eq!(report.result, VerbResult::NotBegun { why: STOPPED.into() }, "{opens}");
            host.opens.notify_one();
            let received = tokio::time::timeout(LONG, host.commands.recv()).await;
            assert_eq!(received.expect("the end of the connection"), None, "{opens}");
        }
    }

    #[test]
    fn output_of_the_host_is_parsed() {
        let output = "request 20261124T081309Z-1 verb=status\nstatus: io-error\n\
                    last request=r7 verb=cycle from=::1 began=x step=ended state=ended rc=1 \
                    reads=stopped ended=y \n";
        assert_eq!(word_after(output, "request "), Some("20261124T081309Z-1".into()));
        assert_eq!(vm_state(output), Some("io-error".into()));
        let stopped = last_verb(output).unwrap();
        assert_eq!((stopped.request.as_str(), stopped.exit_code), ("r7", Some(1)));
        assert_eq!(stopped.reads.as_deref(), Some("stopped"));
        assert_eq!(last_verb("last none"), None);
        let running = last_verb("last request=r8 verb=stop state=running").unwrap();
        assert_eq!(running.exit_code, None);
        let ended = "status: running\n=== x cycle ended with rc=0; the VM reads: running\n";
        assert_eq!(vm_state(ended), Some("running".into()));
    }

    #[test]
    fn words_of_the_host_are_bounded() {
        let long = "r".repeat(1000);
        let output =
            format!("request {long} verb=stop\nlast request={long} verb=stop reads={long}\n");
        assert_eq!(word_after(&output, "request ").unwrap().len(), MAX_WORD);
        let last = last_verb(&output).unwrap();
        assert_eq!((last.request.len(), last.reads.unwrap().len()), (MAX_WORD, MAX_WORD));
    }

    #[test]
    fn exit_code_counts_where_the_action_reported_its_end() {
        let ended = "=== 2026-11-24T08:13:09Z cycle ended with rc=5; the VM reads: stopped\n";
        assert!(is_definite(5, ended));
        for code in [0, 2, 73, 75, 78] {
            assert!(is_definite(code, ""), "{code}");
        }
        // Signals of the connection's side, a process that died, and a shell that failed.
        for code in [1, 70, 129, 137, 143, 255] {
            assert!(!is_definite(code, "request r1 verb=cycle\n"), "{code}");
        }
    }

    #[test]
    fn success_that_the_vm_contradicts_is_unknown() {
        for (verb, reads) in
            [(Verb::Cycle, "stopped"), (Verb::Start, "paused"), (Verb::Stop, "running")]
        {
            let result = followed(verb, 0, Some(reads));
            assert!(matches!(result, VerbResult::Unknown { .. }), "{verb:?}: {result:?}");
        }
        for (verb, reads) in [
            (Verb::Cycle, Some("running")),
            (Verb::Stop, Some("stopped")),
            (Verb::Reset, Some("paused")),
            (Verb::Start, None),
        ] {
            assert_eq!(followed(verb, 0, reads), VerbResult::Exited { code: 0 });
        }
        assert_eq!(followed(Verb::Cycle, 1, Some("stopped")), VerbResult::Exited { code: 1 });
    }

    #[test]
    fn warnings_are_bounded_and_listed_once() {
        let line = format!("warning: {}\n", "x".repeat(1000));
        let many = (0..20).map(|n| format!("warning: {n}\n")).collect::<Vec<_>>().concat();
        let found = warnings(&format!("status: running\n{line}{line}{many}"));
        assert_eq!((found.len(), found[0].len(), found[1].as_str()), (8, 400, "0"));
    }

    #[test]
    fn bounded_output_drops_bytes_over_its_bound() {
        let mut output = BoundedOutput::new(4);
        output.extend(b"abc");
        assert!(!output.cut);
        output.extend(b"def");
        assert!(output.cut && output.text() == "abcd");
    }
}
