//! The plan as a table, row by row; a random walk through the whole of it
//! ([`walk`]): nothing is forgotten, no two guests of one instance are ever up,
//! and once all is calm, everything is as it was wanted; and every walk within
//! small bounds ([`model`]).

mod host;
mod model;
mod product;
mod rules;
mod table;
mod walk;
