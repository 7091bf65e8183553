//! Probes of a deployed commit: HTTP requests or a command, repeated until every sample was good for
//! the whole soak time, or one decides against the commit.

use crate::core::model::verdict::FactKind;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::config::repository::ProbeConfig;
use crate::core::model::id::Sha;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::{Fact, Judgement, Verdict};
use crate::error::chain;
use crate::network::NetworkError;
use crate::process::{Spec, Supervisor};

/// The time limit of one sample.
const SAMPLE: Duration = Duration::from_secs(10);
/// The bad samples in a row that are no blip any more.
const BLIP: u32 = 3;
/// The blips that one commit may have.
const BLIPS: u32 = 3;
/// The part of an answer that is read, in bytes.
const BODY: usize = 64 * 1024;

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Whether the answer was as expected.
    pub ok: bool,
    /// How long the answer took.
    pub latency: Duration,
    /// The status and body, the end of the command's output, or the error.
    pub output: Untrusted,
}

/// The probes of one commit, as the repository configures them.
#[derive(Debug)]
pub struct Prober {
    probe: ProbeConfig,
    sha: Sha,
    /// None where the probe is a command.
    client: Option<reqwest::Client>,
    supervisor: Supervisor,
    /// The child of a command's sample.
    spec: Spec,
    log: PathBuf,
}

impl Prober {
    /// Probes for a commit; `spec` is the child that a command's sample starts, and it writes to
    /// `log`.
    ///
    /// # Errors
    /// There is no TLS client.
    pub fn new(
        probe: ProbeConfig,
        sha: Sha,
        supervisor: Supervisor,
        spec: Spec,
        log: PathBuf,
    ) -> Result<Self, reqwest::Error> {
        let build = |_: &String| {
            reqwest::Client::builder()
                .timeout(SAMPLE)
                // A redirect is an answer to judge, not an address to follow.
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
        };
        let client = probe.http.as_ref().map(build).transpose()?;
        Ok(Self { probe, sha, client, supervisor, spec, log })
    }

    /// Samples until every sample of the soak time was good (green), three bad ones in a row followed a
    /// good one (red), or the first good one did not come in time (red). A shorter failure begins the
    /// soak again, at most three times. `report` receives every sample.
    pub async fn judge(&self, mut report: impl FnMut(&Sample)) -> Judgement {
        let began = Instant::now();
        let settle = Duration::from_millis(self.probe.settle_ms);
        let soak = Duration::from_millis(self.probe.soak_ms);
        let mut good_since: Option<Instant> = None;
        // All good samples, those of this soak, the bad ones in a row, and the soaks that one broke.
        let (mut good, mut count, mut bad, mut blips) = (0_u32, 0_u32, 0_u32, 0_u32);
        loop {
            let sampled = Instant::now();
            let sample = self.sample().await;
            report(&sample);
            if sample.ok {
                (good, count, bad) = (good + 1, count + 1, 0);
                // The time of the soak lies between samples that were taken in it.
                let since = *good_since.get_or_insert(sampled);
                if sampled - since >= soak {
                    let seconds = soak.as_secs_f32();
                    let detail = format!("{} over {seconds} s", plural(count, "good probe"));
                    return Judgement {
                        log: sample.output,
                        facts: vec![Fact::new(FactKind::Probes, count.to_string())],
                        ..Judgement::new(Verdict::Green, detail)
                    };
                }
            } else {
                bad += 1;
                blips += u32::from(good_since.take().is_some());
                count = 0;
                if good == 0 && began.elapsed() >= settle {
                    let detail = format!("no good probe in {} s", settle.as_secs_f32());
                    return red(&detail, &sample);
                }
                if good > 0 && (bad >= BLIP || blips > BLIPS) {
                    let detail = if blips > BLIPS {
                        format!(
                            "probes failed again and again, {} in between",
                            plural(good, "good one")
                        )
                    } else {
                        format!("{bad} probes in a row failed after {}", plural(good, "good one"))
                    };
                    return red(&detail, &sample);
                }
            }
            sleep(Duration::from_millis(self.probe.interval_ms)).await;
        }
    }

    async fn sample(&self) -> Sample {
        let began = Instant::now();
        let result = match (&self.probe.http, &self.client, &self.probe.command) {
            (Some(url), Some(client), _) => timeout(SAMPLE, self.http(client, url)).await,
            (_, _, Some(_)) => Ok(self.command().await),
            _ => Ok(Err("no probe is configured".into())),
        };
        let latency = began.elapsed();
        match result {
            Ok(Ok(output)) => Sample { ok: true, latency, output },
            Ok(Err(output)) => Sample { ok: false, latency, output },
            Err(_) => {
                let output = format!("no answer in {} s", SAMPLE.as_secs()).into();
                Sample { ok: false, latency, output }
            }
        }
    }

    async fn http(&self, client: &reqwest::Client, url: &str) -> Result<Untrusted, Untrusted> {
        let url = url.replace("{sha}", &self.sha.0);
        let failed = |error: reqwest::Error| Untrusted::new(chain(&NetworkError::new(&url, error)));
        let mut answer = client.get(&url).send().await.map_err(failed)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            let room = BODY.saturating_sub(body.len()).min(chunk.len());
            body.extend_from_slice(&chunk[..room]);
            if room < chunk.len() {
                break;
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        let output = Untrusted::new(format!("{status}\n{body}"));
        let expected = self.probe.expect.as_ref().map(|text| text.replace("{sha}", &self.sha.0));
        let as_expected = expected.is_none_or(|text| body.contains(&text));
        if status.is_success() && as_expected { Ok(output) } else { Err(output) }
    }

    async fn command(&self) -> Result<Untrusted, Untrusted> {
        match self.supervisor.run(&self.spec, &self.log, SAMPLE).await {
            Ok(finished) if finished.code == Some(0) => Ok(finished.tail),
            Ok(finished) => {
                Err(format!("{}\n{}", finished.summary(), finished.tail.as_received()).into())
            }
            Err(error) => Err(chain(&error).into()),
        }
    }
}

fn red(detail: &str, sample: &Sample) -> Judgement {
    Judgement { log: sample.output.clone(), ..Judgement::new(Verdict::Red, detail) }
}
