//! The calls of the profile service, and its peers.

use std::{env, process::Command};

use bytes::Bytes;
use http::Method;
use prost::Message;
use testing::Engine;

use crate::{
    Settings,
    auth_calls::{describe, issue_service_token},
    connection::Failure,
    django::DjangoPeer,
    fixture::{Fixture, new_note},
    load::{Load, Throughput},
    plot,
    process::Process,
    proto::profiles::{CreateNoteRequest, GetProfileRequest, ListNotesRequest},
    report::{Row, Section, median},
};

pub(crate) const GET_PROFILE: &str = "/profiles.v1.ProfileService/GetProfile";
const LIST_NOTES: &str = "/profiles.v1.NoteService/ListNotes";
pub(crate) const CREATE_NOTE: &str = "/profiles.v1.NoteService/CreateNote";

/// The calls at the same time.
const WORKERS: usize = 32;
/// The number of pairs of short runs, for each run elsewhere, that compare calls with and without an entry in the audit log.
const PAIRS: usize = 24;
/// How many times shorter these runs are.
const PAIR_DIVISOR: u32 = 4;

/// Compares `GetProfile` with a service that has nothing but tonic and the same query.
pub(crate) async fn compare_with_bare_tonic(settings: &Settings) -> Result<Section, Failure> {
    let fixture = Fixture::start(Engine::Postgres, &settings.programs()?).await?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["bare", "--database-url", fixture.profile_database.url()]);
    let bare = Process::start(&mut command, &fixture.folder.path().join("bare.log"), "address=")?;
    let ours = Load::fixed(fixture.profile_grpc(GET_PROFILE), get_profile(&fixture), WORKERS);
    let mut theirs = ours.clone();
    theirs.target.address.clone_from(&bare.address);
    let (mut our_runs, mut their_runs) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        their_runs.push(theirs.saturate(&bare, settings.duration()).await?);
        our_runs.push(ours.saturate(&fixture.profile, settings.duration()).await?);
    }
    let rate = median(our_runs.iter().map(|run| run.per_second)) / 4.0;
    let quiet = [
        ("profile service", ours.at_rate(rate, settings.duration()).await?),
        ("bare tonic", theirs.at_rate(rate, settings.duration()).await?),
    ];
    let rows = vec![
        Row::new("GetProfile", describe(&our_runs), ""),
        Row::new("bare tonic", describe(&their_runs), ""),
        Row::new("CPU a call, GetProfile ÷ bare tonic", ratio(&our_runs, &their_runs, |run| run.cpu), "at most 1.15"),
        Row::new("calls a second, GetProfile ÷ bare tonic", ratio(&our_runs, &their_runs, |run| run.per_second), "at least 0.90"),
    ];
    let latency = quiet.iter().map(|(name, latencies)| {
        let figure =
            format!("p50 {} ms, p99 {} ms", plot::rounded(latencies.quantile(0.5)), plot::rounded(latencies.quantile(0.99)));
        Row::new(format!("latency at {rate:.0} calls a second: {name}"), figure, "")
    });
    let rows = rows.into_iter().chain(latency).collect();
    let columns = [("GetProfile", &our_runs), ("bare tonic", &their_runs)]
        .map(|(name, runs)| (name.to_owned(), median(runs.iter().map(|run| run.cpu))));
    let text = "The bare service consists of tonic, sqlx and the query of GetProfile, and gets the same requests. It has no\n\
                authentication, no guard, no log, no metrics, no limits and no other protocol. The profile service runs with its default settings: access log and metrics are on.";
    let plot = plot::bars("CPU a call of GetProfile", "µs", &columns);
    Ok(Section { title: "GetProfile and bare tonic", text: text.to_owned(), rows, plots: vec![("get-profile-cpu", plot)] })
}

