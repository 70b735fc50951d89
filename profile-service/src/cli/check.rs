//! `check`: examines the settings of `serve`, what they refer to, and the running service.

use std::io;

use access::{
    Clock,
    proto::auth::v1::{GetJwksRequest, key_service_client::KeyServiceClient},
    token::ClientCredentials,
};
use clap::Args;
use server::check::{CheckArgs, CheckReport, State};
use tonic::transport::Channel;

use super::{CliError, Serve};
use crate::{MIGRATIONS, OTHER_SERVICES, SCHEMA, Settings, sync};

/// Takes the flags of `serve`.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    serve: Serve,
    #[command(flatten)]
    output: CheckArgs,
}

/// Makes every check, prints the report, and fails if a check failed.
pub(super) async fn run(arguments: Check) -> Result<(), CliError> {
    let Check { serve, output } = arguments;
    let clock = Clock::system();
    let mut report = CheckReport::default();
    report.check_certificate(&serve.settings.server.tls, serve.listen, clock.now());
    let db = serve.database.open_with(serve.timeouts)?;
    if let Some(problem) = db.problem().await {
        report.add("database", State::Failed, problem);
    } else {
        report.add("database", State::Ok, db.name());
        if let Some(time) = db.server_time().await? {
            report.compare_clock("clock of the database", time, clock.now());
        }
        let schema = migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await;
        let has_schema = schema.is_ok();
        report.add_result("schema", schema.map(|()| "all migrations are applied".to_owned()));
        if has_schema {
            match sync::applied(&db).await? {
                Some((pos, time)) => {
                    let detail = format!("applied up to {pos}, the last one at {}", time.format("%F %T UTC"));
                    report.add("events", State::Ok, detail);
                }
                None => report.add("events", State::Warning, "the first snapshot of the users is not complete"),
            }
        }
    }
    db.close().await;
    match serve.settings.auth_channel() {
        Ok(channel) => check_auth_service(&mut report, channel, &serve.settings, &clock).await,
        Err(error) => report.add("auth service", State::Failed, error.to_string()),
    }
    report.check_running(serve.listen, &output.tls).await;
    Ok(report.finish(&mut io::stdout().lock(), output.json)??)
}

/// Checks that the auth service publishes keys, accepts the client, and issues tokens of the issuer that this service expects.
async fn check_auth_service(report: &mut CheckReport, channel: Channel, settings: &Settings, clock: &Clock) {
    let url = &settings.auth_url;
    match KeyServiceClient::new(channel.clone()).get_jwks(GetJwksRequest {}).await {
        Ok(answer) => report.add("auth service", State::Ok, format!("{url} publishes {} keys", answer.into_inner().keys.len())),
        Err(status) => return report.add("auth service", State::Failed, format!("{url} does not answer: {}", status.message())),
    }
    let (Some(client_id), Some(secret_file)) = (&settings.client_id, &settings.client_secret_file) else {
        return report.add("client", State::Warning, "no client id is set: events are not followed");
    };
    let credentials = ClientCredentials { client_id: client_id.clone(), secret_file: secret_file.clone() };
    let token = match access::token::issue_service_token(channel, &credentials).await {
        Ok(token) => token,
        Err(error) => return report.add("client", State::Failed, format!("{client_id}: {error}")),
    };
    report.add("client", State::Ok, format!("the auth service accepts the secret of {client_id}"));
    let (state, is) = if token.issuer == settings.issuer { (State::Ok, "is") } else { (State::Failed, "is not") };
    report.add("issuer", state, format!("tokens have the issuer {}, which {is} the one of --issuer", token.issuer));
    report.compare_clock("clock of the auth service", token.issue_time, clock.now());
}
