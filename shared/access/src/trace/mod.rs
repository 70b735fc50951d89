//! Distributed traces: the place of a call in its trace.

mod context;

pub use self::context::{TraceContext, TraceId};
