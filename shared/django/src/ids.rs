//! The ids of imported rows.

use access::UserId;
use aws_lc_rs::digest;
use uuid::Uuid;

/// Returns the id of an imported row: a `UUIDv8` (RFC 9562 section 5.8) computed from the name of the Django project, the kind of the
/// row, for example `note`, and its primary key in Django.
pub fn row_id(project: &str, kind: &str, key: &str) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    // The length before each part makes the input of the hash unambiguous.
    for part in ["django", project, kind, key] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Returns the id of the user who has the primary key `key` in the Django project.
pub fn user_id(project: &str, key: &str) -> UserId {
    row_id(project, "user", key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_depends_on_project_kind_and_key_alone() {
        let id = row_id("shop", "user", "7");
        assert_eq!(id, row_id("shop", "user", "7"));
        assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
        // The expected value must never change, because a second import would then give every row a new id.
        assert_eq!(id.to_string(), "6e88c0b3-a0c7-84a4-a7aa-55be0707d694");
        for other in [("shop", "user", "70"), ("shop2", "user", "7"), ("shop", "users", "7"), ("sho", "puser", "7")] {
            assert_ne!(id, row_id(other.0, other.1, other.2));
        }
    }
}
