//! Permissions: what there is to be allowed, and what a user is.

use crate::users::User;

/// Every permission that an access rule of either service asks for, sorted.
pub const CATALOGUE: &[&str] = include!(concat!(env!("OUT_DIR"), "/permissions.rs"));

/// What the user may do, sorted. A superuser may do everything.
pub fn effective(user: &User) -> &'static [&'static str] {
    if user.is_superuser { CATALOGUE } else { &[] }
}
