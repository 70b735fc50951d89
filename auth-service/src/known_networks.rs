//! The networks from which users have had sessions: an IPv4 address, or a /64 network of IPv6 addresses.
//!
//! Wrong passwords from such a network have a budget of their own, so that strangers who guess a user's password cannot lock the user out.

use std::net::IpAddr;

use access::{ClientInfo, Result, UserId, rate_limit_key};
use chrono::{DateTime, TimeDelta, Utc};
use store::{Executor, Tx};

use crate::sessions::Session;

/// The time for which a network stays known after it was used.
const RETENTION: TimeDelta = TimeDelta::days(90);

/// Stores that the user has a session from the network of the client.
pub async fn add(tx: &mut Tx, user_id: UserId, client: &ClientInfo, now: DateTime<Utc>) -> Result<()> {
    let Some(network) = network(client) else { return Ok(()) };
    let query = tx.query(
        "INSERT INTO known_networks (user_id, network, expire_time) VALUES ($1, $2, $3)
         ON CONFLICT (user_id, network) DO UPDATE SET expire_time = excluded.expire_time",
    );
    query.bind(user_id).bind(network.to_string()).bind(now + RETENTION).execute().await?;
    Ok(())
}

/// Returns true if [`add`] is due when the session is refreshed from the network of the client: the stored row, if there is one, can be
/// older than a day.
pub fn must_add(session: &Session, client: &ClientInfo, now: DateTime<Utc>) -> bool {
    let is_first_of_day = session.rotated_at.date_naive() < now.date_naive();
    let opened_from = session.address.parse().ok().map(rate_limit_key);
    is_first_of_day || network(client) != opened_from
}

/// Returns the network of the client if the user has had a session from it.
pub async fn find(on: impl Executor<'_>, user_id: UserId, client: &ClientInfo, now: DateTime<Utc>) -> Result<Option<IpAddr>> {
    let Some(network) = network(client) else { return Ok(None) };
    let query = on.query("SELECT user_id FROM known_networks WHERE user_id = $1 AND network = $2 AND expire_time > $3");
    let found = query.bind(user_id).bind(network.to_string()).bind(now).optional::<(UserId,)>().await?;
    Ok(found.map(|_| network))
}

/// Deletes the networks that have not been used for 90 days.
pub async fn purge_expired(tx: &mut Tx, now: DateTime<Utc>) -> Result<()> {
    tx.query("DELETE FROM known_networks WHERE expire_time <= $1").bind(now).execute().await?;
    Ok(())
}

fn network(client: &ClientInfo) -> Option<IpAddr> {
    client.address().map(rate_limit_key)
}