/// Measures `ListNotes`, also of a user with many notes before the database has statistics about them.
pub(crate) async fn measure_notes(settings: &Settings) -> Result<Section, Failure> {
    let mut rows = Vec::new();
    for (engine, name) in [(Engine::Postgres, "PostgreSQL"), (Engine::Sqlite, "SQLite")] {
        let fixture = Fixture::start(engine, &settings.programs()?).await?;
        let list = Load::fixed(fixture.profile_grpc(LIST_NOTES), list_notes(), WORKERS);
        if engine == Engine::Postgres {
            fixture.analyze().await?;
        }
        let few = saturate(settings, &list, &fixture).await?;
        rows.push(Row::new(format!("ListNotes, 20 of 40 notes, {name}"), describe(&few), "at most 60 µs CPU"));
        fixture.add_notes(settings.many_notes).await?;
        let before = saturate(settings, &list, &fixture).await?;
        fixture.analyze().await?;
        let after = saturate(settings, &list, &fixture).await?;
        let many = settings.many_notes;
        rows.push(Row::new(format!("ListNotes, 20 of {many} notes, {name}, before ANALYZE"), describe(&before), ""));
        rows.push(Row::new(format!("ListNotes, 20 of {many} notes, {name}, after ANALYZE"), describe(&after), ""));
        let measure = format!("p50, before ANALYZE ÷ after, {name}");
        rows.push(Row::new(measure, ratio(&before, &after, |run| run.median), "at most 1.5"));
    }
    let text = "An owner lists their own notes.";
    Ok(Section { title: "ListNotes", text: text.to_owned(), rows, plots: Vec::new() })
}

/// Measures what an entry of the audit log costs: a user's own note has none, a note that a service account creates for them has one.
pub(crate) async fn measure_audit_log(settings: &Settings) -> Result<Section, Failure> {
    let mut rows = Vec::new();
    for (engine, name) in [(Engine::Postgres, "PostgreSQL"), (Engine::Sqlite, "SQLite")] {
        let fixture = Fixture::start(engine, &settings.programs()?).await?;
        let user_id = fixture.user.user_id.to_string();
        let create = CreateNoteRequest { user_id, note: Some(new_note()), ..CreateNoteRequest::default() };
        let own = Load::fixed(fixture.profile_grpc(CREATE_NOTE), create.encode_to_vec(), WORKERS);
        let mut audited = own.clone();
        audited.target.token = Some(issue_service_token(&fixture).await?);
        let (mut own_runs, mut audited_runs) = (Vec::new(), Vec::new());
        // The difference is small, the tables grow, and the speed of a machine changes: many short runs, and each kind is the first of every
        // other pair.
        for pair in 0..PAIRS * settings.runs {
            let mut loads = [(&own, &mut own_runs), (&audited, &mut audited_runs)];
            if pair % 2 == 1 {
                loads.reverse();
            }
            for (load, runs) in loads {
                runs.push(load.saturate(&fixture.profile, settings.duration() / PAIR_DIVISOR).await?);
            }
        }
        rows.push(Row::new(format!("CreateNote by its owner, {name}"), describe(&own_runs), ""));
        rows.push(Row::new(format!("CreateNote with an entry, {name}"), describe(&audited_runs), ""));
        let measure = format!("CPU a call, with an entry ÷ without, {name}");
        rows.push(Row::new(measure, ratio(&audited_runs, &own_runs, |run| run.cpu), "at most 1.10"));
    }
    let text = "The sealing of the entries is a part of the cost. The two kinds of calls take short turns. The last entries of a turn can be \
                sealed in the next one, which changes the ratio by less than 0.005.";
    Ok(Section { title: "Audit log", text: text.to_owned(), rows, plots: Vec::new() })
}

