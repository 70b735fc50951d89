//! The access rules of every method that a server answers.

use std::{borrow::Cow, collections::HashMap};

use contract::{AccessPolicy, AccessRule, MethodRule, RevocationMode};

/// The access rules of a server's methods, by the path of the method: `/package.Service/Method`. The methods of health and
/// reflection (`grpc.health.v1`, `grpc.reflection.v1` and `v1alpha`) are always there, and public.
#[derive(Debug, Clone)]
pub struct AccessRules(HashMap<Cow<'static, str>, AccessRule>);

/// Health and reflection are public: anyone who can reach the port may call them.
const STANDARD: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

impl Default for AccessRules {
    /// Returns the rules of health and reflection.
    fn default() -> Self {
        let public = AccessRule { policy: AccessPolicy::Anyone, actors: Cow::Borrowed(&[]), revocation: RevocationMode::Local };
        Self(STANDARD.into_iter().map(|path| (Cow::Borrowed(path), public.clone())).collect())
    }
}

impl AccessRules {
    /// Returns the rule of the method at `path`. A method without a rule does not exist.
    pub fn get(&self, path: &str) -> Option<&AccessRule> {
        self.0.get(path)
    }

    /// Returns the paths of the methods.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }

    /// Adds the methods of one service. A rule replaces an earlier one of the same method.
    pub fn extend(&mut self, methods: &[MethodRule]) {
        self.0.extend(methods.iter().map(|method| (method.path.clone(), method.rule.clone())));
    }
}

/// The reason why access rules cannot be read from descriptors.
#[cfg(feature = "layer")]
#[derive(Debug, thiserror::Error)]
pub enum AccessRulesError {
    /// The bytes are not a valid `FileDescriptorSet`.
    #[error("the descriptors are not a valid FileDescriptorSet: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// A method has no rule, or one that contradicts itself.
    #[error(transparent)]
    Contract(#[from] contract::ContractError),
    /// The rule of a method names an owner, whom only the generated guard can compare with the request.
    #[error("{0}: its access rule names an owner; only the guard that access-build generates enforces such a rule")]
    Owner(String),
}

#[cfg(feature = "layer")]
impl AccessRules {
    /// Reads the rules of every service in an encoded `FileDescriptorSet`, and adds those of health and reflection. The set must
    /// hold the custom options: `protoc --descriptor_set_out --include_imports`, or the bytes that `protox` encodes.
    ///
    /// # Errors
    ///
    /// Returns an error if `descriptors` is not a valid `FileDescriptorSet`, and one that names the method if it has no rule, a
    /// rule that contradicts itself, or a rule with an owner.
    pub fn from_descriptors(descriptors: &[u8]) -> Result<Self, AccessRulesError> {
        let pool = prost_reflect::DescriptorPool::decode(descriptors)?;
        let mut rules = Self::default();
        for service in pool.services() {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                if rules.get(&path).is_some() {
                    continue;
                }
                let declared = contract::DeclaredRule::read(&method)?;
                if !declared.owner.is_empty() {
                    return Err(AccessRulesError::Owner(method.full_name().to_owned()));
                }
                rules.extend(&[MethodRule { path: path.into(), rule: declared.rule, reasons: Cow::Borrowed(&[]) }]);
            }
        }
        Ok(rules)
    }
}
