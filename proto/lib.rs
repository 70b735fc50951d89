//! The folders of this workspace's `.proto` files, for build scripts.
//!
//! The crate contains no code, only the two constants. A build script that depends on it can find `access/v1`, `auth/v1`,
//! `profiles/v1`, `buf/validate`, `google/api` and `google/type` in the package's own folder, which Cargo may place anywhere.
//! `access-build` adds both folders to its include path.

/// The folder of our own files: `access/v1`, `auth/v1` and `profiles/v1`.
pub const DIR: &str = env!("CARGO_MANIFEST_DIR");

/// The folder of the third-party files that ours import: `buf/validate`, `google/api` and `google/type`.
pub const THIRD_PARTY_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/third_party");
