//! `cargo xtask image`: a bootable disk of a real Linux, small enough to try
//! things with, made of Debian's packages.

use crate::cargo;
use crate::failure::{Context, Failure, Result};
use crate::say::say;
use camino::Utf8PathBuf;
use std::process::{Command, ExitCode, Stdio};

const BUILD: &str = include_str!("image/build.sh");
const INIT: &str = include_str!("image/init.sh");
const DHCP: &str = include_str!("image/dhcp.sh");

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to put it
    #[arg(long, value_name = "FILE", default_value = "target/image/linux.raw")]
    out: Utf8PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    provide(&args.out)?;
    say(format_args!("{} is a raw disk image of 1 GiB", args.out));
    Ok(ExitCode::SUCCESS)
}

/// Makes the image, unless it is there.
pub(crate) fn provide(out: &Utf8PathBuf) -> Result<()> {
    let out = cargo::workspace().join(out);
    if out.exists() {
        return Ok(());
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
    let dir = cargo::workspace().join("target/image");
    std::fs::create_dir_all(&dir).context(|| format!("cannot make {dir}"))?;
    for (name, text) in [("init.sh", INIT), ("dhcp.sh", DHCP)] {
        let path = dir.join(name);
        std::fs::write(&path, text)
            .context(|| format!("cannot write {path}"))?;
    }
    say(format_args!("Making the image of a small Linux"));
    let built = Command::new("sh")
        .args(["-euc", BUILD, "sh", out.as_str()])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .status()
        .context(|| "cannot run sh")?;
    if built.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "The image could not be made ({built}); the errors are above."
    )))
}
