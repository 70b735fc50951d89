//! Tests of the audit log on both engines.
#![allow(missing_docs, reason = "the test names document the tests")]

mod app;
mod erasure;
mod lists;
mod migrations;
mod tampering;
