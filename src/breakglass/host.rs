//! The hypervisor's side: the forced command, the `authorized_keys` line that admits a key for it,
//! and the installer of both, which `afk breakglass install-host` prints.

/// The forced command, a POSIX sh script.
pub const SCRIPT: &str = include_str!("../../assets/breakglass/afk-pve");
/// The path of the script on the hypervisor.
const PATH: &str = "/usr/local/sbin/afk-pve";

/// The `authorized_keys` line that admits `key` for the forced command alone; optionally only from
/// the addresses `from` and until `expires`, in sshd's formats.
///
/// # Errors
/// One line that says which argument is invalid.
pub(crate) fn authorized_keys_line(
    key: &str,
    from: Option<&str>,
    expires: Option<&str>,
) -> Result<String, String> {
    let key = key.trim();
    russh::keys::PublicKey::from_openssh(key)
        .map_err(|error| format!("the public key is invalid: {error}"))?;
    let is_plain =
        |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".:/,*?!-".contains(c));
    let mut options = format!("command=\"{PATH}\",restrict");
    for (name, value) in [("from", from), ("expiry-time", expires)] {
        let Some(value) = value else { continue };
        if value.is_empty() || !is_plain(value) {
            return Err(format!("{name}={value:?} is not allowed in authorized_keys"));
        }
        options.push_str(&format!(",{name}=\"{value}\""));
    }
    Ok(format!("{options} {key}"))
}

/// A script that installs the forced command and the line; a person reads it and runs it as root on
/// the hypervisor.
#[must_use]
pub(crate) fn installer(line: &str) -> String {
    let quoted = line.replace('\'', "'\\''");
    format!(
        "#!/bin/sh\n\
         # Installs the breakglass command of afk on this hypervisor. Read it, then run it as root:\n\
         #   afk breakglass install-host --print … | ssh root@HYPERVISOR 'cat >install-afk.sh'\n\
         # sshd needs no other setting. PermitUserEnvironment must be off, and AcceptEnv should be\n\
         # empty. `ExposeAuthInfo yes` adds the key's fingerprint to the log.\n\
         set -eu\n\
         umask 077\n\
         [ \"$(id -u)\" = 0 ] || {{ echo 'run this as root' >&2; exit 1; }}\n\
         for tool in qm flock setsid timeout od awk; do\n\
         \x20   command -v \"$tool\" >/dev/null || echo \"warning: $tool is missing\" >&2\n\
         done\n\
         cat >{PATH}.new <<'END_OF_AFK_PVE'\n{SCRIPT}END_OF_AFK_PVE\n\
         chmod 755 {PATH}.new && mv {PATH}.new {PATH}\n\
         mkdir -p /root/.ssh\n\
         line='{quoted}'\n\
         grep -qxF \"$line\" /root/.ssh/authorized_keys 2>/dev/null ||\n\
         \x20   printf '%s\\n' \"$line\" >>/root/.ssh/authorized_keys\n\
         echo 'installed; test it with: ssh … status'\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPNZi5hqgVpUJ6SO8GmVIXGHcUmkfYF3HNnzZQ+9J3T ana's";

    #[test]
    fn authorized_keys_line_admits_one_command_alone() {
        let line =
            authorized_keys_line(KEY, Some("192.0.2.7,10.0.0.0/8"), Some("20270101Z")).unwrap();
        assert_eq!(
            line,
            format!(
                "command=\"/usr/local/sbin/afk-pve\",restrict,from=\"192.0.2.7,10.0.0.0/8\",\
                 expiry-time=\"20270101Z\" {KEY}"
            )
        );
        assert!(authorized_keys_line(KEY, Some("a\",command=\"sh"), None).is_err());
        assert!(authorized_keys_line("no key", None, None).is_err());
        let script = installer(&line);
        assert!(script.contains("ana'\\''s") && script.contains("flock -n 9"));
    }
}
