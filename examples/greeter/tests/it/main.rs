//! The example does what it says.
#![allow(missing_docs)]

mod app;
#[path = "../../../../shared/tests/corpus/mod.rs"]
mod corpus;
mod edges;
mod hostile;
mod protected;
