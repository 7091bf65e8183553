//! The hypervisor's side: the script that is its forced command, and the line that lets a key in.

/// The forced command; POSIX sh.
pub const SCRIPT: &str = include_str!("../../assets/breakglass/afk-pve");
/// Where it is installed.
pub const PATH: &str = "/usr/local/sbin/afk-pve";

/// The line of `authorized_keys`: this command, from there, until then, and nothing else.
///
/// # Errors
/// What is wrong with an argument.
pub fn line(key: &str, from: Option<&str>, expires: Option<&str>) -> Result<String, String> {
    let key = key.trim();
    russh::keys::PublicKey::from_openssh(key)
        .map_err(|error| format!("the public key: {error}"))?;
    let plain =
        |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".:/,*?!-".contains(c));
    let mut options = format!("command=\"{PATH}\",restrict");
    for (name, value) in [("from", from), ("expiry-time", expires)] {
        let Some(value) = value else { continue };
        if value.is_empty() || !plain(value) {
            return Err(format!("{name}={value:?} can't stand in authorized_keys"));
        }
        options.push_str(&format!(",{name}=\"{value}\""));
    }
    Ok(format!("{options} {key}"))
}

/// A script that installs it as root on the hypervisor; to be read before it is run.
#[must_use]
pub fn installer(line: &str) -> String {
    let quoted = line.replace('\'', "'\\''");
    format!(
        "#!/bin/sh\n\
         # Installs the breakglass command of afk on this hypervisor. Run as root, after reading it:\n\
         #   afk breakglass install-host --print … | ssh root@HYPERVISOR 'cat >install-afk.sh'\n\
         # sshd needs nothing else; it must not have PermitUserEnvironment, and AcceptEnv should be\n\
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
         echo 'installed; try it with: ssh … status'\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPNZi5hqgVpUJ6SO8GmVIXGHcUmkfYF3HNnzZQ+9J3T ana's";

    #[test]
    fn the_line_allows_one_command_and_nothing_else() {
        let made = line(KEY, Some("192.0.2.7,10.0.0.0/8"), Some("20270101Z")).unwrap();
        assert_eq!(
            made,
            format!(
                "command=\"/usr/local/sbin/afk-pve\",restrict,from=\"192.0.2.7,10.0.0.0/8\",\
                 expiry-time=\"20270101Z\" {KEY}"
            )
        );
        assert!(line(KEY, Some("a\",command=\"sh"), None).is_err());
        assert!(line("no key", None, None).is_err());
        let script = installer(&made);
        assert!(script.contains("ana'\\''s") && script.contains("flock -n 9"));
    }
}
