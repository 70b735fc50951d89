//! The access rule of a method, as the document shows it.

use contract::{AccessPolicy, Actor, ContractError, DeclaredRule, RevocationMode};
use prost_reflect::MethodDescriptor;
use serde_json::{Map, Value as Json};

/// The access rule of a method: its `access.v1.Rule`.
pub(super) struct Access {
    pub(super) is_public: bool,
    /// A valid access token is enough.
    pub(super) is_authenticated: bool,
    permission: Option<String>,
    /// The path of the field that names the owner.
    pub(super) owner: Option<String>,
    pub(super) actors: Vec<&'static str>,
    /// The call fails while the list of revocations is stale.
    pub(super) is_strict: bool,
    /// The reasons that the rule declares.
    pub(super) reasons: Vec<String>,
}

impl Access {
    pub(super) fn read(method: &MethodDescriptor) -> Result<Self, ContractError> {
        let declared = DeclaredRule::read(method)?;
        Ok(Self {
            is_public: declared.rule.policy == AccessPolicy::Anyone,
            is_authenticated: declared.rule.policy == AccessPolicy::Authenticated,
            permission: declared.rule.policy.permission().map(ToString::to_string),
            owner: declared.owner_path(),
            actors: declared.rule.actors.iter().copied().map(Actor::as_str).collect(),
            is_strict: declared.rule.revocation == RevocationMode::Strict,
            reasons: declared.reasons,
        })
    }

    /// Returns the rule as a sentence for the description.
    pub(super) fn sentence(&self) -> String {
        let owner = self.owner.as_deref().map(|owner| format!("the user whom `{owner}` names")).unwrap_or_default();
        let policy = match (&self.permission, self.owner.is_some()) {
            _ if self.is_public => "anyone, without a token".to_owned(),
            _ if self.is_authenticated => "anyone with a valid access token".to_owned(),
            (Some(permission), true) => format!("{owner}, and anyone whose token holds `{permission}`"),
            (Some(permission), false) => format!("anyone whose token holds `{permission}`"),
            (None, _) => format!("{owner}, and nobody else"),
        };
        let actors = match self.actors.as_slice() {
            [] => String::new(),
            actors => format!(" ({}s only)", actors.join("s and ")),
        };
        format!("**Who may call:** {policy}{actors}.")
    }

    /// Returns the rule as the value of `x-access`.
    pub(super) fn to_json(&self) -> Json {
        let mut rule = Map::new();
        let mut put = |name: &str, value: Json| drop(rule.insert(name.to_owned(), value));
        if self.is_public {
            put("public", true.into());
        }
        if self.is_authenticated {
            put("authenticated", true.into());
        }
        if let Some(permission) = &self.permission {
            put("permission", permission.as_str().into());
        }
        if let Some(owner) = &self.owner {
            put("owner", owner.as_str().into());
        }
        if !self.actors.is_empty() {
            put("actors", self.actors.clone().into());
        }
        rule.into()
    }
}
