//! Limits that servers and clients of this workspace agree on.

/// The largest request message that is read: 1 MiB, in bytes. A larger one gets RESOURCE_EXHAUSTED.
pub const MESSAGE_LIMIT: usize = 1 << 20;

/// The size of the smallest response that is compressed, in bytes. A smaller one fits into about three packets, and its
/// compression would take a quarter of the processor time of a read. Most responses with tokens, which hardly become smaller, are below it.
pub const COMPRESSION_MINIMUM: u16 = 4096;
