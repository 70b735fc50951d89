//! Secrets appear in no log line, metric, trace, audit entry or error, plain or encoded, also when everything is logged.

use std::{
    fs,
    io::Read,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use auth_service::{
    DESCRIPTORS,
    keys::MasterKey,
    proto::{
        ChangePasswordRequest, Client, CreateClientRequest, CreateUserRequest, IntrospectRequest, IssueServiceTokenRequest,
        LoginRequest, LogoutRequest, RefreshRequest, RotateSecretRequest, SetPasswordRequest, User,
        client_service_client::ClientServiceClient, issue_service_token_request::Credential,
        token_service_client::TokenServiceClient, user_service_client::UserServiceClient,
    },
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use testing::{Collector, access_matrix, http::send, on_both_engines};
use tokio::task::yield_now;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    app::{Bearer, registration},
    starting::Fresh,
};

const PASSWORD: &str = "canary-Qv7 marble trellis 52";
const OTHER_PASSWORD: &str = "canary-Xk9 copper lantern 38";
const WRONG_PASSWORD: &str = "canary-Zt4 velvet harbour 61";
const NO_TOKEN: &str = "canary-token-Rw3-0123456789-abcdefghijklmnop";

/// A service that logs everything, and records every call in a trace.
struct Loud {
    process: Child,
    log: Arc<Mutex<Vec<u8>>>,
    address: SocketAddr,
}

impl Loud {
    async fn start(app: &Fresh, master_key: &str, collector: SocketAddr) -> Self {
        let mut command = app.serve(master_key);
        command.args(["--trace-sampler", "always_on", "--otlp-endpoint", &format!("http://{collector}")]);
        command.args(["--password-grant", "--log-format", "json"]).env("LOG_FILTER", "trace").stderr(Stdio::piped());
        let mut process = command.spawn().expect("a process");
        let mut stderr = process.stderr.take().expect("a pipe");
        let log = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                written.lock().expect("a lock").extend_from_slice(&buffer[..length]);
            }
        });
        let mut loud = Self { process, log, address: ([127, 0, 0, 1], 0).into() };
        loud.address = loop {
            let text = loud.text();
            let serving = text.lines().find(|line| line.contains("\"serving\"") || line.contains("serving"));
            let address = serving.and_then(|line| {
                let words = line.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
                words.filter_map(|word| word.parse().ok()).find(|address: &SocketAddr| address.port() > 0)
            });
            match address {
                Some(address) => break address,
                None => yield_now().await,
            }
        };
        loud
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().expect("a lock")).into_owned()
    }

    /// Ends the process with SIGTERM, so that it exports its last spans, and returns its log.
    fn terminate(mut self) -> String {
        let sent = Command::new("kill").arg(self.process.id().to_string()).status().expect("kill");
        assert!(sent.success() && self.process.wait().expect("an end").success());
        self.text()
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("an address is a URL").connect_lazy()
    }
}

impl Drop for Loud {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the forms in which a secret could be written: plain, in hexadecimal, and in base64 at each alignment.
fn forms(secret: &str) -> Vec<String> {
    let hex = secret.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let mut forms = vec![secret.to_owned(), hex.to_uppercase(), hex, secret.replace(' ', "+"), secret.replace(' ', "%20")];
    // The debug form of bytes.
    forms.push(format!("{:?}", secret.as_bytes()).trim_matches(['[', ']']).to_owned());
    for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
        for skipped in 0..3 {
            // Whole groups of three bytes are the same wherever the text before them ends.
            let whole = &secret.as_bytes()[skipped..];
            forms.push(engine.encode(&whole[..whole.len() / 3 * 3]));
        }
    }
    forms
}

#[track_caller]
fn assert_absent(secrets: &[(&str, String)], place: &str, text: &str) {
    for (name, secret) in secrets {
        for form in forms(secret) {
            if let Some(index) = text.find(&form) {
                let begin = text[..index].rfind('\n').map_or(0, |line| line + 1);
                panic!("{name} is in {place}: {}", &text[begin..text.len().min(index + form.len() + 200)]);
            }
        }
    }
}

fn described(status: &Status) -> String {
    format!("{status:?} {} {}", status.message(), String::from_utf8_lossy(status.details()))
}

