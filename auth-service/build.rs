//! Generates the messages, guards and validation of auth.v1.

const AUTH: [&str; 11] = [
    "auth/v1/token.proto",
    "auth/v1/identity.proto",
    "auth/v1/session.proto",
    "auth/v1/user.proto",
    "auth/v1/group.proto",
    "auth/v1/permission.proto",
    "auth/v1/client.proto",
    "auth/v1/key.proto",
    "auth/v1/event.proto",
    "auth/v1/audit.proto",
    "auth/v1/reason.proto",
];

fn main() -> Result<(), access_build::Error> {
    println!("cargo:rerun-if-changed=migrations");
    // `access` declares the kinds of events in terms of these messages, and verifies tokens with keys of the type `Jwk`.
    let protos = access_build::Protos::built_in().with_messages_from_access(&["auth/v1/event.proto", "auth/v1/key.proto"]);
    protos.compile(&AUTH)
}
