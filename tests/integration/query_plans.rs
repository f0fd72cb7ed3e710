//! The queries that run all the time reach their rows through an index.
