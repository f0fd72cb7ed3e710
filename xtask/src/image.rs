//! `cargo xtask image`: a bootable disk of a real Linux, small enough to try
//! things with, made of Debian's packages.

use crate::cargo;
use crate::failure::{Context, Failure, Result};
use crate::say::say;
use camino::Utf8PathBuf;
use std::process::{Command, ExitCode, Stdio};

/// What it is made by. A copy of each is kept beside it.
const SCRIPTS: [(&str, &str); 3] = [
    ("build.sh", include_str!("image/build.sh")),
    ("init.sh", include_str!("image/init.sh")),
    ("dhcp.sh", include_str!("image/dhcp.sh")),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Make it anew, of the packages that there are now
    #[arg(long)]
    anew: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.anew {
        // It may not be there.
        let _ = std::fs::remove_file(file());
    }
    let image = provide()?;
    say(format_args!("{image} is a raw disk image of 1 GiB"));
    Ok(ExitCode::SUCCESS)
}

fn dir() -> Utf8PathBuf {
    cargo::workspace().join("target/image")
}

fn file() -> Utf8PathBuf {
    dir().join("linux.raw")
}

/// The image, made unless it is there.
pub(crate) fn provide() -> Result<Utf8PathBuf> {
    let (dir, out) = (dir(), file());
    let is_as_kept = |(name, text): &(&str, &str)| {
        std::fs::read_to_string(dir.join(name)).is_ok_and(|kept| kept == *text)
    };
    if out.exists() && SCRIPTS.iter().all(is_as_kept) {
        return Ok(out);
    }
    for tool in ["apt-get", "apt-cache", "dpkg-deb", "gzip"] {
        Command::new(tool)
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context(|| {
                format!("the image is made of Debian's packages with {tool}")
            })?;
    }
    std::fs::create_dir_all(&dir).context(|| format!("cannot make {dir}"))?;
    for (name, text) in SCRIPTS {
        let path = dir.join(name);
        std::fs::write(&path, text)
            .context(|| format!("cannot write {path}"))?;
    }
    say(format_args!("Making the image of a small Linux"));
    let built = Command::new("sh")
        .args(["-eu", "build.sh", out.as_str()])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .status()
        .context(|| "cannot run sh")?;
    if built.success() {
        return Ok(out);
    }
    Err(Failure::new(format!(
        "The image could not be made ({built}); the errors are above."
    )))
}
