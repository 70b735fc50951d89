//! Generates the messages, the guard and the validation of greeter.v1.

fn main() -> Result<(), access_build::Error> {
    access_build::Protos::new("proto").compile(&["greeter/v1/greeter.proto"])
}
