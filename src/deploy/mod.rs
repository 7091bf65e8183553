//! Deploys and their proof: a command or a cluster's own controllers roll a commit out, and probes
//! show that it works. `runtime::tasks::stages` calls each; all return a `Judgement`.

pub mod command;
pub mod kubernetes;
mod objects;
pub mod probe;
pub mod survey;
