//! The folders of this workspace's `.proto` files, for build scripts.
//!
//! The crate holds no code: a build script that depends on it finds `access/v1`, `auth/v1`, `profiles/v1`, `buf/validate`,
//! `google/api` and `google/type` wherever Cargo has put this package. `access-build` adds both folders to its include path.

/// The folder of our own files: `access/v1`, `auth/v1` and `profiles/v1`.
pub const DIR: &str = env!("CARGO_MANIFEST_DIR");

/// The folder of the third-party files that ours import: `buf/validate`, `google/api` and `google/type`.
pub const THIRD_PARTY_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/third_party");
