//! `(access.v1.rule)`: the access rule of one method, read from its options and checked.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MethodDescriptor, Value};

use crate::{AccessPolicy, AccessRule, Actor, ContractError, RevocationMode, is_permission, option::option, path_of_fields};

/// `access.v1.Actor.ACTOR_USER` and `ACTOR_SERVICE`.
const USER: i32 = 1;
const SERVICE: i32 = 2;
/// `access.v1.Revocation.REVOCATION_STRICT`.
const STRICT: i32 = 2;

/// The access rule of a method as its proto declares it.
#[derive(Debug, Clone)]
pub struct DeclaredRule {
    /// The access rule of the method.
    pub rule: AccessRule,
    /// The fields that lead to the owner's id in the request, the outermost first. Empty if the rule names no owner.
    pub owner: Vec<FieldDescriptor>,
    /// The reasons that the rule declares, such as `KEY_TOO_YOUNG`.
    pub reasons: Vec<String>,
    /// Whether calls are recorded in the audit log.
    pub is_audited: bool,
    /// The fields that lead to the id of the resource that an audited method acts on, the outermost first.
    pub audit_target: Vec<FieldDescriptor>,
}

impl DeclaredRule {
    /// Reads the rule of `method`.
    ///
    /// # Errors
    ///
    /// Returns an error that names the method if it has no rule, or one that contradicts itself.
    pub fn read(method: &MethodDescriptor) -> Result<Self, ContractError> {
        let error = |problem: String| ContractError::new(method.full_name(), problem);
        let rule = option(method.parent_pool(), &method.options(), "access.v1.rule")
            .ok_or_else(|| error("no (access.v1.rule): every method must declare who may call it".to_owned()))?;
        Self::check(method, &rule).map_err(error)
    }

    /// Returns the path of the owner's field, such as `note.user_id`.
    pub fn owner_path(&self) -> Option<String> {
        let names: Vec<_> = self.owner.iter().map(FieldDescriptor::name).collect();
        (!names.is_empty()).then(|| names.join("."))
    }

    /// Checks that each declared reason is a value of the enum `Reason` in the package of `method`, or of `access.v1.Reason`. A build does
    /// this, because it has these enums; the descriptors of a server need not contain them.
    ///
    /// # Errors
    ///
    /// Returns an error that names the method and the reason.
    pub fn check_reasons(&self, method: &MethodDescriptor) -> Result<(), ContractError> {
        let own = format!("{}.Reason", method.parent_file().package_name());
        let pool = method.parent_pool();
        let enums: Vec<_> = [&*own, "access.v1.Reason"].into_iter().filter_map(|name| pool.get_enum_by_name(name)).collect();
        let is_published = |name: &String| {
            enums.iter().any(|reasons| reasons.values().any(|value| value.name().strip_prefix("REASON_") == Some(name)))
        };
        match self.reasons.iter().find(|name| !is_published(name)) {
            Some(name) => {
                let problem =
                    format!("(access.v1.rule) declares the reason {name:?}, which neither {own} nor access.v1.Reason has");
                Err(ContractError::new(method.full_name(), problem))
            }
            None => Ok(()),
        }
    }

    fn check(method: &MethodDescriptor, rule: &DynamicMessage) -> Result<Self, String> {
        let flag = |field: &str| rule.get_field_by_name(field).and_then(|value| value.as_bool()).unwrap_or_default();
        let text = |field: &str| {
            let value = rule.get_field_by_name(field)?;
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (permission, owner) = (text("permission"), text("owner"));
        let policy = match (flag("public"), flag("authenticated"), &permission, &owner) {
            (true, false, None, None) => AccessPolicy::Anyone,
            (false, true, None, _) => AccessPolicy::Authenticated,
            (false, false, Some(permission), None) => AccessPolicy::PermissionHolder(permission.clone().into()),
            (false, false, Some(permission), Some(_)) => AccessPolicy::OwnerOrPermissionHolder(permission.clone().into()),
            (false, false, None, Some(_)) => AccessPolicy::Owner,
            (false, false, None, None) => return Err("(access.v1.rule) is empty".to_owned()),
            _ => {
                return Err("(access.v1.rule) contradicts itself: declare one of public, authenticated and permission".to_owned());
            }
        };
        if let Some(permission) = permission.filter(|permission| !is_permission(permission)) {
            return Err(format!("the permission {permission:?} is not of the form `app.codename`"));
        }
        let actors = actors(rule)?;
        let is_strict = rule.get_field_by_name("revocation").and_then(|value| value.as_enum_number()) == Some(STRICT);
        if policy == AccessPolicy::Anyone && !actors.is_empty() {
            return Err("(access.v1.rule) is public and names actors".to_owned());
        }
        if policy == AccessPolicy::Anyone && is_strict {
            return Err("(access.v1.rule) is public and asks for fresh revocations".to_owned());
        }
        let owner = owner.map(|path| id_fields(method, "owner", &path)).transpose()?.unwrap_or_default();
        let is_audited = flag("audit");
        let audit_target = text("audit_target");
        if audit_target.is_some() && !is_audited {
            return Err("(access.v1.rule) names an audit_target without audit".to_owned());
        }
        let audit_target = audit_target.map(|path| id_fields(method, "audit_target", &path)).transpose()?.unwrap_or_default();
        let revocation = if is_strict { RevocationMode::Strict } else { RevocationMode::Local };
        let reasons = reasons(rule);
        Ok(Self { rule: AccessRule { policy, actors: actors.into(), revocation }, owner, reasons, is_audited, audit_target })
    }
}

fn reasons(rule: &DynamicMessage) -> Vec<String> {
    let value = rule.get_field_by_name("reasons");
    let names = value.iter().flat_map(|value| value.as_list().unwrap_or_default()).filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

fn actors(rule: &DynamicMessage) -> Result<Vec<Actor>, String> {
    let value = rule.get_field_by_name("actors");
    let numbers = value.iter().flat_map(|value| value.as_list().unwrap_or_default()).filter_map(Value::as_enum_number);
    numbers
        .map(|number| match number {
            USER => Ok(Actor::User),
            SERVICE => Ok(Actor::Service),
            _ => Err("(access.v1.rule) names an unknown actor".to_owned()),
        })
        .collect()
}

/// Returns the fields of a path that leads to an id. `option` is the option that names the path.
fn id_fields(method: &MethodDescriptor, option: &str, path: &str) -> Result<Vec<FieldDescriptor>, String> {
    let fields = path_of_fields(&method.input(), path).filter(|fields| {
        let is_single = |field: &FieldDescriptor| !field.is_list() && !field.is_map() && field.containing_oneof().is_none();
        fields.iter().all(is_single) && fields.last().is_some_and(|field| field.kind() == Kind::String)
    });
    fields.ok_or_else(|| format!("the {option} {path:?} is not the path of a string field of {}", method.input().full_name()))
}
