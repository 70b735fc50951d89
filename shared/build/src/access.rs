//! The access rule of one method, read from its options and checked.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage, Value};

use crate::Error;

/// `access.v1.Revocation.REVOCATION_STRICT`.
const STRICT: i32 = 2;

/// `(access.v1.rule)`, consistent.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) who: Who,
    pub(crate) permission: Option<String>,
    /// The path of the field that names the owner.
    pub(crate) owner: Option<Vec<FieldDescriptor>>,
    /// Names of `access.v1.Actor`, without the prefix.
    pub(crate) actors: Vec<String>,
    /// Whether it is refused while the news of revocations are late.
    pub(crate) strict: bool,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Who {
    Anyone,
    Authenticated,
    PermissionHolder,
    OwnerOrPermissionHolder,
    Owner,
}

impl Rule {
    pub(crate) fn of(method: &MethodDescriptor) -> Result<Self, Error> {
        let name = method.full_name();
        let rule = declared(method).ok_or_else(|| format!("{name}: no (access.v1.rule): every method says who may call it"))?;
        let flag = |field: &str| rule.get_field_by_name(field).and_then(|value| value.as_bool()).unwrap_or_default();
        let text = |field: &str| {
            let value = rule.get_field_by_name(field)?;
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (permission, owner) = (text("permission"), text("owner"));
        let who = match (flag("public"), flag("authenticated"), &permission, &owner) {
            (true, false, None, None) => Who::Anyone,
            (false, true, None, _) => Who::Authenticated,
            (false, false, Some(_), None) => Who::PermissionHolder,
            (false, false, Some(_), Some(_)) => Who::OwnerOrPermissionHolder,
            (false, false, None, Some(_)) => Who::Owner,
            (false, false, None, None) => return Err(format!("{name}: (access.v1.rule) says nothing").into()),
            _ => {
                return Err(
                    format!("{name}: (access.v1.rule) contradicts itself: public, authenticated, permission, pick one").into()
                );
            }
        };
        if let Some(permission) = &permission {
            let well_formed = permission.split_once('.').is_some_and(|(app, codename)| {
                [app, codename].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
            });
            if !well_formed {
                return Err(format!("{name}: the permission {permission:?} is not of the form `app.codename`").into());
            }
        }
        let actors = actors(&rule);
        if who == Who::Anyone && !actors.is_empty() {
            return Err(format!("{name}: (access.v1.rule) is public and names actors").into());
        }
        if actors.iter().any(|actor| actor == "UNSPECIFIED") {
            return Err(format!("{name}: (access.v1.rule) names an actor that is none").into());
        }
        let strict = rule.get_field_by_name("revocation").and_then(|value| value.as_enum_number()) == Some(STRICT);
        if who == Who::Anyone && strict {
            return Err(format!("{name}: (access.v1.rule) is public and asks for revocations").into());
        }
        let owner = owner.map(|path| owner_path(method, &path)).transpose()?;
        Ok(Self { who, permission, owner, actors, strict })
    }
}

fn declared(method: &MethodDescriptor) -> Option<DynamicMessage> {
    let extension = method.parent_pool().get_extension_by_name("access.v1.rule")?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    options.get_extension(&extension).as_message().cloned()
}

fn actors(rule: &DynamicMessage) -> Vec<String> {
    let Some(Kind::Enum(actor)) = rule.descriptor().get_field_by_name("actors").map(|field| field.kind()) else {
        return Vec::new();
    };
    let value = rule.get_field_by_name("actors");
    let numbers = value.iter().flat_map(|value| value.as_list().unwrap_or_default()).filter_map(Value::as_enum_number);
    numbers
        .filter_map(|number| actor.get_value(number))
        .map(|value| value.name().trim_start_matches("ACTOR_").to_owned())
        .collect()
}

fn owner_path(method: &MethodDescriptor, path: &str) -> Result<Vec<FieldDescriptor>, Error> {
    let broken = || {
        format!("{}: the owner {path:?} is not the path of a string field of {}", method.full_name(), method.input().full_name())
    };
    let mut message: Option<MessageDescriptor> = Some(method.input());
    let mut fields = Vec::new();
    for name in path.split('.') {
        let field = message.as_ref().and_then(|message| message.get_field_by_name(name)).ok_or_else(broken)?;
        if field.is_list() || field.is_map() || field.containing_oneof().is_some() {
            return Err(broken().into());
        }
        message = match field.kind() {
            Kind::Message(inner) => Some(inner),
            _ => None,
        };
        fields.push(field);
    }
    match fields.last().map(FieldDescriptor::kind) {
        Some(Kind::String) => Ok(fields),
        _ => Err(broken().into()),
    }
}