/// Compares the HTTP API with a project in Django on the same server.
pub(crate) async fn compare_with_django(settings: &Settings) -> Result<Section, Failure> {
    let Some(environment) = &settings.django else { return Err("--django is missing".into()) };
    let environment = std::path::absolute(environment)?;
    let fixture = Fixture::start(Engine::Postgres, &settings.programs()?).await?;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let django = DjangoPeer::start(&environment, fixture.folder.path(), workers).await?;
    let note = new_note();
    let our_note = format!(r#"{{"title":"{}","body":"{}","visibility":"VISIBILITY_PRIVATE"}}"#, note.title, note.body);
    let their_note = format!(r#"{{"title":"{}","body":"{}","visibility":1}}"#, note.title, note.body);
    let pairs = [
        (
            "reads of a profile",
            "at least 15",
            Load::fixed(fixture.profile_http(Method::GET, "/v1/profiles/me"), Bytes::new(), WORKERS),
            Load::fixed(django.profile(), Bytes::new(), WORKERS),
        ),
        (
            "lists of 20 notes",
            "at least 12",
            Load::fixed(fixture.profile_http(Method::GET, "/v1/profiles/me/notes?page_size=20"), Bytes::new(), WORKERS),
            Load::fixed(django.notes(Method::GET), Bytes::new(), WORKERS),
        ),
        (
            "new notes",
            "",
            Load::fixed(fixture.profile_http(Method::POST, "/v1/profiles/me/notes"), our_note, WORKERS),
            Load::fixed(django.notes(Method::POST), their_note, WORKERS),
        ),
    ];
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for (name, goal, ours, theirs) in pairs {
        let (mut our_runs, mut their_runs) = (Vec::new(), Vec::new());
        for _ in 0..settings.runs {
            our_runs.push(ours.saturate(&fixture.profile, settings.duration()).await?);
            their_runs.push(theirs.saturate(&django.process, settings.duration()).await?);
        }
        rows.push(Row::new(format!("{name}, profile service"), describe(&our_runs), ""));
        rows.push(Row::new(format!("{name}, Django"), describe(&their_runs), ""));
        rows.push(Row::new(
            format!("{name} a second, profile service ÷ Django"),
            ratio(&our_runs, &their_runs, |run| run.per_second),
            goal,
        ));
        for (peer, runs) in [("profile service", &our_runs), ("Django", &their_runs)] {
            bars.push((format!("{name}, {peer}"), median(runs.iter().map(|run| run.per_second))));
        }
    }
    let text = format!(
        "HTTP/1.1 with JSON, on the same PostgreSQL server. The project is Django, Django REST framework and simplejwt with the versions in\n\
         `bench/django/requirements.txt`, behind gunicorn with {workers} processes of 8 threads and persistent connections to the database."
    );
    let plot = plot::bars("Calls a second over HTTP with JSON", "", &bars);
    Ok(Section { title: "Django REST framework", text, rows, plots: vec![("django", plot)] })
}

/// Measures how latencies change as the database grows.
pub(crate) async fn measure_growth(settings: &Settings) -> Result<Section, Failure> {
    let fixture = Fixture::start(Engine::Postgres, &settings.programs()?).await?;
    fixture.analyze().await?;
    let create = CreateNoteRequest { user_id: "me".to_owned(), note: Some(new_note()), ..CreateNoteRequest::default() };
    let loads = [
        ("GetProfile", Load::fixed(fixture.profile_grpc(GET_PROFILE), get_profile(&fixture), 4)),
        ("ListNotes", Load::fixed(fixture.profile_grpc(LIST_NOTES), list_notes(), 4)),
        ("CreateNote", Load::fixed(fixture.profile_grpc(CREATE_NOTE), create.encode_to_vec(), 4)),
    ];
    let mut small = Vec::new();
    for (_, load) in &loads {
        small.push(saturate(settings, load, &fixture).await?);
    }
    fixture.grow(settings.growth).await?;
    let mut rows = Vec::new();
    for ((name, load), small) in loads.iter().zip(small) {
        let large = saturate(settings, load, &fixture).await?;
        rows.push(Row::new(format!("{name}, p50, large ÷ small"), ratio(&large, &small, |run| run.median), "at most 1.2"));
    }
    let text = format!(
        "The latency of four calls at the same time, with {} notes of {} users and with 40 notes of one user.",
        settings.growth,
        settings.growth / 10
    );
    Ok(Section { title: "Growth", text, rows, plots: Vec::new() })
}

async fn saturate(settings: &Settings, load: &Load, fixture: &Fixture) -> Result<Vec<Throughput>, Failure> {
    let mut runs = Vec::new();
    for _ in 0..settings.runs {
        runs.push(load.saturate(&fixture.profile, settings.duration()).await?);
    }
    Ok(runs)
}

/// Returns the median of the ratios of runs that were made in turn.
fn ratio(ours: &[Throughput], theirs: &[Throughput], figure: fn(&Throughput) -> f64) -> String {
    format!("{:.2}", median(ours.iter().zip(theirs).map(|(ours, theirs)| figure(ours) / figure(theirs))))
}

/// Returns the request of `GetProfile`.
pub(crate) fn get_profile(fixture: &Fixture) -> Vec<u8> {
    GetProfileRequest { user_id: fixture.user.user_id.to_string() }.encode_to_vec()
}

fn list_notes() -> Vec<u8> {
    ListNotesRequest { user_id: "me".to_owned(), page_size: 20, ..ListNotesRequest::default() }.encode_to_vec()
}
