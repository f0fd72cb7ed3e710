//! What guests print on their serial consoles.

mod ring;
