//! System packages: what a build and a run need beyond Rust. Installed
//! through apt where we may, else named in one command to run.

use crate::failure::{Context, Failure, Result};
use crate::pg_bin::{MIN_VERSION, OVERRIDE, PgBin};
use crate::say::say;
use std::io::Write;
use std::process::{Command, Stdio};

/// A thing that is missing, and the Debian packages that bring it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
}

const COMPILER: Need = Need {
    what: "a C compiler with its headers",
    packages: &["gcc", "libc6-dev"],
};
const POSTGRES: Need =
    Need { what: "a PostgreSQL server", packages: &["postgresql"] };

const QEMU: Need =
    Need { what: "QEMU", packages: &["qemu-system-x86", "qemu-utils"] };

/// A machine may have a newer `qemu-utils`, from another source, that does not
/// go with what the distribution has of the rest. Then all of it is taken from
/// where `qemu-system-x86` comes from.
const INSTALL_QEMU: &str = r#"
install() { apt-get install -y --no-install-recommends "$@"; }
install "$@" || {
    version=$(apt-cache madison qemu-system-x86 | awk '{ print $3; exit }')
    test -n "$version"
    for package do
        shift
        set -- "$@" "$package=$version"
    done
    install --allow-downgrades "$@"
}
"#;

/// Whether real guests can be had.
pub(crate) enum Qemu {
    /// QEMU is installed.
    Here,
    /// It is not, and cannot be; this says what to do about it.
    Cannot(String),
}

/// Debian's package makes a cluster of its own and starts it on port 5432.
/// Nobody asked for that one, so the setting is off while we install, and as
/// it was afterwards.
const INSTALL_WITHOUT_CLUSTER: &str = r#"
conf=/etc/postgresql-common/createcluster.conf
packaged=/usr/share/postgresql-common/createcluster.conf
saved=
if [ -e "$conf" ]; then saved=$(mktemp); cp -p "$conf" "$saved"; fi
restore() {
    if [ -n "$saved" ]; then cp -p "$saved" "$conf"; rm -f "$saved"
    elif [ -e "$conf.ucf-dist" ]; then mv "$conf.ucf-dist" "$conf"
    elif [ -e "$packaged" ]; then cp "$packaged" "$conf"
    else rm -f "$conf"; fi
}
trap restore EXIT
mkdir -p /etc/postgresql-common
echo 'create_main_cluster = false' > "$conf"
UCF_FORCE_CONFFOLD=1 apt-get install -y --no-install-recommends "$@"
"#;

/// What a build needs.
pub(crate) fn for_build() -> Result<()> {
    provide(&build_needs())
}

/// What a build and a database need.
pub(crate) fn for_server() -> Result<PgBin> {
    let mut needs = build_needs();
    if PgBin::find().is_none() {
        if let Ok(dir) = std::env::var(OVERRIDE) {
            return Err(Failure::new(format!(
                "{OVERRIDE}={dir} holds no PostgreSQL of version \
                 {MIN_VERSION} or later (initdb and postgres)."
            )));
        }
        needs.push(POSTGRES);
    }
    provide(&needs)?;
    PgBin::find().ok_or_else(|| Failure::new(too_old()))
}

/// What real guests need: installed, if we may.
///
/// # Errors
/// When it should have worked and did not.
pub(crate) fn qemu() -> Result<Qemu> {
    if has_qemu() {
        return Ok(Qemu::Here);
    }
    let (what, packages) = (QEMU.what, QEMU.packages);
    if !succeeds(Command::new("apt-get").arg("--version"), "") {
        return Ok(Qemu::Cannot(format!(
            "This machine lacks {what}, and has no apt-get. Install \
             qemu-system-x86_64 and qemu-img with your system's package \
             manager."
        )));
    }
    let Some(root) = becoming_root() else {
        return Ok(Qemu::Cannot(format!(
            "This machine lacks {what}. Run this, then try again:\n\n  {}",
            by_hand(packages, candidate())
        )));
    };
    say(format_args!("This machine lacks {what}."));
    say(format_args!("Installing with apt-get: {}", packages.join(" ")));
    as_root(root, &["apt-get", "update", "-q"])?;
    let mut install = vec!["sh", "-euc", INSTALL_QEMU, "sh"];
    install.extend(packages);
    as_root(root, &install)?;
    match has_qemu() {
        true => Ok(Qemu::Here),
        false => Err(Failure::new(
            "QEMU was installed, and does not run; what it says is above.",
        )),
    }
}

fn has_qemu() -> bool {
    ["qemu-system-x86_64", "qemu-img"]
        .iter()
        .all(|program| succeeds(Command::new(program).arg("--version"), ""))
}

fn build_needs() -> Vec<Need> {
    if has_compiler() { Vec::new() } else { vec![COMPILER] }
}

fn has_compiler() -> bool {
    let mut cc = Command::new("cc");
    cc.args(["-E", "-x", "c", "-"]);
    succeeds(&mut cc, "#include <stdio.h>\n")
}

