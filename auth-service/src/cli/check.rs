//! `check`: examines the settings of `serve`, what they refer to, and the running service.

use std::io;

use access::{
    Clock,
    proto::auth::v1::{GetJwksRequest, key_service_client::KeyServiceClient},
    token::auth_channel,
};
use clap::Args;
use server::check::{CheckArgs, CheckReport, State};
use store::Db;

use super::{CliError, Serve};
use crate::{
    MIGRATIONS, OTHER_SERVICES, SCHEMA,
    keys::{self, MasterKey},
    settings::DEFAULT_ISSUER,
};

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
    let master_key = serve.master_key.read();
    match &master_key {
        Ok(_) => report.add("master key", State::Ok, "32 bytes"),
        Err(error) => report.add("master key", State::Failed, error.to_string()),
    }
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
            check_keys(&mut report, &db, master_key.ok().as_ref(), &serve.settings.issuer, &clock).await?;
        }
    }
    db.close().await;
    report.check_running(serve.listen, &output.tls).await;
    Ok(report.finish(&mut io::stdout().lock(), output.json)??)
}

async fn check_keys(
    report: &mut CheckReport,
    db: &Db,
    master_key: Option<&MasterKey>,
    issuer: &str,
    clock: &Clock,
) -> Result<(), CliError> {
    let keys = keys::list(db).await?;
    let active = keys.iter().find(|key| key.state == keys::State::Active);
    match active.and_then(|key| key.activate_time) {
        Some(time) => {
            let days = (clock.now() - time).num_days();
            report.add("signing keys", State::Ok, format!("{} published; the active one has signed for {days} days", keys.len()));
        }
        None => report.add("signing keys", State::Warning, "no key is active; `serve` creates one"),
    }
    if let Some(master_key) = master_key {
        let outcome = keys::check_encryption(db, master_key).await;
        report.add_result("encrypted keys", outcome.map(|count| format!("the master key decrypts {count} of {count}")));
    }
    let (state, detail) = match (issuer_keys(issuer).await, active) {
        (Err(reason), _) => (State::Warning, format!("{issuer} does not answer: {reason}")),
        (Ok(published), Some(active)) if published.contains(&active.kid) => {
            (State::Ok, format!("{issuer} publishes the active key of this database"))
        }
        (Ok(_), _) => (State::Failed, format!("{issuer} publishes other keys than those of this database")),
    };
    let is_default = issuer == DEFAULT_ISSUER;
    report.add("issuer", state, if is_default { format!("{detail} (--issuer is the default)") } else { detail });
    Ok(())
}

/// Returns the ids of the keys that the service at the URL of the issuer publishes.
async fn issuer_keys(issuer: &str) -> Result<Vec<String>, String> {
    let channel = auth_channel(issuer).map_err(|error| error.to_string())?;
    let answer = KeyServiceClient::new(channel).get_jwks(GetJwksRequest {}).await;
    let answer = answer.map_err(|status| status.message().to_owned())?;
    Ok(answer.into_inner().keys.into_iter().map(|key| key.kid).collect())
}
