//! db-model
