//! The bytes that are digested and sealed. Each value has its length in front of it, so that no two lists of values have the same bytes.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// The usual size of the sealed columns of an entry, in bytes.
const CAPACITY: usize = 512;

/// A list of values as bytes.
#[derive(Debug)]
pub(crate) struct Encoder(Vec<u8>);

impl Default for Encoder {
    fn default() -> Self {
        Self(Vec::with_capacity(CAPACITY))
    }
}

impl Encoder {
    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend((value.len() as u64).to_be_bytes());
        self.0.extend(value);
        self
    }

    pub(crate) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    pub(crate) fn number(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn optional(mut self, value: Option<&[u8]>) -> Self {
        self.0.push(value.is_some().into());
        match value {
            Some(value) => self.bytes(value),
            None => self,
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    /// Returns the SHA-256 of the bytes.
    pub(crate) fn digest(self) -> Vec<u8> {
        digest(&SHA256, &self.0).as_ref().to_vec()
    }
}

/// Returns the SHA-256 of what an [`Encoder`] would return for these values, without a copy of them all.
pub(crate) fn digest_of_list(values: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for value in values {
        context.update(&(value.len() as u64).to_be_bytes());
        context.update(&value);
    }
    context.finish().as_ref().to_vec()
}
