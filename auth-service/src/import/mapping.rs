//! The names of Django's tables and columns: the sections of `--mapping`, with Django's own names as defaults.

use django::JoinSection;
use serde::{Deserialize, de::IgnoredAny};

/// The mapping. The sections that only profile-service reads are accepted, so that both services can read one file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mapping {
    pub(super) users: UserSection,
    pub(super) groups: GroupSection,
    pub(super) permissions: PermissionSection,
    pub(super) content_types: ContentTypeSection,
    pub(super) user_groups: JoinSection,
    pub(super) user_permissions: JoinSection,
    pub(super) group_permissions: JoinSection,
    pub(super) outstanding_tokens: OutstandingSection,
    pub(super) blacklisted_tokens: BlacklistedSection,
    #[serde(rename = "profiles")]
    _profiles: Option<IgnoredAny>,
    #[serde(rename = "friends")]
    _friends: Option<IgnoredAny>,
    #[serde(rename = "notes")]
    _notes: Option<IgnoredAny>,
}

/// The table of users.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct UserSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) email: String,
    pub(super) first_name: String,
    pub(super) last_name: String,
    pub(super) is_active: String,
    pub(super) is_superuser: String,
    pub(super) last_login: String,
    pub(super) date_joined: String,
}

impl Default for UserSection {
    fn default() -> Self {
        Self {
            table: "auth_user".to_owned(),
            key: "id".to_owned(),
            username: "username".to_owned(),
            password: "password".to_owned(),
            email: "email".to_owned(),
            first_name: "first_name".to_owned(),
            last_name: "last_name".to_owned(),
            is_active: "is_active".to_owned(),
            is_superuser: "is_superuser".to_owned(),
            last_login: "last_login".to_owned(),
            date_joined: "date_joined".to_owned(),
        }
    }
}

/// The table of groups.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GroupSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) name: String,
}

impl Default for GroupSection {
    fn default() -> Self {
        Self { table: "auth_group".to_owned(), key: "id".to_owned(), name: "name".to_owned() }
    }
}

/// The table of permissions.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PermissionSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) content_type: String,
    pub(super) codename: String,
}

impl Default for PermissionSection {
    fn default() -> Self {
        Self {
            table: "auth_permission".to_owned(),
            key: "id".to_owned(),
            content_type: "content_type_id".to_owned(),
            codename: "codename".to_owned(),
        }
    }
}

/// The table of content types, which permissions belong to.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ContentTypeSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) app_label: String,
}

impl Default for ContentTypeSection {
    fn default() -> Self {
        Self { table: "django_content_type".to_owned(), key: "id".to_owned(), app_label: "app_label".to_owned() }
    }
}

/// The table of the refresh tokens that simplejwt has issued.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OutstandingSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) user: String,
    pub(super) jti: String,
    pub(super) expires_at: String,
}

impl Default for OutstandingSection {
    fn default() -> Self {
        Self {
            table: "token_blacklist_outstandingtoken".to_owned(),
            key: "id".to_owned(),
            user: "user_id".to_owned(),
            jti: "jti".to_owned(),
            expires_at: "expires_at".to_owned(),
        }
    }
}

/// The table of the refresh tokens that simplejwt has revoked.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BlacklistedSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) token: String,
}

impl Default for BlacklistedSection {
    fn default() -> Self {
        Self { table: "token_blacklist_blacklistedtoken".to_owned(), key: "id".to_owned(), token: "token_id".to_owned() }
    }
}
