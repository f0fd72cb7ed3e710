//! Where the PostgreSQL server's programs are. Debian keeps them off the PATH.

use camino::{Utf8Path, Utf8PathBuf};
use std::process::Command;

/// The oldest version that the queries are written for.
pub(crate) const MIN_VERSION: u32 = 15;

/// Names the directory to use instead of searching.
pub(crate) const OVERRIDE: &str = "NEXUS_PG_BIN";

/// A directory that holds `initdb` and `postgres`, of a version we can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PgBin {
    dir: Utf8PathBuf,
    pub(crate) version: u32,
}

impl PgBin {
    pub(crate) fn initdb(&self) -> Utf8PathBuf {
        self.dir.join("initdb")
    }

    pub(crate) fn postgres(&self) -> Utf8PathBuf {
        self.dir.join("postgres")
    }

    pub(crate) fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    /// Whether the server can load this library: of those that come with it,
    /// which some packages have apart.
    pub(crate) fn has_library(&self, name: &str) -> bool {
        // Where the programs are, and not what leads there.
        let Ok(server) = self.postgres().canonicalize_utf8() else {
            return false;
        };
        let prefix = server.parent().and_then(Utf8Path::parent);
        let file = format!("{name}.so");
        prefix.is_some_and(|prefix| {
            ["lib", "lib/postgresql", "lib64/pgsql"]
                .iter()
                .any(|dir| prefix.join(dir).join(&file).exists())
        })
    }

    /// The override alone if it is set; else the PATH, where packages put
    /// server programs, and what `pg_config` says.
    pub(crate) fn find() -> Option<PgBin> {
        if let Ok(dir) = std::env::var(OVERRIDE) {
            return PgBin::at(Utf8PathBuf::from(dir));
        }
        path_dirs()
            .find_map(PgBin::at)
            .or_else(|| newest(package_dirs().filter_map(PgBin::at)))
            .or_else(|| PgBin::at(pg_config_dir()?))
    }

    fn at(dir: Utf8PathBuf) -> Option<PgBin> {
        if !dir.join("initdb").is_file() {
            return None;
        }
        let output =
            Command::new(dir.join("postgres")).arg("--version").output();
        let version = major(&String::from_utf8(output.ok()?.stdout).ok()?)?;
        (version >= MIN_VERSION).then_some(PgBin { dir, version })
    }
}

fn newest(found: impl Iterator<Item = PgBin>) -> Option<PgBin> {
    found.max_by_key(|bin| bin.version)
}

fn path_dirs() -> impl Iterator<Item = Utf8PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|dir| Utf8PathBuf::from_path_buf(dir).ok())
        .collect::<Vec<_>>()
        .into_iter()
}

/// `/usr/lib/postgresql/15/bin` on Debian, `/usr/pgsql-15/bin` on Fedora.
fn package_dirs() -> impl Iterator<Item = Utf8PathBuf> {
    let debian = children("/usr/lib/postgresql");
    let fedora = children("/usr")
        .filter(|d| d.file_name().is_some_and(|n| n.starts_with("pgsql-")));
    debian.chain(fedora).map(|dir| dir.join("bin"))
}

fn children(dir: &str) -> impl Iterator<Item = Utf8PathBuf> + use<> {
    let entries = Utf8Path::new(dir).read_dir_utf8();
    entries.into_iter().flatten().filter_map(|e| Some(e.ok()?.into_path()))
}

fn pg_config_dir() -> Option<Utf8PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let dir = String::from_utf8(output.stdout).ok()?;
    Some(Utf8PathBuf::from(dir.trim()))
}

/// The first number of `postgres (PostgreSQL) 15.13 (Debian 15.13-0)`; also of
/// `18beta1`.
fn major(version: &str) -> Option<u32> {
    let (_, rest) = version.split_once("(PostgreSQL) ")?;
    let digits: String =
        rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_all_their_forms() {
        let debian = "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n";
        assert_eq!(major(debian), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("something else 3"), None);
    }
}
