//! Generates the messages of `access.v1`, and the messages and clients with which a service calls the auth service.

fn main() -> Result<(), access_build::Error> {
    access_build::Protos::built_in().without_servers().compile(&[
        "access/v1/access.proto",
        "access/v1/reason.proto",
        "auth/v1/key.proto",
        "auth/v1/token.proto",
        "auth/v1/user.proto",
        "auth/v1/event.proto",
        "google/type/date.proto",
    ])
}
