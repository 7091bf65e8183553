//! `afk verify`: checks that the journal has every record that was durable and that its hash chain
//! holds, names the first broken link, and compares the journal with its anchor if one is configured. afk
//! may run meanwhile.

use secrecy::ExposeSecret;

use super::failure::explained;
use super::instance::InstanceArgs;
use super::terminal::print_line;
use crate::core::model::plural::plural;
use crate::error::{Failure, FailureKind};
use crate::journal::anchor::Anchor;
use crate::journal::{Journal, chain, completeness};
use crate::secrets::Secrets;

pub(super) async fn run(instance: &InstanceArgs) -> Result<(), Failure> {
    let paths = instance.paths()?;
    completeness::check(&paths.state).map_err(|error| {
        let mut failure = Failure::from(error);
        failure.kind = FailureKind::Negative;
        failure
    })?;
    let journal = Journal::open_read_only(&paths.state)?;
    let count = chain::verify(&journal)?.map_err(|broken| {
        Failure::new(FailureKind::Negative, broken).hint(
            "the records before it are as they were written; those from it on are not proved. \
                 `afk journal salvage` keeps the former",
        )
    })?;
    let count = plural(count, "record");
    let config = if paths.config.exists() { Some(instance.load()?.0) } else { None };
    let anchor = config.as_ref().and_then(|config| Some((config, config.journal.anchor()?)));
    let Some((config, (file, reference))) = anchor else {
        print_line(&format!("{count}, every link holds"));
        return Ok(());
    };
    let secrets = Secrets::new(config.vault.as_ref())
        .map_err(|error| explained(FailureKind::Configuration, error))?;
    let key = secrets
        .get(reference)
        .await
        .map_err(|error| explained(FailureKind::Configuration, error))?;
    let anchored = Anchor::open(file, key.expose_secret(), &paths.state, &journal)
        .map_err(|error| Failure::from_error(FailureKind::Negative, error))?
        .last();
    if anchored == 0 && journal.last() > 0 {
        let path = file.display();
        return Err(Failure::new(FailureKind::Negative, format!("{path} has no anchored record"))
            .hint("either afk has not run with the anchor yet, or the file was removed"));
    }
    print_line(&format!("{count}, every link holds, anchored up to record {anchored}"));
    Ok(())
}
