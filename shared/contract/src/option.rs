//! Custom options.

use prost_reflect::{DescriptorPool, DynamicMessage};

/// Returns the message-typed option `name` from `options`, if the declaration sets it.
pub(crate) fn option(pool: &DescriptorPool, options: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    let extension = pool.get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).as_message().cloned())?
}
