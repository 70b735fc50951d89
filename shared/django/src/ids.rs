//! The ids of imported rows.

use access::UserId;
use aws_lc_rs::digest;
use uuid::Uuid;

/// The id of a row that comes from Django: a `UUIDv8` (RFC 9562 section 5.8) made of the hash of `origin`, the name that the
/// operator gives to that Django project, of `kind`, what the row is, and of `key`, its primary key there.
pub fn row_id(origin: &str, kind: &str, key: &str) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    // No two triples give the same bytes, since each part comes with its length.
    for part in ["django", origin, kind, key] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The id of the user who had the primary key `key` in the Django project `origin`.
pub fn user_id(origin: &str, key: &str) -> UserId {
    row_id(origin, "user", key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_where_the_row_comes_from_and_from_nothing_else() {
        let id = row_id("shop", "user", "7");
        assert_eq!(id, row_id("shop", "user", "7"));
        assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
        // Whoever has imported once counts on it.
        assert_eq!(id.to_string(), "6e88c0b3-a0c7-84a4-a7aa-55be0707d694");
        for other in [("shop", "user", "70"), ("shop2", "user", "7"), ("shop", "users", "7"), ("sho", "puser", "7")] {
            assert_ne!(id, row_id(other.0, other.1, other.2));
        }
    }
}
