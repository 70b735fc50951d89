//! When two spellings are one username or one e-mail address.

use access::{Error, Result};
use precis_profiles::{UsernameCaseMapped, precis_core::profile::PrecisFastInvocation};

/// A username as its user spells it, and the form that no two users share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username {
    /// How it is shown.
    pub shown: String,
    /// RFC 8265, `UsernameCaseMapped`.
    pub key: String,
}

impl Username {
    /// Checks the username that the request has in `field`. One with an `@` could be another user's e-mail address, and has
    /// to be the user's own.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT that names the field.
    pub fn new(field: &str, username: &str, email: Option<&Email>) -> Result<Self> {
        let key = key(username).ok_or_else(|| not_a_username(field))?;
        if key.contains('@') && email.is_none_or(|email| email.key != key) {
            return Err(Error::invalid(
                field,
                "username.own_email",
                "may hold an @ only where it is the user's own e-mail address",
            ));
        }
        Ok(Self { shown: username.to_owned(), key })
    }
}

/// The refusal of what can be nobody's username.
pub fn not_a_username(field: &str) -> Error {
    Error::invalid(field, "username.rfc8265", "must be letters, digits and signs without spaces (RFC 8265, UsernameCaseMapped)")
}

/// The form in which usernames are compared. None for what can be nobody's username.
pub fn key(username: &str) -> Option<String> {
    UsernameCaseMapped::enforce(username).ok().map(std::borrow::Cow::into_owned)
}

/// An e-mail address as its user spells it, and the form that no two users share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// Where mail is sent.
    pub shown: String,
    /// In lower case: no provider tells two users apart by it.
    pub key: String,
}

impl Email {
    /// None where there is no address. What an address looks like, the contract says.
    pub fn new(email: &str) -> Option<Self> {
        (!email.is_empty()).then(|| Self { shown: email.to_owned(), key: email.to_lowercase() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_rfc_8265_compares_as_equal_have_one_key() {
        for (one, other) in [("Alice", "alice"), ("ＡＬＩＣＥ", "alice"), ("Ångström", "A\u{30a}ngström"), ("ΣΊΣΥΦΟΣ", "σίσυφοσ")]
        {
            assert_eq!(key(one), key(other), "{one} {other}");
            assert!(key(one).is_some(), "{one}");
        }
        assert_ne!(key("alice"), key("a1ice"));
    }

    #[test]
    fn what_rfc_8265_does_not_allow_is_no_username() {
        for bad in ["", "two words", "tab\there", "nul\0", "\u{202e}evil", "☃", "fi\u{200d}x", "ﬁ"] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_at_sign_is_for_one_s_own_address() {
        let own = Email::new("Alice@Example.com");
        assert!(Username::new("username", "alice@example.com", own.as_ref()).is_ok());
        for email in [None, Email::new("mallory@example.com")] {
            assert!(Username::new("username", "alice@example.com", email.as_ref()).is_err());
        }
    }
}
