//! Service accounts, from the command line.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Output, Stdio},
};

use auth_service::{clients, permissions::Catalogue};
use testing::Engine;
use testing::on_both_engines;

use crate::starting::{self, assert_fails};

struct Fresh(starting::Fresh);

impl Fresh {
    async fn start(engine: Engine) -> Self {
        let database = starting::Fresh::start(engine).await;
        database.migrated().await;
        Self(database)
    }

    fn clients(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().expect("a verb");
        let mut command = starting::process(&["clients", verb, "--database-url", self.0.0.url()]);
        command.args(rest).env("LOG_FILTER", "off").stdout(Stdio::piped()).output().expect("a process")
    }

    /// Returns the standard output and the standard error of a command that must succeed.
    fn says(&self, arguments: &[&str]) -> (String, String) {
        let output = self.clients(arguments);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let (said, noted) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{noted}");
        (said, noted)
    }

    async fn is_good(&self, secret: &str) -> bool {
        let client = clients::find(&self.0.0.open(), "billing").await.expect("a query");
        clients::verify_secret(client.as_ref(), &clients::Secret::new(secret.trim().to_owned()), access::Clock::system().now())
    }
}

on_both_engines! {
    async fn a_client_is_made_listed_and_its_secret_rotated(app: Fresh) {
        let create = ["create", "billing", "--permission", "auth.view_user", "--permission", "greeter.greet_people"];
        let (first, noted) = app.says(&create);
        assert_eq!(first.trim().len(), 43);
        assert!(noted.contains("note: greeter.greet_people is not a permission of auth-service.") && noted.ends_with("created the client billing\n"));
        assert!(!Catalogue::new(&[], &[]).expect("a catalogue").contains("greeter.greet_people"));
        let (listed, _) = app.says(&["list"]);
        let line = listed.lines().nth(1).expect("a client");
        assert!(line.starts_with("billing ") && line.contains(" ACTIVE ") && line.ends_with("auth.view_user greeter.greet_people"), "{line}");
        assert!(app.is_good(&first).await);

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        std::fs::write(folder.path().join("secret.new"), "left behind").expect("a write");
        let path = file.to_str().expect("a path");
        let (said, noted) = app.says(&["rotate-secret", "billing", "--secret-file", path]);
        assert!(said.is_empty() && noted.starts_with("the previous secret is valid until 20"), "{said}{noted}");
        let second = std::fs::read_to_string(&file).expect("a secret");
        assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(app.is_good(&first).await && app.is_good(&second).await);

        let (third, noted) = app.says(&["rotate-secret", "billing", "--withdraw", "--yes"]);
        assert_eq!(noted, "the previous secret is no longer valid\n");
        assert!(!app.is_good(&first).await && !app.is_good(&second).await && app.is_good(&third).await);
    }

    async fn what_can_t_be_made_is_said_and_not_made(app: Fresh) {
        for (arguments, sentence) in [
            (&["create", "First"][..], "the client id must consist of lowercase letters, digits and hyphens"),
            (&["create", "billing", "--permission", "fly"], "the permission \"fly\" is not of the form `app.codename`"),
            (&["create", "billing", "--secret-file", "/nowhere/at/all"], "/nowhere/at/all: No such file or directory"),
            (&["rotate-secret", "billing"], "there is no client billing"),
        ] {
            assert_fails(&app.clients(arguments), sentence);
        }
        assert_eq!(app.says(&["list"]).0.lines().count(), 1);
        app.says(&["create", "billing"]);
        let withdraw = app.clients(&["rotate-secret", "billing", "--withdraw"]);
        assert_eq!(withdraw.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&withdraw.stderr).contains("this cannot be undone; pass --yes"));
        assert_fails(&app.clients(&["create", "billing"]), "another client has this id");
    }
}
