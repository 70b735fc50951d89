//! The names of Django's tables and columns: the sections of `--mapping`, with Django's own names as defaults.

use django::JoinSection;
use serde::{Deserialize, de::IgnoredAny};

use crate::notes::Visibility;

/// The mapping. The sections that only auth-service reads are accepted, so that both services can read one file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mapping {
    pub(super) users: UserSection,
    pub(super) profiles: ProfileSection,
    pub(super) friends: JoinSection,
    pub(super) notes: NoteSection,
    #[serde(rename = "groups")]
    _groups: Option<IgnoredAny>,
    #[serde(rename = "permissions")]
    _permissions: Option<IgnoredAny>,
    #[serde(rename = "content_types")]
    _content_types: Option<IgnoredAny>,
    #[serde(rename = "user_groups")]
    _user_groups: Option<IgnoredAny>,
    #[serde(rename = "user_permissions")]
    _user_permissions: Option<IgnoredAny>,
    #[serde(rename = "group_permissions")]
    _group_permissions: Option<IgnoredAny>,
    #[serde(rename = "outstanding_tokens")]
    _outstanding_tokens: Option<IgnoredAny>,
    #[serde(rename = "blacklisted_tokens")]
    _blacklisted_tokens: Option<IgnoredAny>,
}

/// The table of users. The other entries of this section are read by auth-service.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct UserSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) username: String,
    pub(super) date_joined: String,
}

impl Default for UserSection {
    fn default() -> Self {
        Self {
            table: "auth_user".to_owned(),
            key: "id".to_owned(),
            username: "username".to_owned(),
            date_joined: "date_joined".to_owned(),
        }
    }
}

/// The table of profiles.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ProfileSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) user: String,
    pub(super) bio: String,
    pub(super) birth_date: String,
    pub(super) website: String,
    pub(super) is_active: String,
    pub(super) favorite_note: String,
}

impl Default for ProfileSection {
    fn default() -> Self {
        Self {
            table: "profile_profile".to_owned(),
            key: "id".to_owned(),
            user: "user_id".to_owned(),
            bio: "bio".to_owned(),
            birth_date: "birth_date".to_owned(),
            website: "website".to_owned(),
            is_active: "is_active".to_owned(),
            favorite_note: "favorite_note_id".to_owned(),
        }
    }
}

/// The table of notes, and the visibility that all imported notes get.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NoteSection {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) owner: String,
    pub(super) title: String,
    pub(super) body: String,
    pub(super) created: String,
    pub(super) updated: String,
    pub(super) visibility: NoteVisibility,
}

impl Default for NoteSection {
    fn default() -> Self {
        Self {
            table: "profile_note".to_owned(),
            key: "id".to_owned(),
            owner: "owner_id".to_owned(),
            title: "title".to_owned(),
            body: "body".to_owned(),
            created: "created_at".to_owned(),
            updated: "updated_at".to_owned(),
            visibility: NoteVisibility::Private,
        }
    }
}

/// The visibility that all imported notes get, because Django's notes have none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NoteVisibility {
    Private,
    Friends,
    Public,
}

impl From<NoteVisibility> for Visibility {
    fn from(visibility: NoteVisibility) -> Self {
        match visibility {
            NoteVisibility::Private => Self::Private,
            NoteVisibility::Friends => Self::Friends,
            NoteVisibility::Public => Self::Public,
        }
    }
}
