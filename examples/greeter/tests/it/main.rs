//! The example does what it says.
#![allow(missing_docs)]

mod app;
mod edges;
mod hostile;
mod protected;
