//! `profiles.v1.AuditService`.

use std::time::SystemTime;

use access::{Caller, Result};
use audit::{Event, EventId, Filter};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use store::{Db, page::Page};

use crate::proto::{AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse, audit_service};

pub(crate) struct AuditApi {
    pub(crate) db: Db,
}

impl audit_service::Handlers for AuditApi {
    async fn list_audit_events(&self, _: Caller, request: ListAuditEventsRequest) -> Result<ListAuditEventsResponse> {
        let filter = Filter {
            actor_id: request.actor_id,
            target_id: request.target_id,
            method: request.method,
            outcome: request.outcome,
            from: request.time_start.and_then(time),
            before: request.time_end.and_then(time),
        };
        let page: Page<EventId> = Page::new(request.page_size, &request.page_token, ("ListAuditEvents", filter.key()))?;
        let found = audit::list(&self.db, &filter, page.after().copied(), page.limit()).await?;
        let (audit_events, next_page_token) = page.truncate_messages(found, |event| event.event_id, audit_event_message)?;
        Ok(ListAuditEventsResponse { audit_events, next_page_token })
    }
}

fn time(time: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, time.nanos.unsigned_abs())
}

fn audit_event_message(event: Event) -> AuditEvent {
    AuditEvent {
        event_id: event.event_id.to_string(),
        time: Some(SystemTime::from(event.time).into()),
        fields: event.fields().map(str::to_owned).collect(),
        is_erased: event.is_erased(),
        actor_type: event.actor_type,
        actor_id: event.actor_id,
        actor_name: event.actor_name.unwrap_or_default(),
        method: event.method,
        target_type: event.target_type,
        target_id: event.target_id,
        target_name: event.target_name.unwrap_or_default(),
        outcome: event.outcome,
        reason: event.reason,
        request_id: event.request_id,
        trace_id: event.trace_id,
        address: event.address.unwrap_or_default(),
        user_agent: event.user_agent.unwrap_or_default(),
        occurrences: event.occurrences,
        seal_id: event.seal_id.unwrap_or_default(),
    }
}
