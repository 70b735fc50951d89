//! What every service shares of the contract: the access rules, the reasons, and how to fetch the keys.

fn main() -> Result<(), shared_build::Error> {
    shared_build::Protos::new("../proto").inside_shared().compile(&[
        "access/v1/access.proto",
        "access/v1/reason.proto",
        "auth/v1/key.proto",
        "auth/v1/token.proto",
        "auth/v1/user.proto",
        "auth/v1/event.proto",
        "google/type/date.proto",
    ])
}
