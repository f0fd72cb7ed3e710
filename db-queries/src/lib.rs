//! db-queries
