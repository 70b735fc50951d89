//! Limits that servers and clients of this workspace agree on.

/// The largest request message that is read: 1 MiB, in bytes. A larger one gets RESOURCE_EXHAUSTED.
pub const MESSAGE_LIMIT: usize = 1 << 20;