on_both_engines! {
    async fn secrets_are_nowhere(app: Fresh) {
        app.migrated().await;
        let master_key = MasterKey::generate();
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a write");
            path.display().to_string()
        };
        let (password_file, other_file) = (file("password", PASSWORD), file("other", OTHER_PASSWORD));
        let (old_key, new_key) = (file("old-key", &master_key), MasterKey::generate());
        let new_key_file = file("new-key", &new_key);
        let mut secrets = vec![
            ("the password", PASSWORD.to_owned()),
            ("the other password", OTHER_PASSWORD.to_owned()),
            ("the wrong password", WRONG_PASSWORD.to_owned()),
            ("the text that is no token", NO_TOKEN.to_owned()),
            ("the master key", master_key.clone()),
            ("the new master key", new_key.clone()),
        ];
        let (mut errors, mut said) = (String::new(), String::new());
        let mut command = |arguments: &[&str], environment: &[(&str, &str)]| {
            let mut process = crate::starting::process(arguments);
            process.args(["--database-url", app.0.url()]).envs(environment.iter().copied()).env("LOG_FILTER", "trace");
            let output = process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("a process");
            said += &String::from_utf8_lossy(&output.stderr);
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        assert!(command(&["createsuperuser", "--username", "root", "--noinput"], &[("AUTH_SUPERUSER_PASSWORD", PASSWORD)]).0);
        assert!(command(&["users", "create", "bob", "--password-file", &password_file], &[]).0);
        assert!(command(&["users", "set-password", "bob", "--password-file", &other_file], &[]).0);
        assert!(command(&["changepassword", "bob", "--password-file", &password_file], &[]).0);
        assert!(!command(&["users", "create", "bob", "--password-file", &password_file], &[]).0);
        let (_, secret) = command(&["clients", "create", "billing"], &[]);
        secrets.push(("the client secret", secret.trim().to_owned()));
        let (_, secret) = command(&["clients", "rotate-secret", "billing"], &[]);
        secrets.push(("the rotated client secret", secret.trim().to_owned()));
        let client_secret = secret.trim().to_owned();

        let collector = Collector::default();
        let collecting = collector.serve().await;
        let loud = Loud::start(&app, &master_key, collecting.address).await;
        let (channel, mut tokens) = (loud.channel(), TokenServiceClient::new(loud.channel()));
        let login = |username: &str, password: &str| LoginRequest { username: username.to_owned(), password: password.to_owned() };
        let root = tokens.login(login("root", PASSWORD)).await.expect("a login").into_inner();
        for (username, password) in [("root", WRONG_PASSWORD), (WRONG_PASSWORD, "x")] {
            errors += &described(&tokens.login(login(username, password)).await.expect_err("a refusal"));
        }
        let refresh = |refresh_token: &str| RefreshRequest { refresh_token: refresh_token.to_owned(), request_id: String::new() };
        let refreshed = tokens.refresh(refresh(&root.refresh_token)).await.expect("a refresh").into_inner();
        for token in [&root.access_token, &root.refresh_token, &refreshed.access_token, &refreshed.refresh_token] {
            // Only the signature makes a token a secret; logs may name the ids in its claims.
            secrets.push(("the signature of a token", token.rsplit('.').next().expect("a signature").to_owned()));
        }
        let bearer = || Bearer(refreshed.access_token.clone());
        let mut users = UserServiceClient::with_interceptor(channel.clone(), bearer());
        UserServiceClient::new(channel.clone()).register(auth_service::proto::RegisterRequest { password: PASSWORD.to_owned(), ..registration("carol") }).await.expect("a user");
        let user = Some(User { username: "dave".to_owned(), ..User::default() });
        let dave = users.create_user(CreateUserRequest { user, password: PASSWORD.to_owned() }).await.expect("a user").into_inner();
        users.set_password(SetPasswordRequest { user_id: dave.user_id.clone(), new_password: OTHER_PASSWORD.to_owned() }).await.expect("a password");
        let change = |old_password: &str| ChangePasswordRequest {
            user_id: "me".to_owned(),
            old_password: old_password.to_owned(),
            new_password: OTHER_PASSWORD.to_owned(),
        };
        errors += &described(&users.change_password(change(WRONG_PASSWORD)).await.expect_err("a refusal"));
        users.change_password(change(PASSWORD)).await.expect("a password");
        let mut clients = ClientServiceClient::with_interceptor(channel.clone(), bearer());
        let client = Some(Client { client_id: "orders".to_owned(), ..Client::default() });
        let orders = clients.create_client(CreateClientRequest { client }).await.expect("a client").into_inner();
        let rotated = clients.rotate_secret(RotateSecretRequest { client_id: "orders".to_owned(), withdraw: false }).await.expect("a secret").into_inner();
        secrets.push(("a secret of a created client", orders.client_secret));
        secrets.push(("a secret of a rotated client", rotated.client_secret));
        for credential in [
            Credential::ClientSecret(client_secret.clone()),
            Credential::ClientSecret(WRONG_PASSWORD.to_owned()),
            Credential::ClientAssertion(NO_TOKEN.to_owned()),
            Credential::ClientAssertion(format!("{}.{}.{NO_TOKEN}", BASE64_URL_SAFE_NO_PAD.encode("{}"), BASE64_URL_SAFE_NO_PAD.encode("{}"))),
        ] {
            let request = IssueServiceTokenRequest { client_id: "billing".to_owned(), credential: Some(credential), scope: String::new() };
            match tokens.issue_service_token(request).await {
                Ok(issued) => {
                    let token = issued.into_inner().access_token;
                    secrets.push(("the signature of a service token", token.rsplit('.').next().expect("a signature").to_owned()));
                }
                Err(status) => errors += &described(&status),
            }
        }
        let mut as_root = TokenServiceClient::with_interceptor(channel.clone(), bearer());
        for token in [NO_TOKEN, &root.refresh_token] {
            as_root.introspect(IntrospectRequest { token: token.to_owned() }).await.expect("an answer");
        }
        // Every method, with a text that is no secret of this service.
        for row in access_matrix(DESCRIPTORS, "auth.v1") {
            for token in [NO_TOKEN, &refreshed.access_token] {
                if row.path().ends_with("/WatchEvents") && token != NO_TOKEN {
                    // The stream has no end.
                    continue;
                }
                let status = row.call_with_secret(&channel, token, NO_TOKEN).await;
                errors += &status.as_ref().map(described).unwrap_or_default();
            }
        }
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("billing:{client_secret}")));
        let form = ("content-type", "application/x-www-form-urlencoded");
        let plus = |text: &str| text.replace(' ', "+");
        for (path, headers, body) in [
            ("POST /oauth2/token", vec![form], format!("grant_type=password&username=carol&password={}", plus(PASSWORD))),
            ("POST /oauth2/token", vec![form], format!("grant_type=password&username=carol&password={}", plus(WRONG_PASSWORD))),
            ("POST /oauth2/token", vec![form], format!("grant_type=refresh_token&refresh_token={NO_TOKEN}")),
            ("POST /oauth2/token", vec![form, ("authorization", &basic)], "grant_type=client_credentials".to_owned()),
            ("POST /oauth2/introspect", vec![form, ("authorization", &basic)], format!("token={NO_TOKEN}")),
            ("POST /oauth2/revoke", vec![form], format!("token={NO_TOKEN}")),
            ("POST /api/token/", vec![("content-type", "application/json")], format!(r#"{{"username": "carol", "password": "{WRONG_PASSWORD}"}}"#)),
            ("POST /api/token/refresh/", vec![("content-type", "application/json")], format!(r#"{{"refresh": "{NO_TOKEN}"}}"#)),
            ("POST /v1/tokens:login", vec![("content-type", "application/json")], format!(r#"{{"username": "carol", "password": "{WRONG_PASSWORD}", "{NO_TOKEN}": 1}}"#)),
            ("GET /v1/users/me", vec![("authorization", &*format!("Bearer {NO_TOKEN}"))], String::new()),
        ] {
            let answer = send(loud.address, path, &headers, body.as_bytes()).await;
            if answer.status >= 400 && !body.contains("\": 1") {
                errors += &String::from_utf8_lossy(&answer.body);
            }
        }
        tokens.logout(LogoutRequest { refresh_token: refreshed.refresh_token.clone() }).await.expect("a logout");
        let metrics = send(loud.address, "GET /metrics", &[], b"").await;
        assert_eq!(metrics.status, 200);
        assert!(command(&["keys", "rewrap", "--master-key-file", &old_key, "--new-master-key-file", &new_key_file], &[]).0);
        let (verified, _) = command(&["audit", "verify", "--master-key-file", &new_key_file], &[]);
        assert!(verified);
        let (_, exported) = command(&["audit", "export"], &[]);
        let log = tokio::task::spawn_blocking(move || loud.terminate()).await.expect("an end");
        let spans = collector.spans();

        assert!(exported.lines().count() > 20 && log.contains("\"level\":\"TRACE\"") && errors.contains("CREDENTIALS_INVALID"), "{exported}");
        let login = spans.iter().find(|span| span.name == "auth.v1.TokenService/Login").expect("the span of a call");
        assert!(spans.iter().any(|span| span.parent_id == login.span_id), "{spans:?}");
        assert_absent(&secrets, "the traces", &format!("{spans:?}"));
        assert_absent(&secrets, "the audit log", &exported);
        assert_absent(&secrets, "an error", &errors);
        assert_absent(&secrets, "the metrics", &String::from_utf8_lossy(&metrics.body));
        assert_absent(&secrets, "the messages of the commands", &said);
        assert_absent(&secrets, "the log of the service", &log);
    }
}
