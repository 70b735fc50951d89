//! Limits that servers and clients of this workspace agree on.

/// The largest request message that is read, in bytes.
pub const MESSAGE_LIMIT: usize = 1 << 20;
