//! What cannot be taken back is confirmed by typing a word.

use crate::failure::Failure;
use crate::words::set_in;
use std::io::Write;

/// Says what is about to be done, and has `word`, which is `what`, typed first.
///
/// # Errors
///
/// Something else was typed, or nothing.
pub(crate) fn confirm(
    about: &str,
    what: &str,
    word: &str,
    yes: bool,
) -> Result<(), Failure> {
    let mut out = std::io::stderr();
    // Of who cannot read it, the answer is read all the same.
    let _ = write!(out, "{}", set_in(about, 0));
    if yes {
        return Ok(());
    }
    let _ = write!(out, "To go on, type its {what} ({word}): ");
    let _ = out.flush();
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).map_err(Failure::failed)?;
    if typed.trim() == word {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "nothing was done: that is not its {what} ({word}). Who is not asked \
         by a person gives --yes."
    )))
}
