//! `cargo xtask up`: what was asked for, then the start, the screen, and
//! the watch, unless it is told to return.

use crate::failure::{Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::packages::Qemu;
use crate::say::say;
use crate::settings::{Hypervisor, Settings, Wanted};
use crate::stack::Stack;
use crate::start::Start;
use crate::{packages, screen, watch};
use camino::Utf8PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "\
What is not given stays as in the last `up` with the same DIR; a process that \
runs already keeps what it was started with. Ports, counted from BASE: Nexus i \
has 10*i (its API) and 10*i+1 (for sleds), PostgreSQL 2, sled-agent j 100+2*j.")]
pub(crate) struct Args {
    /// Return when the API answers, instead of staying until Ctrl-C
    #[arg(long)]
    detach: bool,
    /// Remove the data at the end; faster, and not safe against power loss
    #[arg(long)]
    ephemeral: bool,
    /// Where data, logs and up.json are [default: .nexus]
    #[arg(long)]
    dir: Option<Utf8PathBuf>,
    /// The first of the ports [default: 12220]
    #[arg(long, value_name = "BASE")]
    port: Option<u16>,
    /// How many Nexus processes [default: 1]
    #[arg(long, value_name = "N")]
    nexus: Option<u16>,
    /// How many sled-agents [default: 3]
    #[arg(long, value_name = "N")]
    sleds: Option<u16>,
    /// vCPUs of each sled [default: 32]
    #[arg(long, value_name = "N")]
    sled_vcpus: Option<u32>,
    /// Memory of each sled [default: 64]
    #[arg(long, value_name = "N")]
    sled_memory_gib: Option<u32>,
    /// Storage of each sled for local disks [default: 256]
    #[arg(long, value_name = "N")]
    sled_storage_gib: Option<u32>,
    /// What the sleds run instances with [default: qemu where it is installed
    /// or can be, else simulated]
    #[arg(long, value_enum)]
    hypervisor: Option<Hypervisor>,
    /// Give each sled-agent its test control port, 101+2*j
    #[arg(long, hide = true)]
    test_control: bool,
}

impl Args {
    fn wanted(&self) -> Wanted {
        Wanted {
            port: self.port,
            nexus: self.nexus,
            sleds: self.sleds,
            sled_vcpus: self.sled_vcpus,
            sled_memory_gib: self.sled_memory_gib,
            sled_storage_gib: self.sled_storage_gib,
            hypervisor: self.hypervisor,
            ephemeral: self.ephemeral,
            test_control: self.test_control,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    // Refused before anything is made, if it is to be refused.
    Settings::decide(None, &args.wanted())?;
    let interrupt = Interrupt::watch()?;
    let home = Home::open(args.dir.clone())?;
    let lock = home.lock()?;
    // First of all: the account that PostgreSQL runs as comes with a package.
    let pg_bin = packages::for_server()?;
    let hypervisor = Some(hypervisor(&home, &args)?);
    let stack = decide(&home, &Wanted { hypervisor, ..args.wanted() })?;

    let mut start = Start::new(&stack, pg_bin, &interrupt);
    let manifest = match start.all() {
        Ok(manifest) => manifest,
        Err(failure) => {
            // What Ctrl-C broke is not worth telling.
            let failure = match interrupt.seen() {
                Some(_) => Failure::interrupted(),
                None => failure,
            };
            return Err(start.undo(failure));
        }
    };
    let begun = start.begun;
    drop(lock);

    if begun.is_empty() {
        say(format_args!("Everything runs already in {}.", home.dir()));
    }
    screen::show(&stack, &manifest);
    if args.detach || begun.is_empty() {
        say(format_args!("`cargo xtask down{}` stops it.", dir_flag(&args)));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(foreground) = home.try_foreground()? else {
        say("Another `cargo xtask up` looks after it: stop it there.");
        return Ok(ExitCode::SUCCESS);
    };
    say("Ctrl-C stops all of it.");
    watch::watch(&stack, begun, &interrupt, foreground)
}

fn dir_flag(args: &Args) -> String {
    args.dir.as_ref().map(|dir| format!(" --dir {dir}")).unwrap_or_default()
}

/// What sleds are to run instances with: as they are told, else as before, else
/// with QEMU if that can be. It is there when this returns.
fn hypervisor(home: &Home, args: &Args) -> Result<Hypervisor> {
    let before = Settings::load(home)?.map(|settings| settings.hypervisor);
    // What tests step is simulated.
    let stepped = args.test_control.then_some(Hypervisor::Simulated);
    match args.hypervisor.or(before).or(stepped) {
        Some(Hypervisor::Simulated) => Ok(Hypervisor::Simulated),
        Some(Hypervisor::Qemu) => match packages::qemu()? {
            Qemu::Here => Ok(Hypervisor::Qemu),
            Qemu::Cannot(why) => Err(Failure::new(why)),
        },
        None => match packages::qemu()? {
            Qemu::Here => Ok(Hypervisor::Qemu),
            Qemu::Cannot(why) => {
                say(why);
                say("Until then guests are simulated.");
                Ok(Hypervisor::Simulated)
            }
        },
    }
}

/// What is to run, if it does not contradict what runs.
fn decide(home: &Home, wanted: &Wanted) -> Result<Stack> {
    let saved = Settings::load(home)?;
    let settings = Settings::decide(saved.as_ref(), wanted)?;
    if let Some(saved) = &saved {
        let before = Stack::new(home, saved)?;
        if let Some(conflict) = settings.conflict_with_running(saved)
            && before.all().any(|process| process.find().is_some())
        {
            return Err(Failure::new(format!(
                "{conflict}; stop them first (`cargo xtask down`)."
            )));
        }
        if saved.ephemeral && !wanted.ephemeral {
            say("What is here was begun with --ephemeral and stays so.");
        }
    }
    Stack::new(home, &settings)
}
