use super::*;

const T0: i64 = 1_800_000_000;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(T0 + seconds, 0).expect("a time")
}

/// A session of generation 5, rotated at second 0 by the request 5 (and every generation g before by the request g).
fn session() -> Session {
    let mut hashes = vec![0; 16 * 32];
    for generation in 0..5 {
        hashes[slot(generation)].copy_from_slice(&presented(generation, Some(generation)).request.expect("a hash"));
    }
    Session {
        session_id: Uuid::nil().into(),
        user_id: Uuid::nil().into(),
        client_id: FIRST_PARTY.to_owned(),
        generation: 5,
        kid: "k".to_owned(),
        rotated_at: at(0),
        replays: 0,
        request_hashes: hashes,
        status: SessionStatus::Active,
        idle_expires_at: at(100),
        absolute_expires_at: at(200),
        user_agent: String::new(),
        address: String::new(),
        create_time: at(-100),
    }
}

fn presented(generation: i64, request: Option<i64>) -> Presented {
    Presented::new(generation, request.map(|request| Uuid::from_u128(u128::from(request.unsigned_abs()))))
}

#[test]
fn each_case_has_its_verdict() {
    use Verdict::{Ended, Ends, LateDuplicate, Replay, Restored, Reuse, Rotate, TooManyReplays};
    let ended = Session { status: SessionStatus::Ended, ..session() };
    let replayed = Session { replays: REPLAYS, ..session() };
    for (case, session, active, token, now, expected, in_strict) in [
        ("the last one", session(), true, presented(5, None), 50, Rotate, Rotate),
        ("the last one, with a request id", session(), true, presented(5, Some(77)), 50, Rotate, Rotate),
        ("the one before, in the grace", session(), true, presented(4, None), 10, Replay, Reuse),
        ("in the grace, by another request", session(), true, presented(4, Some(77)), 10, Replay, Reuse),
        ("after the grace, by the same request", session(), true, presented(4, Some(4)), 99, Replay, Reuse),
        ("after the grace, by another request", session(), true, presented(4, Some(77)), 11, Reuse, Reuse),
        ("after the grace, without a request id", session(), true, presented(4, None), 11, Reuse, Reuse),
        ("in the grace, too often", replayed.clone(), true, presented(4, None), 5, TooManyReplays, Reuse),
        ("by the same request, too often", replayed, true, presented(4, Some(4)), 50, TooManyReplays, Reuse),
        ("two before, by its request", session(), true, presented(3, Some(3)), 1, LateDuplicate, Reuse),
        ("two before, by another generation's request", session(), true, presented(3, Some(4)), 1, Reuse, Reuse),
        ("two before, in the grace", session(), true, presented(3, None), 1, Reuse, Reuse),
        ("from the future", session(), true, presented(6, None), 1, Restored, Restored),
        ("ended", ended.clone(), true, presented(5, None), 1, Ended, Ended),
        ("ended, and spent", ended, true, presented(1, None), 1, Ended, Ended),
        ("idle for too long", session(), true, presented(5, None), 100, Ends(EndReason::Expired), Ends(EndReason::Expired)),
        ("user inactive", session(), false, presented(5, None), 1, Ends(EndReason::UserInactive), Ends(EndReason::UserInactive)),
    ] {
        assert_eq!(judge(&session, active, token, at(now), false), expected, "{case}");
        assert_eq!(judge(&session, active, token, at(now), true), in_strict, "{case}, strictly");
    }
}

#[test]
fn what_rotated_a_generation_is_forgotten_after_sixteen() {
    let mut session = session();
    session.generation = 20;
    // The slot of generation 4 is the slot of generation 20.
    assert_eq!(judge(&session, true, presented(4, Some(4)), at(50), false), Verdict::LateDuplicate);
    session.generation = 21;
    assert_eq!(judge(&session, true, presented(4, Some(4)), at(50), false), Verdict::Reuse);
}

#[test]
fn the_end_of_a_session_is_never_put_off_beyond_its_absolute_one() {
    let session = Session { idle_expires_at: at(200), ..session() };
    assert_eq!(judge(&session, true, presented(5, None), at(200), false), Verdict::Ends(EndReason::Expired));
}
