//! The plan as a table, row by row; and a random walk through the whole of it
//! ([`walk`]): nothing is forgotten, no two guests of one instance are ever up,
//! and once all is calm, everything is as it was wanted.

mod product;
mod table;
mod walk;