fn succeeds(command: &mut Command, input: &str) -> bool {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .and_then(|mut child| {
            if let Some(mut stdin) = child.stdin.take() {
                // If it is gone already, its exit status says why.
                let _ = stdin.write_all(input.as_bytes());
            }
            child.wait()
        })
        .is_ok_and(|status| status.success())
}

fn provide(needs: &[Need]) -> Result<()> {
    if needs.is_empty() {
        return Ok(());
    }
    let what: Vec<&str> = needs.iter().map(|need| need.what).collect();
    let what = what.join(" and ");
    if !succeeds(Command::new("apt-get").arg("--version"), "") {
        return Err(Failure::new(format!(
            "This machine lacks {what}, and has no apt-get. Install it with \
             your system's package manager (PostgreSQL {MIN_VERSION} or \
             later; {OVERRIDE} names its bin directory if it is unusual)."
        )));
    }
    let packages: Vec<&str> =
        needs.iter().flat_map(|need| need.packages).copied().collect();
    let Some(root) = becoming_root() else {
        return Err(Failure::new(format!(
            "This machine lacks {what}. Run this, then try again:\n\n  {}",
            by_hand(&packages, candidate())
        )));
    };
    say(format_args!("This machine lacks {what}."));
    say(format_args!("Installing with apt-get: {}", packages.join(" ")));
    as_root(root, &["apt-get", "update", "-q"])?;
    if !needs.contains(&POSTGRES) {
        let mut install =
            vec!["apt-get", "install", "-y", "--no-install-recommends"];
        install.extend(packages);
        return as_root(root, &install);
    }
    if candidate().is_some_and(|version| version < MIN_VERSION) {
        return Err(Failure::new(too_old()));
    }
    let mut install = vec!["sh", "-euc", INSTALL_WITHOUT_CLUSTER, "sh"];
    install.extend(packages);
    as_root(root, &install)
}

/// What to put before a command so that it runs as root, if we may.
fn becoming_root() -> Option<&'static [&'static str]> {
    if rustix::process::geteuid().is_root() {
        return Some(&[]);
    }
    succeeds(Command::new("sudo").args(["-n", "true"]), "")
        .then_some(&["sudo", "-n"])
}

fn as_root(root: &[&str], args: &[&str]) -> Result<()> {
    let mut words = root.to_vec();
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive"]);
    words.extend(args);
    let shown = args.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    let [program, rest @ ..] = words.as_slice() else { return Ok(()) };
    let status = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .status()
        .context(|| format!("cannot run {shown}"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "The installation failed ({status}); its errors are above."
    )))
}

fn by_hand(packages: &[&str], candidate: Option<u32>) -> String {
    let old = candidate.is_some_and(|version| version < MIN_VERSION);
    if old && packages.contains(&"postgresql") {
        return pgdg(packages);
    }
    format!(
        "sudo apt-get update && sudo apt-get install -y \
         --no-install-recommends {}",
        packages.join(" ")
    )
}

/// With the packages of the PostgreSQL project itself. They come from a server
/// that is not the distribution's, so that is for the owner to decide.
fn pgdg(packages: &[&str]) -> String {
    let others: Vec<&str> =
        packages.iter().filter(|p| **p != "postgresql").copied().collect();
    format!(
        "sudo apt-get update && sudo apt-get install -y postgresql-common \
         ca-certificates && sudo \
         /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y && sudo \
         apt-get install -y --no-install-recommends postgresql-17 {}",
        others.join(" ")
    )
    .trim_end()
    .to_owned()
}

fn too_old() -> String {
    format!(
        "The PostgreSQL of this system is older than {MIN_VERSION}. The \
         PostgreSQL project offers newer ones:\n\n  {}",
        pgdg(&[])
    )
}

/// The major version that apt would install.
fn candidate() -> Option<u32> {
    let output =
        Command::new("apt-cache").args(["policy", "postgresql"]).output();
    parse_candidate(&String::from_utf8(output.ok()?.stdout).ok()?)
}

/// `  Candidate: 15+248+deb12u2`
fn parse_candidate(policy: &str) -> Option<u32> {
    let (_, rest) = policy.split_once("Candidate: ")?;
    let digits: String =
        rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_apt_offers_is_read() {
        let policy = "postgresql:\n  Installed: (none)\n  \
                      Candidate: 15+248+deb12u2\n  Version table:\n";
        assert_eq!(parse_candidate(policy), Some(15));
        assert_eq!(parse_candidate("  Candidate: (none)\n"), None);
    }

    #[test]
    fn the_command_to_run_fits_what_apt_offers() {
        let packages = ["gcc", "postgresql"];
        let new = by_hand(&packages, Some(17));
        assert!(new.ends_with("--no-install-recommends gcc postgresql"));
        let old = by_hand(&packages, Some(14));
        assert!(old.contains("apt.postgresql.org.sh"));
        assert!(old.ends_with("postgresql-17 gcc"));
    }
}
