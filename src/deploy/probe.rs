//! Probes: HTTP or a command, good for the whole soak time.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::config::repository::ProbeConfig;
use crate::core::model::id::Sha;
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::{Fact, Judgement, Verdict};
use crate::process::{Spec, Supervisor};

/// Longest time of one sample.
const SAMPLE: Duration = Duration::from_secs(10);
/// Most of an answer that is read, in bytes.
const BODY: usize = 64 * 1024;

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Good.
    pub ok: bool,
    /// How long it took.
    pub latency: Duration,
    /// What was said.
    pub said: Untrusted,
}

/// Probes as configured.
#[derive(Debug)]
pub struct Prober {
    probe: ProbeConfig,
    sha: Sha,
    /// Only for HTTP.
    client: Option<reqwest::Client>,
    supervisor: Supervisor,
    owner: String,
    cwd: PathBuf,
    log: PathBuf,
}

impl Prober {
    /// Probes for a commit; commands run in `cwd` and write to `log`.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(
        probe: ProbeConfig,
        sha: Sha,
        supervisor: Supervisor,
        owner: String,
        cwd: PathBuf,
        log: PathBuf,
    ) -> Result<Self, reqwest::Error> {
        let build = |_: &String| {
            reqwest::Client::builder()
                .timeout(SAMPLE)
                // A probe asks what it is told to ask and nothing else.
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
        };
        let client = probe.http.as_ref().map(build).transpose()?;
        Ok(Self { probe, sha, client, supervisor, owner, cwd, log })
    }

    /// Samples until the soak time was good throughout (green), a sample went bad after a good
    /// one (red), or the first good one did not come in time (red). `each` hears every sample.
    pub async fn judge(&self, mut each: impl FnMut(&Sample)) -> Judgement {
        let began = Instant::now();
        let settle = Duration::from_millis(self.probe.settle_ms);
        let soak = Duration::from_millis(self.probe.soak_ms);
        let mut good_since: Option<Instant> = None;
        let mut count = 0_u32;
        loop {
            let sample = self.sample().await;
            each(&sample);
            let now = Instant::now();
            match (good_since, sample.ok) {
                (_, true) => {
                    count += 1;
                    let since = *good_since.get_or_insert(now);
                    if now - since >= soak {
                        let detail = format!("{count} good probes over {} s", soak.as_secs_f32());
                        let verdict = Verdict::Green;
                        return Judgement {
                            log: sample.said,
                            facts: vec![Fact::new("probes", count.to_string())],
                            ..Judgement::new(verdict, detail)
                        };
                    }
                }
                (Some(_), false) => {
                    let detail = format!("a probe went bad after {count} good ones");
                    return red(&detail, &sample);
                }
                (None, false) if now - began >= settle => {
                    let detail = format!("no good probe in {} s", settle.as_secs_f32());
                    return red(&detail, &sample);
                }
                (None, false) => {}
            }
            sleep(Duration::from_millis(self.probe.interval_ms)).await;
        }
    }

    async fn sample(&self) -> Sample {
        let began = Instant::now();
        let asked = match (&self.probe.http, &self.client, &self.probe.command) {
            (Some(url), Some(client), _) => timeout(SAMPLE, self.http(client, url)).await,
            (_, _, Some(line)) => Ok(self.command(line).await),
            _ => Ok(Err("no probe is configured".into())),
        };
        let latency = began.elapsed();
        match asked {
            Ok(Ok(said)) => Sample { ok: true, latency, said },
            Ok(Err(said)) => Sample { ok: false, latency, said },
            Err(_) => Sample { ok: false, latency, said: "no answer in time".into() },
        }
    }

    async fn http(&self, client: &reqwest::Client, url: &str) -> Result<Untrusted, Untrusted> {
        let url = url.replace("{sha}", &self.sha.0);
        // The error's own text leaves out why; the chain has it.
        let tell = |error: reqwest::Error| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Untrusted::new(text)
        };
        let mut answer = client.get(&url).send().await.map_err(tell)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(tell)? {
            let room = BODY.saturating_sub(body.len()).min(chunk.len());
            body.extend_from_slice(&chunk[..room]);
            if room < chunk.len() {
                break;
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        let said = Untrusted::new(format!("{status}\n{body}"));
        let expected = self.probe.expect.as_ref().map(|text| text.replace("{sha}", &self.sha.0));
        let as_expected = expected.is_none_or(|text| body.contains(&text));
        if status.is_success() && as_expected { Ok(said) } else { Err(said) }
    }

    async fn command(&self, line: &str) -> Result<Untrusted, Untrusted> {
        let mut spec = Spec::shell(&self.owner, line, &self.cwd);
        spec.env.insert("AFK_SHA".into(), self.sha.0.clone());
        match self.supervisor.run(&spec, &self.log, SAMPLE).await {
            Ok(finished) if finished.code == Some(0) => Ok(finished.tail),
            Ok(finished) => {
                Err(format!("{}\n{}", finished.summary(), finished.tail.as_received()).into())
            }
            Err(error) => Err(error.to_string().into()),
        }
    }
}

fn red(detail: &str, sample: &Sample) -> Judgement {
    Judgement { log: sample.said.clone(), ..Judgement::new(Verdict::Red, detail) }
}
