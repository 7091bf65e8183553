//! The setup of breakglass: pinned keys, the installer of the hypervisor, and the printed runbook.

use super::{HostArgs, PinArgs, prompt};
use crate::breakglass::pins::{Pins, fingerprint};
use crate::breakglass::{host, ssh};
use crate::cli::failure;
use crate::cli::terminal::{print_line, print_remark};
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR};
use crate::error::{Failure, FailureKind};

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

/// The steps that need no afk, with the addresses of this configuration. To be printed on paper.
pub(super) fn runbook(breakglass: &BreakglassConfig) -> String {
    let (vm, command) = (&breakglass.vm, breakglass.cold_command());
    format!(
        "{vm} is wedged and afk is not available\n\n\
         1. Read the status from the host. \"running\" never proves health.\n     {command}\n\
         2. Repeat it with `forensics` at its end, and keep the output.\n\
         3. Repeat it with `cycle` at its end: forensics, stop or kill, start. It takes up to 4 min.\n\
         \x20  If the connection breaks, it continues: read `status` again, and do not repeat it.\n\
         4. If the host itself is down, use its out-of-band console. Nothing here reaches it.\n\n\
         This path needs no AI, DNS, cluster or database."
    )
}
