//! What every service shares of the contract: the access rules, the reasons, and how to fetch the keys.

use std::{env, fs, path::Path};

fn main() -> Result<(), shared_build::Error> {
    let protos = shared_build::Protos::new("../proto").inside_shared();
    protos.compile(&[
        "access/v1/access.proto",
        "access/v1/reason.proto",
        "auth/v1/key.proto",
        "auth/v1/token.proto",
        "auth/v1/user.proto",
        "auth/v1/event.proto",
        "google/type/date.proto",
    ])?;
    // Their comments say what each means, for whoever reads the API's description.
    let reasons = protos.commented_values(&["access/v1/reason.proto"], "access.v1.Reason")?;
    #[expect(clippy::disallowed_methods, reason = "how cargo speaks to a build script")]
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("reasons.rs"), format!("{reasons:?}"))?;
    Ok(())
}
