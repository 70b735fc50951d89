//! Generates the messages, guards and validation of auth.v1, and the catalogue of permissions.

use std::{env, fs, path::Path};

const AUTH: [&str; 10] = [
    "auth/v1/token.proto",
    "auth/v1/identity.proto",
    "auth/v1/session.proto",
    "auth/v1/user.proto",
    "auth/v1/group.proto",
    "auth/v1/permission.proto",
    "auth/v1/client.proto",
    "auth/v1/key.proto",
    "auth/v1/event.proto",
    "auth/v1/reason.proto",
];
const PROFILE: [&str; 5] = [
    "profiles/v1/profile.proto",
    "profiles/v1/friend.proto",
    "profiles/v1/note.proto",
    "profiles/v1/sync.proto",
    "profiles/v1/reason.proto",
];

fn main() -> Result<(), access_build::Error> {
    println!("cargo:rerun-if-changed=migrations");
    // `access` declares the kinds of events in terms of these messages, and verifies tokens with keys of the type `Jwk`.
    let protos = access_build::Protos::built_in().with_messages_from_access(&["auth/v1/event.proto", "auth/v1/key.proto"]);
    protos.compile(&AUTH)?;
    // A permission exists because an access rule of one of the services asks for it.
    let permissions = protos.permissions(&[AUTH.as_slice(), &PROFILE].concat())?;
    #[expect(clippy::disallowed_methods, reason = "how cargo speaks to a build script")]
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("permissions.rs"), format!("&{:?}", permissions.into_iter().collect::<Vec<_>>()))?;
    Ok(())
}
