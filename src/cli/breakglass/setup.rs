//! The setup of breakglass: pinned keys, the installer of the hypervisor, and the printed runbook.

use std::io::IsTerminal;
use std::path::Path;

use super::{HostArgs, PinArgs, prompt, runbook};
use crate::breakglass::key_file::Passphrase;
use crate::breakglass::pins::{Pins, fingerprint};
use crate::breakglass::{host, ssh};
use crate::cli::failure;
use crate::cli::terminal::{ask_secret, print_line, print_remark};
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR};
use crate::error::{Failure, FailureKind};
use crate::runtime::client::Client;

/// How often a passphrase may be typed.
const TRIES: usize = 3;

/// Pins the key that a host offers, after the user or the `--fingerprint` flag has confirmed it.
pub(super) async fn pin(breakglass: &BreakglassConfig, args: &PinArgs) -> Result<(), Failure> {
    let name = &args.name;
    if breakglass.host(name).is_none() {
        let known: Vec<&str> =
            breakglass.hosts.keys().map(String::as_str).chain([HYPERVISOR]).collect();
        return Err(Failure::new(FailureKind::Usage, format!("there is no host {name:?}"))
            .hint(format!("use one of: {}", known.join(", "))));
    }
    let pins = Pins::at(&breakglass.pins);
    let old = pins.of(name).ok().flatten();
    let key = ssh::fetch_host_key(breakglass, name)
        .await
        .map_err(|error| failure::explained(FailureKind::System, error))?;
    let new = fingerprint(&key);
    print_remark(&format!(
        "pinned:  {}",
        old.as_ref().map_or_else(|| "no key".into(), fingerprint)
    ));
    print_remark(&format!("offered: {new}"));
    let confirmed = if let Some(wanted) = &args.fingerprint {
        new.split(' ').any(|part| part == wanted)
    } else {
        print_remark(
            "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that host",
        );
        prompt("type yes if they are equal: ", "--fingerprint SHA256:…")? == "yes"
    };
    if !confirmed {
        return Err(Failure::new(
            FailureKind::Negative,
            format!("the key of {name} was not pinned"),
        ));
    }
    pins.set(name, &key, true).map_err(|error| failure::explained(FailureKind::System, error))?;
    print_line(&format!("{name} is pinned in {}", breakglass.pins.display()));
    Ok(())
}

/// Asks once for the passphrase of each key file that has one. The decrypted keys stay in the memory of the
/// runtime. A key that stays locked fails when it is used.
pub(super) async fn unlock_keys(client: &Client) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let failed = |why| Failure::new(FailureKind::System, why);
    let mut locked = client.unlock_keys(None).await.map_err(failed)?;
    let mut tries = 0;
    while let Some(path) = locked.first().filter(|_| tries < TRIES) {
        let question = format!("passphrase of {}: ", path.display());
        let Some(passphrase) = ask_secret(&question)? else { break };
        let left = client.unlock_keys(Some(Passphrase::new(passphrase))).await.map_err(failed)?;
        if left.len() == locked.len() {
            print_remark("it fits no key");
            tries += 1;
        }
        locked = left;
    }
    Ok(())
}

/// Prints the installer of the hypervisor's side.
pub(super) fn install_host(args: &HostArgs) -> Result<(), Failure> {
    let key = std::fs::read_to_string(&args.key)
        .map_err(|error| Failure::new(FailureKind::Usage, args.key.display()).because(error))?;
    let line = host::authorized_keys_line(&key, args.from.as_deref(), args.expires.as_deref());
    let line = line.map_err(|why| Failure::new(FailureKind::Usage, why))?;
    if args.from.is_none() {
        print_remark("without --from the key is admitted from every address");
    }
    print_line(host::installer(&line).trim_end());
    Ok(())
}

/// Prints the runbook for paper.
pub(super) fn print_runbook(breakglass: &BreakglassConfig, config: &Path) {
    let pinned = Pins::at(&breakglass.pins).of(HYPERVISOR).ok().flatten();
    let facts = runbook::RunbookFacts {
        config: config.display().to_string(),
        printed: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        pinned: pinned.as_ref().map(fingerprint),
    };
    print_line(runbook::text(breakglass, &facts).trim_end());
}
