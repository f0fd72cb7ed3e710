//! What figures are made of.

use std::time::Duration;

/// The time within which that share of all was done; they are sorted.
pub(crate) fn at(sorted: &[Duration], share: f64) -> Duration {
    let last = f64::from(u32::try_from(sorted.len() - 1).unwrap());
    // Of a non-negative number below 2^32.
    let index = format!("{:.0}", last * share).parse::<usize>().unwrap();
    sorted[index]
}

/// The one in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// To two places.
pub(crate) fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

pub(crate) fn as_index(n: u32) -> usize {
    usize::try_from(n).unwrap()
}

/// How many there are.
pub(crate) fn count(n: usize) -> f64 {
    u32::try_from(n).unwrap().into()
}
