//! Compares usernames and e-mail addresses: different spellings of one name have the same key.

use access::{Error, Result};
use precis_profiles::{UsernameCaseMapped, precis_core::profile::PrecisFastInvocation};
use unicode_security::{RestrictionLevel, RestrictionLevelDetection};
use uuid::Uuid;

/// A username as the user spells it, and its key, which is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username {
    /// The spelling that is displayed.
    pub display: String,
    /// The username after the `UsernameCaseMapped` profile of RFC 8265 is applied to it.
    pub key: String,
}

impl Username {
    /// Checks the username in `field` of the request. A username that contains `@` must be the user's own e-mail address, because it
    /// could otherwise be the address of another user.
    pub fn new(field: &str, username: &str, email: Option<&Email>) -> Result<Self> {
        let key = key(username).ok_or_else(|| invalid_username(field))?;
        if key.contains('@') && email.is_none_or(|email| email.key.as_ref() != Some(&key)) {
            return Err(Error::invalid(field, "username.own_email", "may contain @ only if it is the user's own e-mail address"));
        }
        Ok(Self { display: username.to_owned(), key })
    }

    /// Checks the username of a new user in `field` of the request, by every rule.
    pub fn of_new_user(field: &str, username: &str, email: Option<&Email>) -> Result<Self> {
        let username = Self::new(field, username, email)?;
        check_new(&username, field)?;
        Ok(username)
    }

    /// Checks the username of an imported user in `field`. It may be an e-mail address, because Django allows that.
    pub fn imported(field: &str, username: &str) -> Result<Self> {
        let key = key(username).ok_or_else(|| invalid_username(field))?;
        Ok(Self { display: username.to_owned(), key })
    }
}

/// Checks the rules for the username in `field` of the request that an imported username may break.
pub fn check_new(username: &Username, field: &str) -> Result<()> {
    let key = username.key.as_str();
    if key == "me" || Uuid::try_parse(key).is_ok() {
        // Both are values of `user_id`.
        return Err(Error::invalid(field, "username.not_reserved", "must not be `me` and must not look like a UUID"));
    }
    if !is_moderately_restrictive(key) {
        let description = "must not mix scripts, except Latin with one script other than Cyrillic and Greek, and must consist of characters \
                           that are in common use (UTS 39, Moderately Restrictive)";
        return Err(Error::invalid(field, "username.one_script", description));
    }
    Ok(())
}

/// Returns true if the text has at most the restriction level "Moderately Restrictive" of UTS 39. Such a text can rarely be confused with
/// another one.
fn is_moderately_restrictive(text: &str) -> bool {
    // UTS 39 is about identifiers, in which some ASCII punctuation is not allowed. It belongs to no script.
    let letters: String = text.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    letters.as_str().check_restriction_level(RestrictionLevel::ModeratelyRestrictive)
}

/// Returns the error for a text that RFC 8265 does not allow as a username.
pub fn invalid_username(field: &str) -> Error {
    Error::invalid(
        field,
        "username.rfc8265",
        "must consist of letters, digits and ASCII punctuation, without spaces (RFC 8265, UsernameCaseMapped)",
    )
}

/// Returns the form in which usernames are compared, or `None` if RFC 8265 does not allow the text as a username.
pub fn key(username: &str) -> Option<String> {
    UsernameCaseMapped::enforce(username).ok().map(std::borrow::Cow::into_owned)
}

/// An e-mail address as the user spells it, and its key, which is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// The spelling that mail is sent to.
    pub display: String,
    /// The address in lower case. In practice, no provider distinguishes two mailboxes by case. It is `None` if the address signs in
    /// another user, which an import accepts.
    pub key: Option<String>,
}

impl Email {
    /// Returns `None` for an empty text. The validation rules of the protos check the syntax of the address.
    pub fn new(email: &str) -> Option<Self> {
        (!email.is_empty()).then(|| Self { display: email.to_owned(), key: Some(email.to_lowercase()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_rfc_8265_treats_as_equal_have_one_key() {
        for (one, other) in [("Alice", "alice"), ("ＡＬＩＣＥ", "alice"), ("Ångström", "A\u{30a}ngström"), ("ΣΊΣΥΦΟΣ", "σίσυφοσ")]
        {
            assert_eq!(key(one), key(other), "{one} {other}");
            assert!(key(one).is_some(), "{one}");
        }
        assert_ne!(key("alice"), key("a1ice"));
    }

    #[test]
    fn text_that_rfc_8265_does_not_allow_has_no_key() {
        for bad in ["", "two words", "tab\there", "nul\0", "\u{202e}evil", "☃", "fi\u{200d}x", "ﬁ"] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_new_username_is_not_confused_with_an_id_or_another_username() {
        let rule = |username| {
            let checked = check_new(&Username { display: String::new(), key: key(username).expect(username) }, "username");
            match checked {
                Ok(()) => None,
                Err(Error::Invalid(_, violations)) => Some(violations[0].rule.to_string()),
                Err(error) => panic!("{error}"),
            }
        };
        for good in ["alice", "a.b-c_d+e!", "1234", "ångström", "алиса", "αλίκη", "たなかtaro", "田中taro"] {
            assert_eq!(rule(good), None, "{good}");
        }
        // Cyrillic а in a Latin word, Greek ο in a Latin word, Cyrillic with Greek.
        for mixed in ["\u{430}lice", "b\u{3bf}b", "\u{430}\u{3bf}"] {
            assert_eq!(rule(mixed).as_deref(), Some("username.one_script"), "{mixed}");
        }
        for reserved in ["me", "ME", "018f0000-0000-7000-8000-000000000000", "018F000000007000800000000000000a"] {
            assert_eq!(rule(reserved).as_deref(), Some("username.not_reserved"), "{reserved}");
        }
    }

    #[test]
    fn a_username_with_an_at_sign_must_be_the_own_address() {
        let own = Email::new("Alice@Example.com");
        assert!(Username::new("username", "alice@example.com", own.as_ref()).is_ok());
        for email in [None, Email::new("mallory@example.com")] {
            assert!(Username::new("username", "alice@example.com", email.as_ref()).is_err());
        }
    }
}
