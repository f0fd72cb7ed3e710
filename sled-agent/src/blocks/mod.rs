//! Blocks: the contents of disks.

mod places;

pub(crate) use places::Places;
