//! What guests print, kept.

mod ring;

pub(crate) use ring::Ring;
