//! The translation of a configuration into the rules of the pure core. The runtime calls
//! [`Config::policy`] at start-up and after each change of the file, and journals the result.

use std::collections::BTreeMap;

use super::breakglass::BreakglassConfig;
use super::executor::ExecutorConfig;
use super::repos::remote_name;
use super::{Config, service};
use crate::core::model::budget::MicroUsd;
use crate::core::model::id::Repo;
use crate::core::model::notice::Notices;
use crate::core::model::outage::OutageRules;
use crate::core::model::policy::{Policy, RemoteExecutor};
use crate::core::model::time::MINUTE;

/// The number of permits if neither `capacity` nor `[service]` is set.
const PERMITS: u32 = 3;

impl Config {
    /// The number of runs that may work at once.
    #[must_use]
    pub fn permits(&self) -> u32 {
        let default = if self.service.is_some() { service::PERMITS } else { PERMITS };
        self.capacity.unwrap_or(default)
    }

    /// The core's rules that follow from this configuration.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            kill_switch: self.kill_switch,
            allowlist: self.allowlist.clone(),
            capacity: self.permits(),
            max_queue_depth: self.max_queue_depth,
            job_ttl_ms: self.service.as_ref().map_or(Policy::default().job_ttl_ms, |service| {
                i64::from(service.job_ttl_seconds) * 1000
            }),
            day_limit: self.budget.day_usd.map(MicroUsd::from_usd),
            day_soft_limit: self.budget.day_soft_usd.map(MicroUsd::from_usd),
            run_limit: self.budget.run_usd.map(MicroUsd::from_usd),
            turn_reserve: MicroUsd::from_usd(self.budget.turn_reserve_usd),
            fix_forward_attempts: self.fix_forward.attempts,
            fix_forward_ms: match self.fix_forward.seconds {
                Some(seconds) => i64::from(seconds) * 1000,
                None => i64::from(self.fix_forward.minutes) * MINUTE,
            },
            remote: self.allowlist.iter().filter(|repo| self.on_github(repo)).cloned().collect(),
            remote_names: self
                .repos
                .iter()
                .map(|(repo, known)| (repo.clone(), remote_name(&known.remote)))
                .collect(),
            outages: OutageRules {
                ask_ms: i64::from(self.outages.ask_minutes) * MINUTE,
                longest_pause_ms: i64::from(self.outages.longest_pause_seconds) * 1000,
            },
            remote_executors: self.remote_executors(),
            term: self.term.unwrap_or(0),
            notices: self.notices(),
            breakglass: self.breakglass.as_ref().map(BreakglassConfig::rules),
            answer_ms: i64::from(self.limits.answer_hours) * 60 * MINUTE,
            ..Policy::default()
        }
    }

    /// The repositories whose turns run on an executor, each with its executor.
    fn remote_executors(&self) -> BTreeMap<Repo, RemoteExecutor> {
        let places = self.repos.iter().filter_map(|(repo, repository)| {
            let name = repository.executor.clone()?;
            let issues = !matches!(self.executors.get(&name)?, ExecutorConfig::Service(_));
            Some((repo.clone(), RemoteExecutor { name, issues }))
        });
        places.collect()
    }

    fn notices(&self) -> Notices {
        let notify = &self.notify;
        let sinks = notify.sinks.iter();
        // Without quiet hours the zone has no effect. Then a change of daylight saving time must not
        // journal a new policy, and a start must not read the database of zones.
        let offset = notify.quiet.map(|_| jiff::Zoned::now().offset().seconds() / 60);
        Notices {
            sinks: sinks.map(|(name, sink)| (name.clone(), sink.notices().cloned())).collect(),
            quiet: notify.quiet.map(|quiet| (quiet.from, quiet.to)),
            offset: offset.unwrap_or(0),
            remind_ms: i64::from(notify.remind_minutes) * MINUTE,
        }
    }
}
