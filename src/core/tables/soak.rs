//! Decision table T7, the soak: how long a rollout was seen healthy. The deploy adapter for Kubernetes
//! looks at the workload again and again, and reports each look here.
//!
//! | a look | the soak |
//! | --- | --- |
//! | fails | stops: the time until the next look counts for nothing |
//! | finds the rollout unhealthy | begins again from zero |
//! | finds another generation, or a restart | begins again from zero |
//! | finds the same rollout healthy | counts the time since the look before it, but never more than [`LONGEST_GAP`] |
//!
//! The soak is over with a healthy look that began after the whole time had been seen. A look that fails is
//! no bad news, but it is no good news either.

/// The longest time between two looks that counts as seen, in milliseconds.
pub const LONGEST_GAP: i64 = 15_000;

/// What makes two healthy looks the same rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthyRollout {
    /// The identifier of the workload, which another object of the same name doesn't have.
    pub uid: String,
    /// The generation of the workload, which each change raises.
    pub generation: i64,
    /// The restarts of all containers together.
    pub restarts: i32,
}

/// The result of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The workload could not be read.
    Failed,
    /// The rollout isn't complete, or not healthy.
    Unhealthy,
    /// The rollout is complete and healthy.
    Healthy(HealthyRollout),
}

/// The soak of one rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soak {
    needed: i64,
    seen: i64,
    last: Option<i64>,
    rollout: Option<HealthyRollout>,
}

impl Soak {
    /// A soak that needs so many milliseconds.
    #[must_use]
    pub const fn new(needed: i64) -> Self {
        Self { needed, seen: 0, last: None, rollout: None }
    }

    /// Takes a look that began at `at`, in milliseconds of any clock that never jumps. Returns whether
    /// the soak is over.
    pub fn look(&mut self, at: i64, look: Look) -> bool {
        match look {
            Look::Failed => {
                self.last = None;
                false
            }
            Look::Unhealthy => {
                *self = Self::new(self.needed);
                false
            }
            Look::Healthy(rollout) => {
                if self.rollout.as_ref() == Some(&rollout) {
                    let gap = self.last.map_or(0, |last| at - last);
                    self.seen += gap.clamp(0, LONGEST_GAP);
                } else {
                    self.seen = 0;
                }
                self.rollout = Some(rollout);
                self.last = Some(at);
                self.seen >= self.needed
            }
        }
    }

    /// The time that was seen healthy so far, in milliseconds.
    #[must_use]
    pub const fn seen(&self) -> i64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy(generation: i64, restarts: i32) -> Look {
        Look::Healthy(HealthyRollout { uid: "u".into(), generation, restarts })
    }

    /// Looks every five seconds, and returns the time at which the soak of 20 s is over.
    fn over(looks: &[Look]) -> Option<i64> {
        let mut soak = Soak::new(20_000);
        let mut at = -5_000;
        let mut ends = |look: &Look| {
            at += 5_000;
            soak.look(at, look.clone()).then_some(at)
        };
        looks.iter().find_map(&mut ends)
    }

    #[test]
    fn soak_follows_every_row() {
        let good = || healthy(2, 0);
        let all = |looks: &[Look]| over(&[looks, &vec![good(); 9]].concat());
        assert_eq!(all(&[]), Some(20_000));
        assert_eq!(all(&[good(), good(), Look::Failed]), Some(30_000), "10 s were not seen");
        assert_eq!(over(&[good(), Look::Failed, Look::Failed, Look::Failed, Look::Failed]), None);
        assert_eq!(all(&[good(), good(), Look::Unhealthy]), Some(35_000));
        let back = Look::Healthy(HealthyRollout { uid: "u".into(), generation: 3, restarts: 0 });
        assert_eq!(all(&[good(), Look::Failed, back]), Some(35_000), "set back, and set again");
        assert_eq!(all(&[good(), good(), healthy(2, 1)]), Some(35_000), "a restart");
        let again = HealthyRollout { uid: "v".into(), generation: 2, restarts: 0 };
        assert_eq!(all(&[good(), good(), Look::Healthy(again)]), Some(35_000), "another object");
    }

    #[test]
    fn long_gap_counts_in_part_only() {
        let mut soak = Soak::new(60_000);
        assert!(!soak.look(0, healthy(1, 0)));
        assert!(!soak.look(9 * 3_600_000, healthy(1, 0)));
        assert_eq!(soak.seen(), LONGEST_GAP);
        let mut none = Soak::new(0);
        assert!(none.look(0, healthy(1, 0)), "no soak is asked for");
    }
}
